/* Classes in the conformations, and the small statistics below them. */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdlib.h>

#include <cmocka.h>

#include "../src/arena.h"
#include "../src/physics/eigen.h"
#include "../src/physics/kmeans.h"
#include "../src/physics/latent.h"
#include "../src/physics/stats.h"
#include "../src/rng.h"

#define NEAR(a, b, tolerance) assert_true(fabs((a) - (b)) <= (tolerance))

static void medians_and_ranks(void **state)
{
    (void)state;
    double odd[] = {5, 1, 4, 2, 3}, even[] = {7, 1, 3, 3}, many[1001], same[] = {2, 2, 2, 2};
    NEAR(het_median(odd, 5), 3.0, 0.0);
    NEAR(het_median(even, 4), 3.0, 0.0);
    NEAR(het_median(same, 4), 2.0, 0.0);
    NEAR(het_median(same, 0), 0.0, 0.0);
    for (int i = 0; i < 1001; i++) many[i] = (double)((i * 380) % 1001);
    NEAR(het_median(many, 1001), 500.0, 0.0);
    const double values[] = {10, 20, 20, 5, 20, 30};
    double ranks[6];
    assert_int_equal(het_ranks(ranks, values, 6), HET_OK);
    const double expected[] = {2, 4, 4, 1, 4, 6};
    for (int i = 0; i < 6; i++) NEAR(ranks[i], expected[i], 0.0);
    const double sorted[] = {1, 2, 4};
    NEAR(het_quantile_sorted(sorted, 0.75, 3), 3.0, 1e-15);
}

static void spearman_known_values(void **state)
{
    (void)state;
    /* IQ against hours of television, a common textbook example: rho = -29/165 */
    const double iq[] = {106, 100, 86, 101, 99, 103, 97, 113, 112, 110};
    const double hours[] = {7, 27, 2, 50, 28, 29, 20, 12, 6, 17};
    double rho;
    assert_int_equal(het_spearman(&rho, iq, hours, 10), HET_OK);
    NEAR(rho, -29.0 / 165.0, 1e-12);
    /* ties: ranks (1, 2.5, 2.5, 4) and (1, 2, 3, 4): 4.5 / sqrt(4.5 * 5) */
    const double a[] = {1, 2, 2, 3}, b[] = {1, 2, 3, 4}, constant[] = {1, 1, 1, 1};
    assert_int_equal(het_spearman(&rho, a, b, 4), HET_OK);
    NEAR(rho, 4.5 / sqrt(4.5 * 5.0), 1e-12);
    assert_int_equal(het_spearman(&rho, a, constant, 4), HET_OK);
    NEAR(rho, 0.0, 0.0);
    const double falling[] = {5, 3, 2, -9};
    assert_int_equal(het_spearman(&rho, falling, b, 4), HET_OK);
    NEAR(rho, -1.0, 1e-12);
}

static void eigenvectors(void **state)
{
    (void)state;
    enum { DIM = 8 };
    double a[DIM * DIM], kept[DIM * DIM], values[DIM], vectors[DIM * DIM];
    het_rng rng = het_rng_at(1, HET_STREAM_SIMULATE, 0, 0);
    for (int i = 0; i < DIM; i++)
        for (int j = 0; j <= i; j++) a[i * DIM + j] = a[j * DIM + i] = het_rng_normal(&rng);
    for (int i = 0; i < DIM * DIM; i++) kept[i] = a[i];
    het_eigen_symmetric(a, values, vectors, DIM);
    for (int e = 0; e < DIM; e++) {
        if (e > 0) assert_true(values[e] <= values[e - 1]);
        for (int i = 0; i < DIM; i++) {
            double image = 0.0;
            for (int j = 0; j < DIM; j++) image += kept[i * DIM + j] * vectors[e * DIM + j];
            NEAR(image, values[e] * vectors[e * DIM + i], 1e-12);
        }
        double norm = 0.0;
        for (int j = 0; j < DIM; j++) norm += vectors[e * DIM + j] * vectors[e * DIM + j];
        NEAR(norm, 1.0, 1e-12);
    }
}

enum { N = 4000, Z = 8 };

typedef struct cloud {
    float *z;
    int64_t *label;
    double *pc1;
    het_pca pca;
} cloud;

