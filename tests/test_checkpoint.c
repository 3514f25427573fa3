/* Checkpoints in one process: what is saved is loaded, damage is found and named, a failed save changes nothing. */
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
#include "../src/data/checkpoint.h"
#include "../src/data/h5.h"
#include "../src/log.h"

static het_comm *comm;
static char folder[64];
static float weights[6][5];
static uint16_t halves[7];
static int64_t position[1];
static double sums[2][2];
static het_field fields[] = {
    {"model/weights", {weights, HET_F32, 2, {6, 5}}},
    {"model/half", {halves, HET_BF16, 1, {7}}},
    {"position", {position, HET_I64, 1, {1}}},
    {"model/sums", {sums, HET_F64, 2, {2, 2}}},
    {"model/none", {weights, HET_F32, 2, {0, 5}}},
};
enum { FIELDS = sizeof fields / sizeof fields[0] };
static const char json[] = "{\"step\": 12, \"why\": \"because\"}";

static const char *in_folder(const char *name)
{
    static char path[4][128];
    static int turn;
    turn = (turn + 1) % 4;
    snprintf(path[turn], sizeof path[turn], "%s/%s", folder, name);
    return path[turn];
}

static void fill(int start)
{
    for (int i = 0; i < 30; i++) weights[i / 5][i % 5] = (float)(start + i);
    for (int i = 0; i < 7; i++) halves[i] = (uint16_t)(start * 100 + i);
    for (int i = 0; i < 4; i++) sums[i / 2][i % 2] = start + 1.0 / (i + 1);
    position[0] = start;
}

static int empty_folder(void **state)
{
    (void)state;
    char command[150];
    snprintf(command, sizeof command, "rm -rf %s/*", folder);
    fill(1);
    return system(command);
}

static int begin(void **state)
{
    (void)state;
    int argc = 0;
    char **argv = NULL;
    het_log_init(HET_LOG_ERROR, 1);
    strcpy(folder, "/tmp/het-checkpoint-XXXXXX");
    return mkdtemp(folder) == NULL || het_comm_open(&comm, &argc, &argv) != HET_OK;
}

