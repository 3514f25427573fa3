/* Stacks written by several ranks: the same bytes as from one rank; errors of one reach all. */
#include <signal.h>
#include <stdlib.h>
#include <sys/resource.h>
#include <unistd.h>

#include "../src/arena.h"
#include "../src/data/h5.h"
#include "../src/data/loader.h"
#include "../src/data/stack.h"
#include "../src/rng.h"
#include "mpi_check.h"

enum { N = 41, D = 10, PIXELS = D * D };

static char folder[64];

static const char *in_folder(const char *name)
{
    static char path[4][128];
    static int turn;
    turn = (turn + 1) % 4;
    snprintf(path[turn], sizeof path[turn], "%s/%s", folder, name);
    return path[turn];
}

static float pixel(int64_t image, int64_t i)
{
    het_rng rng = het_rng_at(3, HET_STREAM_NOISE, (uint64_t)image, (uint64_t)i);
    return het_rng_normal(&rng);
}

/* Each rank writes its share in pieces of 7, so that some ranks come to the last calls with nothing. */
static het_status write_stack(het_comm *comm, const char *path, het_dtype type, int spoil)
{
    static float images[7 * PIXELS];
    static const char *const files[] = {"x.mrcs", "long name.mrcs"};
    het_ctf_row ctf[7] = {{0}};
    float shift[14], moved[2 * N];
    int64_t rows[N][2], first, count;
    const het_stack_info info = {
        .count = N, .box = D, .apix = 2, .type = type, .has_truth = 1, .has_source = 1, .recentred = 1};
    het_stack_writer *writer;
    het_status status = het_stack_create(&writer, comm, path, &info);
    if (status != HET_OK) return status;
    het_comm_share(comm, N, &first, &count);
    for (int64_t call = 0; call < 6 && status == HET_OK; call++) {
        const int64_t from = call * 7 < count ? call * 7 : count, n = count - from < 7 ? count - from : 7;
        for (int64_t i = 0; i < n; i++) {
            const int64_t image = first + from + i;
            for (int64_t k = 0; k < PIXELS; k++) images[i * PIXELS + k] = pixel(image, k);
            if (image == spoil) images[i * PIXELS] *= 1e30f;
            ctf[i].defocus_u = (float)image;
            shift[2 * i] = shift[2 * i + 1] = (float)image;
        }
        status = het_stack_write(writer, first + from, n, images, ctf, &(het_stack_truth){.shift = shift});
    }
    for (int64_t i = 0; i < count; i++) rows[i][0] = (first + i) % 2, rows[i][1] = first + i;
    if (status == HET_OK) status = het_stack_write_source(writer, 2, files, first, count, rows[0]);
    for (int64_t i = 0; i < count; i++) moved[2 * i] = moved[2 * i + 1] = (float)(first + i);
    if (status == HET_OK) status = het_stack_write_moved(writer, first, count, moved);
    return het_stack_finish(writer, 1, status);
}

static void check_stack(het_comm *comm, const char *path)
{
    static float images[N * PIXELS];
    float shift[2 * N];
    double moved[2];
    int64_t index[N], row;
    const char *file;
    het_stack *stack;
    het_ctf_row rows[N];
    CHECK_OK(comm, het_stack_open_together(&stack, comm, path));
    CHECK(comm, het_stack_get_info(stack)->count == N);
    for (int64_t i = 0; i < N; i++) index[i] = i;
    CHECK_OK(comm, het_stack_read(stack, images, index, N));
    CHECK_OK(comm, het_stack_read_truth(stack, 0, N, &(het_stack_truth){.shift = shift}));
    CHECK_OK(comm, het_stack_read_ctf(stack, rows, index, N));
    const int exact = het_stack_get_info(stack)->type == HET_F32;
    for (int64_t i = 0; i < N; i++) {
        for (int64_t k = 0; k < PIXELS; k++) {
            const float error = images[i * PIXELS + k] - pixel(i, k);
            CHECK(comm, exact ? error == 0 : error < 0.003f && error > -0.003f);
        }
        CHECK(comm, rows[i].defocus_u == (float)i && shift[2 * i] == (float)i);
        CHECK_OK(comm, het_stack_source(stack, i, &file, &row));
        CHECK(comm, row == i && strcmp(file, i % 2 ? "long name.mrcs" : "x.mrcs") == 0);
        CHECK_OK(comm, het_stack_moved(stack, i, moved));
        CHECK(comm, moved[0] == (double)i && moved[1] == (double)i);
    }
    het_stack_close(stack);
}

