#include "start_fine.h"

#include <math.h>
#include <string.h>

#include "arena.h"
#include "log.h"
#include "observe.h"
#include "physics/fit.h"
#include "physics/fsc.h"
#include "physics/rotation.h"
#include "physics/slicer.h"
#include "physics/stats.h"
#include "progress.h"
#include "reconstruct.h"
#include "refine_poses.h"
#include "run_stage.h"
#include "stop.h"

enum { FIELDS = 5, STEPS = 4 };
static const double WORTH = 1.5;    /* times the start's radius: a box with less is left */
static const double GROWTH = 2.0;   /* of the radius in a round: poses that are right to a pixel at one are nearly so at the other */
static const double AGREED = 0.143; /* FSC of half maps (Rosenthal & Henderson 2003) */
static const double STILL = 0.1;    /* Fourier pixels at the rim: poses that move less have arrived */

typedef struct finer {
    het_start *start;
    het_comm *comm;
    het_device *dev;
    const het_stack *stack;
    het_points points;
    int64_t rounds;    /* done */
    int64_t arrived;   /* nothing is left to be done */
    double radius;     /* of the last fit, Fourier pixels */
    double full;       /* of the box */
    het_slicer slicer; /* of this round's map */
    double slice_scale;
    float *moved;      /* (images, 2): by how much in this round, rad and px */
    int64_t *group;    /* (images) 0: those that maps are made from; -1 */
} finer;

static void slices_of_map(void *context, float *slices, const float *rot, const int64_t *image, int64_t n, int64_t p)
{
    const finer *f = context;
    (void)image;
    het_slicer_slices(&f->slicer, slices, rot, n, f->points.kxy, p, f->dev->threads);
    for (int64_t i = 0; i < 2 * n * p; i++) slices[i] *= (float)f->slice_scale;
}

/* This round's map, and to which radius its halves agree: at least the last one. */
static het_status make_map(finer *f)
{
    het_status status = HET_OK;
    const double reach = fmin(GROWTH * f->radius, f->full);
    het_reconstructor *from = NULL;
    het_reconstruction made = {0};
    HET_TRY(het_reconstructor_new(&from, f->comm, f->dev, f->stack, f->start->rotation, f->start->shift, reach));
    HET_TRY(het_reconstruct(&made, from, f->group, 0, "start: a finer map"));
    het_reconstructor_free(from);
    from = NULL;
    f->radius = fmin(reach, fmax(f->radius, het_fsc_shell(made.fsc, made.map.box, AGREED, NULL)));
    f->slice_scale = made.slice_scale;
    het_slicer_free(&f->slicer);
    HET_TRY(het_comm_agree(f->comm, het_slicer_new(&f->slicer, &made.map)));
done:
    het_reconstructor_free(from);
    het_reconstruction_free(&made);
    return status;
}

typedef struct block {
    int64_t index[HET_OBSERVED];
    het_fit_pose pose[HET_OBSERVED];
    het_observer observer;
    float *images, *transform, *ctf;
} block;

static void block_free(block *b)
{
    if (b == NULL) return;
    het_observer_free(&b->observer);
    het_release(b->images);
    het_release(b->transform);
    het_release(b->ctf);
    het_release(b);
}

static het_status block_new(block **made, const finer *f)
{
    const het_stack_info *info = het_stack_get_info(f->stack);
    const size_t p = (size_t)het_points_within(&f->points, f->radius), pixels = (size_t)(info->box * info->box);
    block *b = *made = het_alloc(sizeof *b);
    if (b == NULL) return het_fail(HET_E_MEMORY, "no memory for the start's poses");
    *b = (block){.images = het_alloc(HET_OBSERVED * pixels * sizeof *b->images),
                 .transform = het_alloc(HET_OBSERVED * 2 * p * sizeof *b->transform),
                 .ctf = het_alloc(HET_OBSERVED * p * sizeof *b->ctf)};
    if (b->images == NULL || b->transform == NULL || b->ctf == NULL) return het_fail(HET_E_MEMORY, "no memory for the start's poses");
    return het_observer_new(&b->observer, f->dev, &f->points, info->apix, &info->whitening, f->radius);
}

