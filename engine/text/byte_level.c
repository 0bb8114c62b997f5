#include "engine/text/byte_level.h"

#include "engine/base/utf8.h"

/* Printable Latin-1 stands for itself; the other 68 bytes are U+0100.. in their order. */
static int is_itself(uint32_t c)
{
    return (c >= 0x21 && c <= 0x7E) || (c >= 0xA1 && c <= 0xAC) || (c >= 0xAE && c <= 0xFF);
}

uint32_t byte_level_char(unsigned char byte)
{
    if (is_itself(byte)) {
        return byte;
    }
    if (byte <= 0x20) {
        return 0x100U + byte;
    }
    return byte == 0xAD ? 0x143U : 0x121U + (byte - 0x7FU);
}

int byte_level_byte(uint32_t c)
{
    if (is_itself(c)) {
        return (int)c;
    }
    if (c >= 0x100 && c <= 0x120) {
        return (int)(c - 0x100);
    }
    if (c >= 0x121 && c <= 0x142) {
        return (int)(c - 0x121 + 0x7F);
    }
    return c == 0x143 ? 0xAD : -1;
}

size_t byte_level_encode(struct str bytes, char *out)
{
    size_t size = 0;
    for (size_t i = 0; i < bytes.size; i++) {
        size += utf8_encode(byte_level_char((unsigned char)bytes.data[i]), out + size);
    }
    return size;
}

size_t byte_level_decode(struct str text, char *out)
{
    size_t size = 0;
    for (size_t i = 0; i < text.size;) {
        uint32_t c = 0;
        size_t n = utf8_decode((struct str){.data = text.data + i, .size = text.size - i}, &c);
        int byte = n == 0 ? -1 : byte_level_byte(c);
        if (byte < 0) {
            memcpy(out, text.data, text.size);
            return text.size;
        }
        out[size++] = (char)byte;
        i += n;
    }
    return size;
}
