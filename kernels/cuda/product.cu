#include "product.h"

#include <stdio.h>
#include <string.h>

#include "cublaslt.h"
#include "library.h"

/* cuBLASLt counts columns first, where a row-major (R,C) matrix is (C,R): so C^T = op(B)^T op(A)^T is asked for, B
 * being the first operand. What a shape needs - descriptors and an algorithm - is made when it first comes, and kept
 * in a table with one place for each hash. */

enum { PLANS = 2048, WORKSPACE = 32 << 20 };

typedef struct plan {
    het_product shape;
    int align; /* bytes, of all three arrays */
    int used;
    void *desc, *first, *second, *out;
    lt_algorithm algorithm;
} plan;

typedef struct lt_calls {
    LT_FUNCTIONS(HET_CALL_MEMBER)
} lt_calls;

struct het_products : lt_calls {
    void *handle, *preference, *workspace;
    plan plans[PLANS];
};

static het_status load(het_cuda *c, het_products *lt)
{
#define NAME(result, name, arguments) "cublasLt" #name,
    static const char *const names[] = {"libcublasLt.so.13", "libcublasLt.so.12", NULL};
    static const char *const functions[] = {LT_FUNCTIONS(NAME)};
    char why[300];
    static_assert(sizeof(lt_calls) == sizeof functions, "a table of functions");
    if (het_cuda_library("cuBLASLt", NULL, names, functions, LT_FUNCTIONS(HET_CALL_COUNT), (lt_calls *)lt, why, sizeof why))
        return HET_OK;
    return c->host->fail(HET_E_DEVICE, "--device cuda: %s", why);
}

het_status het_cuda_products_open(het_cuda *c)
{
    het_products *lt = new het_products();
    c->products = lt;
    const het_status status = load(c, lt);
    if (status != HET_OK) return status;
    const uint64_t bytes = WORKSPACE;
    const uint32_t reductions = LT_REDUCTION_COMPUTE_TYPE;
    lt->workspace = het_cuda_alloc(c, WORKSPACE);
    if (lt->workspace == NULL) return c->host->fail(HET_E_MEMORY, "no memory on the GPU for the workspace of products");
    if (lt->Create(&lt->handle) != LT_SUCCESS || lt->MatmulPreferenceCreate(&lt->preference) != LT_SUCCESS ||
        lt->MatmulPreferenceSetAttribute(lt->preference, LT_PREF_WORKSPACE, &bytes, sizeof bytes) != LT_SUCCESS ||
        lt->MatmulPreferenceSetAttribute(lt->preference, LT_PREF_REDUCTION, &reductions, sizeof reductions) != LT_SUCCESS)
        return c->host->fail(HET_E_DEVICE, "--device cuda: cuBLASLt could not start");
    return HET_OK;
}

static void forget(het_products *lt, plan *p)
{
    if (p->desc != NULL) lt->MatmulDescDestroy(p->desc);
    if (p->first != NULL) lt->MatrixLayoutDestroy(p->first);
    if (p->second != NULL) lt->MatrixLayoutDestroy(p->second);
    if (p->out != NULL) lt->MatrixLayoutDestroy(p->out);
    *p = plan();
}

void het_cuda_products_close(het_cuda *c)
{
    het_products *lt = c->products;
    if (lt == NULL) return;
    for (int i = 0; i < PLANS; i++) forget(lt, &lt->plans[i]);
    if (lt->preference != NULL) lt->MatmulPreferenceDestroy(lt->preference);
    if (lt->handle != NULL) lt->Destroy(lt->handle);
    het_cuda_free(c, lt->workspace);
    delete lt; /* the library stays: it keeps state of the process */
    c->products = NULL;
}

static int same(const het_product *a, const het_product *b)
{
    return a->m == b->m && a->n == b->n && a->k == b->k && a->turn_a == b->turn_a && a->turn_b == b->turn_b &&
           a->narrow == b->narrow && a->narrow_out == b->narrow_out && a->beta == b->beta &&
           a->rounded == b->rounded && a->parts == b->parts;
}

static unsigned hash(const het_product *p, int align)
{
    uint64_t h = (uint64_t)p->m * 0x9E3779B97F4A7C15u;
    h = (h ^ (h >> 29) ^ (uint64_t)p->n) * 0xBF58476D1CE4E5B9u;
    h = (h ^ (h >> 32) ^ (uint64_t)p->k) * 0x94D049BB133111EBu;
    h += (uint64_t)(p->turn_a + 2 * p->turn_b + 4 * p->narrow + 8 * p->narrow_out + 16 * (p->beta != 0.0f) + 32 * align +
                    4096 * p->rounded + 8192 * p->parts);
    h *= 0x9E3779B97F4A7C15u;
    return (unsigned)(h >> 40) % PLANS;
}

