/* The particle stack in one process: what is written is read, damaged files are refused by name, failed
 * writes leave nothing behind. */
#include <dirent.h>
#include <fcntl.h>
#include <math.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cmocka.h>

#include "../src/arena.h"
#include "../src/data/h5.h"
#include "../src/data/open_files.h"
#include "../src/data/stack.h"
#include "../src/rng.h"

enum { N = 37, D = 12, PIXELS = D * D };

static het_comm *comm;
static char folder[64];
static float images[N * PIXELS];
static het_ctf_row ctf[N];
static float rotation[N * 9], shift[N * 2], z[N];
static int64_t klass[N];
static const het_stack_truth truth = {rotation, shift, klass, z};

static const char *in_folder(const char *name)
{
    static char path[4][128];
    static int turn;
    turn = (turn + 1) % 4;
    snprintf(path[turn], sizeof path[turn], "%s/%s", folder, name);
    return path[turn];
}

static int begin(void **state)
{
    (void)state;
    int argc = 0;
    char **argv = NULL;
    strcpy(folder, "/tmp/het-stack-XXXXXX");
    if (mkdtemp(folder) == NULL || het_comm_open(&comm, &argc, &argv) != HET_OK) return 1;
    for (int i = 0; i < N * PIXELS; i++) {
        het_rng rng = het_rng_at(1, HET_STREAM_NOISE, 0, (uint64_t)i);
        images[i] = 3.0f + 2.0f * het_rng_normal(&rng);
    }
    for (int i = 0; i < N; i++) {
        ctf[i] = (het_ctf_row){1e4f + (float)i, 1.1e4f, 0.1f * (float)i, 3e5f, 2.7e7f, 0.07f, 0.0f};
        for (int j = 0; j < 9; j++) rotation[9 * i + j] = (float)(10 * i + j);
        shift[2 * i] = (float)i;
        shift[2 * i + 1] = (float)-i;
        klass[i] = i % 3;
        z[i] = 0.25f * (float)i;
    }
    return 0;
}

static int end(void **state)
{
    (void)state;
    char command[100];
    snprintf(command, sizeof command, "rm -r %s", folder);
    het_comm_close(comm);
    return system(command);
}

static void assert_message(const char *part)
{
    if (strstr(het_status_message(), part) == NULL)
        fail_msg("\"%s\" lacks \"%s\"", het_status_message(), part);
}

static void assert_ok(het_status status)
{
    if (status != HET_OK) fail_msg("status %d: %s", (int)status, het_status_message());
}

static het_stack_info information(het_dtype type, int64_t count)
{
    return (het_stack_info){.count = count,
                            .box = D,
                            .apix = 1.25,
                            .type = type,
                            .shift_range = 2.5,
                            .has_truth = 1,
                            .has_source = 1,
                            .recentred = 1};
}

static void write_stack(const char *path, het_dtype type, int64_t from, int64_t count)
{
    static const char *const files[] = {"a.star", "longer/name.mrcs"};
    const het_stack_info info = information(type, count);
    const het_stack_truth rows = {rotation + 9 * from, shift + 2 * from, klass + from, z + from};
    het_stack_writer *writer;
    int64_t source[N][2];
    for (int i = 0; i < N; i++) source[i][0] = i % 3 - 1, source[i][1] = 100 + i;
    assert_ok(het_stack_create(&writer, comm, path, &info));
    assert_ok(het_stack_write(writer, 0, count, images + from * PIXELS, ctf + from, &rows));
    assert_ok(het_stack_write_source(writer, 2, files, 0, count, source[0]));
    assert_ok(het_stack_write_moved(writer, 0, count, shift + 2 * from));
    assert_ok(het_stack_finish(writer, -1, HET_OK));
}

