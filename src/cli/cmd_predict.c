#include <getopt.h>
#include <math.h>
#include <stdio.h>
#include <string.h>

#include "../arena.h"
#include "../data/predictions.h"
#include "../kept.h"
#include "../log.h"
#include "../progress.h"
#include "../refine_poses.h"
#include "../run.h"
#include "../schedule.h"
#include "cli.h"
#include "options.h"
#include "poses.h"

enum { BATCH = 64 };

static const char usage[] =
    "usage: hetacumn predict RUN stack.h5 [-o out.star|out.h5]\n"
    "Poses and conformations of a stack, trained on or not, from the run's newest checkpoint. "
    "Those of the\n"
    "run's own stack are there already; for another one poses are searched in the run's conformations, and both brought to their\n"
    "minima, against the refined volumes after train --refine. Runs without a start (init.method=none) take the encoder's answers.\n"
    "  -o, --output FILE   .star: poses for RELION with columns hetZ1..; .h5: default, RUN/predictions.h5\n"
    "      --amortised     the encoder's answers alone\n"
    "      --device NAME   cpu | cuda | cuda:N (the GPU N) | auto: a GPU where one can be used (default)\n"
    "      --help\n";

static const struct option options[] = {{"output", required_argument, NULL, 'o'},
                                        {"amortised", no_argument, NULL, 'a'},
                                        {"device", required_argument, NULL, 'd'},
                                        {"help", no_argument, NULL, 'h'},
                                        {0}};

typedef struct job {
    const char *run, *stack_path, *out, *device;
    int amortised, refined; /* the encoder alone; from refinement */
    char folder[1100], standard[1200]; /* of the results in use; RUN/predictions.h5 */
    int own;               /* the stack is the run's, and its images' answers are `known` */
    het_predictions known; /* of the run's images, image by image; none where nobody kept them */
    het_stack *stack;
    het_device dev;
    het_model *model;
    het_survey survey;
    het_run_state state;
    het_predictions all, part; /* the arrays; a view of them: this rank's images, from `first` on */
    int64_t first;
} job;

static het_status predict_batch(job *j, float *images, het_ctf_row *ctf, int64_t at, int64_t n)
{
    het_status status = HET_OK;
    int64_t index[BATCH];
    for (int64_t i = 0; i < n; i++) index[i] = j->first + at + i;
    HET_TRY(het_stack_read_ctf(j->stack, ctf, index, n));
    HET_TRY(het_stack_read_standardised(j->stack, images, index, n));
    const het_predictions to = het_predictions_rows(&j->part, at, n);
    const het_answers answers = {.rotation = to.rotation,
                                 .shift = to.shift,
                                 .z = to.z,
                                 .z_std = to.zstd,
                                 .loss = to.loss,
                                 .mirrored = to.mirrored};
    status = het_model_infer(j->model, images, ctf, n, &answers);
done:
    return status;
}

static het_status predict_share(job *j, het_comm *comm)
{
    het_status status = HET_OK;
    const het_stack_info *info = het_stack_get_info(j->stack);
    float *images = NULL;
    het_ctf_row ctf[BATCH];
    int64_t count;
    het_progress progress;
    het_comm_share(comm, info->count, &j->first, &count);
    HET_TRY(het_predictions_new(&j->all, count, j->model->config.z_dim));
    j->all.box = info->box;
    j->all.apix = info->apix;
    j->part = j->all;
    images = het_alloc((size_t)(BATCH * info->box * info->box) * sizeof *images);
    if (images == NULL) HET_TRY(het_fail(HET_E_MEMORY, "no memory for a batch of images"));
    het_progress_start(&progress, comm, "predict", info->count);
    for (int64_t at = 0; at < count; at += BATCH) {
        HET_TRY(predict_batch(j, images, ctf, at, count - at < BATCH ? count - at : BATCH));
        het_progress_step(&progress, at * het_comm_size(comm));
    }
    het_progress_end(&progress);
    if (j->model->frozen) het_predictions_freeze(&j->all);
done:
    het_release(images);
    return status;
}

