#include "moments.h"

#include <math.h>

void het_moments_add(het_moments *all, const het_image_moments *image, int64_t pixels)
{
    const double step = image->mean - all->mean, n = (double)all->images;
    all->mean += step / (n + 1);
    all->deviation += image->deviation + step * step * (double)pixels * n / (n + 1);
    all->images++;
}

void het_moments_join(het_moments *all, double mean, double std, int64_t images, int64_t pixels)
{
    const double step = mean - all->mean, n = (double)images, before = (double)all->images;
    all->mean += step * n / (before + n);
    all->deviation += (std * std * n + step * step * before * n / (before + n)) * (double)pixels;
    all->images += images;
}

double het_moments_std(const het_moments *all, int64_t pixels)
{
    return sqrt(all->deviation / ((double)pixels * (double)all->images));
}
