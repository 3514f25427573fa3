#include <string.h>

#include "run.h"

het_status het_run_map(het_model *model, const het_run_state *state, const float *z, int64_t box, het_volume *map)
{
    het_status status = HET_OK;
    het_volume own = {0};
    *map = (het_volume){0};
    HET_TRY(het_volume_new(&own, state->box, state->apix));
    HET_TRY(het_model_volume(model, z, own.data));
    for (int64_t i = 0; i < own.box * own.box * own.box; i++) own.data[i] *= (float)state->std;
    HET_TRY(het_volume_new(map, box > 0 ? box : own.box, own.apix));
    HET_TRY(het_volume_resize(map, &own));
done:
    het_volume_free(&own);
    if (status != HET_OK) het_volume_free(map);
    return status;
}

het_status het_run_volume(const char *run, const float *z, int64_t z_dim, int64_t box, float *volume, double *apix)
{
    het_status status = HET_OK;
    enum { PLANES = 16 };
    het_device dev = {0};
    het_model *model = NULL;
    het_survey survey = {0};
    het_run_state state;
    het_volume map = {0};
    HET_TRY(het_device_open_cpu(&dev, 0, HET_PRECISION_F32));
    HET_TRY(het_run_load(run, &dev, PLANES, &model, &survey, &state));
    if (z_dim != model->config.z_dim)
        HET_TRY(het_fail(HET_E_SHAPE, "the run's conformations have %lld numbers, %lld were given",
                         (long long)model->config.z_dim, (long long)z_dim));
    HET_TRY(het_run_map(model, &state, z, box, &map));
    memcpy(volume, map.data, (size_t)(map.box * map.box * map.box) * sizeof *volume);
    *apix = map.apix;
done:
    het_volume_free(&map);
    het_model_free(model);
    het_survey_free(&survey);
    if (dev.ops != NULL) het_device_close(&dev);
    return status;
}
