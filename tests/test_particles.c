#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>
#include <zlib.h>

#include <cmocka.h>

#include "../src/arena.h"
#include "../src/data/contrast.h"
#include "../src/data/index.h"
#include "../src/data/mrc.h"
#include "../src/data/particles.h"
#include "../src/log.h"
#include "../src/physics/rotation.h"

enum { BOX = 8, IMAGES = 6 };

static het_comm *comm;
static char folder[] = "/tmp/het_particles_XXXXXX";
static char name[128];
static const het_particles_options plain;
static const double degree = 3.14159265358979323846 / 180.0;

static const char *path_of(const char *file)
{
    snprintf(name, sizeof name, "%s/%s", folder, file);
    return name;
}

static const char *write_text(const char *file, const char *text)
{
    FILE *out = fopen(path_of(file), "w");
    assert_non_null(out);
    fputs(text, out);
    fclose(out);
    return name;
}

/* Image i of the stack is filled with first + i. */
static void write_stack(const char *file, int64_t nx, int64_t ny, int64_t count, float first, float spoilt)
{
    float image[BOX * BOX];
    het_mrc_writer *writer;
    assert_int_equal(het_mrc_create(&writer, path_of(file), HET_F32, nx, ny, count, 2.0), HET_OK);
    for (int64_t i = 0; i < count; i++) {
        for (int64_t k = 0; k < nx * ny; k++) image[k] = first + (float)i;
        if (i == 3) image[nx * ny - 1] += spoilt;
        assert_int_equal(het_mrc_append(writer, image, 1), HET_OK);
    }
    assert_int_equal(het_mrc_finish(writer, HET_OK), HET_OK);
}

#define OPTICS                                                                                               \
    "data_optics\nloop_\n_rlnOpticsGroup\n_rlnVoltage\n_rlnSphericalAberration\n_rlnAmplitudeContrast\n"     \
    "_rlnImagePixelSize\n1 300.0 2.7 0.1 1.5\n2 200.0 1.4 0.07 1.5\n"
#define COLUMNS31                                                                                            \
    "data_particles\nloop_\n_rlnImageName\n_rlnOpticsGroup\n_rlnDefocusU\n_rlnDefocusV\n_rlnDefocusAngle\n"  \
    "_rlnPhaseShift\n_rlnAngleRot\n_rlnAngleTilt\n_rlnAnglePsi\n_rlnOriginXAngst\n_rlnOriginYAngst\n"
#define ROW31 " 15000 14000 30 45 10 20 -30 3.0 -6.0\n"

static het_status load(het_particles *p, const char *text)
{
    return het_particles_load_star(p, write_text("p.star", text), &plain);
}

static void refuse(const char *text, const char *words)
{
    het_particles p;
    assert_int_equal(load(&p, text), HET_E_INPUT);
    assert_non_null(strstr(het_status_message(), words));
    assert_non_null(strstr(het_status_message(), "p.star"));
}

static void relion_31(void **state)
{
    (void)state;
    static const char *const order[2] = {OPTICS "\n" COLUMNS31 "2@a.mrcs 1" ROW31 "000001@a.mrcs 2" ROW31,
                                         COLUMNS31 "2@a.mrcs 1" ROW31 "000001@a.mrcs 2" ROW31 "\n" OPTICS};
    for (int k = 0; k < 2; k++) {
        het_particles p;
        assert_int_equal(load(&p, order[k]), HET_OK);
        assert_int_equal(p.count, 2);
        assert_int_equal(p.file_count, 1);
        assert_int_equal(p.image[0], 1);
        assert_int_equal(p.image[1], 0);
        assert_float_equal(p.apix, 1.5, 1e-12);
        assert_float_equal(p.ctf[0].defocus_u, 15000.0, 0.01);
        assert_float_equal(p.ctf[0].defocus_v, 14000.0, 0.01);
        assert_float_equal(p.ctf[0].angle, 30 * degree, 1e-6);
        assert_float_equal(p.ctf[0].voltage, 3.0e5, 0.1);
        assert_float_equal(p.ctf[0].cs, 2.7e7, 10.0);
        assert_float_equal(p.ctf[0].amplitude, 0.1, 1e-7);
        assert_float_equal(p.ctf[0].phase, 45 * degree, 1e-6);
        assert_float_equal(p.ctf[1].voltage, 2.0e5, 0.1);
        assert_float_equal(p.ctf[1].cs, 1.4e7, 10.0);
        assert_float_equal(p.euler[0], 10 * degree, 1e-12);
        assert_float_equal(p.euler[2], -30 * degree, 1e-12);
        assert_float_equal(p.shift[0], -2.0, 1e-12); /* -origin / apix */
        assert_float_equal(p.shift[1], 4.0, 1e-12);
        het_particles_free(&p);
    }
}

