#include "image_files.h"

#include <errno.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include <xxhash.h>

#include "../arena.h"

struct het_image_files {
    const char *table, *datadir;
    char folder[PATH_MAX]; /* absolute folder of the table */
    char **name, **path;   /* (room) as in the table; as found */
    int32_t *slot;         /* (2 room) open addressing by the name's hash: number + 1, 0 empty */
    int64_t count, room;
    int32_t last;
};

het_status het_image_files_new(het_image_files **files, const char *table, const char *datadir)
{
    *files = het_alloc(sizeof **files);
    if (*files == NULL) return het_fail(HET_E_MEMORY, "%s: no memory", table);
    (*files)->table = table;
    (*files)->datadir = datadir;
    if (realpath(table, (*files)->folder) == NULL)
        return het_fail(HET_E_IO, "%s: cannot find its folder: %s", table, strerror(errno));
    *strrchr((*files)->folder, '/') = '\0';
    return HET_OK;
}

void het_image_files_free(het_image_files *files)
{
    if (files == NULL) return;
    for (int64_t f = 0; f < files->count; f++) {
        het_release(files->name[f]);
        if (files->path != NULL) het_release(files->path[f]);
    }
    het_release(files->name);
    het_release(files->path);
    het_release(files->slot);
    het_release(files);
}

char **het_image_files_take(het_image_files *files, int64_t *count)
{
    char **path = files->path;
    *count = files->count;
    files->path = NULL;
    return path;
}

/* folder/name, when that is a readable file. */
static int try_path(char *path, const char *folder, const char *name)
{
    const int n = snprintf(path, PATH_MAX, "%s/%s", folder, name);
    return n < PATH_MAX && access(path, R_OK) == 0;
}

static int search(const het_image_files *files, const char *name, char *path)
{
    char folder[PATH_MAX];
    const char *slash = strrchr(name, '/'), *alone = slash == NULL ? name : slash + 1;
    if (files->datadir != NULL &&
        (try_path(path, files->datadir, name) || try_path(path, files->datadir, alone)))
        return 1;
    if (*name == '/' && snprintf(path, PATH_MAX, "%s", name) < PATH_MAX && access(path, R_OK) == 0) return 1;
    memcpy(folder, files->folder, sizeof folder);
    while (*name != '/') {
        if (try_path(path, folder, name)) return 1;
        if (*folder == '\0') break;
        *strrchr(folder, '/') = '\0';
    }
    if (try_path(path, files->folder, alone)) return 1;
    return *name != '/' && try_path(path, ".", name);
}

static int64_t slot_of(const het_image_files *files, const char *name)
{
    const int64_t mask = 2 * files->room - 1; /* room is a power of two */
    int64_t s = (int64_t)(XXH3_64bits(name, strlen(name)) & (uint64_t)mask);
    while (files->slot[s] != 0 && strcmp(files->name[files->slot[s] - 1], name) != 0) s = (s + 1) & mask;
    return s;
}

static het_status grow(het_image_files *files)
{
    const int64_t room = files->room == 0 ? 64 : 2 * files->room;
    char **name = het_alloc((size_t)room * sizeof *name), **path = het_alloc((size_t)room * sizeof *path);
    int32_t *slot = het_alloc((size_t)(2 * room) * sizeof *slot);
    if (name == NULL || path == NULL || slot == NULL || room > INT32_MAX / 4) {
        het_release(name);
        het_release(path);
        het_release(slot);
        return het_fail(HET_E_MEMORY, "%s: no memory for the names of image files", files->table);
    }
    if (files->count > 0) {
        memcpy(name, files->name, (size_t)files->count * sizeof *name);
        memcpy(path, files->path, (size_t)files->count * sizeof *path);
    }
    het_release(files->name);
    het_release(files->path);
    het_release(files->slot);
    files->name = name;
    files->path = path;
    files->slot = slot;
    files->room = room;
    for (int64_t f = 0; f < files->count; f++) slot[slot_of(files, name[f])] = (int32_t)f + 1;
    return HET_OK;
}

static char *copy_text(const char *text)
{
    char *copy = het_alloc(strlen(text) + 1);
    return copy == NULL ? NULL : memcpy(copy, text, strlen(text) + 1);
}

het_status het_image_files_find(het_image_files *files, const char *name, int64_t line, int32_t *number)
{
    char path[PATH_MAX];
    if (files->count > 0 &&
        strcmp(files->name[files->last], name) == 0) { /* neighbours mostly share a file */
        *number = files->last;
        return HET_OK;
    }
    if (files->count == files->room) {
        const het_status status = grow(files);
        if (status != HET_OK) return status;
    }
    const int64_t slot = slot_of(files, name);
    if (files->slot[slot] == 0) {
        if (!search(files, name, path)) {
            char place[40] = "";
            if (line > 0) snprintf(place, sizeof place, "line %lld: ", (long long)line);
            return het_fail(HET_E_INPUT,
                            "%s: %simage file '%.300s' is not there (looked under %s%s and its parents): say where with --datadir",
                            files->table, place, name, files->datadir == NULL ? "" : "--datadir, ", files->folder);
        }
        files->name[files->count] = copy_text(name);
        files->path[files->count] = copy_text(path);
        files->count++;
        if (files->name[files->count - 1] == NULL || files->path[files->count - 1] == NULL)
            return het_fail(HET_E_MEMORY, "%s: no memory for the names of image files", files->table);
        files->slot[slot] = (int32_t)files->count;
    }
    *number = files->last = files->slot[slot] - 1;
    return HET_OK;
}
