#include "kept.h"

#include <stdio.h>
#include <unistd.h>

#include "data/checkpoint.h"
#include "log.h"
#include "schedule.h"

static het_status from_checkpoint(het_predictions *kept, const char *run, const het_config *config, const het_run_state *state)
{
    het_status status = HET_OK;
    const int64_t n = state->count, z = config->z_dim;
    char folder[1100], file[1200];
    snprintf(folder, sizeof folder, "%s/checkpoints", run);
    HET_TRY(het_checkpoint_newest(folder, file, sizeof file));
    HET_TRY(het_predictions_new(kept, n, z));
    kept->box = state->box;
    kept->apix = state->apix;
    const het_field fields[] = {{"images/rotation", {kept->rotation, HET_F32, 3, {n, 3, 3}}},
                                {"images/shift", {kept->shift, HET_F32, 2, {n, 2}}},
                                {"images/z", {kept->z, HET_F32, 2, {n, z}}},
                                {"images/loss", {kept->loss, HET_F32, 1, {n}}}};
    HET_TRY(het_checkpoint_load(file, fields, sizeof fields / sizeof *fields));
    if (state->frozen) het_predictions_freeze(kept);
    het_info("%s has not come to its end: poses and conformations are those of epoch %.1f", run, state->epoch);
done:
    if (status != HET_OK) het_predictions_free(kept);
    return status;
}

het_status het_kept_load(het_predictions *kept, const char *run, const het_config *config, const het_run_state *state)
{
    char path[1200];
    *kept = (het_predictions){0};
    snprintf(path, sizeof path, "%s/" HET_RUN_KEPT, run);
    if (access(path, R_OK) == 0) return het_predictions_load(kept, path);
    if (config->train.method == HET_METHOD_CRYODRGN2 || !het_schedule_given(config, state->epoch)) return HET_OK;
    return from_checkpoint(kept, run, config, state);
}