/* n images from `first` on. */
static het_status fit_block(finer *f, block *b, int64_t first, int64_t n)
{
    het_status status = HET_OK;
    het_start *s = f->start;
    const het_fit_spec spec = {.points = &f->points, .row = b->observer.p, .radius = f->radius, .steps = STEPS,
                               .threads = f->dev->threads, .slices = slices_of_map, .context = f};
    for (int64_t i = 0; i < n; i++) {
        b->index[i] = first + i;
        b->pose[i] = (het_fit_pose){.image = i};
        memcpy(b->pose[i].rotation, s->rotation + 9 * (first + i), sizeof b->pose[i].rotation);
        memcpy(b->pose[i].shift, s->shift + 2 * (first + i), sizeof b->pose[i].shift);
    }
    HET_TRY(het_observe_stack(&b->observer, b->transform, b->ctf, b->images, f->stack, b->index, n));
    HET_TRY(het_fit_run(&spec, b->pose, n, b->transform, b->ctf));
    for (int64_t i = 0; i < n; i++) {
        float *rotation = s->rotation + 9 * (first + i), *shift = s->shift + 2 * (first + i);
        const het_fit_pose *to = &b->pose[i];
        if (!isfinite(to->loss)) continue; /* the pose stays */
        f->moved[2 * (first + i)] = (float)het_rotation_angle(het_poses_distance2(rotation, to->rotation));
        f->moved[2 * (first + i) + 1] = hypotf(to->shift[0] - shift[0], to->shift[1] - shift[1]);
        memcpy(rotation, to->rotation, sizeof to->rotation);
        memcpy(shift, to->shift, sizeof to->shift);
    }
done:
    return status;
}

/* This rank's images. */
static het_status fit_own(finer *f)
{
    het_status status = HET_OK;
    block *b = NULL;
    het_progress progress;
    int64_t done = 0;
    het_progress_start(&progress, f->comm, "start: finer poses", f->start->count);
    HET_TRY(block_new(&b, f));
    for (int64_t part = 0; part < het_comm_parts(f->comm); part++) {
        int64_t first, count;
        het_comm_part(f->comm, part, f->start->count, &first, &count);
        for (int64_t at = first; at < first + count; at += HET_OBSERVED) {
            const int64_t n = first + count - at < HET_OBSERVED ? first + count - at : HET_OBSERVED;
            HET_TRY(fit_block(f, b, at, n));
            if (het_stop_signal() != 0) HET_TRY(het_stop_status()); /* not for its time: every start of the program gets on */
            done += n;
            het_progress_step(&progress, done * het_comm_size(f->comm));
        }
    }
done:
    het_progress_end(&progress);
    block_free(b);
    return status;
}

/* Every image's pose and how far it went, to all ranks. */
static het_status share(const finer *f)
{
    het_status status = HET_OK;
    const het_start *s = f->start;
    int64_t first, own;
    het_comm_share(f->comm, s->count, &first, &own);
    HET_TRY(het_comm_unite_rows(f->comm, s->rotation, s->count, 9, first, own));
    HET_TRY(het_comm_unite_rows(f->comm, s->shift, s->count, 2, first, own));
    status = het_comm_unite_rows(f->comm, f->moved, s->count, 2, first, own);
done:
    return status;
}

/* Median over the images; 0 turns, 1 shifts. */
static het_status median_moved(double *median, const finer *f, int which)
{
    const int64_t n = f->start->count;
    double *sorted = het_alloc((size_t)n * sizeof *sorted);
    if (sorted == NULL) return het_fail(HET_E_MEMORY, "no memory for the start's poses");
    for (int64_t i = 0; i < n; i++) sorted[i] = (double)f->moved[2 * i + which];
    *median = het_median(sorted, n);
    het_release(sorted);
    return HET_OK;
}

