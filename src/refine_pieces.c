/* Searches of the poses of all images go piece by piece: a piece's images go through all of the work before the next piece begins. So
 * a stop, a kill or the end of a job's time loses a piece, not the search, however many images there are. */
#include <stdio.h>
#include <string.h>

#include "arena.h"
#include "clock.h"
#include "log.h"
#include "refine_poses.h"
#include "run_stage.h"
#include "stop.h"

enum { FIELDS = 6 };
static const double TELL = 60.0; /* seconds between lines that say how far it is */

het_status het_poses_describe(char about[HET_POSES_ABOUT], const het_poses *s, const char *work)
{
    const het_predictions *all = &s->all;
    const het_model *m = s->model;
    const size_t bytes = (size_t)m->layout.total * sizeof *m->params;
    char path[1200];
    snprintf(path, sizeof path, "%s/config.yaml", s->folder);
    float *params = het_alloc(bytes);
    if (params == NULL) return het_fail(HET_E_MEMORY, "no memory for a copy of the parameters");
    m->dev->ops->download(m->dev, params, m->params, bytes);
    snprintf(about, HET_POSES_ABOUT, "{\"work\": \"%s\", \"config\": \"%016llx\", \"parameters\": \"%016llx\", "
             "\"rotation\": \"%016llx\", \"shift\": \"%016llx\", \"z\": \"%016llx\"}", work,
             (unsigned long long)het_stage_file(path), (unsigned long long)het_stage_bytes(params, bytes),
             (unsigned long long)het_stage_bytes(all->rotation, (size_t)(9 * all->count) * sizeof(float)),
             (unsigned long long)het_stage_bytes(all->shift, (size_t)(2 * all->count) * sizeof(float)),
             (unsigned long long)het_stage_bytes(all->z, (size_t)(all->z_dim * all->count) * sizeof(float)));
    het_release(params);
    return HET_OK;
}

/* What is kept of the work: the rows of the images that are done. */
typedef struct keeper {
    het_poses *poses;
    het_predictions rows; /* others are 0 */
    het_field field[FIELDS];
    het_stage stage;
    char about[HET_POSES_ABOUT];
    double kept;          /* when */
} keeper;

static void copy_found(het_predictions *to, const het_predictions *from, const float *found)
{
    const int64_t z = from->z_dim;
    for (int64_t i = 0; i < from->count; i++) {
        if (found[i] == 0.0F) continue;
        memcpy(to->rotation + 9 * i, from->rotation + 9 * i, 9 * sizeof *to->rotation);
        memcpy(to->shift + 2 * i, from->shift + 2 * i, 2 * sizeof *to->shift);
        memcpy(to->z + z * i, from->z + z * i, (size_t)z * sizeof *to->z);
        memcpy(to->zstd + z * i, from->zstd + z * i, (size_t)z * sizeof *to->zstd);
        to->loss[i] = from->loss[i];
    }
}

/* Look whether a part of the work was done before. */
static het_status keeper_open(keeper *k, het_poses *s, const char *work)
{
    het_status status = HET_OK;
    int there;
    *k = (keeper){.poses = s, .kept = het_seconds()};
    if (s->folder == NULL) return HET_OK;
    const het_predictions *r = &k->rows;
    status = het_predictions_new(&k->rows, s->all.count, s->all.z_dim);
    if (status == HET_OK) status = het_poses_describe(k->about, s, work);
    HET_TRY(het_comm_agree(s->comm, status));
    k->field[0] = (het_field){"found", {s->found, HET_F32, 1, {r->count}}};
    k->field[1] = (het_field){"rotation", {r->rotation, HET_F32, 3, {r->count, 3, 3}}};
    k->field[2] = (het_field){"shift", {r->shift, HET_F32, 2, {r->count, 2}}};
    k->field[3] = (het_field){"z", {r->z, HET_F32, 2, {r->count, r->z_dim}}};
    k->field[4] = (het_field){"zstd", {r->zstd, HET_F32, 2, {r->count, r->z_dim}}};
    k->field[5] = (het_field){"loss", {r->loss, HET_F32, 1, {r->count}}};
    k->stage = (het_stage){.comm = s->comm, .folder = s->folder, .name = "search", .about = k->about, .field = k->field,
                           .count = FIELDS};
    HET_TRY(het_stage_recall(&k->stage, &there));
    copy_found(&s->all, r, s->found);
done:
    return status;
}

