/* The GPU as a device: opening it, its memory, its faults, and the table of its operations. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "cudnn.h"
#include "cufft.h"
#include "members.h"
#include "product.h"

enum { SCRATCH = 1 << 20 }; /* at first: of operations without a plan */

void het_cuda_fault(het_cuda *c, const char *operation, const char *why, const char *file, int line)
{
    if (c->status != HET_OK) return;
    const char *name = strrchr(file, '/');
    c->status = HET_E_DEVICE;
    snprintf(c->fault, sizeof c->fault, "the GPU failed at %.160s (%s line %d): %s", operation,
             name == NULL ? file : name + 1, line, why);
    if (getenv("HET_TEST_DEVICE") != NULL) c->host->warn("%s", c->fault); /* tests of operations do not ask for the words */
}

/* ---- memory --------------------------------------------------------------------------------------------------------- */

static double mib(size_t bytes)
{
    return (double)bytes / 1048576.0;
}

void *het_cuda_alloc(het_cuda *c, size_t bytes)
{
    void *memory = NULL;
    size_t free_bytes = 0, total = 0;
    if (c->status != HET_OK) return NULL;
    const cudaError_t error = cudaMalloc(&memory, bytes > 0 ? bytes : 1);
    if (error == cudaErrorMemoryAllocation) { /* no fault of the device: the caller says what it was for */
        (void)cudaGetLastError();
        (void)cudaMemGetInfo(&free_bytes, &total);
        c->host->warn("the GPU has no memory for %.1f MiB: %.1f of %.1f MiB are free", mib(bytes), mib(free_bytes), mib(total));
        return NULL;
    }
    HET_CUDA(c, error);
    if (c->status != HET_OK) return NULL;
    HET_CUDA(c, cudaMemsetAsync(memory, 0, bytes > 0 ? bytes : 1, c->stream));
    return memory;
}

void het_cuda_free(het_cuda *c, void *memory)
{
    if (memory != NULL) HET_CUDA(c, cudaFree(memory));
}

het_status het_cuda_reserve(het_cuda *c, het_cuda_room *room, size_t bytes)
{
    if (bytes <= room->bytes) return HET_OK;
    HET_CUDA(c, cudaStreamSynchronize(c->stream)); /* it may be in use */
    het_cuda_free(c, room->memory);
    c->moved++;
    room->memory = het_cuda_alloc(c, bytes);
    room->bytes = room->memory == NULL ? 0 : bytes;
    if (c->status != HET_OK) return c->host->fail(c->status, "%s", c->fault);
    if (room->memory == NULL) return c->host->fail(HET_E_MEMORY, "no %.1f MiB on the GPU for an operation to work in", mib(bytes));
    return HET_OK;
}

static int is_pinned(const het_cuda *c, const void *host)
{
    for (int i = 0; i < HET_PINNED; i++)
        if (c->pinned[i].bytes > 0 && (size_t)((const char *)host - c->pinned[i].memory) < c->pinned[i].bytes) return 1;
    return 0;
}

void het_cuda_upload(het_cuda *c, void *to, const void *from, size_t bytes)
{
    if (bytes > 0) HET_CUDA(c, cudaMemcpyAsync(to, from, bytes, cudaMemcpyHostToDevice, c->stream));
    if (bytes > 0 && c->coherent && !is_pinned(c, from)) HET_CUDA(c, cudaStreamSynchronize(c->stream));
}

void het_cuda_download(het_cuda *c, void *to, const void *from, size_t bytes)
{
    if (bytes > 0) HET_CUDA(c, cudaMemcpyAsync(to, from, bytes, cudaMemcpyDeviceToHost, c->stream));
    HET_CUDA(c, cudaStreamSynchronize(c->stream));
    if (c->status != HET_OK) memset(to, 0, bytes); /* what is an index stays one until sync tells */
}

static void *device_alloc(het_device *dev, size_t bytes)
{
    return het_cuda_alloc(het_cuda_of(dev), bytes);
}

static void device_release(het_device *dev, void *memory)
{
    het_cuda_free(het_cuda_of(dev), memory);
}

static size_t device_available(het_device *dev)
{
    size_t free_bytes = 0, total = 0;
    HET_CUDA(het_cuda_of(dev), cudaMemGetInfo(&free_bytes, &total));
    return free_bytes;
}

static void device_upload(het_device *dev, void *to_device, const void *from_host, size_t bytes)
{
    het_cuda_upload(het_cuda_of(dev), to_device, from_host, bytes);
}

static void device_download(het_device *dev, void *to_host, const void *from_device, size_t bytes)
{
    het_cuda_download(het_cuda_of(dev), to_host, from_device, bytes);
}

