#include "index.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <zlib.h>

#include "../arena.h"

/* Mark the numbers of one line in `seen` (limit entries): a bitmap of the images gives order and duplicates
 * at once. */
static het_status mark_line(uint8_t *seen, int64_t limit, char *text, const char *path, int64_t line,
                            int64_t *count)
{
    text[strcspn(text, "#")] = '\0';
    for (char *at = text, *end;; at = end) {
        at += strspn(at, " \t\r\n,");
        if (*at == '\0') return HET_OK;
        errno = 0;
        const long long value = strtoll(at, &end, 10);
        if (end == at || (*end != '\0' && strchr(" \t\r\n,", *end) == NULL) || errno != 0)
            return het_fail(HET_E_INPUT, "%s: line %lld: '%.*s' is no image number", path, (long long)line,
                            (int)strcspn(at, " \t\r\n,"), at);
        if (value < 0 || value >= limit)
            return het_fail(HET_E_INPUT,
                            "%s: line %lld: image %lld is outside 0 .. %lld (numbers start at 0)", path,
                            (long long)line, value, (long long)limit - 1);
        if (seen[value])
            return het_fail(HET_E_INPUT, "%s: line %lld: image %lld stands twice", path, (long long)line,
                            value);
        seen[value] = 1;
        ++*count;
    }
}

het_status het_index_load(int64_t **index, int64_t *count, const char *path, int64_t limit)
{
    het_status status = HET_OK;
    char text[1 << 16];
    struct stat about;
    uint8_t *seen = NULL;
    *index = NULL;
    *count = 0;
    gzFile file = gzopen(path, "rb");
    if (file == NULL) return het_fail(HET_E_IO, "%s: cannot open: %s", path, strerror(errno));
    if (stat(path, &about) == 0 && S_ISDIR(about.st_mode))
        HET_TRY(het_fail(HET_E_INPUT, "%s: not a file but a folder", path));
    seen = het_alloc((size_t)limit);
    if (seen == NULL) HET_TRY(het_fail(HET_E_MEMORY, "%s: no memory for %lld marks", path, (long long)limit));
    for (int64_t line = 1; gzgets(file, text, sizeof text) != NULL; line++) {
        if (strlen(text) == sizeof text - 1)
            HET_TRY(het_fail(HET_E_INPUT, "%s: line %lld is longer than 65534 characters: break it up", path,
                             (long long)line));
        HET_TRY(mark_line(seen, limit, text, path, line, count));
    }
    if (!gzeof(file)) HET_TRY(het_fail(HET_E_INPUT, "%s: cannot be unpacked or read: damaged", path));
    if (*count == 0) HET_TRY(het_fail(HET_E_INPUT, "%s: holds no image numbers", path));
    *index = het_alloc((size_t)*count * sizeof **index);
    if (*index == NULL) HET_TRY(het_fail(HET_E_MEMORY, "%s: no memory", path));
    for (int64_t i = 0, n = 0; i < limit; i++)
        if (seen[i]) (*index)[n++] = i;
done:
    het_release(seen);
    gzclose(file);
    return status;
}
