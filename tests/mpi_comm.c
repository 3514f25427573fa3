/* The communicator on any number of ranks. */
#include <stdlib.h>

#include "../src/arena.h"
#include "mpi_check.h"

static void check_ranks(het_comm *comm)
{
    const int rank = het_comm_rank(comm), size = het_comm_size(comm);
    CHECK(comm, rank >= 0 && rank < size);
    CHECK(comm, het_comm_local_rank(comm) >= 0 && het_comm_local_rank(comm) < het_comm_local_size(comm));
    int64_t ranks = rank, nodes = het_comm_local_rank(comm) == 0;
    CHECK_OK(comm, het_comm_sum_i64(comm, &ranks, 1));
    CHECK_OK(comm, het_comm_sum_i64(comm, &nodes, 1));
    CHECK(comm, ranks == size * (size - 1) / 2);
    CHECK(comm, nodes >= 1 && nodes <= size);
    CHECK(comm, het_comm_native(comm) != NULL);
    CHECK_OK(comm, het_comm_barrier(comm));
}

static void check_collectives(het_comm *comm)
{
    const int rank = het_comm_rank(comm), size = het_comm_size(comm), last = size - 1;
    enum { N = 1000 };
    float f[N];
    double d[N];
    int64_t greatest[2] = {rank, -rank};
    for (int i = 0; i < N; i++) f[i] = (float)(rank + i), d[i] = 0.5 * rank + i;
    CHECK_OK(comm, het_comm_sum_f32(comm, f, N));
    CHECK_OK(comm, het_comm_sum_f64(comm, d, N));
    CHECK_OK(comm, het_comm_max_i64(comm, greatest, 2));
    const double ranks = 0.5 * size * (size - 1);
    for (int i = 0; i < N; i++) {
        CHECK(comm, f[i] == (float)(ranks + i * size));
        CHECK(comm, d[i] == 0.5 * ranks + i * size);
    }
    CHECK(comm, greatest[0] == last && greatest[1] == 0);
    char text[6] = "";
    if (rank == last) strcpy(text, "hello");
    CHECK_OK(comm, het_comm_broadcast(comm, text, sizeof text, last));
    CHECK(comm, strcmp(text, "hello") == 0);
    CHECK_OK(comm, het_comm_broadcast(comm, NULL, 0, 0));
    int32_t mine[3] = {rank, 10 * rank, -rank},
            *all = rank == last ? malloc(sizeof mine * (size_t)size) : NULL;
    CHECK_OK(comm, het_comm_gather(comm, all, mine, sizeof mine, last));
    for (int i = 0; rank == last && i < size; i++)
        CHECK(comm, all[3 * i] == i && all[3 * i + 1] == 10 * i && all[3 * i + 2] == -i);
    free(all);
}

/* Every rank leaves with the status and words of the lowest rank that failed. */
static void check_agree(het_comm *comm)
{
    const int rank = het_comm_rank(comm), size = het_comm_size(comm);
    CHECK_OK(comm, het_comm_agree(comm, HET_OK));
    het_fail(HET_E_IO, "an older message");
    CHECK_OK(comm, het_comm_agree(comm, HET_OK));
    for (int from = 0; from < size; from++) {
        het_status status = HET_OK;
        char expected[40];
        snprintf(expected, sizeof expected, "100%% of rank %d failed", from);
        if (rank >= from)
            status = het_fail(rank == from ? HET_E_IO : HET_E_NUMERIC, "100%% of rank %d failed", rank);
        CHECK(comm, het_comm_agree(comm, status) == HET_E_IO);
        CHECK(comm, strcmp(het_status_message(), expected) == 0);
    }
}

static void check_sums_in_flight(het_comm *comm)
{
    const int rank = het_comm_rank(comm), size = het_comm_size(comm);
    enum { N = 20000 };
    static float parts[HET_COMM_SUMS][N];
    for (int round = 0; round < 3; round++) {
        for (int k = 0; k < HET_COMM_SUMS; k++) {
            for (int i = 0; i < N; i++) parts[k][i] = (float)(rank * k + i % 7);
            CHECK_OK(comm, het_comm_sum_start(comm, parts[k], N - (size_t)k));
            if (round > 0) het_comm_sum_poll(comm);
        }
        if (round == 1) het_comm_sum_poll(comm);
        CHECK_OK(comm, het_comm_sum_wait(comm));
        for (int k = 0; k < HET_COMM_SUMS; k++)
            for (int i = 0; i < N - k; i++)
                CHECK(comm, parts[k][i] == (float)(size * (size - 1) / 2 * k + size * (i % 7)));
    }
    CHECK_OK(comm, het_comm_sum_wait(comm)); /* nothing in flight */
}

/* Two groups, each with its own sums and errors, which the other one does not see. */
static void check_group(het_comm *comm)
{
    const int rank = het_comm_rank(comm), size = het_comm_size(comm), odd = rank % 2;
    het_comm *group;
    CHECK_OK(comm, het_comm_group(&group, comm, odd));
    CHECK(comm, het_comm_size(group) == (size + 1 - odd) / 2 && het_comm_rank(group) == rank / 2);
    for (int i = 0; i <= 3 * odd; i++) { /* not as often in both */
        int64_t sum = rank;
        CHECK_OK(comm, het_comm_sum_i64(group, &sum, 1));
        CHECK(comm, sum == odd * (size / 2) * (size / 2) + (1 - odd) * ((size + 1) / 2 - 1) * ((size + 1) / 2));
    }
    const het_status mine = odd && rank / 2 == het_comm_size(group) - 1 ? het_fail(HET_E_IO, "the last odd one failed") : HET_OK;
    CHECK(comm, het_comm_agree(group, mine) == (odd ? HET_E_IO : HET_OK));
    het_comm_group_free(group);
    het_comm_group_free(NULL);
}

