#include "library.h"

#include <dlfcn.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

int het_cuda_library(const char *title, const char *variable, const char *const *names, const char *const *functions,
                     int count, void *table, char *why, size_t size)
{
    const char *given = variable == NULL ? NULL : getenv(variable);
    const char *const only[] = {given, NULL};
    void *library = NULL;
    if (given != NULL) names = only;
    why[0] = '\0';
    for (int i = 0; names[i] != NULL && library == NULL; i++) {
        library = dlopen(names[i], RTLD_NOW | RTLD_LOCAL);
        /* of the newest one, which is what to look for: where it is there but does not load, this says why */
        if (library == NULL && i == 0) snprintf(why, size, "the library %s (%s) is missing: %s", title, names[0], dlerror());
    }
    if (library == NULL) return 0;
    for (int i = 0; i < count; i++) {
        void *found = dlsym(library, functions[i]);
        if (found == NULL) {
            snprintf(why, size, "%s has no %s", title, functions[i]);
            return 0;
        }
        memcpy((char *)table + (size_t)i * sizeof found, &found, sizeof found);
    }
    return 1;
}
