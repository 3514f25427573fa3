#include "options.h"

#include <getopt.h>

het_status het_options_refused(char *const *argv, int answer)
{
    if (answer == ':') return het_fail(HET_E_USAGE, "%s: %s needs a value", argv[0], argv[optind - 1]);
    return het_fail(HET_E_USAGE, "%s: unknown option %s; see hetacumn %s --help", argv[0], argv[optind - 1], argv[0]);
}