/* A number of a rank, of many bits, so that sums depend on their order. */
static float number(int rank, size_t i)
{
    uint64_t x = (uint64_t)(i * 64 + (size_t)rank + 1) * 0x9e3779b97f4a7c15u;
    x ^= x >> 29;
    return (float)((double)(x % 2000003) / 1000001.5 - 1.0);
}

/* Whatever the ranks and the length: right, the same bits on all ranks, and again the same bits. */
static void check_sums_of_any_length(het_comm *comm)
{
    static const size_t lengths[] = {1, 2, 3, 4, 5, 7, 1000, 16384, 16385, 100003};
    enum { MOST = 100003 };
    static float sum[MOST], again[MOST], root[MOST];
    const int rank = het_comm_rank(comm), size = het_comm_size(comm);
    for (size_t k = 0; k < sizeof lengths / sizeof *lengths; k++) {
        const size_t n = lengths[k];
        for (size_t i = 0; i < n; i++) sum[i] = again[i] = number(rank, i);
        CHECK_OK(comm, het_comm_sum_start(comm, sum, n));
        CHECK_OK(comm, het_comm_sum_wait(comm));
        CHECK_OK(comm, het_comm_sum_start(comm, again, n / 2)); /* in two pieces at once */
        CHECK_OK(comm, het_comm_sum_start(comm, again + n / 2, n - n / 2));
        CHECK_OK(comm, het_comm_sum_wait(comm));
        for (size_t i = 0; i < n; i++) {
            double right = 0.0;
            for (int r = 0; r < size; r++) right += (double)number(r, i);
            CHECK(comm, sum[i] - right < 1e-6 && right - sum[i] < 1e-6 && again[i] - right < 1e-6 && right - again[i] < 1e-6);
            if (size == 2) CHECK(comm, sum[i] == number(0, i) + number(1, i)); /* the only order there is */
        }
        memcpy(root, sum, n * sizeof *root);
        CHECK_OK(comm, het_comm_broadcast(comm, root, n * sizeof *root, 0));
        CHECK(comm, memcmp(root, sum, n * sizeof *root) == 0);
        for (size_t i = 0; i < n; i++) again[i] = number(rank, i);
        CHECK_OK(comm, het_comm_sum_start(comm, again, n));
        CHECK_OK(comm, het_comm_sum_wait(comm));
        CHECK(comm, memcmp(again, sum, n * sizeof *again) == 0);
    }
}

static void check_share(het_comm *comm)
{
    for (int64_t n = 0; n < 30; n++) {
        int64_t first, count, total, least;
        het_comm_share(comm, n, &first, &count);
        total = count;
        least = -count;
        int64_t most = count, end = first + count;
        CHECK_OK(comm, het_comm_sum_i64(comm, &total, 1));
        CHECK_OK(comm, het_comm_max_i64(comm, &least, 1));
        CHECK_OK(comm, het_comm_max_i64(comm, &most, 1));
        CHECK_OK(comm, het_comm_max_i64(comm, &end, 1));
        CHECK(comm, total == n && end == n && most + least <= 1);
        CHECK(comm, first >= 0 && (het_comm_rank(comm) > 0 || first == 0));
    }
}

/* The last rank's alarm reaches all others, though they are in no call of MPI's. */
static void check_alarm(het_comm *comm)
{
    const int last = het_comm_size(comm) - 1;
    CHECK(comm, !het_comm_alarmed(comm));
    CHECK_OK(comm, het_comm_barrier(comm));
    if (het_comm_rank(comm) == last) het_comm_alarm(comm);
    het_comm_waits(comm, "test");
    while (het_comm_rank(comm) != last && !het_comm_alarmed(comm)) {}
    het_comm_waits(comm, NULL);
    CHECK_OK(comm, het_comm_barrier(comm));
    CHECK(comm, het_comm_alarmed(comm) == (het_comm_rank(comm) != last));
}

int main(int argc, char **argv)
{
    het_comm *comm, *second;
    if (het_comm_open(&comm, &argc, &argv) != HET_OK) return 1;
    check_ranks(comm);
    check_collectives(comm);
    check_agree(comm);
    check_group(comm);
    check_sums_in_flight(comm);
    check_sums_of_any_length(comm);
    check_share(comm);
    check_alarm(comm);
    CHECK_OK(comm, het_comm_open(&second, &argc, &argv)); /* beside the first: MPI goes on until that closes */
    check_ranks(second);
    het_comm_close(second);
    CHECK_OK(comm, het_comm_barrier(comm));
    het_comm_close(comm);
    het_comm_close(NULL);
    const het_status again = het_comm_open(&comm, &argc, &argv);
    return again != HET_E_PEER || het_arena_live() != 0;
}
