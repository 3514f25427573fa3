#include "refine_poses.h"

#include <math.h>
#include <string.h>

#include "arena.h"
#include "physics/kmeans.h"
#include "stop.h"

enum { FINALISTS = 2, PIECE = 8192 }; /* candidates that go on to the full radius; images for which the search loads its templates */
static const double SAME = 0.02; /* |R-R'|^2 of one minimum: 6 degrees */
static const double HOPELESS = 10.0; /* of the log-likelihood, at half the radius: less than the best by more is not followed further */

/* ---- images ---- */

het_status het_poses_observe(het_poses *s, het_ctf_row *rows, int64_t n)
{
    het_status status = HET_OK;
    HET_TRY(het_stack_read_ctf(s->stack, rows, s->in_batch, n));
    HET_TRY(het_stack_read_standardised(s->stack, s->images, s->in_batch, n));
    status = het_model_observe(s->model, s->transform, s->ctf, s->images, rows, n);
done:
    return status;
}

void het_poses_shorten(het_poses *s, int64_t n, int64_t p)
{
    const int64_t all = s->model->active;
    for (int64_t i = 1; i < n; i++) {
        memmove(s->transform + i * 2 * p, s->transform + i * 2 * all, (size_t)(2 * p) * sizeof *s->transform);
        memmove(s->ctf + i * p, s->ctf + i * all, (size_t)p * sizeof *s->ctf);
    }
}

double het_poses_radius(const het_poses *s)
{
    const int32_t *last = s->model->points.kxy + 2 * (s->model->active - 1);
    return hypot(last[0], last[1]);
}

int64_t het_poses_batch(const het_poses *s)
{
    return s->model->spec.batch < HET_POSES_BATCH ? s->model->spec.batch : HET_POSES_BATCH;
}

double het_poses_distance2(const float *a, const float *b)
{
    double sum = 0.0;
    for (int i = 0; i < 9; i++) sum += ((double)a[i] - b[i]) * ((double)a[i] - b[i]);
    return sum;
}

het_status het_poses_open(het_poses *s, het_comm *comm, het_model *model, const het_stack *stack,
                          double noise_variance)
{
    het_status status = HET_OK;
    const het_stack_info *info = het_stack_get_info(stack);
    const size_t batch = (size_t)model->spec.batch, p = (size_t)model->points.count;
    *s = (het_poses){.comm = comm,
                     .model = model,
                     .stack = stack,
                     .noise_variance = noise_variance,
                     .places = HET_POSE_SEARCHED + (int)model->config.refine.candidates};
    het_comm_share(comm, info->count, &s->first, &s->count);
    HET_TRY(het_predictions_new(&s->all, info->count, model->config.z_dim));
    s->all.box = info->box;
    s->all.apix = info->apix;
    s->candidate = het_alloc((size_t)(s->count * s->places) * sizeof *s->candidate);
    s->images = het_alloc(batch * (size_t)(info->box * info->box) * sizeof *s->images);
    s->transform = het_alloc(batch * p * 2 * sizeof *s->transform);
    s->ctf = het_alloc(batch * p * sizeof *s->ctf);
    s->noise = het_alloc(p * sizeof *s->noise);
    if ((s->candidate == NULL && s->count > 0) || s->images == NULL || s->transform == NULL || s->ctf == NULL ||
        s->noise == NULL)
        HET_TRY(het_fail(HET_E_MEMORY, "no memory for the poses of %lld images", (long long)s->count));
    for (int64_t i = 0; i < s->count * s->places; i++) s->candidate[i].image = -1;
    for (size_t i = 0; i < p; i++) s->noise[i] = (float)noise_variance;
done:
    return status;
}

void het_poses_close(het_poses *s)
{
    het_predictions_free(&s->all);
    void *const mine[] = {s->candidate, s->images, s->transform, s->ctf, s->noise};
    for (size_t i = 0; i < sizeof mine / sizeof *mine; i++) het_release(mine[i]);
}

