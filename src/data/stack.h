#pragma once
#include "../../kernels/ops.h"
#include "../mpi/comm.h"
#include "../whitening.h"
#include "../status.h"

/** The particle stack (docs/formats.md): stack.h5 with
 *    /images (N,D,D) float32 or float16, contiguous, real space, particles dark (density positive under
 *            METHOD 2's CTF)
 *    /ctf    (N,7) float32: het_ctf_row
 *    /source/file (strings), /source/row (N,2) int64: file, 0-based row, where known
 *    /source/shift (N,2) float32 px: what recentring took out, where it was done
 *    /truth/{rotation (N,3,3), shift (N,2) px, class (N) int64, z (N)} where known
 *    /moments (N,2) float64: mean and sum of squared deviations of each image, as stored
 *  and attributes version, apix, box, sign, mean, std, shift_range, source_box where there is a /source, and whitening (17) float64 where images
 *  are whitened (whitening.h).
 *  Wherever a stack is read, its name may be that of a list of stacks: a text file NAME.txt with one name a line,
 *  relative to its folder (blank lines and those that begin with # do not count). Their images follow one another, and
 *  all is as if they were in one file, to the bit where every file has /moments. Of many files few are open at a time.
 *  Tests: test_stack.c, mpi_stack.c, cli_list.sh */

typedef struct het_stack_info {
    int64_t count, box;
    double apix;        /* A per pixel */
    het_dtype type;     /* HET_F32 or HET_F16 on disk */
    int sign;           /* factor that was applied to the source's pixels: +1 or -1 */
    double mean, std;   /* over all pixels as stored */
    het_whitening whitening; /* of the images as stored */
    double shift_range; /* px: largest |shift| expected (simulate knows it; import: 0.05 box unless given) */
    int has_truth, has_source;
    int recentred; /* the particles were moved to the centre: /source/shift */
    int64_t source_box; /* side of the images in the source, px; 0: not known. Of the first file of a list */
    int64_t files; /* 1, or as many as a list names; set when read */
} het_stack_info;

typedef struct het_stack_truth { /* any pointer may be NULL; rows of the range written or read */
    float *rotation; /* (n,9) */
    float *shift;    /* (n,2) px */
    int64_t *klass;  /* (n) */
    float *z;        /* (n) continuous coordinate of the conformation (angle in rad, or the class number) */
} het_stack_truth;

typedef struct het_stack het_stack;
typedef struct het_stack_writer het_stack_writer;

/** Create path.tmp for parallel writing. Collective. info->mean/std/sign may still be unknown: they are set
 *  at close. */
het_status het_stack_create(het_stack_writer **writer, het_comm *comm, const char *path,
                            const het_stack_info *info);
/** Write images [first, first+count) with their CTF rows and truth (NULL: none), converting to the stack's
 *  type. Collective: all ranks call it equally often; count may be 0. Errors, the same on every rank:
 *  HET_E_INPUT naming an image with a NaN, infinite or (float16) too large pixel; HET_E_IO. */
het_status het_stack_write(het_stack_writer *writer, int64_t first, int64_t count, const float *images,
                           const het_ctf_row *ctf, const het_stack_truth *truth);
/** Say where the images came from: `files` (file_count names) and, for images [first, first+count), rows
 *  (count,2). Collective; once at most per range. */
het_status het_stack_write_source(het_stack_writer *writer, int64_t file_count, const char *const *files,
                                  int64_t first, int64_t count, const int64_t *rows);
/** Say by how much the particles of images [first, first+count) were off centre in the source: moved
 *  (count,2), px of the stack, is t (METHOD 2) there minus t in the stored image. Only where info->recentred
 *  was set. Collective; once at most per range. */
het_status het_stack_write_moved(het_stack_writer *writer, int64_t first, int64_t count, const float *moved);
/** Finish: attributes mean, std (of what all ranks wrote, as stored) and sign; fsync; rename to the final
 *  name. When any rank's status is a failure, an earlier write failed, or images are missing (HET_E_SHAPE),
 *  the .tmp is removed instead and that status returned on every rank. Collective; frees the writer (NULL:
 *  returns `mine`). */
het_status het_stack_finish(het_stack_writer *writer, int sign, het_status mine);

/** Open for reading; not collective. The headers of all files are read; images, CTF rows, truth and sources when they are
 *  asked for. Errors: HET_E_IO, HET_E_INPUT, also when files of a list differ in box or pixel size. */
het_status het_stack_open(het_stack **stack, const char *path);
/** The same for all ranks: rank 0 reads the headers and tells the others. Collective. */
het_status het_stack_open_together(het_stack **stack, het_comm *comm, const char *path);
void het_stack_close(het_stack *stack);
const het_stack_info *het_stack_get_info(const het_stack *stack);
/** Read n images by index (any order, 0 <= index < count) as float32 (n,D,D), stored values; thread-safe
 *  (pread at the data set's offset). Errors: HET_E_INPUT naming the first image with a NaN or infinite pixel,
 *  or a file that is not as it was when the stack was opened; HET_E_IO. */
het_status het_stack_read(const het_stack *stack, float *images, const int64_t *index, int64_t n);
/** The same, standardised: (stored - mean)/std. */
het_status het_stack_read_standardised(const het_stack *stack, float *images, const int64_t *index,
                                       int64_t n);
/** Read the CTF rows of n images by index; thread-safe. Errors: as above; HET_E_INPUT naming an image whose row is not
 *  finite. */
het_status het_stack_read_ctf(const het_stack *stack, het_ctf_row *rows, const int64_t *index, int64_t n);
/** Read the truth of images [first, first+count) into the non-NULL arrays. Errors: HET_E_INPUT when there is
 *  none. */
het_status het_stack_read_truth(const het_stack *stack, int64_t first, int64_t count,
                                const het_stack_truth *truth);
/** Source of image i: file name (borrowed) and 0-based row; HET_E_INPUT when unknown. One thread at a time, as for the
 *  truth. */
het_status het_stack_source(const het_stack *stack, int64_t i, const char **file, int64_t *row);
/** Side in px of the images that image i came from; 0: not known, in stacks of earlier versions. */
int64_t het_stack_source_box(const het_stack *stack, int64_t i);
/** Whether `path` is one of the files that the stack is made of: not to be written over. */
int het_stack_is_in(const het_stack *stack, const char *path);
/** By how much the particle of image i was off centre in the source, px of the stack; 0 without
 *  recentring. */
het_status het_stack_moved(const het_stack *stack, int64_t i, double moved[2]);
