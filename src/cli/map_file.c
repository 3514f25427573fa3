#include "map_file.h"

#include <math.h>
#include <string.h>

#include "../arena.h"
#include "../data/mrc.h"
#include "../log.h"

static het_status check(const het_mrc_info *info, const float *data, const char *path)
{
    const int64_t n = info->size[0];
    if (info->size[1] != n || info->size[2] != n)
        return het_fail(HET_E_INPUT, "%s: a map of %lld x %lld x %lld voxels: it must be a cube", path, (long long)n,
                        (long long)info->size[1], (long long)info->size[2]);
    if (fabs(info->apix[1] - info->apix[0]) > 1e-3 * info->apix[0] ||
        fabs(info->apix[2] - info->apix[0]) > 1e-3 * info->apix[0])
        return het_fail(HET_E_INPUT, "%s: voxels of %g x %g x %g A: they must be cubes", path, info->apix[0],
                        info->apix[1], info->apix[2]);
    for (int64_t i = 0; i < n * n * n; i++)
        if (!isfinite(data[i]))
            return het_fail(HET_E_INPUT, "%s: voxel %lld is not a finite number", path, (long long)i);
    return HET_OK;
}

het_status het_map_load(het_volume *volume, const char *path, double apix)
{
    het_status status = HET_OK;
    het_mrc_info info;
    float *data = NULL;
    *volume = (het_volume){0};
    HET_TRY(het_mrc_load_volume(path, &data, &info));
    HET_TRY(check(&info, data, path));
    const int64_t n = info.size[0], odd = n % 2;
    double size = info.apix[0] > 0.0 ? info.apix[0] : apix;
    if (!(size > 0.0)) {
        het_warn("%s gives no pixel size: 1 A is taken", path);
        size = 1.0;
    }
    HET_TRY(het_volume_new(volume, n + odd, size));
    for (int64_t z = 0; z < n; z++)
        for (int64_t y = 0; y < n; y++)
            memcpy(volume->data + ((z + odd) * (n + odd) + y + odd) * (n + odd) + odd, data + (z * n + y) * n,
                   (size_t)n * sizeof *data);
done:
    het_release(data);
    if (status != HET_OK) het_volume_free(volume);
    return status;
}

het_status het_map_save(const char *path, const het_volume *volume)
{
    const int64_t size[3] = {volume->box, volume->box, volume->box};
    return het_mrc_write_volume(path, volume->data, size, volume->apix);
}
