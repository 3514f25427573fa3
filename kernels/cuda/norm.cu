/* Normalisation over rows of channels, in groups: batch norm, and with joined channels group norm.
 *
 * cuDNN's batch norm knows no groups of images, hence kernels of our own. As on the CPU a group's rows are cut into
 * slices; within a slice sums are fp32 of deviations from its first row (no cancellation of E[x^2] - mean^2),
 * slices are joined in double, by the rule of Chan, Golub and LeVeque (1979), from deviations of their means from the
 * first one's. No atomics: every sum has one order.
 *
 * Kernels that go over elements take pieces of channels (act.h). Their blocks are pieces wide and rows high, so that a
 * thread stays with its channels, and what these need is read or worked out once for all of its rows. */
#include "act.h"
#include "members.h"

enum { THREADS = 256, ACROSS_MOST = 32 /* pieces */, ROWS_EACH = 4 };
/* Slices are cut by what a group has alone: its sums are the same whether other groups are on this device or another one. */
enum { SLICE_ROWS_MIN = 64, SLICES_MAX = 256, SLICES_OF_IMAGE = 8 };
enum { BACK_BLOCKS = 3 }; /* of spread_gradient that a processor is to hold at once: no more than 80 registers */
/* Blocks that join: channels across, slices or groups down */
enum { WIDE = 32, HIGH_MOST = 32, SLICES_EACH = SLICES_MAX / HIGH_MOST };

struct het_norm {
    het_cuda *cuda;
    het_norm_spec spec;
    int64_t rows, slices, slice_rows; /* of one group; the last slice may have fewer rows */
    float *partial;                   /* (groups, slices, 2, C) */
    double *sums;                     /* (groups, C, 4) */
    float *coef;                      /* (groups, 2, C): b, c of dx = a dy + b (x - mean) + c */
};

/* What a kernel needs to know of a plan. */
typedef struct norm_view {
    int64_t rows;
    int slices, slice_rows, last_rows, channels, groups, joined, relu;
    float *partial, *coef;
    double *sums;
} norm_view;

/* gamma, beta (C), mean, var: by these x becomes the output */
typedef struct norm_affine {
    const float *gamma, *beta, *mean, *var;
} norm_affine;

__device__ static inline float epsilon()
{
    return 1e-5f;
}

__device__ static inline int rows_of_slice(const norm_view &n, int s)
{
    return s == n.slices - 1 ? n.last_rows : n.slice_rows;
}

/* Where the first of a channel's two numbers of a slice is; the second lies C behind. */
__device__ static inline float *part_of(const norm_view &n, int64_t g, int s, int c)
{
    return n.partial + (g * n.slices + s) * 2 * n.channels + c;
}

/* Pieces of a row, and the thread's one. */
template <class P> __device__ static inline int pieces_of(const norm_view &n)
{
    return n.channels / het_piece<P>::count;
}

__device__ static inline int piece_at()
{
    return (int)(blockIdx.z * blockDim.x + threadIdx.x);
}

/* What takes a piece of channels from x to the output, worked out in one place alone: the backward finds the relu's mask
   from x, by the same numbers to the bit as the forward, and spares reading y. */
template <class P> struct norm_line {
    float middle[het_piece<P>::count], scale[het_piece<P>::count], shift[het_piece<P>::count];
};

/* step: C for statistics per group, 0 for one set */
template <class P>
__device__ static inline void load_line(norm_line<P> &line, const norm_affine &by, int64_t g, int64_t step, int piece)
{
    enum { COUNT = het_piece<P>::count };
    typedef typename het_piece<P>::floats floats;
    const int64_t of = g * step / COUNT + piece;
    float gamma[COUNT], var[COUNT];
    het_load(line.middle, (const floats *)by.mean, of);
    het_load(line.shift, (const floats *)by.beta, piece);
    het_load(gamma, (const floats *)by.gamma, piece);
    het_load(var, (const floats *)by.var, of);
    HET_UNROLL for (int j = 0; j < COUNT; j++) line.scale[j] = gamma[j] * rsqrtf(var[j] + epsilon());
}

/* The output before the relu; `away` is x - mean. Fused by name: otherwise each kernel's compilation is free to. */
template <class P> __device__ static inline float at_line(const norm_line<P> &line, int j, float away)
{
    return fmaf(away, line.scale[j], line.shift[j]);
}