/* Collective. */
static het_status keep(keeper *k)
{
    het_status status = HET_OK;
    het_poses *s = k->poses;
    if (s->folder == NULL) return HET_OK;
    HET_TRY(het_comm_unite_rows(s->comm, s->found, s->all.count, 1, s->first, s->count));
    copy_found(&k->rows, &s->all, s->found);
    het_stage_keep(&k->stage);
    k->kept = het_seconds();
done:
    return status;
}

/* Images to do, of the piece and in all, and whether it is time to keep what there is: all ranks know the same. */
enum { IN_PIECE, LEFT, DUE, NUMBERS };

static het_status look(int64_t p[NUMBERS], const keeper *k)
{
    const het_poses *s = k->poses;
    const double pause = 60.0 * s->model->config.run.checkpoint_minutes;
    p[IN_PIECE] = p[LEFT] = 0;
    p[DUE] = pause > 0.0 && het_comm_rank(s->comm) == 0 && het_seconds() - k->kept > pause;
    for (int64_t i = s->first; i < s->first + s->count; i++) p[LEFT] += s->found[i] == 0.0F;
    for (int64_t part = 0; part < het_comm_parts(s->comm); part++) {
        int64_t first, end;
        het_poses_window(s, part, &first, &end);
        for (int64_t i = first; i < end; i++) p[IN_PIECE] += s->found[i] == 0.0F;
    }
    return het_comm_sum_i64(s->comm, p, NUMBERS);
}

static void note_found(het_poses *s)
{
    for (int64_t part = 0; part < het_comm_parts(s->comm); part++) {
        int64_t first, end;
        het_poses_window(s, part, &first, &end);
        for (int64_t i = first; i < end; i++) s->found[i] = 1.0F;
    }
    s->got_on = 1;
}

/* All pieces that are not done. */
static het_status do_pieces(keeper *k, const het_poses_work *work, int *stopped)
{
    het_status status = HET_OK;
    het_poses *s = k->poses;
    double told = het_seconds();
    for (s->piece = 0;; s->piece++) {
        int64_t p[NUMBERS];
        HET_TRY(look(p, k));
        if (p[DUE] > 0) HET_TRY(keep(k));
        if (p[LEFT] == 0 || *stopped) break;
        if (p[IN_PIECE] == 0) continue;
        if (s->watch != NULL) het_watch_search(s->watch, work->name, p[LEFT], s->all.count);
        if (het_seconds() - told > TELL) {
            het_info("%s: %.0f %% of %lld images are left", work->name, 100.0 * (double)p[LEFT] / (double)s->all.count,
                     (long long)s->all.count);
            told = het_seconds();
        }
        HET_TRY(work->run(s, work->context, stopped));
        if (*stopped) break;
        note_found(s);
        int64_t stop = het_stop_asked();
        HET_TRY(het_comm_sum_i64(s->comm, &stop, 1));
        *stopped = stop > 0;
    }
    HET_TRY(keep(k));
done:
    return status;
}

het_status het_poses_pieces(het_poses *s, const het_poses_work *work, int *stopped)
{
    het_status status = HET_OK;
    keeper k = {0};
    HET_ASSERT(s->found == NULL);
    s->found = het_alloc((size_t)s->all.count * sizeof *s->found);
    HET_TRY(het_comm_agree(s->comm, s->found != NULL ? HET_OK : het_fail(HET_E_MEMORY, "no memory for the search of poses")));
    s->piece_size = work->size;
    HET_TRY(keeper_open(&k, s, work->name));
    status = do_pieces(&k, work, stopped);
done:
    het_predictions_free(&k.rows);
    het_release(s->found);
    s->found = NULL;
    return status;
}