static void round_trip(het_dtype type, float tolerance)
{
    het_stack *stack;
    const char *path = in_folder("a.h5");
    static float read[N * PIXELS], standard[N * PIXELS], r[9 * 4], t[2 * 4], c[4];
    int64_t index[N], k[4], row = -1;
    static het_ctf_row rows[N];
    const char *file = NULL;
    write_stack(path, type, 0, N);
    assert_int_equal(access(in_folder("a.h5.tmp"), F_OK), -1);
    assert_ok(het_stack_open(&stack, path));
    const het_stack_info *info = het_stack_get_info(stack);
    assert_int_equal(info->count, N);
    assert_int_equal(info->box, D);
    assert_int_equal(info->type, type);
    assert_int_equal(info->sign, -1);
    assert_true(info->apix == 1.25 && info->shift_range == 2.5);
    for (int i = 0; i < N; i++) index[i] = i;
    assert_ok(het_stack_read_ctf(stack, rows, index, N));
    assert_memory_equal(rows, ctf, sizeof ctf);
    for (int i = 0; i < N; i++) index[i] = i % 2 ? i : (i * 7) % N; /* runs and jumps */
    assert_ok(het_stack_read(stack, read, index, N));
    assert_ok(het_stack_read_standardised(stack, standard, index, N));
    double sum = 0, square = 0;
    for (int i = 0; i < N; i++) {
        for (int j = 0; j < PIXELS; j++) {
            const float x = images[index[i] * PIXELS + j], stored = read[i * PIXELS + j];
            assert_true(fabsf(stored - x) <= tolerance * fabsf(x));
            assert_true(standard[i * PIXELS + j] == (float)((stored - info->mean) / info->std));
        }
    }
    for (int i = 0; i < N * PIXELS; i++) sum += images[i];
    for (int i = 0; i < N * PIXELS; i++) square += pow(images[i] - sum / (N * PIXELS), 2);
    const double slack = 1e-12 + 0.1 * (double)tolerance;
    assert_true(fabs(info->mean - sum / (N * PIXELS)) < slack);
    assert_true(fabs(info->std - sqrt(square / (N * PIXELS))) < slack);
    const het_stack_truth some = {r, t, k, c};
    assert_ok(het_stack_read_truth(stack, 5, 4, &some));
    assert_memory_equal(r, rotation + 45, sizeof r);
    assert_memory_equal(t, shift + 10, sizeof t);
    assert_memory_equal(k, klass + 5, sizeof k);
    assert_memory_equal(c, z + 5, sizeof c);
    assert_ok(het_stack_source(stack, 2, &file, &row));
    assert_string_equal(file, "longer/name.mrcs");
    assert_int_equal(row, 102);
    assert_int_equal(het_stack_source(stack, 0, &file, &row), HET_E_INPUT);
    double moved[2];
    assert_ok(het_stack_moved(stack, 3, moved));
    assert_true(info->recentred && moved[0] == (double)shift[6] && moved[1] == (double)shift[7]);
    het_stack_close(stack);
}

static void float32_round_trip(void **state)
{
    (void)state;
    round_trip(HET_F32, 0.0f);
}

static void float16_round_trip(void **state)
{
    (void)state;
    round_trip(HET_F16, 0x1p-11f);
}

static void write_text(const char *path, const char *text)
{
    FILE *file = fopen(path, "w");
    assert_non_null(file);
    fputs(text, file);
    fclose(file);
}

static void assert_same_images(const het_stack *stack, const het_stack *whole, const int64_t *index, int n)
{
    static float a[N * PIXELS], b[N * PIXELS];
    assert_ok(het_stack_read_standardised(stack, a, index, n));
    assert_ok(het_stack_read_standardised(whole, b, index, n));
    assert_memory_equal(a, b, (size_t)n * PIXELS * sizeof *a);
}

/* As if they were in one file, to the bit. */
static void a_list_of_stacks(void **state)
{
    (void)state;
    const int64_t index[] = {9, 10, 11, 12, 36, 0};
    float t[2 * 4];
    double moved[2];
    const char *file;
    int64_t row;
    het_ctf_row rows[6];
    het_stack *stack, *whole;
    write_stack(in_folder("a.h5"), HET_F32, 0, N);
    write_stack(in_folder("p1.h5"), HET_F32, 0, 11);
    write_stack(in_folder("p2.h5"), HET_F32, 11, N - 12);
    write_stack(in_folder("p3.h5"), HET_F32, N - 1, 1);
    write_text(in_folder("list.txt"), "# parts\np1.h5\n\n  p2.h5 \r\np3.h5");
    assert_ok(het_stack_open(&stack, in_folder("list.txt")));
    assert_ok(het_stack_open(&whole, in_folder("a.h5")));
    const het_stack_info *info = het_stack_get_info(stack), *wanted = het_stack_get_info(whole);
    assert_int_equal(info->count, N);
    assert_int_equal(info->files, 3);
    assert_memory_equal(&info->mean, &wanted->mean, sizeof info->mean);
    assert_memory_equal(&info->std, &wanted->std, sizeof info->std);
    assert_same_images(stack, whole, index, 6);
    assert_ok(het_stack_read_ctf(stack, rows, index, 6));
    for (int i = 0; i < 6; i++) assert_memory_equal(&rows[i], &ctf[index[i]], sizeof rows[i]);
    assert_ok(het_stack_read_truth(stack, 9, 4, &(het_stack_truth){.shift = t}));
    assert_memory_equal(t, shift + 18, sizeof t);
    assert_ok(het_stack_source(stack, 11 + 2, &file, &row));
    assert_string_equal(file, "longer/name.mrcs");
    assert_int_equal(row, 102);
    assert_ok(het_stack_moved(stack, N - 1, moved));
    assert_true(moved[0] == (double)shift[2 * (N - 1)]);
    het_stack_close(stack);
    het_stack_close(whole);
}

