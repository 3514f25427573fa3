#pragma once
#include <stddef.h>

/** The part of NCCL's C interface (2.14 and later) that nccl.cu uses; tests/cuda_headers.cpp compares these lines with the real
 *  header where there is one. Handles and streams are void*, enumerations ints. */

enum { NC_SUCCESS = 0, NC_IN_PROGRESS = 7 };
enum { NC_FLOAT = 7, NC_SUM = 0 };

typedef struct nc_id {
    char bytes[128];
} nc_id;

/* As version 2.14 knows it, which later ones accept. */
typedef struct nc_config {
    size_t size;
    unsigned magic, version;
    int blocking;
} nc_config;
enum { NC_MAGIC = (int)0xcafebeef, NC_OLDEST = 21400 };

/* result, name, arguments */
#define NC_FUNCTIONS(X)                                                                                      \
    X(int, GetVersion, (int *version))                                                                       \
    X(int, GetUniqueId, (nc_id *id))                                                                         \
    X(int, CommInitRankConfig, (void **comm, int ranks, nc_id id, int rank, nc_config *config))              \
    X(int, CommGetAsyncError, (void *comm, int *state))                                                      \
    X(int, CommFinalize, (void *comm))                                                                       \
    X(int, CommDestroy, (void *comm))                                                                        \
    X(int, CommAbort, (void *comm))                                                                          \
    X(int, AllReduce, (const void *from, void *to, size_t count, int type, int operation, void *comm, void *stream)) \
    X(const char *, GetErrorString, (int result))                                                            \
    X(const char *, GetLastError, (void *comm))
