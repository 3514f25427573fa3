#include "first_volume.h"

#include <math.h>
#include <string.h>

#include "arena.h"
#include "observe.h"
#include "physics/backproject.h"
#include "physics/phases.h"
#include "physics/rotation.h"
#include "rng.h"
#include "stop.h"

enum { CHUNK = HET_SEARCH_CHUNK, POSE_FLOATS = sizeof(het_search_pose) / sizeof(float) };
enum { COARSE_RESULTS = 32, RESULTS = 8, KEEP = 16, WIDE_KEEP = 64, ROUND_LEVELS = 2, LAST_LEVELS = 4 };
static const double BASE_RADIUS = 5.0, WIDE_BASE_RADIUS = 7.0, NEGLIGIBLE = 1e-3;
/* Of the weight of an image's point that one point of the map's grid has, which is twice as fine along each axis. The coarse rounds, whose maps are
 * rough in any case, find poses more often without it. */
static const double SHARE = 0.125;
static const double PARTICLES_LEAST = 0.1; /* share of the images */
static const float SURE = 100.0F; /* log-likelihood of a pose that a search with few candidates will not have missed */
/* Of the coarse rounds' noise: at first, and after which share of them it has come down to 1. */
static const double TEMPERATURE = 30.0, COOLED = 0.8;

typedef struct work {
    const het_first_volume_spec *spec;
    het_comm *comm;
    het_device *dev;
    int64_t first, own;          /* images that are here */
    het_search *search;
    het_backproject back, *part; /* (threads) */
    int64_t p, shells;
    const int32_t *kxy;          /* (P,2) */
    int64_t *shell;              /* (P) round(|k|) */
    float *transform, *ctf;      /* (count,P,2), (count,P) */
    float *noise;                /* (P) the volume's: given, or left unexplained */
    double *signal, *prior;      /* (shells) variance before the CTF; SHARE noise/signal */
    double *shell_count, *left, *zero; /* (shells): points; mean |X - C T V|^2 and |X|^2 per point, of what are particles */
    int coarse;                  /* rounds are */
    int results;                 /* candidates of each image that count */
    het_search_pose *found;      /* (count,results) */
    float *model;                /* (threads,P,2) of one image each */
    double *each_left, *each_zero; /* (count,shells) of each image, summed over points */
    double *particle, particles; /* (count) probability of being one; their sum */
} work;

static int64_t shell_of(const int32_t *k)
{
    return lround(hypot((double)k[0], (double)k[1]));
}

void het_first_volume_slices(void *context, float *slices, const float *rot, int64_t n, int64_t p)
{
    const het_first_volume *volume = context;
    het_slicer_slices(&volume->slicer, slices, rot, n, volume->points.kxy, p, volume->threads);
    for (int64_t j = 0; j < 2 * n * p; j++) slices[j] *= (float)volume->slice_scale;
}

/* Rows of all images, of which each rank has filled those of its own: to all. */
static het_status unite(const work *w, void *rows, int64_t width)
{
    return het_comm_unite_rows(w->comm, rows, w->spec->count, width, w->first, w->own);
}

/* Transforms and CTFs of this rank's images. */
static het_status transform_images(work *w, const het_points *points)
{
    het_status status = HET_OK;
    const int64_t pixels = w->spec->box * w->spec->box, p = w->p;
    het_observer observer;
    HET_TRY(het_observer_new(&observer, w->dev, points, w->spec->apix, &w->spec->whitening, w->spec->radius));
    for (int64_t i = 0; status == HET_OK && i < w->own; i += HET_OBSERVED) {
        const int64_t n = w->own - i < HET_OBSERVED ? w->own - i : HET_OBSERVED, to = w->first + i;
        status = het_observe(&observer, w->transform + to * 2 * p, w->ctf + to * p, w->spec->images + i * pixels, w->spec->ctf + i, n);
    }
    het_observer_free(&observer);
done:
    return status;
}