static void relion_30(void **state)
{
    (void)state;
    het_particles p;
    assert_int_equal(
        load(&p, "data_\nloop_\n_rlnImageName\n_rlnDefocusU\n_rlnDefocusV\n_rlnDefocusAngle\n_rlnVoltage\n"
                 "_rlnSphericalAberration\n_rlnAmplitudeContrast\n_rlnMagnification\n_rlnDetectorPixelSize\n"
                 "_rlnOriginX\n_rlnOriginY\n3@a.mrcs 1e4 1e4 0 300 2.7 0.1 38168 5 3.5 -6\n"),
        HET_OK);
    assert_float_equal(p.apix, 5.0e4 / 38168.0, 1e-9);
    assert_float_equal(p.shift[0], -3.5, 1e-12); /* pixels */
    assert_float_equal(p.shift[1], 6.0, 1e-12);
    assert_float_equal(p.ctf[0].phase, 0.0, 0.0);
    assert_null(p.euler);
    het_particles_free(&p);
}

/* Where a point of the volume is seen in the image. The convention was settled with projections that RELION
 * made of a known map: correlation 0.998 with these signs, below 0.5 with any other. The expected numbers are
 * worked out by hand: a turn by rot takes (x, y) to (y, -x); tilt takes (z, x) to (x, -z); psi is a second
 * turn in the image. */
static void poses_keep_their_convention(void **state)
{
    (void)state;
    static const struct {
        const char *angles;
        double point[3], seen[2];
    } cases[] = {
        {"90 0 0 0 0", {10, 0, 0}, {0, -10}}, {"0 0 90 0 0", {10, 0, 0}, {0, -10}},
        {"0 90 0 0 0", {0, 0, 10}, {-10, 0}}, {"0 90 0 0 0", {0, 10, 0}, {0, 10}},
        {"0 90 90 0 0", {0, 0, 10}, {0, 10}}, {"90 90 0 0 0", {0, 10, 5}, {-5, 0}},
        {"0 0 0 4.5 -3", {0, 0, 0}, {-3, 2}}, {"90 0 0 -1.5 0", {10, 0, 0}, {1, -10}},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        char text[1024];
        het_particles p;
        double r[9];
        snprintf(text, sizeof text, "%s%s1@a.mrcs 1 1e4 1e4 0 0 %s\n", OPTICS, COLUMNS31, cases[i].angles);
        assert_int_equal(load(&p, text), HET_OK);
        het_rotation_from_euler(r, p.euler[0], p.euler[1], p.euler[2]);
        for (int k = 0; k < 2; k++) {
            const double *row = r + 3 * k, *v = cases[i].point;
            assert_float_equal(row[0] * v[0] + row[1] * v[1] + row[2] * v[2] + p.shift[k], cases[i].seen[k],
                               1e-9);
        }
        het_particles_free(&p);
    }
}

