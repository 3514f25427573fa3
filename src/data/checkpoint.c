#define _GNU_SOURCE /* asprintf */
#include "checkpoint.h"

#include <dirent.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>
#include <xxhash.h>

#include "../arena.h"
#include "../log.h"
#include "h5.h"

static const char json_name[] = "json";

/* ---- writing ---- */

/* The JSON text is one more array: one row, which is a fixed-length HDF5 string that every tool shows. */
typedef struct array {
    const char *name;
    const void *data;
    hid_t type, set;
    int rank;
    const int64_t *shape;
    int64_t bytes;
} array;

static het_status create_array(het_h5_output *output, array *a)
{
    het_status status = HET_OK;
    const uint64_t hash = XXH3_64bits(a->data, (size_t)a->bytes);
    HET_TRY(het_h5_create(output, &a->set, a->name, a->type, a->rank, a->shape, NULL));
    HET_TRY(het_h5_set(output, a->set, "xxh3", H5T_STD_U64LE, &hash));
done:
    return status;
}

static array describe_field(const het_field *field)
{
    const het_tensor *t = &field->tensor;
    return (array){.name = field->name, .data = t->data, .type = het_h5_type(t->type), .set = -1, .rank = t->rank,
                   .shape = t->shape, .bytes = het_tensor_bytes(t)};
}

static array describe_json(const char *json)
{
    static const int64_t one = 1;
    const size_t length = strlen(json);
    const hid_t type = H5Tcopy(H5T_C_S1);
    H5Tset_size(type, length);
    H5Tset_strpad(type, H5T_STR_NULLPAD);
    return (array){.name = json_name, .data = json, .type = type, .set = -1, .rank = 1, .shape = &one,
                   .bytes = (int64_t)length};
}

static het_status write_arrays(het_h5_output *output, array *arrays, int count)
{
    het_status status = HET_OK;
    const int64_t version = 1;
    HET_TRY(het_h5_set(output, -1, "checkpoint", H5T_STD_I64LE, &version));
    for (int i = 0; i < count; i++) HET_TRY(create_array(output, &arrays[i]));
    HET_TRY(het_h5_settle(output));
    for (int i = 0; i < count; i++) {
        const array *a = &arrays[i];
        const int64_t rows = a->shape[0];
        HET_TRY(het_h5_write(output, a->set, a->name, a->type, 0, rows, rows > 0 ? a->bytes / rows : 0, a->data));
    }
done:
    for (int i = 0; i < count; i++) {
        if (arrays[i].set >= 0) H5Dclose(arrays[i].set);
        H5Tclose(arrays[i].type);
    }
    return status;
}

het_status het_checkpoint_save(const char *path, const het_field *fields, int count, const char *json)
{
    het_h5_output output;
    int64_t bytes = 65536 + (int64_t)strlen(json);
    array *arrays = het_alloc(((size_t)count + 1) * sizeof *arrays);
    HET_ASSERT(json[0] != '\0');
    if (arrays == NULL) return het_fail(HET_E_MEMORY, "%s: no memory", path);
    for (int i = 0; i < count; i++) bytes += het_tensor_bytes(&fields[i].tensor) + 4096;
    het_status status = het_h5_begin(&output, NULL, path, bytes);
    if (status == HET_OK) {
        for (int i = 0; i < count; i++) arrays[i] = describe_field(&fields[i]);
        arrays[count] = describe_json(json);
        status = write_arrays(&output, arrays, count + 1);
    }
    status = het_h5_end(&output, status);
    het_release(arrays);
    return status;
}

/* ---- reading ---- */

static het_status damaged(const char *path, const char *name)
{
    return het_fail(HET_E_INPUT, "%s: %s is damaged (its checksum differs): use an older checkpoint", path,
                    name);
}

static het_status open_checkpoint(het_h5_input *input, const char *path)
{
    int64_t version = 0;
    het_status status = het_h5_open(input, path);
    if (status != HET_OK) return status;
    status = het_h5_get(input, -1, "checkpoint", H5T_NATIVE_INT64, &version);
    if (status != HET_OK) status = het_fail(HET_E_INPUT, "%s: this is no checkpoint of this program", path);
    else if (version != 1)
        status = het_fail(HET_E_INPUT, "%s: checkpoint version %lld; this program reads version 1", path,
                          (long long)version);
    if (status != HET_OK) het_h5_close(input);
    return status;
}

static het_status read_json(const het_h5_input *input, char **json)
{
    het_status status = HET_OK;
    int64_t one = 0, offset = 0;
    uint64_t hash = 0;
    hid_t set = -1, type = -1;
    *json = NULL;
    HET_TRY(het_h5_dataset(input, &set, json_name, 1, &one, &offset));
    HET_TRY(het_h5_get(input, set, "xxh3", H5T_NATIVE_UINT64, &hash));
    type = H5Dget_type(set);
    const int64_t length = (int64_t)H5Tget_size(type);
    if (one != 1 || H5Tget_class(type) != H5T_STRING || H5Tis_variable_str(type))
        HET_TRY(het_fail(HET_E_INPUT, "%s: %s is no text", input->path, json_name));
    *json = malloc((size_t)length + 1);
    if (*json == NULL) HET_TRY(het_fail(HET_E_MEMORY, "%s: no memory for %s", input->path, json_name));
    (*json)[length] = '\0';
    HET_TRY(het_h5_pread(input, *json, length, offset));
    if (XXH3_64bits(*json, (size_t)length) != hash) HET_TRY(damaged(input->path, json_name));
done:
    if (status != HET_OK) {
        free(*json);
        *json = NULL;
    }
    if (type >= 0) H5Tclose(type);
    if (set >= 0) H5Dclose(set);
    return status;
}

