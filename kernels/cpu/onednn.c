#include "onednn.h"

#include "../../src/arena.h"

het_status het_onednn_check(dnnl_status_t result, const char *what)
{
    if (result == dnnl_success) return HET_OK;
    if (result == dnnl_out_of_memory) return het_fail(HET_E_MEMORY, "no memory for a layer (%s)", what);
    return het_fail(HET_E_DEVICE, "oneDNN refused a layer of this size (%s, status %d)", what, (int)result);
}

het_status het_steps_memory(het_steps *set, dnnl_memory_t *memory, const dnnl_memory_desc_t *md, int own)
{
    void *buffer = NULL;
    HET_ASSERT(set->memories < HET_STEPS_MEMORY);
    if (own && (buffer = het_alloc(dnnl_memory_desc_get_size(md))) == NULL)
        return het_fail(HET_E_MEMORY, "no memory for the weights of a layer");
    const het_status status = het_onednn_check(
        dnnl_memory_create(memory, md, het_cpu_context_of(set->dev)->engine, own ? buffer : DNNL_MEMORY_NONE),
        "memory");
    if (status != HET_OK) {
        het_release(buffer);
        return status;
    }
    set->memory[set->memories] = *memory;
    set->buffer[set->memories++] = buffer;
    return HET_OK;
}

/* Attributes of every primitive: scratch memory is ours; add: sum onto the output. */
static het_status new_attributes(dnnl_primitive_attr_t *attr, int add)
{
    dnnl_post_ops_t sum = NULL;
    het_status status;
    HET_TRY(het_onednn_check(dnnl_primitive_attr_create(attr), "attributes"));
    HET_TRY(het_onednn_check(dnnl_primitive_attr_set_scratchpad_mode(*attr, dnnl_scratchpad_mode_user),
                             "attributes"));
    if (add) {
        HET_TRY(het_onednn_check(dnnl_post_ops_create(&sum), "sum"));
        HET_TRY(het_onednn_check(dnnl_post_ops_append_sum(sum, 1.0f), "sum"));
        HET_TRY(het_onednn_check(dnnl_primitive_attr_set_post_ops(*attr, sum), "sum"));
    }
done:
    dnnl_post_ops_destroy(sum);
    return status;
}

/* Make the primitive from its descriptor; the set then owns it. */
static het_status add_step(het_steps *set, het_step *step, const_dnnl_primitive_desc_t pd)
{
    const size_t scratch =
        dnnl_memory_desc_get_size(dnnl_primitive_desc_query_md(pd, dnnl_query_scratchpad_md, 0));
    HET_ASSERT(set->steps < HET_STEPS_MAX);
    if (scratch > set->scratch_size) set->scratch_size = scratch;
    set->step[set->steps++] = step;
    return het_onednn_check(dnnl_primitive_create(&step->primitive, pd), "primitive");
}

het_status het_steps_product(het_steps *set, het_step *step, const_dnnl_op_desc_t desc, int add)
{
    const dnnl_engine_t engine = het_cpu_context_of(set->dev)->engine;
    dnnl_primitive_attr_t attr = NULL;
    dnnl_primitive_desc_t pd = NULL;
    het_status status;
    HET_TRY(new_attributes(&attr, add));
    HET_TRY(het_onednn_check(dnnl_primitive_desc_create(&pd, desc, attr, engine, NULL), "descriptor"));
    HET_TRY(add_step(set, step, pd));
done:
    dnnl_primitive_desc_destroy(pd);
    dnnl_primitive_attr_destroy(attr);
    return status;
}

het_status het_steps_reorder(het_steps *set, het_step *step, dnnl_memory_t from, dnnl_memory_t to, int add)
{
    const dnnl_engine_t engine = het_cpu_context_of(set->dev)->engine;
    const dnnl_memory_desc_t *from_md, *to_md;
    dnnl_primitive_attr_t attr = NULL;
    dnnl_primitive_desc_t pd = NULL;
    het_status status;
    HET_TRY(new_attributes(&attr, add));
    HET_TRY(het_onednn_check(dnnl_memory_get_memory_desc(from, &from_md), "layout"));
    HET_TRY(het_onednn_check(dnnl_memory_get_memory_desc(to, &to_md), "layout"));
    HET_TRY(het_onednn_check(dnnl_reorder_primitive_desc_create(&pd, from_md, engine, to_md, engine, attr),
                             "reorder"));
    HET_TRY(add_step(set, step, pd));
    het_step_bind(step, DNNL_ARG_FROM, from);
    het_step_bind(step, DNNL_ARG_TO, to);
done:
    dnnl_primitive_desc_destroy(pd);
    dnnl_primitive_attr_destroy(attr);
    return status;
}

const dnnl_memory_desc_t *het_step_layout(const het_step *step, dnnl_query_t argument)
{
    const_dnnl_primitive_desc_t pd;
    HET_ASSERT(dnnl_primitive_get_primitive_desc(step->primitive, &pd) == dnnl_success);
    return dnnl_primitive_desc_query_md(pd, argument, 0);
}

void het_step_bind(het_step *step, int argument, dnnl_memory_t memory)
{
    HET_ASSERT(step->count < HET_STEP_ARGS);
    step->args[step->count++] = (dnnl_exec_arg_t){argument, memory};
}

het_status het_steps_finish(het_steps *set)
{
    const dnnl_dims_t size = {(dnnl_dim_t)set->scratch_size};
    dnnl_memory_desc_t md;
    dnnl_memory_t scratch;
    het_status status = HET_OK;
    if (set->scratch_size == 0) return HET_OK;
    HET_TRY(het_onednn_check(dnnl_memory_desc_init_by_tag(&md, 1, size, dnnl_u8, dnnl_a), "scratch"));
    HET_TRY(het_steps_memory(set, &scratch, &md, 1));
    for (int i = 0; i < set->steps; i++) het_step_bind(set->step[i], DNNL_ARG_SCRATCHPAD, scratch);
done:
    return status;
}

void het_steps_free(het_steps *set)
{
    for (int i = 0; i < set->steps; i++) dnnl_primitive_destroy(set->step[i]->primitive);
    for (int i = 0; i < set->memories; i++) {
        dnnl_memory_destroy(set->memory[i]);
        het_release(set->buffer[i]);
    }
    *set = (het_steps){.dev = set->dev};
}

void het_step_run(const het_steps *set, const het_step *step)
{
    HET_ASSERT(dnnl_primitive_execute(step->primitive, het_cpu_context_of(set->dev)->stream, step->count,
                                      step->args) == dnnl_success);
}

void het_memory_point(dnnl_memory_t memory, const void *data)
{
    HET_ASSERT(dnnl_memory_set_data_handle(memory, (void *)data) == dnnl_success);
}
