#include "png_write.h"

#include <stdio.h>
#include <string.h>
#include <zlib.h>

#include "../arena.h"
#include "out_file.h"

static void big_endian(uint8_t to[4], uint32_t value)
{
    for (int i = 0; i < 4; i++) to[i] = (uint8_t)(value >> (24 - 8 * i));
}

/* Length, name, bytes, and the checksum of the last two. */
static void put_chunk(FILE *file, const char *name, const uint8_t *bytes, size_t size)
{
    uint8_t word[4];
    const uLong named = crc32(0, (const Bytef *)name, 4);
    big_endian(word, (uint32_t)size);
    fwrite(word, 1, 4, file);
    fwrite(name, 1, 4, file);
    fwrite(bytes, 1, size, file);
    big_endian(word, (uint32_t)(size > 0 ? crc32(named, bytes, (uInt)size) : named)); /* zlib's begins anew at no bytes */
    fwrite(word, 1, 4, file);
}

het_status het_png_write(const char *path, const uint8_t *pixels, int64_t width, int64_t height)
{
    het_status status = HET_OK;
    const uLong raw = (uLong)(height * (width + 1));
    uLongf packed = compressBound(raw);
    uint8_t *rows = het_alloc(raw), *out = het_alloc(packed); /* a row begins with 0: no filter */
    FILE *file = NULL;
    if (rows == NULL || out == NULL) HET_TRY(het_fail(HET_E_MEMORY, "no memory for %s", path));
    for (int64_t y = 0; y < height; y++) memcpy(rows + y * (width + 1) + 1, pixels + y * width, (size_t)width);
    if (compress(out, &packed, rows, raw) != Z_OK) HET_TRY(het_fail(HET_E_MEMORY, "no memory for %s", path));
    HET_TRY(het_out_open(&file, path));
    uint8_t header[13] = {[8] = 8}; /* bits a pixel; grey, deflate, no filter, not interlaced are 0 */
    big_endian(header, (uint32_t)width);
    big_endian(header + 4, (uint32_t)height);
    fwrite("\x89PNG\r\n\x1a\n", 1, 8, file);
    put_chunk(file, "IHDR", header, sizeof header);
    put_chunk(file, "IDAT", out, packed);
    put_chunk(file, "IEND", out, 0);
    status = het_out_close(file, path);
done:
    het_release(rows);
    het_release(out);
    return status;
}
