#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "../../src/arena.h"
#include "context.h"
#include "conv.h"
#include "decode.h"
#include "fourier.h"
#include "isa.h"
#include "layers.h"
#include "norm.h"
#include "optimiser.h"
#include "pose.h"
#include "task.h"

static void *cpu_alloc(het_device *dev, size_t bytes)
{
    (void)dev;
    return het_alloc(bytes);
}

static void cpu_release(het_device *dev, void *memory)
{
    (void)dev;
    het_release(memory);
}

static void cpu_upload(het_device *dev, void *to_device, const void *from_host, size_t bytes)
{
    (void)dev;
    if (bytes > 0) memcpy(to_device, from_host, bytes);
}

static void cpu_download(het_device *dev, void *to_host, const void *from_device, size_t bytes)
{
    (void)dev;
    if (bytes > 0) memcpy(to_host, from_device, bytes);
}

static void cpu_zero(het_device *dev, void *memory, size_t bytes)
{
    (void)dev;
    if (bytes > 0) memset(memory, 0, bytes);
}

static het_status cpu_sync(het_device *dev)
{
    (void)dev;
    return HET_OK;
}

const het_ops het_ops_cpu = {
    .name = "cpu",
    .alloc = cpu_alloc,
    .release = cpu_release,
    .upload = cpu_upload,
    .download = cpu_download,
    .zero = cpu_zero,
    .fill = het_cpu_fill,
    .sync = cpu_sync,

    .conv_new = het_cpu_conv_new,
    .conv_free = het_cpu_conv_free,
    .conv_forward = het_cpu_conv_forward,
    .conv_backward = het_cpu_conv_backward,
    .norm_new = het_cpu_norm_new,
    .norm_free = het_cpu_norm_free,
    .norm_forward = het_cpu_norm_forward,
    .norm_infer = het_cpu_norm_infer,
    .norm_backward = het_cpu_norm_backward,
    .add_relu = het_cpu_add_relu,
    .add_relu_backward = het_cpu_add_relu_backward,
    .accumulate = het_cpu_accumulate,
    .maxpool = het_cpu_maxpool,
    .maxpool_backward = het_cpu_maxpool_backward,
    .avgpool = het_cpu_avgpool,
    .avgpool_backward = het_cpu_avgpool_backward,
    .to_float = het_cpu_to_float,
    .from_float = het_cpu_from_float,
    .linear = het_cpu_linear,
    .linear_backward = het_cpu_linear_backward,

    .decode_new = het_cpu_decode_new,
    .decode_free = het_cpu_decode_free,
    .decode_load = het_cpu_decode_load,
    .decode_forward = het_cpu_decode_forward,
    .decode_backward = het_cpu_decode_backward,

    .s2s2 = het_cpu_s2s2,
    .s2s2_backward = het_cpu_s2s2_backward,
    .turn_poses = het_cpu_turn_poses,
    .latent = het_cpu_latent,
    .latent_backward = het_cpu_latent_backward,

    .fourier_new = het_cpu_fourier_new,
    .fourier_free = het_cpu_fourier_free,
    .take_images = het_cpu_take_images,
    .image_to_points = het_cpu_image_to_points,
    .points_to_image = het_cpu_points_to_image,
    .standardise = het_cpu_standardise,
    .mirror_pairs = het_cpu_mirror_pairs,
    .turn_points = het_cpu_turn_points,
    .ctf = het_cpu_ctf,
    .project = het_cpu_project,
    .project_loss = het_cpu_project_loss,
    .points_power = het_cpu_points_power,
    .add_noise = het_cpu_add_noise,
    .unit_scale = het_cpu_unit_scale,

    .winners = het_cpu_winners,
    .shift_backward = het_cpu_shift_backward,
    .scale_rows = het_cpu_scale_rows,
    .gather_rows = het_cpu_gather_rows,
    .sum_rows = het_cpu_sum_rows,
    .blend = het_cpu_blend,

    .pose_loss = het_cpu_pose_loss,
    .conformation_loss = het_cpu_conformation_loss,
    .adam = het_cpu_adam,
    .norm2 = het_cpu_norm2,
};

