#include "comm.h"

#include <mpi.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "../arena.h"
#include "archive.h"
#include "fold.h"
#include "pulse.h"

/* MPI counts are int: longer arrays go in pieces of this many elements. */
static const size_t piece_limit = (size_t)1 << 29;
/* Sums along the tree go in pieces of this many numbers. */
static const size_t tree_piece = (size_t)1 << 20;
enum { ALARM = 1 }; /* tag; messages of a sum along the tree have 0 */

struct het_comm {
    MPI_Comm world;   /* our own copy of MPI_COMM_WORLD: no other library's messages */
    int rank, size;
    int local_rank, local_size;
    int starts_mpi;   /* this communicator called MPI_Init and will call MPI_Finalize */
    int sum_count;    /* sums in flight */
    MPI_Request sums[HET_COMM_SUMS];
    int sum_code;     /* first error met while polling */
    int pulses;       /* rank 0 is up to it */
    het_pulse *pulse; /* NULL on one rank, and where it could not be */
    const char *call; /* the one in progress, or the last */
    const char *phase;
    int64_t step;
    int64_t parts;    /* of all ranks; 0: not fixed */
    void *other;      /* what another rank sent of a sum along the tree */
};

static het_status check(int code, const char *what)
{
    if (code == MPI_SUCCESS) return HET_OK;
    char text[MPI_MAX_ERROR_STRING] = "";
    int length = 0;
    MPI_Error_string(code, text, &length);
    return het_fail(HET_E_PEER,
                    "%s between the ranks failed: %s; start the job again to go on from its checkpoint", what,
                    text);
}

/* Around every call that waits for other ranks: the others know where this one is. */
static void enter(het_comm *comm, const char *call)
{
    comm->call = call;
    het_pulse_wait(comm->pulse, call);
}

static het_status leave(het_comm *comm, int code)
{
    het_pulse_wait(comm->pulse, NULL);
    return check(code, comm->call);
}

static het_status start_pulse(het_comm *comm)
{
    het_pulse_root root = {0};
    if (comm->size == 1) return HET_OK;
    if (comm->rank == 0) comm->pulse = het_pulse_new(comm->rank, comm->size, &root);
    const int code = MPI_Bcast(&root, (int)sizeof root, MPI_BYTE, 0, comm->world);
    comm->pulses = code == MPI_SUCCESS && root.count > 0;
    if (comm->rank != 0 && comm->pulses) comm->pulse = het_pulse_new(comm->rank, comm->size, &root);
    return check(code, "set-up");
}

static het_status find_local(het_comm *comm)
{
    het_status status = HET_OK;
    MPI_Comm node = MPI_COMM_NULL;
    HET_TRY(check(MPI_Comm_split_type(comm->world, MPI_COMM_TYPE_SHARED, 0, MPI_INFO_NULL, &node), "set-up"));
    HET_TRY(check(MPI_Comm_rank(node, &comm->local_rank), "set-up"));
    HET_TRY(check(MPI_Comm_size(node, &comm->local_size), "set-up"));
done:
    if (node != MPI_COMM_NULL) MPI_Comm_free(&node);
    return status;
}

void het_comm_version(char *text, size_t size)
{
    char words[MPI_MAX_LIBRARY_VERSION_STRING] = "";
    int length = 0;
    MPI_Get_library_version(words, &length);
    snprintf(text, size, "%.*s", (int)strcspn(words, ",\n"), words);
}

/* How Open MPI 4 and 5 add up in the background: by halving and doubling (Rabenseifner), of which each rank sends and receives
 * 2 (N-1)/N of the data, whatever N. Left to itself it takes, in place, a tree to one rank and back, whose root sends and receives
 * 2 log2(N) times the data. What is set already stays. */
static void choose_sums(void)
{
    setenv("OMPI_MCA_coll_libnbc_iallreduce_algorithm", "rabenseifner", 0);
}

