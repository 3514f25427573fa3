#include "selection.h"

#include <math.h>
#include <stdlib.h>

#include "../arena.h"
#include "../physics/kmeans.h"
#include "../physics/latent.h"
#include "../physics/stats.h"
#include "options.h"

enum { Z_MAX = 64, CLUSTERS_MAX = 1000 };

het_status het_selection_option(het_selection *s, int option, const char *argument, int *known)
{
    *known = 1;
    switch (option) {
    case HET_SELECTION_KMEANS: return het_options_whole("--kmeans", argument, 1, CLUSTERS_MAX, &s->kmeans);
    case HET_SELECTION_CLUSTERS: s->clusters = argument; break;
    case HET_SELECTION_PC: return het_options_whole("--pc", argument, 1, Z_MAX, &s->pc);
    case HET_SELECTION_FROM: return het_options_number("--from", argument, &s->from);
    case HET_SELECTION_TO: return het_options_number("--to", argument, &s->to);
    case HET_SELECTION_CONFIRMED: s->confirmed = 1; break;
    case HET_SELECTION_PARTICLES: s->particles = 1; break;
    case HET_SELECTION_BEST: return het_options_number("--best", argument, &s->best);
    default: *known = 0;
    }
    return HET_OK;
}

het_status het_selection_check(const het_selection *s)
{
    if (s->clusters != NULL && s->kmeans == 0) return het_fail(HET_E_USAGE, "--clusters I,J,.. needs --kmeans K");
    if ((s->pc > 0) != (isfinite(s->from) || isfinite(s->to)))
        return het_fail(HET_E_USAGE, "--pc N needs --from A or --to B, and they need it");
    if (!(s->best > 0.0 && s->best <= 100.0)) return het_fail(HET_E_USAGE, "--best %g: it must be a percentage above 0", s->best);
    return HET_OK;
}

static het_status parse_clusters(const het_selection *s, uint8_t *wanted)
{
    for (const char *at = s->clusters;;) {
        char *end;
        const long long k = strtoll(at, &end, 10);
        if (end == at || (*end != ',' && *end != '\0') || k < 0 || k >= s->kmeans)
            return het_fail(HET_E_USAGE, "--clusters %s: numbers from 0 to %lld with commas between", s->clusters, (long long)s->kmeans - 1);
        wanted[k] = 1;
        if (*end == '\0') return HET_OK;
        at = end + 1;
    }
}

het_status het_selection_clusters(double **centre, int64_t **label, const het_predictions *p, int64_t clusters)
{
    *centre = het_alloc((size_t)(clusters * p->z_dim) * sizeof **centre);
    *label = het_alloc((size_t)p->count * sizeof **label);
    if (*centre == NULL || *label == NULL) return het_fail(HET_E_MEMORY, "no memory for k-means of %lld images", (long long)p->count);
    return het_kmeans(*centre, *label, NULL, p->z, p->count, p->z_dim, clusters, HET_CLUSTERS_SEED);
}

static het_status by_cluster(const het_selection *s, const het_predictions *p, int64_t *group)
{
    het_status status = HET_OK;
    uint8_t wanted[CLUSTERS_MAX] = {0};
    double *centre = NULL;
    int64_t *label = NULL;
    if (s->clusters != NULL) HET_TRY(parse_clusters(s, wanted));
    HET_TRY(het_selection_clusters(&centre, &label, p, s->kmeans));
    for (int64_t i = 0; i < p->count; i++) group[i] = s->clusters == NULL ? label[i] : wanted[label[i]] ? 0 : -1;
done:
    het_release(centre);
    het_release(label);
    return status;
}

static het_status by_component(const het_selection *s, const het_predictions *p, int64_t *group)
{
    het_status status = HET_OK;
    het_pca pca;
    double *value = het_alloc((size_t)p->count * sizeof *value);
    if (value == NULL) HET_TRY(het_fail(HET_E_MEMORY, "no memory for %lld images", (long long)p->count));
    if (s->pc > p->z_dim) HET_TRY(het_fail(HET_E_USAGE, "--pc %lld: there are %lld components", (long long)s->pc, (long long)p->z_dim));
    HET_TRY(het_latent_pca(&pca, p->z, p->count, p->z_dim));
    het_latent_project(value, &pca, (int)s->pc - 1, p->z, p->count);
    for (int64_t i = 0; i < p->count; i++)
        if (!(value[i] >= s->from && value[i] <= s->to)) group[i] = -1;
done:
    het_release(value);
    return status;
}

/* Images whose value is at least so much. */
static het_status by_value(const float *value, float least, int64_t n, const char *option, const char *what, const char *path, int64_t *group)
{
    for (int64_t i = 0; i < n; i++) {
        if (value[i] < 0.0F)
            return het_fail(HET_E_INPUT, "%s: %s does not say which %s: they are asked in a training with a start, of its own images", option, path, what);
        if (value[i] < least) group[i] = -1;
    }
    return HET_OK;
}

static het_status by_loss(const het_selection *s, const het_predictions *p, int64_t *group)
{
    int64_t n = 0;
    double *loss = het_alloc((size_t)p->count * sizeof *loss);
    if (loss == NULL) return het_fail(HET_E_MEMORY, "no memory for %lld images", (long long)p->count);
    for (int64_t i = 0; i < p->count; i++)
        if (group[i] >= 0) loss[n++] = p->loss[i];
    het_sort(loss, n);
    const int64_t last = (int64_t)ceil(s->best / 100.0 * (double)n) - 1;
    for (int64_t i = 0; i < p->count; i++)
        if (n == 0 || p->loss[i] > loss[last]) group[i] = -1;
    het_release(loss);
    return HET_OK;
}

het_status het_selection_apply(const het_selection *s, const het_predictions *p, const char *path, int64_t *group, int64_t *groups)
{
    het_status status = HET_OK;
    int64_t left = 0;
    *groups = s->kmeans > 0 && s->clusters == NULL ? s->kmeans : 1;
    for (int64_t i = 0; i < p->count; i++) group[i] = 0;
    if (s->kmeans > 0) HET_TRY(by_cluster(s, p, group));
    if (s->pc > 0) HET_TRY(by_component(s, p, group));
    if (s->confirmed) HET_TRY(by_value(p->confirmed, HET_CONFIRMED, p->count, "--confirmed", "poses are confirmed", path, group));
    if (s->particles) HET_TRY(by_value(p->particle, 1.0F, p->count, "--particles", "images are particles", path, group));
    if (s->best < 100.0) HET_TRY(by_loss(s, p, group));
    for (int64_t i = 0; i < p->count; i++) left += group[i] >= 0;
    if (left == 0) HET_TRY(het_fail(HET_E_INPUT, "none of the %lld images of %s meets the conditions: nothing is written", (long long)p->count, path));
done:
    return status;
}