static void missing_columns_are_named(void **state)
{
    (void)state;
    static const char *const needed[] = {
        "DefocusU", "DefocusV", "DefocusAngle", "Voltage", "SphericalAberration", "AmplitudeContrast"};
    for (size_t i = 0; i < sizeof needed / sizeof *needed; i++) {
        char text[1024] = OPTICS COLUMNS31 "1@a.mrcs 1" ROW31;
        char words[64];
        snprintf(words, sizeof words, "_rln%s\n", needed[i]);
        *(strstr(text, words) + 1) = 'X';
        words[strlen(words) - 1] = '\0';
        refuse(text, words);
        het_particles p; /* without a CTF none of them is needed */
        const het_particles_options no_ctf = {.no_ctf = 1};
        assert_int_equal(het_particles_load_star(&p, name, &no_ctf), HET_OK);
        assert_true(p.ctf[0].voltage == 0.0f);
        het_particles_free(&p);
    }
    refuse("data_\nloop_\n_rlnMicrographName\na.mrc\n", "_rlnImageName");
    refuse(OPTICS "data_particles\nloop_\n_rlnImageName\n1@a.mrcs\n", "_rlnOpticsGroup");
    refuse("data_\nloop_\n_rlnImageName\n_rlnDefocusU\n_rlnDefocusV\n_rlnDefocusAngle\n_rlnVoltage\n"
           "_rlnSphericalAberration\n_rlnAmplitudeContrast\n1@a.mrcs 1 1 1 300 2.7 .1\n",
           "--apix");
    refuse(OPTICS COLUMNS31, "empty");
}

static void bad_rows_are_named(void **state)
{
    (void)state;
    refuse(OPTICS COLUMNS31 "a.mrcs 1" ROW31, "line 23: image name 'a.mrcs'");
    refuse(OPTICS COLUMNS31 "1@a.mrcs 1" ROW31 "0@a.mrcs 1" ROW31, "line 24: image name '0@a.mrcs'");
    refuse(OPTICS COLUMNS31 "-1@a.mrcs 1" ROW31, "line 23: image name");
    refuse(OPTICS COLUMNS31 "99999999999999999999999@b.mrcs 1" ROW31, "b.mrcs");
    refuse(OPTICS COLUMNS31 "1@absent.mrcs 1" ROW31, "line 23: image file 'absent.mrcs' is not there");
    refuse(OPTICS COLUMNS31 "1@a.mrcs 3" ROW31, "line 23: optics group 3");
    refuse(OPTICS COLUMNS31 "1@a.mrcs 1 x 1 1 1 1 1 1 1 1\n", "line 23, column _rlnDefocusU: 'x'");
    refuse(
        "data_optics\nloop_\n_rlnOpticsGroup\n_rlnVoltage\n_rlnSphericalAberration\n_rlnAmplitudeContrast\n"
        "_rlnImagePixelSize\n1 300000 2.7 0.1 1.5\n" COLUMNS31 "1@a.mrcs 1" ROW31,
        "voltage");
}

static void pixel_sizes_must_agree(void **state)
{
    (void)state;
    static const char text[] =
        "data_optics\nloop_\n_rlnOpticsGroup\n_rlnVoltage\n_rlnSphericalAberration\n"
        "_rlnAmplitudeContrast\n_rlnImagePixelSize\n1 300 2.7 0.1 1.25\n4 300 2.7 0.1 1.24\n" COLUMNS31
        "1@a.mrcs 1" ROW31 "2@a.mrcs 4" ROW31 "3@a.mrcs 1" ROW31;
    het_particles p;
    refuse(text, "optics groups 1 (1.25 A per pixel) and 4 (1.24)");
    const het_particles_options given = {.apix = 1.3};
    assert_int_equal(het_particles_load_star(&p, write_text("p.star", text), &given), HET_OK);
    assert_float_equal(p.apix, 1.3, 0.0);
    assert_float_equal(p.shift[0], -3.0 / 1.25, 1e-12); /* origins are in A of the file's own pixels */
    assert_float_equal(p.shift[2], -3.0 / 1.24, 1e-12);
    het_particles_free(&p);
    write_text("index.txt", "2\n0\n");
    const het_particles_options chosen = {.index = name};
    char star[128];
    snprintf(star, sizeof star, "%s/p.star", folder);
    assert_int_equal(het_particles_load_star(&p, star, &chosen), HET_OK);
    assert_int_equal(p.count, 2);
    assert_int_equal(p.row[1], 2);
    assert_int_equal(p.image[1], 2);
    assert_int_equal(p.line[1], 25);
    het_particles_free(&p);
}