/* Power of the images per shell, and with the CTF that of the signal. */
static void measure_signal(work *w)
{
    const int64_t p = w->p, n = w->spec->count;
    for (int64_t j = 0; j < p; j++) {
        const int64_t shell = w->shell[j];
        double sum = 0.0, ctf2 = 0.0;
        for (int64_t i = 0; i < n; i++) {
            const float *x = w->transform + 2 * (i * p + j), c = w->ctf[i * p + j];
            const double power = (double)x[0] * x[0] + (double)x[1] * x[1];
            w->each_zero[i * w->shells + shell] += power;
            sum += power / (double)n;
            ctf2 += (double)c * c / (double)n;
        }
        const double noise = (double)w->spec->noise[j];
        w->shell_count[shell] += 1.0;
        w->signal[shell] += fmax(sum - noise, 0.01 * noise) / fmax(ctf2, 0.01);
    }
    for (int64_t s = 0; s < w->shells; s++) w->signal[s] /= w->shell_count[s];
}

/* left (shells): |X - C T V|^2 of an image at a pose; model (p,2) is for it. */
static void left_of(double *left, float *model, const work *w, const het_first_volume *volume, int64_t image, const het_search_pose *pose)
{
    const float *x = w->transform + image * 2 * w->p, *ctf = w->ctf + image * w->p, scale = (float)volume->slice_scale;
    het_phases phases;
    double r[9];
    for (int c = 0; c < 9; c++) r[c] = (double)pose->rotation[c];
    het_slicer_slice(&volume->slicer, model, r, w->kxy, w->p);
    het_phases_set(&phases, pose->shift, w->spec->box, w->kxy, w->p);
    for (int64_t j = 0; j < w->p; j++) {
        double back[2]; /* that of exp(+2 pi i k.t/D) */
        het_phases_at(back, &phases, w->kxy + 2 * j);
        const float re = ctf[j] * scale * (float)back[0], im = -ctf[j] * scale * (float)back[1];
        const double dre = (double)(x[2 * j] - (re * model[2 * j] - im * model[2 * j + 1]));
        const double dim = (double)(x[2 * j + 1] - (re * model[2 * j + 1] + im * model[2 * j]));
        left[w->shell[j]] += dre * dre + dim * dim;
    }
}

/* What thread `part` adds to the map: its part of the grid. */
static void add_image(work *w, int part, int64_t i, const het_search_pose *pose, double weight)
{
    het_backproject_image(&w->part[part], w->transform + i * 2 * w->p, w->ctf + i * w->p, pose->rotation, pose->shift, weight,
                          w->kxy, w->p);
}

/* The map of what all ranks added, and its slices. */
static het_status solve(work *w, het_first_volume *volume)
{
    const het_status united = het_comm_unite(w->comm, w->back.sum, 2 * (size_t)het_backproject_numbers(w->back.box, 1));
    if (united != HET_OK) return united;
    memset(w->prior, 0, (size_t)w->shells * sizeof *w->prior);
    for (int64_t j = 0; j < w->p; j++) {
        const int64_t s = w->shell[j];
        w->prior[s] += (w->coarse ? 1.0 : SHARE) * (double)w->noise[j] / (w->signal[s] * w->shell_count[s]);
    }
    for (int64_t s = w->shells; s <= volume->map.box / 2; s++) w->prior[s] = w->prior[w->shells - 1];
    het_backproject_solve(&w->back, &volume->map, w->prior);
    het_slicer_free(&volume->slicer);
    return het_slicer_new(&volume->slicer, &volume->map);
}

/* What each image is by the first of its `each` poses: likelier a particle than nothing. An image without one would fit best where a map has
 * least power, and take what there is from it. */
static void find_particles(work *w, const het_search_pose *poses, int64_t each)
{
    const int64_t n = w->spec->count;
    double sum = 0.0;
    for (int64_t i = 0; i < n; i++) sum += w->particle[i] = 1.0 / (1.0 + exp(-(double)poses[i * each].loglik));
    for (int64_t i = 0; i < n && sum < PARTICLES_LEAST * (double)n; i++) w->particle[i] = isfinite(poses[i * each].loglik); /* the map is not theirs yet */
}