/* The chip's own name, "unknown chip" where the kernel does not tell. */
static void read_model(char *model, size_t size)
{
    snprintf(model, size, "unknown chip");
    FILE *file = fopen("/proc/cpuinfo", "r");
    if (file == NULL) return;
    char line[256];
    while (fgets(line, sizeof line, file) != NULL) {
        const char *value = strchr(line, ':');
        if (strncmp(line, "model name", 10) != 0 || value == NULL) continue;
        snprintf(model, size, "%s", value + 1 + strspn(value + 1, " \t"));
        model[strcspn(model, "\n")] = '\0';
        break;
    }
    fclose(file);
}

/* oneDNN (which DNNL_MAX_CPU_ISA caps) takes bf16 on any AVX-512 chip but emulates it, slower than fp32. */
static int has_bf16(void)
{
    return het_isa_get() >= HET_ISA_BF16 &&
           (dnnl_get_effective_cpu_isa() & dnnl_cpu_isa_avx512_core_bf16) == dnnl_cpu_isa_avx512_core_bf16;
}

/* Is bf16 faster than fp32? With AMX it is; AMD's vectors do twice as many products at a time; Intel's reach
 * half the rate of fp32 (bench/RESULTS.md). */
static int has_fast_bf16(void)
{
    const int isa = dnnl_get_effective_cpu_isa(), amx = dnnl_cpu_isa_avx512_core_amx;
    const int tiles = het_isa_get() == HET_ISA_AMX && (isa & amx) == amx;
#if defined(__x86_64__)
    return has_bf16() && (tiles || __builtin_cpu_is("amd"));
#else
    return has_bf16() && tiles;
#endif
}

int het_device_default_threads(void)
{
    const char *text = getenv("OMP_NUM_THREADS");
    const int wanted = text == NULL ? 0 : atoi(text);
    return wanted > 0 ? wanted : omp_get_num_procs(); /* of the affinity mask */
}

static void cpu_close(het_device *device)
{
    het_cpu_context *context = device->context;
    if (context->stream != NULL) dnnl_stream_destroy(context->stream);
    if (context->engine != NULL) dnnl_engine_destroy(context->engine);
    het_release(context);
}

het_status het_device_open_cpu(het_device *device, int threads, het_precision precision)
{
    *device = (het_device){.ops = &het_ops_cpu, .on_host = 1};
    if (threads < 0) return het_fail(HET_E_USAGE, "%d threads: give 1 or more, or 0 for all cores", threads);
    if (precision == HET_PRECISION_BF16 && !has_bf16())
        return het_fail(HET_E_USAGE, "bf16 needs avx512_bf16 instructions, which this chip (or HET_CPU_ISA, "
                                     "DNNL_MAX_CPU_ISA) does not offer: use precision fp32 or auto");
    het_cpu_context *context = het_alloc(sizeof *context);
    if (context == NULL) return het_fail(HET_E_MEMORY, "no memory for the CPU device");
    device->context = context;
    device->name = context->name;
    device->close = cpu_close;
    const int bf16 = precision == HET_PRECISION_BF16 || (precision == HET_PRECISION_AUTO && has_fast_bf16());
    device->precision = bf16 ? HET_BF16 : HET_F32;
    device->threads = threads > 0 ? threads : het_device_default_threads();
    het_cpu_set_threads(device);
    if (dnnl_engine_create(&context->engine, dnnl_cpu, 0) != dnnl_success ||
        dnnl_stream_create(&context->stream, context->engine, dnnl_stream_default_flags) != dnnl_success) {
        het_device_close(device);
        return het_fail(HET_E_DEVICE, "oneDNN could not start on this CPU");
    }
    char model[128];
    read_model(model, sizeof model);
    snprintf(context->name, sizeof context->name, "%s, %s, %s, %d thread%s", model,
             het_isa_name(het_isa_get()), device->precision == HET_BF16 ? "bf16" : "fp32", device->threads,
             device->threads == 1 ? "" : "s");
    return HET_OK;
}

void het_device_cpu_libraries(char *text, size_t size)
{
    const dnnl_version_t *dnnl = dnnl_version();
    snprintf(text, size, "oneDNN %d.%d.%d, %s", dnnl->major, dnnl->minor, dnnl->patch, fftwf_version);
}
