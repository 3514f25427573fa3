#pragma once
#include <stddef.h>
#include <stdint.h>

#include "../status.h"

/** Ranks and what they agree on. One rank needs no mpirun. `<mpi.h>` stays inside src/mpi and the parallel HDF5 file. */

typedef struct het_comm het_comm;

/** Start MPI (as a singleton when not under mpirun/srun). Collective. The returned communicator is owned by the caller. */
het_status het_comm_open(het_comm **comm, int *argc, char ***argv);
/** Name and version of the MPI library in use; before and after het_comm_open. */
void het_comm_version(char *text, size_t size);
/** Finish MPI. Collective; accepts NULL. */
void het_comm_close(het_comm *comm);
/** The ranks that give the same number, in their order, to do something on their own: they call nothing of `comm` before all are done
 *  with it. Watched as before. Collective over comm; free with het_comm_group_free before comm is closed. Errors: HET_E_MEMORY. */
het_status het_comm_group(het_comm **group, het_comm *comm, int number);
/** Collective over the group; accepts NULL. */
void het_comm_group_free(het_comm *group);
/** End all ranks at once with an exit code: for main() only, when ranks can no longer agree. */
_Noreturn void het_comm_abort(het_comm *comm, int exit_code);

/** Every rank is watched by the others from the start (pulse.h). One that gives no sign of life for so many seconds - 20
 *  unless this says otherwise - is lost: who it is and where it was is said once, and all processes end with exit code
 *  HET_EXIT_LOST. 0: never. */
enum { HET_EXIT_LOST = 74 };
void het_comm_watch(het_comm *comm, double seconds);
/** For those words: the number of the step, and what this rank is at (a literal); returns what it was at before. */
void het_comm_step(het_comm *comm, int64_t step);
const char *het_comm_phase(het_comm *comm, const char *phase);
/** What the watch says of lost ranks goes to `hear` too, from a thread of its own; NULL: no longer. `last`: the process ends
 *  when it returns. */
void het_comm_listen(het_comm *comm, void (*hear)(void *context, const char *text, int last), void *context);

int het_comm_rank(const het_comm *comm);
int het_comm_size(const het_comm *comm);
/** Rank within this node, and ranks on this node. */
int het_comm_local_rank(const het_comm *comm);
int het_comm_local_size(const het_comm *comm);
/** The MPI_Comm, for parallel HDF5: a pointer to it, borrowed. */
const void *het_comm_native(const het_comm *comm);

/* Collective; every rank calls them in the same order with the same sizes. */
het_status het_comm_barrier(het_comm *comm);
het_status het_comm_broadcast(het_comm *comm, void *data, size_t bytes, int root);
het_status het_comm_sum_f32(het_comm *comm, float *data, size_t count);
het_status het_comm_sum_f64(het_comm *comm, double *data, size_t count);
het_status het_comm_sum_i64(het_comm *comm, int64_t *data, size_t count);
het_status het_comm_max_i64(het_comm *comm, int64_t *data, size_t count);
/** Numbers of 32 bits (a double: two) that one rank each has filled and that are 0 on the others: to all, every bit as it is. */
het_status het_comm_unite(het_comm *comm, void *data, size_t count);
/** The same for n rows of `width` numbers of which each rank has filled its own, [first, first+count); what it has in other rows is lost. */
het_status het_comm_unite_rows(het_comm *comm, void *data, int64_t n, int64_t width, int64_t first, int64_t count);
/** Gather `bytes` from each rank, in rank order, on the root (`all` is NULL elsewhere). */
het_status het_comm_gather(het_comm *comm, void *all, const void *mine, size_t bytes, int root);
/** One result for all: HET_OK when every rank's status is HET_OK; otherwise the status and message of the lowest
 *  failing rank on every rank (so that all leave together and the root prints it once). */
het_status het_comm_agree(het_comm *comm, het_status status);

/** Sums that run while the caller goes on: start them as parts of the gradient become ready, poll now and then, and
 *  wait for all before reading. At most HET_COMM_SUMS in flight. data must stay valid until the wait. */
enum { HET_COMM_SUMS = 8 };
het_status het_comm_sum_start(het_comm *comm, float *data, size_t count);
void het_comm_sum_poll(het_comm *comm);
het_status het_comm_sum_wait(het_comm *comm);

/** For waits that are not MPI's: the watch takes them for calls (a literal); NULL: over. */
void het_comm_waits(het_comm *comm, const char *call);
/** Tell the others not to wait for what this rank was to send outside of MPI; they ask. All end soon: nobody takes it back. */
void het_comm_alarm(het_comm *comm);
int het_comm_alarmed(het_comm *comm);

/** This rank's contiguous share [first, first+count) of n items: sizes differ by at most one, or, in fixed parts, by one for
 *  each part. */
void het_comm_share(const het_comm *comm, int64_t n, int64_t *first, int64_t *count);

/** From now on work is cut into `parts` parts, the same for any number of ranks, and sums of floating-point numbers are taken
 *  along the binary tree of the parts (fold.h): bit for bit the same on 1, 2, 4, ... ranks. het_comm_sum_start is not for
 *  this. parts: a power of two; the ranks must be one that divides it. Errors: HET_E_USAGE naming train.deterministic,
 *  HET_E_MEMORY. Not collective: all ranks do it. */
het_status het_comm_fix(het_comm *comm, int64_t parts);
int het_comm_fixed(const het_comm *comm);
/** The parts on this rank; 1 where they are not fixed. */
int64_t het_comm_parts(const het_comm *comm);
/** The piece [first, first+count) of n items that is this rank's part-th part. */
void het_comm_part(const het_comm *comm, int64_t part, int64_t n, int64_t *first, int64_t *count);
