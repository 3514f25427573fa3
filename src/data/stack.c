#include "stack.h"

#include <assert.h>
#include <errno.h>
#include <limits.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "../arena.h"
#include "half.h"
#include "stack_part.h"

struct het_stack {
    het_stack_info info;
    int64_t part_count, names_size;
    het_stack_part *parts;      /* one for a plain stack */
    char *names;                /* their paths, one after another */
    het_stack_sources *sources; /* (part_count), each read when it is asked for the first time */
    het_open_files *files;
};

static const char *path_of(const het_stack *stack, const het_stack_part *p)
{
    return stack->names + p->name;
}

/* ---- opening ---- */

static int is_list(const char *path)
{
    const size_t length = strlen(path);
    return length > 4 && strcmp(path + length - 4, ".txt") == 0;
}

/* Make room for one more part and note its path. */
static het_status add_path(het_stack *stack, const char *path)
{
    const size_t length = strlen(path) + 1, size = (size_t)stack->names_size;
    char *names = realloc(stack->names, size + length);
    if (names != NULL) stack->names = names;
    het_stack_part *parts = realloc(stack->parts, (size_t)(stack->part_count + 1) * sizeof *parts);
    if (parts != NULL) stack->parts = parts;
    if (names == NULL || parts == NULL) return het_fail(HET_E_MEMORY, "%s: no memory", path);
    memcpy(names + size, path, length);
    parts[stack->part_count++] = (het_stack_part){.name = stack->names_size};
    stack->names_size += (int64_t)length;
    return HET_OK;
}

/* A line of a list: the name of a stack, relative to the list's folder; "" in `path` for none. */
static het_status listed_path(char path[PATH_MAX], const char *list, int64_t line, char *text)
{
    const char *slash = strrchr(list, '/');
    char *end = text + strlen(text);
    while (end > text && strchr(" \t\r\n", end[-1]) != NULL) *--end = '\0';
    text += strspn(text, " \t");
    *path = '\0';
    if (*text == '\0' || *text == '#') return HET_OK;
    const int folder = *text == '/' || slash == NULL ? 0 : (int)(slash - list + 1);
    if (snprintf(path, PATH_MAX, "%.*s%s", folder, list, text) >= PATH_MAX)
        return het_fail(HET_E_INPUT, "%s line %lld: the name is too long", list, (long long)line);
    return HET_OK;
}

static het_status read_list(het_stack *stack, const char *list)
{
    het_status status = HET_OK;
    char path[PATH_MAX], *text = NULL;
    size_t room = 0;
    FILE *file = fopen(list, "r");
    if (file == NULL) return het_fail(HET_E_IO, "%s: cannot open it: %s", list, strerror(errno));
    for (int64_t line = 1; getline(&text, &room, file) >= 0; line++) {
        HET_TRY(listed_path(path, list, line, text));
        if (*path != '\0') HET_TRY(add_path(stack, path));
    }
    if (ferror(file)) status = het_fail(HET_E_IO, "%s: cannot read it: %s", list, strerror(errno));
    else if (stack->part_count == 0)
        status = het_fail(HET_E_INPUT, "%s: this list names no stack: write the name of one on each line", list);
done:
    free(text);
    fclose(file);
    return status;
}

/* Add a part to the sizes of the whole. */
static het_status join(het_stack *stack, het_stack_part *p)
{
    het_stack_info *all = &stack->info;
    const het_stack_info *info = &p->info;
    if (p == stack->parts) {
        *all = *info;
        all->files = stack->part_count;
        return HET_OK;
    }
    if (info->box != all->box || fabs(info->apix - all->apix) > 1e-4 * all->apix)
        return het_fail(HET_E_INPUT, "%s: box %lld at %g A differs from box %lld at %g A in %s", path_of(stack, p),
                        (long long)info->box, info->apix, (long long)all->box, all->apix, path_of(stack, stack->parts));
    if (!het_whitening_equal(&info->whitening, &all->whitening))
        return het_fail(HET_E_INPUT, "%s: its noise was whitened in another way than that of %s: import both with --whiten %s, or --whiten no", path_of(stack, p),
                        path_of(stack, stack->parts), path_of(stack, stack->parts));
    p->first = all->count;
    all->count += info->count;
    if (info->type == HET_F32) all->type = HET_F32;
    if (info->shift_range > all->shift_range) all->shift_range = info->shift_range;
    all->has_truth &= info->has_truth;
    all->has_source &= info->has_source;
    all->recentred |= info->recentred;
    return HET_OK;
}

