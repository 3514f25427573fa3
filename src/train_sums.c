#include "train_sums.h"

#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "arena.h"
#include "clock.h"
#include "log.h"

/* What a rank tells of its device. */
typedef struct place {
    char host[64], why[320]; /* why it cannot; "" where it can */
    het_sum_place at;
    int on_host;
} place;

/* What rank 0 makes of it. */
typedef struct plan {
    int between, quiet; /* by the devices themselves; no warning if not */
    char why[512];
} plan;

/* ---- how ------------------------------------------------------------------------------------------------------------ */

static place own_place(het_device *dev)
{
    place mine = {.on_host = dev->on_host};
    if (gethostname(mine.host, sizeof mine.host - 1) != 0) snprintf(mine.host, sizeof mine.host, "?");
    if (dev->ops->sums == NULL) snprintf(mine.why, sizeof mine.why, "this device has no sums of its own");
    else if (dev->ops->sums->find(dev, &mine.at) != HET_OK)
        snprintf(mine.why, sizeof mine.why, "%s", het_status_message());
    return mine;
}

/* Why these ranks cannot add up on their devices: "" where they can. */
static void compare(const place *all, int ranks, char *why, size_t size)
{
    for (int i = 0; i < ranks && why[0] == '\0'; i++) {
        const place *a = &all[i];
        if (a->why[0] != '\0') snprintf(why, size, "rank %d on %s: %s", i, a->host, a->why);
        else if (a->at.version != all[0].at.version)
            snprintf(why, size, "ranks 0 and %d have different versions of the library (%d and %d)", i, (int)all[0].at.version,
                     (int)a->at.version);
        for (int j = 0; j < i && why[0] == '\0'; j++)
            if (memcmp(a->at.device, all[j].at.device, sizeof a->at.device) == 0 && strcmp(a->host, all[j].host) == 0)
                snprintf(why, size, "ranks %d and %d share a GPU of %s", j, i, a->host);
    }
}

/* On rank 0, from all ranks' places. */
static het_status make_plan(plan *p, const het_comm *comm, const place *all)
{
    const char *wanted = getenv("HET_CUDA_SUMS");
    const int ranks = het_comm_size(comm), forced = wanted != NULL && strcmp(wanted, "nccl") == 0;
    int on_host = 1;
    for (int i = 0; i < ranks; i++) on_host &= all[i].on_host;
    p->quiet = 1;
    if (on_host) return HET_OK;
    if (wanted != NULL && !forced && strcmp(wanted, "mpi") != 0)
        return het_fail(HET_E_USAGE, "HET_CUDA_SUMS=%s: it must be nccl or mpi", wanted);
    if (ranks == 1 && !forced) return HET_OK;
    if (het_comm_fixed(comm)) snprintf(p->why, sizeof p->why, "train.deterministic fixes the order of sums");
    else if (wanted != NULL && !forced) snprintf(p->why, sizeof p->why, "HET_CUDA_SUMS=mpi");
    if (p->why[0] != '\0') return HET_OK;
    p->quiet = 0;
    compare(all, ranks, p->why, sizeof p->why);
    p->between = p->why[0] == '\0';
    return HET_OK;
}

static het_status choose(plan *p, het_comm *comm, het_device *dev)
{
    het_status status = HET_OK;
    const int ranks = het_comm_size(comm), root = het_comm_rank(comm) == 0;
    const place mine = own_place(dev);
    place *all = root ? het_alloc((size_t)ranks * sizeof *all) : NULL;
    HET_TRY(het_comm_agree(comm, root && all == NULL ? het_fail(HET_E_MEMORY, "no memory for the ranks' places") : HET_OK));
    HET_TRY(het_comm_gather(comm, all, &mine, sizeof mine, 0));
    HET_TRY(het_comm_agree(comm, root ? make_plan(p, comm, all) : HET_OK));
    HET_TRY(het_comm_broadcast(comm, p, sizeof *p, 0));
done:
    het_release(all);
    return status;
}

