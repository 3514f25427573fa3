#pragma once
#include "context.h"

/* A set of oneDNN primitives with the memory they share: everything is made at plan time, so that running one
   is a single call that neither allocates nor fails. */

enum { HET_STEP_ARGS = 5, HET_STEPS_MAX = 8, HET_STEPS_MEMORY = 16 };

/* One primitive and the arguments it always runs with. */
typedef struct het_step {
    dnnl_primitive_t primitive;
    dnnl_exec_arg_t args[HET_STEP_ARGS];
    int count;
} het_step;

typedef struct het_steps {
    het_device *dev; /* borrowed */
    het_step *step[HET_STEPS_MAX];
    dnnl_memory_t memory[HET_STEPS_MEMORY];
    void *buffer[HET_STEPS_MEMORY]; /* owned memory, NULL where the caller's is pointed to */
    int steps, memories;
    size_t scratch_size;
} het_steps;

/* oneDNN's status as ours; `what` names the part. */
het_status het_onednn_check(dnnl_status_t result, const char *what);

/* A memory object of the layout: on zeroed memory of the set's own, or (own = 0) to be pointed by
 * het_memory_point. */
het_status het_steps_memory(het_steps *set, dnnl_memory_t *memory, const dnnl_memory_desc_t *md, int own);
/* Make `step` from an operation descriptor; add: results are added to the output. */
het_status het_steps_product(het_steps *set, het_step *step, const_dnnl_op_desc_t desc, int add);
/* to = from, or with add: to += from. */
het_status het_steps_reorder(het_steps *set, het_step *step, dnnl_memory_t from, dnnl_memory_t to, int add);
/* The layout a product chose for one of its arguments. Borrowed. */
const dnnl_memory_desc_t *het_step_layout(const het_step *step, dnnl_query_t argument);
void het_step_bind(het_step *step, int argument, dnnl_memory_t memory);
/* Last: scratch memory for all steps. */
het_status het_steps_finish(het_steps *set);
void het_steps_free(het_steps *set);

void het_step_run(const het_steps *set, const het_step *step);
/* oneDNN's handles are not const, though inputs are only read. */
void het_memory_point(dnnl_memory_t memory, const void *data);
