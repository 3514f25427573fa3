#include "layers.h"

#include <math.h>

void ref_conv_out(const het_conv_spec *s, int64_t *out_h, int64_t *out_w)
{
    *out_h = (s->in_h + 2 * s->pad - s->kernel) / s->stride + 1;
    *out_w = (s->in_w + 2 * s->pad - s->kernel) / s->stride + 1;
}

/* Indices of one product y[at] += x[from] w[weight]. */
typedef void visit_function(void *context, int64_t y, int64_t x, int64_t w);

static void visit(const het_conv_spec *s, visit_function *f, void *context)
{
    int64_t oh, ow;
    ref_conv_out(s, &oh, &ow);
    for (int64_t b = 0; b < s->batch; b++)
        for (int64_t oy = 0; oy < oh; oy++)
            for (int64_t ox = 0; ox < ow; ox++)
                for (int64_t o = 0; o < s->out_c; o++)
                    for (int64_t ky = 0; ky < s->kernel; ky++)
                        for (int64_t kx = 0; kx < s->kernel; kx++) {
                            const int64_t iy = oy * s->stride - s->pad + ky,
                                          ix = ox * s->stride - s->pad + kx;
                            if (iy < 0 || iy >= s->in_h || ix < 0 || ix >= s->in_w) continue;
                            for (int64_t i = 0; i < s->in_c; i++)
                                f(context, ((b * oh + oy) * ow + ox) * s->out_c + o,
                                  ((b * s->in_h + iy) * s->in_w + ix) * s->in_c + i,
                                  ((o * s->kernel + ky) * s->kernel + kx) * s->in_c + i);
                        }
}

typedef struct arrays {
    double *y, *dx, *dw;
    const double *x, *w, *dy;
} arrays;

static void visit_forward(void *context, int64_t y, int64_t x, int64_t w)
{
    arrays *a = context;
    a->y[y] += a->x[x] * a->w[w];
}

static void visit_backward(void *context, int64_t y, int64_t x, int64_t w)
{
    arrays *a = context;
    a->dx[x] += a->dy[y] * a->w[w];
    a->dw[w] += a->dy[y] * a->x[x];
}

void ref_conv(double *y, const double *x, const double *w, const het_conv_spec *s)
{
    int64_t oh, ow;
    ref_conv_out(s, &oh, &ow);
    for (int64_t i = 0; i < s->batch * oh * ow * s->out_c; i++) y[i] = 0.0;
    visit(s, visit_forward, &(arrays){.y = y, .x = x, .w = w});
}

void ref_conv_backward(double *dx, double *dw, const double *dy, const double *x, const double *w,
                       const het_conv_spec *s)
{
    for (int64_t i = 0; i < s->batch * s->in_h * s->in_w * s->in_c; i++) dx[i] = 0.0;
    visit(s, visit_backward, &(arrays){.dx = dx, .dw = dw, .dy = dy, .x = x, .w = w});
}

/* The numbers that group g and channels c .. c+joined-1 have in common. */
static int64_t norm_next(int64_t *i, const het_norm_spec *s, int64_t g, int64_t c)
{
    const int64_t size = s->batch / s->groups * s->hw * s->channels;
    for (++*i; *i < (g + 1) * size; ++*i)
        if (*i % s->channels / s->joined == c / s->joined) return 1;
    return 0;
}

static void norm_moments(double *m, double *v, const double *x, const het_norm_spec *s, int64_t g, int64_t c)
{
    const int64_t rows = s->batch / s->groups * s->hw, first = g * rows * s->channels - 1;
    const double n = (double)(rows * s->joined);
    *m = *v = 0.0;
    for (int64_t i = first; norm_next(&i, s, g, c);) *m += x[i] / n;
    for (int64_t i = first; norm_next(&i, s, g, c);) *v += pow(x[i] - *m, 2.0) / n;
}

