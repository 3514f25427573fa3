#include "predictions.h"

#include <math.h>
#include <string.h>
#include <stddef.h>

#include "../arena.h"
#include "h5.h"

enum { VERSION = 1, ARRAYS = 8, MAX_Z = 64 };

/* One data set: where its pointer lies in the structure, and its row. columns 0: z_dim. */
typedef struct array {
    const char *name;
    size_t member;
    int rank;
    int64_t shape[2]; /* beyond the first dimension; 0: z_dim */
    int is_byte;
    int is_newer; /* files of older versions lack it */
} array;

static const array ARRAY[ARRAYS] = {
    {"rotation", offsetof(het_predictions, rotation), 3, {3, 3}, 0, 0},
    {"shift", offsetof(het_predictions, shift), 2, {2}, 0, 0},
    {"z", offsetof(het_predictions, z), 2, {0}, 0, 0},
    {"zstd", offsetof(het_predictions, zstd), 2, {0}, 0, 0},
    {"loss", offsetof(het_predictions, loss), 1, {0}, 0, 0},
    {"confirmed", offsetof(het_predictions, confirmed), 1, {0}, 0, 1},
    {"particle", offsetof(het_predictions, particle), 1, {0}, 0, 1},
    {"mirrored", offsetof(het_predictions, mirrored), 1, {0}, 1, 0},
};

static void **place_of(const het_predictions *p, const array *a)
{
    return (void **)((char *)(uintptr_t)p + a->member);
}

/* Full shape with the count first; returns elements per image. */
static int64_t shape_of(int64_t shape[3], const array *a, int64_t count, int64_t z_dim)
{
    int64_t columns = 1;
    shape[0] = count;
    for (int i = 1; i < a->rank; i++) {
        shape[i] = a->shape[i - 1] > 0 ? a->shape[i - 1] : z_dim;
        columns *= shape[i];
    }
    return columns;
}

static size_t item_size(const array *a)
{
    return a->is_byte ? sizeof(uint8_t) : sizeof(float);
}

het_status het_predictions_new(het_predictions *p, int64_t count, int64_t z_dim)
{
    *p = (het_predictions){.count = count, .z_dim = z_dim};
    if (count < 0 || z_dim < 1 || z_dim > MAX_Z)
        return het_fail(HET_E_SHAPE,
                        "predictions of %lld images in %lld dimensions: 1..%d dimensions are possible",
                        (long long)count, (long long)z_dim, MAX_Z);
    for (int i = 0; i < ARRAYS; i++) {
        int64_t shape[3];
        const int64_t columns = shape_of(shape, &ARRAY[i], count, z_dim);
        void *data = het_alloc((size_t)(count * columns) * item_size(&ARRAY[i]));
        if (data == NULL) {
            het_predictions_free(p);
            return het_fail(HET_E_MEMORY, "no memory for the predictions of %lld images", (long long)count);
        }
        *place_of(p, &ARRAY[i]) = data;
    }
    for (int64_t i = 0; i < count; i++) p->confirmed[i] = p->particle[i] = -1.0F;
    return HET_OK;
}

void het_predictions_move(het_predictions *p, int64_t to, int64_t from)
{
    for (int i = 0; i < ARRAYS; i++) {
        int64_t shape[3];
        const size_t bytes = (size_t)shape_of(shape, &ARRAY[i], 1, p->z_dim) * item_size(&ARRAY[i]);
        char *rows = *place_of(p, &ARRAY[i]);
        memmove(rows + (size_t)to * bytes, rows + (size_t)from * bytes, bytes);
    }
}

void het_predictions_free(het_predictions *p)
{
    for (int i = 0; i < ARRAYS; i++) het_release(*place_of(p, &ARRAY[i]));
    *p = (het_predictions){0};
}

void het_predictions_freeze(het_predictions *p)
{
    const size_t numbers = (size_t)(p->count * p->z_dim);
    memset(p->z, 0, numbers * sizeof *p->z);
    memset(p->zstd, 0, numbers * sizeof *p->zstd);
}

