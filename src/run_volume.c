#include "arena.h"
#include "physics/volume.h"
#include "run.h"

het_status het_run_volume(const char *run, const float *z, int64_t z_dim, int64_t box, float *volume, double *apix)
{
    het_status status = HET_OK;
    enum { PLANES = 16 };
    het_device dev = {0};
    het_model *model = NULL;
    het_survey survey = {0};
    het_run_state state;
    het_volume own = {0}, wanted = {0};
    HET_TRY(het_device_open_cpu(&dev, 0, HET_PRECISION_F32));
    HET_TRY(het_run_load(run, &dev, PLANES, &model, &survey, &state));
    if (z_dim != model->config.z_dim)
        HET_TRY(het_fail(HET_E_SHAPE, "the run's conformations have %lld numbers, %lld were given",
                         (long long)model->config.z_dim, (long long)z_dim));
    HET_TRY(het_volume_new(&own, state.box, state.apix));
    HET_TRY(het_model_volume(model, z, own.data));
    for (int64_t i = 0; i < own.box * own.box * own.box; i++) own.data[i] *= (float)state.std;
    HET_TRY(het_volume_new(&wanted, box > 0 ? box : state.box, state.apix));
    HET_TRY(het_volume_resize(&wanted, &own));
    for (int64_t i = 0; i < wanted.box * wanted.box * wanted.box; i++) volume[i] = wanted.data[i];
    *apix = wanted.apix;
done:
    het_volume_free(&own);
    het_volume_free(&wanted);
    het_model_free(model);
    het_survey_free(&survey);
    if (dev.ops != NULL) het_device_close(&dev);
    return status;
}