void ref_norm(double *y, double *mean, double *var, const double *x, const double *gamma, const double *beta,
              const het_norm_spec *s)
{
    const int64_t rows = s->batch / s->groups * s->hw, ch = s->channels;
    for (int64_t g = 0; g < s->groups; g++)
        for (int64_t c = 0; c < ch; c++) {
            const int64_t first = g * rows * ch + c;
            double m, v;
            norm_moments(&m, &v, x, s, g, c);
            mean[g * ch + c] = m;
            var[g * ch + c] = v;
            for (int64_t r = 0; r < rows; r++) {
                const double value = gamma[c] * (x[first + r * ch] - m) / sqrt(v + 1e-5) + beta[c];
                y[first + r * ch] = s->relu && value < 0.0 ? 0.0 : value;
            }
        }
}

void ref_norm_backward(double *dx, double *dgamma, double *dbeta, const double *dy, const double *x,
                       const double *mask, const double *gamma, const het_norm_spec *s)
{
    const int64_t rows = s->batch / s->groups * s->hw, ch = s->channels;
    const double n = (double)(rows * s->joined);
    for (int64_t g = 0; g < s->groups; g++)
        for (int64_t c = 0; c < ch; c++) {
            double m, v, s1 = 0.0, s2 = 0.0;
            norm_moments(&m, &v, x, s, g, c);
            const double sd = sqrt(v + 1e-5);
            for (int64_t i = g * rows * ch - 1; norm_next(&i, s, g, c);) {
                const double d = s->relu && mask[i] <= 0.0 ? 0.0 : dy[i];
                s1 += gamma[i % ch] * d;
                s2 += gamma[i % ch] * d * (x[i] - m) / sd;
            }
            for (int64_t i = g * rows * ch + c; i < (g + 1) * rows * ch; i += ch) {
                const double d = s->relu && mask[i] <= 0.0 ? 0.0 : dy[i];
                dx[i] = (gamma[c] * d - s1 / n - (x[i] - m) / sd * s2 / n) / sd;
                dgamma[c] += d * (x[i] - m) / sd;
                dbeta[c] += d;
            }
        }
}

void ref_maxpool(double *y, int *argmax, const double *x, int64_t batch, int64_t h, int64_t w, int64_t c)
{
    const int64_t oh = (h + 1) / 2, ow = (w + 1) / 2;
    for (int64_t o = 0; o < batch * oh * ow * c; o++) {
        const int64_t k = o % c, ox = o / c % ow, oy = o / c / ow % oh, b = o / c / ow / oh;
        y[o] = -INFINITY;
        argmax[o] = -1;
        for (int tap = 0; tap < 9; tap++) {
            const int64_t iy = 2 * oy - 1 + tap / 3, ix = 2 * ox - 1 + tap % 3;
            if (iy < 0 || iy >= h || ix < 0 || ix >= w) continue;
            const double v = x[((b * h + iy) * w + ix) * c + k];
            if (argmax[o] >= 0 && v <= y[o]) continue;
            y[o] = v;
            argmax[o] = tap;
        }
    }
}

void ref_maxpool_backward(double *dx, const double *dy, const int *argmax, int64_t batch, int64_t h,
                          int64_t w, int64_t c)
{
    const int64_t oh = (h + 1) / 2, ow = (w + 1) / 2;
    for (int64_t i = 0; i < batch * h * w * c; i++) dx[i] = 0.0;
    for (int64_t o = 0; o < batch * oh * ow * c; o++) {
        const int64_t k = o % c, ox = o / c % ow, oy = o / c / ow % oh, b = o / c / ow / oh;
        const int64_t iy = 2 * oy - 1 + argmax[o] / 3, ix = 2 * ox - 1 + argmax[o] % 3;
        dx[((b * h + iy) * w + ix) * c + k] += dy[o];
    }
}

void ref_linear(double *y, const double *x, const double *w, const double *b, int64_t batch, int64_t n,
                int64_t k, int relu)
{
    for (int64_t i = 0; i < batch; i++)
        for (int64_t j = 0; j < n; j++) {
            double sum = b == NULL ? 0.0 : b[j];
            for (int64_t l = 0; l < k; l++) sum += x[i * k + l] * w[j * k + l];
            y[i * n + j] = relu && sum < 0.0 ? 0.0 : sum;
        }
}
