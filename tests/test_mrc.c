#define _GNU_SOURCE
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <fcntl.h>
#include <unistd.h>
#include <math.h>
#include <zlib.h>

#include <cmocka.h>

#include "../src/arena.h"
#include "../src/data/half.h"
#include "../src/data/mrc.h"
#include "../src/log.h"

static char folder[] = "/tmp/het_mrc_XXXXXX";
static char name[64];

static const char *path_of(const char *file)
{
    snprintf(name, sizeof name, "%s/%s", folder, file);
    return name;
}

/* A header made field by field, independent of the writer. */
typedef struct fields {
    int32_t n[3], mode, m[3], map[3], space_group, extended, imod_stamp, imod_flags;
    float cell[3];
    int big, no_stamp;
} fields;

static void put(uint8_t *header, int word, const void *value, int big)
{
    uint32_t bits;
    memcpy(&bits, value, 4);
    if (big) bits = __builtin_bswap32(bits);
    memcpy(header + 4 * word, &bits, 4);
}

static void make_header(uint8_t header[1024], const fields *f)
{
    memset(header, 0, 1024);
    for (int i = 0; i < 3; i++) {
        put(header, i, &f->n[i], f->big);
        put(header, 7 + i, &f->m[i], f->big);
        put(header, 10 + i, &f->cell[i], f->big);
        put(header, 16 + i, &f->map[i], f->big);
    }
    put(header, 3, &f->mode, f->big);
    put(header, 22, &f->space_group, f->big);
    put(header, 23, &f->extended, f->big);
    put(header, 38, &f->imod_stamp, f->big);
    put(header, 39, &f->imod_flags, f->big);
    memcpy(header + 208, "MAP ", 4);
    if (!f->no_stamp) header[212] = header[213] = f->big ? 0x11 : 0x44;
}

static const char *write_file(const char *file, const uint8_t header[1024], const void *extended,
                              size_t extended_size, const void *data, size_t size)
{
    FILE *out = fopen(path_of(file), "wb");
    assert_non_null(out);
    fwrite(header, 1, 1024, out);
    if (extended_size > 0) fwrite(extended, 1, extended_size, out);
    if (size > 0) fwrite(data, 1, size, out);
    fclose(out);
    return name;
}

static fields images_of(int nx, int ny, int nz, int mode)
{
    return (fields){.n = {nx, ny, nz},
                    .mode = mode,
                    .m = {nx, ny, 1},
                    .map = {1, 2, 3},
                    .cell = {2.5f * (float)nx, 2.5f * (float)ny, 2.5f}};
}

static float value_of(int mode, int64_t i)
{
    if (mode == 0) return (float)(i * 7 % 256 - 128);
    if (mode == 1) return (float)(i * 977 % 65536 - 32768);
    if (mode == 6) return (float)(i * 977 % 65536);
    if (mode == 12) return (float)(i % 512) / 8.0f - 30.0f; /* exact in float16 */
    return sinf((float)i) * 100.0f;
}

/* Pixels of a mode as bytes; the plain double-to-half conversion by ldexp is independent of half.c. */
static size_t encode(uint8_t *to, int mode, int64_t count, int big)
{
    for (int64_t i = 0; i < count; i++) {
        const float v = value_of(mode, i);
        uint16_t two = 0;
        if (mode == 0) to[i] = (uint8_t)(int8_t)v;
        if (mode == 1) two = (uint16_t)(int16_t)v;
        if (mode == 6) two = (uint16_t)v;
        if (mode == 12 && v != 0.0f) {
            int e;
            const double m = frexp(fabs(v), &e); /* v = m 2^e, m in [0.5,1) */
            two = (uint16_t)((v < 0) << 15 | (e + 14) << 10 | ((int)ldexp(m, 11) & 1023));
        }
        if (mode == 2) put(to, (int)i, &v, big);
        else if (mode != 0) {
            if (big) two = (uint16_t)(two << 8 | two >> 8);
            memcpy(to + 2 * i, &two, 2);
        }
    }
    return (size_t)count * (mode == 0 ? 1 : mode == 2 ? 4 : 2);
}

