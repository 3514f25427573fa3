#include <assert.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "../arena.h"
#include "h5.h"
#include "half.h"
#include "moments.h"
#include "stack.h"

enum { IMAGES, CTF, MOMENTS, ROTATION, SHIFT, CLASS, COORDINATE, ROWS, MOVED, SETS };

typedef struct data_set {
    const char *name;
    het_dtype type;
    int rank;
    int64_t shape[3];
    hid_t id; /* -1: not in this stack */
    hid_t disk_type;
} data_set;

struct het_stack_writer {
    het_h5_output output;
    het_comm *comm; /* borrowed */
    het_stack_info info;
    data_set set[SETS];
    het_image_moments *sums; /* (count); zero for images of other ranks */
    uint16_t *half;   /* (half_images, D, D): conversion buffer of a float16 stack */
    int64_t half_images;
    int64_t written;  /* images, by this rank */
    het_status status; /* first failure, the same on all ranks */
};

static het_status create_set(het_stack_writer *w, int which)
{
    static const float nan_fill = NAN;
    static const int64_t none_fill = -1;
    data_set *set = &w->set[which];
    const void *fill = which <= MOMENTS ? NULL : set->type == HET_I64 ? (const void *)&none_fill : &nan_fill;
    set->disk_type = het_h5_type(set->type);
    return het_h5_create(&w->output, &set->id, set->name, set->disk_type, set->rank, set->shape, fill);
}

static int64_t row_bytes(const data_set *set)
{
    int64_t items = 1;
    for (int i = 1; i < set->rank; i++) items *= set->shape[i];
    return items * het_dtype_size(set->type);
}

static het_status write_set(het_stack_writer *w, int which, int64_t first, int64_t count, const void *data)
{
    const data_set *set = &w->set[which];
    return het_h5_write(&w->output, set->id, set->name, set->disk_type, first, data != NULL ? count : 0,
                        row_bytes(set), data);
}

static void describe_sets(het_stack_writer *w)
{
    const int64_t n = w->info.count, box = w->info.box;
    const data_set sets[SETS] = {
        [IMAGES] = {"/images", w->info.type, 3, {n, box, box}, -1, -1},
        [CTF] = {"/ctf", HET_F32, 2, {n, 7, 0}, -1, -1},
        [MOMENTS] = {"/moments", HET_F64, 2, {n, 2, 0}, -1, -1},
        [ROTATION] = {"/truth/rotation", HET_F32, 3, {n, 3, 3}, -1, -1},
        [SHIFT] = {"/truth/shift", HET_F32, 2, {n, 2, 0}, -1, -1},
        [CLASS] = {"/truth/class", HET_I64, 1, {n, 0, 0}, -1, -1},
        [COORDINATE] = {"/truth/z", HET_F32, 1, {n, 0, 0}, -1, -1},
        [ROWS] = {"/source/row", HET_I64, 2, {n, 2, 0}, -1, -1},
        [MOVED] = {"/source/shift", HET_F32, 2, {n, 2, 0}, -1, -1},
    };
    memcpy(w->set, sets, sizeof sets);
}

static het_status allocate(het_stack_writer *w)
{
    const int64_t pixels = w->info.box * w->info.box;
    w->sums = het_alloc((size_t)w->info.count * sizeof *w->sums);
    if (w->info.type == HET_F16) {
        w->half_images = ((int64_t)16 << 20) / (pixels * 2) + 1;
        w->half = het_alloc((size_t)(w->half_images * pixels) * sizeof *w->half);
    }
    if (w->sums == NULL || (w->info.type == HET_F16 && w->half == NULL))
        return het_fail(HET_E_MEMORY, "no memory to write a stack of %lld images", (long long)w->info.count);
    return HET_OK;
}

static het_status write_attributes(het_stack_writer *w)
{
    het_status status = HET_OK;
    const het_stack_info *info = &w->info;
    const int64_t whole[] = {1, info->box, info->sign};
    static const char *const whole_names[] = {"version", "box", "sign"};
    const double number[] = {info->apix, info->mean, info->std, info->shift_range};
    static const char *const number_names[] = {"apix", "mean", "std", "shift_range"};
    for (int i = 0; i < 3; i++) HET_TRY(het_h5_set(&w->output, -1, whole_names[i], H5T_STD_I64LE, &whole[i]));
    for (int i = 0; i < 4; i++)
        HET_TRY(het_h5_set(&w->output, -1, number_names[i], H5T_IEEE_F64LE, &number[i]));
    if (het_whitening_is(&info->whitening)) HET_TRY(het_h5_set_row(&w->output, -1, "whitening", HET_WHITENING_KNOTS, info->whitening.at));
    if (info->source_box > 0) HET_TRY(het_h5_set(&w->output, -1, "source_box", H5T_STD_I64LE, &info->source_box));
done:
    return status;
}

