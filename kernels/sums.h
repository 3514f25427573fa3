#pragma once
#include "device.h"

/** Sums over ranks on their devices, without the host: what het_ops.sums offers (NULL: nothing). One rank for each device.
 *  Used by src/train_sums.c, which takes another way where any of it fails. */

typedef struct het_sum het_sum; /* a group of ranks that has found together */

/** Two ranks with the same device, or with libraries of different versions, cannot add up so. */
typedef struct het_sum_place {
    uint8_t device[16]; /* its name in the world */
    int32_t version;    /* of the library, as it counts itself */
} het_sum_place;

/** A name of a group to be; made by one rank, used by all. */
typedef struct het_sum_name {
    char bytes[128];
} het_sum_name;

typedef struct het_sum_ops {
    const char *library;
    /* HET_E_DEVICE in words where the library is missing or too old. */
    het_status (*find)(het_device *dev, het_sum_place *place);
    het_status (*name)(het_device *dev, het_sum_name *name);
    /* Collective: within so many seconds, or HET_E_DEVICE. */
    het_status (*join)(het_device *dev, het_sum **sum, const het_sum_name *name, int rank, int ranks, double seconds);
    /* `together`: all ranks do, and no sum is under way. Otherwise it waits for nobody, and the others' sums may fail. */
    void (*leave)(het_sum *sum, int together);
    /* data (n), on the device = its sum over the ranks, in place: of what it holds when all that was put on the device so far is
       done, while what comes later goes on beside. All ranks start the same sums in the same order. */
    het_status (*start)(het_sum *sum, float *data, int64_t n);
    /* *done: all started sums are there, for whatever is put on the device from now on. HET_E_PEER in words where the library
       has found that a rank or the way to it is gone. */
    het_status (*poll)(het_sum *sum, int *done);
} het_sum_ops;
