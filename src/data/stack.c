#include "stack.h"

#include <assert.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "../arena.h"
#include "h5.h"
#include "half.h"

/* One file of images; a plain stack is one part. */
typedef struct part {
    het_h5_input input;
    het_stack_info info;
    int64_t first;  /* index in the whole stack of its first image */
    int64_t offset; /* of /images in the file */
    int64_t file_count;
    char *names;    /* (file_count, name_size): names of the sources */
    int64_t name_size;
    int64_t *rows;  /* (count, 2) */
    float *moved;   /* (count, 2); NULL where nothing was moved */
} part;

struct het_stack {
    het_stack_info info;
    int64_t part_count;
    part *parts;
    het_ctf_row *ctf; /* (count) */
};

/* ---- opening ---- */

static het_status bad(const part *p, const char *what)
{
    return het_fail(HET_E_INPUT, "%s: %s: this is no stack.h5 of this program, or it is damaged",
                    p->input.path, what);
}

static het_status read_attributes(part *p)
{
    het_status status = HET_OK;
    int64_t version = 0, sign = 0;
    het_stack_info *info = &p->info;
    HET_TRY(het_h5_get(&p->input, -1, "version", H5T_NATIVE_INT64, &version));
    if (version != 1)
        return het_fail(HET_E_INPUT, "%s: stack version %lld; this program reads version 1", p->input.path,
                        (long long)version);
    HET_TRY(het_h5_get(&p->input, -1, "box", H5T_NATIVE_INT64, &info->box));
    HET_TRY(het_h5_get(&p->input, -1, "sign", H5T_NATIVE_INT64, &sign));
    HET_TRY(het_h5_get(&p->input, -1, "apix", H5T_NATIVE_DOUBLE, &info->apix));
    HET_TRY(het_h5_get(&p->input, -1, "mean", H5T_NATIVE_DOUBLE, &info->mean));
    HET_TRY(het_h5_get(&p->input, -1, "std", H5T_NATIVE_DOUBLE, &info->std));
    HET_TRY(het_h5_get(&p->input, -1, "shift_range", H5T_NATIVE_DOUBLE, &info->shift_range));
    info->sign = sign < 0 ? -1 : 1;
    if (!(info->apix > 0 && isfinite(info->apix))) return bad(p, "attribute apix is not above 0");
    if (!isfinite(info->mean) || !(info->std >= 0 && isfinite(info->std)))
        return bad(p, "attribute mean or std is not finite");
    if (!(info->shift_range >= 0 && isfinite(info->shift_range)))
        return bad(p, "attribute shift_range is negative");
done:
    return status;
}

static het_status read_layout(part *p)
{
    het_status status = HET_OK;
    hid_t images = -1, type = -1, f32 = het_h5_type(HET_F32), f16 = het_h5_type(HET_F16);
    int64_t shape[3];
    HET_TRY(het_h5_dataset(&p->input, &images, "/images", 3, shape, &p->offset));
    type = H5Dget_type(images);
    if (H5Tequal(type, f32) > 0) p->info.type = HET_F32;
    else if (H5Tequal(type, f16) > 0) p->info.type = HET_F16;
    else HET_TRY(bad(p, "/images holds neither float32 nor float16"));
    if (shape[0] < 1) HET_TRY(bad(p, "/images is empty"));
    if (shape[1] != p->info.box || shape[2] != p->info.box)
        HET_TRY(bad(p, "/images does not have the box of the attribute"));
    p->info.count = shape[0];
    p->info.has_truth = het_h5_exists(&p->input, "/truth");
    p->info.has_source = het_h5_exists(&p->input, "/source");
    p->info.recentred = p->info.has_source && het_h5_exists(&p->input, "/source/shift");
done:
    if (type >= 0) H5Tclose(type);
    if (images >= 0) H5Dclose(images);
    H5Tclose(f32);
    H5Tclose(f16);
    return status;
}

