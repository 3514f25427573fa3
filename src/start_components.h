#pragma once
#include "start.h"
#include "start_volume.h"

/** First conformations of the images, by a linear model at the poses found (physics/components.h) of init.components components, to 1.5
 *  times init.radius. It is made by expectation-maximisation of up to 8,000 images from random conformations; as many others then say along
 *  which axes images differ (het_components_axes). What those axes give of every image, of variance 1, becomes the first numbers of
 *  its z; the rest is as it was. The same bits on any number of ranks. Collective. Errors: HET_E_STOPPED on a signal, HET_E_MEMORY,
 *  those of reading. Test: tests/test_components.c, tests/cli_start.sh */
het_status het_start_components(het_start *start, het_comm *comm, het_device *dev, const het_stack *stack, const het_start_volume_spec *spec);
/** What it takes on the host, about. */
size_t het_start_components_bytes(const het_config_init *init, int64_t images, int64_t box);
