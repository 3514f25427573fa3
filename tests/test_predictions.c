/* predictions.h5: what is written is read; what is malformed is refused; poses.star says the same. */
#include <hdf5.h>
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#include "../src/arena.h"
#include "../src/cli/poses.h"
#include "../src/data/predictions.h"
#include "../src/data/star.h"
#include "../src/physics/rotation.h"
#include "../src/rng.h"

enum { N = 7, Z = 3, D = 8 };

static het_comm *comm;
static char folder[] = "/tmp/het_predictions_XXXXXX";
static char file[64], other[64];

static het_predictions make(void)
{
    het_predictions p;
    assert_int_equal(het_predictions_new(&p, N, Z), HET_OK);
    p.box = D;
    p.apix = 2.5;
    het_rng rng = het_rng_at(1, HET_STREAM_SIMULATE, 0, 0);
    for (int i = 0; i < N; i++) {
        double r[9];
        const double u1 = het_rng_uniform(&rng), u2 = het_rng_uniform(&rng), u3 = het_rng_uniform(&rng);
        het_rotation_uniform(r, u1, u2, u3);
        for (int k = 0; k < 9; k++) p.rotation[9 * i + k] = (float)r[k];
        for (int k = 0; k < 2; k++) p.shift[2 * i + k] = het_rng_normal(&rng);
        for (int k = 0; k < Z; k++) {
            p.z[Z * i + k] = het_rng_normal(&rng);
            p.zstd[Z * i + k] = het_rng_uniform(&rng);
        }
        p.loss[i] = (float)i;
        assert_true(p.confirmed[i] == -1.0f);
        p.confirmed[i] = het_rng_uniform(&rng);
        assert_true(p.particle[i] == -1.0f);
        p.particle[i] = (float)(i % 3 > 0);
        p.mirrored[i] = (uint8_t)(i % 2);
    }
    return p;
}

static void save(const het_predictions *p)
{
    assert_int_equal(het_predictions_save(comm, file, p->count, 0, p, HET_OK), HET_OK);
}

static void round_trip(void **state)
{
    (void)state;
    het_predictions p = make(), q;
    save(&p);
    assert_int_equal(het_predictions_load(&q, file), HET_OK);
    assert_int_equal(q.count, N);
    assert_int_equal(q.z_dim, Z);
    assert_int_equal(q.box, D);
    assert_true(q.apix == 2.5);
    assert_memory_equal(q.rotation, p.rotation, N * 9 * sizeof(float));
    assert_memory_equal(q.shift, p.shift, N * 2 * sizeof(float));
    assert_memory_equal(q.z, p.z, N * Z * sizeof(float));
    assert_memory_equal(q.zstd, p.zstd, N * Z * sizeof(float));
    assert_memory_equal(q.loss, p.loss, N * sizeof(float));
    assert_memory_equal(q.mirrored, p.mirrored, N);
    assert_memory_equal(q.confirmed, p.confirmed, N * sizeof(float));
    assert_memory_equal(q.particle, p.particle, N * sizeof(float));
    het_predictions_move(&q, 1, 4);
    assert_memory_equal(q.rotation + 9, p.rotation + 36, 9 * sizeof(float));
    assert_memory_equal(q.z + Z, p.z + 4 * Z, Z * sizeof(float));
    assert_true(q.mirrored[1] == p.mirrored[4] && q.mirrored[2] == p.mirrored[2] && q.loss[1] == p.loss[4]);
    het_predictions_free(&q);
    const hid_t older = H5Fopen(file, H5F_ACC_RDWR, H5P_DEFAULT); /* which did not tell this yet */
    assert_true(H5Ldelete(older, "confirmed", H5P_DEFAULT) >= 0);
    assert_true(H5Ldelete(older, "particle", H5P_DEFAULT) >= 0);
    assert_true(H5Fclose(older) >= 0);
    assert_int_equal(het_predictions_load(&q, file), HET_OK);
    for (int i = 0; i < N; i++) assert_true(q.confirmed[i] == -1.0f && q.particle[i] == -1.0f);
    het_predictions_free(&p);
    het_predictions_free(&q);
}

static void failure_leaves_the_old_file(void **state)
{
    (void)state;
    het_predictions p = make(), q;
    save(&p);
    p.loss[0] = 99.0f;
    const het_status mine = het_fail(HET_E_NUMERIC, "made up");
    assert_int_equal(het_predictions_save(comm, file, N, 0, &p, mine), HET_E_NUMERIC);
    assert_int_equal(het_predictions_load(&q, file), HET_OK);
    assert_true(q.loss[0] == 0.0f);
    het_predictions_free(&p);
    het_predictions_free(&q);
    assert_int_equal(het_predictions_new(&p, 4, 0), HET_E_SHAPE);
    assert_int_equal(het_predictions_new(&p, 4, 65), HET_E_SHAPE);
}