/* Parts that do not tell their images' moments: to rounding. */
static void a_list_of_older_stacks(void **state)
{
    (void)state;
    het_stack *stack, *whole;
    write_stack(in_folder("a.h5"), HET_F32, 0, N);
    write_stack(in_folder("p1.h5"), HET_F32, 0, 11);
    write_stack(in_folder("p2.h5"), HET_F32, 11, N - 11);
    const hid_t handle = H5Fopen(in_folder("p1.h5"), H5F_ACC_RDWR, H5P_DEFAULT);
    assert_true(H5Ldelete(handle, "/moments", H5P_DEFAULT) >= 0);
    H5Fclose(handle);
    write_text(in_folder("list.txt"), "p1.h5\np2.h5\n");
    assert_ok(het_stack_open(&stack, in_folder("list.txt")));
    assert_ok(het_stack_open(&whole, in_folder("a.h5")));
    assert_true(fabs(het_stack_get_info(stack)->mean - het_stack_get_info(whole)->mean) < 1e-12);
    assert_true(fabs(het_stack_get_info(stack)->std - het_stack_get_info(whole)->std) < 1e-12);
    het_stack_close(stack);
    het_stack_close(whole);
}

static int open_files(void)
{
    int count = 0;
    DIR *here = opendir("/proc/self/fd");
    for (struct dirent *entry; (entry = readdir(here)) != NULL;) count += entry->d_name[0] != '.';
    closedir(here);
    return count;
}

/* Few files are open at a time, and every image is found. */
static void a_list_of_many_stacks(void **state)
{
    (void)state;
    enum { FILES = 3 * HET_FILES_OPEN };
    char text[FILES * 16] = "";
    static float read[PIXELS];
    het_stack *stack;
    write_stack(in_folder("p.h5"), HET_F32, 3, 2);
    for (int i = 0; i < FILES; i++) snprintf(text + strlen(text), 16, "p%d.h5\n", i);
    for (int i = 0; i < FILES; i++) {
        char name[16];
        snprintf(name, sizeof name, "p%d.h5", i);
        unlink(in_folder(name));
        assert_int_equal(symlink("p.h5", in_folder(name)), 0);
    }
    write_text(in_folder("many.txt"), text);
    const int before = open_files();
    assert_ok(het_stack_open(&stack, in_folder("many.txt")));
    assert_int_equal(open_files(), before);
    for (int64_t i = 0, at = 0; i < 4 * FILES; i++, at = (at + 101) % (2 * FILES)) {
        assert_ok(het_stack_read(stack, read, &at, 1));
        assert_memory_equal(read, images + (3 + at % 2) * PIXELS, sizeof read);
    }
    assert_int_equal(open_files(), before + HET_FILES_OPEN);
    unlink(in_folder("p7.h5")); /* closed by now: the last 64 reads were elsewhere */
    const int64_t lost = 14;
    assert_int_equal(het_stack_read(stack, read, &lost, 1), HET_E_IO);
    assert_message("p7.h5");
    het_stack_close(stack);
    assert_int_equal(open_files(), before);
}

