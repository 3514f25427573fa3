#pragma once
#include <stddef.h>

/** A program of the relocatable archive (cmake/Package.cmake) has Open MPI and PMIx with it, built for other folders than
 *  those in which they now lie:
 *
 *      bin/            hetacumn; mpirun and orted, which are src/mpi/launcher/launcher.c
 *      etc/            openmpi-mca-params.conf
 *      lib/hetacumn/   shared libraries; bin/: Open MPI's mpirun and orted; openmpi/, pmix/: their components
 *      share/openmpi/  Open MPI's words
 *
 *  Where the running program lies in such a tree, tell both by environment variables where that is, before MPI starts and
 *  before there are threads. Elsewhere this does nothing.
 *  root   [out] the tree's path, of `size` bytes; "" elsewhere. NULL: not wanted
 *  Returns 1 in such a tree, else 0. Tests: cli_archive.sh */
int het_archive_enter(char *root, size_t size);
