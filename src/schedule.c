#include "schedule.h"

#include <math.h>

/* What is not given goes by train.epochs. */
static const double MARCHED = 0.3; /* of the epochs: the disc is full, */
static const double JOINED = 0.5;  /* poses are searched anew, */
static const double AGAIN = 0.2;   /* and so many epochs later, when volumes have learned of what was found */
static const double APART = 4.0;   /* but conformations need that many epochs before */

int64_t het_schedule_cycle(const het_config *c)
{
    return 1 + (c->ablation.cpp ? c->train.pose_steps : 0);
}

double het_schedule_epoch(const het_config *c, int64_t step, int64_t steps_per_epoch)
{
    return (double)(step / het_schedule_cycle(c)) / (double)steps_per_epoch;
}

int64_t het_schedule_end(const het_config *c, int64_t steps_per_epoch)
{
    return (int64_t)ceil(c->train.epochs * (double)steps_per_epoch) * het_schedule_cycle(c);
}

int64_t het_schedule_keep(const het_config *c, int64_t steps_per_epoch)
{
    return c->run.keep_every * steps_per_epoch * het_schedule_cycle(c);
}

double het_schedule_radius(const het_config *c, double epoch, int64_t box)
{
    const double full = (double)(box / 2 - 1);
    if (c->train.march_start <= 0.0) return full;
    const double start = c->init.method == HET_START_NONE ? c->train.march_start : c->init.radius;
    const double rate = c->train.march_rate > 0.0 ? c->train.march_rate : fmax(0.0, full - start) / (MARCHED * c->train.epochs);
    return fmin(full, start + rate * epoch);
}

int het_schedule_frozen(const het_config *c, double epoch, int64_t count)
{
    return c->ablation.fch &&
           (epoch < c->train.freeze_epochs || epoch * (double)count < c->train.freeze_images);
}

int het_schedule_given(const het_config *c, double epoch)
{
    if (c->train.method == HET_METHOD_CRYODRGN2) return 1;
    return c->init.method != HET_START_NONE && epoch < c->init.keep_epochs;
}

/* When het_schedule_frozen ends. */
static double released(const het_config *c, int64_t count)
{
    return c->ablation.fch ? fmax(c->train.freeze_epochs, c->train.freeze_images / (double)count) : 0.0;
}

static int is_due(const het_config *c, double epoch, int64_t step, int64_t steps_per_epoch)
{
    return epoch < c->init.keep_epochs && step == (int64_t)ceil(epoch * (double)steps_per_epoch);
}

int het_schedule_search(const het_config *c, int64_t step, int64_t steps_per_epoch, int64_t count)
{
    if (c->train.method == HET_METHOD_CRYODRGN2)
        return step % (int64_t)ceil(c->search.every * (double)steps_per_epoch) == 0;
    const int in_mid_training = c->init.join_epoch < 0.0;
    const double free = released(c, count),
                 epoch = in_mid_training ? fmax(JOINED * c->train.epochs, free + APART) : free + c->init.join_epoch;
    if (c->init.method == HET_START_NONE || c->init.join_epoch == 0.0) return 0;
    return is_due(c, epoch, step, steps_per_epoch) ||
           (in_mid_training && is_due(c, epoch + AGAIN * c->train.epochs, step, steps_per_epoch));
}

double het_schedule_rate(const het_config *c, double epoch)
{
    const double progress = c->train.epochs > 0.0 ? fmin(1.0, epoch / c->train.epochs) : 1.0;
    return c->train.rate_final + (1.0 - c->train.rate_final) * 0.5 * (1.0 + cos(M_PI * progress));
}
