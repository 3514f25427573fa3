#pragma once
#include <stdint.h>

#include "../status.h"
#include "../tensor.h"

/** MRC2014/CCP4 files: particle stacks and maps (Cheng et al. 2015, J. Struct. Biol. 192, 146; the format's
 *  page at CCP-EM).
 *
 *  Read: modes 0 (int8; unsigned where IMOD's stamp says so), 1 (int16), 2 (float32), 6 (uint16), 12
 *  (float16), in either byte order, extended headers, any axis order for volumes, gzip'ed files (held in
 *  memory while open). The MAP field is not required: older programs leave it empty or write others ("STK ");
 *  sizes that fit the file decide. Sizes are checked against the file before anything is allocated or read. A
 *  file longer than its header says is accepted (info.extra; het_mrc_load_volume warns); one that is shorter
 *  is refused. Written: modes 2 and 12, little endian, to PATH.tmp, then renamed.
 *  Tests: tests/test_mrc.c */

typedef enum het_mrc_kind { HET_MRC_IMAGES, HET_MRC_VOLUME, HET_MRC_VOLUMES } het_mrc_kind;

typedef struct het_mrc_info {
    int64_t nx, ny, nz; /* columns, rows and sections as stored */
    int64_t size[3];    /* of one volume along x, y, z, whatever the order in the file */
    int64_t volumes;    /* nz / mz for space group 401 and above, else 1 */
    int axis[3];        /* which of x, y, z (0, 1, 2) columns, rows and sections run along */
    int mode;           /* 0, 1, 2, 6, 12 */
    int big_endian;
    int space_group;
    het_mrc_kind kind;   /* what header and file name suggest; any file may be read as either */
    double apix[3];      /* A per pixel along x, y, z; 0 where the header gives none */
    int64_t data_offset; /* bytes before the first pixel */
    int extra;           /* the file is longer than its header says */
} het_mrc_info;

typedef struct het_mrc het_mrc;

/** Open and check the header. Errors: HET_E_IO (cannot be opened or read), HET_E_INPUT (not MRC, a mode that
 *  holds no images, sizes that do not fit the file). */
het_status het_mrc_open(het_mrc **mrc, const char *path);
/** Accepts NULL. */
void het_mrc_close(het_mrc *mrc);
const het_mrc_info *het_mrc_get_info(const het_mrc *mrc);

/** images (count, ny, nx) = sections first .. first+count-1, in one sequential read. Thread-safe.
 *  Errors: HET_E_INPUT (range outside the file; axis order other than x, y, z), HET_E_IO. */
het_status het_mrc_read(const het_mrc *mrc, float *images, int64_t first, int64_t count);
/** The same for a list of sections in any order; runs of consecutive ones are read at once. */
het_status het_mrc_read_list(const het_mrc *mrc, float *images, const int64_t *index, int64_t count);
/** volume (size[2], size[1], size[0]) = [z][y][x] of volume number `which` (0: the first), axes permuted to
 *  x, y, z. */
het_status het_mrc_read_volume(const het_mrc *mrc, float *volume, int64_t which);

/** Open, read and close a map of one volume; *volume is [z][y][x], free it with het_release(). */
het_status het_mrc_load_volume(const char *path, float **volume, het_mrc_info *info);
/** Write volume (size[2], size[1], size[0]) as mode 2 with `apix` A per voxel. An older file of that name is
 *  replaced only by a complete new one. Errors: HET_E_IO. */
het_status het_mrc_write_volume(const char *path, const float *volume, const int64_t size[3], double apix);

/** A stack of images written piece by piece: float32 (mode 2) or float16 (mode 12). */
typedef struct het_mrc_writer het_mrc_writer;
/** type HET_F32 or HET_F16; `count` images of ny x nx. Errors: HET_E_IO, HET_E_SHAPE. */
het_status het_mrc_create(het_mrc_writer **writer, const char *path, het_dtype type, int64_t nx, int64_t ny,
                          int64_t count, double apix);
/** Append images (count, ny, nx). */
het_status het_mrc_append(het_mrc_writer *writer, const float *images, int64_t count);
/** Check that all images came, write the header's statistics, rename to the final name; on failure, or when
 *  `mine` is one, the .tmp is removed. Frees the writer (NULL is accepted). Returns `mine` when that is a
 *  failure. */
het_status het_mrc_finish(het_mrc_writer *writer, het_status mine);