/* Load must fail with that status and say those words. */
static void refused(het_status expected, const char *words)
{
    het_predictions q;
    assert_int_equal(het_predictions_load(&q, file), expected);
    if (strstr(het_status_message(), words) == NULL)
        fail_msg("'%s' is not in: %s", words, het_status_message());
    assert_null(strchr(het_status_message(), '\n'));
    assert_null(q.rotation);
}

static void bad_values(void **state)
{
    (void)state;
    het_predictions p = make();
    p.z[4] = NAN;
    save(&p);
    refused(HET_E_INPUT, "/z of image 1 is not finite");
    p.z[4] = 0.0f;
    p.rotation[9 * 2] += 0.1f;
    save(&p);
    refused(HET_E_INPUT, "/rotation of image 2 is no rotation");
    p.rotation[9 * 2] -= 0.1f;
    for (int k = 0; k < 9; k++) p.rotation[9 * 3 + k] *= -1.0f; /* orthogonal, but a mirror */
    save(&p);
    refused(HET_E_INPUT, "/rotation of image 3 is no rotation");
    p.apix = 0.0;
    save(&p);
    refused(HET_E_INPUT, "pixel size 0 A");
    het_predictions_free(&p);
}

/* Replace one data set by another of that shape. */
static void replace(const char *name, int rank, const hsize_t *shape)
{
    const hid_t h5 = H5Fopen(file, H5F_ACC_RDWR, H5P_DEFAULT);
    assert_true(h5 >= 0);
    H5Ldelete(h5, name, H5P_DEFAULT);
    if (rank > 0) {
        const hid_t space = H5Screate_simple(rank, shape, NULL);
        const hid_t set = H5Dcreate2(h5, name, H5T_IEEE_F32LE, space, H5P_DEFAULT, H5P_DEFAULT, H5P_DEFAULT);
        float *zeros = calloc(1000, sizeof *zeros);
        H5Dwrite(set, H5T_NATIVE_FLOAT, H5S_ALL, H5S_ALL, H5P_DEFAULT, zeros);
        free(zeros);
        H5Dclose(set);
        H5Sclose(space);
    }
    H5Fclose(h5);
}

static void bad_shapes(void **state)
{
    (void)state;
    het_predictions p = make();
    save(&p);
    replace("shift", 2, (hsize_t[]){N, 3});
    refused(HET_E_INPUT, "/shift is 3, not 2");
    save(&p);
    replace("loss", 1, (hsize_t[]){N - 1});
    refused(HET_E_INPUT, "/loss is 6, not 7");
    save(&p);
    replace("rotation", 2, (hsize_t[]){N, 9});
    refused(HET_E_INPUT, "rotation");
    save(&p);
    replace("z", 2, (hsize_t[]){N, 100});
    refused(HET_E_INPUT, "/z has 100 columns");
    save(&p);
    replace("zstd", 0, NULL);
    refused(HET_E_INPUT, "zstd");
    het_predictions_free(&p);
}

static void bad_files(void **state)
{
    (void)state;
    het_predictions p = make();
    save(&p);
    assert_int_equal(truncate(file, 900), 0);
    refused(HET_E_INPUT, file);
    FILE *text = fopen(file, "w");
    fputs("data_particles\n", text);
    fclose(text);
    refused(HET_E_INPUT, file);
    unlink(file);
    refused(HET_E_IO, file);
    save(&p);
    const hid_t h5 = H5Fopen(file, H5F_ACC_RDWR, H5P_DEFAULT), version = H5Aopen(h5, "version", H5P_DEFAULT);
    const int64_t later = 9;
    H5Awrite(version, H5T_NATIVE_INT64, &later);
    H5Aclose(version);
    H5Fclose(h5);
    refused(HET_E_INPUT, "version 9");
    het_predictions_free(&p);
}

/* What recentring took out of image i, px of the stack. */
static float moved_by(int i, int axis)
{
    return 0.25f * (float)i - (float)axis;
}

/* A stack of N images, the last of another microscope; its source, where given, is rows N-1 .. 0 of `source`,
 * and the images were recentred. */