het_status het_comm_open(het_comm **out, int *argc, char ***argv)
{
    het_status status = HET_OK;
    int running = 0, finished = 0, level = 0;
    het_comm *comm = NULL;
    *out = NULL;
    MPI_Initialized(&running);
    MPI_Finalized(&finished);
    if (finished) return het_fail(HET_E_PEER, "MPI cannot be started a second time in one process");
    if (!running) (void)het_archive_enter(NULL, 0);
    if (!running) choose_sums();
    if (!running) HET_TRY(check(MPI_Init_thread(argc, argv, MPI_THREAD_MULTIPLE, &level), "start of MPI"));
    comm = het_alloc(sizeof *comm);
    if (comm == NULL) {
        status = het_fail(HET_E_MEMORY, "no memory for the communicator");
        goto done;
    }
    comm->world = MPI_COMM_NULL;
    comm->starts_mpi = !running;
    comm->call = "set-up";
    comm->phase = "at the beginning";
    MPI_Comm_set_errhandler(MPI_COMM_WORLD, MPI_ERRORS_RETURN);
    HET_TRY(check(MPI_Comm_dup(MPI_COMM_WORLD, &comm->world), "set-up"));
    HET_TRY(check(MPI_Comm_set_errhandler(comm->world, MPI_ERRORS_RETURN), "set-up"));
    HET_TRY(check(MPI_Comm_rank(comm->world, &comm->rank), "set-up"));
    HET_TRY(check(MPI_Comm_size(comm->world, &comm->size), "set-up"));
    HET_TRY(find_local(comm));
    HET_TRY(start_pulse(comm));
    *out = comm;
    return HET_OK;
done:
    het_comm_close(comm);
    return status;
}

void het_comm_close(het_comm *comm)
{
    if (comm == NULL) return;
    het_pulse_leave(comm->pulse);
    het_pulse_phase(comm->pulse, comm->step, "at the end");
    if (comm->sum_count > 0) MPI_Waitall(comm->sum_count, comm->sums, MPI_STATUSES_IGNORE);
    if (comm->pulses) het_comm_barrier(comm);
    het_pulse_free(comm->pulse);
    if (comm->world != MPI_COMM_NULL) MPI_Comm_free(&comm->world);
    const int finish = comm->starts_mpi;
    het_release(comm->other);
    het_release(comm);
    if (finish) MPI_Finalize();
}

het_status het_comm_group(het_comm **out, het_comm *comm, int number)
{
    het_status status = HET_OK;
    het_comm *group = het_alloc(sizeof *group);
    *out = NULL;
    HET_TRY(het_comm_agree(comm, group != NULL ? HET_OK : het_fail(HET_E_MEMORY, "no memory for a group of ranks")));
    *group = (het_comm){.world = MPI_COMM_NULL, .pulse = comm->pulse, .phase = comm->phase, .step = comm->step};
    enter(comm, "set-up");
    HET_TRY(leave(comm, MPI_Comm_split(comm->world, number, comm->rank, &group->world)));
    HET_TRY(check(MPI_Comm_rank(group->world, &group->rank), "set-up"));
    HET_TRY(check(MPI_Comm_size(group->world, &group->size), "set-up"));
    *out = group;
    return HET_OK;
done:
    het_comm_group_free(group);
    return status;
}

void het_comm_group_free(het_comm *group)
{
    if (group == NULL) return;
    if (group->world != MPI_COMM_NULL) MPI_Comm_free(&group->world);
    het_release(group);
}

_Noreturn void het_comm_abort(het_comm *comm, int exit_code)
{
    fflush(NULL);
    if (comm != NULL) het_pulse_free(comm->pulse);
    if (comm != NULL) MPI_Abort(comm->world, exit_code);
    _Exit(exit_code);
}

void het_comm_watch(het_comm *comm, double seconds)
{
    het_pulse_limit(comm->pulse, seconds);
}

void het_comm_step(het_comm *comm, int64_t step)
{
    comm->step = step;
    het_pulse_phase(comm->pulse, step, comm->phase);
}

const char *het_comm_phase(het_comm *comm, const char *phase)
{
    const char *before = comm->phase;
    comm->phase = phase;
    het_pulse_phase(comm->pulse, comm->step, phase);
    return before;
}

void het_comm_listen(het_comm *comm, void (*hear)(void *context, const char *text, int last), void *context)
{
    het_pulse_listen(comm->pulse, hear, context);
}