static void every_mode_in_both_orders(void **state)
{
    (void)state;
    static const int modes[] = {0, 1, 2, 6, 12};
    enum { NX = 37, NY = 21, NZ = 9, ALL = NX * NY * NZ };
    uint8_t header[1024], data[4 * ALL], extended[160] = {1, 2, 3};
    float *images = malloc(sizeof(float) * ALL);
    for (int k = 0; k < 5; k++)
        for (int big = 0; big < 2; big++)
            for (int no_stamp = 0; no_stamp < 2; no_stamp++) {
                fields f = images_of(NX, NY, NZ, modes[k]);
                f.big = big;
                f.no_stamp = no_stamp;
                f.extended = sizeof extended;
                make_header(header, &f);
                const size_t size = encode(data, modes[k], ALL, big);
                write_file("a.mrcs", header, extended, sizeof extended, data, size);
                het_mrc *mrc = NULL;
                assert_int_equal(het_mrc_open(&mrc, name), HET_OK);
                const het_mrc_info *info = het_mrc_get_info(mrc);
                assert_int_equal(info->big_endian, big);
                assert_int_equal(info->nz, NZ);
                assert_int_equal(info->kind, HET_MRC_IMAGES);
                assert_float_equal(info->apix[0], 2.5, 1e-6);
                assert_int_equal(het_mrc_read(mrc, images, 2, 5), HET_OK);
                for (int64_t i = 0; i < 5 * NX * NY; i++)
                    assert_true(images[i] == value_of(modes[k], i + 2 * NX * NY));
                const int64_t list[4] = {8, 0, 1, 4};
                assert_int_equal(het_mrc_read_list(mrc, images, list, 4), HET_OK);
                for (int64_t j = 0; j < 4; j++)
                    for (int64_t i = 0; i < NX * NY; i++)
                        assert_true(images[j * NX * NY + i] == value_of(modes[k], i + list[j] * NX * NY));
                assert_int_equal(het_mrc_read(mrc, images, 5, 5), HET_E_INPUT);
                assert_int_equal(het_mrc_read(mrc, images, -1, 1), HET_E_INPUT);
                het_mrc_close(mrc);
            }
    free(images);
}

static void bytes_are_unsigned_where_imod_says_so(void **state)
{
    (void)state;
    uint8_t header[1024], data[16];
    float images[16];
    for (int i = 0; i < 16; i++) data[i] = (uint8_t)(240 + i);
    for (int flags = 0; flags < 2; flags++) {
        fields f = images_of(4, 4, 1, 0);
        f.imod_stamp = 1146047817;
        f.imod_flags = flags; /* bit 0: signed */
        make_header(header, &f);
        write_file("b.mrcs", header, NULL, 0, data, sizeof data);
        het_mrc *mrc = NULL;
        assert_int_equal(het_mrc_open(&mrc, name), HET_OK);
        assert_int_equal(het_mrc_read(mrc, images, 0, 1), HET_OK);
        assert_true(images[0] == (flags ? -16.0f : 240.0f));
        het_mrc_close(mrc);
    }
}

static void axes_are_put_in_order(void **state)
{
    (void)state;
    static const int orders[6][3] = {{1, 2, 3}, {1, 3, 2}, {2, 1, 3}, {2, 3, 1}, {3, 1, 2}, {3, 2, 1}};
    static const int size[3] = {5, 4, 3}; /* x, y, z */
    for (int k = 0; k < 6; k++) {
        uint8_t header[1024];
        float data[60];
        fields f = {.mode = 2, .space_group = 1, .big = k & 1};
        for (int i = 0; i < 3; i++) {
            f.map[i] = orders[k][i];
            f.n[i] = size[orders[k][i] - 1];
            f.m[i] = size[i];
            f.cell[i] = (float)(size[i] * (i + 1)); /* 1, 2, 3 A along x, y, z */
        }
        make_header(header, &f);
        int64_t at = 0;
        for (int s = 0; s < f.n[2]; s++)
            for (int r = 0; r < f.n[1]; r++)
                for (int c = 0; c < f.n[0]; c++) {
                    int xyz[3];
                    xyz[orders[k][0] - 1] = c;
                    xyz[orders[k][1] - 1] = r;
                    xyz[orders[k][2] - 1] = s;
                    const float v = (float)(xyz[0] + 10 * xyz[1] + 100 * xyz[2]);
                    put((uint8_t *)data, (int)at++, &v, f.big);
                }
        write_file("c.map", header, NULL, 0, data, sizeof data);
        float *volume = NULL;
        het_mrc_info info;
        assert_int_equal(het_mrc_load_volume(name, &volume, &info), HET_OK);
        for (int i = 0; i < 3; i++) {
            assert_int_equal(info.size[i], size[i]);
            assert_float_equal(info.apix[i], i + 1.0, 1e-6);
        }
        for (int z = 0; z < 3; z++)
            for (int y = 0; y < 4; y++)
                for (int x = 0; x < 5; x++)
                    assert_true(volume[(z * 4 + y) * 5 + x] == (float)(x + 10 * y + 100 * z));
        het_release(volume);
    }
}