/* One rank keeps its files in the folder given on the command line; more ranks must have written the same bytes. */
static void check_same_bytes(het_comm *comm, const char *name, const char *kept_folder)
{
    char kept[256], command[600];
    if (kept_folder == NULL || het_comm_rank(comm) != 0) return;
    snprintf(kept, sizeof kept, "%s/het-mpi-%s", kept_folder, name);
    const char *program = het_comm_size(comm) == 1 ? "cp" : "cmp";
    snprintf(command, sizeof command, "%s %s %s", program, in_folder(name), kept);
    CHECK(comm, system(command) == 0);
}

static void stacks(het_comm *comm, const char *kept)
{
    CHECK_OK(comm, write_stack(comm, in_folder("f32.h5"), HET_F32, -1));
    CHECK_OK(comm, write_stack(comm, in_folder("f16.h5"), HET_F16, -1));
    check_stack(comm, in_folder("f32.h5"));
    check_stack(comm, in_folder("f16.h5"));
    check_same_bytes(comm, "f32.h5", kept);
    check_same_bytes(comm, "f16.h5", kept);
    /* one rank meets a bad image: all leave, and the older file stays */
    CHECK(comm, write_stack(comm, in_folder("f16.h5"), HET_F16, N - 1) == HET_E_INPUT);
    CHECK_MESSAGE(comm, "image 40");
    CHECK(comm, access(in_folder("f16.h5.tmp"), F_OK) != 0);
    check_stack(comm, in_folder("f16.h5"));
    CHECK(comm, write_stack(comm, in_folder("none/f16.h5"), HET_F16, -1) == HET_E_IO);
    CHECK_MESSAGE(comm, "No such file");
    CHECK_OK(comm, het_comm_barrier(comm));
}

/* The images of a step do not depend on the number of ranks: together they are the batch that one rank would read. */
static void batches(het_comm *comm)
{
    enum { BATCH = 8 };
    het_stack *stack;
    het_loader *loader;
    het_batch batch;
    CHECK_OK(comm, het_stack_open(&stack, in_folder("f32.h5")));
    CHECK_OK(comm, het_loader_new(&loader, stack, comm, 11, BATCH, (het_images){0}));
    int64_t order[N];
    for (int64_t i = 0; i < N; i++) order[i] = i;
    het_rng rng = het_rng_at(11, HET_STREAM_SHUFFLE, 1, 0);
    for (int64_t i = N - 1; i > 0; i--) {
        const int64_t j = (int64_t)het_rng_below(&rng, (uint64_t)i + 1), kept = order[i];
        order[i] = order[j];
        order[j] = kept;
    }
    int64_t seen[BATCH] = {0};
    CHECK_OK(comm, het_loader_next(loader, N / BATCH + 2, &batch)); /* epoch 1, batch 2 */
    for (int64_t i = 0; i < batch.count; i++) seen[batch.first + i] += batch.index[i] + 1;
    CHECK_OK(comm, het_comm_sum_i64(comm, seen, BATCH));
    for (int64_t i = 0; i < BATCH; i++) CHECK(comm, seen[i] == order[2 * BATCH + i] + 1);
    het_loader_free(loader);
    het_stack_close(stack);
}

/* A full disk, imitated on one rank and then on all. */
static void full_disk(het_comm *comm)
{
    struct rlimit before, small;
    getrlimit(RLIMIT_FSIZE, &before);
    small = before;
    small.rlim_cur = 4096;
    for (int who = 0; who < 2; who++) {
        het_h5_output output;
        if (who == 1 || het_comm_rank(comm) == 0) setrlimit(RLIMIT_FSIZE, &small);
        const het_status begun = het_h5_begin(&output, comm, in_folder("full.h5"), 65536);
        CHECK(comm, het_h5_end(&output, begun) == HET_E_IO);
        setrlimit(RLIMIT_FSIZE, &before);
        CHECK_MESSAGE(comm, "File too large");
    }
    CHECK(comm, access(in_folder("full.h5"), F_OK) != 0);
    CHECK_OK(comm, het_comm_barrier(comm));
}

int main(int argc, char **argv)
{
    het_comm *comm;
    if (het_comm_open(&comm, &argc, &argv) != HET_OK) return 1;
    signal(SIGXFSZ, SIG_IGN);
    if (het_comm_rank(comm) == 0) {
        strcpy(folder, "/tmp/het-mpi-XXXXXX");
        CHECK(comm, mkdtemp(folder) != NULL);
    }
    CHECK_OK(comm, het_comm_broadcast(comm, folder, sizeof folder, 0));
    const char *kept = argc > 1 ? argv[1] : NULL;
    stacks(comm, kept);
    batches(comm);
    full_disk(comm);
    if (het_comm_rank(comm) == 0) {
        char command[100];
        snprintf(command, sizeof command, "rm -r %s", folder);
        CHECK(comm, system(command) == 0);
    }
    het_comm_close(comm);
    return het_arena_live() != 0;
}