static void device_zero(het_device *dev, void *memory, size_t bytes)
{
    het_cuda *c = het_cuda_of(dev);
    if (bytes > 0) HET_CUDA(c, cudaMemsetAsync(memory, 0, bytes, c->stream));
}

static int device_pin(het_device *dev, void *host, size_t bytes)
{
    het_cuda *c = het_cuda_of(dev);
    int at = 0;
    while (at < HET_PINNED && c->pinned[at].bytes > 0) at++;
    const int pinned = at < HET_PINNED && cudaHostRegister(host, bytes, cudaHostRegisterDefault) == cudaSuccess;
    (void)cudaGetLastError();
    if (pinned) c->pinned[at] = {(const char *)host, bytes};
    return pinned;
}

static void device_unpin(het_device *dev, void *host)
{
    het_cuda *c = het_cuda_of(dev);
    HET_CUDA(c, cudaHostUnregister(host));
    for (int i = 0; i < HET_PINNED; i++)
        if (c->pinned[i].memory == host) c->pinned[i] = {NULL, 0};
}

static het_status device_sync(het_device *dev)
{
    het_cuda *c = het_cuda_of(dev);
    HET_CUDA(c, cudaStreamSynchronize(c->stream));
    return c->status == HET_OK ? HET_OK : c->host->fail(c->status, "%s", c->fault);
}

/* In the order of struct het_ops; a missing or misplaced one is an error of types, or of the count, at compile time. */
static const het_ops cuda_ops = {
    "cuda",
    device_alloc,
    device_release,
    device_available,
    device_upload,
    device_download,
    device_zero,
    het_cuda_fill,
    device_pin,
    device_unpin,
    device_sync,
    het_cuda_conv_new,
    het_cuda_conv_free,
    het_cuda_conv_forward,
    het_cuda_conv_backward,
    het_cuda_norm_new,
    het_cuda_norm_free,
    het_cuda_norm_forward,
    het_cuda_norm_infer,
    het_cuda_norm_backward,
    het_cuda_add_relu,
    het_cuda_add_relu_backward,
    het_cuda_accumulate,
    het_cuda_maxpool,
    het_cuda_maxpool_backward,
    het_cuda_avgpool,
    het_cuda_avgpool_backward,
    het_cuda_to_float,
    het_cuda_from_float,
    het_cuda_linear,
    het_cuda_linear_backward,
    het_cuda_decode_new,
    het_cuda_decode_free,
    het_cuda_decode_load,
    het_cuda_decode_forward,
    het_cuda_decode_backward,
    het_cuda_s2s2,
    het_cuda_s2s2_backward,
    het_cuda_turn_poses,
    het_cuda_latent,
    het_cuda_latent_backward,
    het_cuda_fourier_new,
    het_cuda_fourier_free,
    het_cuda_take_images,
    het_cuda_image_to_points,
    het_cuda_points_to_image,
    het_cuda_standardise,
    het_cuda_mirror_pairs,
    het_cuda_turn_points,
    het_cuda_ctf,
    het_cuda_project,
    het_cuda_project_loss,
    het_cuda_points_power,
    het_cuda_add_noise,
    het_cuda_unit_scale,
    het_cuda_winners,
    het_cuda_shift_backward,
    het_cuda_scale_rows,
    het_cuda_gather_rows,
    het_cuda_sum_rows,
    het_cuda_blend,
    het_cuda_pose_loss,
    het_cuda_conformation_loss,
    het_cuda_adam,
    het_cuda_norm2,
    het_cuda_graph_begin,
    het_cuda_graph_call,
    het_cuda_graph_end,
    het_cuda_graph_free,
    &het_cuda_sums,
};

/* ---- opening -------------------------------------------------------------------------------------------------------- */

/* Driver and devices, or why there are none. */
static het_status count_devices(const het_plugin_host *host, int *count)
{
    int driver = 0, runtime = 0;
    *count = 0; /* not touched where there is no driver */
    (void)cudaRuntimeGetVersion(&runtime);
    if (cudaDriverGetVersion(&driver) != cudaSuccess || driver == 0)
        return host->fail(HET_E_DEVICE, "--device cuda: this machine has no NVIDIA driver; use --device cpu");
    const cudaError_t error = cudaGetDeviceCount(count);
    if (error == cudaErrorInsufficientDriver)
        return host->fail(HET_E_DEVICE,
                          "--device cuda: the driver is too old: it serves CUDA %d.%d, this plugin was built with %d.%d; "
                          "install a newer driver or use --device cpu",
                          driver / 1000, driver % 1000 / 10, runtime / 1000, runtime % 1000 / 10);
    if (error != cudaSuccess && error != cudaErrorNoDevice)
        return host->fail(HET_E_DEVICE, "--device cuda: the driver does not work: %s", cudaGetErrorString(error));
    if (*count < 1)
        return host->fail(HET_E_DEVICE, "--device cuda: there is a driver but no GPU here (CUDA_VISIBLE_DEVICES hides some)");
    return HET_OK;
}

