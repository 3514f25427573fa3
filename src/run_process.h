#pragma once
#include <jansson.h>
#include <stddef.h>

/** Who runs a training, as state.json and holder.json say it (docs/formats.md). */

/** Put this process into an object: host, machine, pid, born, ranks, job, restart. */
void het_process_put(json_t *object, int ranks);
/** Whether the object is of a process of this machine: of the same boot and PID namespace. */
int het_process_is_here(const json_t *object);
/** Whether that process is known to be gone; of another machine nothing is known. A number that was given to another process since
 *  then is told apart by `born`. */
int het_process_is_gone(const json_t *object);
/** "host H, process P, N rank(s), Slurm job J"; "" where no host is named. */
void het_process_words(const json_t *object, char *text, size_t size);
