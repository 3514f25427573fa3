/* What a run that goes on knows of the health of the reports before. */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#include "../src/train_report.h"

/* Reports of a run that collapses from the second one on; z stays small after its release. */
static void write_log(const char *path, int lines)
{
    FILE *file = fopen(path, "w");
    assert_non_null(file);
    for (int i = 0; i < lines; i++)
        fprintf(file,
                "{\"step\":%d,\"images\":%d,\"image_loss\":0.9,\"zero_loss\":1.0,\"rotation_spread\":%g,\"z_rms\":0.02,"
                "\"frozen\":%s,\"non_finite\":0,\"health\":%d,\"map_skewness\":1.0}\n",
                i + 1, 30000 * (i + 1), i == 0 ? 5.0 : 0.5, i < 2 ? "true" : "false", i < 4 ? 2 : 2 | HET_HEALTH_COLLAPSE);
    fclose(file);
}

static void health_goes_on(void **state)
{
    (void)state;
    het_run_log log = {0};
    char name[] = "/tmp/het_report_XXXXXX";
    const int handle = mkstemp(name);
    assert_true(handle >= 0);
    close(handle);
    snprintf(log.path, sizeof log.path, "%s", name);

    het_report report = {0};
    het_survey survey = {0};
    write_log(name, 3); /* two bad reports: the next one makes three */
    het_report_recall(&report, &survey, &log);
    assert_int_equal(report.health.collapsed, 2);
    assert_int_equal(report.said, HET_HEALTH_NO_SNR);
    assert_true(survey.floored);
    assert_true(report.health.released == 90000.0);

    report = (het_report){0};
    write_log(name, 6);
    het_report_recall(&report, &survey, &log);
    assert_int_equal(report.said, HET_HEALTH_NO_SNR | HET_HEALTH_COLLAPSE);
    assert_int_equal(report.health.unused, 3);

    report = (het_report){0};
    unlink(name); /* no report yet */
    het_report_recall(&report, &survey, &log);
    assert_int_equal(report.said, 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(health_goes_on)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
