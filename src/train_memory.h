#pragma once
#include "trainer.h"

/** What a training takes on one rank, in bytes, known before any of it is allocated. */
typedef struct het_train_memory {
    size_t parameters, gradients, optimiser, workspace; /* on the device: het_model_memory() */
    size_t stored;     /* on the device: the images of the stack, where they are to lie there (run.device_data) */
    size_t plans;      /* packed weights and threads' buffers of the operations, sums of train.deterministic; on the host */
    size_t batches;    /* two batches, one of them read ahead */
    size_t images;     /* for every image of the stack: its place in the epoch; with poses that are kept also those, z and
                          its moments */
    size_t start;      /* while poses are found from nothing (init.*); over before the next is needed */
    size_t fine;       /* while they are made finer, and conformations to that radius; init.fine_rounds=0 does without */
    size_t checkpoint; /* rank 0: the copy that is being written, and the map that every report looks at */
} het_train_memory;

/** Of a planned model (het_model_plan) on a stack of `count` images. root: this is rank 0; copy: het_sums_foresee(); stores: the
 *  images are to lie on the device. */
het_train_memory het_train_memory_of(const het_model *planned, int64_t count, int root, int copy, int stores);
/** On the host all together, with what is on the device where that is the host; and on a device of its own. */
size_t het_train_memory_host(const het_train_memory *memory, int device_is_host);
size_t het_train_memory_device(const het_train_memory *memory);

/** Plan t->model, choose where the images will be (t->stores, as run.device_data says; auto: on a device of its own where they
 *  fit with a tenth of what it has free to spare, on every rank), say what the training will take, and see that it fits:
 *  what this node has free (het_host_memory), or
 *  `limit` bytes of it (0: all; < 0: no check), is shared by its ranks; a device of its own says what it has free
 *  (het_ops.available). Then allocate, unless it is a `dry_run`, which is told what does not fit as a warning.
 *  Errors: HET_E_MEMORY with the largest batch that would fit; those of het_model_new. Collective.
 *  Tests: tests/test_train_memory.c, tests/cli_memory.sh */
het_status het_train_model(het_trainer *t, het_device *dev, const het_model_spec *spec, int64_t limit, int dry_run);
