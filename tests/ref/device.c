#include "device.h"

#include <stdio.h>
#include <stdlib.h>

static const char *name(void)
{
    const char *text = getenv("HET_TEST_DEVICE");
    return text == NULL ? "cpu" : text;
}

int ref_device_is_cpu(void)
{
    return name()[0] == 'c' && name()[1] == 'p';
}

het_status ref_device_open(het_device *device, int threads, het_precision precision)
{
    if (ref_device_is_cpu()) return het_device_open_cpu(device, threads, precision);
    if (het_device_open(device, name(), 0, threads, precision) == HET_OK) return HET_OK;
    const int skips = getenv("HET_TEST_SKIP") != NULL;
    fprintf(stderr, "%s: %s\n", skips ? "skipped" : "failed", het_status_message());
    exit(skips ? 77 : 1);
}

void ref_device_open_staged(het_device *device, int threads, het_precision precision)
{
    HET_ASSERT(ref_device_open(device, threads, precision) == HET_OK);
    if (!device->on_host) ref_device_stage(device);
}
