#define _GNU_SOURCE
#include "run_stage.h"

#include <dirent.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>
#include <xxhash.h>

#include "arena.h"
#include "log.h"
#include "run.h"

/* All of a piece on the host, in memory of its own: first the model's blocks, then Adam's step counts, then the fields. */
enum { FIELDS = 20 };

typedef struct piece {
    het_field field[FIELDS];
    int blocks, count;
} piece;

static void piece_free(piece *p)
{
    for (int i = 0; i < p->count; i++) het_release(p->field[i].tensor.data);
}

static het_status piece_new(piece *p, const het_stage *s)
{
    *p = (piece){0};
    if (s->model != NULL) {
        p->blocks = het_run_blocks(s->model, p->field);
        p->field[p->blocks] = (het_field){"optimiser/steps", {NULL, HET_I64, 1, {2}}};
        p->count = p->blocks + 1;
    }
    HET_ASSERT(p->count + s->count <= FIELDS);
    for (int i = 0; i < s->count; i++) p->field[p->count++] = s->field[i];
    int complete = 1;
    for (int i = 0; i < p->count; i++) {
        het_tensor *t = &p->field[i].tensor;
        t->data = het_alloc((size_t)het_tensor_bytes(t));
        complete &= t->data != NULL;
    }
    return complete ? HET_OK : het_fail(HET_E_MEMORY, "no memory for what is kept of %s", s->name);
}

static void path_of(char *path, size_t size, const het_stage *s)
{
    snprintf(path, size, "%s/stages/%s.h5", s->folder, s->name);
}

/* Whether a file is there, and of this piece. Root rank. */
static int is_there(const het_stage *s)
{
    char path[1200];
    char *there = NULL;
    path_of(path, sizeof path, s);
    if (access(path, R_OK) != 0) return 0;
    const het_status status = het_checkpoint_json(path, &there);
    const int same = status == HET_OK && strcmp(there, s->about) == 0;
    if (status != HET_OK) het_warn("%s; it is done again", het_status_message());
    free(there);
    return same;
}

/* Root rank. */
static int load(const het_stage *s, const piece *p)
{
    char path[1200];
    path_of(path, sizeof path, s);
    if (het_checkpoint_load(path, p->field, p->count) == HET_OK) return 1;
    het_warn("%s; it is done again", het_status_message());
    return 0;
}

static size_t bytes_of(const piece *p, int i)
{
    return (size_t)het_tensor_bytes(&p->field[i].tensor);
}

static void hand_out(const piece *p, const het_stage *s)
{
    het_model *m = s->model;
    if (m != NULL) {
        het_field block[HET_RUN_BLOCKS];
        het_run_blocks(m, block);
        for (int i = 0; i < p->blocks; i++) m->dev->ops->upload(m->dev, block[i].tensor.data, p->field[i].tensor.data, bytes_of(p, i));
        het_decoder_load(m->decoder, m->params);
        memcpy(m->adam_steps, p->field[p->blocks].tensor.data, sizeof m->adam_steps);
    }
    for (int i = p->count - s->count, j = 0; j < s->count; i++, j++)
        memcpy(s->field[j].tensor.data, p->field[i].tensor.data, bytes_of(p, i));
}

static void take_in(const piece *p, const het_stage *s)
{
    const het_model *m = s->model;
    if (m != NULL) {
        het_field block[HET_RUN_BLOCKS];
        het_run_blocks(m, block);
        for (int i = 0; i < p->blocks; i++)
            m->dev->ops->download(m->dev, p->field[i].tensor.data, block[i].tensor.data, bytes_of(p, i));
        memcpy(p->field[p->blocks].tensor.data, m->adam_steps, sizeof m->adam_steps);
    }
    for (int i = p->count - s->count, j = 0; j < s->count; i++, j++)
        memcpy(p->field[i].tensor.data, s->field[j].tensor.data, bytes_of(p, i));
}

het_status het_stage_recall(const het_stage *s, int *there)
{
    het_status status = HET_OK;
    piece p = {0};
    const int root = het_comm_rank(s->comm) == 0;
    int64_t found = root && is_there(s);
    *there = 0;
    HET_TRY(het_comm_sum_i64(s->comm, &found, 1));
    if (found == 0) goto done;
    HET_TRY(het_comm_agree(s->comm, piece_new(&p, s)));
    found = root && load(s, &p);
    HET_TRY(het_comm_sum_i64(s->comm, &found, 1));
    if (found == 0) goto done;
    for (int i = 0; i < p.count; i++) HET_TRY(het_comm_broadcast(s->comm, p.field[i].tensor.data, bytes_of(&p, i), 0));
    hand_out(&p, s);
    *there = 1;
    het_info("going on from %s/stages/%s.h5", s->folder, s->name);
done:
    piece_free(&p);
    return status;
}

void het_stage_keep(const het_stage *s)
{
    char path[1200];
    piece p;
    if (het_comm_rank(s->comm) != 0) return;
    het_status status = piece_new(&p, s);
    if (status == HET_OK) {
        take_in(&p, s);
        snprintf(path, sizeof path, "%s/stages", s->folder);
        mkdir(path, 0777); /* what fails here fails at the file */
        path_of(path, sizeof path, s);
        status = het_checkpoint_save(path, p.field, p.count, s->about);
    }
    if (status != HET_OK) het_warn("%s; after a stop this piece of work is done again", het_status_message());
    piece_free(&p);
}

void het_stage_forget(const het_comm *comm, const char *folder)
{
    char path[1200];
    const struct dirent *item;
    if (het_comm_rank(comm) != 0) return;
    snprintf(path, sizeof path, "%s/stages", folder);
    DIR *stages = opendir(path);
    if (stages == NULL) return;
    while ((item = readdir(stages)) != NULL)
        if (strstr(item->d_name, ".h5") != NULL) unlinkat(dirfd(stages), item->d_name, 0);
    closedir(stages);
    rmdir(path);
}

uint64_t het_stage_bytes(const void *data, size_t bytes)
{
    return XXH3_64bits(data, bytes);
}

uint64_t het_stage_file(const char *path)
{
    char text[65536];
    FILE *file = fopen(path, "r");
    if (file == NULL) return 0;
    const size_t length = fread(text, 1, sizeof text, file);
    fclose(file);
    return het_stage_bytes(text, length);
}
