#include "engine/base/utf8.h"

/* The shape of a character by its first byte: length, and the range of the second byte, which is
 * what keeps overlong forms, surrogates and numbers above U+10FFFF out (RFC 3629, section 4).
 * Length 0: cannot start one. */
struct lead {
    size_t length;
    unsigned char second_min;
    unsigned char second_max;
};

static struct lead lead_of(unsigned char byte)
{
    if (byte < 0x80) {
        return (struct lead){1, 0, 0};
    }
    if (byte < 0xc2) {
        return (struct lead){0, 0, 0};
    }
    if (byte < 0xe0) {
        return (struct lead){2, 0x80, 0xbf};
    }
    if (byte < 0xf0) {
        return (struct lead){3, byte == 0xe0 ? 0xa0 : 0x80, byte == 0xed ? 0x9f : 0xbf};
    }
    if (byte < 0xf5) {
        return (struct lead){4, byte == 0xf0 ? 0x90 : 0x80, byte == 0xf4 ? 0x8f : 0xbf};
    }
    return (struct lead){0, 0, 0};
}

/* How many of the `length` bytes of the character are there and right, from the second on. */
static size_t valid_bytes(struct str s, struct lead lead)
{
    const unsigned char *bytes = (const unsigned char *)s.data;
    size_t n = 1;
    while (n < lead.length && n < s.size) {
        unsigned char min = n == 1 ? lead.second_min : 0x80;
        unsigned char max = n == 1 ? lead.second_max : 0xbf;
        if (bytes[n] < min || bytes[n] > max) {
            break;
        }
        n++;
    }
    return n;
}

size_t utf8_decode(struct str s, uint32_t *ret)
{
    if (s.size == 0) {
        return 0;
    }
    const unsigned char *bytes = (const unsigned char *)s.data;
    struct lead lead = lead_of(bytes[0]);
    if (lead.length == 0 || valid_bytes(s, lead) < lead.length) {
        return 0;
    }
    static const unsigned char lead_mask[UTF8_MAX_BYTES + 1] = {0, 0x7f, 0x1f, 0x0f, 0x07};
    uint32_t code_point = bytes[0] & lead_mask[lead.length];
    for (size_t i = 1; i < lead.length; i++) {
        code_point = code_point << 6 | (bytes[i] & 0x3fu);
    }
    *ret = code_point;
    return lead.length;
}

bool utf8_valid(struct str s)
{
    size_t i = 0;
    while (i < s.size) {
        /* Most text is ASCII: eight bytes at a time while none has its top bit set. */
        uint64_t word;
        if (s.size - i >= sizeof word) {
            memcpy(&word, s.data + i, sizeof word);
            if ((word & 0x8080808080808080u) == 0) {
                i += sizeof word;
                continue;
            }
        }
        uint32_t code_point;
        size_t length =
            utf8_decode((struct str){.data = s.data + i, .size = s.size - i}, &code_point);
        if (length == 0) {
            return false;
        }
        i += length;
    }
    return true;
}

size_t utf8_encode(uint32_t code_point, char *out)
{
    if (code_point < 0x80) {
        out[0] = (char)code_point;
        return 1;
    }
    if (code_point < 0x800) {
        out[0] = (char)(0xc0 | code_point >> 6);
        out[1] = (char)(0x80 | (code_point & 0x3f));
        return 2;
    }
    if (code_point < 0x10000) {
        if (code_point >= 0xd800 && code_point <= 0xdfff) {
            return 0;
        }
        out[0] = (char)(0xe0 | code_point >> 12);
        out[1] = (char)(0x80 | (code_point >> 6 & 0x3f));
        out[2] = (char)(0x80 | (code_point & 0x3f));
        return 3;
    }
    if (code_point > 0x10ffff) {
        return 0;
    }
    out[0] = (char)(0xf0 | code_point >> 18);
    out[1] = (char)(0x80 | (code_point >> 12 & 0x3f));
    out[2] = (char)(0x80 | (code_point >> 6 & 0x3f));
    out[3] = (char)(0x80 | (code_point & 0x3f));
    return 4;
}

size_t utf8_complete_prefix(struct str s)
{
    /* A character has at most 4 bytes, so an unfinished one starts in the last 3. */
    size_t back_max = s.size < UTF8_MAX_BYTES - 1 ? s.size : UTF8_MAX_BYTES - 1;
    for (size_t back = 1; back <= back_max; back++) {
        size_t start = s.size - back;
        struct lead lead = lead_of((unsigned char)s.data[start]);
        if (lead.length > back &&
            valid_bytes((struct str){.data = s.data + start, .size = back}, lead) == back) {
            return start;
        }
    }
    return s.size;
}
