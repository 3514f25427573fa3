#include "cuda_runtime.h"

#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <ucontext.h>

#include "../guard.h"
#include "races.h"
#include "stream.h"

dim3 threadIdx, blockIdx, blockDim, gridDim;

/* ---- threads of a block ---- */

enum { STACK = 64 << 10, THREADS_MAX = 1024 };

/* Contexts start a fiber, jumps switch between them: those take no system call, and the compiler's own are not slowed
 * down by sanitizers. A fiber goes from block to block. */
typedef void *jump_point[5];

enum { WARP = 32 };

/* Where a thread stands. */
enum stand { RUNS, AT_WARP, AT_BLOCK, WAITS /* for other warps */, LEFT /* the kernel returned */ };

typedef struct fiber {
    ucontext_t start;
    jump_point at;
    dim3 thread;
    int started, stand;
    void *logical;       /* races.h */
    unsigned met[LEFT];  /* how often in this block at a barrier of a kind */
    char gates[LEFT][2]; /* of the warp or block whose first thread this is, by kind of barrier */
} fiber;

static fiber *all_fibers, *fibers; /* of all sets of races.h; of the block that runs */
static char *stacks;
static void *host;                      /* the logical thread that launches */
static unsigned long moves;             /* of what warps wait for */
static char launched = 1, finished = 1; /* gates of launches; not 0, as races.h forgets what begins as 0 */
static jump_point scheduler;
static fiber *current; /* NULL: no fibers */
static het_host_body *running;
static const void *arguments;

static void stop(const char *why)
{
    fprintf(stderr, "cuda_host: %s\n", why);
    abort();
}

/* Not in the function that set the point. */
HET_UNWATCHED __attribute__((noinline)) static void jump(jump_point to)
{
    __builtin_longjmp(to, 1);
}

/* (noipa: when it returns no register is what it was, whatever its own code leaves alone) */
HET_UNWATCHED __attribute__((noipa)) static void leave_fiber(void)
{
    het_races_switch(host);
    if (__builtin_setjmp(current->at) == 0) jump(scheduler);
}

HET_UNWATCHED static void enter(void)
{
    for (;;) {
        running(arguments);
        current->stand = LEFT;
        leave_fiber();
    }
}

HET_UNWATCHED __attribute__((noinline)) static void start_fiber(fiber *f)
{
    f->started = 1;
    getcontext(&f->start);
    f->start.uc_stack.ss_sp = stacks + (size_t)STACK * (size_t)(f - all_fibers);
    f->start.uc_stack.ss_size = STACK;
    f->start.uc_link = NULL;
    makecontext(&f->start, enter, 0);
    setcontext(&f->start);
}

HET_UNWATCHED __attribute__((noipa)) static void resume(fiber *f)
{
    current = f;
    threadIdx = f->thread;
    if (__builtin_setjmp(scheduler) != 0) return;
    het_races_switch(f->logical);
    if (f->started) jump(f->at);
    start_fiber(f);
}

/* Until all of the warp or block are there. Gates take turns, as some may wait for the next time before others have gone on. */
HET_UNWATCHED static void wait_at(stand kind)
{
    if (current == NULL) stop("a barrier in a kernel that was launched without MEET");
    fiber *first = kind == AT_BLOCK ? fibers : fibers + (current - fibers) / WARP * WARP;
    char *gate = &first->gates[kind][current->met[kind]++ % 2];
    het_races_before(gate);
    current->stand = kind;
    leave_fiber();
    het_races_after(gate);
}

HET_UNWATCHED void __syncthreads(void)
{
    wait_at(AT_BLOCK);
}

HET_UNWATCHED void __syncwarp(void)
{
    wait_at(AT_WARP);
}

typedef struct counted {
    uint16_t arrivals, pending;
    uint32_t bytes_phase; /* sixteenths of the bytes to come, and above them the parity of the phase */
} counted;

HET_UNWATCHED void het_host_barrier_make(void *barrier, unsigned arrivals)
{
    *(counted *)barrier = {(uint16_t)arrivals, (uint16_t)arrivals, 0};
}

