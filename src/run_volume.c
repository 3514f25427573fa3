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