/* Headers of all files. A single file's mean and deviation are its attributes. */
static het_status read_headers(het_stack *stack)
{
    het_status status = HET_OK;
    het_moments moments = {0};
    for (int64_t k = 0; k < stack->part_count; k++) {
        het_h5_input input;
        het_stack_part *p = &stack->parts[k];
        const int64_t name = p->name;
        HET_TRY(het_h5_open(&input, path_of(stack, p)));
        status = het_stack_part_read(p, &input);
        p->name = name;
        if (status == HET_OK) status = join(stack, p);
        if (status == HET_OK && stack->part_count > 1) status = het_stack_part_moments(&moments, p, &input);
        het_h5_close(&input);
        HET_TRY(status);
    }
    if (stack->part_count > 1) {
        stack->info.mean = moments.mean;
        stack->info.std = het_moments_std(&moments, stack->info.box * stack->info.box);
    }
done:
    return status;
}

static het_status read_all_headers(het_stack *stack, const char *path)
{
    het_status status = HET_OK;
    if (!is_list(path)) {
        HET_TRY(add_path(stack, path));
        return read_headers(stack);
    }
    HET_TRY(read_list(stack, path));
    status = read_headers(stack);
    if (status != HET_OK) (void)het_context(status, "%s", path);
done:
    return status;
}

/* What rank 0 read, on every rank. */
static het_status share(het_stack *stack, het_comm *comm)
{
    het_status status = HET_OK;
    const int root = het_comm_rank(comm) == 0;
    HET_TRY(het_comm_broadcast(comm, &stack->info, sizeof stack->info, 0));
    HET_TRY(het_comm_broadcast(comm, &stack->part_count, sizeof stack->part_count, 0));
    HET_TRY(het_comm_broadcast(comm, &stack->names_size, sizeof stack->names_size, 0));
    if (!root) {
        stack->parts = malloc((size_t)stack->part_count * sizeof *stack->parts);
        stack->names = malloc((size_t)stack->names_size);
    }
    HET_TRY(het_comm_agree(comm, stack->parts != NULL && stack->names != NULL
                                     ? HET_OK
                                     : het_fail(HET_E_MEMORY, "no memory for a stack of many files")));
    HET_TRY(het_comm_broadcast(comm, stack->parts, (size_t)stack->part_count * sizeof *stack->parts, 0));
    HET_TRY(het_comm_broadcast(comm, stack->names, (size_t)stack->names_size, 0));
done:
    return status;
}

static het_status prepare(het_stack *stack)
{
    stack->sources = het_alloc((size_t)stack->part_count * sizeof *stack->sources);
    stack->files = het_open_files_new();
    if (stack->sources != NULL && stack->files != NULL) return HET_OK;
    return het_fail(HET_E_MEMORY, "no memory for a stack of %lld files", (long long)stack->part_count);
}

het_status het_stack_open(het_stack **out, const char *path)
{
    het_status status = HET_OK;
    *out = NULL;
    het_stack *stack = het_alloc(sizeof *stack);
    if (stack == NULL) return het_fail(HET_E_MEMORY, "%s: no memory", path);
    HET_TRY(read_all_headers(stack, path));
    HET_TRY(prepare(stack));
done:
    if (status == HET_OK) *out = stack;
    else het_stack_close(stack);
    return status;
}

het_status het_stack_open_together(het_stack **out, het_comm *comm, const char *path)
{
    het_status status = HET_OK;
    *out = NULL;
    het_stack *stack = het_alloc(sizeof *stack);
    HET_TRY(het_comm_agree(comm, stack != NULL ? HET_OK : het_fail(HET_E_MEMORY, "%s: no memory", path)));
    HET_TRY(het_comm_agree(comm, het_comm_rank(comm) == 0 ? read_all_headers(stack, path) : HET_OK));
    HET_TRY(share(stack, comm));
    HET_TRY(het_comm_agree(comm, prepare(stack)));
done:
    if (status == HET_OK) *out = stack;
    else het_stack_close(stack);
    return status;
}