/* ---- sums between devices ------------------------------------------------------------------------------------------- */

/* Until all sums are there (*done), `seconds` are over, or another rank has failed. */
static het_status wait_between(het_sums *s, double seconds, int *done)
{
    const double end = het_seconds() + seconds;
    het_status status = HET_OK;
    *done = 0;
    het_comm_waits(s->comm, "sum of gradients");
    for (int64_t tries = 0; status == HET_OK && !*done; tries++) {
        status = s->ops->poll(s->between, done);
        if (*done || (seconds > 0.0 && het_seconds() > end) || (tries % 16 == 15 && het_comm_alarmed(s->comm))) break;
        if (tries > 1000) usleep(20);
        else sched_yield();
    }
    het_comm_waits(s->comm, NULL);
    return status;
}

/* One sum of all gradients, with ones at both ends: it makes the connections, and shows that they are right. */
static het_status try_out(het_sums *s, double seconds)
{
    het_model *m = s->model;
    const float one = 1.0f;
    float ends[2] = {0};
    float *last = m->grads + m->layout.total - 1;
    int done = 0;
    het_model_zero_grad(m);
    m->dev->ops->upload(m->dev, m->grads, &one, sizeof one);
    m->dev->ops->upload(m->dev, last, &one, sizeof one);
    het_status status = s->ops->start(s->between, m->grads, m->layout.total);
    if (status == HET_OK) status = wait_between(s, seconds, &done);
    if (status != HET_OK) return status;
    if (!done) return het_fail(HET_E_DEVICE, "%s did not add up within %.3g s", s->ops->library, seconds);
    m->dev->ops->download(m->dev, &ends[0], m->grads, sizeof one);
    m->dev->ops->download(m->dev, &ends[1], last, sizeof one);
    if (ends[0] == (float)het_comm_size(s->comm) && ends[1] == ends[0]) return HET_OK;
    return het_fail(HET_E_DEVICE, "%s added up %d ones to %g and %g", s->ops->library, het_comm_size(s->comm), (double)ends[0],
                    (double)ends[1]);
}

static void leave(het_sums *s, int together)
{
    if (s->between != NULL) s->ops->leave(s->between, together);
    s->between = NULL;
}

/* What fails here costs speed alone. */
static void join(het_sums *s, plan *p)
{
    enum { SECONDS = 60 }; /* where ranks are not watched */
    const double limit = s->model->config.run.watchdog, seconds = limit > 0.0 ? limit : SECONDS;
    const int rank = het_comm_rank(s->comm);
    const char *before = het_comm_phase(s->comm, "joining GPUs");
    het_sum_name name = {0};
    het_status status = het_comm_agree(s->comm, rank == 0 ? s->ops->name(s->model->dev, &name) : HET_OK);
    if (status == HET_OK) status = het_comm_broadcast(s->comm, &name, sizeof name, 0);
    if (status == HET_OK) {
        status = s->ops->join(s->model->dev, &s->between, &name, rank, het_comm_size(s->comm), seconds);
        if (status != HET_OK) status = het_context(status, "rank %d", rank);
        status = het_comm_agree(s->comm, status);
    }
    if (status == HET_OK) {
        status = try_out(s, seconds);
        if (status != HET_OK) status = het_context(status, "rank %d", rank);
        status = het_comm_agree(s->comm, status);
    }
    het_comm_phase(s->comm, before);
    if (status == HET_OK) return;
    snprintf(p->why, sizeof p->why, "%s", het_status_message());
    leave(s, 0);
}

/* ---- the interface -------------------------------------------------------------------------------------------------- */

/* Whether sums that are not made between devices need a copy of the gradients. */
static int takes_copy(const het_comm *comm, const het_device *dev)
{
    return !dev->on_host && (het_comm_size(comm) > 1 || het_comm_parts(comm) > 1);
}

het_status het_sums_foresee(het_comm *comm, het_device *dev, int *copy)
{
    plan p = {0};
    const het_status status = choose(&p, comm, dev);
    *copy = !p.between && takes_copy(comm, dev);
    return status;
}