/* Rows of x and dy that a thread of the backward has under way at once: as many as its registers have room for. */
template <class P> struct norm_back {
    enum { each = sizeof(P) > 16 ? 1 : 2 };
    P x[each], dy[each];
};

template <class P>
__device__ static inline void load_back(norm_back<P> &of, int k, const void *dy, const void *x, int64_t i)
{
    of.x[k] = ((const P *)x)[i];
    of.dy[k] = ((const P *)dy)[i];
}

/* x - mean, and dy where the relu let through: not where the output is NaN */
template <class P>
__device__ static inline void take_masked(float *to, float *away, const norm_line<P> &line, const norm_back<P> &of, int k,
                                          int relu)
{
    het_load(away, of.x, k);
    het_load(to, of.dy, k);
    HET_UNROLL for (int j = 0; j < het_piece<P>::count; j++)
    {
        away[j] -= line.middle[j];
        to[j] = !relu || at_line(line, j, away[j]) > 0.0f ? to[j] : 0.0f;
    }
}

/* The block's two sums of every channel, over its rows of threads in order. Row j of threads gets those of channel j of its
   pieces, in *a and *b, and 1; the rows after those 0 (rows are as many as a piece has channels, or more). */
template <int COUNT> __device__ static inline int add_rows(float *a, float *b)
{
    __shared__ float part[2][COUNT][THREADS];
    const int across = (int)blockDim.x, j = (int)threadIdx.y, lane = (int)threadIdx.x;
    HET_UNROLL for (int k = 0; k < COUNT; k++)
    {
        part[0][k][j * across + lane] = a[k];
        part[1][k][j * across + lane] = b[k];
    }
    __syncthreads();
    if (j >= COUNT) return 0;
    *a = *b = 0.0f;
    for (int i = lane; i < (int)blockDim.y * across; i += across) {
        *a += part[0][j][i];
        *b += part[1][j][i];
    }
    return 1;
}

/* partial = mean and sum of squared deviations of one slice; grid (slices, groups, tiles of pieces) */
template <class P> __global__ void moments(norm_view n, const void *x)
{
    enum { COUNT = het_piece<P>::count };
    typedef typename het_piece<P>::element element;
    const int pieces = pieces_of<P>(n), piece = piece_at();
    const int s = (int)blockIdx.x, rows = rows_of_slice(n, s);
    const int64_t g = blockIdx.y, first = g * n.rows + (int64_t)s * n.slice_rows;
    float sum[COUNT] = {0.0f}, square[COUNT] = {0.0f};
    if (piece < pieces) {
        const P *from = (const P *)x + first * pieces + piece;
        float origin[COUNT];
        het_load(origin, from, 0);
        for (int r = (int)threadIdx.y; r < rows; r += (int)blockDim.y) {
            float v[COUNT];
            het_load(v, from, (int64_t)r * pieces);
            HET_UNROLL for (int j = 0; j < COUNT; j++)
            {
                const float d = v[j] - origin[j];
                sum[j] += d;
                square[j] += d * d;
            }
        }
    }
    if (!add_rows<COUNT>(sum, square) || piece >= pieces) return;
    const int c = piece * COUNT + (int)threadIdx.y;
    float *part = part_of(n, g, s, c);
    part[0] = het_load((const element *)x, first * n.channels + c) + sum[0] / (float)rows;
    part[n.channels] = square[0] - sum[0] * (sum[0] / (float)rows);
}

/* The same where a block joins: valid in row 0. */
__device__ static inline void join_rows(double *a, double *b)
{
    __shared__ double part[2][HIGH_MOST][WIDE];
    part[0][threadIdx.y][threadIdx.x] = *a;
    part[1][threadIdx.y][threadIdx.x] = *b;
    __syncthreads();
    if (threadIdx.y != 0) return;
    *a = *b = 0.0;
    for (int i = 0; i < (int)blockDim.y; i++) {
        *a += part[0][i][threadIdx.x];
        *b += part[1][i][threadIdx.x];
    }
}

/* The channel of a thread that joins, and slice k of those that are its own. */
__device__ static inline int channel_at()
{
    return (int)(blockIdx.x * WIDE + threadIdx.x);
}

__device__ static inline int own_slice(int k)
{
    return (int)(threadIdx.y + k * blockDim.y);
}

