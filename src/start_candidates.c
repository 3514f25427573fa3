#include "start_candidates.h"

#include <math.h>
#include <string.h>

#include "arena.h"

enum { LEVELS = 1, KEEP = 8 }; /* to 7.5 degrees; what is likely is made finer by who asks */
static const double BASE_RADIUS = 5.0;

/* The map of one group, and its slices. */
static het_status new_slicer(het_slicer *slicer, const het_components *model, const double *z)
{
    het_status status = HET_OK;
    het_volume map;
    const int64_t box = model->map[0].box;
    HET_TRY(het_volume_new(&map, box, 1.0));
    for (int64_t i = 0; i < box * box * box; i++) {
        map.data[i] = model->map[0].data[i];
        for (int k = 0; k < model->count; k++) map.data[i] += (float)z[k] * model->map[1 + k].data[i];
    }
    status = het_slicer_new(slicer, &map);
done:
    het_volume_free(&map);
    return status;
}

het_status het_candidates_new(het_candidates *c, const het_finder *f, const het_start_volume_spec *spec)
{
    het_status status = HET_OK;
    const het_components *model = &f->model;
    const int most = 2 * model->count < HET_FRAMES ? 2 * model->count : HET_FRAMES;
    const het_search_spec search = {.box = f->points.box, .base_radius = fmin(BASE_RADIUS, spec->radius), .radius = spec->radius,
                                    .shift_range = spec->shift_range, .levels = LEVELS, .keep = KEEP, .result = 1};
    het_groups groups;
    *c = (het_candidates){.points = &f->points, .slice_scale = model->slice_scale, .p = het_points_within(&f->points, spec->radius), .threads = f->dev->threads};
    HET_TRY(het_groups_new(&groups, most, f->answer, het_finder_asked(f), model->count, spec->seed));
    HET_TRY(het_search_new(&c->search, f->dev, &search));
    c->noise = het_alloc((size_t)c->p * sizeof *c->noise);
    c->transform = het_alloc((size_t)(HET_OBSERVED * 2 * c->p) * sizeof *c->transform);
    c->ctf = het_alloc((size_t)(HET_OBSERVED * c->p) * sizeof *c->ctf);
    c->pose = het_alloc(HET_OBSERVED * sizeof *c->pose);
    if (c->noise == NULL || c->transform == NULL || c->ctf == NULL || c->pose == NULL)
        HET_TRY(het_fail(HET_E_MEMORY, "no memory for a search in groups of conformations"));
    for (int64_t j = 0, s = 0; j < c->p; j++) {
        while (j >= f->points.shells[s]) s++;
        c->noise[j] = (float)model->noise[s];
    }
    for (; c->n < groups.n; c->n++) HET_TRY(new_slicer(&c->slicer[c->n], model, groups.centre + c->n * model->count));
done:
    het_groups_free(&groups);
    return status;
}

size_t het_candidates_bytes(double radius, double model_radius)
{
    const double points = 0.5 * M_PI * radius * radius;
    return (size_t)het_slicer_bytes(het_backproject_box(model_radius), HET_FRAMES) + het_search_bytes(KEEP, (int64_t)points);
}

void het_candidates_free(het_candidates *c)
{
    for (int g = 0; g < c->n; g++) het_slicer_free(&c->slicer[g]);
    het_search_free(c->search);
    void *const mine[] = {c->noise, c->transform, c->ctf, c->pose};
    for (size_t i = 0; i < sizeof mine / sizeof *mine; i++) het_release(mine[i]);
    *c = (het_candidates){0};
}

/* Slices of one group's map, for het_search. */
typedef struct source {
    const het_candidates *candidates;
    int group;
} source;

static void slices_of(void *context, float *slices, const float *rot, int64_t n, int64_t p)
{
    const source *from = context;
    const het_candidates *c = from->candidates;
    het_slicer_slices(&c->slicer[from->group], slices, rot, n, c->points->kxy, p, c->threads);
    for (int64_t j = 0; j < 2 * n * p; j++) slices[j] *= (float)c->slice_scale;
}

void het_candidates_find(het_candidates *c, int group, float *rotation, float *shift, const float *transform, const float *ctf, int64_t row, int64_t n)
{
    source from = {c, group};
    for (int64_t i = 0; i < n; i++) {
        memcpy(c->transform + i * 2 * c->p, transform + i * 2 * row, (size_t)(2 * c->p) * sizeof *transform);
        memcpy(c->ctf + i * c->p, ctf + i * row, (size_t)c->p * sizeof *ctf);
    }
    het_search_load(c->search, slices_of, &from, NULL);
    het_search_run(c->search, c->pose, c->transform, c->ctf, c->noise, n);
    for (int64_t i = 0; i < n; i++) {
        memcpy(rotation + 9 * i, c->pose[i].rotation, sizeof c->pose[i].rotation);
        memcpy(shift + 2 * i, c->pose[i].shift, sizeof c->pose[i].shift);
    }
}