void het_stack_close(het_stack *stack)
{
    if (stack == NULL) return;
    for (int64_t k = 0; stack->sources != NULL && k < stack->part_count; k++) het_stack_sources_free(&stack->sources[k]);
    het_release(stack->sources);
    het_open_files_free(stack->files);
    free(stack->parts);
    free(stack->names);
    het_release(stack);
}

const het_stack_info *het_stack_get_info(const het_stack *stack)
{
    return &stack->info;
}

/* ---- reading ---- */

/* The part that holds image i: the last one that begins at or before it. */
static int64_t part_of(const het_stack *stack, int64_t i)
{
    int64_t low = 0, high = stack->part_count;
    while (high - low > 1) {
        const int64_t middle = (low + high) / 2;
        if (stack->parts[middle].first <= i) low = middle;
        else high = middle;
    }
    return low;
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

static het_status read_bytes(const het_stack *stack, int64_t part, void *data, int64_t bytes, int64_t offset)
{
    const het_stack_part *p = &stack->parts[part];
    return het_open_files_read(stack->files, part, path_of(stack, p), &p->mark, data, bytes, offset);
}

/* Read `count` images that lie one after another in a part. */
static het_status read_run(const het_stack *stack, int64_t part, float *images, int64_t first, int64_t count)
{
    het_status status = HET_OK;
    const het_stack_part *p = &stack->parts[part];
    const int64_t pixels = p->info.box * p->info.box, total = count * pixels;
    const int64_t start = p->images + first * pixels * het_dtype_size(p->info.type);
    if (p->info.type == HET_F32) {
        HET_TRY(read_bytes(stack, part, images, total * (int64_t)sizeof(float), start));
    } else {
        uint16_t half[32768];
        const int64_t most = sizeof half / sizeof half[0];
        for (int64_t done = 0; done < total; done += most) {
            const int64_t n = total - done < most ? total - done : most;
            HET_TRY(read_bytes(stack, part, half, n * 2, start + done * 2));
            het_half_to_float(images + done, half, (size_t)n);
        }
    }
    for (int64_t i = 0; i < count; i++)
        if (!all_finite(images + i * pixels, pixels))
            return het_fail(HET_E_INPUT,
                            "%s: image %lld (from 0) has a NaN or infinite pixel: import again without it",
                            path_of(stack, p), (long long)(first + i));
done:
    return status;
}

/* How many of the n images from index[0] on lie one after another in its part. */
static int64_t run_length(const het_stack *stack, int64_t part, const int64_t *index, int64_t n)
{
    const int64_t last = stack->parts[part].first + stack->parts[part].info.count;
    int64_t run = 1;
    HET_ASSERT(index[0] >= 0 && index[0] < stack->info.count);
    while (run < n && index[run] == index[0] + run && index[run] < last) run++;
    return run;
}

het_status het_stack_read(const het_stack *stack, float *images, const int64_t *index, int64_t n)
{
    const int64_t pixels = stack->info.box * stack->info.box;
    for (int64_t i = 0, run; i < n; i += run) {
        const int64_t part = part_of(stack, index[i]);
        run = run_length(stack, part, index + i, n - i);
        const het_status status =
            read_run(stack, part, images + i * pixels, index[i] - stack->parts[part].first, run);
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

het_status het_stack_read_ctf(const het_stack *stack, het_ctf_row *rows, const int64_t *index, int64_t n)
{
    static_assert(sizeof(het_ctf_row) == 7 * sizeof(float), "a CTF row is seven floats");
    const int64_t bytes = sizeof *rows;
    for (int64_t i = 0, run; i < n; i += run) {
        const int64_t part = part_of(stack, index[i]);
        const het_stack_part *p = &stack->parts[part];
        const int64_t first = index[i] - p->first;
        run = run_length(stack, part, index + i, n - i);
        const het_status status = read_bytes(stack, part, rows + i, run * bytes, p->ctf + first * bytes);
        if (status != HET_OK) return status;
        for (int64_t j = 0; j < run; j++)
            if (!all_finite((const float *)(rows + i + j), 7))
                return het_fail(HET_E_INPUT, "%s: the CTF of image %lld (from 0) is not finite: mend or leave it out",
                                path_of(stack, p), (long long)(first + j));
    }
    return HET_OK;
}

static het_status read_part_truth(const het_stack *stack, const het_stack_part *p, int64_t from, int64_t n,
                                  const het_stack_truth *truth, int64_t to)
{
    het_h5_input input;
    het_status status = het_h5_open(&input, path_of(stack, p));
    if (status != HET_OK) return status;
    if (truth->rotation)
        HET_TRY(het_stack_part_rows(p, &input, "/truth/rotation", 3, 9, H5T_NATIVE_FLOAT, from, n, truth->rotation + to * 9));
    if (truth->shift)
        HET_TRY(het_stack_part_rows(p, &input, "/truth/shift", 2, 2, H5T_NATIVE_FLOAT, from, n, truth->shift + to * 2));
    if (truth->klass)
        HET_TRY(het_stack_part_rows(p, &input, "/truth/class", 1, 1, H5T_NATIVE_INT64, from, n, truth->klass + to));
    if (truth->z) HET_TRY(het_stack_part_rows(p, &input, "/truth/z", 1, 1, H5T_NATIVE_FLOAT, from, n, truth->z + to));
done:
    het_h5_close(&input);
    return status;
}

het_status het_stack_read_truth(const het_stack *stack, int64_t first, int64_t count,
                                const het_stack_truth *truth)
{
    HET_ASSERT(first >= 0 && count >= 0 && first <= stack->info.count - count);
    if (!stack->info.has_truth)
        return het_fail(HET_E_INPUT, "%s: holds no truth (rotations, shifts, classes)", path_of(stack, stack->parts));
    for (int64_t at = first, n; at < first + count; at += n) {
        const het_stack_part *p = &stack->parts[part_of(stack, at)];
        const int64_t end = p->first + p->info.count;
        n = (end < first + count ? end : first + count) - at;
        const het_status status = read_part_truth(stack, p, at - p->first, n, truth, at - first);
        if (status != HET_OK) return status;
    }
    return HET_OK;
}

/* Where the images of a part came from, read once. */
static het_status sources_of(const het_stack *stack, int64_t part, const het_stack_sources **out)
{
    het_stack_sources *sources = &stack->sources[part];
    const het_stack_part *p = &stack->parts[part];
    het_h5_input input;
    *out = sources;
    if (!p->info.has_source || sources->names != NULL) return HET_OK;
    het_status status = het_h5_open(&input, path_of(stack, p));
    if (status != HET_OK) return status;
    status = het_stack_part_sources(sources, p, &input);
    het_h5_close(&input);
    return status;
}

het_status het_stack_source(const het_stack *stack, int64_t i, const char **file, int64_t *row)
{
    const het_stack_sources *sources;
    HET_ASSERT(i >= 0 && i < stack->info.count);
    const int64_t part = part_of(stack, i);
    const het_stack_part *p = &stack->parts[part];
    const het_status status = sources_of(stack, part, &sources);
    if (status != HET_OK) return status;
    const int64_t *entry = p->info.has_source ? sources->rows + 2 * (i - p->first) : NULL;
    if (entry == NULL || entry[0] < 0)
        return het_fail(HET_E_INPUT, "%s: the source of image %lld (from 0) is not known", path_of(stack, p),
                        (long long)i);
    *file = sources->names + entry[0] * sources->name_size;
    *row = entry[1];
    return HET_OK;
}

int64_t het_stack_source_box(const het_stack *stack, int64_t i)
{
    return stack->parts[part_of(stack, i)].info.source_box;
}

int het_stack_is_in(const het_stack *stack, const char *path)
{
    for (int64_t k = 0; k < stack->part_count; k++)
        if (het_file_is_same(path_of(stack, &stack->parts[k]), path)) return 1;
    return 0;
}

het_status het_stack_moved(const het_stack *stack, int64_t i, double moved[2])
{
    const het_stack_sources *sources;
    HET_ASSERT(i >= 0 && i < stack->info.count);
    const int64_t part = part_of(stack, i);
    const het_status status = sources_of(stack, part, &sources);
    if (status != HET_OK) return status;
    for (int k = 0; k < 2; k++)
        moved[k] = sources->moved == NULL ? 0.0 : (double)sources->moved[2 * (i - stack->parts[part].first) + k];
    return HET_OK;
}
