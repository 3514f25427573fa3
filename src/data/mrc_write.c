#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <math.h>
#include <string.h>
#include <stdio.h>
#include <unistd.h>

#include "../arena.h"
#include "half.h"
#include "mrc.h"

enum { HEADER = 1024, BLOCK = 1 << 20 };

struct het_mrc_writer {
    char *path, *temporary;
    uint16_t *half; /* conversion buffer of BLOCK numbers, for float16 */
    int fd;
    het_dtype type;
    int is_volume;
    int64_t size[3], done; /* columns, rows, sections; sections written */
    double apix;
    double least, most, sum, sum2;
};

static void put_word(uint8_t *header, int word, int32_t value)
{
    memcpy(header + 4 * word, &value, 4);
}

static void put_float(uint8_t *header, int word, double value)
{
    const float f = (float)value;
    memcpy(header + 4 * word, &f, 4);
}

static void fill_header(const het_mrc_writer *w, uint8_t header[HEADER])
{
    memset(header, 0, HEADER);
    for (int i = 0; i < 3; i++) {
        const int64_t intervals = i == 2 && !w->is_volume ? 1 : w->size[i];
        put_word(header, i, (int32_t)w->size[i]);
        put_word(header, 7 + i, (int32_t)intervals);
        put_float(header, 10 + i, (double)intervals * w->apix);
        put_float(header, 13 + i, 90.0);
        put_word(header, 16 + i, i + 1);
    }
    put_word(header, 3, w->type == HET_F16 ? 12 : 2);
    const double pixels = (double)w->size[0] * (double)w->size[1] * (double)w->done;
    const double mean = pixels > 0 ? w->sum / pixels : 0.0;
    const double variance = pixels > 0 ? w->sum2 / pixels - mean * mean : 0.0;
    put_float(header, 19, pixels > 0 ? w->least : 0.0);
    put_float(header, 20, pixels > 0 ? w->most : 0.0);
    put_float(header, 21, mean);
    put_word(header, 22, w->is_volume ? 1 : 0);
    put_word(header, 27, 20141); /* version of the format: 2014, revision 1 */
    memcpy(header + 208, "MAP ", 4);
    header[212] = header[213] = 0x44;
    put_float(header, 54, variance > 0 ? sqrt(variance) : 0.0);
}

static het_status write_all(const het_mrc_writer *w, const void *from, size_t bytes)
{
    while (bytes > 0) {
        const ssize_t n = write(w->fd, from, bytes < (1u << 30) ? bytes : 1u << 30);
        if (n < 0 && errno == EINTR) continue;
        if (n < 0) return het_fail(HET_E_IO, "%s: cannot write: %s", w->temporary, strerror(errno));
        from = (const char *)from + n;
        bytes -= (size_t)n;
    }
    return HET_OK;
}

static void free_writer(het_mrc_writer *w)
{
    if (w->fd >= 0) close(w->fd);
    het_release(w->path);
    het_release(w->temporary);
    het_release(w->half);
    het_release(w);
}

static het_status create(het_mrc_writer **writer, const char *path, het_dtype type, const int64_t size[3],
                         int is_volume, double apix)
{
    het_status status = HET_OK;
    uint8_t header[HEADER];
    *writer = NULL;
    for (int i = 0; i < 3; i++)
        if (size[i] < 1 || size[i] > INT32_MAX)
            return het_fail(HET_E_SHAPE, "%s: %lld x %lld x %lld pixels do not fit an MRC file", path,
                            (long long)size[0], (long long)size[1], (long long)size[2]);
    HET_ASSERT(type == HET_F32 || type == HET_F16);
    het_mrc_writer *w = het_alloc(sizeof *w);
    if (w == NULL) return het_fail(HET_E_MEMORY, "%s: no memory", path);
    *w = (het_mrc_writer){
        .fd = -1, .type = type, .is_volume = is_volume, .apix = apix, .least = INFINITY, .most = -INFINITY};
    memcpy(w->size, size, sizeof w->size);
    const size_t length = strlen(path);
    w->path = het_alloc(length + 1);
    w->temporary = het_alloc(length + 5);
    if (type == HET_F16) w->half = het_alloc(BLOCK * sizeof *w->half);
    if (w->path == NULL || w->temporary == NULL || (type == HET_F16 && w->half == NULL))
        HET_TRY(het_fail(HET_E_MEMORY, "%s: no memory", path));
    memcpy(w->path, path, length);
    memcpy(w->temporary, path, length);
    memcpy(w->temporary + length, ".tmp", 4);
    w->fd = open(w->temporary, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0666);
    if (w->fd < 0) HET_TRY(het_fail(HET_E_IO, "%s: cannot create: %s", w->temporary, strerror(errno)));
    fill_header(w, header);
    *writer = w;
    status = write_all(w, header, HEADER);
    if (status != HET_OK) {
        het_mrc_finish(w, status);
        *writer = NULL;
    }
    return status;
done:
    free_writer(w);
    return status;
}