/* Both numbers of the thread's slices, all under way at once; zeros where there are none. */
__device__ static inline void load_slices(float *first, float *second, const norm_view &n, int64_t g, int c)
{
    const float *part = part_of(n, g, 0, c);
    HET_UNROLL for (int k = 0; k < SLICES_EACH; k++)
    {
        const int64_t at = (int64_t)own_slice(k) * (2 * n.channels);
        const int there = c < n.channels && own_slice(k) < n.slices;
        first[k] = there ? part[at] : 0.0f;
        second[k] = there ? part[at + n.channels] : 0.0f;
    }
}

/* mean, var (G,C) of each channel from its slices; grid (channel tiles, groups) */
__global__ void __launch_bounds__(WIDE * HIGH_MOST, 1) join_moments(norm_view n, float *mean, float *var)
{
    const int64_t g = blockIdx.y;
    const int c = channel_at();
    const double origin = c < n.channels ? *part_of(n, g, 0, c) : 0.0, rows = (double)n.rows;
    float middle[SLICES_EACH], square[SLICES_EACH];
    double sum = 0.0, m2 = 0.0;
    load_slices(middle, square, n, g, c);
    HET_UNROLL for (int k = 0; k < SLICES_EACH; k++)
    {
        const double d = middle[k] - origin, weighted = rows_of_slice(n, own_slice(k)) * d;
        if (own_slice(k) >= n.slices) continue;
        sum += weighted;
        m2 += square[k] + weighted * d;
    }
    join_rows(&sum, &m2);
    if (threadIdx.y != 0 || c >= n.channels) return;
    m2 -= sum * (sum / rows);
    mean[g * n.channels + c] = (float)(origin + sum / rows);
    var[g * n.channels + c] = m2 < 0.0 ? 0.0f : (float)(m2 / rows);
}

/* mean, var over every `joined` channels from those of each; in place */
__global__ void join_channels(norm_view n, float *mean, float *var)
{
    HET_FOR(i, (int64_t)n.groups * n.channels / n.joined)
    {
        const int64_t k = n.joined, first = i * k;
        double m = 0.0, v = 0.0;
        for (int64_t c = first; c < first + k; c++) m += mean[c];
        m /= (double)k;
        for (int64_t c = first; c < first + k; c++) v += var[c] + (mean[c] - m) * (mean[c] - m);
        for (int64_t c = first; c < first + k; c++) {
            mean[c] = (float)m;
            var[c] = (float)(v / (double)k);
        }
    }
}

/* A piece of row r of a group */
__device__ static inline int64_t place(const norm_view &n, int64_t g, int64_t r, int pieces, int piece)
{
    return (g * n.rows + r) * pieces + piece;
}

/* y = [relu](gamma (x - mean)/sd + beta); step as in load_line. Grid (tiles of a group's rows, groups, tiles of pieces); y
   may be x: a thread reads rows that it writes itself alone, instead of one past the end its first one again. */
template <class P> __global__ void normalise(norm_view n, void *y, const void *x, norm_affine by, int64_t step)
{
    enum { COUNT = het_piece<P>::count };
    const int pieces = pieces_of<P>(n), piece = piece_at();
    const int64_t g = blockIdx.y, first = (int64_t)blockIdx.x * blockDim.y * ROWS_EACH + threadIdx.y;
    if (piece >= pieces || first >= n.rows) return;
    norm_line<P> line;
    P of[ROWS_EACH]; /* all under way at once */
    HET_UNROLL for (int k = 0; k < ROWS_EACH; k++)
    {
        const int64_t r = first + k * blockDim.y;
        of[k] = ((const P *)x)[place(n, g, r < n.rows ? r : first, pieces, piece)];
    }
    load_line(line, by, g, step, piece);
    HET_UNROLL for (int k = 0; k < ROWS_EACH; k++)
    {
        const int64_t r = first + k * blockDim.y;
        float v[COUNT];
        if (r >= n.rows) return;
        het_load(v, of, k);
        HET_UNROLL for (int j = 0; j < COUNT; j++)
        {
            v[j] = at_line(line, j, v[j] - line.middle[j]);
            v[j] = n.relu && v[j] <= 0.0f ? 0.0f : v[j];
        }
        het_store((P *)y, place(n, g, r, pieces, piece), v);
    }
}