/* left, zero = mean |X - C T V|^2, |X|^2 per shell over the particles, with the first of their `each` poses. */
static void measure_left(work *w, const het_first_volume *volume, const het_search_pose *poses, int64_t each)
{
    const int64_t n = w->spec->count, shells = w->shells;
    const int threads = w->dev->threads;
    w->particles = 0.0;
    memset(w->each_left, 0, (size_t)(n * shells) * sizeof *w->each_left);
    memset(w->left, 0, (size_t)shells * sizeof *w->left);
    memset(w->zero, 0, (size_t)shells * sizeof *w->zero);
#pragma omp parallel for num_threads(threads) schedule(static)
    for (int t = 0; t < threads; t++)
        for (int64_t i = n * t / threads; i < n * (t + 1) / threads; i++)
            if (w->particle[i] > 0.0) left_of(w->each_left + i * shells, w->model + t * 2 * w->p, w, volume, i, poses + i * each);
    for (int64_t i = 0; i < n; i++) {
        if (!(w->particle[i] > 0.0)) continue;
        w->particles += w->particle[i];
        for (int64_t s = 0; s < shells; s++) {
            w->left[s] += w->particle[i] * w->each_left[i * shells + s];
            w->zero[s] += w->particle[i] * w->each_zero[i * shells + s];
        }
    }
    for (int64_t s = 0; s < shells; s++) {
        w->left[s] /= w->shell_count[s] * w->particles;
        w->zero[s] /= w->shell_count[s] * w->particles;
    }
}

/* The likelihood's noise: what is left, at least what was given. */
static void set_noise(work *w)
{
    for (int64_t j = 0; j < w->p; j++)
        w->noise[j] = fmaxf(w->spec->noise[j], (float)w->left[w->shell[j]]);
}

static void random_pose(het_search_pose *pose, uint64_t seed, int64_t image)
{
    het_rng rng = het_rng_at(seed, HET_STREAM_ROTATION, 0, (uint64_t)image);
    double r[9];
    het_rotation_draw(r, &rng);
    *pose = (het_search_pose){0};
    for (int c = 0; c < 9; c++) pose->rotation[c] = (float)r[c];
}

static het_status start(work *w, het_first_volume *volume)
{
    het_status status = HET_OK;
    const het_first_volume_spec *spec = w->spec;
    int64_t valid = 0;
    for (int64_t i = 0; i < spec->count; i++) {
        w->particle[i] = spec->valid == NULL || spec->valid[i];
        if (!(w->particle[i] > 0.0)) continue;
        valid++;
        if (spec->rotation == NULL) {
            random_pose(volume->pose + i, spec->seed, i);
        } else {
            memcpy(volume->pose[i].rotation, spec->rotation + 9 * i, sizeof volume->pose[i].rotation);
            memcpy(volume->pose[i].shift, spec->shift + 2 * i, sizeof volume->pose[i].shift);
        }
    }
    if (valid == 0) return het_fail(HET_E_INPUT, "a first volume needs starting poses: no image has one");
#pragma omp parallel for num_threads(w->dev->threads) schedule(static)
    for (int t = 0; t < w->dev->threads; t++)
        for (int64_t i = 0; i < spec->count; i++)
            if (w->particle[i] > 0.0) add_image(w, t, i, volume->pose + i, 1.0);
    memcpy(w->noise, spec->noise, (size_t)w->p * sizeof *w->noise);
    HET_TRY(solve(w, volume));
    measure_left(w, volume, volume->pose, 1);
    set_noise(w);
done:
    return status;
}

static het_status new_search(work *w, double base_radius, int keep, int levels, int result)
{
    het_search_free(w->search);
    w->results = result;
    const double radius = w->spec->radius;
    const het_search_spec spec = {.box = w->spec->box,
                                  .base_radius = fmin(base_radius, radius),
                                  .radius = radius,
                                  .shift_range = w->spec->shift_range,
                                  .levels = levels,
                                  .keep = result > keep ? result : keep,
                                  .result = result};
    return het_search_new(&w->search, w->dev, &spec);
}

/* Search this rank's images on the map's slices, the grid turned by the round's own rotation. */
static void search_own(work *w, const het_first_volume *volume, het_search_pose *poses, int64_t round)
{
    het_rng rng = het_rng_at(w->spec->seed, HET_STREAM_SEARCH, (uint64_t)round, 0);
    double turn[9];
    het_rotation_draw(turn, &rng);
    het_search_load(w->search, het_first_volume_slices, (void *)(uintptr_t)volume, turn);
    het_search_run(w->search, poses + w->first * w->results, w->transform + w->first * 2 * w->p, w->ctf + w->first * w->p, w->noise,
                   w->own);
}