/* Bytes that all three addresses are multiples of; 64 at most, which every buffer has wherever it lies in its arena (cuBLASLt would
 * take 256 for granted): the choice of an algorithm, and with it the last bits, must not depend on where a rank's buffers lie. */
static int alignment(const void *a, const void *b, const void *c)
{
    const uintptr_t all = (uintptr_t)a | (uintptr_t)b | (uintptr_t)c | 64u;
    return (int)(all & (~all + 1u));
}

/* A matrix of rows x columns as it counts them, `parts` times. */
static void *layout_of(const het_products *lt, int type, uint64_t rows, uint64_t columns, int64_t stride, int32_t parts)
{
    void *layout = NULL;
    const int64_t numbers = (int64_t)(rows * columns);
    if (lt->MatrixLayoutCreate(&layout, type, rows, columns, stride) != LT_SUCCESS) return NULL;
    if (parts > 1 && (lt->MatrixLayoutSetAttribute(layout, LT_LAYOUT_BATCH_COUNT, &parts, sizeof parts) != LT_SUCCESS ||
                      lt->MatrixLayoutSetAttribute(layout, LT_LAYOUT_BATCH_STRIDE, &numbers, sizeof numbers) != LT_SUCCESS)) {
        lt->MatrixLayoutDestroy(layout);
        return NULL;
    }
    return layout;
}

static int make(het_products *lt, plan *p, const het_product *s, int align)
{
    const int in = s->narrow ? LT_R_16BF : LT_R_32F, out = s->narrow_out ? LT_R_16BF : LT_R_32F;
    const int32_t turn_first = s->turn_b ? LT_OP_T : LT_OP_N, turn_second = s->turn_a ? LT_OP_T : LT_OP_N;
    const uint64_t n = (uint64_t)s->n, m = (uint64_t)s->m, k = (uint64_t)s->k;
    const uint32_t bytes = (uint32_t)align;
    const int compute = s->rounded ? LT_COMPUTE_32F_FAST_TF32 : LT_COMPUTE_32F;
    lt_result result = {};
    int found = 0;
    forget(lt, p);
    for (int attribute = LT_PREF_ALIGN_A; attribute <= LT_PREF_ALIGN_D; attribute++)
        if (lt->MatmulPreferenceSetAttribute(lt->preference, attribute, &bytes, sizeof bytes) != LT_SUCCESS) return 0;
    if (lt->MatmulDescCreate(&p->desc, compute, LT_R_32F) != LT_SUCCESS ||
        lt->MatmulDescSetAttribute(p->desc, LT_DESC_TRANSA, &turn_first, sizeof turn_first) != LT_SUCCESS ||
        lt->MatmulDescSetAttribute(p->desc, LT_DESC_TRANSB, &turn_second, sizeof turn_second) != LT_SUCCESS ||
        (p->first = layout_of(lt, in, s->turn_b ? k : n, s->turn_b ? n : k, s->turn_b ? s->k : s->n, s->parts)) == NULL ||
        (p->second = layout_of(lt, in, s->turn_a ? m : k, s->turn_a ? k : m, s->turn_a ? s->m : s->k, s->parts)) == NULL ||
        (p->out = layout_of(lt, out, n, m, s->n, s->parts)) == NULL)
        return 0;
    if (lt->MatmulAlgoGetHeuristic(lt->handle, p->desc, p->first, p->second, p->out, p->out, lt->preference, 1, &result,
                                   &found) != LT_SUCCESS || found < 1 || result.state != LT_SUCCESS)
        return 0;
    p->algorithm = result.algorithm;
    p->shape = *s;
    p->align = align;
    p->used = 1;
    return 1;
}

void het_cuda_product(het_cuda *c, const het_product *s, void *out, const void *a, const void *b)
{
    if (c->status != HET_OK || s->m == 0 || s->n == 0) return;
    het_products *lt = c->products;
    const int align = alignment(a, b, out);
    plan *p = &lt->plans[hash(s, align)];
    char what[160];
    snprintf(what, sizeof what, "product of %lld x %lld x %lld%s", (long long)s->m, (long long)s->n, (long long)s->k,
             s->narrow ? " in bf16" : "");
    if ((!p->used || p->align != align || !same(&p->shape, s)) && !make(lt, p, s, align)) {
        forget(lt, p);
        het_cuda_fault(c, what, "cuBLASLt has no algorithm for it", __FILE__, __LINE__);
        return;
    }
    const float one = 1.0f;
    const int error = lt->Matmul(lt->handle, p->desc, &one, b, p->first, a, p->second, &s->beta, out, p->out, out,
                                 p->out, &p->algorithm, lt->workspace, WORKSPACE, c->stream);
    if (error == LT_SUCCESS) return;
    char why[64];
    snprintf(why, sizeof why, "cuBLASLt status %d", error);
    het_cuda_fault(c, what, why, __FILE__, __LINE__);
}