HET_UNWATCHED void het_host_barrier_arrive(void *barrier, unsigned arrivals, int64_t bytes)
{
    counted *b = (counted *)barrier;
    if (b->pending < arrivals) stop("more arrivals than a barrier expects");
    b->pending = (uint16_t)(b->pending - arrivals);
    b->bytes_phase += (uint32_t)(bytes / 16);
    if (b->pending == 0 && (b->bytes_phase & 0x7FFFFFFF) == 0) {
        b->pending = b->arrivals;
        b->bytes_phase ^= 0x80000000u;
    }
    moves++;
    het_races_before(barrier);
}

HET_UNWATCHED void het_host_barrier_wait(void *barrier, unsigned parity)
{
    if (current == NULL) stop("a barrier in a kernel that was launched without MEET");
    while (((counted *)barrier)->bytes_phase >> 31 == parity) {
        current->stand = WAITS;
        leave_fiber();
    }
    het_races_after(barrier);
}

static dim3 thread_at(unsigned i)
{
    return dim3(i % blockDim.x, i / blockDim.x % blockDim.y, i / blockDim.x / blockDim.y);
}

/* The warp's threads to their next barrier of the block, to the next thing that they wait for, or to the end; where they stand. */
static int run_warp(unsigned first, unsigned end, int backwards)
{
    int stand = AT_WARP;
    while (stand == AT_WARP) {
        for (unsigned n = first; n < end; n++) {
            fiber *f = &fibers[backwards ? end - 1 - n + first : n];
            resume(f);
            if (n == first) stand = f->stand;
            if (f->stand != stand) stop("some threads of a warp wait at a barrier that others left out");
        }
    }
    return stand;
}

static void make_fibers(void)
{
    all_fibers = (fiber *)calloc((size_t)HET_RACES_SETS * THREADS_MAX, sizeof *all_fibers);
    stacks = (char *)malloc((size_t)HET_RACES_SETS * THREADS_MAX * STACK);
    if (all_fibers == NULL || stacks == NULL) stop("no memory for the threads of a block");
}

/* Before the launch begins, as a logical thread comes after all that its maker saw: later that would be the first blocks. */
static void make_logical(unsigned threads)
{
    for (unsigned i = 0; HET_RACES && i < HET_RACES_SETS * THREADS_MAX; i++)
        if (i % THREADS_MAX < threads && all_fibers[i].logical == NULL) all_fibers[i].logical = het_races_new();
    host = het_races_current();
}

/* The logical threads of a launch of so many blocks pass a gate. */
HET_UNWATCHED static void pass_all(unsigned threads, unsigned blocks, void pass(void *gate), char *gate)
{
    for (unsigned i = 0; HET_RACES && i < HET_RACES_SETS * THREADS_MAX; i++) {
        if (i % THREADS_MAX >= threads || i / THREADS_MAX >= blocks) continue;
        het_races_switch(all_fibers[i].logical);
        pass(gate);
        het_races_switch(host);
    }
}

static void ready(unsigned i)
{
    fibers[i].thread = thread_at(i);
    fibers[i].stand = RUNS;
    memset(fibers[i].met, 0, sizeof fibers[i].met);
}

/* One fiber each, all from barrier to barrier. */
static void run_together(unsigned threads, int backwards)
{
    for (unsigned i = 0; i < threads; i++) ready(i);
    const unsigned warps = (threads + WARP - 1) / WARP;
    unsigned left = 0, at_barrier = 0;
    while (left < warps) {
        const unsigned long before = moves;
        const int together = at_barrier == warps;
        const unsigned stood = together ? left : left + at_barrier;
        left = at_barrier = 0;
        for (unsigned n = 0; n < warps; n++) {
            const unsigned first = WARP * (backwards ? warps - 1 - n : n), end = first + WARP;
            int stand = fibers[first].stand;
            if (stand != LEFT && (stand != AT_BLOCK || together)) stand = run_warp(first, end < threads ? end : threads, backwards);
            left += stand == LEFT;
            at_barrier += stand == AT_BLOCK;
        }
        if (left > 0 && at_barrier > 0 && left + at_barrier == warps) stop("some threads of a block wait at a barrier that others left out");
        if (left + at_barrier == stood && moves == before) stop("warps wait for what does not come");
    }
    current = NULL;
}