static void make_stack(const char *path, const char *source, int64_t source_box)
{
    const het_stack_info info = {.count = N, .box = D, .apix = 2.5, .type = HET_F32, .shift_range = 1.0, .source_box = source_box,
                                 .has_source = source != NULL, .recentred = source != NULL};
    het_stack_writer *writer;
    float *images = calloc(N * D * D, sizeof *images);
    het_ctf_row ctf[N];
    int64_t rows[2 * N] = {0};
    float moved[2 * N];
    for (int i = 0; i < N * D * D; i++) images[i] = (float)(i % 5);
    for (int i = 0; i < N; i++) {
        ctf[i] = (het_ctf_row){1e4f, 1.1e4f, 0.5f, 3e5f, 2.7e7f, 0.1f, 0.0f};
        rows[2 * i + 1] = N - 1 - i;
        for (int k = 0; k < 2; k++) moved[2 * i + k] = moved_by(i, k);
    }
    ctf[N - 1].voltage = 2e5f;
    assert_int_equal(het_stack_create(&writer, comm, path, &info), HET_OK);
    assert_int_equal(het_stack_write(writer, 0, N, images, ctf, NULL), HET_OK);
    if (source != NULL) {
        assert_int_equal(het_stack_write_source(writer, 1, &source, 0, N, rows), HET_OK);
        assert_int_equal(het_stack_write_moved(writer, 0, N, moved), HET_OK);
    }
    assert_int_equal(het_stack_finish(writer, 1, HET_OK), HET_OK);
    free(images);
}

static double number(const het_star_table *table, int64_t row, const char *label)
{
    double value;
    assert_true(het_star_column(table, label) >= 0);
    assert_int_equal(het_star_number(table, row, het_star_column(table, label), &value), HET_OK);
    return value;
}

/* Row `row` of the table holds the pose and z of image i, for the image as it was before recentring. */
static void check_pose(const het_star_table *table, int64_t row, const het_predictions *p, int i,
                       int recentred)
{
    static const double radian = 0.017453292519943295;
    double r[9];
    het_rotation_from_euler(r, radian * number(table, row, "rlnAngleRot"),
                            radian * number(table, row, "rlnAngleTilt"),
                            radian * number(table, row, "rlnAnglePsi"));
    for (int k = 0; k < 9; k++) assert_true(fabs(r[k] - (double)p->rotation[9 * i + k]) < 1e-6);
    static const char *const origin[] = {"rlnOriginXAngst", "rlnOriginYAngst"};
    for (int k = 0; k < 2; k++) {
        const double t = (double)p->shift[2 * i + k] + (recentred ? (double)moved_by(i, k) : 0.0);
        assert_true(fabs(number(table, row, origin[k]) + 2.5 * t) < 2e-6);
    }
    assert_true(fabs(number(table, row, "hetZ3") - (double)p->z[Z * i + 2]) < 1e-6);
    assert_true(fabs(number(table, row, "hetConfirmed") - (double)p->confirmed[i]) < 1e-6);
    assert_true(number(table, row, "hetParticle") == (double)p->particle[i]);
}

/* data_optics has two groups of one box and pixel size, the last image alone being of the second. */
static void check_optics(const het_star *star, double box, double apix)
{
    const het_star_table *optics = het_star_find(star, "optics"), *table = het_star_find(star, "particles");
    assert_non_null(optics);
    assert_int_equal(optics->rows, 2);
    for (int g = 0; g < 2; g++) {
        assert_true(number(optics, g, "rlnOpticsGroup") == g + 1.0);
        assert_true(fabs(number(optics, g, "rlnVoltage") - (g == 0 ? 300.0 : 200.0)) < 1e-6);
        assert_true(fabs(number(optics, g, "rlnSphericalAberration") - 2.7) < 1e-6);
        assert_true(fabs(number(optics, g, "rlnAmplitudeContrast") - 0.1) < 1e-6);
        assert_true(number(optics, g, "rlnImageSize") == box);
        assert_true(number(optics, g, "rlnImageDimensionality") == 2.0);
        assert_true(fabs(number(optics, g, "rlnImagePixelSize") - apix) < 1e-9);
    }
    for (int i = 0; i < N; i++) assert_true(number(table, i, "rlnOpticsGroup") == (i == N - 1 ? 2.0 : 1.0));
    assert_true(fabs(number(table, 0, "rlnDefocusV") - 1.1e4) < 1e-3);
}

