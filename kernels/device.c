/* Devices by name, and the plugin that serves GPUs. */
#include "device.h"

#include <dlfcn.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "../src/log.h"
#include "plugin.h"

static const char MODULE[] = "hetacumn_cuda.so";

static void warn(const char *format, ...) __attribute__((format(printf, 1, 2)));
static void warn(const char *format, ...)
{
    char text[512];
    va_list arguments;
    va_start(arguments, format);
    vsnprintf(text, sizeof text, format, arguments);
    va_end(arguments);
    het_warn("%s", text);
}

/* The GPU of "cuda" (-1) or "cuda:N"; -2 for anything else. */
static int index_of(const char *name)
{
    if (strcmp(name, "cuda") == 0) return -1;
    if (strncmp(name, "cuda:", 5) != 0 || name[5] < '0' || name[5] > '9') return -2;
    char *end;
    const long index = strtol(name + 5, &end, 10);
    return *end == '\0' && index < 1024 ? (int)index : -2;
}

het_status het_device_check(const char *name)
{
    if (strcmp(name, "cpu") == 0 || strcmp(name, "auto") == 0 || index_of(name) > -2) return HET_OK;
    return het_fail(HET_E_USAGE, "--device %s: it must be cpu, auto, cuda or cuda:N", name);
}

/* The module's path: in HET_PLUGIN_PATH where that is set, and nowhere else then. 0: there is none. */
static int find_module(char *path, size_t size)
{
    const char *folder = getenv("HET_PLUGIN_PATH");
    if (folder != NULL) {
        const int length = snprintf(path, size, "%s/%s", folder, MODULE);
        return length > 0 && (size_t)length < size && access(path, R_OK) == 0;
    }
    char program[900];
    const ssize_t length = readlink("/proc/self/exe", program, sizeof program - 1);
    if (length <= 0) return 0;
    program[length] = '\0';
    char *slash = strrchr(program, '/');
    if (slash == NULL) return 0;
    *slash = '\0';
    static const char *const beside[] = {".", "../lib/hetacumn"};
    for (int i = 0; i < 2; i++) {
        snprintf(path, size, "%s/%s/%s", program, beside[i], MODULE);
        if (access(path, R_OK) == 0) return 1;
    }
    return 0;
}

static het_status open_plugin(het_device *device, const het_plugin_wish *wish)
{
    static const het_plugin_host host = {het_fail, warn};
    char path[1000];
    if (!find_module(path, sizeof path))
        return het_fail(HET_E_DEVICE, "--device cuda: this installation has no CUDA plugin (%s, beside the program or "
                                      "in $HET_PLUGIN_PATH); use --device cpu",
                        MODULE);
    void *module = dlopen(path, RTLD_NOW | RTLD_LOCAL);
    if (module == NULL) return het_fail(HET_E_DEVICE, "--device cuda: %s cannot be loaded: %s", path, dlerror());
    het_plugin_open_function *enter = NULL;
    void *entry = dlsym(module, HET_PLUGIN_ENTRY);
    const uint64_t *layout = dlsym(module, HET_PLUGIN_LAYOUT);
    if (entry == NULL || layout == NULL || *layout != HET_PLUGIN_LAYOUT_HERE)
        return het_fail(HET_E_DEVICE, "--device cuda: %s is no plugin of this version of hetacumn", path);
    memcpy(&enter, &entry, sizeof enter); /* the standard way from an object to a function pointer */
    return enter(&host, wish, device);
}

het_status het_device_open(het_device *device, const char *name, int place, int threads, het_precision precision)
{
    het_status status = HET_OK;
    *device = (het_device){0};
    HET_TRY(het_device_check(name));
    /* Nothing is loaded where the kernel offers no GPU. */
    const int is_auto = strcmp(name, "auto") == 0, has_gpu = access("/dev/nvidiactl", F_OK) == 0;
    if (strcmp(name, "cpu") == 0 || (is_auto && !has_gpu)) return het_device_open_cpu(device, threads, precision);
    status = open_plugin(device, &(het_plugin_wish){is_auto ? -1 : index_of(name), place, precision});
    if (status == HET_OK && device->threads == 0) device->threads = threads > 0 ? threads : het_device_default_threads();
    if (status == HET_OK && place == 0)
        het_warn("the CUDA backend is new and was not tried on a GPU yet: compare a short run with --device cpu");
    if (status == HET_OK || !is_auto) goto done;
    het_warn("the GPU is not used: %s", het_status_message());
    status = het_device_open_cpu(device, threads, precision);
done:
    return status;
}

void het_device_close(het_device *device)
{
    if (device->close != NULL) device->close(device);
    *device = (het_device){0};
}

const char *het_device_name(const het_device *device)
{
    return device->name == NULL ? "closed device" : device->name;
}
