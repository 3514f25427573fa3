#pragma once
#include <stdint.h>

/** A test double of the type alone. */
struct __nv_bfloat16 {
    uint16_t bits;
};