static void lists_that_do_not_fit(void **state)
{
    (void)state;
    het_stack *stack;
    static float read[PIXELS];
    const int64_t index = 12;
    het_stack_info other = information(HET_F32, 2);
    het_stack_writer *writer;
    write_stack(in_folder("p1.h5"), HET_F32, 0, 11);
    write_stack(in_folder("p2.h5"), HET_F32, 11, N - 11);
    other.apix *= 1.5;
    other.has_source = other.recentred = 0;
    assert_ok(het_stack_create(&writer, comm, in_folder("fine.h5"), &other));
    assert_ok(het_stack_write(writer, 0, 2, images, ctf, &truth));
    assert_ok(het_stack_finish(writer, 1, HET_OK));
    write_text(in_folder("list.txt"), "p1.h5\nfine.h5\n");
    assert_int_equal(het_stack_open(&stack, in_folder("list.txt")), HET_E_INPUT);
    assert_message("fine.h5: box 12 at 1.875 A differs from box 12 at 1.25 A in");
    assert_message("p1.h5");
    write_text(in_folder("list.txt"), "# nothing\n");
    assert_int_equal(het_stack_open(&stack, in_folder("list.txt")), HET_E_INPUT);
    assert_message("names no stack");
    write_text(in_folder("list.txt"), "p1.h5\nabsent.h5\n");
    assert_int_equal(het_stack_open(&stack, in_folder("list.txt")), HET_E_IO);
    assert_message("list.txt: ");
    assert_message("absent.h5: cannot open it: No such file");

    /* one that changes after the opening */
    write_text(in_folder("list.txt"), "p1.h5\np2.h5\n");
    assert_ok(het_stack_open(&stack, in_folder("list.txt")));
    assert_ok(het_stack_read(stack, read, &index, 1));
    const struct timespec times[2] = {{.tv_nsec = UTIME_OMIT}, {.tv_sec = 1000000000}};
    assert_int_equal(utimensat(AT_FDCWD, in_folder("p2.h5"), times, 0), 0);
    assert_int_equal(het_stack_read(stack, read, &index, 1), HET_E_INPUT);
    assert_message("p2.h5: the file was changed");
    const int64_t first = 3;
    assert_ok(het_stack_read(stack, read, &first, 1));
    het_stack_close(stack);
}

static void overwrite(const char *path, long offset, const void *data, size_t bytes)
{
    FILE *file = fopen(path, "r+b");
    assert_non_null(file);
    fseek(file, offset, SEEK_SET);
    assert_int_equal(fwrite(data, 1, bytes, file), bytes);
    fclose(file);
}

/* Where a data set lies, for tests that damage it. */
static long place_of(const char *path, const char *name, int rank)
{
    het_h5_input input;
    hid_t set;
    int64_t shape[3], offset;
    assert_ok(het_h5_open(&input, path));
    assert_ok(het_h5_dataset(&input, &set, name, rank, shape, &offset));
    H5Dclose(set);
    het_h5_close(&input);
    return (long)offset;
}

static void damaged_files(void **state)
{
    (void)state;
    het_stack *stack;
    const char *path = in_folder("a.h5");
    static float read[N * PIXELS];
    const float not_a_number = NAN, infinite = INFINITY;
    const int64_t index[] = {16, 17, 3};
    write_stack(path, HET_F32, 0, N);
    const long at_images = place_of(path, "/images", 3), at_ctf = place_of(path, "/ctf", 2);
    overwrite(path, at_images + (17 * PIXELS + PIXELS - 1) * 4, &not_a_number, 4);
    assert_ok(het_stack_open(&stack, path));
    assert_int_equal(het_stack_read(stack, read, index, 3), HET_E_INPUT);
    assert_message("image 17");
    assert_ok(het_stack_read(stack, read, index, 1));
    assert_int_equal(truncate(path, at_images + 16 * PIXELS * 4 + 10), 0);
    assert_int_equal(het_stack_read(stack, read, index, 1), HET_E_INPUT);
    assert_int_equal(het_stack_read_standardised(stack, read, index, 1), HET_E_INPUT);
    assert_message("was changed since");
    het_stack_close(stack);
    assert_int_equal(het_stack_open(&stack, path), HET_E_INPUT);
    assert_null(stack);

    write_stack(path, HET_F32, 0, N);
    overwrite(path, at_ctf + 4 * (7 * 5 + 2), &infinite, 4);
    het_ctf_row row[2];
    const int64_t of[] = {4, 5};
    assert_ok(het_stack_open(&stack, path));
    assert_ok(het_stack_read_ctf(stack, row, of, 1));
    assert_int_equal(het_stack_read_ctf(stack, row, of, 2), HET_E_INPUT);
    assert_message("CTF of image 5");
    het_stack_close(stack);
    overwrite(path, 0, "not HDF5", 8);
    assert_int_equal(het_stack_open(&stack, path), HET_E_INPUT);
    assert_int_equal(het_stack_open(&stack, in_folder("none.h5")), HET_E_IO);
    assert_message("No such file");
    assert_int_equal(het_stack_open(&stack, folder), HET_E_INPUT);
}