static void volume_stacks_are_taken_apart(void **state)
{
    (void)state;
    uint8_t header[1024];
    float data[3 * 8], volume[8];
    fields f = {
        .n = {2, 2, 6}, .mode = 2, .m = {2, 2, 2}, .map = {1, 2, 3}, .space_group = 401, .cell = {2, 2, 2}};
    for (int i = 0; i < 24; i++) data[i] = (float)i;
    make_header(header, &f);
    write_file("d.mrc", header, NULL, 0, data, sizeof data);
    het_mrc *mrc = NULL;
    assert_int_equal(het_mrc_open(&mrc, name), HET_OK);
    assert_int_equal(het_mrc_get_info(mrc)->volumes, 3);
    assert_int_equal(het_mrc_get_info(mrc)->size[2], 2);
    assert_int_equal(het_mrc_read_volume(mrc, volume, 2), HET_OK);
    assert_true(volume[0] == 16.0f && volume[7] == 23.0f);
    assert_int_equal(het_mrc_read_volume(mrc, volume, 3), HET_E_INPUT);
    het_mrc_close(mrc);
}

static void refuse(const char *path, het_status code, const char *words)
{
    het_mrc *mrc = NULL;
    assert_int_equal(het_mrc_open(&mrc, path), code);
    assert_null(mrc);
    assert_non_null(strstr(het_status_message(), words));
    assert_null(strchr(het_status_message(), '\n'));
}

static void bad_files_are_refused(void **state)
{
    (void)state;
    uint8_t header[1024];
    float data[64] = {0};
    refuse(path_of("absent.mrc"), HET_E_IO, "absent.mrc");
    refuse(folder, HET_E_INPUT, "folder");
    close(open(path_of("empty.mrc"), O_CREAT | O_WRONLY, 0666));
    refuse(name, HET_E_INPUT, "0 bytes");
    memset(header, 'x', sizeof header); /* a text */
    refuse(write_file("text.mrc", header, NULL, 0, data, 4), HET_E_INPUT, "no MRC");
    fields f = images_of(4, 4, 4, 2);
    make_header(header, &f);
    refuse(write_file("cut.mrcs", header, NULL, 0, data, 63 * 4), HET_E_INPUT, "cut off");
    f.n[0] = f.n[1] = f.n[2] = INT32_MAX; /* 2^95 bytes */
    make_header(header, &f);
    refuse(write_file("vast.mrcs", header, NULL, 0, data, sizeof data), HET_E_INPUT, "cannot be");
    f = images_of(4, 4, 4, 4);
    make_header(header, &f);
    refuse(write_file("complex.mrcs", header, NULL, 0, data, sizeof data), HET_E_INPUT, "mode 4");
    f = images_of(4, -4, 4, 2);
    make_header(header, &f);
    refuse(write_file("negative.mrcs", header, NULL, 0, data, sizeof data), HET_E_INPUT, "no MRC");
    f = images_of(4, 4, 4, 2);
    f.extended = -1024;
    make_header(header, &f);
    refuse(write_file("extended.mrcs", header, NULL, 0, data, sizeof data), HET_E_INPUT, "no MRC");
    f = images_of(4, 4, 4, 2);
    f.map[1] = 1;
    make_header(header, &f);
    refuse(write_file("axes.mrcs", header, NULL, 0, data, sizeof data), HET_E_INPUT, "permutation");
}

static void a_longer_file_is_read(void **state)
{
    (void)state;
    uint8_t header[1024];
    float data[65], images[64];
    for (int i = 0; i < 65; i++) data[i] = (float)i;
    fields f = images_of(4, 4, 4, 2);
    make_header(header, &f);
    memcpy(header + 208, "STK ", 4); /* the MAP field is not asked */
    het_mrc *mrc = NULL;
    assert_int_equal(het_mrc_open(&mrc, write_file("long.mrcs", header, NULL, 0, data, sizeof data)), HET_OK);
    assert_true(het_mrc_get_info(mrc)->extra);
    assert_int_equal(het_mrc_read(mrc, images, 0, 4), HET_OK);
    assert_memory_equal(images, data, sizeof images);
    het_mrc_close(mrc);
}