int het_comm_rank(const het_comm *comm)
{
    return comm->rank;
}

int het_comm_size(const het_comm *comm)
{
    return comm->size;
}

int het_comm_local_rank(const het_comm *comm)
{
    return comm->local_rank;
}

int het_comm_local_size(const het_comm *comm)
{
    return comm->local_size;
}

const void *het_comm_native(const het_comm *comm)
{
    return &comm->world;
}

het_status het_comm_barrier(het_comm *comm)
{
    enter(comm, "barrier");
    return leave(comm, MPI_Barrier(comm->world));
}

static size_t next_piece(size_t count, size_t at)
{
    return count - at < piece_limit ? count - at : piece_limit;
}

het_status het_comm_broadcast(het_comm *comm, void *data, size_t bytes, int root)
{
    het_status status = HET_OK;
    char *start = data;
    for (size_t at = 0; at < bytes; at += piece_limit) {
        enter(comm, "broadcast");
        HET_TRY(leave(comm, MPI_Bcast(start + at, (int)next_piece(bytes, at), MPI_BYTE, root, comm->world)));
    }
done:
    return status;
}

static het_status reduce(het_comm *comm, void *data, size_t count, size_t size, MPI_Datatype type,
                         MPI_Op operation)
{
    het_status status = HET_OK;
    if (comm->size == 1) return HET_OK;
    for (size_t at = 0; at < count; at += piece_limit) {
        char *piece = (char *)data + at * size;
        const int length = (int)next_piece(count, at);
        enter(comm, "reduction");
        HET_TRY(leave(comm, MPI_Allreduce(MPI_IN_PLACE, piece, length, type, operation, comm->world)));
    }
done:
    return status;
}

/* Halves, quarters, ... of a piece are exchanged with the neighbour, the neighbour of two, ...: each number is added up along
 * the binary tree of the ranks, as a + b is b + a. The sums then come back the same way. */
static int tree_sum(het_comm *comm, char *piece, size_t count, size_t width, MPI_Datatype type)
{
    size_t first[32], end[32];
    int level = 0, code = MPI_SUCCESS;
    first[0] = 0;
    end[0] = count;
    for (int apart = 1; apart < comm->size && code == MPI_SUCCESS; apart *= 2, level++) {
        const size_t middle = first[level] + (end[level] - first[level]) / 2;
        const int upper = (comm->rank & apart) != 0;
        const size_t away = upper ? first[level] : middle, away_end = upper ? middle : end[level];
        first[level + 1] = upper ? middle : first[level];
        end[level + 1] = upper ? end[level] : middle;
        const size_t mine = end[level + 1] - first[level + 1];
        code = MPI_Sendrecv(piece + away * width, (int)(away_end - away), type, comm->rank ^ apart, 0, comm->other, (int)mine,
                            type, comm->rank ^ apart, 0, comm->world, MPI_STATUS_IGNORE);
        het_fold_numbers(piece + first[level + 1] * width, comm->other, mine, width);
    }
    for (int apart = comm->size / 2; apart > 0 && code == MPI_SUCCESS; apart /= 2, level--) {
        const int upper = (comm->rank & apart) != 0;
        const size_t from = upper ? first[level - 1] : end[level], to = upper ? first[level] : end[level - 1];
        code = MPI_Sendrecv(piece + first[level] * width, (int)(end[level] - first[level]), type, comm->rank ^ apart, 0,
                            piece + from * width, (int)(to - from), type, comm->rank ^ apart, 0, comm->world,
                            MPI_STATUS_IGNORE);
    }
    return code;
}

/* Floating-point numbers: the order of their sum matters. */
static het_status sum(het_comm *comm, void *data, size_t count, size_t width, MPI_Datatype type)
{
    het_status status = HET_OK;
    if (comm->parts == 0) return reduce(comm, data, count, width, type, MPI_SUM);
    if (comm->size == 1) return HET_OK;
    for (size_t at = 0; at < count; at += tree_piece) {
        const size_t length = count - at < tree_piece ? count - at : tree_piece;
        enter(comm, "sum along the tree");
        HET_TRY(leave(comm, tree_sum(comm, (char *)data + at * width, length, width, type)));
    }
done:
    return status;
}