void het_poses_window(const het_poses *s, int64_t part, int64_t *first, int64_t *end)
{
    int64_t count;
    het_comm_part(s->comm, part, s->all.count, first, &count);
    *end = *first + count;
    if (s->found == NULL) return;
    *first += s->piece * s->piece_size;
    if (*first > *end) *first = *end;
    if (*end - *first > s->piece_size) *end = *first + s->piece_size;
}

het_status het_poses_each(het_poses *s, int64_t part, const int64_t *label, int64_t wanted,
                          het_status (*work)(void *context, int64_t n), void *context, int *stopped)
{
    het_status status = HET_OK;
    int64_t first, end, n = 0;
    const int64_t batch = het_poses_batch(s);
    const int to_its_end = s->found != NULL && !s->got_on;
    het_poses_window(s, part, &first, &end);
    for (int64_t i = first; i < end && !*stopped; i++) {
        const int mine = (label == NULL || label[i] == wanted) && (s->found == NULL || s->found[i] == 0.0F);
        if (mine) s->in_batch[n++] = i;
        const int last = n == batch || i == end - 1 || (label == NULL && !mine);
        if (n == 0 || !last) continue;
        HET_TRY(work(context, n));
        n = 0;
        *stopped = to_its_end ? het_stop_signal() != 0 : het_stop_asked();
    }
done:
    return status;
}

het_status het_poses_by_cluster(het_poses *s, int64_t clusters, void (*load)(void *context, const double *centre),
                                het_status (*work)(void *context, int64_t n), void *context, int *stopped)
{
    het_status status = HET_OK;
    const int64_t n = s->all.count, z = s->all.z_dim;
    if (clusters > n) clusters = n;
    double *centre = het_alloc((size_t)(clusters * z) * sizeof *centre);
    int64_t *label = het_alloc((size_t)n * sizeof *label);
    if (centre == NULL || label == NULL) HET_TRY(het_fail(HET_E_MEMORY, "no memory for the pose search"));
    HET_TRY(het_kmeans(centre, label, NULL, s->all.z, n, z, clusters, (uint64_t)s->model->config.train.seed));
    for (int64_t k = 0; k < clusters; k++) {
        load(context, centre + k * z);
        for (int64_t part = 0; part < het_comm_parts(s->comm); part++)
            HET_TRY(het_poses_each(s, part, label, k, work, context, stopped));
    }
done:
    het_release(centre);
    het_release(label);
    return status;
}

/* ---- what the ranks know of each other's images ---- */

het_status het_poses_agree(const het_poses *s, het_status mine, int *stopped)
{
    het_status status = HET_OK;
    int64_t stop = *stopped;
    HET_TRY(het_comm_agree(s->comm, mine));
    HET_TRY(het_comm_sum_i64(s->comm, &stop, 1));
    *stopped = stop > 0;
done:
    return status;
}

het_status het_poses_share(het_poses *s, het_status mine, int *stopped)
{
    het_status status = HET_OK;
    const struct {
        float *data;
        int64_t width;
    } parts[] = {{s->all.rotation, 9},
                 {s->all.shift, 2},
                 {s->all.z, s->all.z_dim},
                 {s->all.zstd, s->all.z_dim},
                 {s->all.loss, 1}};
    HET_TRY(het_poses_agree(s, mine, stopped));
    if (*stopped) goto done;
    for (size_t i = 0; i < sizeof parts / sizeof *parts; i++)
        HET_TRY(het_comm_unite_rows(s->comm, parts[i].data, s->all.count, parts[i].width, s->first, s->count));
done:
    return status;
}

/* ---- the encoder's answers ---- */