/* Read rows [first, first+count) of a data set of `columns` numbers per image. */
static het_status read_rows(const part *p, const char *name, int rank, int64_t columns, hid_t type,
                            int64_t first, int64_t count, void *data)
{
    het_status status = HET_OK;
    hid_t set = -1, space = -1, memory = -1;
    int64_t shape[3] = {0}, offset, found = 1;
    HET_TRY(het_h5_dataset(&p->input, &set, name, rank, shape, &offset));
    for (int i = 1; i < rank; i++) found *= shape[i];
    if (shape[0] != p->info.count || found != columns)
        HET_TRY(het_fail(HET_E_INPUT, "%s: %s does not have one row of %lld numbers per image", p->input.path,
                         name, (long long)columns));
    const hsize_t start[3] = {(hsize_t)first};
    const hsize_t size[3] = {(hsize_t)count, (hsize_t)shape[1], (hsize_t)shape[2]};
    space = H5Dget_space(set);
    memory = H5Screate_simple(rank, size, NULL);
    H5Sselect_hyperslab(space, H5S_SELECT_SET, start, NULL, size, NULL);
    if (H5Dread(set, type, memory, space, H5P_DEFAULT, data) < 0)
        status = het_h5_fail(HET_E_INPUT, p->input.path, "read", name);
done:
    if (memory >= 0) H5Sclose(memory);
    if (space >= 0) H5Sclose(space);
    if (set >= 0) H5Dclose(set);
    return status;
}

/* A one-dimensional data set of texts, fixed or varying, as a table of `*size` bytes per text. */
static het_status read_texts(const het_h5_input *input, const char *name, int64_t *count, int64_t *size,
                             char **table)
{
    het_status status = HET_OK;
    hid_t type = -1, memory = -1, space = -1;
    char **texts = NULL;
    hsize_t length = 0;
    const hid_t set = H5Dopen2(input->file, name, H5P_DEFAULT);
    if (set < 0) return het_h5_fail(HET_E_INPUT, input->path, "find", name);
    type = H5Dget_type(set);
    space = H5Dget_space(set);
    if (H5Tget_class(type) != H5T_STRING || H5Sget_simple_extent_ndims(space) != 1)
        HET_TRY(het_fail(HET_E_INPUT, "%s: %s is no list of texts", input->path, name));
    H5Sget_simple_extent_dims(space, &length, NULL);
    *count = (int64_t)length;
    const int varying = H5Tis_variable_str(type) > 0;
    const size_t item = varying ? sizeof(char *) : H5Tget_size(type);
    *size = (int64_t)item + 1;
    if (length > (hsize_t)INT32_MAX || item > 65536 ||
        (!varying && (int64_t)length > input->size / (int64_t)item))
        HET_TRY(het_fail(HET_E_INPUT, "%s: %s has impossible dimensions: it is damaged", input->path, name));
    memory = H5Tcopy(type);
    texts = het_alloc((length + 1) * item);
    if (texts == NULL) HET_TRY(het_fail(HET_E_MEMORY, "%s: no memory for %s", input->path, name));
    if (H5Dread(set, memory, H5S_ALL, H5S_ALL, H5P_DEFAULT, texts) < 0)
        HET_TRY(het_h5_fail(HET_E_INPUT, input->path, "read", name));
    for (int64_t i = 0; varying && i < *count; i++) {
        const int64_t need = texts[i] ? (int64_t)strlen(texts[i]) + 1 : 1;
        if (need > *size) *size = need;
    }
    *table = het_alloc((size_t)((*count + 1) * *size));
    if (*table == NULL) status = het_fail(HET_E_MEMORY, "%s: no memory for %s", input->path, name);
    for (int64_t i = 0; status == HET_OK && i < *count; i++) {
        const char *from = varying ? texts[i] : (const char *)texts + i * (int64_t)item;
        if (from != NULL) memcpy(*table + i * *size, from, varying ? strlen(from) : strnlen(from, item));
    }
    if (varying) H5Dvlen_reclaim(memory, space, H5P_DEFAULT, texts);
done:
    het_release(texts);
    if (memory >= 0) H5Tclose(memory);
    H5Sclose(space);
    H5Tclose(type);
    H5Dclose(set);
    return status;
}

