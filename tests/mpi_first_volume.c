/* A first volume by several ranks: to the bit that of one rank alone, also when it is stopped after every round; and the ranks share
 * the images. */
#include <stdio.h>
#include <sys/stat.h>
#include <unistd.h>

#include "../src/arena.h"
#include "../src/first_volume.h"
#include "../src/rng.h"
#include "../src/stop.h"
#include "mpi_check.h"

enum { N = 100, D = 16, COARSE = 2, ROUNDS = 1, POINTS = D * D }; /* four chunks of a search, the last one short */

static float images[N * D * D], noise[POINTS];
static het_ctf_row ctf[N];

static void make_images(void)
{
    for (int i = 0; i < N; i++) {
        het_rng rng = het_rng_at(3, HET_STREAM_SIMULATE, 0, (uint64_t)i);
        ctf[i] = (het_ctf_row){.defocus_u = 15000.0F + 30.0F * (float)i, .defocus_v = 14000, .voltage = 3e5F, .cs = 2.7e7F, .amplitude = 0.1F};
        for (int j = 0; j < D * D; j++) {
            const int x = j % D - 8, y = j / D - 8;
            images[i * D * D + j] = het_rng_normal(&rng) + (x * x + 2 * y * y < 20 + i % 7 ? 2.0F : -0.3F);
        }
    }
    for (int j = 0; j < POINTS; j++) noise[j] = 0.8F;
}

static het_status find(het_first_volume *volume, het_comm *comm, het_device *dev, const het_stage *kept)
{
    int64_t first, own;
    het_first_volume_share(comm, N, &first, &own);
    const het_first_volume_spec spec = {.box = D, .count = N, .apix = 6.0, .images = images + first * D * D, .ctf = ctf + first,
                                        .radius = 6.0, .coarse_rounds = COARSE, .rounds = ROUNDS, .shift_range = 0.5, .noise = noise,
                                        .seed = 5};
    return het_first_volume_find(volume, comm, dev, &spec, kept);
}

static void check_same(het_comm *comm, const het_first_volume *a, const het_first_volume *b)
{
    const size_t voxels = (size_t)(a->map.box * a->map.box * a->map.box);
    CHECK(comm, memcmp(a->map.data, b->map.data, voxels * sizeof *a->map.data) == 0);
    CHECK(comm, memcmp(a->pose, b->pose, N * sizeof *a->pose) == 0);
    CHECK(comm, memcmp(a->noise, b->noise, (size_t)het_points_within(&a->points, 6.0) * sizeof *a->noise) == 0);
    CHECK(comm, a->loglik == b->loglik && a->explained == b->explained);
}

static void check_share(het_comm *comm)
{
    int64_t first, own;
    het_first_volume_share(comm, N, &first, &own);
    const int64_t chunks = (N + HET_SEARCH_CHUNK - 1) / HET_SEARCH_CHUNK, ranks = het_comm_size(comm);
    CHECK(comm, own <= (chunks + ranks - 1) / ranks * HET_SEARCH_CHUNK);
    CHECK(comm, own == 0 || first % HET_SEARCH_CHUNK == 0);
    CHECK_OK(comm, het_comm_sum_i64(comm, &own, 1));
    CHECK(comm, own == N);
}

int main(int argc, char **argv)
{
    het_comm *comm = NULL, *alone;
    het_device dev;
    het_first_volume one, many, stopped;
    char folder[1024];
    int stops = 0;
    if (het_comm_open(&comm, &argc, &argv) != HET_OK) return 1;
    snprintf(folder, sizeof folder, "%s/mpi_first_volume_%d", argc > 1 ? argv[1] : ".", het_comm_size(comm));
    CHECK_OK(comm, het_device_open_cpu(&dev, 1, HET_PRECISION_F32));
    make_images();
    check_share(comm);
    const het_stage nowhere = {0}, kept = {.folder = folder, .name = "rounds", .about = "{}"};
    CHECK_OK(comm, het_comm_group(&alone, comm, het_comm_rank(comm)));
    CHECK(comm, het_comm_size(alone) == 1);
    CHECK_OK(comm, find(&one, alone, &dev, &nowhere));
    CHECK_OK(comm, find(&many, comm, &dev, &nowhere));
    check_same(comm, &one, &many);

    if (het_comm_rank(comm) == 0) mkdir(folder, 0777);
    het_stage_forget(comm, folder);
    CHECK_OK(comm, het_comm_barrier(comm));
    het_stop_after(0.0);
    while (find(&stopped, comm, &dev, &kept) == HET_E_STOPPED) CHECK(comm, ++stops <= COARSE + ROUNDS);
    CHECK(comm, stops == COARSE + ROUNDS);
    check_same(comm, &one, &stopped);
    het_stage_forget(comm, folder);
    if (het_comm_rank(comm) == 0) rmdir(folder);

    het_first_volume_free(&one);
    het_first_volume_free(&many);
    het_first_volume_free(&stopped);
    het_device_close(&dev);
    het_comm_group_free(alone);
    het_comm_close(comm);
    return het_arena_live() != 0;
}