/* partial = sum dy and sum dy (x - mean) of one slice, of masked dy; grid as moments */
template <class P> __global__ void gradient_sums(norm_view n, const void *dy, const void *x, norm_affine by)
{
    enum { COUNT = het_piece<P>::count, EACH = norm_back<P>::each };
    const int pieces = pieces_of<P>(n), piece = piece_at();
    const int s = (int)blockIdx.x, rows = rows_of_slice(n, s);
    const int64_t g = blockIdx.y, first = g * n.rows + (int64_t)s * n.slice_rows;
    float s1[COUNT] = {0.0f}, s2[COUNT] = {0.0f};
    if (piece < pieces) {
        norm_line<P> line;
        load_line(line, by, g, n.channels, piece);
        const int high = (int)blockDim.y;
        for (int r = (int)threadIdx.y; r < rows; r += EACH * high) {
            norm_back<P> of;
            HET_UNROLL for (int k = 0; k < EACH; k++)
                load_back(of, k, dy, x, (first + (r + k * high < rows ? r + k * high : r)) * pieces + piece);
            HET_UNROLL for (int k = 0; k < EACH && r + k * high < rows; k++)
            {
                float d[COUNT], away[COUNT];
                take_masked(d, away, line, of, k, n.relu);
                HET_UNROLL for (int j = 0; j < COUNT; j++)
                {
                    s1[j] += d[j];
                    s2[j] += d[j] * away[j];
                }
            }
        }
    }
    if (!add_rows<COUNT>(s1, s2) || piece >= pieces) return;
    float *part = part_of(n, g, s, piece * COUNT + (int)threadIdx.y);
    part[0] = s1[0];
    part[n.channels] = s2[0];
}

/* For dx = a dy + b (x - mean) + c, which is
       dx = 1/sd (gamma dy - mean(gamma dy) - (x - mean) mean(gamma dy (x - mean)) / sd^2), means over joined channels too,
   from all slices the sums of each channel that b, c and the parameters' gradients consist of: gamma/sd dy,
   gamma/sd^3 dy (x - mean), dy, dy (x - mean)/sd. Grid (channel tiles, groups) */
__global__ void __launch_bounds__(WIDE * HIGH_MOST, 1) join_sums(norm_view n, const float *gamma, const float *var)
{
    const int c = channel_at(), ch = n.channels;
    const int64_t g = blockIdx.y, i = g * ch + c;
    float first[SLICES_EACH], second[SLICES_EACH];
    double s1 = 0.0, s2 = 0.0;
    load_slices(first, second, n, g, c);
    HET_UNROLL for (int k = 0; k < SLICES_EACH; k++)
    {
        s1 += first[k];
        s2 += second[k];
    }
    join_rows(&s1, &s2);
    if (threadIdx.y != 0 || c >= ch) return;
    const double inverse = 1.0 / sqrt((double)var[i] + epsilon()), a = gamma[c] * inverse;
    double *sums = n.sums + 4 * i;
    sums[0] = a * s1;
    sums[1] = a * inverse * inverse * s2;
    sums[2] = (float)s1; /* rounded as where each group has a device */
    sums[3] = (float)(inverse * s2);
}

/* The coefficients b and c of every group and channel, grid (channel tiles, group tiles); and, by the blocks of the first
   groups, the parameters' gradients of all groups. */
__global__ void __launch_bounds__(WIDE * HIGH_MOST, 1) gradient_coefficients(norm_view n, float *dgamma, float *dbeta)
{
    const int c = channel_at(), ch = n.channels, k = n.joined;
    const int64_t g = blockIdx.y * blockDim.y + threadIdx.y;
    if (c < ch && g < n.groups) {
        const double *sums = n.sums + 4 * (g * ch + c / k * k), of = (double)n.rows * k;
        double all1 = 0.0, all2 = 0.0;
        for (int j = 0; j < k; j++) {
            all1 += sums[4 * j];
            all2 += sums[4 * j + 1];
        }
        n.coef[2 * g * ch + c] = (float)(-all2 / of);
        n.coef[(2 * g + 1) * ch + c] = (float)(-all1 / of);
    }
    if (blockIdx.y != 0) return;
    double of_beta = 0.0, of_gamma = 0.0;
    for (int64_t of = threadIdx.y; c < ch && of < n.groups; of += blockDim.y) {
        of_beta += n.sums[4 * (of * ch + c) + 2];
        of_gamma += n.sums[4 * (of * ch + c) + 3];
    }
    join_rows(&of_beta, &of_gamma);
    if (threadIdx.y != 0 || c >= ch) return;
    dbeta[c] += (float)of_beta;
    dgamma[c] += (float)of_gamma;
}