/* Make `all`, which it takes, the job's; the part is this rank's share. */
static void take_share(job *j, const het_comm *comm, het_predictions *all)
{
    int64_t count;
    j->all = *all;
    *all = (het_predictions){0};
    het_comm_share(comm, j->all.count, &j->first, &count);
    j->part = het_predictions_rows(&j->all, j->first, count);
}

/* Whether the run has no encoder for poses. */
static int searches(const job *j)
{
    return j->model->config.train.method == HET_METHOD_CRYODRGN2;
}

/* Poses of another stack, searched against the run's volumes: in the conformations that training knows, or, while these are frozen and by
 * the method without an encoder for poses, anew; else from the encoder's. */
static het_status search(job *j, het_poses *poses)
{
    het_status status = HET_OK;
    int stopped = 0; /* no signals are noted here */
    const int anew = searches(j) || (j->known.count > 0 && j->state.frozen);
    if (j->known.count > 0 && !anew) return het_poses_place(poses, &j->known, &stopped);
    HET_TRY(anew ? het_poses_locate(poses, &stopped) : het_poses_encode(poses, &stopped));
    if (j->refined || (anew && !searches(j))) status = het_poses_improve(poses, !searches(j), &stopped);
done:
    return status;
}

/* Poses found image by image: the run's own, or found against its volumes. */
static het_status searched_share(job *j, het_comm *comm)
{
    het_status status = HET_OK;
    het_poses poses = {0};
    if (j->own) {
        take_share(j, comm, &j->known);
        goto done;
    }
    HET_TRY(het_comm_agree(comm, het_poses_open(&poses, comm, j->model, j->stack, j->survey.noise_variance)));
    HET_TRY(search(j, &poses));
    take_share(j, comm, &poses.all);
done:
    het_poses_close(&poses);
    return status;
}

/* The stack has to show particles as those that the run knows. */
static het_status check_stack(const job *j)
{
    const het_stack_info *info = het_stack_get_info(j->stack);
    if (info->box != j->state.box)
        return het_fail(HET_E_INPUT, "%s has box %lld, the run was trained on box %lld: import the stack with -D %lld", j->stack_path,
                        (long long)info->box, (long long)j->state.box, (long long)j->state.box);
    if (fabs(info->apix - j->state.apix) > 1e-3 * j->state.apix)
        return het_fail(HET_E_INPUT, "%s has %g A per pixel, the run was trained on %g A: its particles are of another size there", j->stack_path,
                        info->apix, j->state.apix);
    if (j->out != NULL && het_stack_is_in(j->stack, j->out))
        return het_fail(HET_E_USAGE, "-o %s is a file of the stack itself", j->out);
    return HET_OK;
}

/* What is known of the trained images: from refinement, or kept by training. */
static het_status load_known(job *j)
{
    const het_config *config = &j->model->config;
    char path[1200];
    const int started = !searches(j) && het_schedule_given(config, j->state.epoch);
    if (j->amortised || (!j->own && !started)) return HET_OK; /* other images are asked of the encoder, or searched anew */
    snprintf(path, sizeof path, "%s/predictions.h5", j->folder);
    return j->refined ? het_predictions_load(&j->known, path) : het_kept_load(&j->known, j->run, config, &j->state);
}

