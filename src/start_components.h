#pragma once
#include "start.h"
#include "start_volume.h"

/** First conformations of the images, by a linear model of init.components components (physics/components.h), and poses that go with them. It is made by
 *  expectation-maximisation of up to 8,000 images, from random conformations, to 1.5 times init.radius; up to 1,000 others then say along
 *  which axes images differ (het_components_find_axes), and others are left. It goes on with these to `reach` Fourier pixels, or as far as
 *  2 GiB of sums allow. In each round poses follow, against an image's own sum of maps: what one map of all makes a compromise between
 *  conformations. What the axes give of every image, of variance 1 along the first, becomes the first numbers of
 *  its z; the rest is as it was. The same bits on any number of ranks. Collective. Errors: HET_E_STOPPED on a signal, HET_E_MEMORY,
 *  those of reading. Test: tests/test_components.c, tests/cli_start.sh */
het_status het_start_components(het_start *start, het_comm *comm, het_device *dev, const het_stack *stack, const het_start_volume_spec *spec, double reach);
/** What it takes on the host, about, at most; wide: to the radius of finer poses (start_fine.h; 0 where init.fine_rounds is), else at first. */
size_t het_start_components_bytes(const het_config_init *init, int64_t images, int64_t box, int wide);