het_status het_comm_sum_f32(het_comm *comm, float *data, size_t count)
{
    return sum(comm, data, count, sizeof *data, MPI_FLOAT);
}

het_status het_comm_sum_f64(het_comm *comm, double *data, size_t count)
{
    return sum(comm, data, count, sizeof *data, MPI_DOUBLE);
}

/* As bits: -0 + 0 is 0. */
het_status het_comm_unite(het_comm *comm, void *data, size_t count)
{
    return reduce(comm, data, count, sizeof(uint32_t), MPI_UINT32_T, MPI_BOR);
}

het_status het_comm_unite_rows(het_comm *comm, void *data, int64_t n, int64_t width, int64_t first, int64_t count)
{
    uint32_t *number = data;
    const int64_t end = first + count;
    memset(number, 0, (size_t)(first * width) * sizeof *number);
    memset(number + end * width, 0, (size_t)((n - end) * width) * sizeof *number);
    return het_comm_unite(comm, data, (size_t)(n * width));
}

het_status het_comm_sum_i64(het_comm *comm, int64_t *data, size_t count)
{
    return reduce(comm, data, count, sizeof *data, MPI_INT64_T, MPI_SUM);
}

het_status het_comm_max_i64(het_comm *comm, int64_t *data, size_t count)
{
    return reduce(comm, data, count, sizeof *data, MPI_INT64_T, MPI_MAX);
}

/* Pieces of a rank's block lie `bytes` apart at the root: a byte run whose extent is the whole block. */
static het_status gather_piece(het_comm *comm, char *all, const char *mine, size_t bytes, size_t at, int root)
{
    het_status status = HET_OK;
    const int length = (int)next_piece(bytes, at);
    MPI_Datatype run = MPI_DATATYPE_NULL, spaced = MPI_DATATYPE_NULL;
    HET_TRY(check(MPI_Type_contiguous(length, MPI_BYTE, &run), "gather"));
    HET_TRY(check(MPI_Type_create_resized(run, 0, (MPI_Aint)bytes, &spaced), "gather"));
    HET_TRY(check(MPI_Type_commit(&spaced), "gather"));
    char *to = comm->rank == root ? all + at : NULL;
    enter(comm, "gather");
    HET_TRY(leave(comm, MPI_Gather(mine + at, length, MPI_BYTE, to, 1, spaced, root, comm->world)));
done:
    if (spaced != MPI_DATATYPE_NULL) MPI_Type_free(&spaced);
    if (run != MPI_DATATYPE_NULL) MPI_Type_free(&run);
    return status;
}

het_status het_comm_gather(het_comm *comm, void *all, const void *mine, size_t bytes, int root)
{
    het_status status = HET_OK;
    for (size_t at = 0; at < bytes; at += piece_limit)
        HET_TRY(gather_piece(comm, all, mine, bytes, at, root));
done:
    return status;
}

het_status het_comm_agree(het_comm *comm, het_status mine)
{
    het_status status = HET_OK;
    struct verdict {
        int32_t code;
        char message[1024];
    } verdict = {.code = (int32_t)mine};
    int lowest = mine == HET_OK ? comm->size : comm->rank;
    if (comm->size == 1) return mine;
    enter(comm, "check for errors");
    HET_TRY(leave(comm, MPI_Allreduce(MPI_IN_PLACE, &lowest, 1, MPI_INT, MPI_MIN, comm->world)));
    if (lowest == comm->size) return HET_OK;
    snprintf(verdict.message, sizeof verdict.message, "%s", het_status_message());
    HET_TRY(het_comm_broadcast(comm, &verdict, sizeof verdict, lowest));
    return het_fail((het_status)verdict.code, "%s", verdict.message);
done:
    return status;
}