static het_status read_source(part *p)
{
    het_status status = HET_OK;
    const int64_t n = p->info.count;
    HET_TRY(read_texts(&p->input, "/source/file", &p->file_count, &p->name_size, &p->names));
    p->rows = het_alloc((size_t)n * 2 * sizeof *p->rows);
    if (p->rows == NULL) HET_TRY(het_fail(HET_E_MEMORY, "%s: no memory for /source", p->input.path));
    HET_TRY(read_rows(p, "/source/row", 2, 2, H5T_NATIVE_INT64, 0, n, p->rows));
    for (int64_t i = 0; i < n; i++)
        if (p->rows[2 * i] >= p->file_count)
            HET_TRY(bad(p, "/source/row names a file that is not in /source/file"));
done:
    return status;
}

static het_status read_moved(part *p)
{
    het_status status = HET_OK;
    const int64_t n = p->info.count;
    p->moved = het_alloc((size_t)n * 2 * sizeof *p->moved);
    if (p->moved == NULL) HET_TRY(het_fail(HET_E_MEMORY, "%s: no memory for /source/shift", p->input.path));
    HET_TRY(read_rows(p, "/source/shift", 2, 2, H5T_NATIVE_FLOAT, 0, n, p->moved));
    for (int64_t i = 0; i < 2 * n; i++)
        if (!isfinite(p->moved[i])) HET_TRY(bad(p, "/source/shift is not finite"));
done:
    return status;
}

static het_status open_part(part *p, const char *path)
{
    het_status status = HET_OK;
    HET_TRY(het_h5_open(&p->input, path));
    HET_TRY(read_attributes(p));
    HET_TRY(read_layout(p));
    if (p->info.has_source) HET_TRY(read_source(p));
    if (p->info.recentred) HET_TRY(read_moved(p));
done:
    return status;
}

/* The names of the files in /parts of `path`, NULL when it is a plain stack. */
static het_status read_list(const char *path, int64_t *count, int64_t *size, char **names)
{
    het_h5_input input;
    het_status status = het_h5_open(&input, path);
    if (status != HET_OK) return status;
    if (het_h5_exists(&input, "/parts")) {
        status = read_texts(&input, "/parts", count, size, names);
        if (status == HET_OK && *count < 1) status = het_fail(HET_E_INPUT, "%s: /parts is empty", path);
    }
    het_h5_close(&input);
    return status;
}

/* One file of the list; a relative name is relative to the folder of the list. */
static het_status open_listed(part *p, const char *list_path, const char *name)
{
    char path[4096];
    const char *slash = strrchr(list_path, '/');
    const int folder = name[0] == '/' || slash == NULL ? 0 : (int)(slash - list_path + 1);
    snprintf(path, sizeof path, "%.*s%s", folder, list_path, name);
    const het_status status = open_part(p, path);
    return status == HET_OK ? status : het_context(status, "%s lists %s", list_path, name);
}

/* Sizes and statistics of the whole from those of the parts (variance as in stack_writer.c). */
static het_status join(het_stack *stack)
{
    het_stack_info *all = &stack->info;
    *all = stack->parts[0].info;
    double deviation = all->std * all->std * (double)all->count;
    for (int64_t i = 1; i < stack->part_count; i++) {
        part *p = &stack->parts[i];
        const het_stack_info *info = &p->info;
        if (info->box != all->box || fabs(info->apix - all->apix) > 1e-4 * all->apix)
            return het_fail(HET_E_INPUT, "%s: box %lld at %g A differs from box %lld at %g A in %s",
                            p->input.path, (long long)info->box, info->apix, (long long)all->box, all->apix,
                            stack->parts[0].input.path);
        const double n = (double)info->count, before = (double)all->count, step = info->mean - all->mean;
        deviation += info->std * info->std * n + step * step * before * n / (before + n);
        all->mean += step * n / (before + n);
        p->first = all->count;
        all->count += info->count;
        if (info->type == HET_F32) all->type = HET_F32;
        if (info->shift_range > all->shift_range) all->shift_range = info->shift_range;
        all->has_truth &= info->has_truth;
        all->has_source &= info->has_source;
        all->recentred |= info->recentred;
    }
    if (stack->part_count > 1) all->std = sqrt(deviation / (double)all->count);
    return HET_OK;
}

