#include "open_files.h"

#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <string.h>
#include <unistd.h>

#include "../arena.h"

typedef struct open_file {
    int64_t key;
    int fd;         /* -1: free */
    int readers;    /* at this moment: it stays open */
    int64_t used;   /* when, in calls */
} open_file;

struct het_open_files {
    pthread_mutex_t lock;
    open_file file[HET_FILES_OPEN];
    int64_t calls;
};

int het_file_is_same(const char *a, const char *b)
{
    struct stat first, second;
    return stat(a, &first) == 0 && stat(b, &second) == 0 && first.st_dev == second.st_dev && first.st_ino == second.st_ino;
}

het_file_mark het_file_mark_of(const struct stat *about)
{
    return (het_file_mark){about->st_size, (int64_t)about->st_mtim.tv_sec * 1000000000 + about->st_mtim.tv_nsec};
}

het_open_files *het_open_files_new(void)
{
    het_open_files *files = het_alloc(sizeof *files);
    if (files == NULL) return NULL;
    pthread_mutex_init(&files->lock, NULL);
    for (int i = 0; i < HET_FILES_OPEN; i++) files->file[i].fd = -1;
    return files;
}

void het_open_files_free(het_open_files *files)
{
    if (files == NULL) return;
    for (int i = 0; i < HET_FILES_OPEN; i++)
        if (files->file[i].fd >= 0) close(files->file[i].fd);
    pthread_mutex_destroy(&files->lock);
    het_release(files);
}

/* The file's place, or one that is free or was not used for the longest time. With the lock held. */
static open_file *place_of(het_open_files *files, int64_t key)
{
    open_file *best = NULL;
    for (int i = 0; i < HET_FILES_OPEN; i++) {
        open_file *f = &files->file[i];
        if (f->fd >= 0 && f->key == key) return f;
        if (f->readers > 0) continue;
        if (best == NULL || (best->fd >= 0 && (f->fd < 0 || f->used < best->used))) best = f;
    }
    HET_ASSERT(best != NULL); /* there are fewer threads than places */
    return best;
}

static het_status take(het_open_files *files, int64_t key, const char *path, open_file **out)
{
    het_status status = HET_OK;
    pthread_mutex_lock(&files->lock);
    open_file *f = place_of(files, key);
    if (f->fd < 0 || f->key != key) {
        if (f->fd >= 0) close(f->fd);
        f->key = key;
        f->fd = open(path, O_RDONLY | O_CLOEXEC);
        if (f->fd < 0) status = het_fail(HET_E_IO, "%s: cannot open it any more: %s", path, strerror(errno));
    }
    if (status == HET_OK) {
        f->readers++;
        f->used = files->calls++;
        *out = f;
    }
    pthread_mutex_unlock(&files->lock);
    return status;
}

static void give_back(het_open_files *files, open_file *f)
{
    pthread_mutex_lock(&files->lock);
    f->readers--;
    pthread_mutex_unlock(&files->lock);
}

static het_status read_all(int fd, const char *path, char *to, int64_t bytes, int64_t offset)
{
    while (bytes > 0) {
        const ssize_t got = pread(fd, to, (size_t)bytes, (off_t)offset);
        if (got < 0 && errno == EINTR) continue;
        if (got < 0) return het_fail(HET_E_IO, "%s: cannot read it: %s", path, strerror(errno));
        if (got == 0) return het_fail(HET_E_IO, "%s: the file has become shorter while it was read", path);
        to += got;
        offset += got;
        bytes -= got;
    }
    return HET_OK;
}

het_status het_open_files_read(het_open_files *files, int64_t key, const char *path, const het_file_mark *mark, void *data,
                               int64_t bytes, int64_t offset)
{
    open_file *f;
    struct stat about;
    het_status status = take(files, key, path, &f);
    if (status != HET_OK) return status;
    if (fstat(f->fd, &about) != 0) status = het_fail(HET_E_IO, "%s: cannot read it: %s", path, strerror(errno));
    const het_file_mark now = het_file_mark_of(&about);
    if (status == HET_OK && (now.size != mark->size || now.time != mark->time))
        status = het_fail(HET_E_INPUT,
                          "%s: the file was changed since this program began with it (%lld bytes then, %lld now): nothing "
                          "read from it can be trusted; bring it back and run again",
                          path, (long long)mark->size, (long long)now.size);
    if (status == HET_OK) status = read_all(f->fd, path, data, bytes, offset);
    give_back(files, f);
    return status;
}