/* 40,000 images of 128 x 128 float32: the last one starts beyond 2^31 bytes, and 2^31/4 pixels. The file is a
 * hole. */
static void offsets_beyond_2_gib(void **state)
{
    (void)state;
    enum { SIDE = 128, COUNT = 40000 };
    uint8_t header[1024];
    float *image = calloc(SIDE * SIDE, sizeof *image);
    fields f = images_of(SIDE, SIDE, COUNT, 2);
    make_header(header, &f);
    write_file("sparse.mrcs", header, NULL, 0, NULL, 0);
    const off_t bytes = (off_t)SIDE * SIDE * 4, last = 1024 + bytes * (COUNT - 1);
    const int fd = open(name, O_WRONLY);
    const float mark = 42.0f;
    assert_true(last > INT32_MAX);
    assert_int_equal(ftruncate(fd, last + bytes), 0);
    assert_int_equal(pwrite(fd, &mark, 4, last + bytes - 4), 4);
    close(fd);
    het_mrc *mrc = NULL;
    assert_int_equal(het_mrc_open(&mrc, name), HET_OK);
    assert_int_equal(het_mrc_read(mrc, image, COUNT - 1, 1), HET_OK);
    assert_true(image[SIDE * SIDE - 1] == mark && image[0] == 0.0f);
    het_mrc_close(mrc);
    assert_int_equal(truncate(name, last + bytes - 1), 0);
    refuse(name, HET_E_INPUT, "cut off");
    unlink(name);
    free(image);
}

static void gzip_is_unpacked(void **state)
{
    (void)state;
    uint8_t header[1024];
    float data[64], images[64];
    for (int i = 0; i < 64; i++) data[i] = (float)i;
    fields f = images_of(4, 4, 4, 2);
    make_header(header, &f);
    gzFile out = gzopen(path_of("packed.mrc.gz"), "wb");
    gzwrite(out, header, sizeof header);
    gzwrite(out, data, sizeof data);
    gzclose(out);
    het_mrc *mrc = NULL;
    assert_int_equal(het_mrc_open(&mrc, name), HET_OK);
    assert_int_equal(het_mrc_read(mrc, images, 1, 3), HET_OK);
    assert_memory_equal(images, data + 16, 48 * sizeof *data);
    het_mrc_close(mrc);
    out = gzopen(path_of("short.mrc.gz"), "wb");
    gzwrite(out, header, sizeof header);
    gzwrite(out, data, sizeof data - 4);
    gzclose(out);
    refuse(name, HET_E_INPUT, "cut off");
    f.n[2] = 1 << 30; /* 2^36 bytes out of a few hundred: no memory is asked for */
    make_header(header, &f);
    out = gzopen(path_of("lie.mrc.gz"), "wb");
    gzwrite(out, header, sizeof header);
    gzclose(out);
    refuse(name, HET_E_INPUT, "cut off");
}

static void what_is_written_is_read(void **state)
{
    (void)state;
    enum { COUNT = 3, NX = 12, NY = 10, ALL = COUNT * NX * NY };
    float images[ALL], back[ALL];
    for (int i = 0; i < ALL; i++) images[i] = value_of(12, i);
    for (int half = 0; half < 2; half++) {
        het_mrc_writer *writer = NULL;
        assert_int_equal(
            het_mrc_create(&writer, path_of("w.mrcs"), half ? HET_F16 : HET_F32, NX, NY, COUNT, 1.5), HET_OK);
        assert_int_equal(het_mrc_append(writer, images, 1), HET_OK);
        assert_int_equal(het_mrc_append(writer, images + NX * NY, 2), HET_OK);
        assert_int_equal(het_mrc_append(writer, images, 1), HET_E_SHAPE);
        assert_int_not_equal(access(name, F_OK), 0); /* nothing under the final name yet */
        assert_int_equal(het_mrc_finish(writer, HET_OK), HET_OK);
        het_mrc *mrc = NULL;
        assert_int_equal(het_mrc_open(&mrc, name), HET_OK);
        assert_int_equal(het_mrc_get_info(mrc)->mode, half ? 12 : 2);
        assert_int_equal(het_mrc_get_info(mrc)->kind, HET_MRC_IMAGES);
        assert_float_equal(het_mrc_get_info(mrc)->apix[1], 1.5, 1e-6);
        assert_int_equal(het_mrc_read(mrc, back, 0, COUNT), HET_OK);
        assert_memory_equal(back, images, sizeof back);
        het_mrc_close(mrc);
        unlink(name);
    }
    const int64_t size[3] = {6, 5, 12};
    assert_int_equal(het_mrc_write_volume(path_of("v.mrc"), images, size, 3.25), HET_OK);
    float *volume = NULL;
    het_mrc_info info;
    assert_int_equal(het_mrc_load_volume(name, &volume, &info), HET_OK);
    assert_memory_equal(info.size, size, sizeof size);
    assert_int_equal(info.kind, HET_MRC_VOLUME);
    assert_float_equal(info.apix[2], 3.25, 1e-6);
    assert_memory_equal(volume, images, sizeof back);
    het_release(volume);
}

