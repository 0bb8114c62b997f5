#include "engine/text/detok.h"

#include "engine/base/utf8.h"

static const char replacement[] = "\xEF\xBF\xBD"; /* U+FFFD */

void detok_init(struct detok *d, const struct tokenizer *tokenizer, bool at_start,
                bool with_control)
{
    *d = (struct detok){.tokenizer = tokenizer, .at_start = at_start, .with_control = with_control};
}

/* One more byte. One U+FFFD stands for the longest start of a character that was cut off, as the
 * Unicode Standard (chapter 3, "U+FFFD Substitution of Maximal Subparts") recommends. */
static void push_byte(struct detok *d, unsigned char byte, struct buf *out)
{
    for (;;) {
        uint32_t c = 0;
        d->held[d->held_count] = byte;
        struct str held = {.data = (const char *)d->held, .size = d->held_count + 1U};
        if (utf8_decode(held, &c) == held.size) {
            buf_append_str(out, held);
            d->held_count = 0;
            return;
        }
        if (held.size < UTF8_MAX_BYTES && utf8_complete_prefix(held) == 0) {
            d->held_count++;
            return;
        }
        buf_append_c(out, replacement);
        if (d->held_count == 0) {
            return;
        }
        d->held_count = 0; /* and the byte begins anew */
    }
}

void detok_push(struct detok *d, int32_t id, struct buf *out)
{
    struct str piece = tokenizer_piece(d->tokenizer, id, d->with_control);
    if (piece.size == 0) {
        return;
    }
    if (d->at_start && tokenizer_strips_first_space(d->tokenizer) && piece.data[0] == ' ') {
        piece.data++;
        piece.size--;
    }
    d->at_start = false;
    for (size_t i = 0; i < piece.size; i++) {
        push_byte(d, (unsigned char)piece.data[i], out);
    }
}

void detok_finish(struct detok *d, struct buf *out)
{
    if (d->held_count > 0) {
        buf_append_c(out, replacement);
        d->held_count = 0;
    }
}