static het_status stage(het_sums *s)
{
    const size_t bytes = (size_t)s->model->layout.total * sizeof *s->host;
    if (s->between != NULL || !takes_copy(s->comm, s->model->dev)) return HET_OK;
    s->host = het_alloc(bytes);
    if (s->host == NULL) return het_fail(HET_E_MEMORY, "no memory for gradients on their way between ranks");
    s->pinned = s->model->dev->ops->pin != NULL && s->model->dev->ops->pin(s->model->dev, s->host, bytes);
    return HET_OK;
}

het_status het_sums_open(het_sums *s, het_comm *comm, het_model *model)
{
    het_status status = HET_OK;
    plan p = {0};
    *s = (het_sums){.comm = comm, .model = model, .ops = model->dev->ops->sums};
    HET_TRY(choose(&p, comm, model->dev));
    if (p.between) join(s, &p);
    HET_TRY(het_comm_agree(comm, stage(s)));
    if (s->between != NULL) het_info("gradients are added up by %s, between the GPUs", s->ops->library);
    else if (p.why[0] != '\0')
        het_log(p.quiet ? HET_LOG_INFO : HET_LOG_WARN, "gradients are added up by MPI, through %shost memory: %s",
                s->pinned ? "pinned " : "", p.why);
done:
    return status;
}

void het_sums_close(het_sums *s)
{
    leave(s, 1);
    if (s->pinned) s->model->dev->ops->unpin(s->model->dev, s->host);
    het_release(s->host);
    *s = (het_sums){0};
}

float *het_sums_fetch(const het_sums *s, int64_t first, int64_t count)
{
    het_model *m = s->model;
    if (s->host == NULL) return m->grads + first;
    m->dev->ops->download(m->dev, s->host + first, m->grads + first, (size_t)count * sizeof *m->grads);
    return s->host + first;
}

void het_sums_return(const het_sums *s, int64_t first, int64_t count)
{
    het_model *m = s->model;
    if (s->host != NULL) m->dev->ops->upload(m->dev, m->grads + first, s->host + first, (size_t)count * sizeof *m->grads);
}

int het_sums_needed(const het_sums *s)
{
    return s->between != NULL || het_comm_size(s->comm) > 1;
}

void het_sums_start(het_sums *s, int64_t first, int64_t count)
{
    het_status status = HET_OK;
    if (!het_sums_needed(s)) return;
    if (s->first == s->end) s->end = first + count;
    s->first = first;
    if (s->failed != HET_OK) return;
    if (s->between != NULL) status = s->ops->start(s->between, s->model->grads + first, count);
    else status = het_comm_sum_start(s->comm, het_sums_fetch(s, first, count), (size_t)count);
    s->failed = status;
}

void het_sums_poll(het_sums *s)
{
    if (s->between == NULL) het_comm_sum_poll(s->comm);
}

/* As long as the sums take; `mine` as below. */
static het_status leave_or_wait(het_sums *s, het_status mine)
{
    char words[600];
    int done = 0;
    het_status status = mine == HET_OK ? s->failed : mine;
    if (status == HET_OK) status = wait_between(s, 0.0, &done);
    if (status == HET_E_PEER) {
        snprintf(words, sizeof words, "%s", het_status_message());
        het_fail(status, "%s; start the job again to go on from its checkpoint", words);
    }
    if (status != HET_OK) het_comm_alarm(s->comm);
    if (!done) leave(s, 0);
    return status;
}

het_status het_sums_wait(het_sums *s, het_status *mine)
{
    het_status status = HET_OK;
    if (s->between != NULL) {
        *mine = leave_or_wait(s, *mine);
    } else {
        status = het_comm_sum_wait(s->comm);
        if (status == HET_OK) status = s->failed;
        if (status == HET_OK) het_sums_return(s, s->first, s->end - s->first);
    }
    s->first = s->end = 0;
    s->failed = HET_OK;
    return status;
}