static het_status load(job *j, const het_comm *comm)
{
    het_status status = HET_OK;
    const het_stack_info *info = het_stack_get_info(j->stack);
    HET_TRY(het_device_open(&j->dev, j->device, het_comm_local_rank(comm), 0, HET_PRECISION_F32));
    het_run_results(j->folder, sizeof j->folder, j->run, j->amortised);
    HET_TRY(het_run_load(j->folder, &j->dev, BATCH, &j->model, &j->survey, &j->state));
    if (j->amortised && searches(j))
        HET_TRY(het_fail(HET_E_USAGE, "--amortised: %s is a run of train.method=cryodrgn2, which has no encoder "
                         "for poses, but a search: leave that out", j->run));
    HET_TRY(check_stack(j));
    het_model_set_whitening(j->model, &info->whitening);
    j->refined = strcmp(j->folder, j->run) != 0;
    j->own = het_run_is_of(&j->state, info);
    if (info->shift_range > j->model->spec.shift_range) j->model->spec.shift_range = info->shift_range; /* of the searches */
    HET_TRY(load_known(j));
    j->own = j->own && j->known.count > 0;
done:
    return status;
}

/* A STAR file needs all predictions on the root: they go through the .h5 file. */
static het_status write_star(const job *j, const char *h5)
{
    het_status status = HET_OK;
    het_predictions all = {0};
    HET_TRY(het_predictions_load(&all, h5));
    HET_TRY(het_poses_write_star(&all, NULL, 0, j->stack, j->stack_path, j->out));
done:
    het_predictions_free(&all);
    return status;
}

static het_status parse(job *j, int argc, char **argv, int *help)
{
    int option;
    optind = 0;
    opterr = 0;
    while ((option = getopt_long(argc, argv, ":o:", options, NULL)) != -1) {
        if (option == 'h') *help = 1;
        if (option == 'o') j->out = optarg;
        if (option == 'a') j->amortised = 1;
        if (option == 'd') j->device = optarg;
        if (option == '?' || option == ':') return het_options_refused(argv, option);
    }
    if (*help) return HET_OK;
    const het_status named = het_device_check(j->device);
    if (named != HET_OK) return named;
    if (optind + 2 != argc)
        return het_fail(HET_E_USAGE, "predict takes RUN and stack.h5; see hetacumn predict --help");
    j->run = argv[optind];
    j->stack_path = argv[optind + 1];
    snprintf(j->standard, sizeof j->standard, "%s/predictions.h5", j->run);
    if (j->out != NULL && !het_options_ends_with(j->out, ".star") && !het_options_ends_with(j->out, ".h5"))
        return het_fail(HET_E_USAGE, "-o %s: the name must end in .star or .h5", j->out);
    return HET_OK;
}

het_status het_cmd_predict(het_comm *comm, int argc, char **argv, int *exit_code)
{
    het_status status = HET_OK;
    job j = {.device = "auto"};
    int help = 0;
    (void)exit_code;
    HET_TRY(het_comm_agree(comm, parse(&j, argc, argv, &help)));
    if (help) {
        if (het_comm_rank(comm) == 0) fputs(usage, stdout);
        goto done;
    }
    const int star = j.out != NULL && !het_options_ends_with(j.out, ".h5"), speaks = het_comm_rank(comm) == 0;
    const char *h5 = j.out != NULL && !star ? j.out : j.standard;
    HET_TRY(het_stack_open_together(&j.stack, comm, j.stack_path));
    HET_TRY(het_comm_agree(comm, load(&j, comm)));
    HET_TRY(het_comm_agree(comm, star && speaks ? het_poses_check_star(j.stack, j.out) : HET_OK)); /* before any search */
    status = j.known.count > 0 || j.refined || searches(&j) ? searched_share(&j, comm) : predict_share(&j, comm);
    HET_TRY(het_predictions_save(comm, h5, het_stack_get_info(j.stack)->count, j.first, &j.part, status));
    HET_TRY(het_comm_agree(comm, star && speaks ? write_star(&j, h5) : HET_OK));
    het_info("poses and conformations of %lld images are in %s%s%s",
             (long long)het_stack_get_info(j.stack)->count, h5, star ? " and " : "", star ? j.out : "");
done:
    het_predictions_free(&j.all);
    het_predictions_free(&j.known);
    het_model_free(j.model);
    het_survey_free(&j.survey);
    if (j.dev.ops != NULL) het_device_close(&j.dev);
    het_stack_close(j.stack);
    return status;
}
