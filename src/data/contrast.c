#include "contrast.h"

#include <math.h>

enum { ZONE_BETWEEN, ZONE_DISC, ZONE_RIM };

static int zone_of(int64_t box, int64_t x, int64_t y)
{
    const double half = 0.5 * (double)box, dx = (double)(x - box / 2), dy = (double)(y - box / 2);
    const double r2 = (dx * dx + dy * dy) / (half * half);
    return r2 < 0.5 * 0.5 ? ZONE_DISC : r2 > 0.9 * 0.9 ? ZONE_RIM : ZONE_BETWEEN;
}

void het_contrast_init(het_contrast *contrast, int64_t box)
{
    *contrast = (het_contrast){.box = box};
    for (int64_t y = 0; y < box; y++)
        for (int64_t x = 0; x < box; x++) {
            contrast->disc_count += zone_of(box, x, y) == ZONE_DISC;
            contrast->rim_count += zone_of(box, x, y) == ZONE_RIM;
        }
}

void het_contrast_add(het_contrast *contrast, const float *image)
{
    const int64_t box = contrast->box;
    double sum[3] = {0}, square = 0.0;
    for (int64_t y = 0; y < box; y++)
        for (int64_t x = 0; x < box; x++) {
            const double pixel = image[y * box + x];
            sum[zone_of(box, x, y)] += pixel;
            square += pixel * pixel;
        }
    const double pixels = (double)(box * box), mean = (sum[0] + sum[1] + sum[2]) / pixels;
    const double difference = sum[ZONE_DISC] / (double)contrast->disc_count -
                              sum[ZONE_RIM] / (double)contrast->rim_count;
    contrast->images += 1.0;
    contrast->sum += difference;
    contrast->sum2 += difference * difference;
    contrast->pixel_sum2 += square / pixels - mean * mean;
}

het_status het_contrast_reduce(het_contrast *contrast, het_comm *comm)
{
    double all[4] = {contrast->images, contrast->sum, contrast->sum2, contrast->pixel_sum2};
    const het_status status = het_comm_sum_f64(comm, all, 4);
    contrast->images = all[0];
    contrast->sum = all[1];
    contrast->sum2 = all[2];
    contrast->pixel_sum2 = all[3];
    return status;
}

void het_contrast_result(const het_contrast *contrast, double *mean, double *error)
{
    const double n = contrast->images, average = contrast->sum / n;
    const double variance = fmax(contrast->sum2 / n - average * average, 0.0);
    const double unit = sqrt(fmax(contrast->pixel_sum2 / n, 0.0));
    *mean = unit > 0.0 ? average / unit : 0.0;
    *error = unit > 0.0 ? sqrt(variance / fmax(n - 1.0, 1.0)) / unit : 0.0;
}