static het_status load_ctf(het_stack *stack)
{
    static_assert(sizeof(het_ctf_row) == 7 * sizeof(float), "a CTF row is seven floats");
    stack->ctf = het_alloc((size_t)stack->info.count * sizeof *stack->ctf);
    if (stack->ctf == NULL)
        return het_fail(HET_E_MEMORY, "no memory for the CTF of %lld images", (long long)stack->info.count);
    for (int64_t k = 0; k < stack->part_count; k++) {
        const part *p = &stack->parts[k];
        const float *row = (const float *)(stack->ctf + p->first);
        const het_status status =
            read_rows(p, "/ctf", 2, 7, H5T_NATIVE_FLOAT, 0, p->info.count, stack->ctf + p->first);
        if (status != HET_OK) return status;
        for (int64_t i = 0; i < p->info.count * 7; i++)
            if (!isfinite(row[i]))
                return het_fail(HET_E_INPUT,
                                "%s: the CTF of image %lld (from 0) is not finite: mend or leave it out",
                                p->input.path, (long long)(i / 7));
    }
    return HET_OK;
}

het_status het_stack_open(het_stack **out, const char *path)
{
    het_status status = HET_OK;
    char *names = NULL;
    int64_t count = 1, size = 0;
    *out = NULL;
    het_stack *stack = het_alloc(sizeof *stack);
    if (stack == NULL) return het_fail(HET_E_MEMORY, "%s: no memory", path);
    HET_TRY(read_list(path, &count, &size, &names));
    stack->parts = het_alloc((size_t)count * sizeof *stack->parts);
    if (stack->parts == NULL) HET_TRY(het_fail(HET_E_MEMORY, "%s: no memory", path));
    for (; stack->part_count < count; stack->part_count++) {
        part *p = &stack->parts[stack->part_count];
        status = names != NULL ? open_listed(p, path, names + stack->part_count * size) : open_part(p, path);
        if (status == HET_OK) continue;
        stack->part_count++; /* what it holds is freed too */
        goto done;
    }
    HET_TRY(join(stack));
    HET_TRY(load_ctf(stack));
done:
    het_release(names);
    if (status == HET_OK) *out = stack;
    else het_stack_close(stack);
    return status;
}

void het_stack_close(het_stack *stack)
{
    if (stack == NULL) return;
    for (int64_t i = 0; i < stack->part_count; i++) {
        het_h5_close(&stack->parts[i].input);
        het_release(stack->parts[i].names);
        het_release(stack->parts[i].rows);
        het_release(stack->parts[i].moved);
    }
    het_release(stack->parts);
    het_release(stack->ctf);
    het_release(stack);
}

const het_stack_info *het_stack_get_info(const het_stack *stack)
{
    return &stack->info;
}

const het_ctf_row *het_stack_ctf(const het_stack *stack)
{
    return stack->ctf;
}

/* ---- reading ---- */

static const part *part_of(const het_stack *stack, int64_t i)
{
    int64_t k = 0;
    while (k + 1 < stack->part_count && stack->parts[k + 1].first <= i) k++;
    return &stack->parts[k];
}

/* All exponent bits set: NaN or infinite. Signed integers, which every x86 compares in vectors. */
static int all_finite(const float *x, int64_t n)
{
    int32_t bad = 0;
    for (int64_t i = 0; i < n; i++) {
        int32_t bits;
        memcpy(&bits, x + i, sizeof bits);
        bad |= (bits & 0x7fffffff) > 0x7f7fffff;
    }
    return bad == 0;
}

