#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include <cmocka.h>

#include "../src/arena.h"
#include "../src/data/ctf_table.h"

static het_status load(het_ctf_table *table, const char *text)
{
    char path[] = "/tmp/het_ctf_XXXXXX";
    const int file = mkstemp(path);
    assert_true(file >= 0);
    assert_int_equal(write(file, text, strlen(text)), (ssize_t)strlen(text));
    close(file);
    const het_status status = het_ctf_table_load(table, path);
    unlink(path);
    return status;
}

static void one_table_with_counts(void **state)
{
    (void)state;
    het_ctf_table t;
    assert_int_equal(load(&t, "data_\nloop_\n_rlnDefocusU #1\n_rlnDefocusV #2\n_rlnDefocusAngle #3\n_rlnVoltage #4\n"
                              "_rlnSphericalAberration #5\n_rlnAmplitudeContrast #6\n_rlnPhaseShift #7\n"
                              "_rlnParticleCount #8\n"
                              "10000 11000 -90 300 2.7 0.1 45 20\n12000 12500 180 200 2.0 0.07 0 5\n"), HET_OK);
    assert_int_equal(t.count, 2);
    assert_true(t.row[0].defocus_u == 10000.0f && t.row[0].defocus_v == 11000.0f);
    assert_true(fabs(t.row[0].angle + 1.57079633) < 1e-6 && fabs(t.row[0].phase - 0.78539816) < 1e-6);
    assert_true(t.row[0].voltage == 300e3f && fabs(t.row[0].cs - 2.7e7) < 10.0 && t.row[0].amplitude == 0.1f);
    assert_true(t.weight[0] == 20.0 && t.weight[1] == 5.0 && t.row[1].voltage == 200e3f);
    het_ctf_table_free(&t);
}

static void microscope_in_the_optics_table(void **state)
{
    (void)state;
    het_ctf_table t;
    static const char optics[] =
        "data_optics\nloop_\n_rlnOpticsGroup\n_rlnVoltage\n_rlnSphericalAberration\n_rlnAmplitudeContrast\n"
        "1 300 2.7 0.1\n2 200 1.4 0.07\n\n";
    char text[1024];
    snprintf(text, sizeof text, "%sdata_particles\nloop_\n_rlnDefocusU\n_rlnOpticsGroup\n9000 2\n8000 1\n", optics);
    assert_int_equal(load(&t, text), HET_OK);
    assert_true(t.row[0].voltage == 200e3f && t.row[1].voltage == 300e3f && fabs(t.row[0].cs - 1.4e7) < 10.0);
    assert_true(t.row[0].defocus_v == 9000.0f && t.row[0].angle == 0.0f && t.weight[0] == 1.0);
    het_ctf_table_free(&t);
    snprintf(text, sizeof text, "%sdata_particles\nloop_\n_rlnDefocusU\n_rlnOpticsGroup\n9000 2\n8000 3\n", optics);
    assert_int_equal(load(&t, text), HET_E_INPUT);
    assert_non_null(strstr(het_status_message(), "line 15: no rlnVoltage"));
    assert_null(t.row);
}

static void refuses(void **state)
{
    (void)state;
    het_ctf_table t;
    assert_int_equal(het_ctf_table_load(&t, "/nowhere/x.star"), HET_E_IO);
    assert_int_equal(load(&t, "data_\nloop_\n_rlnVoltage\n300\n"), HET_E_INPUT);
    assert_int_equal(load(&t, "data_\nloop_\n_rlnDefocusU\n_rlnVoltage\n_rlnSphericalAberration\n_rlnAmplitudeContrast\n"
                              "100x 300 2.7 0.1\n"), HET_E_INPUT);
    assert_int_equal(load(&t, "data_\nloop_\n_rlnDefocusU\n_rlnVoltage\n_rlnSphericalAberration\n_rlnAmplitudeContrast\n"
                              "1000 300 2.7 1.1\n"), HET_E_INPUT);
    assert_int_equal(het_arena_live(), 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(one_table_with_counts),
        cmocka_unit_test(microscope_in_the_optics_table),
        cmocka_unit_test(refuses),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
