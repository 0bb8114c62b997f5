/* A borrowed run of bytes: not NUL-terminated, may hold any byte. Lives as long as what it points
 * into. */
#ifndef PHID_BASE_STR_H
#define PHID_BASE_STR_H

#include <stdbool.h>
#include <stddef.h>
#include <string.h>

struct str {
    const char *data;
    size_t size;
};

#define STR(literal) ((struct str){.data = (literal), .size = sizeof(literal) - 1})

static inline struct str str_of(const char *c_string)
{
    return (struct str){.data = c_string, .size = strlen(c_string)};
}

static inline bool str_equal(struct str a, struct str b)
{
    return a.size == b.size && (a.size == 0 || memcmp(a.data, b.data, a.size) == 0);
}

static inline bool str_equal_c(struct str a, const char *c_string)
{
    return str_equal(a, str_of(c_string));
}

bool str_starts_with(struct str s, struct str prefix);
bool str_contains(struct str s, struct str part);

/* A heap copy with a NUL behind it; NULL when out of memory. Free with free(). */
char *str_dup(struct str s);

#endif