/* All of an image's, by their likelihood. */
static void add_candidates(work *w, int part, int64_t image)
{
    const het_search_pose *list = w->found + image * w->results;
    double sum = 0.0;
    for (int c = 0; c < w->results; c++) sum += exp((double)(list[c].loglik - list[0].loglik));
    for (int c = 0; c < w->results; c++) {
        const double weight = w->particle[image] * exp((double)(list[c].loglik - list[0].loglik)) / sum;
        if (weight > NEGLIGIBLE) add_image(w, part, image, list + c, weight);
    }
}

/* Search, and the map of what was found. temperature: of the likelihood, above 1 for a softer assignment. */
static het_status one_round(work *w, het_first_volume *volume, int64_t round, double temperature)
{
    het_status status = HET_OK;
    const int results = w->results;
    for (int64_t j = 0; j < w->p; j++) w->noise[j] *= (float)temperature;
    search_own(w, volume, w->found, round);
    HET_TRY(unite(w, w->found, results * POSE_FLOATS));
    find_particles(w, w->found, results);
    measure_left(w, volume, w->found, results);
    set_noise(w);
    het_backproject_clear(&w->back);
#pragma omp parallel for num_threads(w->dev->threads) schedule(static)
    for (int t = 0; t < w->dev->threads; t++)
        for (int64_t i = 0; i < w->spec->count; i++) add_candidates(w, t, i);
    status = het_comm_agree(w->comm, solve(w, volume));
done:
    return status;
}

/* The rounds, from that on where an earlier call was stopped. */
static het_status all_rounds(work *w, het_first_volume *volume, const het_stage *kept)
{
    het_status status = HET_OK;
    const int64_t coarse = w->spec->coarse_rounds, all = coarse + w->spec->rounds, box = volume->map.box;
    int64_t done = 0;
    int there = 0;
    const het_field field[] = {{"rounds", {&done, HET_I64, 1, {1}}},
                               {"map", {volume->map.data, HET_F32, 3, {box, box, box}}},
                               {"noise", {w->noise, HET_F32, 1, {w->p}}}};
    const het_stage stage = {.comm = w->comm, .folder = kept->folder, .name = kept->name, .about = kept->about, .field = field, .count = 3};
    if (kept->folder != NULL) HET_TRY(het_stage_recall(&stage, &there));
    w->coarse = done < coarse;
    HET_TRY(het_comm_agree(w->comm, there ? het_slicer_new(&volume->slicer, &volume->map) : start(w, volume)));
    for (int64_t round = done, first = done; round < all; round++) {
        if (round == first || round == coarse)
            HET_TRY(het_comm_agree(w->comm, round < coarse ? new_search(w, BASE_RADIUS, KEEP, 0, COARSE_RESULTS) : new_search(w, BASE_RADIUS, KEEP, ROUND_LEVELS, RESULTS)));
        w->coarse = round < coarse;
        const double cooled = fmin(1.0, (double)round / (COOLED * (double)coarse));
        HET_TRY(one_round(w, volume, round, round < coarse ? pow(TEMPERATURE, 1.0 - cooled) : 1.0));
        done = round + 1;
        status = het_comm_agree(w->comm, het_stop_check());
        if (status == HET_E_STOPPED && kept->folder != NULL) {
            het_stage_keep(&stage);
            status = het_stop_status();
        }
        HET_TRY(status);
    }
done:
    return status;
}

/* The share of the images' power beyond noise that is explained; 0 where chance may have given that power. */
static double explained(const work *w, const het_points *points)
{
    double left = 0.0, signal = 0.0, noise = 0.0;
    for (int64_t j = 0; j < w->p; j++) {
        const double weight = (double)points->weight[j], given = (double)w->spec->noise[j];
        left += weight * (w->left[w->shell[j]] - given);
        signal += weight * (w->zero[w->shell[j]] - given);
        noise += weight * given;
    }
    return signal > 5.0 * noise / sqrt((double)(w->spec->count * w->p)) ? 1.0 - left / signal : 0.0;
}

static het_status last_search(work *w, het_first_volume *volume)
{
    het_status status = HET_OK;
    HET_TRY(het_comm_agree(w->comm, new_search(w, BASE_RADIUS, KEEP, LAST_LEVELS, 1)));
    search_own(w, volume, volume->pose, w->spec->coarse_rounds + w->spec->rounds);
    HET_TRY(unite(w, volume->pose, POSE_FLOATS));
    find_particles(w, volume->pose, 1);
    measure_left(w, volume, volume->pose, 1);
    volume->explained = explained(w, &volume->points);
    /* the likelihood of these poses with the noise given: |X|^2 - |X - C T V|^2 over it */
    volume->loglik = 0.0;
    for (int64_t j = 0; j < w->p; j++) {
        const int64_t s = w->shell[j];
        const double g = 0.5 * (double)volume->points.weight[j] / (double)w->spec->noise[j];
        volume->loglik += g * (w->zero[s] - w->left[s]) * w->particles / (double)w->spec->count;
    }
done:
    return status;
}

