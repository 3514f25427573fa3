#include "mrc.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <strings.h>
#include <sys/stat.h>
#include <unistd.h>
#include <zlib.h>

#include "../arena.h"
#include "../log.h"
#include "half.h"

_Static_assert(__BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__, "files are converted for a little-endian host");

enum { HEADER = 1024, BLOCK = 4 << 20 };

/* 4-byte words of the header, counted from 0 */
enum {
    WORD_NX,
    WORD_NY,
    WORD_NZ,
    WORD_MODE,
    WORD_MX = 7,
    WORD_CELL = 10,
    WORD_MAPC = 16,
    WORD_SPACE_GROUP = 22,
    WORD_EXTENDED = 23,
    WORD_IMOD_STAMP = 38,
    WORD_IMOD_FLAGS = 39,
    WORD_STAMP = 53
};

enum { IMOD_STAMP = 1146047817, IMOD_SIGNED_BYTES = 1 };

struct het_mrc {
    het_mrc_info info;
    char *path;
    int fd;
    uint8_t *memory; /* the pixels of a gzip'ed file; NULL: read from fd */
    int64_t section; /* pixels per section */
    int64_t pixel_bytes;
    int unsigned_bytes;
};

static int32_t word_at(const uint8_t *header, int word, int swap)
{
    uint32_t bits;
    memcpy(&bits, header + 4 * word, sizeof bits);
    if (swap) bits = __builtin_bswap32(bits);
    int32_t value;
    memcpy(&value, &bits, sizeof value);
    return value;
}

static float float_at(const uint8_t *header, int word, int swap)
{
    const int32_t bits = word_at(header, word, swap);
    float value;
    memcpy(&value, &bits, sizeof value);
    return value;
}

static int64_t bytes_of_mode(int mode)
{
    switch (mode) {
    case 0: return 1;
    case 1:
    case 6:
    case 12: return 2;
    case 2: return 4;
    default: return 0;
    }
}

/* Does the header make sense in this byte order? Complex and packed modes do: they are refused by name
 * later. */
static int plausible(const uint8_t *header, int swap)
{
    const int32_t mode = word_at(header, WORD_MODE, swap), extended = word_at(header, WORD_EXTENDED, swap);
    if (bytes_of_mode(mode) == 0 && mode != 3 && mode != 4 && mode != 16 && mode != 101) return 0;
    for (int i = 0; i < 3; i++) {
        const int32_t axis = word_at(header, WORD_MAPC + i, swap);
        if (word_at(header, WORD_NX + i, swap) <= 0 || axis < 0 || axis > 3) return 0;
    }
    return extended >= 0 && extended < 1 << 30;
}

/* 0: little endian, 1: big endian, -1: no MRC header. The stamp is asked first, but programs exist that copy
 * it wrongly. */
static int byte_order(const uint8_t *header)
{
    const int little = plausible(header, 0), big = plausible(header, 1);
    if (!little || !big) return little ? 0 : big ? 1 : -1;
    const uint8_t stamp = header[4 * WORD_STAMP];
    if (stamp == 0x44 || stamp == 0x11) return stamp == 0x11;
    return word_at(header, WORD_NX, 1) < word_at(header, WORD_NX, 0); /* mode 0 reads the same in both */
}

static int ends_with(const char *path, const char *end)
{
    const size_t n = strlen(path), m = strlen(end);
    return n >= m && strcasecmp(path + n - m, end) == 0;
}

static het_mrc_kind kind_of(const char *path, const het_mrc_info *info, int32_t mz)
{
    if (info->space_group >= 401) return HET_MRC_VOLUMES;
    if (ends_with(path, ".mrcs") || ends_with(path, ".mrcs.gz") || ends_with(path, ".st"))
        return HET_MRC_IMAGES;
    if (info->space_group == 0 && (mz == 1 || info->nz == 1)) return HET_MRC_IMAGES;
    return HET_MRC_VOLUME;
}

