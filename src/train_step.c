#include "train_step.h"

#include "signals.h"

enum { BAD_STEPS_MAX = 20 };

/* Start the sum over ranks of the final gradients that are not on their way yet. */
static void sum_final(het_stepper *s)
{
    if (het_comm_size(s->comm) == 1 || s->final == s->summed) return;
    /* errors: at the wait */
    (void)het_comm_sum_start(s->comm, s->model->grads + s->final, (size_t)(s->summed - s->final));
    s->summed = s->final;
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

het_status het_step_once(het_stepper *s, const het_decision *d, const het_batch *batch, het_tally *tally)
{
    het_status status = HET_OK;
    const het_task task = d->pose_task ? HET_TASK_POSE : HET_TASK_IMAGE;
    const het_config_train *c = &s->model->config.train;
    het_model_zero_grad(s->model);
    het_model_forward(s->model, task, batch, d->step, d->frozen);
    s->final = s->summed = task == HET_TASK_POSE ? s->model->decoder_first : s->model->layout.total;
    het_model_backward(s->model, note_final, s);
    sum_final(s); /* the last piece may be a small one, as where the encoder takes no part */
    HET_TRY(het_model_tally(s->model, tally));
    tally->stop = het_signal_pending() != 0;
    HET_TRY(het_comm_sum_wait(s->comm));
    /* all ranks decide alike */
    HET_TRY(het_comm_sum_f64(s->comm, (double *)tally, sizeof *tally / sizeof(double)));
    s->bad_steps = tally->non_finite > 0.0 ? s->bad_steps + 1 : 0;
    if (s->bad_steps == 0)
        het_model_update(s->model, c->rate_encoder * d->rate_encoder, c->rate_decoder * d->rate_decoder);
    if (s->bad_steps > BAD_STEPS_MAX)
        status = het_fail(HET_E_NUMERIC, "losses were not finite for %d steps in a row; nothing was learned from "
                          "them: lower train.rate_encoder and train.rate_decoder, or use train.precision=fp32",
                          BAD_STEPS_MAX);
done:
    return status;
}
