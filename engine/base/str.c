#include "engine/base/str.h"

#include <stdint.h>
#include <stdlib.h>

bool str_starts_with(struct str s, struct str prefix)
{
    return s.size >= prefix.size &&
           (prefix.size == 0 || memcmp(s.data, prefix.data, prefix.size) == 0);
}

bool str_contains(struct str s, struct str part)
{
    if (part.size == 0) {
        return true;
    }
    return s.size >= part.size && memmem(s.data, s.size, part.data, part.size) != NULL;
}

char *str_dup(struct str s)
{
    if (s.size == SIZE_MAX) {
        return NULL;
    }
    char *copy = malloc(s.size + 1);
    if (copy == NULL) {
        return NULL;
    }
    if (s.size > 0) {
        memcpy(copy, s.data, s.size);
    }
    copy[s.size] = '\0';
    return copy;
}
