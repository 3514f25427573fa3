#pragma once
#include <stddef.h>

/** Memory that the host may touch only between het_guard_open and het_guard_close: any other access is a segmentation
 *  fault, as it would be with a GPU's memory. For test devices; not thread-safe. */

#ifdef __cplusplus
extern "C" {
#endif
/** Zeroed, 64-byte aligned; writing beyond its end stops the program. NULL where there is none. */
void *het_guard_alloc(size_t bytes);
void het_guard_release(void *memory);
/** These nest. */
void het_guard_open(void);
void het_guard_close(void);
#ifdef __cplusplus
}
#endif