/* dx, where the line's scale serves as a: registers are scarce. Grid as normalise; dx may be dy. */
template <class P>
__global__ void __launch_bounds__(THREADS, BACK_BLOCKS) spread_gradient(norm_view n, void *dx, const void *dy, const void *x,
                                                                        norm_affine by)
{
    enum { COUNT = het_piece<P>::count, EACH = norm_back<P>::each };
    typedef typename het_piece<P>::floats floats;
    const int pieces = pieces_of<P>(n), piece = piece_at();
    if (piece >= pieces) return;
    const int64_t g = blockIdx.y, across = (int64_t)gridDim.x * blockDim.y;
    float coef[2][COUNT];
    norm_line<P> line;
    load_line(line, by, g, n.channels, piece);
    HET_UNROLL for (int k = 0; k < 2; k++) het_load(coef[k], (const floats *)n.coef, (2 * g + k) * pieces + piece);
    for (int64_t r = (int64_t)blockIdx.x * blockDim.y + threadIdx.y; r < n.rows; r += EACH * across) {
        norm_back<P> of;
        HET_UNROLL for (int k = 0; k < EACH; k++)
            load_back(of, k, dy, x, place(n, g, r + k * across < n.rows ? r + k * across : r, pieces, piece));
        HET_UNROLL for (int k = 0; k < EACH && r + k * across < n.rows; k++)
        {
            float d[COUNT], away[COUNT];
            take_masked(d, away, line, of, k, n.relu);
            HET_UNROLL for (int j = 0; j < COUNT; j++) d[j] = line.scale[j] * d[j] + coef[0][j] * away[j] + coef[1][j];
            het_store((P *)dx, place(n, g, r + k * across, pieces, piece), d);
        }
    }
}

het_status het_cuda_norm_new(het_device *dev, het_norm **norm, const het_norm_spec *spec)
{
    het_cuda *cuda = het_cuda_of(dev);
    *norm = NULL;
    if (spec->batch < 1 || spec->hw < 1 || spec->channels < 1 || spec->groups < 1 || spec->batch % spec->groups != 0 ||
        spec->groups > 65535)
        return cuda->host->fail(HET_E_SHAPE, "batch norm of %lld images in %lld groups: the groups must divide the batch",
                                (long long)spec->batch, (long long)spec->groups);
    if (spec->joined < 1 || spec->channels % spec->joined != 0)
        return cuda->host->fail(HET_E_SHAPE, "norm of %lld channels, %lld at a time: these must divide the channels",
                                (long long)spec->channels, (long long)spec->joined);
    het_norm *n = new het_norm();
    n->cuda = cuda;
    n->spec = *spec;
    n->rows = spec->batch / spec->groups * spec->hw;
    const int64_t slices = het_least(SLICES_MAX, spec->batch / spec->groups * SLICES_OF_IMAGE);
    const int64_t rows = (n->rows + slices - 1) / slices;
    n->slice_rows = rows < SLICE_ROWS_MIN ? (int64_t)SLICE_ROWS_MIN : rows;
    n->slices = (n->rows + n->slice_rows - 1) / n->slice_rows;
    const size_t gc = (size_t)(spec->groups * spec->channels);
    n->partial = (float *)het_cuda_alloc(cuda, gc * (size_t)n->slices * 2 * sizeof(float));
    n->sums = (double *)het_cuda_alloc(cuda, gc * 4 * sizeof(double));
    n->coef = (float *)het_cuda_alloc(cuda, gc * 2 * sizeof(float));
    if (n->partial == NULL || n->sums == NULL || n->coef == NULL) {
        het_cuda_norm_free(n);
        return cuda->host->fail(HET_E_MEMORY, "no memory on the GPU for batch norm of %lld channels",
                                (long long)spec->channels);
    }
    *norm = n;
    return HET_OK;
}

void het_cuda_norm_free(het_norm *norm)
{
    if (norm == NULL) return;
    het_cuda_free(norm->cuda, norm->partial);
    het_cuda_free(norm->cuda, norm->sums);
    het_cuda_free(norm->cuda, norm->coef);
    delete norm;
}