/* Read `count` images that lie one after another in a part. */
static het_status read_run(const part *p, float *images, int64_t first, int64_t count)
{
    het_status status = HET_OK;
    const int64_t pixels = p->info.box * p->info.box, total = count * pixels;
    const int64_t start = p->offset + first * pixels * het_dtype_size(p->info.type);
    if (p->info.type == HET_F32) {
        HET_TRY(het_h5_pread(&p->input, images, total * (int64_t)sizeof(float), start));
    } else {
        uint16_t half[32768];
        const int64_t most = sizeof half / sizeof half[0];
        for (int64_t done = 0; done < total; done += most) {
            const int64_t n = total - done < most ? total - done : most;
            HET_TRY(het_h5_pread(&p->input, half, n * 2, start + done * 2));
            het_half_to_float(images + done, half, (size_t)n);
        }
    }
    for (int64_t i = 0; i < count; i++)
        if (!all_finite(images + i * pixels, pixels))
            return het_fail(HET_E_INPUT,
                            "%s: image %lld (from 0) has a NaN or infinite pixel: import again without it",
                            p->input.path, (long long)(first + i));
done:
    return status;
}

het_status het_stack_read(const het_stack *stack, float *images, const int64_t *index, int64_t n)
{
    const int64_t pixels = stack->info.box * stack->info.box;
    for (int64_t i = 0, run; i < n; i += run) {
        HET_ASSERT(index[i] >= 0 && index[i] < stack->info.count);
        const part *p = part_of(stack, index[i]);
        const int64_t last = p->first + p->info.count;
        for (run = 1; i + run < n && index[i + run] == index[i] + run && index[i] + run < last; run++)
            continue;
        const het_status status = read_run(p, images + i * pixels, index[i] - p->first, run);
        if (status != HET_OK) return status;
    }
    return HET_OK;
}

het_status het_stack_read_standardised(const het_stack *stack, float *images, const int64_t *index, int64_t n)
{
    const het_stack_info *info = &stack->info;
    const het_status status = het_stack_read(stack, images, index, n);
    if (status != HET_OK) return status;
    for (int64_t i = 0; i < n * info->box * info->box; i++)
        images[i] = (float)((images[i] - info->mean) / info->std);
    return HET_OK;
}

het_status het_stack_read_truth(const het_stack *stack, int64_t first, int64_t count,
                                const het_stack_truth *truth)
{
    het_status status = HET_OK;
    HET_ASSERT(first >= 0 && count >= 0 && first <= stack->info.count - count);
    if (!stack->info.has_truth)
        return het_fail(HET_E_INPUT, "%s: holds no truth (rotations, shifts, classes)",
                        stack->parts[0].input.path);
    for (int64_t at = first; at < first + count;) {
        const part *p = part_of(stack, at);
        const int64_t end =
            p->first + p->info.count < first + count ? p->first + p->info.count : first + count;
        const int64_t from = at - p->first, n = end - at, to = at - first;
        if (truth->rotation)
            HET_TRY(
                read_rows(p, "/truth/rotation", 3, 9, H5T_NATIVE_FLOAT, from, n, truth->rotation + to * 9));
        if (truth->shift)
            HET_TRY(read_rows(p, "/truth/shift", 2, 2, H5T_NATIVE_FLOAT, from, n, truth->shift + to * 2));
        if (truth->klass)
            HET_TRY(read_rows(p, "/truth/class", 1, 1, H5T_NATIVE_INT64, from, n, truth->klass + to));
        if (truth->z) HET_TRY(read_rows(p, "/truth/z", 1, 1, H5T_NATIVE_FLOAT, from, n, truth->z + to));
        at = end;
    }
done:
    return status;
}

het_status het_stack_source(const het_stack *stack, int64_t i, const char **file, int64_t *row)
{
    HET_ASSERT(i >= 0 && i < stack->info.count);
    const part *p = part_of(stack, i);
    const int64_t *entry = p->info.has_source ? p->rows + 2 * (i - p->first) : NULL;
    if (entry == NULL || entry[0] < 0)
        return het_fail(HET_E_INPUT, "%s: the source of image %lld (from 0) is not known", p->input.path,
                        (long long)i);
    *file = p->names + entry[0] * p->name_size;
    *row = entry[1];
    return HET_OK;
}

void het_stack_moved(const het_stack *stack, int64_t i, double moved[2])
{
    HET_ASSERT(i >= 0 && i < stack->info.count);
    const part *p = part_of(stack, i);
    for (int k = 0; k < 2; k++) moved[k] = p->moved == NULL ? 0.0 : (double)p->moved[2 * (i - p->first) + k];
}