static het_status encode_batch(void *context, int64_t n)
{
    het_status status = HET_OK;
    het_poses *s = context;
    float rotation[HET_POSES_BATCH * 9], shift[HET_POSES_BATCH * 2];
    het_ctf_row rows[HET_POSES_BATCH];
    const int64_t at = s->in_batch[0], z = s->all.z_dim; /* they follow one another */
    HET_TRY(het_poses_observe(s, rows, n));
    const het_answers answers = {.rotation = s->all.rotation + 9 * at,
                                 .shift = s->all.shift + 2 * at,
                                 .z = s->all.z + z * at,
                                 .z_std = s->all.zstd + z * at,
                                 .loss = s->all.loss + at,
                                 .mirrored = s->all.mirrored + at,
                                 .other_rotation = rotation,
                                 .other_shift = shift};
    HET_TRY(het_model_infer(s->model, s->images, rows, n, &answers));
    for (int64_t i = 0; i < n; i++) {
        het_fit_pose *c = s->candidate + (at - s->first + i) * s->places + HET_POSE_MIRROR;
        c->image = 0;
        memcpy(c->rotation, rotation + 9 * i, sizeof c->rotation);
        memcpy(c->shift, shift + 2 * i, sizeof c->shift);
    }
done:
    return status;
}

het_status het_poses_encode(het_poses *s, int *stopped)
{
    het_status status = HET_OK;
    for (int64_t part = 0; part < het_comm_parts(s->comm) && status == HET_OK; part++)
        status = het_poses_each(s, part, NULL, 0, encode_batch, s, stopped);
    status = het_poses_share(s, status, stopped);
    if (s->model->frozen) het_predictions_freeze(&s->all);
    return status;
}

/* ---- to the minimum ---- */

typedef struct rows_of {
    const het_poses *poses;
    float *z; /* (CHUNK rows, Z) */
} rows_of;

static void slices_of_images(void *context, float *slices, const float *rot, const int64_t *image, int64_t n,
                             int64_t p)
{
    const rows_of *r = context;
    const het_predictions *all = &r->poses->all;
    const int64_t batch = r->poses->model->spec.batch, z = all->z_dim;
    for (int64_t first = 0; first < n; first += batch) {
        const int64_t m = n - first < batch ? n - first : batch;
        for (int64_t i = 0; i < m; i++)
            memcpy(r->z + i * z, all->z + r->poses->in_batch[image[first + i]] * z, (size_t)z * sizeof *r->z);
        het_model_slices(r->poses->model, slices + first * 2 * p, rot + 9 * first, r->z, m, p);
    }
}

/* The best of an image's fitted candidates to the front, after it the best of another minimum whose loss is not more than `worse`
 * above; returns how many. */
static int finalists(het_fit_pose *list, int n, double worse)
{
    int found = 0;
    while (found < FINALISTS) {
        int best = -1;
        for (int i = found; i < n; i++) {
            const int other = found == 0 || het_poses_distance2(list[0].rotation, list[i].rotation) > SAME;
            if (other && isfinite(list[i].loss) && (best < 0 || list[i].loss < list[best].loss)) best = i;
        }
        if (best < 0 || (found > 0 && list[best].loss > list[0].loss + worse)) break;
        const het_fit_pose swap = list[found];
        list[found++] = list[best];
        list[best] = swap;
    }
    return found;
}

/* Candidates of the batch, one image's after another's, and how many of each image. */
static int64_t list_candidates(const het_poses *s, het_fit_pose *list, int *of_image, int64_t n)
{
    int64_t rows = 0;
    for (int64_t i = 0; i < n; i++) {
        const int64_t at = s->in_batch[i];
        const het_fit_pose *place = s->candidate + (at - s->first) * s->places;
        of_image[i] = 0;
        for (int c = 0; c < s->places; c++) {
            if (place[c].image < 0) continue;
            list[rows] = place[c];
            list[rows++].image = i;
            of_image[i]++;
        }
    }
    return rows;
}

static int64_t drop_losers(const het_poses *s, het_fit_pose *list, int *of_image, int64_t n)
{
    const double pixels = (double)(s->model->spec.box * s->model->spec.box), worse = 2.0 * s->noise_variance / pixels * HOPELESS;
    int64_t from = 0, to = 0;
    for (int64_t i = 0; i < n; i++) {
        const int kept = finalists(list + from, of_image[i], worse);
        memmove(list + to, list + from, (size_t)kept * sizeof *list);
        from += of_image[i];
        to += kept;
        of_image[i] = kept;
    }
    return to;
}

typedef struct fitter {
    het_poses *poses;
    het_fit_spec spec;
    het_fit_pose *list; /* (batch, places) */
} fitter;

