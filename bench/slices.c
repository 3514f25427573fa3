/* Slices of a map (physics/slicer.h), of which the start and the searches for poses are made: nanoseconds a point on one thread, the best
 * of some rounds of 2,048 random rotations. Usage: bench_slices [rounds] */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>

#include "../src/clock.h"
#include "../src/physics/points.h"
#include "../src/physics/rotation.h"
#include "../src/physics/slicer.h"
#include "../src/rng.h"

enum { BOX = 32, ROTATIONS = 2048 };

static void draw_rotations(float rot[9 * ROTATIONS])
{
    het_rng rng = het_rng_at(1, HET_STREAM_ROTATION, 0, 0);
    for (int i = 0; i < ROTATIONS; i++) {
        double r[9];
        het_rotation_draw(r, &rng);
        for (int j = 0; j < 9; j++) rot[9 * i + j] = (float)r[j];
    }
}

static het_status measure(int64_t box, double radius, int rounds)
{
    static float rot[9 * ROTATIONS];
    het_status status = HET_OK;
    het_volume map = {0};
    het_slicer slicer = {0};
    het_points points = {0};
    float *slices = NULL;
    double best = INFINITY;
    draw_rotations(rot);
    HET_TRY(het_points_new(&points, BOX));
    HET_TRY(het_volume_new(&map, box, 1.0));
    for (int64_t i = 0; i < box * box * box; i++) map.data[i] = (float)sin(0.37 * (double)i);
    HET_TRY(het_slicer_new(&slicer, &map));
    const int64_t p = het_points_within(&points, radius);
    slices = calloc((size_t)(2 * ROTATIONS * p), sizeof *slices);
    if (slices == NULL) HET_TRY(het_fail(HET_E_MEMORY, "no memory for slices"));
    for (int i = 0; i < rounds; i++) {
        const double began = het_seconds();
        het_slicer_slices(&slicer, slices, rot, ROTATIONS, points.kxy, p, 1);
        best = fmin(best, het_seconds() - began);
    }
    printf("map of box %2lld, radius %4.1f: %5.1f ns a point\n", (long long)box, radius, 1e9 * best / (double)(ROTATIONS * p));
done:
    free(slices);
    het_slicer_free(&slicer);
    het_volume_free(&map);
    het_points_free(&points);
    return status;
}

int main(int argc, char **argv)
{
    het_status status = HET_OK;
    const int rounds = argc > 1 ? atoi(argv[1]) : 8;
    HET_TRY(measure(20, 6.0, rounds)); /* the maps and radii of random starts, of the start's last stage, of searches in training */
    HET_TRY(measure(20, 8.0, rounds));
    HET_TRY(measure(28, 12.0, rounds));
    HET_TRY(measure(32, 12.0, rounds));
done:
    if (status != HET_OK) fprintf(stderr, "%s\n", het_status_message());
    return status != HET_OK;
}