static void processed_images_are_refused(void **state)
{
    (void)state;
    static const char optics[] = "data_optics\nloop_\n_rlnOpticsGroup\n_rlnVoltage\n_rlnSphericalAberration\n_rlnAmplitudeContrast\n"
                                 "_rlnImagePixelSize\n_%s\n1 300 2.7 0.1 1.5 0\n2 300 2.7 0.1 1.5 1\n" COLUMNS31 "1@a.mrcs 1" ROW31;
    static const char *const label[2] = {"rlnCtfDataAreCtfPremultiplied", "rlnCtfDataArePhaseFlipped"};
    static const char *const words[2] = {"line 25: the images are multiplied by their CTF", "line 25: the images are phase-flipped"};
    for (int k = 0; k < 2; k++) {
        char text[2000], more[2100];
        het_particles p;
        snprintf(text, sizeof text, optics, label[k]);
        assert_int_equal(load(&p, text), HET_OK);
        het_particles_free(&p);
        snprintf(more, sizeof more, "%s2@a.mrcs 2" ROW31, text);
        refuse(more, words[k]);
    }
}

static void image_files_are_found(void **state)
{
    (void)state;
    char datadir[128];
    het_particles p;
    mkdir(path_of("job"), 0777);
    mkdir(path_of("job/run"), 0777);
    mkdir(path_of("other"), 0777);
    write_stack("job/b.mrcs", BOX, BOX, 2, 0.0f, 0.0f);
    write_stack("other/c.mrcs", BOX, BOX, 2, 0.0f, 0.0f);
    write_text("job/run/p.star",
               OPTICS COLUMNS31 "1@job/b.mrcs 1" ROW31 "2@a.mrcs 1" ROW31 "2@job/b.mrcs 1" ROW31);
    assert_int_equal(het_particles_load_star(&p, name, &plain), HET_OK); /* from the folders above */
    assert_int_equal(p.file_count, 2);
    assert_int_equal(p.file_of[0], 0);
    assert_int_equal(p.file_of[1], 1);
    assert_int_equal(p.file_of[2], 0);
    assert_non_null(strstr(p.file[0], "/job/b.mrcs"));
    het_particles_free(&p);
    write_text("job/run/q.star", OPTICS COLUMNS31 "1@Extract/job1/c.mrcs 1" ROW31 "1@c.mrcs 1" ROW31);
    assert_int_equal(het_particles_load_star(&p, name, &plain), HET_E_INPUT);
    snprintf(datadir, sizeof datadir, "%s/other", folder);
    const het_particles_options options = {.datadir = datadir};
    assert_int_equal(het_particles_load_star(&p, name, &options), HET_OK);
    assert_non_null(strstr(p.file[0], "/other/c.mrcs"));
    het_particles_free(&p);
}

static void many_files_keep_their_numbers(void **state)
{
    (void)state;
    enum { FILES = 200 };
    char *text = malloc(1 << 20), file[32];
    char *at = text + sprintf(text, "%s%s", OPTICS, COLUMNS31);
    for (int i = 0; i < FILES; i++) {
        snprintf(file, sizeof file, "m%d.mrcs", i);
        symlink("a.mrcs", path_of(file));
    }
    for (int i = 0; i < 3 * FILES; i++) at += sprintf(at, "1@m%d.mrcs 1" ROW31, i * 7 % FILES);
    het_particles p;
    assert_int_equal(load(&p, text), HET_OK);
    assert_int_equal(p.file_count, FILES);
    for (int i = 0; i < 3 * FILES; i++) {
        snprintf(file, sizeof file, "/m%d.mrcs", i * 7 % FILES);
        assert_non_null(strstr(p.file[p.file_of[i]], file));
    }
    het_particles_free(&p);
    free(text);
}