static void star_without_source(void **state)
{
    (void)state;
    char path[64];
    snprintf(path, sizeof path, "%s/poses.star", folder);
    het_predictions p = make();
    het_stack *stack;
    het_star star;
    make_stack(other, NULL, 0);
    assert_int_equal(het_stack_open(&stack, other), HET_OK);
    assert_int_equal(het_poses_write_star(&p, NULL, 0, stack, "some/stack.h5", path), HET_OK);
    assert_int_equal(het_star_load(&star, path), HET_OK);
    const het_star_table *table = het_star_find(&star, "particles");
    assert_non_null(table);
    assert_int_equal(table->rows, N);
    for (int i = 0; i < N; i++) check_pose(table, i, &p, i, 0);
    assert_string_equal(het_star_text(table, 2, het_star_column(table, "rlnImageName")), "000003@some/"
                                                                                         "stack.h5");
    check_optics(&star, D, 2.5);
    het_star_free(&star);
    p.count--;
    assert_int_equal(het_poses_write_star(&p, NULL, 0, stack, "some/stack.h5", path), HET_E_INPUT);
    p.count++;
    het_stack_close(stack);
    het_predictions_free(&p);
}

/* Images that an MRC stack of twice the box was cropped to: the table is about those of the MRC stack. */
static void star_names_the_mrc_stack(void **state)
{
    (void)state;
    char source[64], path[64], name[96];
    snprintf(source, sizeof source, "%s/source.mrcs", folder);
    snprintf(path, sizeof path, "%s/poses.star", folder);
    het_predictions p = make();
    het_stack *stack;
    het_star star;
    make_stack(other, source, 2 * D);
    assert_int_equal(het_stack_open(&stack, other), HET_OK);
    assert_int_equal(het_poses_write_star(&p, NULL, 0, stack, other, path), HET_OK);
    assert_int_equal(het_star_load(&star, path), HET_OK);
    const het_star_table *table = het_star_find(&star, "particles");
    for (int i = 0; i < N; i++) check_pose(table, i, &p, i, 1);
    snprintf(name, sizeof name, "%06d@%s", N - 2, source);
    assert_string_equal(het_star_text(table, 2, het_star_column(table, "rlnImageName")), name);
    check_optics(&star, 2 * D, 1.25);
    het_star_free(&star);
    het_stack_close(stack);
    het_predictions_free(&p);
}

static void star_keeps_the_source_rows(void **state)
{
    (void)state;
    char source[64], path[64];
    snprintf(source, sizeof source, "%s/source.star", folder);
    snprintf(path, sizeof path, "%s/poses.star", folder);
    FILE *text = fopen(source, "w");
    fputs("data_optics\n\nloop_\n_rlnOpticsGroup #1\n_rlnVoltage #2\n1 "
          "300\n\ndata_particles\n\nloop_\n_rlnImageName #1\n"
          "_rlnAngleRot #2\n_rlnOpticsGroup #3\n_rlnOriginX #4\n_rlnOriginY #5\n_rlnDetectorPixelSize #6\n"
          "_rlnMagnification #7\n_rlnDefocusU #8\n_hetZ3 #9\n_hetZ7 #10\n",
          text);
    for (int i = 0; i < N; i++) fprintf(text, "%d@a.mrcs 11.0 1 3.5 4.5 5.0 10000 10000 8.5 9.5\n", i + 1);
    fclose(text);
    het_predictions p = make();
    het_stack *stack;
    het_star star;
    make_stack(other, source, D / 2);
    assert_int_equal(het_stack_open(&stack, other), HET_OK);
    assert_int_equal(het_poses_write_star(&p, NULL, 0, stack, other, path), HET_OK);
    assert_int_equal(het_star_load(&star, path), HET_OK);
    assert_non_null(het_star_find(&star, "optics"));
    const het_star_table *table = het_star_find(&star, "particles");
    assert_true(het_star_column(table, "hetZ7") < 0); /* of an earlier run, with more numbers */
    for (int i = 0; i < N; i++) {
        char name[32];
        snprintf(name, sizeof name, "%d@a.mrcs", N - i);
        assert_string_equal(het_star_text(table, i, het_star_column(table, "rlnImageName")), name);
        check_pose(table, i, &p, i, 1);
        /* 5 um at 10000 x: 5 A per pixel of the source, twice the stack's */
        const double t = (double)(p.shift[2 * i] + moved_by(i, 0));
        assert_true(fabs(number(table, i, "rlnOriginX") + 0.5 * t) < 2e-6);
    }
    het_star_free(&star);
    /* some images of them, in an order of their own */
    static const int64_t some[2] = {3, 1};
    assert_int_equal(het_poses_write_star(&p, some, 2, stack, other, path), HET_OK);
    assert_int_equal(het_star_load(&star, path), HET_OK);
    table = het_star_find(&star, "particles");
    assert_int_equal(table->rows, 2);
    for (int k = 0; k < 2; k++) {
        char name[32];
        snprintf(name, sizeof name, "%d@a.mrcs", (int)(N - some[k]));
        assert_string_equal(het_star_text(table, k, het_star_column(table, "rlnImageName")), name);
        check_pose(table, k, &p, (int)some[k], 1);
    }
    het_star_free(&star);
    het_stack_close(stack);
    het_predictions_free(&p);
}

