#include "whitening.h"

#include <math.h>
#include <string.h>

int het_whitening_is(const het_whitening *w)
{
    return w->at[0] > 0.0;
}

int het_whitening_equal(const het_whitening *a, const het_whitening *b)
{
    return memcmp(a, b, sizeof *a) == 0;
}

double het_whitening_knot(int i)
{
    const double t = (double)i / (HET_WHITENING_KNOTS - 1);
    return t * t;
}

double het_whitening_at(const het_whitening *w, double radius, int64_t box)
{
    if (!het_whitening_is(w)) return 1.0;
    const double t = fmin(radius / (0.5 * (double)box), 1.0);
    int i = (int)(sqrt(t) * (HET_WHITENING_KNOTS - 1));
    if (i > HET_WHITENING_KNOTS - 2) i = HET_WHITENING_KNOTS - 2;
    const double part = (t - het_whitening_knot(i)) / (het_whitening_knot(i + 1) - het_whitening_knot(i));
    return (1.0 - part) * w->at[i] + part * w->at[i + 1];
}
