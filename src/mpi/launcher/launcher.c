/* bin/mpirun and bin/orted of the relocatable archive: Open MPI's program of that name in lib/hetacumn/bin, told where the
 * archive lies and where its libraries are. */
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "../archive.h"

int main(int argc, char **argv)
{
    char root[PATH_MAX / 2], program[PATH_MAX], libraries[PATH_MAX];
    const char *slash = argc > 0 ? strrchr(argv[0], '/') : NULL, *others = getenv("LD_LIBRARY_PATH");
    const char *name = slash != NULL ? slash + 1 : argc > 0 ? argv[0] : "mpirun";
    if (!het_archive_enter(root, sizeof root)) {
        fprintf(stderr, "%s: lib/hetacumn/openmpi is not beside the folder of this program: unpack the whole archive\n", name);
        return 1;
    }
    snprintf(program, sizeof program, "%s/lib/hetacumn/bin/%s", root, name);
    snprintf(libraries, sizeof libraries, "%s/lib/hetacumn", root);
    const size_t size = sizeof libraries + (others == NULL ? 0 : strlen(others)) + 2;
    char *path = malloc(size);
    if (path != NULL) {
        snprintf(path, size, "%s%s%s", libraries, others == NULL ? "" : ":", others == NULL ? "" : others);
        setenv("LD_LIBRARY_PATH", path, 1);
        free(path);
    }
    execv(program, argv);
    perror(program);
    return 1;
}