het_status het_mrc_create(het_mrc_writer **writer, const char *path, het_dtype type, int64_t nx, int64_t ny,
                          int64_t count, double apix)
{
    return create(writer, path, type, (const int64_t[3]){nx, ny, count}, 0, apix);
}

static void add_statistics(het_mrc_writer *w, const float *x, int64_t n)
{
    float least = x[0], most = x[0];
    double sum = 0.0, sum2 = 0.0;
    for (int64_t i = 0; i < n; i++) {
        least = x[i] < least ? x[i] : least;
        most = x[i] > most ? x[i] : most;
        sum += x[i];
        sum2 += (double)x[i] * x[i];
    }
    w->least = fmin(w->least, least);
    w->most = fmax(w->most, most);
    w->sum += sum;
    w->sum2 += sum2;
}

het_status het_mrc_append(het_mrc_writer *w, const float *images, int64_t count)
{
    const int64_t section = w->size[0] * w->size[1];
    if (count < 0 || count > w->size[2] - w->done)
        return het_fail(HET_E_SHAPE, "%s: more images than the %lld announced", w->path,
                        (long long)w->size[2]);
    if (count == 0) return HET_OK;
    const int64_t total = count * section;
    add_statistics(w, images, total);
    w->done += count;
    if (w->type == HET_F32) return write_all(w, images, (size_t)total * sizeof *images);
    for (int64_t at = 0; at < total; at += BLOCK) {
        const int64_t n = total - at < BLOCK ? total - at : BLOCK;
        het_half_from_float(w->half, images + at, (size_t)n);
        const het_status status = write_all(w, w->half, (size_t)n * sizeof *w->half);
        if (status != HET_OK) return status;
    }
    return HET_OK;
}

static het_status seal(het_mrc_writer *w)
{
    uint8_t header[HEADER];
    if (w->done != w->size[2])
        return het_fail(HET_E_SHAPE, "%s: %lld of %lld images came", w->path, (long long)w->done,
                        (long long)w->size[2]);
    fill_header(w, header);
    if (pwrite(w->fd, header, HEADER, 0) != HEADER || fsync(w->fd) != 0)
        return het_fail(HET_E_IO, "%s: cannot write: %s", w->temporary, strerror(errno));
    const int failed = close(w->fd);
    w->fd = -1;
    if (failed || rename(w->temporary, w->path) != 0)
        return het_fail(HET_E_IO, "%s: cannot put it in place: %s", w->path, strerror(errno));
    return HET_OK;
}

het_status het_mrc_finish(het_mrc_writer *w, het_status mine)
{
    if (w == NULL) return mine;
    if (mine == HET_OK) mine = seal(w);
    if (mine != HET_OK) unlink(w->temporary);
    free_writer(w);
    return mine;
}

het_status het_mrc_write_volume(const char *path, const float *volume, const int64_t size[3], double apix)
{
    het_mrc_writer *writer = NULL;
    het_status status = create(&writer, path, HET_F32, size, 1, apix);
    if (status != HET_OK) return status;
    return het_mrc_finish(writer, het_mrc_append(writer, volume, size[2]));
}