static het_status parse_axes(const char *path, const uint8_t *header, het_mrc_info *info)
{
    const int swap = info->big_endian;
    int seen = 0, zero = 0;
    for (int i = 0; i < 3; i++) {
        info->axis[i] = word_at(header, WORD_MAPC + i, swap) - 1;
        if (info->axis[i] < 0) zero++;
        else seen |= 1 << info->axis[i];
    }
    if (zero == 3) { /* old files leave the fields empty */
        for (int i = 0; i < 3; i++) info->axis[i] = i;
    } else if (seen != 7) {
        return het_fail(HET_E_INPUT, "%s: the header's axis order %d,%d,%d is no permutation of 1,2,3", path,
                        info->axis[0] + 1, info->axis[1] + 1, info->axis[2] + 1);
    }
    const int32_t mz = word_at(header, WORD_MX + 2, swap);
    info->volumes = 1;
    if (info->space_group >= 401 && mz > 0 && info->nz % mz == 0) info->volumes = info->nz / mz;
    const int64_t n[3] = {info->nx, info->ny, info->nz / info->volumes};
    for (int i = 0; i < 3; i++) {
        info->size[info->axis[i]] = n[i];
        const int32_t intervals = word_at(header, WORD_MX + i, swap);
        const double apix = intervals > 0 ? (double)float_at(header, WORD_CELL + i, swap) / intervals : 0.0;
        info->apix[i] = apix > 0.01 && apix < 1000.0 ? apix
                                                     : 0.0; /* anything else is another unit or garbage */
    }
    return HET_OK;
}

static het_status parse_header(const char *path, const uint8_t *header, het_mrc *mrc, int64_t *data_bytes)
{
    het_mrc_info *info = &mrc->info;
    const int order = byte_order(header);
    if (order < 0)
        return het_fail(HET_E_INPUT, "%s: this is no MRC/CCP4 file (its header makes no sense)", path);
    info->big_endian = order;
    info->nx = word_at(header, WORD_NX, order);
    info->ny = word_at(header, WORD_NY, order);
    info->nz = word_at(header, WORD_NZ, order);
    info->mode = word_at(header, WORD_MODE, order);
    info->space_group = word_at(header, WORD_SPACE_GROUP, order);
    info->data_offset = HEADER + (int64_t)word_at(header, WORD_EXTENDED, order);
    mrc->pixel_bytes = bytes_of_mode(info->mode);
    if (mrc->pixel_bytes == 0)
        return het_fail(HET_E_INPUT,
                        "%s: MRC mode %d (complex or packed numbers) holds no images; "
                        "convert it to mode 0, 1, 2, 6 or 12",
                        path, info->mode);
    mrc->unsigned_bytes = word_at(header, WORD_IMOD_STAMP, order) == IMOD_STAMP &&
                          !(word_at(header, WORD_IMOD_FLAGS, order) & IMOD_SIGNED_BYTES);
    mrc->section = info->nx * info->ny; /* each below 2^31 */
    if (__builtin_mul_overflow(mrc->section, mrc->pixel_bytes, data_bytes) ||
        __builtin_mul_overflow(*data_bytes, info->nz, data_bytes) || *data_bytes > INT64_MAX / 4)
        return het_fail(HET_E_INPUT, "%s: the header's sizes %lld x %lld x %lld cannot be", path,
                        (long long)info->nx, (long long)info->ny, (long long)info->nz);
    const het_status status = parse_axes(path, header, info);
    if (status == HET_OK) info->kind = kind_of(path, info, word_at(header, WORD_MX + 2, order));
    return status;
}

static het_status check_size(het_mrc *mrc, int64_t have, int64_t data_bytes)
{
    het_mrc_info *info = &mrc->info;
    const int64_t need = info->data_offset + data_bytes;
    if (have < need)
        return het_fail(
            HET_E_INPUT,
            "%s: the header says %lld x %lld x %lld pixels of mode %d (%lld bytes in all), but the "
            "file has %lld: cut off or a wrong header; copy or write it again",
            mrc->path, (long long)info->nx, (long long)info->ny, (long long)info->nz, info->mode,
            (long long)need, (long long)have);
    info->extra = have > need;
    return HET_OK;
}

