/* Sums along the tree of fixed parts: the same bits on any number of ranks, and those of the tree. */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>

#include "../src/mpi/fold.h"
#include "mpi_check.h"

enum { PARTS = 16, N = (1 << 20) + 7 }; /* more than one piece of a sum, and odd */

/* Numbers whose sum depends on its order. */
static float number(int64_t part, int64_t i)
{
    return 0.37F * (float)((part * 7919 + i * 104729) % 1009 - 500);
}

static float tree(const float *x, int64_t n)
{
    return n == 1 ? x[0] : tree(x, n / 2) + tree(x + n / 2, n / 2);
}

static void check_floats(het_comm *comm)
{
    het_fold fold;
    float *x = malloc(N * sizeof *x);
    int64_t plain = 0;
    CHECK_OK(comm, het_fold_open(&fold, comm, N, sizeof *x));
    for (int round = 0; round < 2; round++) { /* the second begins anew */
        for (int64_t p = 0; p < het_comm_parts(comm); p++) {
            const int64_t part = het_comm_rank(comm) * het_comm_parts(comm) + p;
            for (int64_t i = 0; i < N; i++) x[i] = number(part, i);
            het_fold_add(&fold, x);
        }
        CHECK_OK(comm, het_comm_sum_f32(comm, x, N));
        for (int64_t i = 0; i < N; i += 997) {
            float all[PARTS], row = 0.0F;
            for (int p = 0; p < PARTS; p++) row += all[p] = number(p, i);
            CHECK(comm, x[i] == tree(all, PARTS));
            plain += row == x[i];
        }
    }
    CHECK(comm, plain < 2 * (N / 997) * 9 / 10); /* the order matters */
    het_fold_close(&fold);
    free(x);
}

static void check_doubles(het_comm *comm)
{
    het_fold fold;
    double sum[3];
    CHECK_OK(comm, het_fold_open(&fold, comm, 3, sizeof *sum));
    for (int64_t p = 0; p < het_comm_parts(comm); p++) {
        const double part = (double)(het_comm_rank(comm) * het_comm_parts(comm) + p);
        sum[0] = part;
        sum[1] = 1.0;
        sum[2] = 1.0 / (1.0 + part);
        het_fold_add(&fold, sum);
    }
    CHECK_OK(comm, het_comm_sum_f64(comm, sum, 3));
    CHECK(comm, sum[0] == PARTS * (PARTS - 1) / 2 && sum[1] == PARTS);
    CHECK(comm, fabs(sum[2] - 3.3807289932289932) < 1e-12); /* the 16th harmonic number */
    het_fold_close(&fold);
}

/* Parts follow one another without gaps, their sizes differ by at most one, and a rank's share is its parts. */
static void check_parts(het_comm *comm)
{
    const int64_t parts = het_comm_parts(comm), n = 130;
    int64_t first, count, share, share_count, seen = 0;
    het_comm_share(comm, n, &share, &share_count);
    for (int64_t p = 0; p < parts; p++) {
        het_comm_part(comm, p, n, &first, &count);
        CHECK(comm, first == share + seen && (count == n / PARTS || count == n / PARTS + 1));
        seen += count;
    }
    CHECK(comm, seen == share_count);
    CHECK_OK(comm, het_comm_sum_i64(comm, &seen, 1));
    CHECK(comm, seen == n);
}

static void check_unite(het_comm *comm)
{
    float row[4] = {0};
    row[het_comm_rank(comm)] = -0.0F;
    CHECK_OK(comm, het_comm_unite(comm, row, 4));
    for (int i = 0; i < het_comm_size(comm); i++) CHECK(comm, signbit(row[i]));
}

int main(int argc, char **argv)
{
    het_comm *comm;
    if (het_comm_open(&comm, &argc, &argv) != HET_OK) return 1;
    check_unite(comm);
    CHECK(comm, !het_comm_fixed(comm) && het_comm_parts(comm) == 1);
    if (het_comm_size(comm) == 3) {
        CHECK(comm, het_comm_fix(comm, PARTS) == HET_E_USAGE);
        CHECK(comm, !het_comm_fixed(comm));
    } else {
        CHECK_OK(comm, het_comm_fix(comm, PARTS));
        check_parts(comm);
        check_floats(comm);
        check_doubles(comm);
    }
    het_comm_close(comm);
    return 0;
}
