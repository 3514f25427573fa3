#include "train_step.h"

#include "stop.h"

enum { BAD_STEPS_MAX = 20, TALLY_DOUBLES = sizeof(het_tally) / sizeof(double) };

static het_status open_folds(het_stepper *s)
{
    het_status status = HET_OK;
    HET_TRY(het_fold_open(&s->grads, s->comm, (size_t)s->model->layout.total, sizeof *s->model->grads));
    HET_TRY(het_fold_open(&s->tallies, s->comm, TALLY_DOUBLES, sizeof(double)));
done:
    return status;
}

het_status het_stepper_open(het_stepper *s, het_comm *comm, het_model *model)
{
    het_status status = HET_OK;
    *s = (het_stepper){.comm = comm, .model = model};
    HET_TRY(het_comm_agree(comm, open_folds(s)));
    HET_TRY(het_sums_open(&s->sums, comm, model));
done:
    return status;
}

void het_stepper_close(het_stepper *s)
{
    het_fold_close(&s->grads);
    het_fold_close(&s->tallies);
    het_sums_close(&s->sums);
}

/* Start the sum over ranks of the final gradients that are not on their way yet. */
static void sum_final(het_stepper *s)
{
    if (s->summed > s->final) het_sums_start(&s->sums, s->final, s->summed - s->final);
    s->summed = s->final;
}

/* Gradients from `offset` up are final: add them up while the backward pass goes on, in few large pieces. */
static void note_final(void *context, int64_t offset)
{
    het_stepper *s = context;
    const int64_t piece = s->model->layout.total / 16;
    s->final = offset;
    het_sums_poll(&s->sums);
    if (offset == 0 || s->summed - offset >= piece) sum_final(s);
}

/* Gradients of all images, and the tally of this rank's; *mine: how it fared with them. */
static het_status run_whole(het_stepper *s, const het_decision *d, const het_batch *batch, het_task task, het_tally *tally,
                            het_status *mine)
{
    het_model_gradients(s->model, task, batch, d->step, d->frozen, het_sums_needed(&s->sums) ? note_final : NULL, s);
    sum_final(s); /* the last piece may be a small one, as where the encoder takes no part */
    *mine = het_model_tally(s->model, tally);
    s->computed = het_seconds();
    return het_sums_wait(&s->sums, mine);
}

static het_batch part_of(const het_batch *batch, int64_t part, const het_model *m)
{
    const int64_t n = m->spec.batch, first = part * n, bytes = m->spec.box * m->spec.box * het_dtype_size(batch->type);
    const char *images = batch->images == NULL ? NULL : (const char *)batch->images + first * bytes;
    return (het_batch){.count = n,
                       .first = batch->first + first,
                       .images = images,
                       .stored = batch->stored,
                       .type = batch->type,
                       .ctf = batch->ctf + first,
                       .index = batch->index + first,
                       .rotation = batch->rotation == NULL ? NULL : batch->rotation + 9 * first,
                       .shift = batch->shift == NULL ? NULL : batch->shift + 2 * first,
                       .z = batch->z == NULL ? NULL : batch->z + m->config.z_dim * first};
}

/* The same in fixed parts. */
static het_status run_parts(het_stepper *s, const het_decision *d, const het_batch *batch, het_task task, het_tally *tally)
{
    het_status status = HET_OK;
    het_model *m = s->model;
    float *sums = m->grads;
    for (m->part = 0; m->part < s->grads.parts; m->part++) {
        const het_batch part = part_of(batch, m->part, m);
        *tally = (het_tally){0};
        het_model_gradients(m, task, &part, d->step, d->frozen, NULL, NULL);
        HET_TRY(het_model_tally(m, tally));
        sums = het_sums_fetch(&s->sums, 0, m->layout.total);
        het_fold_add(&s->grads, sums);
        het_fold_add(&s->tallies, tally);
    }
    s->computed = het_seconds();
    HET_TRY(het_comm_sum_f32(s->comm, sums, (size_t)s->final));
    het_sums_return(&s->sums, 0, s->final);
done:
    return status;
}

/* With the numbers of the step goes word of ranks that have failed: then all return what the lowest of them met. */
static het_status sum_tallies(het_stepper *s, het_status mine, het_tally *tally)
{
    het_status status = HET_OK;
    struct {
        het_tally tally;
        double failed;
    } all = {*tally, mine != HET_OK};
    HET_TRY(het_comm_sum_f64(s->comm, (double *)&all, sizeof all / sizeof(double)));
    *tally = all.tally;
    if (mine != HET_OK && het_comm_size(s->comm) > 1) mine = het_context(mine, "rank %d", het_comm_rank(s->comm));
    if (all.failed > 0.0) status = het_comm_agree(s->comm, mine);
done:
    return status;
}

het_status het_step_once(het_stepper *s, const het_decision *d, const het_batch *batch, het_tally *tally)
{
    het_status status = HET_OK, mine = HET_OK;
    const het_task task = d->pose_task ? HET_TASK_POSE : HET_TASK_IMAGE;
    const het_config_train *c = &s->model->config.train;
    const double began = het_seconds();
    s->final = s->summed = task == HET_TASK_POSE ? s->model->decoder_first : s->model->layout.total;
    if (het_comm_fixed(s->comm)) HET_TRY(run_parts(s, d, batch, task, tally));
    else HET_TRY(run_whole(s, d, batch, task, tally, &mine));
    tally->stop = het_stop_asked();
    HET_TRY(sum_tallies(s, mine, tally)); /* all ranks decide alike */
    const double summed = het_seconds();
    s->bad_steps = tally->non_finite > 0.0 ? s->bad_steps + 1 : 0;
    if (s->bad_steps == 0)
        het_model_update(s->model, c->rate_encoder * d->rate_encoder, c->rate_decoder * d->rate_decoder);
    s->times.compute += s->computed - began + het_seconds() - summed;
    s->times.sums += summed - s->computed;
    if (s->bad_steps > BAD_STEPS_MAX)
        status = het_fail(HET_E_NUMERIC, "losses were not finite for %d steps in a row; nothing was learned from "
                          "them: lower train.rate_encoder and train.rate_decoder, or use train.precision=fp32",
                          BAD_STEPS_MAX);
done:
    return status;
}