/* Read up to `bytes`; *got is less only at the end of the file. */
static het_status read_at(const char *path, int fd, void *to, int64_t offset, int64_t bytes, int64_t *got)
{
    *got = 0;
    while (*got < bytes) {
        const int64_t most = bytes - *got < (1 << 30) ? bytes - *got : 1 << 30;
        const ssize_t n = pread(fd, (char *)to + *got, (size_t)most, offset + *got);
        if (n < 0 && errno == EINTR) continue;
        if (n < 0) return het_fail(HET_E_IO, "%s: cannot read: %s", path, strerror(errno));
        if (n == 0) break;
        *got += n;
    }
    return HET_OK;
}

static int64_t inflate_some(gzFile file, void *to, int64_t bytes)
{
    int64_t got = 0;
    while (got < bytes) {
        const int n = gzread(file, (char *)to + got, (unsigned)(bytes - got < BLOCK ? bytes - got : BLOCK));
        if (n <= 0) break;
        got += n;
    }
    return got;
}

/* The pixels of a gzip'ed file, unpacked into memory: its sizes are not known before the end. */
static het_status open_gzip(het_mrc *mrc, int64_t packed)
{
    het_status status = HET_OK;
    uint8_t header[HEADER], rest[1 << 12];
    int64_t data_bytes = 0;
    gzFile file = gzopen(mrc->path, "rb");
    if (file == NULL) HET_TRY(het_fail(HET_E_IO, "%s: cannot open: %s", mrc->path, strerror(errno)));
    if (inflate_some(file, header, HEADER) < HEADER)
        HET_TRY(het_fail(HET_E_INPUT, "%s: shorter than an MRC header when unpacked, or damaged", mrc->path));
    HET_TRY(parse_header(mrc->path, header, mrc, &data_bytes));
    if (data_bytes / 1100 > packed) /* deflate packs at most 1032:1 */
        HET_TRY(check_size(mrc, packed, data_bytes));
    mrc->memory = het_alloc((size_t)data_bytes);
    if (mrc->memory == NULL)
        HET_TRY(het_fail(HET_E_MEMORY, "%s: no memory to unpack %lld MB; unpack it with gunzip", mrc->path,
                         (long long)(data_bytes >> 20)));
    for (int64_t left = mrc->info.data_offset - HEADER; left > 0;) {
        const int64_t n = inflate_some(file, rest, left < (int64_t)sizeof rest ? left : (int64_t)sizeof rest);
        if (n == 0) break;
        left -= n;
    }
    int64_t have = mrc->info.data_offset + inflate_some(file, mrc->memory, data_bytes);
    have += inflate_some(file, rest, sizeof rest);
    HET_TRY(check_size(mrc, have, data_bytes));
done:
    if (file != NULL) gzclose(file);
    return status;
}

het_status het_mrc_open(het_mrc **opened, const char *path)
{
    het_status status = HET_OK;
    uint8_t header[HEADER];
    int64_t got = 0, data_bytes = 0;
    struct stat about;
    *opened = NULL;
    het_mrc *mrc = het_alloc(sizeof *mrc);
    if (mrc == NULL) return het_fail(HET_E_MEMORY, "%s: no memory", path);
    mrc->fd = open(path, O_RDONLY | O_CLOEXEC);
    if (mrc->fd < 0) HET_TRY(het_fail(HET_E_IO, "%s: cannot open: %s", path, strerror(errno)));
    mrc->path = het_alloc(strlen(path) + 1);
    if (mrc->path == NULL) HET_TRY(het_fail(HET_E_MEMORY, "%s: no memory", path));
    memcpy(mrc->path, path, strlen(path) + 1);
    if (fstat(mrc->fd, &about) != 0) HET_TRY(het_fail(HET_E_IO, "%s: %s", path, strerror(errno)));
    if (!S_ISREG(about.st_mode))
        HET_TRY(het_fail(HET_E_INPUT, "%s: not a file but a folder or a device", path));
    HET_TRY(read_at(path, mrc->fd, header, 0, HEADER, &got));
    if (got >= 2 && header[0] == 0x1f && header[1] == 0x8b) {
        HET_TRY(open_gzip(mrc, about.st_size));
    } else if (got < HEADER) {
        HET_TRY(het_fail(HET_E_INPUT, "%s: no MRC file: %lld bytes are less than the header's 1024", path,
                         (long long)got));
    } else {
        HET_TRY(parse_header(path, header, mrc, &data_bytes));
        HET_TRY(check_size(mrc, about.st_size, data_bytes));
    }
    *opened = mrc;
    return HET_OK;
done:
    het_mrc_close(mrc);
    return status;
}

