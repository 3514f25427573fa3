/* Rough poses from common lines. */
#include <stdlib.h>

#include "arena.h"
#include "log.h"
#include "physics/lines.h"
#include "start_rough.h"

static const float LEAST = 0.15F; /* share of an average's lines that agree: 0.4 to 0.6 where a start is right, up to 0.1 in noise */

static int ascending_numbers(const void *a, const void *b)
{
    const float x = *(const float *)a, y = *(const float *)b;
    return (x > y) - (x < y);
}

het_status het_start_from_lines(het_chosen *c, int *agree, het_device *dev, const het_stack *stack,
                                const het_start_volume_spec *of)
{
    het_status status = HET_OK;
    const het_stack_info *info = het_stack_get_info(stack);
    const int64_t m = of->init->averages < c->count / 4 ? of->init->averages : c->count / 4;
    const het_averages_spec spec = {.box = info->box,
                                    .images = c->count,
                                    .averages = m,
                                    .neighbours = (int)of->init->neighbours,
                                    .radius = (int)of->radius,
                                    .apix = info->apix,
                                    .shift_range = of->shift_range,
                                    .noise_variance = of->noise_variance};
    het_averages averages = {0};
    float *direction = het_alloc((size_t)(m * m * 2) * sizeof *direction),
          *shift = het_alloc((size_t)(m * m) * sizeof *shift);
    float *rotation = het_alloc((size_t)m * 9 * sizeof *rotation),
          *centre = het_alloc((size_t)m * 2 * sizeof *centre);
    float *consistency = het_alloc((size_t)m * sizeof *consistency);
    int64_t *average = het_alloc((size_t)c->count * sizeof *average);
    if (direction == NULL || shift == NULL || rotation == NULL || centre == NULL || consistency == NULL ||
        average == NULL)
        HET_TRY(het_fail(HET_E_MEMORY,
                         "no memory for the lines of %lld averages: choose fewer by init.averages",
                         (long long)m));
    HET_TRY(het_averages_new(&averages, dev, &spec, c->images, c->ctf));
    HET_TRY(het_lines_find(direction, shift, dev, &averages));
    HET_TRY(het_lines_synchronise(rotation, consistency, direction, m, dev->threads));
    HET_TRY(het_lines_centre(centre, direction, shift, rotation, m, dev->threads));
    het_lines_poses(c->rotation, c->shift, average, &averages, rotation, centre, consistency);
    qsort(consistency, (size_t)m, sizeof *consistency, ascending_numbers);
    het_info("start: %lld averages of %d images; %.0f %% of their common lines agree", (long long)m,
             spec.neighbours, 100.0 * consistency[m / 2]);
    *agree = consistency[m / 2] >= LEAST;
    for (int64_t i = 0; i < c->count; i++) c->valid[i] = average[i] >= 0;
done:
    het_averages_free(&averages);
    het_release(direction);
    het_release(shift);
    het_release(rotation);
    het_release(centre);
    het_release(consistency);
    het_release(average);
    return status;
}
