#include "decode.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "../../src/status.h"

static const double TWO_PI = 6.283185307179586476925;

/* To bf16, nearest even, if asked for. */
static double rounded(const ref_decode *net, double x)
{
    if (!net->bf16) return x;
    const float narrow = (float)x;
    uint32_t bits;
    memcpy(&bits, &narrow, sizeof bits);
    bits = (bits + 0x7FFFu + (bits >> 16 & 1u)) & 0xFFFF0000u;
    float result;
    memcpy(&result, &bits, sizeof result);
    return result;
}

/* Everything about one point that the backward needs. */
typedef struct point {
    double sign;
    double *x;        /* (2F) */
    double *h, *relu; /* (layers, H) */
    double out[2];
} point;

static point point_new(const ref_decode *net)
{
    point p = {0};
    p.x = calloc((size_t)(2 * net->frequencies), sizeof(double));
    p.h = calloc((size_t)(net->layers * net->width), sizeof(double));
    p.relu = calloc((size_t)(net->layers * net->width), sizeof(double));
    HET_ASSERT(p.x != NULL && p.h != NULL && p.relu != NULL);
    return p;
}

static void point_free(point *p)
{
    free(p->x);
    free(p->h);
    free(p->relu);
}

static const float *layer_at(const ref_decode *net, int64_t layer)
{
    const int64_t w = net->width;
    return layer == 0 ? net->params : net->params + 2 * net->frequencies * w + (layer - 1) * (w * w + w);
}

static void evaluate(const ref_decode *net, point *pt, const double *rot, const float *bias, double kx, double ky, double kz)
{
    const int64_t f = net->frequencies, w = net->width;
    double q[3];
    for (int d = 0; d < 3; d++) q[d] = kx * rot[d] + ky * rot[3 + d] + kz * rot[6 + d];
    const double side = q[2] != 0 ? q[2] : q[1] != 0 ? q[1] : q[0];
    pt->sign = (side > 0) - (side < 0);
    for (int64_t i = 0; i < f; i++) {
        double phase = 0;
        for (int d = 0; d < 3; d++) phase += TWO_PI / (double)net->box * net->freq[3 * i + d] * q[d];
        pt->x[i] = rounded(net, cos(phase));
        pt->x[f + i] = rounded(net, pt->sign * sin(phase));
    }
    for (int64_t l = 0; l < net->layers; l++) {
        const int64_t k = l == 0 ? 2 * f : w;
        const float *weight = layer_at(net, l), *b = l == 0 ? bias : weight + k * w;
        const double *in = l == 0 ? pt->x : pt->h + (l - 1) * w;
        for (int64_t j = 0; j < w; j++) {
            double z = b[j];
            for (int64_t i = 0; i < k; i++) z += in[i] * rounded(net, weight[i * w + j]);
            pt->relu[l * w + j] = z > 0 ? z : 0;
            pt->h[l * w + j] = rounded(net, pt->relu[l * w + j] + (l > 0 && !net->plain ? in[j] : 0));
        }
    }
    const float *last = layer_at(net, net->layers);
    for (int c = 0; c < 2; c++) {
        pt->out[c] = last[2 * w + c];
        for (int64_t j = 0; j < w; j++) pt->out[c] += pt->h[(net->layers - 1) * w + j] * last[2 * j + c];
    }
    pt->out[1] *= pt->sign;
}

void ref_decode_forward(const ref_decode *net, double *slice, const double *rot, const float *bias, double kz,
                        int64_t points)
{
    point pt = point_new(net);
    for (int64_t p = 0; p < points; p++) {
        evaluate(net, &pt, rot, bias, net->kxy[2 * p], net->kxy[2 * p + 1], kz);
        memcpy(slice + 2 * p, pt.out, sizeof pt.out);
    }
    point_free(&pt);
}

static void point_backward(const ref_decode *net, const point *pt, double *dparams, double *drot, double *dbias,
                           const float *dslice, double kx, double ky)
{
    const int64_t f = net->frequencies, w = net->width;
    const int64_t most = 2 * f > w ? 2 * f : w;
    const double g[2] = {dslice[0], dslice[1] * pt->sign};
    double *dh = calloc((size_t)w, sizeof *dh), *dz = calloc((size_t)w, sizeof *dz);
    double *din = calloc((size_t)most, sizeof *din);
    HET_ASSERT(dh != NULL && dz != NULL && din != NULL);
    const float *last = layer_at(net, net->layers);
    double *dlast = dparams + (last - net->params);
    for (int c = 0; c < 2; c++) {
        dlast[2 * w + c] += g[c];
        for (int64_t j = 0; j < w; j++) {
            dlast[2 * j + c] += g[c] * pt->h[(net->layers - 1) * w + j];
            dh[j] += g[c] * last[2 * j + c];
        }
    }
    for (int64_t l = net->layers - 1; l >= 0; l--) {
        const int64_t k = l == 0 ? 2 * f : w;
        const float *weight = layer_at(net, l);
        double *dweight = dparams + (weight - net->params), *db = l == 0 ? dbias : dweight + k * w;
        const double *in = l == 0 ? pt->x : pt->h + (l - 1) * w;
        for (int64_t j = 0; j < w; j++) {
            dz[j] = pt->relu[l * w + j] > 0 ? dh[j] : 0;
            db[j] += dz[j];
            dz[j] = rounded(net, dz[j]);
        }
        for (int64_t i = 0; i < k; i++) {
            din[i] = 0;
            for (int64_t j = 0; j < w; j++) {
                dweight[i * w + j] += in[i] * dz[j];
                din[i] += rounded(net, weight[i * w + j]) * dz[j];
            }
        }
        for (int64_t i = 0; i < w && l > 0; i++) dh[i] = din[i] + (net->plain ? 0 : dh[i]);
    }
    for (int64_t i = 0; i < f; i++) {
        const double sine = pt->sign * pt->x[f + i];
        const double dphase = -sine * din[i] + pt->sign * pt->x[i] * din[f + i];
        for (int d = 0; d < 3; d++) {
            drot[d] += TWO_PI / (double)net->box * net->freq[3 * i + d] * kx * dphase;
            drot[3 + d] += TWO_PI / (double)net->box * net->freq[3 * i + d] * ky * dphase;
        }
    }
    free(dh);
    free(dz);
    free(din);
}

void ref_decode_backward(const ref_decode *net, double *dparams, double *drot, double *dbias, const float *dslice,
                         const double *rot, const float *bias, int64_t points)
{
    point pt = point_new(net);
    memset(drot, 0, 9 * sizeof *drot);
    memset(dbias, 0, (size_t)net->width * sizeof *dbias);
    for (int64_t p = 0; p < points; p++) {
        const double kx = net->kxy[2 * p], ky = net->kxy[2 * p + 1];
        evaluate(net, &pt, rot, bias, kx, ky, 0.0);
        point_backward(net, &pt, dparams, drot, dbias, dslice + 2 * p, kx, ky);
    }
    point_free(&pt);
}