void het_mrc_close(het_mrc *mrc)
{
    if (mrc == NULL) return;
    if (mrc->fd >= 0) close(mrc->fd);
    het_release(mrc->memory);
    het_release(mrc->path);
    het_release(mrc);
}

const het_mrc_info *het_mrc_get_info(const het_mrc *mrc)
{
    return &mrc->info;
}

static void swap16(uint16_t *x, int64_t n)
{
    for (int64_t i = 0; i < n; i++) x[i] = (uint16_t)(x[i] << 8 | x[i] >> 8);
}

static void swap32(float *pixels, int64_t n)
{
    uint8_t *at = (uint8_t *)pixels;
    for (int64_t i = 0; i < n; i++) {
        uint32_t x;
        memcpy(&x, at + 4 * i, 4);
        x = __builtin_bswap32(x);
        memcpy(at + 4 * i, &x, 4);
    }
}

static void convert(const het_mrc *mrc, float *y, void *raw, int64_t n)
{
    const int8_t *i8 = raw;
    const uint8_t *u8 = raw;
    const int16_t *i16 = raw;
    const uint16_t *u16 = raw;
    if (mrc->pixel_bytes == 2 && mrc->info.big_endian) swap16(raw, n);
    switch (mrc->info.mode) {
    case 0:
        if (mrc->unsigned_bytes)
            for (int64_t i = 0; i < n; i++) y[i] = u8[i];
        else
            for (int64_t i = 0; i < n; i++) y[i] = i8[i];
        break;
    case 1:
        for (int64_t i = 0; i < n; i++) y[i] = i16[i];
        break;
    case 6:
        for (int64_t i = 0; i < n; i++) y[i] = u16[i];
        break;
    default: het_half_to_float(y, u16, (size_t)n); break;
    }
}

static het_status read_raw(const het_mrc *mrc, void *to, int64_t pixel, int64_t pixels)
{
    const int64_t offset = pixel * mrc->pixel_bytes, bytes = pixels * mrc->pixel_bytes;
    int64_t got = 0;
    if (mrc->memory != NULL) {
        memcpy(to, mrc->memory + offset, (size_t)bytes);
        return HET_OK;
    }
    const het_status status = read_at(mrc->path, mrc->fd, to, mrc->info.data_offset + offset, bytes, &got);
    if (status == HET_OK && got < bytes)
        return het_fail(HET_E_IO, "%s: became shorter while it was read", mrc->path);
    return status;
}

/* Sections first .. first+count-1 as float32; the range is the caller's to check. */
static het_status read_sections(const het_mrc *mrc, float *y, int64_t first, int64_t count)
{
    het_status status = HET_OK;
    const int64_t start = first * mrc->section, total = count * mrc->section;
    void *raw = NULL;
    if (mrc->info.mode == 2) {
        HET_TRY(read_raw(mrc, y, start, total));
        if (mrc->info.big_endian) swap32(y, total);
        return HET_OK;
    }
    const int64_t most = BLOCK / mrc->pixel_bytes < total ? BLOCK / mrc->pixel_bytes : total;
    raw = het_alloc((size_t)(most * mrc->pixel_bytes));
    if (raw == NULL) HET_TRY(het_fail(HET_E_MEMORY, "%s: no memory to read", mrc->path));
    for (int64_t at = 0; at < total; at += most) {
        const int64_t n = total - at < most ? total - at : most;
        HET_TRY(read_raw(mrc, raw, start + at, n));
        convert(mrc, y + at, raw, n);
    }
done:
    het_release(raw);
    return status;
}

