#include "phases.h"

#include <math.h>

void het_phases_set(het_phases *phases, const float shift[2], int64_t box, const int32_t *kxy, int64_t p)
{
    const int32_t *last = kxy + 2 * (p - 1);
    const double unit = 2.0 * M_PI / (double)box;
    const int64_t reach = p > 0 ? (int64_t)sqrt((double)last[0] * last[0] + (double)last[1] * last[1]) : 0;
    for (int64_t k = 0; k <= reach; k++) {
        const double x = unit * (double)k * (double)shift[0], y = unit * (double)k * (double)shift[1];
        phases->x[k][0] = cos(x);
        phases->x[k][1] = sin(x);
        phases->y[k][0] = cos(y);
        phases->y[k][1] = sin(y);
    }
}