het_status het_comm_sum_start(het_comm *comm, float *data, size_t count)
{
    if (comm->size == 1) return HET_OK;
    HET_ASSERT(comm->parts == 0);
    if (count > piece_limit) return het_comm_sum_f32(comm, data, count); /* too long for one request */
    HET_ASSERT(comm->sum_count < HET_COMM_SUMS);
    MPI_Request *request = &comm->sums[comm->sum_count];
    const int code = MPI_Iallreduce(MPI_IN_PLACE, data, (int)count, MPI_FLOAT, MPI_SUM, comm->world, request);
    if (code == MPI_SUCCESS) comm->sum_count++;
    return check(code, "reduction");
}

void het_comm_sum_poll(het_comm *comm)
{
    int complete = 0;
    if (comm->sum_count == 0) return;
    const int code = MPI_Testall(comm->sum_count, comm->sums, &complete, MPI_STATUSES_IGNORE);
    if (code != MPI_SUCCESS && comm->sum_code == MPI_SUCCESS) comm->sum_code = code;
}

het_status het_comm_sum_wait(het_comm *comm)
{
    int code = comm->sum_code;
    enter(comm, "sum of gradients");
    if (comm->sum_count > 0) {
        const int last = MPI_Waitall(comm->sum_count, comm->sums, MPI_STATUSES_IGNORE);
        if (code == MPI_SUCCESS) code = last;
    }
    comm->sum_count = 0;
    comm->sum_code = MPI_SUCCESS;
    return leave(comm, code);
}

void het_comm_waits(het_comm *comm, const char *call)
{
    if (call != NULL) enter(comm, call);
    else het_pulse_wait(comm->pulse, NULL);
}

/* Messages without content, for which nobody waits. */
void het_comm_alarm(het_comm *comm)
{
    for (int i = 0; i < comm->size; i++) {
        MPI_Request request;
        if (i == comm->rank || MPI_Isend(NULL, 0, MPI_BYTE, i, ALARM, comm->world, &request) != MPI_SUCCESS) continue;
        MPI_Request_free(&request);
    }
}

int het_comm_alarmed(het_comm *comm)
{
    int there = 0;
    return comm->size > 1 && MPI_Iprobe(MPI_ANY_SOURCE, ALARM, comm->world, &there, MPI_STATUS_IGNORE) == MPI_SUCCESS && there;
}

het_status het_comm_fix(het_comm *comm, int64_t parts)
{
    char allowed[256] = "1";
    HET_ASSERT(parts > 0 && (parts & (parts - 1)) == 0);
    for (int64_t ranks = 2, at = 1; ranks <= parts && at < (int64_t)sizeof allowed; ranks *= 2)
        at += snprintf(allowed + at, sizeof allowed - (size_t)at, ", %lld", (long long)ranks);
    if (parts % comm->size != 0) /* whatever divides a power of two is one */
        return het_fail(HET_E_USAGE, "train.deterministic with train.shards = %lld allows %s ranks, not %d", (long long)parts,
                        allowed, comm->size);
    comm->parts = parts;
    comm->other = het_alloc((tree_piece / 2 + 1) * sizeof(double));
    return comm->other != NULL ? HET_OK : het_fail(HET_E_MEMORY, "no memory for sums over the ranks");
}

int het_comm_fixed(const het_comm *comm)
{
    return comm->parts > 0;
}

int64_t het_comm_parts(const het_comm *comm)
{
    return comm->parts == 0 ? 1 : comm->parts / comm->size;
}

/* Piece `at` of `of` pieces of n items: the first ones are longer by one where they are not equal. */
static void cut(int64_t n, int64_t at, int64_t of, int64_t *first, int64_t *count)
{
    const int64_t each = n / of, more = n % of;
    *first = at * each + (at < more ? at : more);
    *count = each + (at < more);
}

void het_comm_part(const het_comm *comm, int64_t part, int64_t n, int64_t *first, int64_t *count)
{
    const int64_t parts = het_comm_parts(comm);
    cut(n, comm->rank * parts + part, comm->size * parts, first, count);
}

void het_comm_share(const het_comm *comm, int64_t n, int64_t *first, int64_t *count)
{
    const int64_t parts = het_comm_parts(comm);
    int64_t last, last_count;
    het_comm_part(comm, 0, n, first, count);
    het_comm_part(comm, parts - 1, n, &last, &last_count);
    *count = last + last_count - *first;
}