/* All poses to their minima against the map. before: the radius of the last round. */
static het_status fit_all(finer *f, double before)
{
    het_status status = HET_OK;
    double turn = 0.0, shift = 0.0;
    const het_stack_info *info = het_stack_get_info(f->stack);
    memset(f->moved, 0, (size_t)f->start->count * 2 * sizeof *f->moved);
    HET_TRY(het_comm_agree(f->comm, fit_own(f)));
    HET_TRY(share(f));
    HET_TRY(het_comm_agree(f->comm, median_moved(&turn, f, 0)));
    HET_TRY(het_comm_agree(f->comm, median_moved(&shift, f, 1)));
    f->rounds++;
    het_info("start: finer poses, round %lld, to %.1f A: moved by %.2f degrees and %.2f px (median)", (long long)f->rounds,
             (double)info->box * info->apix / f->radius, 180.0 / M_PI * turn, shift);
    f->arrived = f->radius < 1.05 * before && turn * f->radius < STILL;
done:
    return status;
}

static het_status do_rounds(finer *f, const het_start_volume_spec *spec)
{
    het_status status = HET_OK;
    int there;
    const het_start *s = f->start;
    const het_field field[FIELDS] = {{"rotation", {s->rotation, HET_F32, 3, {s->count, 3, 3}}},
                                     {"shift", {s->shift, HET_F32, 2, {s->count, 2}}},
                                     {"rounds", {&f->rounds, HET_I64, 1, {1}}},
                                     {"arrived", {&f->arrived, HET_I64, 1, {1}}},
                                     {"radius", {&f->radius, HET_F64, 1, {1}}}};
    const het_stage stage = {.comm = f->comm, .folder = spec->folder, .name = "fine", .about = spec->about, .field = field, .count = FIELDS};
    HET_TRY(het_stage_recall(&stage, &there));
    while (!f->arrived && f->rounds < spec->init->fine_rounds) {
        const double before = f->radius;
        status = make_map(f);
        if (status == HET_E_MEMORY) {
            het_warn("%s: the start's poses stay as fine as they are", het_status_message());
            status = HET_OK;
            break;
        }
        HET_TRY(status);
        HET_TRY(fit_all(f, before));
        het_stage_keep(&stage);
        HET_TRY(het_comm_agree(f->comm, het_stop_check()));
    }
done:
    return status;
}

static double full_of(int64_t box)
{
    return (double)(box / 2 - 1);
}

/* Whether there is anything to be done for the box. */
static int is_worth(const het_config_init *init, int64_t box)
{
    return init->fine_rounds > 0 && full_of(box) >= WORTH * fmin(init->radius, full_of(box));
}

size_t het_start_fine_bytes(const het_config_init *init, int64_t images, int64_t box, int64_t parts)
{
    return is_worth(init, box) ? (size_t)images * (2 * sizeof(float) + sizeof(int64_t)) + het_reconstructor_bytes(box, full_of(box), parts) : 0;
}

het_status het_start_fine(het_start *start, het_comm *comm, het_device *dev, const het_stack *stack, const het_start_volume_spec *spec, double *reached)
{
    het_status status = HET_OK;
    const int64_t box = het_stack_get_info(stack)->box;
    finer f = {.start = start, .comm = comm, .dev = dev, .stack = stack, .radius = spec->radius, .full = full_of(box)};
    *reached = f.radius;
    if (!is_worth(spec->init, box)) goto done;
    HET_TRY(het_comm_agree(comm, het_points_new(&f.points, box)));
    f.moved = het_alloc((size_t)start->count * 2 * sizeof *f.moved);
    f.group = het_alloc((size_t)start->count * sizeof *f.group);
    HET_TRY(het_comm_agree(comm, f.moved != NULL && f.group != NULL ? HET_OK : het_fail(HET_E_MEMORY, "no memory for the start's poses")));
    for (int64_t i = 0; i < start->count; i++) f.group[i] = start->particle[i] > 0.0F ? 0 : -1;
    status = do_rounds(&f, spec);
    *reached = f.radius;
done:
    het_slicer_free(&f.slicer);
    het_points_free(&f.points);
    het_release(f.moved);
    het_release(f.group);
    return status;
}
