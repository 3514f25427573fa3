#include "archive.h"

#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum { VARIABLES = 7 };
static const struct {
    const char *name, *folder;
} variables[VARIABLES] = {
    {"OPAL_PREFIX", ""},
    {"OPAL_BINDIR", "/bin"},
    {"OPAL_LIBDIR", "/lib/hetacumn"},
    {"OPAL_PKGLIBDIR", "/lib/hetacumn/openmpi"},
    {"OPAL_PKGDATADIR", "/share/openmpi"},
    {"OPAL_SYSCONFDIR", "/etc"},
    {"PMIX_MCA_mca_base_component_path", "/lib/hetacumn/pmix"},
};

/* The folder above that of the running program; "" where it cannot be told. */
static void find_root(char *root, size_t size)
{
    const ssize_t length = readlink("/proc/self/exe", root, size - 1);
    root[length > 0 ? length : 0] = '\0';
    for (int i = 0; i < 2; i++) {
        char *slash = strrchr(root, '/');
        if (slash != NULL) *slash = '\0';
    }
}

int het_archive_enter(char *root, size_t size)
{
    char here[PATH_MAX - 64], folder[PATH_MAX];
    find_root(here, sizeof here);
    snprintf(folder, sizeof folder, "%s/lib/hetacumn/openmpi", here);
    const int found = here[0] != '\0' && access(folder, R_OK) == 0;
    if (root != NULL) snprintf(root, size, "%s", found ? here : "");
    for (int i = 0; found && i < VARIABLES; i++) {
        snprintf(folder, sizeof folder, "%s%s", here, variables[i].folder);
        setenv(variables[i].name, folder, 1);
    }
    return found;
}