het_predictions het_predictions_rows(const het_predictions *all, int64_t first, int64_t count)
{
    HET_ASSERT(first >= 0 && count >= 0 && first <= all->count - count);
    return (het_predictions){.count = count,
                             .z_dim = all->z_dim,
                             .box = all->box,
                             .apix = all->apix,
                             .rotation = all->rotation + 9 * first,
                             .shift = all->shift + 2 * first,
                             .z = all->z + all->z_dim * first,
                             .zstd = all->zstd + all->z_dim * first,
                             .loss = all->loss + first,
                             .confirmed = all->confirmed + first,
                             .particle = all->particle + first,
                             .mirrored = all->mirrored + first};
}

/* All data sets, then HDF5's own records on the disk, then this rank's rows of each. */
static het_status save_arrays(het_h5_output *output, hid_t dataset[ARRAYS], int64_t total, int64_t first,
                              const het_predictions *part)
{
    het_status status = HET_OK;
    int64_t shape[3];
    for (int i = 0; i < ARRAYS; i++) {
        const array *a = &ARRAY[i];
        shape_of(shape, a, total, part->z_dim);
        HET_TRY(het_h5_create(output, &dataset[i], a->name, a->is_byte ? H5T_STD_U8LE : H5T_IEEE_F32LE,
                              a->rank, shape, NULL));
    }
    HET_TRY(het_h5_settle(output));
    for (int i = 0; i < ARRAYS; i++) {
        const array *a = &ARRAY[i];
        const int64_t row_bytes = shape_of(shape, a, total, part->z_dim) * (int64_t)item_size(a);
        HET_TRY(het_h5_write(output, dataset[i], a->name, a->is_byte ? H5T_NATIVE_UINT8 : H5T_NATIVE_FLOAT,
                             first, part->count, row_bytes, *place_of(part, a)));
    }
done:
    return status;
}

het_status het_predictions_save(het_comm *comm, const char *path, int64_t total, int64_t first,
                                const het_predictions *part, het_status mine)
{
    het_status status = het_comm_agree(comm, mine);
    if (status != HET_OK) return status;
    static const int64_t version = VERSION;
    hid_t dataset[ARRAYS];
    int64_t shape[3], bytes = 65536;
    het_h5_output output;
    for (int i = 0; i < ARRAYS; i++) {
        dataset[i] = -1;
        bytes += total * shape_of(shape, &ARRAY[i], total, part->z_dim) * (int64_t)item_size(&ARRAY[i]);
    }
    HET_TRY(het_h5_begin(&output, comm, path, bytes));
    HET_TRY(het_h5_set(&output, -1, "version", H5T_NATIVE_INT64, &version));
    HET_TRY(het_h5_set(&output, -1, "box", H5T_NATIVE_INT64, &part->box));
    HET_TRY(het_h5_set(&output, -1, "apix", H5T_NATIVE_DOUBLE, &part->apix));
    HET_TRY(save_arrays(&output, dataset, total, first, part));
done:
    for (int i = 0; i < ARRAYS; i++)
        if (dataset[i] >= 0) H5Dclose(dataset[i]);
    return het_h5_end(&output, status);
}

static het_status load_array(const het_h5_input *input, const array *a, const het_predictions *p)
{
    int64_t found[3] = {0}, shape[3], offset;
    hid_t dataset = -1;
    het_status status = HET_OK;
    shape_of(shape, a, p->count, p->z_dim);
    if (a->is_newer && H5Lexists(input->file, a->name, H5P_DEFAULT) == 0) return HET_OK;
    HET_TRY(het_h5_dataset(input, &dataset, a->name, a->rank, found, &offset));
    for (int i = 0; i < a->rank; i++)
        if (found[i] != shape[i])
            HET_TRY(het_fail(HET_E_INPUT,
                             "%s: dimension %d of /%s is %lld, not %lld: run hetacumn predict again",
                             input->path, i, a->name, (long long)found[i], (long long)shape[i]));
    if (H5Dread(dataset, a->is_byte ? H5T_NATIVE_UINT8 : H5T_NATIVE_FLOAT, H5S_ALL, H5S_ALL, H5P_DEFAULT,
                *place_of(p, a)) < 0)
        status = het_h5_fail(HET_E_INPUT, input->path, "read", a->name);
done:
    if (dataset >= 0) H5Dclose(dataset);
    return status;
}

