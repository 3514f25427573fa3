#pragma once
#include "model.h"
#include "mpi/comm.h"

/** Sums of gradients over ranks, piece by piece as the backward pass finishes them: between the GPUs themselves where every rank
 *  has one of its own and they can (kernels/sums.h), else by MPI, through host memory where the gradients are not there.
 *  Which it is, and why not the first, is said once. HET_CUDA_SUMS=mpi leaves the GPUs' own sums out, =nccl takes them for a
 *  single rank, too, which has no need of them: for tests. Test: tests/cli_sums.sh */
typedef struct het_sums {
    het_comm *comm;
    het_model *model;
    const het_sum_ops *ops; /* the device's; NULL: it has none */
    het_sum *between;       /* the devices; NULL: by MPI */
    float *host;            /* (layout.total) copies of the gradients; NULL: MPI takes them where they are */
    int pinned;
    int64_t first, end;     /* sums of gradients [first, end) are under way */
    het_status failed;      /* at a start; the wait tells */
} het_sums;

/** Whether this rank will keep a copy of the gradients on the host; told before a model has buffers. Where the devices turn out not to
 *  be able to add up after all, it will have one nevertheless. Collective. Errors: those of het_sums_open. */
het_status het_sums_foresee(het_comm *comm, het_device *dev, int *copy);
/** comm and model, with its buffers, are borrowed. Close also after an error. Collective. Errors: HET_E_MEMORY, HET_E_USAGE. */
het_status het_sums_open(het_sums *sums, het_comm *comm, het_model *model);
void het_sums_close(het_sums *sums);
/** Whether there is anything to add: a rank that is alone starts no sums, unless told to. */
int het_sums_needed(const het_sums *sums);
/** Gradients `first` and on where the host can add them up; the device has computed them when it returns. */
float *het_sums_fetch(const het_sums *sums, int64_t first, int64_t count);
/** What was fetched are sums now: they go back to where the optimiser reads them. */
void het_sums_return(const het_sums *sums, int64_t first, int64_t count);
/** Gradients that are final, from the end of the block to its start. Errors come from the wait. */
void het_sums_start(het_sums *sums, int64_t first, int64_t count);
void het_sums_poll(het_sums *sums);
/** Until all started sums are where the optimiser reads them. *mine [in/out] is how this rank fared so far: where it is an error,
 *  or becomes one here, the others are told not to wait for sums that will not come. A rank that hears so leaves without its
 *  sums and without an error: all ranks must agree on *mine next. Errors, of MPI: those after which they cannot. */
het_status het_sums_wait(het_sums *sums, het_status *mine);