static het_status choose(const het_plugin_host *host, const het_plugin_wish *wish, int *index)
{
    int count;
    const het_status status = count_devices(host, &count);
    if (status != HET_OK) return status;
    if (wish->index >= count)
        return host->fail(HET_E_USAGE, "--device cuda:%d: there are %d GPUs, counted from 0", wish->index, count);
    *index = wish->index >= 0 ? wish->index : wish->place % count;
    return HET_OK;
}

static void close_device(het_device *device)
{
    het_cuda *c = het_cuda_of(device);
    if (c->stream != NULL) (void)cudaStreamSynchronize(c->stream);
    het_cufft_close(c);
    het_cudnn_close(c);
    het_cuda_products_close(c);
    het_cuda_free(c, c->scratch.memory);
    het_cuda_free(c, c->partial.memory);
    if (c->stream != NULL) (void)cudaStreamDestroy(c->stream);
    delete c;
}

/* A number from the environment, which tests and small GPUs set. */
static int64_t number(const char *name, int64_t usual)
{
    const char *text = getenv(name);
    const long long value = text == NULL ? 0 : atoll(text);
    return value > 0 ? value : usual;
}

/* To the device's name: the libraries that it could do without. */
static void add_libraries(het_cuda *c)
{
    char text[2][40];
    het_cudnn_name(c, text[0], sizeof text[0]);
    het_cufft_name(c, text[1], sizeof text[1]);
    for (int i = 0; i < 2; i++) {
        const size_t length = strlen(c->name);
        snprintf(c->name + length, sizeof c->name - length, "%s%s", text[i][0] != '\0' ? ", " : "", text[i]);
    }
}

static het_status start(het_cuda *c, const het_plugin_wish *wish, int index)
{
    cudaDeviceProp chip;
    HET_CUDA(c, cudaSetDevice(index));
    HET_CUDA(c, cudaGetDeviceProperties(&chip, index));
    HET_CUDA(c, cudaDeviceGetAttribute(&c->coherent, cudaDevAttrPageableMemoryAccess, index));
    HET_CUDA(c, cudaDeviceGetAttribute(&c->shared_most, cudaDevAttrMaxSharedMemoryPerBlockOptin, index));
    HET_CUDA(c, cudaStreamCreateWithFlags(&c->stream, cudaStreamNonBlocking));
    if (c->status != HET_OK) return c->host->fail(c->status, "--device cuda: %s", c->fault);
    if (chip.major < 8)
        return c->host->fail(HET_E_DEVICE, "--device cuda: %s has compute capability %d.%d, this plugin needs 8.0 or more",
                             chip.name, chip.major, chip.minor);
    memcpy(c->uuid, &chip.uuid, sizeof c->uuid);
    c->processors = chip.multiProcessorCount;
    c->capability = 10 * chip.major + chip.minor;
    c->rows_most = number("HET_CUDA_ROWS", 1 << 17);
    c->columns_most = number("HET_CUDA_COLUMNS", 256 << 20);
    c->narrow = wish->precision != HET_PRECISION_F32;
    snprintf(c->name, sizeof c->name, "GPU %d: %s, compute capability %d.%d, %.1f GiB, %s", index, chip.name, chip.major,
             chip.minor, (double)chip.totalGlobalMem / 1073741824.0, c->narrow ? "bf16" : "fp32");
    het_status status = het_cuda_reserve(c, &c->scratch, SCRATCH);
    if (status == HET_OK) status = het_cuda_products_open(c);
    if (status == HET_OK) status = het_cudnn_open(c);
    if (status == HET_OK) status = het_cufft_open(c);
    if (status == HET_OK) status = het_cuda_graphs_open(c);
    if (status == HET_OK) add_libraries(c);
    return status;
}

#define EXPORTED extern "C" __attribute__((visibility("default")))

EXPORTED const uint64_t het_plugin_layout;
const uint64_t het_plugin_layout = HET_PLUGIN_LAYOUT_HERE;

EXPORTED het_status het_plugin_open(const het_plugin_host *host, const het_plugin_wish *wish, het_device *device)
{
    int index = 0;
    het_status status = choose(host, wish, &index);
    if (status != HET_OK) return status;
    het_cuda *c = new het_cuda();
    c->host = host;
    *device = het_device();
    device->ops = &cuda_ops;
    device->context = c;
    device->close = close_device;
    status = start(c, wish, index);
    if (status != HET_OK) {
        close_device(device);
        *device = het_device();
        return status;
    }
    device->name = c->name;
    device->precision = c->narrow ? HET_BF16 : HET_F32;
    return HET_OK;
}
