/* What sums over ranks cost, by their size: for the alpha-beta model of scaling_model.py.
 *
 *   mpirun -np N bench_allreduce [most bytes] [tree]
 *       Sums of floats of 4 bytes, 16, 64, ... up to 64 MiB, as training takes them, or with `tree` those of --deterministic.
 *       One line of JSON: ranks, and for each size bytes and seconds, the median of samples that rank 0 took. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "../src/arena.h"
#include "../src/clock.h"
#include "../src/mpi/comm.h"

enum { SAMPLES = 31 };

static void check(het_comm *comm, het_status status)
{
    if (status == HET_OK) return;
    fprintf(stderr, "bench_allreduce: %s\n", het_status_message());
    het_comm_abort(comm, 1);
}

static int ascending(const void *a, const void *b)
{
    const double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

/* As training takes them: started, and waited for. Those of --deterministic are not started before they are waited for. */
static void sum(het_comm *comm, float *data, size_t count)
{
    if (het_comm_fixed(comm)) {
        check(comm, het_comm_sum_f32(comm, data, count));
    } else {
        check(comm, het_comm_sum_start(comm, data, count));
        check(comm, het_comm_sum_wait(comm));
    }
}

/* Median of the seconds for one sum: small ones many at a time, since a barrier costs as much as they. */
static double measure(het_comm *comm, float *data, size_t count)
{
    double seconds[SAMPLES];
    const int64_t times = count < 4096 ? 50 : 1;
    const int samples = count < ((size_t)1 << 20) ? SAMPLES : 5;
    for (int sample = -1; sample < samples; sample++) {
        check(comm, het_comm_barrier(comm));
        const double began = het_seconds();
        for (int64_t i = 0; i < times; i++) sum(comm, data, count);
        if (sample >= 0) seconds[sample] = (het_seconds() - began) / (double)times;
    }
    qsort(seconds, (size_t)samples, sizeof *seconds, ascending);
    return seconds[samples / 2];
}

int main(int argc, char **argv)
{
    het_comm *comm;
    if (het_comm_open(&comm, &argc, &argv) != HET_OK) return 1;
    const size_t most = argc > 1 ? strtoull(argv[1], NULL, 10) : (size_t)64 << 20;
    const int tree = argc > 2 && strcmp(argv[2], "tree") == 0, root = het_comm_rank(comm) == 0;
    float *data = het_alloc(most);
    check(comm, data == NULL ? het_fail(HET_E_MEMORY, "no memory for %zu bytes", most) : HET_OK);
    if (tree) check(comm, het_comm_fix(comm, het_comm_size(comm)));
    if (root) printf("{\"ranks\": %d, \"tree\": %s, \"sums\": [", het_comm_size(comm), tree ? "true" : "false");
    for (size_t bytes = 4; bytes <= most; bytes *= 4) {
        const double seconds = measure(comm, data, bytes / sizeof *data);
        if (root) printf("%s[%zu, %.4g]", bytes > 4 ? ", " : "", bytes, seconds);
    }
    if (root) printf("]}\n");
    het_release(data);
    het_comm_close(comm);
    return 0;
}