het_status het_stack_create(het_stack_writer **out, het_comm *comm, const char *path,
                            const het_stack_info *info)
{
    het_status status = HET_OK;
    *out = NULL;
    HET_ASSERT(info->type == HET_F32 || info->type == HET_F16);
    if (info->count < 1 || info->box < 2 || info->box > 65536 || !(info->apix > 0))
        return het_fail(HET_E_INPUT, "%s: %lld images of box %lld at %g A per pixel make no stack", path,
                        (long long)info->count, (long long)info->box, info->apix);
    het_stack_writer *w = het_alloc(sizeof *w);
    HET_TRY(het_comm_agree(comm, w != NULL ? HET_OK : het_fail(HET_E_MEMORY, "%s: no memory", path)));
    w->comm = comm;
    w->info = *info;
    w->output.file = -1;
    describe_sets(w);
    HET_TRY(het_comm_agree(comm, allocate(w)));
    int64_t bytes = 1 << 20; /* HDF5's own records and the names of the sources */
    for (int i = 0; i < SETS; i++) {
        if ((i >= ROTATION && i <= COORDINATE && !info->has_truth) || (i == ROWS && !info->has_source) ||
            (i == MOVED && !info->recentred))
            continue;
        bytes += info->count * row_bytes(&w->set[i]);
    }
    HET_TRY(het_h5_begin(&w->output, comm, path, bytes));
    for (int i = 0; i < ROWS; i++)
        if (i < ROTATION || info->has_truth) HET_TRY(create_set(w, i));
    HET_TRY(write_attributes(w)); /* their space; the values follow */
    HET_TRY(het_h5_settle(&w->output));
    *out = w;
    return HET_OK;
done:
    if (w != NULL && w->output.path != NULL) status = het_stack_finish(w, 0, status);
    else if (w != NULL) {
        het_release(w->sums);
        het_release(w->half);
        het_release(w);
    }
    return status;
}

/* Sums of one image as stored. Errors: HET_E_INPUT for NaN, infinity, or a value beyond float16. */
static het_status add_image(het_stack_writer *w, int64_t index, const float *image)
{
    const int64_t pixels = w->info.box * w->info.box;
    double sum = 0, deviation = 0;
    for (int64_t i = 0; i < pixels; i++) sum += image[i];
    const double mean = sum / (double)pixels;
    for (int64_t i = 0; i < pixels; i++) deviation += (image[i] - mean) * (image[i] - mean);
    w->sums[index] = (het_image_moments){mean, deviation};
    if (isfinite(deviation)) return HET_OK;
    return het_fail(HET_E_INPUT, "%s: image %lld (from 0) has a pixel that is %s: %s", w->output.path,
                    (long long)index, w->half ? "NaN, infinite or beyond float16's 65504" : "NaN or infinite",
                    w->half ? "mend or leave out that image, or write float32"
                            : "mend or leave out that image");
}

/* Round a piece to float16 and take its sums from the rounded values. */
static het_status convert_piece(het_stack_writer *w, int64_t first, int64_t count, const float *images)
{
    het_status status = HET_OK;
    const int64_t pixels = w->info.box * w->info.box;
    float *rounded = het_alloc((size_t)pixels * sizeof *rounded);
    if (rounded == NULL)
        return het_fail(HET_E_MEMORY, "no memory for an image of box %lld", (long long)w->info.box);
    for (int64_t i = 0; i < count; i++) {
        uint16_t *half = w->half + i * pixels;
        het_half_from_float(half, images + i * pixels, (size_t)pixels);
        het_half_to_float(rounded, half, (size_t)pixels);
        HET_TRY(add_image(w, first + i, rounded));
    }
done:
    het_release(rounded);
    return status;
}

static het_status write_half(het_stack_writer *w, int64_t first, int64_t count, const float *images)
{
    het_status status = HET_OK;
    const int64_t pixels = w->info.box * w->info.box;
    int64_t pieces = (count + w->half_images - 1) / w->half_images;
    HET_TRY(het_comm_max_i64(w->comm, &pieces, 1));
    for (int64_t i = 0; i < pieces; i++) {
        const int64_t done = i * w->half_images < count ? i * w->half_images : count;
        const int64_t rows = count - done < w->half_images ? count - done : w->half_images;
        HET_TRY(het_comm_agree(w->comm, convert_piece(w, first + done, rows, images + done * pixels)));
        HET_TRY(write_set(w, IMAGES, first + done, rows, w->half));
    }
done:
    return status;
}

static het_status write_float(het_stack_writer *w, int64_t first, int64_t count, const float *images)
{
    het_status status = HET_OK;
    const int64_t pixels = w->info.box * w->info.box;
    for (int64_t i = 0; i < count && status == HET_OK; i++)
        status = add_image(w, first + i, images + i * pixels);
    HET_TRY(het_comm_agree(w->comm, status));
    HET_TRY(write_set(w, IMAGES, first, count, images));
done:
    return status;
}

static het_status write_truth(het_stack_writer *w, int64_t first, int64_t count, const het_stack_truth *truth)
{
    het_status status = HET_OK;
    static const het_stack_truth none;
    if (truth == NULL) truth = &none;
    const void *const columns[] = {truth->rotation, truth->shift, truth->klass, truth->z};
    for (int i = 0; i < 4; i++) HET_TRY(write_set(w, ROTATION + i, first, count, columns[i]));
done:
    return status;
}

