#include "engine/text/space.h"

#include "engine/base/utf8.h"

bool space_is(uint32_t c)
{
    if (c < 0x80) {
        return c == ' ' || (c >= '\t' && c <= '\r');
    }
    return c == 0x85 || c == 0xA0 || c == 0x1680 || (c >= 0x2000 && c <= 0x200A) || c == 0x2028 ||
           c == 0x2029 || c == 0x202F || c == 0x205F || c == 0x3000;
}

static struct str from(struct str s, size_t start)
{
    return (struct str){.data = s.data + start, .size = s.size - start};
}

size_t space_prefix(struct str s)
{
    size_t size = 0;
    while (size < s.size) {
        uint32_t c = 0;
        size_t n = utf8_decode(from(s, size), &c);
        if (n == 0 || !space_is(c)) {
            break;
        }
        size += n;
    }
    return size;
}

static bool strips(uint32_t c)
{
    return space_is(c) || (c >= 0x1C && c <= 0x1F);
}

struct str space_strip(struct str s)
{
    uint32_t c = 0;
    size_t n = 0;
    while ((n = utf8_decode(s, &c)) > 0 && strips(c)) {
        s = from(s, n);
    }
    while (s.size > 0) {
        size_t start = s.size - 1;
        while (start > 0 && s.size - start < 4 && ((unsigned char)s.data[start] & 0xC0) == 0x80) {
            start--;
        }
        if (utf8_decode(from(s, start), &c) != s.size - start || !strips(c)) {
            break;
        }
        s.size = start;
    }
    return s;
}