/* A file of the stack's N images in the order in which they are in make_stack, with a pixel size of 3 A; `defocus` of the first. */
static void write_source(const char *path, int rows, double defocus)
{
    FILE *text = fopen(path, "w");
    fputs("data_optics\n\nloop_\n_rlnOpticsGroup #1\n_rlnImagePixelSize #2\n1 3\n\ndata_particles\n\nloop_\n_rlnImageName #1\n"
          "_rlnOpticsGroup #2\n_rlnDefocusU #3\n", text);
    for (int i = 0; i < rows; i++) fprintf(text, "%d@job/a.mrcs 1 %.1f\n", i + 1, i == 0 ? defocus : 10000.0);
    fclose(text);
}

/* The source's own pixel size counts, and nothing is written where it has changed, has gone, or would be replaced. */
static void star_trusts_no_changed_source(void **state)
{
    (void)state;
    char source[64], path[64];
    snprintf(source, sizeof source, "%s/changing.star", folder);
    snprintf(path, sizeof path, "%s/changed.star", folder);
    het_predictions p = make();
    het_stack *stack;
    het_star star;
    make_stack(other, source, 2 * D);
    assert_int_equal(het_stack_open(&stack, other), HET_OK);
    write_source(source, N, 10000.0);
    assert_int_equal(het_poses_write_star(&p, NULL, 0, stack, other, path), HET_OK);
    assert_int_equal(het_star_load(&star, path), HET_OK);
    const het_star_table *table = het_star_find(&star, "particles");
    for (int i = 0; i < N; i++) /* imported as if of 1.25 A; the source says 3 */
        assert_true(fabs(number(table, i, "rlnOriginYAngst") + 3.0 * 2.0 * ((double)p.shift[2 * i + 1] + (double)moved_by(i, 1))) < 1e-5);
    het_star_free(&star);
    het_stack_close(stack);
    /* a stack of an earlier version does not know the box of its source: origins are those of its own pixels */
    make_stack(other, source, 0);
    assert_int_equal(het_stack_open(&stack, other), HET_OK);
    assert_int_equal(het_poses_write_star(&p, NULL, 0, stack, other, path), HET_OK);
    assert_int_equal(het_star_load(&star, path), HET_OK);
    table = het_star_find(&star, "particles");
    for (int i = 0; i < N; i++)
        assert_true(fabs(number(table, i, "rlnOriginYAngst") + 2.5 * ((double)p.shift[2 * i + 1] + (double)moved_by(i, 1))) < 1e-5);
    het_star_free(&star);
    assert_int_equal(remove(path), 0);
    assert_int_equal(het_poses_check_star(stack, path), HET_OK);
    assert_int_equal(het_poses_check_star(stack, source), HET_E_USAGE);
    assert_int_equal(het_poses_write_star(&p, NULL, 0, stack, other, source), HET_E_USAGE);
    assert_int_equal(het_poses_write_star(&p, NULL, 0, stack, other, other), HET_E_USAGE);
    write_source(source, N - 1, 10000.0);
    assert_int_equal(het_poses_write_star(&p, NULL, 0, stack, other, path), HET_E_INPUT);
    write_source(source, N, 10002.0);
    assert_int_equal(het_poses_write_star(&p, NULL, 0, stack, other, path), HET_E_INPUT);
    assert_non_null(strstr(het_status_message(), "changed since"));
    assert_int_equal(remove(source), 0);
    assert_int_equal(het_poses_write_star(&p, NULL, 0, stack, other, path), HET_E_IO);
    assert_int_not_equal(access(path, F_OK), 0);
    het_stack_close(stack);
    het_predictions_free(&p);
}