/* Classes in a row along (1,1,0,..)/sqrt 2, `step` apart, standard deviation 1 on that axis and 0.3 on all
 * others. */
static cloud make_cloud(int classes, double step)
{
    cloud c = {calloc(N * Z, sizeof(float)), calloc(N, sizeof(int64_t)), calloc(N, sizeof(double)), {0}};
    het_rng rng = het_rng_at(9, HET_STREAM_SIMULATE, 0, 0);
    for (int i = 0; i < N; i++) {
        c.label[i] = (int64_t)het_rng_below(&rng, (uint64_t)classes);
        const double along = step * (double)c.label[i] + het_rng_normal(&rng);
        for (int k = 0; k < Z; k++) c.z[i * Z + k] = 0.3f * het_rng_normal(&rng) + 5.0f;
        const float across = (c.z[i * Z] - c.z[i * Z + 1]) / 2.0f;
        c.z[i * Z] = (float)(along / sqrt(2.0)) + across;
        c.z[i * Z + 1] = (float)(along / sqrt(2.0)) - across;
    }
    assert_int_equal(het_latent_pca(&c.pca, c.z, N, Z), HET_OK);
    het_latent_project(c.pc1, &c.pca, 0, c.z, N);
    return c;
}

static void free_cloud(cloud *c)
{
    free(c->z);
    free(c->label);
    free(c->pc1);
}

static void two_classes(void **state)
{
    (void)state;
    cloud c = make_cloud(2, 4.0);
    NEAR(fabs(c.pca.axis[0]), sqrt(0.5), 0.01);
    NEAR(c.pca.variance[0], 1.0 + 4.0, 0.2);
    double variance = 0.0, threshold;
    for (int i = 0; i < N; i++) variance += c.pc1[i] * c.pc1[i] / N;
    NEAR(variance, c.pca.variance[0], 1e-4 * variance);
    assert_int_equal(het_latent_threshold(&threshold, c.pc1, N), HET_OK);
    const het_split split = het_latent_split(c.pc1, c.label, N, threshold);
    const double bayes = 0.5 * erfc(2.0 / sqrt(2.0)); /* threshold 2 standard deviations from both: 0.0228 */
    NEAR(split.err, bayes, 0.007);
    het_split best;
    assert_int_equal(het_latent_best_split(&best, c.pc1, c.label, N), HET_OK);
    assert_true(best.err <= split.err);
    NEAR(best.threshold, threshold, 0.4);
    for (int i = 0; i < N; i++) c.label[i] = 1 - c.label[i]; /* names of the classes do not matter */
    const het_split swapped = het_latent_split(c.pc1, c.label, N, threshold);
    NEAR(swapped.err, split.err, 1e-15);
    assert_int_equal(swapped.above, 1 - split.above);
    double e_z;
    assert_int_equal(het_latent_overlap(&e_z, NULL, NULL, c.pc1, c.label, N, 2), HET_OK);
    NEAR(e_z, bayes, 0.004);
    free_cloud(&c);
}

static void best_split_by_hand(void **state)
{
    (void)state;
    const double value[] = {1, 2, 3, 4, 5, 6};
    const int64_t label[] = {0, 0, 1, 0, 1, 1};
    het_split best;
    assert_int_equal(het_latent_best_split(&best, value, label, 6), HET_OK);
    NEAR(best.err, 1.0 / 6.0, 1e-15);
    assert_int_equal(best.above, 1);
    const int64_t one[] = {1, 1, 1, 1, 1, 1};
    assert_int_equal(het_latent_best_split(&best, value, one, 6), HET_OK);
    NEAR(best.err, 0.0, 0.0);
    double threshold;
    const double groups[] = {10, 0, 11, 1, 12, 2};
    assert_int_equal(het_latent_threshold(&threshold, groups, 6), HET_OK);
    NEAR(threshold, 6.0, 1e-12);
}

