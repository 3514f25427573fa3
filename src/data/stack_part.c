#include "stack_part.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "../arena.h"

static het_status bad(const het_h5_input *input, const char *what)
{
    return het_fail(HET_E_INPUT, "%s: %s: this is no stack.h5 of this program, or it is damaged",
                    input->path, what);
}

static het_status read_whitening(het_stack_info *info, const het_h5_input *input)
{
    const het_status status = het_h5_get_row(input, -1, "whitening", HET_WHITENING_KNOTS, info->whitening.at);
    if (status != HET_OK) return status;
    for (int i = 0; i < HET_WHITENING_KNOTS; i++)
        if (!(info->whitening.at[i] > 0.0 && isfinite(info->whitening.at[i]))) return bad(input, "attribute whitening is not above 0");
    return HET_OK;
}

static het_status read_attributes(het_stack_info *info, const het_h5_input *input)
{
    het_status status = HET_OK;
    int64_t version = 0, sign = 0;
    HET_TRY(het_h5_get(input, -1, "version", H5T_NATIVE_INT64, &version));
    if (version != 1)
        return het_fail(HET_E_INPUT, "%s: stack version %lld; this program reads version 1", input->path,
                        (long long)version);
    HET_TRY(het_h5_get(input, -1, "box", H5T_NATIVE_INT64, &info->box));
    HET_TRY(het_h5_get(input, -1, "sign", H5T_NATIVE_INT64, &sign));
    HET_TRY(het_h5_get(input, -1, "apix", H5T_NATIVE_DOUBLE, &info->apix));
    HET_TRY(het_h5_get(input, -1, "mean", H5T_NATIVE_DOUBLE, &info->mean));
    HET_TRY(het_h5_get(input, -1, "std", H5T_NATIVE_DOUBLE, &info->std));
    HET_TRY(het_h5_get(input, -1, "shift_range", H5T_NATIVE_DOUBLE, &info->shift_range));
    if (H5Aexists(input->file, "source_box") > 0) HET_TRY(het_h5_get(input, -1, "source_box", H5T_NATIVE_INT64, &info->source_box));
    if (H5Aexists(input->file, "whitening") > 0) HET_TRY(read_whitening(info, input));
    info->sign = sign < 0 ? -1 : 1;
    if (info->source_box < 0) return bad(input, "attribute source_box is negative");
    if (!(info->apix > 0 && isfinite(info->apix))) return bad(input, "attribute apix is not above 0");
    if (!isfinite(info->mean) || !(info->std >= 0 && isfinite(info->std)))
        return bad(input, "attribute mean or std is not finite");
    if (!(info->shift_range >= 0 && isfinite(info->shift_range)))
        return bad(input, "attribute shift_range is negative");
done:
    return status;
}

static het_status read_layout(het_stack_part *p, const het_h5_input *input)
{
    het_status status = HET_OK;
    hid_t images = -1, type = -1, ctf = -1, ctf_type = -1, f32 = het_h5_type(HET_F32), f16 = het_h5_type(HET_F16);
    int64_t shape[3];
    HET_TRY(het_h5_dataset(input, &images, "/images", 3, shape, &p->images));
    type = H5Dget_type(images);
    if (H5Tequal(type, f32) > 0) p->info.type = HET_F32;
    else if (H5Tequal(type, f16) > 0) p->info.type = HET_F16;
    else HET_TRY(bad(input, "/images holds neither float32 nor float16"));
    if (shape[0] < 1) HET_TRY(bad(input, "/images is empty"));
    if (shape[1] != p->info.box || shape[2] != p->info.box)
        HET_TRY(bad(input, "/images does not have the box of the attribute"));
    p->info.count = shape[0];
    HET_TRY(het_h5_dataset(input, &ctf, "/ctf", 2, shape, &p->ctf));
    ctf_type = H5Dget_type(ctf);
    if (shape[0] != p->info.count || shape[1] != 7 || H5Tequal(ctf_type, f32) <= 0)
        HET_TRY(bad(input, "/ctf is not one row of seven float32 per image"));
    p->info.has_truth = het_h5_exists(input, "/truth");
    p->info.has_source = het_h5_exists(input, "/source");
    p->info.recentred = p->info.has_source && het_h5_exists(input, "/source/shift");
done:
    if (type >= 0) H5Tclose(type);
    if (ctf_type >= 0) H5Tclose(ctf_type);
    if (ctf >= 0) H5Dclose(ctf);
    if (images >= 0) H5Dclose(images);
    H5Tclose(f32);
    H5Tclose(f16);
    return status;
}

het_status het_stack_part_read(het_stack_part *p, const het_h5_input *input)
{
    het_status status = HET_OK;
    struct stat about;
    *p = (het_stack_part){0};
    HET_TRY(read_attributes(&p->info, input));
    HET_TRY(read_layout(p, input));
    if (fstat(input->fd, &about) != 0) status = het_fail(HET_E_IO, "%s: cannot read it", input->path);
    p->mark = het_file_mark_of(&about);
done:
    return status;
}