static void run_apart(unsigned threads, int backwards)
{
    for (unsigned n = 0; n < threads; n++) {
        threadIdx = thread_at(backwards ? threads - 1 - n : n);
        running(arguments);
    }
}

/* The same with a fiber for each, as only that is a logical thread. */
static void run_apart_watched(unsigned threads, int backwards)
{
    for (unsigned n = 0; n < threads; n++) {
        const unsigned i = backwards ? threads - 1 - n : n;
        ready(i);
        resume(&fibers[i]);
        if (fibers[i].stand != LEFT) stop("a barrier in a kernel that was launched without MEET");
    }
    current = NULL;
}

/* ---- dynamic shared memory ---- */

enum { SHARED_USUAL = 48 << 10, SHARED_MOST = 227 << 10, SHARED_MARGIN = 1024, KERNELS_MAX = 64 };

alignas(128) char het_host_shared[SHARED_MOST + SHARED_MARGIN];
static struct {
    const void *kernel;
    int bytes;
} allowed[KERNELS_MAX];
static int shared_bytes;

static int number_from(const char *name, int usual); /* of the environment */

static int shared_most(void)
{
    return number_from("HET_HOST_SHARED", SHARED_MOST);
}

cudaError_t het_host_set_attribute(const void *kernel, cudaFuncAttribute, int value)
{
    int i = 0;
    if (value > shared_most()) return cudaErrorInvalidValue;
    while (i < KERNELS_MAX - 1 && allowed[i].kernel != NULL && allowed[i].kernel != kernel) i++;
    allowed[i].kernel = kernel;
    allowed[i].bytes = value;
    return cudaSuccess;
}

void het_host_share(const void *kernel, int bytes)
{
    int most = SHARED_USUAL;
    for (int i = 0; i < KERNELS_MAX; i++)
        if (allowed[i].kernel == kernel && allowed[i].bytes > most) most = allowed[i].bytes;
    if (bytes > most) stop("a kernel takes more shared memory than was asked for");
    shared_bytes = bytes;
}

/* Of a block: all NaN; and nothing written beyond. */
static void open_shared(void)
{
    het_races_forget();
    if (shared_bytes > 0) memset(het_host_shared, 0xFF, (size_t)shared_bytes + SHARED_MARGIN);
    het_races_forget();
}

static void check_shared(void)
{
    for (int i = 0; i < SHARED_MARGIN; i++)
        if (het_host_shared[shared_bytes + i] != (char)0xFF) stop("a kernel wrote beyond its shared memory");
}

int het_host_captures(cudaStream_t stream, const std::function<void()> &launch)
{
    const int bytes = shared_bytes;
    const int captures = het_host_record(stream, [=] {
        shared_bytes = bytes;
        launch();
    });
    if (captures) shared_bytes = 0;
    return captures;
}

/* All threads read blockIdx, and the one that writes it has no order with them. */
HET_UNWATCHED static void run_block(dim3 at, unsigned number, unsigned threads, int meet)
{
    blockIdx = at;
    fibers = all_fibers + number % HET_RACES_SETS * THREADS_MAX;
    if (meet) open_shared();
    if (meet) run_together(threads, at.x % 2);
    else if (HET_RACES) run_apart_watched(threads, at.x % 2);
    else run_apart(threads, at.x % 2);
    if (shared_bytes > 0) check_shared();
}

static cudaError_t last_error;
static long launches;
static void launch_on(cudaStream_t stream);