static void classes_in_a_row(void **state)
{
    (void)state;
    double e_z, mean[10], std[10];
    cloud c = make_cloud(10, 3.0);
    assert_int_equal(het_latent_overlap(&e_z, mean, std, c.pc1, c.label, N, 10), HET_OK);
    NEAR(e_z, 0.5 * erfc(1.5 / sqrt(2.0)), 0.01);
    for (int k = 0; k < 10; k++) {
        NEAR(std[k], 1.0, 0.15);
        if (k > 0) NEAR(fabs(mean[k] - mean[k - 1]), 3.0, 0.25);
    }
    double similarity, chance;
    assert_int_equal(het_latent_neighbours(&similarity, &chance, c.z, c.label, N, Z, 10, 10, 1), HET_OK);
    NEAR(chance, 0.1, 0.01);
    assert_true(similarity > 0.6 && similarity < 0.95);
    het_rng rng = het_rng_at(3, HET_STREAM_SIMULATE, 0, 0);
    for (int i = 0; i < N; i++) c.label[i] = (int64_t)het_rng_below(&rng, 10);
    assert_int_equal(het_latent_neighbours(&similarity, &chance, c.z, c.label, N, Z, 10, 10, 1), HET_OK);
    NEAR(similarity, chance, 0.02);
    assert_int_equal(het_latent_overlap(&e_z, NULL, NULL, c.pc1, c.label, N, 10), HET_OK);
    assert_true(e_z > 0.45);
    free_cloud(&c);
}

static void modes_of_classes(void **state)
{
    (void)state;
    cloud c = make_cloud(2, 5.0);
    for (int k = 0; k < 2; k++) {
        float z[Z];
        double mode;
        assert_int_equal(het_latent_class_mode(z, &mode, c.z, c.pc1, c.label, k, N, Z), HET_OK);
        NEAR((z[0] + z[1]) / sqrt(2.0), 5.0 * k, 0.3);
        NEAR(z[5], 5.0, 0.1);
    }
    float z[Z];
    assert_int_equal(het_latent_class_mode(z, NULL, c.z, c.pc1, c.label, 7, N, Z), HET_E_INPUT);
    free_cloud(&c);
    /* a skewed density: exponential, whose mode is at its lower end and whose mean is not */
    double value[N], mode;
    het_rng rng = het_rng_at(4, HET_STREAM_SIMULATE, 0, 0);
    for (int i = 0; i < N; i++)
        value[i] = -log(het_rng_uniform(&rng)) - log(het_rng_uniform(&rng)); /* gamma(2): mode 1 */
    assert_int_equal(het_density_mode(&mode, value, N), HET_OK);
    NEAR(mode, 1.0, 0.2);
    for (int i = 0; i < N; i++) value[i] = 3.0;
    assert_int_equal(het_density_mode(&mode, value, N), HET_OK);
    NEAR(mode, 3.0, 0.0);
    assert_int_equal(het_density_mode(&mode, value, 1), HET_OK);
    NEAR(mode, 3.0, 0.0);
}

static void kmeans_finds_clusters(void **state)
{
    (void)state;
    cloud c = make_cloud(4, 20.0);
    double centre[4 * Z], inertia;
    int64_t *label = calloc(N, sizeof *label), nearest[4];
    assert_int_equal(het_kmeans(centre, label, &inertia, c.z, N, Z, 4, 1), HET_OK);
    for (int i = 0; i < N; i++)
        assert_int_equal(label[i], c.label[i]); /* numbered along the first coordinate */
    NEAR(inertia / N, 1.0 + 7 * 0.09, 0.1);
    het_kmeans_nearest(nearest, centre, 4, c.z, N, Z);
    for (int k = 0; k < 4; k++) assert_int_equal(c.label[nearest[k]], k);
    assert_int_equal(het_kmeans(centre, label, NULL, c.z, 3, Z, 4, 1), HET_E_SHAPE);
    const float same[6] = {1, 1, 1, 1, 1, 1}; /* three equal images, two clusters */
    assert_int_equal(het_kmeans(centre, label, &inertia, same, 3, 2, 2, 1), HET_OK);
    NEAR(inertia, 0.0, 0.0);
    free(label);
    free_cloud(&c);
}

static int no_leaks(void **state)
{
    (void)state;
    return het_arena_live() == 0 ? 0 : 1;
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(medians_and_ranks), cmocka_unit_test(spearman_known_values),
        cmocka_unit_test(eigenvectors),      cmocka_unit_test(two_classes),
        cmocka_unit_test(best_split_by_hand), cmocka_unit_test(classes_in_a_row),
        cmocka_unit_test(modes_of_classes),  cmocka_unit_test(kmeans_finds_clusters),
    };
    return cmocka_run_group_tests(tests, NULL, no_leaks);
}