het_status het_stack_part_rows(const het_stack_part *p, const het_h5_input *input, const char *name, int rank,
                               int64_t columns, hid_t type, int64_t first, int64_t count, void *data)
{
    het_status status = HET_OK;
    hid_t set = -1, space = -1, memory = -1;
    int64_t shape[3] = {0}, offset, found = 1;
    HET_TRY(het_h5_dataset(input, &set, name, rank, shape, &offset));
    for (int i = 1; i < rank; i++) found *= shape[i];
    if (shape[0] != p->info.count || found != columns)
        HET_TRY(het_fail(HET_E_INPUT, "%s: %s does not have one row of %lld numbers per image", input->path,
                         name, (long long)columns));
    const hsize_t start[3] = {(hsize_t)first};
    const hsize_t size[3] = {(hsize_t)count, (hsize_t)shape[1], (hsize_t)shape[2]};
    space = H5Dget_space(set);
    memory = H5Screate_simple(rank, size, NULL);
    H5Sselect_hyperslab(space, H5S_SELECT_SET, start, NULL, size, NULL);
    if (H5Dread(set, type, memory, space, H5P_DEFAULT, data) < 0)
        status = het_h5_fail(HET_E_INPUT, input->path, "read", name);
done:
    if (memory >= 0) H5Sclose(memory);
    if (space >= 0) H5Sclose(space);
    if (set >= 0) H5Dclose(set);
    return status;
}

het_status het_stack_part_moments(het_moments *all, const het_stack_part *p, const het_h5_input *input)
{
    enum { BLOCK = 4096 };
    het_status status = HET_OK;
    const int64_t pixels = p->info.box * p->info.box, count = p->info.count;
    het_image_moments *block = NULL;
    if (!het_h5_exists(input, "/moments")) {
        het_moments_join(all, p->info.mean, p->info.std, count, pixels);
        return HET_OK;
    }
    block = het_alloc(BLOCK * sizeof *block);
    if (block == NULL) HET_TRY(het_fail(HET_E_MEMORY, "%s: no memory", input->path));
    for (int64_t at = 0; at < count; at += BLOCK) {
        const int64_t n = count - at < BLOCK ? count - at : BLOCK;
        HET_TRY(het_stack_part_rows(p, input, "/moments", 2, 2, H5T_NATIVE_DOUBLE, at, n, block));
        for (int64_t i = 0; i < n; i++) het_moments_add(all, &block[i], pixels);
    }
    if (!isfinite(all->mean) || !(all->deviation >= 0.0 && isfinite(all->deviation)))
        status = bad(input, "/moments is not finite");
done:
    het_release(block);
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

static het_status read_source(het_stack_sources *s, const het_stack_part *p, const het_h5_input *input)
{
    het_status status = HET_OK;
    const int64_t n = p->info.count;
    HET_TRY(read_texts(input, "/source/file", &s->file_count, &s->name_size, &s->names));
    s->rows = het_alloc((size_t)n * 2 * sizeof *s->rows);
    if (s->rows == NULL) HET_TRY(het_fail(HET_E_MEMORY, "%s: no memory for /source", input->path));
    HET_TRY(het_stack_part_rows(p, input, "/source/row", 2, 2, H5T_NATIVE_INT64, 0, n, s->rows));
    for (int64_t i = 0; i < n; i++)
        if (s->rows[2 * i] >= s->file_count)
            HET_TRY(bad(input, "/source/row names a file that is not in /source/file"));
done:
    return status;
}

static het_status read_moved(het_stack_sources *s, const het_stack_part *p, const het_h5_input *input)
{
    het_status status = HET_OK;
    const int64_t n = p->info.count;
    s->moved = het_alloc((size_t)n * 2 * sizeof *s->moved);
    if (s->moved == NULL) HET_TRY(het_fail(HET_E_MEMORY, "%s: no memory for /source/shift", input->path));
    HET_TRY(het_stack_part_rows(p, input, "/source/shift", 2, 2, H5T_NATIVE_FLOAT, 0, n, s->moved));
    for (int64_t i = 0; i < 2 * n; i++)
        if (!isfinite(s->moved[i])) HET_TRY(bad(input, "/source/shift is not finite"));
done:
    return status;
}

het_status het_stack_part_sources(het_stack_sources *s, const het_stack_part *p, const het_h5_input *input)
{
    het_status status = HET_OK;
    *s = (het_stack_sources){0};
    if (p->info.has_source) HET_TRY(read_source(s, p, input));
    if (p->info.recentred) HET_TRY(read_moved(s, p, input));
done:
    if (status != HET_OK) het_stack_sources_free(s);
    return status;
}

void het_stack_sources_free(het_stack_sources *s)
{
    het_release(s->names);
    het_release(s->rows);
    het_release(s->moved);
    *s = (het_stack_sources){0};
}
