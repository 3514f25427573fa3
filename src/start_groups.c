#include "start_groups.h"

#include "arena.h"
#include "physics/kmeans.h"

het_status het_groups_new(het_groups *g, int most, const het_components_answer *answer, int64_t count, int components, uint64_t seed)
{
    het_status status = HET_OK;
    float *z = het_alloc((size_t)(count * components) * sizeof *z);
    *g = (het_groups){.n = count < most ? (int)count : most, .label = het_alloc((size_t)count * sizeof *g->label)};
    HET_ASSERT(most <= HET_FRAMES);
    if (z == NULL || g->label == NULL) HET_TRY(het_fail(HET_E_MEMORY, "no memory for groups of conformations"));
    for (int64_t i = 0; i < count; i++)
        for (int k = 0; k < components; k++) z[i * components + k] = (float)answer[i].mean[1 + k];
    HET_TRY(het_kmeans(g->centre, g->label, NULL, z, count, components, g->n, seed));
    for (int64_t i = 0; i < count; i++) g->size[g->label[i]]++;
done:
    het_release(z);
    return status;
}

void het_groups_free(het_groups *g)
{
    het_release(g->label);
    *g = (het_groups){0};
}
