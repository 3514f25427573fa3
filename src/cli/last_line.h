#pragma once
#include <stddef.h>

/** The last whole line of a file of JSON lines that begins with '{' and fits, or "" when there is none. */
void het_last_line(const char *path, char *line, size_t size);
