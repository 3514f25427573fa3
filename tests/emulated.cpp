/* A test device whose operations are the CPU's but whose memory the host cannot read or write outside of them, as a GPU's:
 * a plugin like the CUDA one. A training on it gives the same bits as on the CPU, or stops where the program looks into device
 * memory without a download. */
#include <cstdlib>

extern "C" {
#include "../kernels/plugin.h"
#include "guard.h"
}

/* Each operation of the CPU between het_guard_open and het_guard_close. */
struct opened {
    opened() { het_guard_open(); }
    ~opened() { het_guard_close(); }
};
template <auto Member> struct guarded;
template <class R, class... A, R (*het_ops::*Member)(A...)> struct guarded<Member> {
    static R call(A... arguments)
    {
        const opened during;
        return (het_ops_cpu.*Member)(arguments...);
    }
};

static void *guarded_alloc(het_device *, size_t bytes)
{
    return het_guard_alloc(bytes > 0 ? bytes : 1);
}

static void guarded_release(het_device *, void *memory)
{
    het_guard_release(memory);
}

/* As much as HET_EMULATED_FREE says (bytes), else more than anything takes. */
static size_t free_bytes(het_device *)
{
    const char *given = getenv("HET_EMULATED_FREE");
    return given == nullptr ? SIZE_MAX / 2 : (size_t)strtoull(given, nullptr, 10);
}

#define G(member) guarded<&het_ops::member>::call
static const het_ops ops = {
    "emulated", guarded_alloc, guarded_release, free_bytes,
    G(upload), G(download), G(zero), G(fill), nullptr, nullptr, G(sync), G(conv_new), G(conv_free), G(conv_forward), G(conv_backward),
    G(norm_new), G(norm_free), G(norm_forward), G(norm_infer), G(norm_backward), G(add_relu),
    G(add_relu_backward), G(accumulate), G(maxpool), G(maxpool_backward), G(avgpool), G(avgpool_backward),
    G(to_float), G(from_float), G(linear), G(linear_backward), G(decode_new), G(decode_free), G(decode_load),
    G(decode_forward), G(decode_backward), G(s2s2), G(s2s2_backward), G(turn_poses), G(latent),
    G(latent_backward), G(fourier_new), G(fourier_free), G(take_images), G(image_to_points), G(points_to_image),
    G(standardise), G(mirror_pairs), G(turn_points), G(ctf), G(project), G(project_loss), G(points_power),
    G(add_noise), G(unit_scale), G(winners), G(shift_backward), G(scale_rows), G(gather_rows), G(sum_rows), G(blend),
    G(pose_loss), G(conformation_loss), G(adam), G(norm2), nullptr, nullptr, nullptr, nullptr, nullptr,
};

static void (*close_cpu)(het_device *device);

static void close_device(het_device *device)
{
    close_cpu(device);
}

#define EXPORTED extern "C" __attribute__((visibility("default")))

EXPORTED const uint64_t het_plugin_layout;
const uint64_t het_plugin_layout = HET_PLUGIN_LAYOUT_HERE;

EXPORTED het_status het_plugin_open(const het_plugin_host *host, const het_plugin_wish *wish, het_device *device)
{
    if (het_device_open_cpu(device, 1, wish->precision) != HET_OK)
        return host->fail(HET_E_DEVICE, "the emulated device: %s", het_status_message());
    close_cpu = device->close;
    device->close = close_device;
    device->ops = &ops;
    device->on_host = 0;
    return HET_OK;
}