static void images_are_checked_and_read(void **state)
{
    (void)state;
    het_particles p;
    het_particle_reader *reader;
    float images[4 * BOX * BOX];
    assert_int_equal(load(&p, OPTICS COLUMNS31 "6@a.mrcs 1" ROW31 "2@a.mrcs 1" ROW31 "2@job/b.mrcs 1" ROW31
                                               "3@a.mrcs 1" ROW31),
                     HET_OK);
    assert_int_equal(het_particles_check(&p, comm), HET_OK);
    assert_int_equal(p.box, BOX);
    assert_int_equal(het_particle_reader_new(&reader, &p), HET_OK);
    assert_int_equal(het_particle_reader_read(reader, images, 0, 4), HET_OK);
    static const float first[4] = {5, 1, 1, 2};
    for (int i = 0; i < 4; i++) assert_true(images[i * BOX * BOX] == first[i]);
    het_particle_reader_free(reader);
    het_particles_free(&p);

    assert_int_equal(load(&p, OPTICS COLUMNS31 "1@a.mrcs 1" ROW31 "7@a.mrcs 1" ROW31), HET_OK);
    assert_int_equal(het_particles_check(&p, comm), HET_E_INPUT);
    assert_non_null(strstr(het_status_message(), "line 24 (particle 1): image 7 of"));
    het_particles_free(&p);

    write_stack("flat.mrcs", BOX, BOX - 2, 2, 0.0f, 0.0f);
    assert_int_equal(load(&p, OPTICS COLUMNS31 "1@flat.mrcs 1" ROW31), HET_OK);
    assert_int_equal(het_particles_check(&p, comm), HET_E_INPUT);
    assert_non_null(strstr(het_status_message(), "8 x 6"));
    het_particles_free(&p);

    write_stack("small.mrcs", BOX - 2, BOX - 2, 2, 0.0f, 0.0f);
    assert_int_equal(load(&p, OPTICS COLUMNS31 "1@a.mrcs 1" ROW31 "1@small.mrcs 1" ROW31), HET_OK);
    assert_int_equal(het_particles_check(&p, comm), HET_E_INPUT);
    assert_non_null(strstr(het_status_message(), "small.mrcs: images of 6 pixels"));
    het_particles_free(&p);
}

static void spoilt_pixels_are_refused(void **state)
{
    (void)state;
    static const float spoilt[2] = {NAN, INFINITY};
    for (int k = 0; k < 2; k++) {
        het_particles p;
        het_particle_reader *reader;
        float images[IMAGES * BOX * BOX];
        write_stack("spoilt.mrcs", BOX, BOX, IMAGES, 0.0f, spoilt[k]);
        assert_int_equal(het_particles_load_mrc(&p, name, &plain), HET_OK);
        assert_int_equal(p.count, IMAGES);
        assert_float_equal(p.apix, 2.0, 1e-6);
        assert_int_equal(het_particles_check(&p, comm), HET_OK);
        assert_int_equal(het_particle_reader_new(&reader, &p), HET_OK);
        assert_int_equal(het_particle_reader_read(reader, images, 0, 3), HET_OK);
        assert_int_equal(het_particle_reader_read(reader, images, 0, IMAGES), HET_E_INPUT);
        assert_non_null(strstr(het_status_message(), "image 4 (particle 3"));
        het_particle_reader_free(reader);
        het_particles_free(&p);
    }
}

