#include "coordinator.h"

#include "../schedule.h"

void het_coordinator_init(het_coordinator *c, het_comm *comm, const het_config *config, int64_t box, int64_t count,
                          int64_t steps_per_epoch)
{
    *c = (het_coordinator){.comm = comm, .config = config, .box = box, .count = count,
                           .steps_per_epoch = steps_per_epoch};
    c->end = het_schedule_end(config, steps_per_epoch);
    c->next_checkpoint = het_seconds() + 60.0 * config->run.checkpoint_minutes;
}

/* Checkpoints, reports and stops happen at the end of a cycle only: then nothing but parameters, moments and the step has
 * to be saved. */
static void decide_end(het_coordinator *c, int64_t step, int stop_asked, het_decision *d)
{
    const int64_t cycle = het_schedule_cycle(c->config), done = step + 1;
    if (done % cycle != 0) return;
    const double now = het_seconds();
    const int64_t every = c->config->run.checkpoint_steps, image_steps = done / cycle;
    const int64_t kept = het_schedule_keep(c->config, c->steps_per_epoch);
    d->finished = done >= c->end;
    d->stop = d->finished || stop_asked;
    d->report = d->finished || image_steps % c->config->run.log_steps == 0; /* as if it had never been interrupted */
    d->checkpoint = d->stop || (every > 0 && image_steps % every == 0) || (kept > 0 && done % kept == 0) ||
                    (c->config->run.checkpoint_minutes > 0.0 && now >= c->next_checkpoint);
    if (d->checkpoint) c->next_checkpoint = now + 60.0 * c->config->run.checkpoint_minutes;
}

het_status het_coordinator_decide(het_coordinator *c, int64_t step, int stop_asked, het_decision *d)
{
    const int64_t cycle = het_schedule_cycle(c->config);
    if (het_comm_rank(c->comm) == 0) {
        *d = (het_decision){.step = step, .image_step = step / cycle, .pose_task = step % cycle != 0};
        d->epoch = het_schedule_epoch(c->config, step, c->steps_per_epoch);
        d->radius = het_schedule_radius(c->config, d->epoch, c->box);
        d->frozen = het_schedule_frozen(c->config, d->epoch, c->count);
        d->given = het_schedule_given(c->config, d->epoch);
        d->search = !d->pose_task && het_schedule_search(c->config, d->image_step, c->steps_per_epoch, c->count);
        d->rate_encoder = d->rate_decoder = het_schedule_rate(c->config, d->epoch);
        decide_end(c, step, stop_asked, d);
    }
    const het_status status = het_comm_broadcast(c->comm, d, sizeof *d, 0);
    het_comm_step(c->comm, step + 1);
    het_comm_phase(c->comm, d->search ? "pose search" : d->pose_task ? "task two" : "task one");
    return status;
}