het_status het_mrc_read(const het_mrc *mrc, float *images, int64_t first, int64_t count)
{
    const het_mrc_info *info = &mrc->info;
    if (first < 0 || count < 0 || first > info->nz || count > info->nz - first)
        return het_fail(HET_E_INPUT, "%s: image %lld is outside the file's %lld images", mrc->path,
                        (long long)(first < 0 ? first : first + count), (long long)info->nz);
    if (info->axis[0] != 0 || info->axis[1] != 1)
        return het_fail(HET_E_INPUT,
                        "%s: axis order %d,%d,%d: only maps may be stored in another order than 1,2,3",
                        mrc->path, info->axis[0] + 1, info->axis[1] + 1, info->axis[2] + 1);
    return read_sections(mrc, images, first, count);
}

het_status het_mrc_read_list(const het_mrc *mrc, float *images, const int64_t *index, int64_t count)
{
    for (int64_t i = 0, run; i < count; i += run) {
        for (run = 1; i + run < count && index[i + run] == index[i] + run;) run++;
        const het_status status = het_mrc_read(mrc, images + i * mrc->section, index[i], run);
        if (status != HET_OK) return status;
    }
    return HET_OK;
}

het_status het_mrc_read_volume(const het_mrc *mrc, float *volume, int64_t which)
{
    const het_mrc_info *info = &mrc->info;
    if (which < 0 || which >= info->volumes)
        return het_fail(HET_E_INPUT, "%s: volume %lld is outside the file's %lld", mrc->path,
                        (long long)which, (long long)info->volumes);
    const int64_t sections = info->nz / info->volumes;
    if (info->axis[0] == 0 && info->axis[1] == 1)
        return read_sections(mrc, volume, which * sections, sections);
    const int64_t along[3] = {1, info->size[0], info->size[0] * info->size[1]};
    const int64_t column = along[info->axis[0]], row = along[info->axis[1]], step = along[info->axis[2]];
    float *section = het_alloc((size_t)mrc->section * sizeof *section);
    if (section == NULL) return het_fail(HET_E_MEMORY, "%s: no memory to read", mrc->path);
    het_status status = HET_OK;
    for (int64_t s = 0; s < sections; s++) {
        HET_TRY(read_sections(mrc, section, which * sections + s, 1));
        for (int64_t r = 0; r < info->ny; r++)
            for (int64_t c = 0; c < info->nx; c++)
                volume[s * step + r * row + c * column] = section[r * info->nx + c];
    }
done:
    het_release(section);
    return status;
}

het_status het_mrc_load_volume(const char *path, float **volume, het_mrc_info *info)
{
    het_status status = HET_OK;
    het_mrc *mrc = NULL;
    *volume = NULL;
    HET_TRY(het_mrc_open(&mrc, path));
    *info = mrc->info;
    if (info->extra) het_warn("%s: longer than its header says; the rest is left alone", path);
    const int64_t voxels = info->size[0] * info->size[1] * info->size[2];
    *volume = het_alloc((size_t)voxels * sizeof **volume);
    if (*volume == NULL)
        HET_TRY(het_fail(HET_E_MEMORY, "%s: no memory for %lld voxels", path, (long long)voxels));
    HET_TRY(het_mrc_read_volume(mrc, *volume, 0));
done:
    het_mrc_close(mrc);
    if (status != HET_OK) {
        het_release(*volume);
        *volume = NULL;
    }
    return status;
}