void het_host_run(dim3 grid, dim3 block, int meet, cudaStream_t stream, het_host_body *body, const void *call)
{
    launch_on(stream);
    const unsigned threads = block.x * block.y * block.z;
    if (threads == 0 || threads > THREADS_MAX || grid.x == 0 || grid.y == 0 || grid.z == 0 || grid.y > 65535 ||
        grid.z > 65535) {
        last_error = 9; /* cudaErrorInvalidConfiguration */
        return;
    }
    blockDim = block;
    gridDim = grid;
    running = body;
    arguments = call;
    const unsigned blocks = grid.x * grid.y * grid.z;
    unsigned number = 0;
    if (all_fibers == NULL) make_fibers();
    make_logical(threads);
    het_races_before(&launched);
    pass_all(threads, blocks, het_races_after, &launched);
    het_guard_open();
    for (unsigned z = 0; z < grid.z; z++)
        for (unsigned y = 0; y < grid.y; y++)
            for (unsigned x = 0; x < grid.x; x++) run_block(dim3(x, y, z), number++, threads, meet);
    pass_all(threads, blocks, het_races_before, &finished);
    het_races_after(&finished);
    shared_bytes = 0;
    het_guard_close();
}

/* ---- memory, device ---- */

static int device_in_use;

/* HET_HOST_FAULT=N[:DEVICE]: the N-th copy or fill fails, to see what follows. */
static cudaError_t operation(void)
{
    static long left = -1;
    const char *text = getenv("HET_HOST_FAULT"), *device = text == NULL ? NULL : strchr(text, ':');
    if (left < 0) left = text == NULL || (device != NULL && atoi(device + 1) != device_in_use) ? 0 : atol(text);
    return left > 0 && --left == 0 ? cudaErrorLaunchFailure : cudaSuccess;
}

/* ---- capture ---- */

struct het_host_graph {
    std::vector<std::function<void()>> work;
};

static cudaStream_t capturing; /* one at a time */
static int spoiled;            /* its capture */
static cudaError_t replayed;   /* the first error of the graph that runs */
static long graphs_made, graphs_launched, waits, allocations;

/* What a device does not do while it captures. */
static int forbidden(void)
{
    spoiled |= capturing != NULL;
    return capturing != NULL;
}

cudaError_t cudaStreamBeginCapture(cudaStream_t stream, cudaStreamCaptureMode)
{
    if (capturing != NULL) stop("two captures at a time");
    capturing = stream;
    spoiled = 0;
    stream->recorded = new std::vector<std::function<void()>>();
    return cudaSuccess;
}

cudaError_t cudaStreamEndCapture(cudaStream_t stream, cudaGraph_t *graph)
{
    if (capturing != stream) stop("the end of a capture that was not begun");
    *graph = spoiled ? NULL : new het_host_graph{*stream->recorded};
    delete stream->recorded;
    stream->recorded = NULL;
    capturing = NULL;
    return spoiled ? cudaErrorStreamCaptureInvalidated : cudaSuccess;
}

/* HET_HOST_GRAPH=refuse: it has no memory for graphs. */
cudaError_t cudaGraphInstantiateWithFlags(cudaGraphExec_t *exec, cudaGraph_t graph, unsigned long long)
{
    *exec = NULL;
    if (getenv("HET_HOST_GRAPH") != NULL) return cudaErrorMemoryAllocation;
    graphs_made++;
    *exec = new het_host_graph(*graph);
    return cudaSuccess;
}

cudaError_t cudaGraphLaunch(cudaGraphExec_t exec, cudaStream_t)
{
    if (capturing != NULL) stop("a graph within a capture");
    replayed = cudaSuccess;
    graphs_launched++;
    for (const std::function<void()> &work : exec->work) work();
    return replayed;
}

cudaError_t cudaGraphDestroy(cudaGraph_t graph)
{
    delete graph;
    return cudaSuccess;
}

cudaError_t cudaGraphExecDestroy(cudaGraphExec_t exec)
{
    delete exec;
    return cudaSuccess;
}

static void note(cudaError_t error)
{
    if (replayed == cudaSuccess) replayed = error;
}

