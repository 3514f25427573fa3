#include "options.h"

#include <errno.h>
#include <getopt.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

het_status het_options_refused(char *const *argv, int answer)
{
    if (answer == ':') return het_fail(HET_E_USAGE, "%s: %s needs a value", argv[0], argv[optind - 1]);
    return het_fail(HET_E_USAGE, "%s: unknown option %s; see hetacumn %s --help", argv[0], argv[optind - 1], argv[0]);
}

het_status het_options_whole(const char *option, const char *text, int64_t low, int64_t high, int64_t *value)
{
    char *end;
    errno = 0;
    *value = strtoll(text, &end, 10);
    if (errno != 0 || end == text || *end != '\0' || *value < low || *value > high)
        return het_fail(HET_E_USAGE, "%s %s: it must be a whole number from %lld to %lld", option, text, (long long)low,
                        (long long)high);
    return HET_OK;
}

het_status het_options_number(const char *option, const char *text, double *value)
{
    char *end;
    *value = strtod(text, &end);
    if (end == text || *end != '\0' || isnan(*value)) return het_fail(HET_E_USAGE, "%s %s: it must be a number", option, text);
    return HET_OK;
}

int het_options_ends_with(const char *path, const char *end)
{
    const size_t n = strlen(path), m = strlen(end);
    return n >= m && strcasecmp(path + n - m, end) == 0;
}

int het_options_is_star(const char *path)
{
    return het_options_ends_with(path, ".star") || het_options_ends_with(path, ".star.gz");
}