/* A list of stacks from two STAR files: images keep the names that these gave them. */
static void star_names_images_of_several_sources(void **state)
{
    (void)state;
    char source[2][64], stacks[2][64], list[64], path[64], name[32];
    snprintf(list, sizeof list, "%s/list.txt", folder);
    snprintf(path, sizeof path, "%s/joined.star", folder);
    FILE *text = fopen(list, "w");
    for (int k = 0; k < 2; k++) {
        snprintf(source[k], sizeof source[k], "%s/source%d.star", folder, k);
        snprintf(stacks[k], sizeof stacks[k], "%s/stack%d.h5", folder, k);
        write_source(source[k], N, 10000.0);
        make_stack(stacks[k], source[k], 2 * D);
        fprintf(text, "stack%d.h5\n", k);
    }
    fclose(text);
    het_predictions p;
    het_stack *stack;
    het_star star;
    assert_int_equal(het_predictions_new(&p, 2 * N, Z), HET_OK);
    for (int i = 0; i < 2 * N; i++)
        for (int k = 0; k < 9; k += 4) p.rotation[9 * i + k] = 1.0F;
    assert_int_equal(het_stack_open(&stack, list), HET_OK);
    assert_int_equal(het_poses_write_star(&p, NULL, 0, stack, list, path), HET_OK);
    assert_int_equal(het_star_load(&star, path), HET_OK);
    const het_star_table *table = het_star_find(&star, "particles");
    assert_int_equal(table->rows, 2 * N);
    for (int i = 0; i < 2 * N; i++) {
        snprintf(name, sizeof name, "%d@job/a.mrcs", N - i % N); /* rows are the other way round */
        assert_string_equal(het_star_text(table, i, het_star_column(table, "rlnImageName")), name);
    }
    assert_true(number(het_star_find(&star, "optics"), 0, "rlnImageSize") == 2.0 * D);
    assert_true(fabs(number(table, 0, "rlnDefocusV") - 1.1e4) < 1e-3);
    het_star_free(&star);
    het_stack_close(stack);
    het_predictions_free(&p);
}

/* A view of some images, saved, is these images. */
static void rows_are_a_view(void **state)
{
    (void)state;
    enum { FIRST = 2, COUNT = 3 };
    het_predictions p = make(), q;
    const het_predictions rows = het_predictions_rows(&p, FIRST, COUNT);
    save(&rows);
    assert_int_equal(het_predictions_load(&q, file), HET_OK);
    assert_int_equal(q.count, COUNT);
    assert_int_equal(q.z_dim, Z);
    assert_int_equal(q.box, D);
    assert_true(q.apix == p.apix);
    assert_memory_equal(q.rotation, p.rotation + 9 * FIRST, 9 * COUNT * sizeof *q.rotation);
    assert_memory_equal(q.shift, p.shift + 2 * FIRST, 2 * COUNT * sizeof *q.shift);
    assert_memory_equal(q.z, p.z + Z * FIRST, Z * COUNT * sizeof *q.z);
    assert_memory_equal(q.zstd, p.zstd + Z * FIRST, Z * COUNT * sizeof *q.zstd);
    assert_memory_equal(q.loss, p.loss + FIRST, COUNT * sizeof *q.loss);
    assert_memory_equal(q.mirrored, p.mirrored + FIRST, COUNT * sizeof *q.mirrored);
    het_predictions_free(&q);
    het_predictions_free(&p);
}

static int set_up(void **state)
{
    (void)state;
    if (mkdtemp(folder) == NULL) return 1;
    snprintf(file, sizeof file, "%s/predictions.h5", folder);
    snprintf(other, sizeof other, "%s/stack.h5", folder);
    return het_comm_open(&comm, NULL, NULL) == HET_OK ? 0 : 1;
}

static int tear_down(void **state)
{
    (void)state;
    char command[96];
    snprintf(command, sizeof command, "rm -rf %s", folder);
    const int removed = system(command);
    het_comm_close(comm);
    return removed == 0 && het_arena_live() == 0 ? 0 : 1;
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(round_trip),          cmocka_unit_test(rows_are_a_view),
                cmocka_unit_test(failure_leaves_the_old_file),
        cmocka_unit_test(bad_values),          cmocka_unit_test(bad_shapes),
        cmocka_unit_test(bad_files),           cmocka_unit_test(star_without_source),
        cmocka_unit_test(star_names_the_mrc_stack), cmocka_unit_test(star_keeps_the_source_rows), cmocka_unit_test(star_trusts_no_changed_source),
        cmocka_unit_test(star_names_images_of_several_sources),
    };
    return cmocka_run_group_tests(tests, set_up, tear_down);
}