static norm_view view(const het_norm *n)
{
    const het_norm_spec *s = &n->spec;
    const int64_t last = n->rows - (n->slices - 1) * n->slice_rows;
    return {n->rows, (int)n->slices, (int)n->slice_rows, (int)last, (int)s->channels, (int)s->groups, (int)s->joined,
            s->relu, n->partial, n->coef, n->sums};
}

/* Blocks of pieces of `wide` channels and of rows: a warp reads neighbours. */
static dim3 block_of(const het_norm *n, int64_t wide)
{
    const unsigned across = (unsigned)het_least(n->spec.channels / wide, ACROSS_MOST);
    return dim3(across, THREADS / across);
}

/* of those, with `each` blocks for the rows of a group */
static dim3 grid_of(const het_norm *n, int64_t wide, int64_t each)
{
    return dim3((unsigned)each, (unsigned)n->spec.groups, het_tiles(n->spec.channels / wide, ACROSS_MOST));
}

static dim3 element_grid(const het_norm *n, int64_t wide)
{
    return grid_of(n, wide, het_tiles(n->rows, ROWS_EACH * (int64_t)block_of(n, wide).y));
}

/* Of blocks that join: `of` are the slices or groups. */
static dim3 join_block(int64_t of)
{
    return dim3(WIDE, (unsigned)het_least(of, HIGH_MOST));
}

static dim3 join_grid(const het_norm *n)
{
    return dim3(het_tiles(n->spec.channels, WIDE), (unsigned)n->spec.groups);
}

/* Pieces need both activations and what belongs to channels to lie at their bounds. */
static int64_t wide_of(const het_norm *n, norm_affine by, const void *a, const void *b, const void *c = NULL)
{
    return het_least(het_wide(n->spec.channels, a, b, c), het_wide(n->spec.channels, by.gamma, by.beta, by.mean, by.var));
}

void het_cuda_norm_forward(het_norm *n, void *y, float *mean, float *var, const void *x, const float *gamma,
                           const float *beta)
{
    const norm_affine by = {gamma, beta, mean, var};
    const int64_t ch = n->spec.channels, wide = wide_of(n, by, x, y);
    const dim3 block = block_of(n, wide);
    HET_LAUNCH_PIECES_MEET(n->cuda, wide, moments, grid_of(n, wide, n->slices), block, view(n), x);
    HET_LAUNCH_MEET(n->cuda, join_moments, join_grid(n), join_block(n->slices), view(n), mean, var);
    if (n->spec.joined > 1)
        HET_LAUNCH(n->cuda, join_channels, het_blocks(n->spec.groups * ch / n->spec.joined), HET_BLOCK, view(n), mean, var);
    HET_LAUNCH_PIECES(n->cuda, wide, normalise, element_grid(n, wide), block, view(n), y, x, by, ch);
}

void het_cuda_norm_infer(het_norm *n, void *y, const void *x, const float *gamma, const float *beta, const float *mean,
                         const float *var)
{
    const norm_affine by = {gamma, beta, mean, var};
    const int64_t wide = wide_of(n, by, x, y);
    HET_LAUNCH_PIECES(n->cuda, wide, normalise, element_grid(n, wide), block_of(n, wide), view(n), y, x, by, (int64_t)0);
}

void het_cuda_norm_backward(het_norm *n, void *dx, float *dgamma, float *dbeta, const void *dy, const void *x,
                            const void *y, const float *gamma, const float *beta, const float *mean, const float *var)
{
    (void)y;
    const norm_affine by = {gamma, beta, mean, var};
    const int64_t wide = wide_of(n, by, dx, dy, x);
    const dim3 block = block_of(n, wide), together = join_block(n->spec.groups);
    const dim3 tiles(het_tiles(n->spec.channels, WIDE), het_tiles(n->spec.groups, together.y));
    HET_LAUNCH_PIECES_MEET(n->cuda, wide, gradient_sums, grid_of(n, wide, n->slices), block, view(n), dy, x, by);
    HET_LAUNCH_MEET(n->cuda, join_sums, join_grid(n), join_block(n->slices), view(n), gamma, var);
    HET_LAUNCH_MEET(n->cuda, gradient_coefficients, tiles, together, view(n), dgamma, dbeta);
    HET_LAUNCH_PIECES(n->cuda, wide, spread_gradient, element_grid(n, wide), block, view(n), dx, dy, x, by);
}
