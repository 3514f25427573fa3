#include <string.h>

#include "../arena.h"
#include "../log.h"
#include "mrc.h"
#include "particles_new.h"

struct het_particle_reader {
    const het_particles *particles;
    het_mrc *mrc; /* of file `open`; NULL: none */
    int32_t open;
};

static het_status check_file(const char *path, int64_t *box, int64_t *images)
{
    het_mrc *mrc = NULL;
    het_status status = het_mrc_open(&mrc, path);
    if (status != HET_OK) return status;
    const het_mrc_info *info = het_mrc_get_info(mrc);
    *box = info->nx;
    *images = info->nz;
    if (info->extra) het_warn("%s: longer than its header says; the rest is left alone", path);
    if (info->nx != info->ny)
        status = het_fail(HET_E_INPUT, "%s: images of %lld x %lld pixels: only square ones can be used", path,
                          (long long)info->nx, (long long)info->ny);
    het_mrc_close(mrc);
    return status;
}

het_status het_particles_check(het_particles *p, het_comm *comm)
{
    het_status status = HET_OK;
    const int rank = het_comm_rank(comm), ranks = het_comm_size(comm);
    int64_t *sizes = het_alloc((size_t)p->file_count * 2 * sizeof *sizes); /* (file_count, 2) box, images */
    if (sizes == NULL) status = het_fail(HET_E_MEMORY, "%s: no memory", p->source);
    for (int64_t f = rank; status == HET_OK && f < p->file_count; f += ranks)
        status = check_file(p->file[f], &sizes[2 * f], &sizes[2 * f + 1]);
    HET_TRY(het_comm_agree(comm, status));
    HET_TRY(het_comm_sum_i64(comm, sizes, (size_t)p->file_count * 2));
    p->box = sizes[2 * p->file_of[0]];
    for (int64_t i = 0; i < p->count; i++) {
        const int64_t *size = sizes + 2 * p->file_of[i];
        const char *file = p->file[p->file_of[i]];
        if (size[0] != p->box)
            HET_TRY(het_fail(HET_E_INPUT,
                             "%s: images of %lld pixels a side, but %s has %lld: import each size alone "
                             "(--index)",
                             file, (long long)size[0], p->file[p->file_of[0]], (long long)p->box));
        if (p->image[i] >= size[1]) {
            char place[80];
            het_particles_place(p, i, place, sizeof place);
            HET_TRY(het_fail(HET_E_INPUT, "%s: %s: image %lld of %s, which has only %lld", p->source, place,
                             (long long)p->image[i] + 1, file, (long long)size[1]));
        }
    }
done:
    het_release(sizes);
    return status;
}

het_status het_particle_reader_new(het_particle_reader **reader, const het_particles *particles)
{
    *reader = het_alloc(sizeof **reader);
    if (*reader == NULL) return het_fail(HET_E_MEMORY, "%s: no memory", particles->source);
    (*reader)->particles = particles;
    return HET_OK;
}

void het_particle_reader_free(het_particle_reader *reader)
{
    if (reader == NULL) return;
    het_mrc_close(reader->mrc);
    het_release(reader);
}

/* Not one NaN or infinity: tested on the exponent's bits, a whole image at once, so that the loop
 * vectorises. */
static int all_finite(const float *x, int64_t n)
{
    uint32_t bad = 0;
    for (int64_t i = 0; i < n; i++) {
        uint32_t bits;
        memcpy(&bits, x + i, sizeof bits);
        bad |= (bits & 0x7f800000u) == 0x7f800000u;
    }
    return !bad;
}

static het_status check_pixels(const het_particles *p, const float *images, int64_t first, int64_t count)
{
    const int64_t pixels = p->box * p->box;
    for (int64_t i = 0; i < count; i++)
        if (!all_finite(images + i * pixels, pixels))
            return het_fail(
                HET_E_INPUT,
                "%s: image %lld (particle %lld of %s) has pixels that are NaN or infinite: repair "
                "it or leave it out with --index",
                p->file[p->file_of[first + i]], (long long)p->image[first + i] + 1,
                (long long)p->row[first + i], p->source);
    return HET_OK;
}

het_status het_particle_reader_read(het_particle_reader *reader, float *images, int64_t first, int64_t count)
{
    const het_particles *p = reader->particles;
    het_status status = HET_OK;
    for (int64_t i = 0, run; i < count; i += run) {
        const int32_t file = p->file_of[first + i];
        for (run = 1; i + run < count && p->file_of[first + i + run] == file;) run++;
        if (reader->mrc == NULL || reader->open != file) {
            het_mrc_close(reader->mrc);
            reader->mrc = NULL;
            HET_TRY(het_mrc_open(&reader->mrc, p->file[file]));
            reader->open = file;
        }
        HET_TRY(het_mrc_read_list(reader->mrc, images + i * p->box * p->box, p->image + first + i, run));
        HET_TRY(check_pixels(p, images + i * p->box * p->box, first + i, run));
    }
done:
    return status;
}
