#include <gnu/libc-version.h>
#include <stdio.h>

#include "../../kernels/device.h"
#include "../data/h5.h"
#include "../mpi/archive.h"
#include "cli.h"

void het_version_print(void)
{
    char mpi[128], hdf5[64], kernels[128], root[1024];
    het_comm_version(mpi, sizeof mpi);
    het_h5_version(hdf5, sizeof hdf5);
    het_device_cpu_libraries(kernels, sizeof kernels);
    printf("hetacumn %s\nbuild: %s, gcc %s\n", HET_VERSION, HET_BUILD, __VERSION__);
    printf("libraries: %s, %s, %s, glibc %s\n", mpi, hdf5, kernels, gnu_get_libc_version());
    if (het_archive_enter(root, sizeof root)) printf("archive in %s\n", root);
}