static het_status fit_batch(void *context, int64_t n)
{
    het_status status = HET_OK;
    fitter *f = context;
    het_poses *s = f->poses;
    het_fit_spec *spec = &f->spec;
    het_fit_pose *list = f->list;
    het_ctf_row rows[HET_POSES_BATCH];
    int of_image[HET_POSES_BATCH];
    const double radius = spec->radius;
    HET_TRY(het_poses_observe(s, rows, n));
    int64_t listed = list_candidates(s, list, of_image, n);
    if (listed > n) {
        spec->radius = 0.5 * radius;
        status = het_fit_run(spec, list, listed, s->transform, s->ctf);
        spec->radius = radius;
        HET_TRY(status);
        listed = drop_losers(s, list, of_image, n);
    }
    HET_TRY(het_fit_run(spec, list, listed, s->transform, s->ctf));
    for (int64_t i = 0, at = 0; i < n; at += of_image[i++]) {
        const het_fit_pose *best = list + at;
        for (int c = 1; c < of_image[i]; c++)
            if (list[at + c].loss < best->loss) best = list + at + c;
        if (of_image[i] == 0 || !isfinite(best->loss)) continue;
        memcpy(s->all.rotation + 9 * s->in_batch[i], best->rotation, sizeof best->rotation);
        memcpy(s->all.shift + 2 * s->in_batch[i], best->shift, sizeof best->shift);
        s->all.loss[s->in_batch[i]] = best->loss;
    }
done:
    return status;
}

static het_status fit_all(het_poses *s, int *stopped)
{
    het_status status = HET_OK;
    fitter f = {.poses = s, .list = het_alloc((size_t)(het_poses_batch(s) * s->places) * sizeof *f.list)};
    rows_of from = {s, het_alloc((size_t)(s->model->spec.batch * s->all.z_dim) * sizeof *from.z)};
    if (f.list == NULL || from.z == NULL) HET_TRY(het_fail(HET_E_MEMORY, "no memory for candidates"));
    f.spec = (het_fit_spec){.points = &s->model->points,
                            .row = s->model->active,
                            .radius = het_poses_radius(s),
                            .steps = (int)s->model->config.refine.steps,
                            .threads = s->model->dev->threads,
                            .slices = slices_of_images,
                            .context = &from};
    for (int64_t part = 0; part < het_comm_parts(s->comm) && !*stopped; part++)
        HET_TRY(het_poses_each(s, part, NULL, 0, fit_batch, &f, stopped));
done:
    het_release(f.list);
    het_release(from.z);
    return status;
}

void het_poses_forget_mirrors(het_poses *s)
{
    for (int64_t i = 0; i < s->count; i++) s->candidate[i * s->places + HET_POSE_MIRROR].image = -1;
}

het_status het_poses_improve_piece(het_poses *s, int search, int *stopped)
{
    het_status status = HET_OK;
    for (int64_t i = 0; i < s->count; i++) {
        het_fit_pose *c = s->candidate + i * s->places;
        c[HET_POSE_PRESENT].image = 0;
        memcpy(c[HET_POSE_PRESENT].rotation, s->all.rotation + 9 * (s->first + i), sizeof c->rotation);
        memcpy(c[HET_POSE_PRESENT].shift, s->all.shift + 2 * (s->first + i), sizeof c->shift);
        for (int j = HET_POSE_SEARCHED; j < s->places; j++) c[j].image = -1;
    }
    if (search && s->places > HET_POSE_SEARCHED) status = het_poses_search(s, stopped);
    if (status == HET_OK && !*stopped) status = fit_all(s, stopped);
    return het_poses_share(s, status, stopped);
}

static het_status improve_piece(het_poses *s, void *search, int *stopped)
{
    return het_poses_improve_piece(s, *(const int *)search, stopped);
}

het_status het_poses_improve(het_poses *s, int search, int *stopped)
{
    const het_poses_work work = {.name = search ? "poses, with a search" : "poses", .size = PIECE, .run = improve_piece, .context = &search};
    const het_status status = het_poses_pieces(s, &work, stopped);
    if (!*stopped) het_poses_forget_mirrors(s);
    return status;
}