het_status het_checkpoint_json(const char *path, char **json)
{
    het_h5_input input;
    *json = NULL;
    het_status status = open_checkpoint(&input, path);
    if (status != HET_OK) return status;
    status = read_json(&input, json);
    het_h5_close(&input);
    return status;
}

static het_status read_array(const het_h5_input *input, const het_field *field)
{
    het_status status = HET_OK;
    const het_tensor *tensor = &field->tensor;
    int64_t shape[HET_MAX_RANK] = {0}, offset = 0;
    uint64_t hash = 0;
    hid_t set = -1, found = -1;
    const hid_t type = het_h5_type(tensor->type);
    HET_TRY(het_h5_dataset(input, &set, field->name, tensor->rank, shape, &offset));
    found = H5Dget_type(set);
    if (H5Tequal(found, type) <= 0)
        HET_TRY(
            het_fail(HET_E_INPUT, "%s: %s has another number type than this run", input->path, field->name));
    for (int i = 0; i < tensor->rank; i++)
        if (shape[i] != tensor->shape[i])
            HET_TRY(
                het_fail(HET_E_INPUT,
                         "%s: %s has size %lld in dimension %d where this run has %lld: same configuration?",
                         input->path, field->name, (long long)shape[i], i, (long long)tensor->shape[i]));
    HET_TRY(het_h5_get(input, set, "xxh3", H5T_NATIVE_UINT64, &hash));
    HET_TRY(het_h5_pread(input, tensor->data, het_tensor_bytes(tensor), offset));
    if (XXH3_64bits(tensor->data, (size_t)het_tensor_bytes(tensor)) != hash)
        status = damaged(input->path, field->name);
done:
    if (found >= 0) H5Tclose(found);
    if (set >= 0) H5Dclose(set);
    H5Tclose(type);
    return status;
}

het_status het_checkpoint_load(const char *path, const het_field *fields, int count)
{
    het_h5_input input;
    het_status status = open_checkpoint(&input, path);
    if (status != HET_OK) return status;
    for (int i = 0; i < count && status == HET_OK; i++) status = read_array(&input, &fields[i]);
    het_h5_close(&input);
    return status;
}

/* ---- the folder of checkpoints ---- */

typedef struct verifier {
    const het_h5_input *input;
    XXH3_state_t *hash;
    char *buffer;
    het_status status;
} verifier;

enum { VERIFY_BUFFER = 1 << 20 };

/* Checksum of one data set, read in pieces; the number of its dimensions does not matter here. */
static het_status verify_set(verifier *v, const char *name)
{
    het_status status = HET_OK;
    uint64_t hash = 0;
    int64_t shape[H5S_MAX_RANK], offset = 0;
    const hid_t set = H5Dopen2(v->input->file, name, H5P_DEFAULT);
    if (set < 0) return het_h5_fail(HET_E_INPUT, v->input->path, "find", name);
    const hid_t space = H5Dget_space(set), type = H5Dget_type(set);
    const int rank = H5Sget_simple_extent_ndims(space);
    int64_t bytes = (int64_t)H5Tget_size(type);
    H5Tclose(type);
    H5Sclose(space);
    H5Dclose(set);
    hid_t checked = -1;
    HET_TRY(het_h5_dataset(v->input, &checked, name, rank, shape, &offset));
    HET_TRY(het_h5_get(v->input, checked, "xxh3", H5T_NATIVE_UINT64, &hash));
    for (int i = 0; i < rank; i++) bytes *= shape[i];
    XXH3_64bits_reset(v->hash);
    for (int64_t done = 0; done < bytes; done += VERIFY_BUFFER) {
        const int64_t n = bytes - done < VERIFY_BUFFER ? bytes - done : VERIFY_BUFFER;
        HET_TRY(het_h5_pread(v->input, v->buffer, n, offset + done));
        XXH3_64bits_update(v->hash, v->buffer, (size_t)n);
    }
    if (XXH3_64bits_digest(v->hash) != hash) status = damaged(v->input->path, name);
done:
    if (checked >= 0) H5Dclose(checked);
    return status;
}

static herr_t visit(hid_t root, const char *name, const H5O_info_t *info, void *context)
{
    verifier *v = context;
    (void)root;
    if (info->type != H5O_TYPE_DATASET) return 0;
    v->status = verify_set(v, name);
    return v->status != HET_OK; /* 1 ends the visit */
}