het_status het_stack_write(het_stack_writer *w, int64_t first, int64_t count, const float *images,
                           const het_ctf_row *ctf, const het_stack_truth *truth)
{
    het_status status = HET_OK;
    static_assert(sizeof(het_ctf_row) == 7 * sizeof(float), "a CTF row is seven floats");
    HET_ASSERT(first >= 0 && count >= 0 && first <= w->info.count - count);
    if (w->info.type == HET_F16) HET_TRY(write_half(w, first, count, images));
    else HET_TRY(write_float(w, first, count, images));
    w->written += count;
    HET_TRY(write_set(w, CTF, first, count, ctf));
    if (w->info.has_truth) HET_TRY(write_truth(w, first, count, truth));
done:
    if (status != HET_OK && w->status == HET_OK) w->status = status;
    return status;
}

/* Names as texts of one fixed length: parallel HDF5 cannot write texts of varying length. */
static het_status write_names(het_stack_writer *w, int64_t file_count, const char *const *files)
{
    het_status status = HET_OK;
    hid_t set = -1, type = -1;
    char *table = NULL;
    int64_t longest = 1;
    for (int64_t i = 0; i < file_count; i++) {
        const int64_t length = (int64_t)strlen(files[i]) + 1;
        if (length > longest) longest = length;
    }
    HET_TRY(het_comm_max_i64(w->comm, &longest, 1));
    table = het_alloc((size_t)(file_count * longest));
    HET_TRY(
        het_comm_agree(w->comm, table ? HET_OK : het_fail(HET_E_MEMORY, "no memory for names of sources")));
    for (int64_t i = 0; i < file_count; i++) strcpy(table + i * longest, files[i]);
    type = H5Tcopy(H5T_C_S1);
    H5Tset_size(type, (size_t)longest);
    HET_TRY(het_h5_create(&w->output, &set, "/source/file", type, 1, &file_count, NULL));
    HET_TRY(create_set(w, ROWS));
    HET_TRY(het_h5_settle(&w->output));
    const int64_t mine = het_comm_rank(w->comm) == 0 ? file_count : 0;
    HET_TRY(het_h5_write(&w->output, set, "/source/file", type, 0, mine, longest, table));
done:
    if (set >= 0) H5Dclose(set);
    if (type >= 0) H5Tclose(type);
    het_release(table);
    return status;
}

het_status het_stack_write_source(het_stack_writer *w, int64_t file_count, const char *const *files,
                                  int64_t first, int64_t count, const int64_t *rows)
{
    het_status status = HET_OK;
    if (w->set[ROWS].id < 0) HET_TRY(write_names(w, file_count, files));
    HET_TRY(write_set(w, ROWS, first, count, rows));
done:
    if (status != HET_OK && w->status == HET_OK) w->status = status;
    return status;
}

het_status het_stack_write_moved(het_stack_writer *w, int64_t first, int64_t count, const float *moved)
{
    het_status status = HET_OK;
    HET_ASSERT(w->info.recentred);
    if (w->set[MOVED].id < 0) {
        HET_TRY(create_set(w, MOVED));
        HET_TRY(het_h5_settle(&w->output));
    }
    HET_TRY(write_set(w, MOVED, first, count, moved));
done:
    if (status != HET_OK && w->status == HET_OK) w->status = status;
    return status;
}

/* Mean and standard deviation of all pixels from those of the images, which are written too. */
static het_status sum_up(het_stack_writer *w)
{
    het_status status = HET_OK;
    const int64_t pixels = w->info.box * w->info.box;
    int64_t first, count;
    het_moments all = {0};
    HET_TRY(het_comm_sum_i64(w->comm, &w->written, 1));
    if (w->written != w->info.count)
        return het_fail(HET_E_SHAPE, "%s: %lld images were written where %lld were announced", w->output.path,
                        (long long)w->written, (long long)w->info.count);
    HET_TRY(het_comm_sum_f64(w->comm, &w->sums[0].mean, (size_t)w->info.count * 2));
    for (int64_t i = 0; i < w->info.count; i++) het_moments_add(&all, &w->sums[i], pixels);
    w->info.mean = all.mean;
    w->info.std = het_moments_std(&all, pixels);
    het_comm_share(w->comm, w->info.count, &first, &count);
    HET_TRY(write_set(w, MOMENTS, first, count, w->sums + first));
done:
    return status;
}

het_status het_stack_finish(het_stack_writer *w, int sign, het_status mine)
{
    if (w == NULL) return mine;
    if (mine == HET_OK) mine = w->status;
    het_status status = het_comm_agree(w->comm, mine);
    if (status == HET_OK) {
        w->info.sign = sign;
        status = sum_up(w);
        if (status == HET_OK) status = write_attributes(w);
    }
    for (int i = 0; i < SETS; i++) {
        if (w->set[i].id >= 0) H5Dclose(w->set[i].id);
        if (w->set[i].disk_type >= 0) H5Tclose(w->set[i].disk_type);
    }
    status = het_h5_end(&w->output, status);
    het_release(w->sums);
    het_release(w->half);
    het_release(w);
    return status;
}
