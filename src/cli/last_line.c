#include "last_line.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

void het_last_line(const char *path, char *line, size_t size)
{
    *line = '\0';
    FILE *file = fopen(path, "r");
    if (file == NULL) return;
    char *text = NULL;
    size_t room = 0;
    if (fseek(file, -(long)(8 * size), SEEK_END) != 0) rewind(file); /* a short file */
    while (getline(&text, &room, file) > 0) {
        const size_t length = strlen(text);
        if (*text == '{' && text[length - 1] == '\n' && length < size) strcpy(line, text);
    }
    free(text);
    fclose(file);
}