static void bad_pixels_are_not_written(void **state)
{
    (void)state;
    static float bad[2 * PIXELS];
    const het_stack_info info = information(HET_F16, 2);
    het_stack_writer *writer;
    bad[PIXELS + 3] = 1e5f;
    unlink(in_folder("b.h5"));
    assert_ok(het_stack_create(&writer, comm, in_folder("b.h5"), &info));
    assert_int_equal(het_stack_write(writer, 0, 2, bad, ctf, NULL), HET_E_INPUT);
    assert_message("image 1");
    assert_message("65504");
    /* even if the caller has not noticed */
    assert_int_equal(het_stack_finish(writer, 1, HET_OK), HET_E_INPUT);
    assert_int_equal(access(in_folder("b.h5"), F_OK), -1);
    assert_int_equal(access(in_folder("b.h5.tmp"), F_OK), -1);
}

static void unfinished_stacks_vanish(void **state)
{
    (void)state;
    const het_stack_info info = information(HET_F32, N);
    het_stack_writer *writer;
    write_stack(in_folder("a.h5"), HET_F32, 0, 5);
    assert_ok(het_stack_create(&writer, comm, in_folder("a.h5"), &info));
    assert_ok(het_stack_write(writer, 0, 20, images, ctf, &truth));
    assert_int_equal(het_stack_finish(writer, 1, HET_OK), HET_E_SHAPE);
    assert_message("20 images were written where 37");
    assert_ok(het_stack_create(&writer, comm, in_folder("a.h5"), &info));
    assert_int_equal(het_stack_finish(writer, 1, het_fail(HET_E_NUMERIC, "mine")), HET_E_NUMERIC);
    assert_message("mine");
    assert_int_equal(access(in_folder("a.h5.tmp"), F_OK), -1);
    het_stack *stack; /* the older file is still there */
    assert_ok(het_stack_open(&stack, in_folder("a.h5")));
    assert_int_equal(het_stack_get_info(stack)->count, 5);
    het_stack_close(stack);
}

static void full_disk_and_missing_folder(void **state)
{
    (void)state;
    struct rlimit before, small;
    const het_stack_info info = information(HET_F32, N);
    het_stack_writer *writer;
    assert_int_equal(het_stack_create(&writer, comm, in_folder("none/b.h5"), &info), HET_E_IO);
    assert_message("No such file");
    signal(SIGXFSZ, SIG_IGN);
    getrlimit(RLIMIT_FSIZE, &before);
    small = before;
    small.rlim_cur = 4096;
    setrlimit(RLIMIT_FSIZE, &small);
    const het_status at_create = het_stack_create(&writer, comm, in_folder("b.h5"), &info);
    setrlimit(RLIMIT_FSIZE, &before);
    assert_int_equal(at_create, HET_E_IO);
    assert_message("cannot reserve");
    assert_null(writer);
    assert_int_equal(access(in_folder("b.h5.tmp"), F_OK), -1);

    assert_ok(het_stack_create(&writer, comm, in_folder("b.h5"), &info));
    setrlimit(RLIMIT_FSIZE, &small);
    const het_status at_write = het_stack_write(writer, 0, N, images, ctf, &truth);
    const het_status at_finish = het_stack_finish(writer, 1, at_write);
    setrlimit(RLIMIT_FSIZE, &before);
    assert_int_equal(at_write, HET_E_IO);
    assert_int_equal(at_finish, HET_E_IO);
    assert_message("cannot write /images");
    assert_int_equal(access(in_folder("b.h5"), F_OK), -1);
    assert_int_equal(access(in_folder("b.h5.tmp"), F_OK), -1);
}

static void nothing_leaks(void **state)
{
    (void)state;
    assert_int_equal(het_arena_live(), 1); /* the communicator */
    assert_int_equal(H5Fget_obj_count((hid_t)H5F_OBJ_ALL, H5F_OBJ_ALL), 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(float32_round_trip),         cmocka_unit_test(float16_round_trip),
        cmocka_unit_test(a_list_of_stacks),
        cmocka_unit_test(a_list_of_older_stacks),
        cmocka_unit_test(a_list_of_many_stacks),
        cmocka_unit_test(lists_that_do_not_fit),           cmocka_unit_test(damaged_files),
        cmocka_unit_test(bad_pixels_are_not_written), cmocka_unit_test(unfinished_stacks_vanish),
        cmocka_unit_test(full_disk_and_missing_folder), cmocka_unit_test(nothing_leaks),
    };
    return cmocka_run_group_tests(tests, begin, end);
}
