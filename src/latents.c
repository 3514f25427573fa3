#include "latents.h"

#include <math.h>
#include <string.h>

#include "arena.h"
#include "rng.h"

static const float SPREAD = 0.3F; /* of the first conformations: enough to tell them apart */

het_status het_latents_new(het_latents *s, int64_t count, const het_config *config, const het_model_spec *model)
{
    const int64_t z = config->z_dim, b = het_model_images(model), g = model->global_batch;
    *s = (het_latents){.count = count, .z_dim = z, .global_batch = g};
    const struct { float **to; int64_t floats; } arrays[] = {
        {&s->z, z * count}, {&s->moment1, z * count}, {&s->moment2, z * count}, {&s->visits, count},
        {&s->loss, count}, {&s->batch_dz, z * b}, {&s->batch_loss, b}, {&s->shared, (3 * z + 2) * g}};
    for (size_t i = 0; i < sizeof arrays / sizeof *arrays; i++) {
        *arrays[i].to = het_alloc((size_t)arrays[i].floats * sizeof(float));
        if (*arrays[i].to == NULL)
            return het_fail(HET_E_MEMORY, "no memory for %lld conformations", (long long)count);
    }
    s->shared_index = het_alloc((size_t)g * sizeof *s->shared_index);
    if (s->shared_index == NULL) return het_fail(HET_E_MEMORY, "no memory for the conformations of a batch");
    for (int64_t i = 0; i < count; i++) {
        het_rng rng = het_rng_at((uint64_t)config->train.seed, HET_STREAM_SEARCH, 1, (uint64_t)i);
        for (int64_t j = 0; j < z; j++) s->z[i * z + j] = SPREAD * het_rng_normal(&rng);
    }
    return HET_OK;
}

void het_latents_free(het_latents *s)
{
    void *const all[] = {s->z, s->moment1, s->moment2, s->visits, s->loss, s->batch_dz, s->batch_loss,
                         s->shared_index, s->shared};
    for (size_t i = 0; i < sizeof all / sizeof *all; i++) het_release(all[i]);
    *s = (het_latents){0};
}

void het_latents_fields(het_field field[HET_LATENTS_FIELDS], const het_latents *s)
{
    field[0] = (het_field){"images/z", {s->z, HET_F32, 2, {s->count, s->z_dim}}};
    field[1] = (het_field){"images/moment1", {s->moment1, HET_F32, 2, {s->count, s->z_dim}}};
    field[2] = (het_field){"images/moment2", {s->moment2, HET_F32, 2, {s->count, s->z_dim}}};
    field[3] = (het_field){"images/visits", {s->visits, HET_F32, 1, {s->count}}};
    field[4] = (het_field){"images/loss", {s->loss, HET_F32, 1, {s->count}}};
}

double het_latents_prior(const het_model *m)
{
    const double pixels = (double)(m->spec.box * m->spec.box);
    return m->config.init.prior_z >= 0.0 ? m->config.init.prior_z : 4.0 * m->noise_variance / pixels;
}

/* Adam on one image's z; it is visited once per epoch, so the means are short. */
static void learn_one(het_latents *s, int64_t at, const float *dz, double lambda, double rate)
{
    const double b1 = 0.8, b2 = 0.95, eps = 1e-8;
    const double n = s->visits[at] += 1.0F;
    for (int64_t j = 0; j < s->z_dim; j++) {
        float *z = s->z + at * s->z_dim + j, *m = s->moment1 + at * s->z_dim + j,
              *v = s->moment2 + at * s->z_dim + j;
        const double g = (double)dz[j] + lambda * *z;
        *m = (float)(b1 * *m + (1.0 - b1) * g);
        *v = (float)(b2 * *v + (1.0 - b2) * g * g);
        *z -= (float)(rate * (*m / (1.0 - pow(b1, n))) / (sqrt(*v / (1.0 - pow(b2, n))) + eps));
    }
}

/* The rows that this rank has changed, to all. */
static het_status share_rows(het_latents *s, het_comm *comm, const het_batch *batch)
{
    het_status status = HET_OK;
    const int64_t z = s->z_dim, row = 3 * z + 2;
    if (het_comm_size(comm) == 1) return HET_OK;
    memset(s->shared, 0, (size_t)(s->global_batch * row) * sizeof *s->shared);
    memset(s->shared_index, 0, (size_t)s->global_batch * sizeof *s->shared_index);
    for (int64_t i = 0; i < batch->count; i++) {
        const int64_t at = batch->index[i];
        float *to = s->shared + (batch->first + i) * row;
        s->shared_index[batch->first + i] = at;
        memcpy(to, s->z + at * z, (size_t)z * sizeof *to);
        memcpy(to + z, s->moment1 + at * z, (size_t)z * sizeof *to);
        memcpy(to + 2 * z, s->moment2 + at * z, (size_t)z * sizeof *to);
        to[3 * z] = s->loss[at];
        to[3 * z + 1] = s->visits[at];
    }
    HET_TRY(het_comm_sum_i64(comm, s->shared_index, (size_t)s->global_batch));
    HET_TRY(het_comm_unite(comm, s->shared, (size_t)(s->global_batch * row)));
    for (int64_t i = 0; i < s->global_batch; i++) {
        const int64_t at = s->shared_index[i];
        const float *from = s->shared + i * row;
        if (i >= batch->first && i < batch->first + batch->count) continue;
        memcpy(s->z + at * z, from, (size_t)z * sizeof *from);
        memcpy(s->moment1 + at * z, from + z, (size_t)z * sizeof *from);
        memcpy(s->moment2 + at * z, from + 2 * z, (size_t)z * sizeof *from);
        s->loss[at] = from[3 * z];
        s->visits[at] = from[3 * z + 1];
    }
done:
    return status;
}

void het_latents_put(het_latents *s, const float *z)
{
    const size_t row = (size_t)s->z_dim * sizeof *z;
    for (int64_t i = 0; i < s->count; i++) {
        const int64_t at = i * s->z_dim;
        if (memcmp(s->z + at, z + at, row) == 0) continue;
        memcpy(s->z + at, z + at, row);
        memset(s->moment1 + at, 0, row);
        memset(s->moment2 + at, 0, row);
        s->visits[i] = 0.0F;
    }
}

het_status het_latents_learn(het_latents *s, het_comm *comm, const het_batch *batch, het_model *m, double rate)
{
    if (batch->rotation == NULL || s->count == 0) return HET_OK; /* a search has poses but no conformations of its own */
    const double prior = het_latents_prior(m);
    het_model_answers_given(m, s->batch_dz, s->batch_loss);
    for (int64_t i = 0; i < batch->count; i++) {
        if (!isfinite(s->batch_loss[i])) continue;
        s->loss[batch->index[i]] = s->batch_loss[i];
        if (batch->z != NULL) learn_one(s, batch->index[i], s->batch_dz + i * s->z_dim, prior, rate);
    }
    return share_rows(s, comm, batch);
}