static void index_files(void **state)
{
    (void)state;
    static const struct {
        const char *text, *words;
    } bad[] = {{"1\n2\n-1\n", "line 3: image -1 is outside"},
               {"1\n10\n", "line 2: image 10 is outside 0 .. 9"},
               {"1\n2\n\n1\n", "line 4: image 1 stands twice"},
               {"1\n2.5\n", "line 2: '2.5'"},
               {"one\n", "line 1: 'one'"},
               {"# nothing\n", "no image numbers"},
               {"", "no image numbers"},
               {"99999999999999999999\n", "line 1: '99999999999999999999'"}};
    int64_t *index, count;
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        assert_int_equal(het_index_load(&index, &count, write_text("i.txt", bad[i].text), 10), HET_E_INPUT);
        assert_non_null(strstr(het_status_message(), bad[i].words));
        het_release(index);
    }
    assert_int_equal(het_index_load(&index, &count, path_of("absent.txt"), 10), HET_E_IO);
    assert_int_equal(het_index_load(&index, &count, folder, 10), HET_E_INPUT);
    gzFile out = gzopen(path_of("i.txt.gz"), "wb");
    gzprintf(out, "7 3, 0\r\n# all of them\n\n9\n");
    gzclose(out);
    assert_int_equal(het_index_load(&index, &count, name, 10), HET_OK);
    assert_int_equal(count, 4);
    static const int64_t sorted[4] = {0, 3, 7, 9};
    assert_memory_equal(index, sorted, sizeof sorted);
    het_release(index);
}

static void contrast_of_a_disc(void **state)
{
    (void)state;
    enum { SIDE = 32 };
    float image[SIDE * SIDE];
    for (int sign = -1; sign <= 1; sign += 2) {
        het_contrast contrast;
        double mean, error;
        het_contrast_init(&contrast, SIDE);
        for (int n = 0; n < 5; n++) {
            for (int i = 0; i < SIDE * SIDE; i++) {
                const int x = i % SIDE - SIDE / 2, y = i / SIDE - SIDE / 2;
                image[i] = 1000.0f * (float)n +
                           (x * x + y * y < 64 ? (float)sign : 0.0f); /* backgrounds differ */
            }
            het_contrast_add(&contrast, image);
        }
        assert_int_equal(het_contrast_reduce(&contrast, comm), HET_OK);
        het_contrast_result(&contrast, &mean, &error);
        double share = 0.0; /* of pixels inside the disc: variance share (1 - share) */
        for (int i = 0; i < SIDE * SIDE; i++) share += image[i] != 4000.0f;
        share /= SIDE * SIDE;
        assert_float_equal(mean, sign / sqrt(share * (1.0 - share)), 1e-3);
        assert_float_equal(error, 0.0, 1e-3);
    }
}

static int set_up(void **state)
{
    (void)state;
    het_log_init(HET_LOG_ERROR, 1);
    if (mkdtemp(folder) == NULL || het_comm_open(&comm, NULL, NULL) != HET_OK) return 1;
    write_stack("a.mrcs", BOX, BOX, IMAGES, 0.0f, 0.0f);
    return 0;
}

static int tear_down(void **state)
{
    (void)state;
    char command[96];
    snprintf(command, sizeof command, "rm -r %s", folder);
    het_comm_close(comm);
    return system(command) != 0 || het_arena_live() != 0; /* every test is a leak test */
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(relion_31),
        cmocka_unit_test(relion_30),
        cmocka_unit_test(poses_keep_their_convention),
        cmocka_unit_test(missing_columns_are_named),
        cmocka_unit_test(bad_rows_are_named),
        cmocka_unit_test(pixel_sizes_must_agree),
        cmocka_unit_test(processed_images_are_refused), cmocka_unit_test(image_files_are_found),
        cmocka_unit_test(many_files_keep_their_numbers),
        cmocka_unit_test(images_are_checked_and_read),
        cmocka_unit_test(spoilt_pixels_are_refused),
        cmocka_unit_test(index_files),
        cmocka_unit_test(contrast_of_a_disc),
    };
    return cmocka_run_group_tests(tests, set_up, tear_down);
}