/* det R > 0 and |R R^T - 1| small. */
static int is_rotation(const float *r)
{
    for (int i = 0; i < 3; i++) {
        for (int j = 0; j <= i; j++) {
            double dot = 0.0;
            for (int k = 0; k < 3; k++) dot += (double)r[3 * i + k] * (double)r[3 * j + k];
            if (!(fabs(dot - (i == j)) < 1e-3)) return 0;
        }
    }
    const double det = (double)r[0] * ((double)r[4] * (double)r[8] - (double)r[5] * (double)r[7]) -
                       (double)r[1] * ((double)r[3] * (double)r[8] - (double)r[5] * (double)r[6]) +
                       (double)r[2] * ((double)r[3] * (double)r[7] - (double)r[4] * (double)r[6]);
    return det > 0.0;
}

static het_status check_values(const het_predictions *p, const char *path)
{
    for (int i = 0; i < ARRAYS; i++) {
        int64_t shape[3];
        const int64_t columns = shape_of(shape, &ARRAY[i], p->count, p->z_dim);
        const float *values = *place_of(p, &ARRAY[i]);
        if (ARRAY[i].is_byte) continue;
        for (int64_t j = 0; j < p->count * columns; j++)
            if (!isfinite(values[j]))
                return het_fail(HET_E_INPUT,
                                "%s: /%s of image %lld is not finite: the run has diverged or the file is "
                                "damaged",
                                path, ARRAY[i].name, (long long)(j / columns));
    }
    for (int64_t i = 0; i < p->count; i++)
        if (!is_rotation(p->rotation + 9 * i))
            return het_fail(HET_E_INPUT, "%s: /rotation of image %lld is no rotation", path, (long long)i);
    return HET_OK;
}

het_status het_predictions_load(het_predictions *p, const char *path)
{
    *p = (het_predictions){0};
    het_status status = HET_OK;
    het_h5_input input;
    hid_t dataset = -1;
    int64_t shape[2], offset, version, box;
    double apix;
    HET_TRY(het_h5_open(&input, path));
    HET_TRY(het_h5_get(&input, -1, "version", H5T_NATIVE_INT64, &version));
    if (version != VERSION)
        HET_TRY(het_fail(HET_E_INPUT,
                         "%s: version %lld of the predictions; this program reads %d: run hetacumn predict "
                         "again",
                         path, (long long)version, VERSION));
    HET_TRY(het_h5_get(&input, -1, "box", H5T_NATIVE_INT64, &box));
    HET_TRY(het_h5_get(&input, -1, "apix", H5T_NATIVE_DOUBLE, &apix));
    if (box < 2 || !(apix > 0.0) || !isfinite(apix))
        HET_TRY(het_fail(HET_E_INPUT, "%s: box %lld and pixel size %g A are impossible", path, (long long)box,
                         apix));
    HET_TRY(het_h5_dataset(&input, &dataset, "z", 2, shape, &offset));
    if (shape[1] < 1 || shape[1] > MAX_Z)
        HET_TRY(het_fail(HET_E_INPUT, "%s: /z has %lld columns: 1..%d are possible", path,
                         (long long)shape[1], MAX_Z));
    HET_TRY(het_predictions_new(p, shape[0], shape[1]));
    p->box = box;
    p->apix = apix;
    for (int i = 0; i < ARRAYS; i++) HET_TRY(load_array(&input, &ARRAY[i], p));
    HET_TRY(check_values(p, path));
done:
    if (dataset >= 0) H5Dclose(dataset);
    het_h5_close(&input);
    if (status != HET_OK) het_predictions_free(p);
    return status;
}
