#pragma once
#include <stdio.h>
#include <string.h>

#include "../src/mpi/comm.h"

/* For the programs mpi_*.c, which run under mpirun: a check that fails ends all ranks at once. */
#define CHECK(comm, condition)                                                                              \
    do {                                                                                                    \
        if (!(condition)) {                                                                                 \
            fprintf(stderr, "%s:%d: rank %d: %s does not hold (\"%s\")\n", __FILE__, __LINE__,              \
                    het_comm_rank(comm), #condition, het_status_message());                                 \
            het_comm_abort(comm, 1);                                                                        \
        }                                                                                                   \
    } while (0)
#define CHECK_OK(comm, expression) CHECK(comm, (expression) == HET_OK)
#define CHECK_MESSAGE(comm, part) CHECK(comm, strstr(het_status_message(), part) != NULL)