cudaError_t cudaMalloc(void **memory, size_t bytes)
{
    if (forbidden()) return cudaErrorStreamCaptureUnsupported;
    allocations++;
    const char *most = getenv("HET_HOST_MEMORY"); /* bytes of the largest allocation that works */
    *memory = most != NULL && bytes > (size_t)atoll(most) ? NULL : het_guard_alloc(bytes);
    return *memory == NULL ? cudaErrorMemoryAllocation : cudaSuccess;
}

cudaError_t cudaFree(void *memory)
{
    if (forbidden()) return cudaErrorStreamCaptureUnsupported;
    het_guard_release(memory);
    return cudaSuccess;
}

cudaError_t cudaMemGetInfo(size_t *free_bytes, size_t *total)
{
    *free_bytes = (size_t)1 << 30;
    *total = (size_t)1 << 31;
    return cudaSuccess;
}

static size_t uploaded;

/* HET_HOST_COUNT: say at the end how much came from the host, and what else was counted. */
__attribute__((destructor)) static void count(void)
{
    if (getenv("HET_HOST_COUNT") == NULL) return;
    fprintf(stderr, "cuda_host: %zu bytes from the host\n", uploaded);
    fprintf(stderr, "cuda_host: %ld graphs launched, %ld made, %ld waits, %ld allocations\n", graphs_launched, graphs_made, waits,
            allocations);
}

cudaError_t cudaMemcpyAsync(void *to, const void *from, size_t bytes, cudaMemcpyKind kind, cudaStream_t stream)
{
    if (het_host_record(stream, [=] { note(cudaMemcpyAsync(to, from, bytes, kind, stream)); })) return cudaSuccess;
    launch_on(stream);
    if (kind == cudaMemcpyHostToDevice) uploaded += bytes;
    het_guard_open();
    memcpy(to, from, bytes);
    het_guard_close();
    return operation();
}

cudaError_t cudaMemsetAsync(void *to, int value, size_t bytes, cudaStream_t stream)
{
    if (het_host_record(stream, [=] { note(cudaMemsetAsync(to, value, bytes, stream)); })) return cudaSuccess;
    launch_on(stream);
    het_guard_open();
    memset(to, value, bytes);
    het_guard_close();
    return operation();
}

/* ---- streams and events ---- */

struct het_host_event {
    cudaStream_t stream;
    long queued, seen; /* of the stream, when it was recorded */
};

static void put(cudaStream_t stream, het_host_work *work, void *context)
{
    het_host_queued *item = new het_host_queued{work, context, NULL};
    *(stream->first == NULL ? &stream->first : &stream->last->next) = item;
    stream->last = item;
    stream->queued++;
}

/* What can be done without waiting. */
static void advance(cudaStream_t stream)
{
    while (stream->first != NULL && stream->first->work(stream->first->context)) {
        het_host_queued *item = stream->first;
        stream->first = item->next;
        stream->finished++;
        delete item;
    }
}

static void wait_until(cudaStream_t stream, long queued)
{
    for (advance(stream); stream->finished < queued; advance(stream)) sched_yield();
}

static void launch_on(cudaStream_t stream)
{
    wait_until(stream, stream->queued);
    stream->seen = ++launches;
}

cudaError_t cudaStreamCreateWithPriority(cudaStream_t *stream, unsigned, int priority)
{
    *stream = new het_host_stream{priority, 0, 0, NULL, NULL, 0, &launches, put, het_guard_open, het_guard_close,
                                   NULL};
    return cudaSuccess;
}

cudaError_t cudaStreamCreateWithFlags(cudaStream_t *stream, unsigned flags)
{
    return cudaStreamCreateWithPriority(stream, flags, 0);
}

cudaError_t cudaDeviceGetStreamPriorityRange(int *least, int *greatest)
{
    *least = 0;
    *greatest = -5;
    return cudaSuccess;
}

cudaError_t cudaStreamDestroy(cudaStream_t stream)
{
    wait_until(stream, stream->queued);
    delete stream;
    return cudaSuccess;
}

