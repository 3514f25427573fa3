#include "out_file.h"

#include <errno.h>
#include <string.h>

het_status het_out_open(FILE **file, const char *path)
{
    *file = fopen(path, "w");
    return *file != NULL ? HET_OK : het_fail(HET_E_IO, "cannot write %s: %s", path, strerror(errno));
}

het_status het_out_close(FILE *file, const char *path)
{
    const int bad = ferror(file);
    if (fclose(file) == 0 && !bad) return HET_OK;
    return het_fail(HET_E_IO, "cannot write %s: is there space?", path);
}