static het_status allocate(work *w, het_first_volume *volume)
{
    het_status status = HET_OK;
    const size_t n = (size_t)w->spec->count, p = (size_t)w->p, shells = (size_t)w->shells;
    const int64_t box = volume->map.box;
    HET_TRY(het_backproject_new(&w->back, box, w->spec->box));
    het_backproject_share(&w->back, het_comm_rank(w->comm), het_comm_size(w->comm));
    volume->pose = het_alloc(n * sizeof *volume->pose);
    w->transform = het_alloc(n * 2 * p * sizeof *w->transform);
    w->ctf = het_alloc(n * p * sizeof *w->ctf);
    w->found = het_alloc(n * COARSE_RESULTS * sizeof *w->found);
    w->shell = het_alloc(p * sizeof *w->shell);
    w->model = het_alloc((size_t)w->dev->threads * 2 * p * sizeof *w->model);
    w->each_left = het_alloc(n * shells * sizeof *w->each_left);
    w->each_zero = het_alloc(n * shells * sizeof *w->each_zero);
    w->particle = het_alloc(n * sizeof *w->particle);
    w->part = het_alloc((size_t)w->dev->threads * sizeof *w->part);
    double **const per_shell[] = {&w->signal, &w->shell_count, &w->left, &w->zero};
    w->prior = het_alloc((size_t)(box / 2 + 1) * sizeof *w->prior);
    int complete = 1;
    for (size_t i = 0; i < sizeof per_shell / sizeof *per_shell; i++)
        complete = (*per_shell[i] = het_alloc(shells * sizeof(double))) != NULL && complete;
    const void *const pieces[] = {volume->pose, w->transform, w->ctf, w->found, w->shell, w->model, w->each_left, w->each_zero, w->particle, w->part, w->prior};
    for (size_t i = 0; i < sizeof pieces / sizeof *pieces; i++) complete = pieces[i] != NULL && complete;
    if (!complete)
        return het_fail(HET_E_MEMORY, "no memory for a first volume of %lld images", (long long)w->spec->count);
    for (size_t j = 0; j < p; j++) w->shell[j] = shell_of(w->kxy + 2 * j);
    status = het_backproject_parts(w->part, w->dev->threads, &w->back);
done:
    return status;
}

static void work_free(work *w)
{
    het_search_free(w->search);
    if (w->part != NULL) het_backproject_parts_free(w->part, w->dev->threads);
    het_backproject_free(&w->back);
    void *const pieces[] = {w->transform, w->ctf,  w->shell, w->signal, w->prior,
                            w->shell_count, w->left, w->zero, w->found, w->model, w->each_left, w->each_zero, w->particle, w->part};
    for (size_t i = 0; i < sizeof pieces / sizeof *pieces; i++) het_release(pieces[i]);
}

het_status het_first_volume_blank(het_first_volume *volume, het_device *dev, int64_t box, double apix, double radius)
{
    het_status status = HET_OK;
    const int64_t small = het_backproject_box(radius);
    const double d = (double)box;
    *volume = (het_first_volume){.threads = dev->threads, .slice_scale = d * d / (double)(small * small)};
    HET_TRY(het_points_new(&volume->points, box));
    HET_TRY(het_volume_new(&volume->map, small, apix * d / (double)small));
    volume->noise = het_alloc((size_t)het_points_within(&volume->points, radius) * sizeof *volume->noise);
    if (volume->noise == NULL) status = het_fail(HET_E_MEMORY, "no memory for a first volume");
done:
    return status;
}

void het_first_volume_share(const het_comm *comm, int64_t count, int64_t *first, int64_t *own)
{
    int64_t chunk, chunks;
    het_comm_share(comm, (count + CHUNK - 1) / CHUNK, &chunk, &chunks);
    const int64_t end = (chunk + chunks) * CHUNK;
    *first = chunk * CHUNK < count ? chunk * CHUNK : count;
    *own = (end < count ? end : count) - *first;
}

