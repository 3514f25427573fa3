#pragma once
#include <stdint.h>

#include "../status.h"

/** A grey picture, pixels (height,width), row 0 on top: PNG of 8 bits a pixel. Errors: HET_E_IO, HET_E_MEMORY.
 *  Test: tests/cli_analyze.sh */
het_status het_png_write(const char *path, const uint8_t *pixels, int64_t width, int64_t height);