static void an_unfinished_stack_leaves_nothing(void **state)
{
    (void)state;
    float image[16] = {0};
    het_mrc_writer *writer = NULL;
    assert_int_equal(het_mrc_create(&writer, path_of("u.mrcs"), HET_F32, 4, 4, 2, 1.0), HET_OK);
    assert_int_equal(het_mrc_append(writer, image, 1), HET_OK);
    assert_int_equal(het_mrc_finish(writer, HET_OK), HET_E_SHAPE);
    assert_int_not_equal(access(name, F_OK), 0);
    assert_int_not_equal(access(path_of("u.mrcs.tmp"), F_OK), 0);
    assert_int_equal(het_mrc_create(&writer, "/nowhere/u.mrcs", HET_F32, 4, 4, 2, 1.0), HET_E_IO);
    assert_null(writer);
}

/* Every float16 bit pattern goes to float32 and back; numbers between two round to the even neighbour. */
static void half_precision(void **state)
{
    (void)state;
    for (uint32_t bits = 0; bits < 65536; bits += 16) {
        uint16_t in[16], out[16];
        float wide[16];
        for (uint32_t i = 0; i < 16; i++) in[i] = (uint16_t)(bits + i);
        het_half_to_float(wide, in, 16);
        het_half_from_float(out, wide, 16);
        for (int i = 0; i < 16; i++) {
            const int exponent = in[i] >> 10 & 31, mantissa = in[i] & 1023;
            if (exponent == 31 && mantissa != 0) continue; /* NaN */
            assert_int_equal(out[i], in[i]);
            if (exponent == 31) continue;
            const double exact = exponent ? ldexp(1024 + mantissa, exponent - 25) : ldexp(mantissa, -24);
            assert_true(wide[i] == (float)(in[i] >> 15 ? -exact : exact));
        }
    }
    const float between[3] = {1.0f + 0x1p-11f, 1.0f + 0x3p-11f, 70000.0f};
    uint16_t out[3];
    het_half_from_float(out, between, 3);
    assert_int_equal(out[0], 0x3c00);
    assert_int_equal(out[1], 0x3c02);
    assert_int_equal(out[2], 0x7c00);
}

static int set_up(void **state)
{
    (void)state;
    het_log_init(HET_LOG_ERROR, 1);
    return mkdtemp(folder) == NULL;
}

static int tear_down(void **state)
{
    (void)state;
    char command[96];
    snprintf(command, sizeof command, "rm -r %s", folder);
    return system(command) != 0 || het_arena_live() != 0; /* every test is a leak test */
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_mode_in_both_orders),
        cmocka_unit_test(bytes_are_unsigned_where_imod_says_so),
        cmocka_unit_test(axes_are_put_in_order),
        cmocka_unit_test(volume_stacks_are_taken_apart),
        cmocka_unit_test(bad_files_are_refused),
        cmocka_unit_test(a_longer_file_is_read),
        cmocka_unit_test(offsets_beyond_2_gib),
        cmocka_unit_test(gzip_is_unpacked),
        cmocka_unit_test(what_is_written_is_read),
        cmocka_unit_test(an_unfinished_stack_leaves_nothing),
        cmocka_unit_test(half_precision),
    };
    return cmocka_run_group_tests(tests, set_up, tear_down);
}
