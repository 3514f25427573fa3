/* predictions.h5 written by any number of ranks: the file of one rank and of many hold the same. */
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include "../src/arena.h"
#include "../src/data/predictions.h"
#include "../src/physics/rotation.h"
#include "../src/rng.h"
#include "mpi_check.h"

enum { N = 11, Z = 4 };

/* Images [first, first+count) of a set that depends on the image's number alone. */
static het_predictions make(het_comm *comm, int64_t first, int64_t count)
{
    het_predictions p;
    CHECK_OK(comm, het_predictions_new(&p, count, Z));
    p.box = 32;
    p.apix = 1.5;
    for (int64_t i = 0; i < count; i++) {
        het_rng rng = het_rng_at(3, HET_STREAM_SIMULATE, 0, (uint64_t)(first + i));
        double r[9];
        const double u1 = het_rng_uniform(&rng), u2 = het_rng_uniform(&rng), u3 = het_rng_uniform(&rng);
        het_rotation_uniform(r, u1, u2, u3);
        for (int k = 0; k < 9; k++) p.rotation[9 * i + k] = (float)r[k];
        for (int k = 0; k < 2; k++) p.shift[2 * i + k] = het_rng_normal(&rng);
        for (int k = 0; k < Z; k++) p.z[Z * i + k] = het_rng_normal(&rng);
        p.loss[i] = (float)(first + i);
        p.mirrored[i] = (uint8_t)((first + i) % 2);
    }
    return p;
}

int main(int argc, char **argv)
{
    het_comm *comm = NULL;
    if (het_comm_open(&comm, &argc, &argv) != HET_OK) return 1;
    char path[1024];
    snprintf(path, sizeof path, "%s/mpi_predictions_%d.h5", argc > 1 ? argv[1] : ".", het_comm_size(comm));
    int64_t first, count;
    het_comm_share(comm, N, &first, &count);
    het_predictions part = make(comm, first, count), whole = make(comm, 0, N), found;
    CHECK_OK(comm, het_predictions_save(comm, path, N, first, &part, HET_OK));
    CHECK_OK(comm, het_predictions_load(&found, path));
    CHECK(comm, found.count == N && found.z_dim == Z && found.box == 32 && found.apix == 1.5);
    CHECK(comm, memcmp(found.rotation, whole.rotation, N * 9 * sizeof(float)) == 0);
    CHECK(comm, memcmp(found.shift, whole.shift, N * 2 * sizeof(float)) == 0);
    CHECK(comm, memcmp(found.z, whole.z, N * Z * sizeof(float)) == 0);
    CHECK(comm, memcmp(found.zstd, whole.zstd, N * Z * sizeof(float)) == 0);
    CHECK(comm, memcmp(found.loss, whole.loss, N * sizeof(float)) == 0);
    CHECK(comm, memcmp(found.mirrored, whole.mirrored, N) == 0);
    /* one rank's failure is everyone's, and the file stays as it was */
    const int last = het_comm_rank(comm) == het_comm_size(comm) - 1;
    const het_status mine = last ? het_fail(HET_E_NUMERIC, "made up") : HET_OK;
    CHECK(comm, het_predictions_save(comm, path, N, first, &part, mine) == HET_E_NUMERIC);
    CHECK(comm, access(path, F_OK) == 0);
    het_predictions_free(&part);
    het_predictions_free(&whole);
    het_predictions_free(&found);
    het_comm_close(comm);
    return het_arena_live() == 0 ? 0 : 1;
}