static int end(void **state)
{
    empty_folder(state);
    het_comm_close(comm);
    return rmdir(folder) != 0 || het_arena_live() != 0;
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

static void save(const char *name)
{
    assert_ok(het_checkpoint_save(in_folder(name), fields, FIELDS, json));
}

static long place_of(const char *path, const char *name, int rank)
{
    het_h5_input input;
    hid_t set;
    int64_t shape[4], offset;
    assert_ok(het_h5_open(&input, path));
    assert_ok(het_h5_dataset(&input, &set, name, rank, shape, &offset));
    H5Dclose(set);
    het_h5_close(&input);
    return (long)offset;
}

/* Flip one bit of a file. */
static void damage(const char *path, long offset)
{
    FILE *file = fopen(path, "r+b");
    assert_non_null(file);
    fseek(file, offset, SEEK_SET);
    const int byte = fgetc(file);
    fseek(file, offset, SEEK_SET);
    fputc(byte ^ 16, file);
    fclose(file);
}

static void round_trip(void **state)
{
    (void)state;
    char *text;
    fill(5);
    save("a.h5");
    float kept[6][5];
    memcpy(kept, weights, sizeof kept);
    fill(0);
    assert_ok(het_checkpoint_load(in_folder("a.h5"), fields, FIELDS));
    assert_memory_equal(weights, kept, sizeof kept);
    assert_int_equal(halves[6], 506);
    assert_int_equal(position[0], 5);
    assert_true(sums[1][1] == 5.25);
    assert_ok(het_checkpoint_json(in_folder("a.h5"), &text));
    assert_string_equal(text, json);
    free(text);
    fill(0);
    assert_ok(het_checkpoint_load(in_folder("a.h5"), fields + 2, 1)); /* some of them */
    assert_int_equal(position[0], 5);
    assert_int_equal(halves[6], 6);
    assert_int_equal(access(in_folder("a.h5.tmp"), F_OK), -1);
}

static void what_differs_is_named(void **state)
{
    (void)state;
    char *text;
    save("a.h5");
    const char *path = in_folder("a.h5");
    het_field other = {"model/weights", {weights, HET_F32, 2, {5, 6}}};
    assert_int_equal(het_checkpoint_load(path, &other, 1), HET_E_INPUT);
    assert_message("model/weights has size 6 in dimension 0 where this run has 5");
    other = (het_field){"model/half", {halves, HET_F16, 1, {7}}};
    assert_int_equal(het_checkpoint_load(path, &other, 1), HET_E_INPUT);
    assert_message("model/half has another number type");
    other = (het_field){"position", {position, HET_I64, 2, {1, 1}}};
    assert_int_equal(het_checkpoint_load(path, &other, 1), HET_E_INPUT);
    assert_message("position has 1 dimensions, not 2");
    other = (het_field){"model/bias", {weights, HET_F32, 1, {5}}};
    assert_int_equal(het_checkpoint_load(path, &other, 1), HET_E_INPUT);
    assert_message("model/bias");
    assert_int_equal(het_checkpoint_json(in_folder("none.h5"), &text), HET_E_IO);
    assert_message("No such file");
    assert_null(text);
}

static void damage_is_found_and_named(void **state)
{
    (void)state;
    char *text;
    static const struct {
        const char *name;
        int rank;
        long byte;
    } places[] = {{"model/weights", 2, 119}, {"model/half", 1, 0}, {"position", 1, 3}, {"model/sums", 2, 8}};
    for (size_t i = 0; i < sizeof places / sizeof places[0]; i++) {
        save("step-4.h5");
        const char *path = in_folder("step-4.h5");
        damage(path, place_of(path, places[i].name, places[i].rank) + places[i].byte);
        assert_int_equal(het_checkpoint_load(path, fields, FIELDS), HET_E_INPUT);
        assert_message(places[i].name);
        assert_message("damaged");
        char newest[128];
        assert_int_equal(het_checkpoint_newest(folder, newest, sizeof newest), HET_E_INPUT);
        assert_message("no checkpoint in it is whole");
        assert_string_equal(newest, "");
    }
    save("a.h5");
    const char *path = in_folder("a.h5");
    damage(path, place_of(path, "json", 1) + 4);
    assert_int_equal(het_checkpoint_json(path, &text), HET_E_INPUT);
    assert_message("json is damaged");
    assert_null(text);
}

static void cut_off_files(void **state)
{
    (void)state;
    char *text;
    struct stat info;
    save("a.h5");
    const char *path = in_folder("a.h5");
    assert_int_equal(stat(path, &info), 0);
    for (off_t size = info.st_size - 1; size > 0; size = size * 3 / 4) {
        assert_int_equal(truncate(path, size), 0);
        assert_int_equal(het_checkpoint_load(path, fields, FIELDS), HET_E_INPUT);
        assert_int_equal(het_checkpoint_json(path, &text), HET_E_INPUT);
    }
    het_h5_output output; /* an HDF5 file, but not ours */
    assert_ok(het_h5_begin(&output, comm, path, 4096));
    assert_ok(het_h5_end(&output, HET_OK));
    assert_int_equal(het_checkpoint_load(path, fields, FIELDS), HET_E_INPUT);
    assert_message("no checkpoint");
}

static void the_newest_good_one(void **state)
{
    (void)state;
    char path[128], small[8];
    assert_ok(het_checkpoint_newest(folder, path, sizeof path));
    assert_string_equal(path, "");
    assert_ok(het_checkpoint_newest(in_folder("none"), path, sizeof path));
    assert_string_equal(path, "");
    save("step-9.h5");
    save("step-10.h5");
    save("step-100.h5");
    save("other-200.h5");
    save("step-300x.h5");
    save("step-.h5");
    assert_ok(het_checkpoint_newest(folder, path, sizeof path));
    assert_string_equal(path, in_folder("step-100.h5"));
    assert_int_equal(het_checkpoint_newest(folder, small, sizeof small), HET_E_IO);
    damage(path, place_of(path, "model/weights", 2));
    assert_ok(het_checkpoint_newest(folder, path, sizeof path));
    assert_string_equal(path, in_folder("step-10.h5"));
    assert_int_equal(truncate(path, 2000), 0);
    assert_ok(het_checkpoint_newest(folder, path, sizeof path));
    assert_string_equal(path, in_folder("step-9.h5"));
}

static void assert_there(const char *names)
{
    char found[256] = "", wanted[128], name[32];
    for (int i = 0; i < 100; i++) {
        snprintf(name, sizeof name, "step-%d.h5", i);
        if (access(in_folder(name), F_OK) == 0) snprintf(found + strlen(found), sizeof found - strlen(found), "%d ", i);
    }
    snprintf(wanted, sizeof wanted, "%s ", names);
    assert_string_equal(found, wanted);
}

static void pruning(void **state)
{
    (void)state;
    char name[32];
    for (int i = 8; i < 20; i++) {
        snprintf(name, sizeof name, "step-%d.h5", i);
        fclose(fopen(in_folder(name), "w"));
    }
    save("mine.h5");
    assert_ok(het_checkpoint_prune(folder, 19, 2, 4)); /* the newest two, and every fourth step's */
    assert_there("8 12 16 18 19");
    assert_ok(het_checkpoint_prune(folder, 18, 2, 6)); /* 19: damaged, or the run would be there */
    assert_there("12 16 18");
    assert_ok(het_checkpoint_prune(folder, 18, 1, 0));
    assert_there("18");
    assert_int_equal(access(in_folder("mine.h5"), F_OK), 0);
    assert_ok(het_checkpoint_prune(in_folder("none"), 1, 2, 0));
    fclose(fopen(in_folder("step-7.h5.tmp"), "w"));
    assert_ok(het_checkpoint_clean(folder));
    assert_int_equal(access(in_folder("step-7.h5.tmp"), F_OK), -1);
    assert_there("18");
}

/* A full disk is imitated by a limit on the size of files. */
static void a_failed_save_keeps_the_older_file(void **state)
{
    (void)state;
    struct rlimit before, small;
    signal(SIGXFSZ, SIG_IGN);
    fill(3);
    save("step-1.h5");
    getrlimit(RLIMIT_FSIZE, &before);
    for (rlim_t limit = 0; limit < 65536; limit = limit * 2 + 512) {
        fill(8);
        small = before;
        small.rlim_cur = limit;
        setrlimit(RLIMIT_FSIZE, &small);
        const het_status status = het_checkpoint_save(in_folder("step-1.h5"), fields, FIELDS, json);
        setrlimit(RLIMIT_FSIZE, &before);
        assert_int_equal(status, HET_E_IO);
        assert_message("File too large");
        assert_int_equal(access(in_folder("step-1.h5.tmp"), F_OK), -1);
        assert_ok(het_checkpoint_load(in_folder("step-1.h5"), fields, FIELDS));
        assert_int_equal(position[0], 3);
    }
    assert_int_equal(het_checkpoint_save(in_folder("none/step-1.h5"), fields, FIELDS, json), HET_E_IO);
    assert_message("No such file");
    save("step-1.h5"); /* and then it works again */
}

int main(void)
{
#define EMPTY(test) cmocka_unit_test_setup(test, empty_folder)
    const struct CMUnitTest tests[] = {
        EMPTY(round_trip),    EMPTY(what_differs_is_named), EMPTY(damage_is_found_and_named),
        EMPTY(cut_off_files), EMPTY(the_newest_good_one),   EMPTY(pruning),
        EMPTY(a_failed_save_keeps_the_older_file),
    };
    return cmocka_run_group_tests(tests, begin, end);
}