static het_status prepare(work *w, het_first_volume *volume)
{
    het_status status = HET_OK;
    const het_first_volume_spec *spec = w->spec;
    HET_TRY(het_first_volume_blank(volume, w->dev, spec->box, spec->apix, spec->radius));
    w->noise = volume->noise;
    w->p = het_points_within(&volume->points, spec->radius);
    w->kxy = volume->points.kxy;
    w->shells = shell_of(w->kxy + 2 * (w->p - 1)) + 1;
    HET_TRY(allocate(w, volume));
    status = transform_images(w, &volume->points);
done:
    return status;
}

het_status het_first_volume_find(het_first_volume *volume, het_comm *comm, het_device *dev, const het_first_volume_spec *spec,
                                 const het_stage *kept)
{
    het_status status = HET_OK;
    work w = {.spec = spec, .comm = comm, .dev = dev};
    het_first_volume_share(comm, spec->count, &w.first, &w.own);
    HET_TRY(het_comm_agree(comm, prepare(&w, volume)));
    HET_TRY(unite(&w, w.transform, 2 * w.p));
    HET_TRY(unite(&w, w.ctf, w.p));
    measure_signal(&w);
    HET_TRY(all_rounds(&w, volume, kept));
    HET_TRY(last_search(&w, volume));
done:
    work_free(&w);
    if (status != HET_OK) het_first_volume_free(volume);
    return status;
}

/* Of n images, those that have little to tell a pose by, with more of the grid's candidates, which are compared at more points. */
static het_status search_unsure(work *w, const het_first_volume *volume, het_search_pose *pose, int64_t n)
{
    het_status status = HET_OK;
    const int64_t p = w->p;
    int64_t unsure = 0;
    int64_t *of = het_alloc((size_t)n * sizeof *of);
    het_search_pose *found = het_alloc((size_t)n * sizeof *found);
    if (of == NULL || found == NULL) HET_TRY(het_fail(HET_E_MEMORY, "no memory to search the poses of %lld images", (long long)n));
    for (int64_t i = 0; i < n; i++) {
        if (!(pose[i].loglik < SURE)) continue;
        memmove(w->transform + unsure * 2 * p, w->transform + i * 2 * p, (size_t)(2 * p) * sizeof *w->transform);
        memmove(w->ctf + unsure * p, w->ctf + i * p, (size_t)p * sizeof *w->ctf);
        of[unsure++] = i;
    }
    if (unsure == 0) goto done;
    w->own = unsure;
    HET_TRY(new_search(w, WIDE_BASE_RADIUS, WIDE_KEEP, LAST_LEVELS, 1));
    search_own(w, volume, found, w->spec->rounds);
    for (int64_t i = 0; i < unsure; i++)
        if (found[i].loglik > pose[of[i]].loglik) pose[of[i]] = found[i];
done:
    het_release(of);
    het_release(found);
    return status;
}

het_status het_first_volume_search(const het_first_volume *volume, het_search_pose *pose, het_device *dev,
                                   const het_first_volume_spec *spec)
{
    het_status status = HET_OK;
    work w = {.spec = spec, .dev = dev, .own = spec->count, .kxy = volume->points.kxy, .noise = volume->noise};
    w.p = het_points_within(&volume->points, spec->radius);
    w.transform = het_alloc((size_t)(spec->count * 2 * w.p) * sizeof *w.transform);
    w.ctf = het_alloc((size_t)(spec->count * w.p) * sizeof *w.ctf);
    if (w.transform == NULL || w.ctf == NULL)
        HET_TRY(het_fail(HET_E_MEMORY, "no memory to search the poses of %lld images", (long long)spec->count));
    HET_TRY(transform_images(&w, &volume->points));
    HET_TRY(new_search(&w, BASE_RADIUS, KEEP, LAST_LEVELS, 1));
    search_own(&w, volume, pose, spec->rounds);
    status = search_unsure(&w, volume, pose, spec->count);
done:
    work_free(&w);
    return status;
}

void het_first_volume_free(het_first_volume *volume)
{
    het_slicer_free(&volume->slicer);
    het_volume_free(&volume->map);
    het_points_free(&volume->points);
    het_release(volume->pose);
    het_release(volume->noise);
    *volume = (het_first_volume){0};
}
