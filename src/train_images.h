#pragma once
#include "trainer.h"

/** The images of the whole stack in the device's memory (run.device_data), read once before the first step: a step then takes its
 *  batch there, by its places in the stack, and no image crosses the bus. Every rank holds all images, since an epoch's order
 *  gives each of them to any rank. */

/** Set t->images; where t->stores, read the images into the device's memory. With run.device_data=auto the loader brings them
 *  after all where a rank has no memory for them. Collective. Errors: HET_E_MEMORY; HET_E_STOPPED by a signal; those of reading.
 *  Test: tests/cli_device_data.sh */
het_status het_train_images_open(het_trainer *t);
/** After the loader's end. Accepts a trainer without images. */
void het_train_images_close(het_trainer *t);
