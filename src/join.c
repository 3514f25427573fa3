#include "join.h"

#include <string.h>

#include "join_frames.h"
#include "refine_poses.h"

static het_status open_poses(het_poses *poses, const het_start *s, het_comm *comm, het_model *model, const het_stack *stack,
                             double noise_variance)
{
    const size_t n = (size_t)s->count;
    const het_predictions *all = &poses->all;
    const het_status status = het_comm_agree(comm, het_poses_open(poses, comm, model, stack, noise_variance));
    if (status != HET_OK) return status;
    memcpy(all->rotation, s->rotation, 9 * n * sizeof *s->rotation);
    memcpy(all->shift, s->shift, 2 * n * sizeof *s->shift);
    memcpy(all->particle, s->particle, n * sizeof *s->particle);
    memcpy(all->z, s->latents.z, (size_t)s->latents.z_dim * n * sizeof *s->latents.z);
    return HET_OK;
}

het_status het_join(het_start *s, het_comm *comm, het_model *model, const het_stack *stack, double noise_variance, const char *folder,
                    het_watch *watch, int *stopped)
{
    het_status status = HET_OK;
    const size_t n = (size_t)s->count;
    het_poses poses = {0};
    const het_predictions *all = &poses.all;
    HET_TRY(open_poses(&poses, s, comm, model, stack, noise_variance));
    poses.folder = folder;
    poses.watch = watch;
    HET_TRY(het_poses_confirm(&poses, stopped));
    if (*stopped) goto done;
    if (!het_poses_are_sure(&poses)) HET_TRY(het_poses_relocate(&poses, stopped));
    if (*stopped) goto done;
    HET_TRY(het_join_frames(&poses, stopped));
    if (*stopped) goto done;
    memcpy(s->rotation, all->rotation, 9 * n * sizeof *s->rotation);
    memcpy(s->shift, all->shift, 2 * n * sizeof *s->shift);
    het_latents_put(&s->latents, all->z);
done:
    het_poses_close(&poses);
    return status;
}

het_status het_join_confirm(float *confirmed, const het_start *s, het_comm *comm, het_model *model, const het_stack *stack,
                            double noise_variance, int *stopped)
{
    het_status status = HET_OK;
    het_poses poses = {0};
    HET_TRY(open_poses(&poses, s, comm, model, stack, noise_variance));
    HET_TRY(het_poses_confirm(&poses, stopped));
    if (*stopped) goto done;
    het_poses_warn(&poses);
    memcpy(confirmed, poses.all.confirmed, (size_t)s->count * sizeof *confirmed);
done:
    het_poses_close(&poses);
    return status;
}
