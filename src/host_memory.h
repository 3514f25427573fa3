#pragma once
#include <stdint.h>

/** Bytes that this process may still take on this machine: what the kernel says is available (/proc/meminfo), what is
 *  left to its control groups (v2 or v1; file cache that can go is not counted as used), and what is left of `ulimit -v`,
 *  whichever is least. INT64_MAX where none of them says anything.
 *  root  [in] "" for this machine; tests give a folder that holds proc/ and sys/
 *  Test: tests/test_host_memory.c */
int64_t het_host_memory(const char *root);
