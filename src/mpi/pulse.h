#pragma once
#include <stdint.h>

/** Who is lost? MPI cannot tell: a call waits for ever for a rank that is stopped, and for one behind a dead link.
 *
 *  So a thread in every process sends a sign of life over UDP, twice a second or more often: the ranks to rank 0, rank 0
 *  to all. Rank 0 judges the others, the others judge rank 0. A rank without a sign for `limit` seconds is lost, and so is
 *  one whose port is closed (its process has ended); then rank 0 - or the lowest rank that has lost rank 0 - says which one,
 *  where it was last heard and who waits in which call, and every process ends with the exit code HET_EXIT_LOST.
 *
 *  - A thread, since a rank may be at work for long without a call (searches, the start, a slow file system) and is not lost;
 *    a stopped process has no thread that answers. For a rank at work the others wait; after 15 limits that is said once.
 *    Only when *all* ranks wait in calls for as long does the network between them no longer move, and they end.
 *  - UDP, since MPI's own ways hang with the rest, files on a shared file system come late, and a connection that lost
 *    packets pauses for as long as it was dead. It leaves MPI's calls as they are, their speed and sums included.
 *  - Silence is counted in the judge's own ticks: when all processes were suspended, or the machine was, nobody is lost.
 *  - A rank that was never heard (a firewall between the nodes) is not judged; a warning says so.
 *  - The process ends by _Exit: MPI's own abort takes locks that the waiting thread may hold. mpirun, and srun with
 *    --kill-on-bad-exit, then end what does not hear us, such as a stopped process. Files that are being written are
 *    temporary ones: ending here damages nothing. */

typedef struct het_pulse het_pulse;

enum { HET_PULSE_ADDRESSES = 32 };

/** Where rank 0 listens; the same for all ranks. */
typedef struct het_pulse_root {
    uint64_t key; /* of this job: other words are not for us */
    int32_t count;
    uint8_t address[HET_PULSE_ADDRESSES][16]; /* IPv6, or IPv4 mapped into it (RFC 4291, 2.5.5.2): network order */
    uint16_t port;                            /* network order */
} het_pulse_root;

/** Hears what is said past the log, from the pulse's own thread; `last`: when it returns the process ends. */
typedef void (*het_pulse_hear)(void *context, const char *text, int last);

/** Start to watch. Rank 0 comes first and fills in *root, the others are given it. Returns NULL, after a warning, where
 *  the system gives no socket or thread; all functions accept NULL. */
het_pulse *het_pulse_new(int rank, int size, het_pulse_root *root);
/** Say good-bye: the others do not take the closed port for a loss, but silence for more than the limit still is one. */
void het_pulse_free(het_pulse *pulse);
/** Seconds of silence after which a rank is lost; 0: never. 20 at first. */
void het_pulse_limit(het_pulse *pulse, double seconds);
/** Hand what is said to `hear` too; NULL: no longer. */
void het_pulse_listen(het_pulse *pulse, het_pulse_hear hear, void *context);
/** From now on the others may end before us: a closed port is no loss any more. */
void het_pulse_leave(het_pulse *pulse);
/** What the signs of life say: the main thread waits in a call with the others (NULL: it is at work again) ... */
void het_pulse_wait(het_pulse *pulse, const char *call);
/** ... and what it is about: step (0: before the first) and phase. The words of both must stay valid: literals. */
void het_pulse_phase(het_pulse *pulse, int64_t step, const char *phase);
