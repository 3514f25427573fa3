#include "train_step.h"

#include "signals.h"

enum { BAD_STEPS_MAX = 20, TALLY_DOUBLES = sizeof(het_tally) / sizeof(double) };

het_status het_stepper_open(het_stepper *s, het_comm *comm, het_model *model)
{
    het_status status = HET_OK;
    *s = (het_stepper){.comm = comm, .model = model};
    HET_TRY(het_fold_open(&s->grads, comm, (size_t)model->layout.total, sizeof *model->grads));
    HET_TRY(het_fold_open(&s->tallies, comm, TALLY_DOUBLES, sizeof(double)));
done:
    return status;
}

void het_stepper_close(het_stepper *s)
{
    het_fold_close(&s->grads);
    het_fold_close(&s->tallies);
}

/* Gradients `first` and on where the host can add them up. */
static float *fetch(het_model *m, int64_t first, int64_t count)
{
    if (m->host_grads == NULL) return m->grads + first;
    m->dev->ops->download(m->dev, m->host_grads + first, m->grads + first, (size_t)count * sizeof *m->grads);
    return m->host_grads + first;
}

/* Start the sum over ranks of the final gradients that are not on their way yet. */
static void sum_final(het_stepper *s)
{
    const int64_t count = s->summed - s->final;
    if (het_comm_size(s->comm) == 1 || count == 0) return;
    /* errors: at the wait */
    (void)het_comm_sum_start(s->comm, fetch(s->model, s->final, count), (size_t)count);
    s->summed = s->final;
}

/* Until all sums are there, where the optimiser reads them. */
static het_status wait_for_sums(het_stepper *s)
{
    het_model *m = s->model;
    const het_status status = het_comm_sum_wait(s->comm);
    if (m->host_grads != NULL && status == HET_OK)
        m->dev->ops->upload(m->dev, m->grads + s->summed, m->host_grads + s->summed,
                            (size_t)(s->end - s->summed) * sizeof *m->grads);
    return status;
}

/* Gradients from `offset` up are final: add them up while the backward pass goes on, in few large pieces. */
static void note_final(void *context, int64_t offset)
{
    het_stepper *s = context;
    const int64_t piece = s->model->layout.total / 16;
    s->final = offset;
    het_comm_sum_poll(s->comm);
    if (offset == 0 || s->summed - offset >= piece) sum_final(s);
}

/* Gradients and tally of this rank's images; the sum over ranks is on its way. */
static het_status run_whole(het_stepper *s, const het_decision *d, const het_batch *batch, het_task task, het_tally *tally)
{
    het_model_zero_grad(s->model);
    het_model_forward(s->model, task, batch, d->step, d->frozen);
    het_model_backward(s->model, note_final, s);
    sum_final(s); /* the last piece may be a small one, as where the encoder takes no part */
    const het_status status = het_model_tally(s->model, tally);
    s->computed = het_seconds();
    return status;
}

static het_batch part_of(const het_batch *batch, int64_t part, const het_model *m)
{
    const int64_t n = m->spec.batch, first = part * n;
    return (het_batch){.count = n,
                       .first = batch->first + first,
                       .images = batch->images + first * m->spec.box * m->spec.box,
                       .ctf = batch->ctf + first,
                       .index = batch->index + first,
                       .rotation = batch->rotation == NULL ? NULL : batch->rotation + 9 * first,
                       .shift = batch->shift == NULL ? NULL : batch->shift + 2 * first,
                       .z = batch->z == NULL ? NULL : batch->z + m->config.z_dim * first};
}

/* The same in fixed parts; the gradients are summed over ranks too. */
static het_status run_parts(het_stepper *s, const het_decision *d, const het_batch *batch, het_task task, het_tally *tally)
{
    het_status status = HET_OK;
    het_model *m = s->model;
    float *sums = m->grads;
    for (m->part = 0; m->part < s->grads.parts; m->part++) {
        const het_batch part = part_of(batch, m->part, m);
        *tally = (het_tally){0};
        het_model_zero_grad(m);
        het_model_forward(m, task, &part, d->step, d->frozen);
        het_model_backward(m, NULL, NULL);
        HET_TRY(het_model_tally(m, tally));
        sums = fetch(m, 0, m->layout.total);
        het_fold_add(&s->grads, sums);
        het_fold_add(&s->tallies, tally);
    }
    s->computed = het_seconds();
    status = het_comm_sum_f32(s->comm, sums, (size_t)s->final);
    s->summed = 0;
done:
    return status;
}

het_status het_step_once(het_stepper *s, const het_decision *d, const het_batch *batch, het_tally *tally)
{
    het_status status = HET_OK;
    const het_task task = d->pose_task ? HET_TASK_POSE : HET_TASK_IMAGE;
    const het_config_train *c = &s->model->config.train;
    const double began = het_seconds();
    s->final = s->summed = s->end = task == HET_TASK_POSE ? s->model->decoder_first : s->model->layout.total;
    HET_TRY((het_comm_fixed(s->comm) ? run_parts : run_whole)(s, d, batch, task, tally));
    tally->stop = het_signal_pending() != 0;
    HET_TRY(wait_for_sums(s));
    /* all ranks decide alike */
    HET_TRY(het_comm_sum_f64(s->comm, (double *)tally, TALLY_DOUBLES));
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
