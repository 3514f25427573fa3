#pragma once
#include <stddef.h>

/** Libraries of NVIDIA's that are loaded at run time, so that the plugin builds and starts without them. They stay loaded:
 *  they keep state of the process.
 *
 *  Open the one that the environment's `variable` names (NULL: none does), else the first of `names` (the last one is NULL), and
 *  find its functions: `table` is a struct of `count` function pointers in the order of `functions`. Returns 1, or 0
 *  with the reason in `why`, which begins with `title`. */
int het_cuda_library(const char *title, const char *variable, const char *const *names, const char *const *functions,
                     int count, void *table, char *why, size_t size);

/* For lists X(result, name, arguments) of a library's functions: the table's members, and their names with a prefix. */
#define HET_CALL_MEMBER(result, name, arguments) result(*name) arguments;
#define HET_CALL_COUNT(result, name, arguments) +1