static het_status verify(const char *path)
{
    het_h5_input input;
    verifier v = {.input = &input};
    het_status status = open_checkpoint(&input, path);
    if (status != HET_OK) return status;
    v.hash = XXH3_createState();
    v.buffer = het_alloc(VERIFY_BUFFER);
    if (v.hash == NULL || v.buffer == NULL)
        v.status = het_fail(HET_E_MEMORY, "%s: no memory to verify it", path);
    else if (H5Ovisit2(input.file, H5_INDEX_NAME, H5_ITER_INC, visit, &v, H5O_INFO_BASIC) < 0)
        v.status = het_h5_fail(HET_E_INPUT, path, "list", "its content");
    XXH3_freeState(v.hash);
    het_release(v.buffer);
    het_h5_close(&input);
    return v.status;
}

/* The N of "step-N.h5"; -1 for any other name. `rest` is what follows the digits. */
static int64_t step_of(const char *name, const char *rest)
{
    if (strncmp(name, "step-", 5) != 0 || name[5] < '0' || name[5] > '9') return -1;
    char *end;
    errno = 0;
    const long long step = strtoll(name + 5, &end, 10);
    return errno == 0 && strcmp(end, rest) == 0 ? step : -1;
}

typedef struct entry {
    int64_t step;
    char *path;
} entry;

static int newest_first(const void *a, const void *b)
{
    const entry *p = a, *q = b;
    return (p->step < q->step) - (p->step > q->step);
}

static void free_entries(entry *entries, int64_t count)
{
    for (int64_t i = 0; i < count; i++) free(entries[i].path);
    free(entries);
}

/* The files step-N.h5, newest first; none when there is no such folder. */
static het_status list(const char *directory, const char *rest, entry **entries, int64_t *count)
{
    het_status status = HET_OK;
    const struct dirent *item;
    *entries = NULL;
    *count = 0;
    DIR *folder = opendir(directory);
    if (folder == NULL && errno == ENOENT) return HET_OK;
    if (folder == NULL) return het_fail(HET_E_IO, "%s: cannot list it: %s", directory, strerror(errno));
    while (status == HET_OK && (item = readdir(folder)) != NULL) {
        const int64_t step = step_of(item->d_name, rest);
        if (step < 0) continue;
        entry *more = realloc(*entries, (size_t)(*count + 1) * sizeof **entries);
        if (more != NULL) *entries = more;
        if (more == NULL || asprintf(&more[*count].path, "%s/%s", directory, item->d_name) < 0)
            status = het_fail(HET_E_MEMORY, "%s: no memory to list it", directory);
        else more[(*count)++].step = step;
    }
    closedir(folder);
    if (*count > 1) qsort(*entries, (size_t)*count, sizeof **entries, newest_first);
    return status;
}

het_status het_checkpoint_newest(const char *directory, char *path, size_t size)
{
    entry *entries;
    int64_t count;
    path[0] = '\0';
    het_status status = list(directory, ".h5", &entries, &count);
    for (int64_t i = 0; status == HET_OK && i < count && path[0] == '\0'; i++) {
        if (verify(entries[i].path) != HET_OK) het_warn("%s", het_status_message());
        else if (strlen(entries[i].path) >= size)
            status = het_fail(HET_E_IO, "%s: the path is too long", entries[i].path);
        else strcpy(path, entries[i].path);
    }
    if (status == HET_OK && count > 0 && path[0] == '\0')
        status = het_fail(HET_E_INPUT, "%s: no checkpoint in it is whole: bring one back, or begin anew with -o a new folder",
                          directory);
    free_entries(entries, count);
    return status;
}

void het_checkpoint_last(const char *directory, int64_t *step, double *time)
{
    entry *entries;
    int64_t count;
    struct stat about;
    *step = -1;
    *time = -1.0;
    if (list(directory, ".h5", &entries, &count) == HET_OK && count > 0) {
        *step = entries[0].step;
        if (stat(entries[0].path, &about) == 0)
            *time = (double)about.st_mtim.tv_sec + 1e-9 * (double)about.st_mtim.tv_nsec;
    }
    free_entries(entries, count);
}

static het_status remove_file(const char *path)
{
    return unlink(path) == 0 ? HET_OK : het_fail(HET_E_IO, "%s: cannot remove it: %s", path, strerror(errno));
}

het_status het_checkpoint_prune(const char *directory, int64_t step, int64_t keep, int64_t every)
{
    entry *entries;
    int64_t count, newer = 0;
    het_status status = list(directory, ".h5", &entries, &count);
    for (int64_t i = 0; status == HET_OK && i < count; i++) {
        const int64_t n = entries[i].step;
        newer += n > step;
        if (n <= step && (i - newer < keep || (every > 0 && n % every == 0))) continue;
        status = remove_file(entries[i].path);
    }
    free_entries(entries, count);
    return status;
}

het_status het_checkpoint_clean(const char *directory)
{
    entry *entries;
    int64_t count;
    het_status status = list(directory, ".h5.tmp", &entries, &count);
    for (int64_t i = 0; status == HET_OK && i < count; i++) status = remove_file(entries[i].path);
    free_entries(entries, count);
    return status;
}