cudaError_t cudaStreamSynchronize(cudaStream_t stream)
{
    if (forbidden()) return cudaErrorStreamCaptureUnsupported;
    waits++;
    wait_until(stream, stream->queued);
    return cudaSuccess;
}

cudaError_t cudaEventCreateWithFlags(cudaEvent_t *event, unsigned)
{
    *event = new het_host_event();
    return cudaSuccess;
}

cudaError_t cudaEventDestroy(cudaEvent_t event)
{
    delete event;
    return cudaSuccess;
}

cudaError_t cudaEventRecord(cudaEvent_t event, cudaStream_t stream)
{
    *event = {stream, stream->queued, stream->seen};
    return cudaSuccess;
}

cudaError_t cudaEventQuery(cudaEvent_t event)
{
    if (event->stream == NULL) return cudaSuccess;
    advance(event->stream);
    return event->stream->finished >= event->queued ? cudaSuccess : cudaErrorNotReady;
}

cudaError_t cudaStreamWaitEvent(cudaStream_t stream, cudaEvent_t event, unsigned)
{
    if (event->stream == NULL) return cudaSuccess;
    wait_until(event->stream, event->queued);
    if (stream->seen < event->seen) stream->seen = event->seen;
    return cudaSuccess;
}

/* A few at a time are enough. */
static void *registered[4];

static cudaError_t replace(void *from, void *to)
{
    for (void *&at : registered) {
        if (at != from) continue;
        at = to;
        return cudaSuccess;
    }
    return from == NULL ? cudaErrorMemoryAllocation : cudaErrorHostMemoryNotRegistered;
}

cudaError_t cudaHostRegister(void *memory, size_t, unsigned)
{
    return forbidden() ? cudaErrorStreamCaptureUnsupported : replace(NULL, memory);
}

cudaError_t cudaHostUnregister(void *memory)
{
    return replace(memory, NULL);
}

cudaError_t cudaGetLastError(void)
{
    const cudaError_t error = last_error;
    last_error = cudaSuccess;
    return error;
}

const char *cudaGetErrorString(cudaError_t error)
{
    if (error == cudaErrorStreamCaptureUnsupported) return "operation not permitted when stream is capturing";
    return error == cudaErrorLaunchFailure ? "unspecified launch failure" : "an error of the test double";
}

/* HET_HOST_DRIVER, HET_HOST_DEVICES, HET_HOST_SHARED: what this machine is said to have. */
static int number_from(const char *name, int usual)
{
    const char *text = getenv(name);
    return text == NULL ? usual : atoi(text);
}

cudaError_t cudaDriverGetVersion(int *version)
{
    *version = number_from("HET_HOST_DRIVER", 13000);
    return cudaSuccess;
}

cudaError_t cudaRuntimeGetVersion(int *version)
{
    *version = 13000;
    return cudaSuccess;
}

cudaError_t cudaGetDeviceCount(int *count)
{
    if (number_from("HET_HOST_DRIVER", 13000) < 13000) return cudaErrorInsufficientDriver;
    *count = number_from("HET_HOST_DEVICES", 1);
    return *count == 0 ? cudaErrorNoDevice : cudaSuccess;
}

cudaError_t cudaGetDeviceProperties(cudaDeviceProp *chip, int index)
{
    *chip = cudaDeviceProp();
    snprintf(chip->name, sizeof chip->name, "no GPU: kernels on the host");
    chip->totalGlobalMem = (size_t)1 << 31;
    chip->major = 9;
    chip->multiProcessorCount = 2;
    chip->uuid.bytes[0] = (char)(1 + index);
    return cudaSuccess;
}

cudaError_t cudaSetDevice(int index)
{
    device_in_use = index;
    return cudaSuccess;
}

cudaError_t cudaGetDevice(int *index)
{
    *index = device_in_use;
    return cudaSuccess;
}

cudaError_t cudaDeviceGetAttribute(int *value, cudaDeviceAttr attribute, int)
{
    *value = attribute == cudaDevAttrMaxSharedMemoryPerBlockOptin ? shared_most() : 0;
    return cudaSuccess;
}
