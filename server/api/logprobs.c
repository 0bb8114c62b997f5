#include "server/api/logprobs.h"

#include <math.h>
#include <stdlib.h>

#include "server/api/generation.h"
#include "server/api/json_write.h"

#define LOGPROB_FLOOR (-9999.0f)
#define TOP_NAMES_MAX ((size_t)1 << 20) /* 21 tokens of 4 KiB, every byte escaped, are half of it  \
                                         */

void logprobs_init(struct logprobs *l, enum logprobs_form form, int64_t alternatives, bool echo,
                   bool answer_begins)
{
    *l = (struct logprobs){.form = form,
                           .alternatives = alternatives,
                           .in_prompt = echo,
                           .answer_begins = answer_begins,
                           .at_start = echo || answer_begins};
    buf_init(&l->entries, GENERATION_TEXT_MAX);
    buf_init(&l->values, GENERATION_TEXT_MAX);
    buf_init(&l->tops, GENERATION_TEXT_MAX);
    buf_init(&l->offsets, GENERATION_TEXT_MAX);
}

void logprobs_fini(struct logprobs *l)
{
    buf_fini(&l->entries);
    buf_fini(&l->values);
    buf_fini(&l->tops);
    buf_fini(&l->offsets);
}

void logprobs_clear(struct logprobs *l)
{
    buf_clear(&l->entries);
    buf_clear(&l->values);
    buf_clear(&l->tops);
    buf_clear(&l->offsets);
}

bool logprobs_pending(const struct logprobs *l)
{
    return l->entries.size > 0;
}

bool logprobs_failed(const struct logprobs *l)
{
    return l->entries.failed || l->values.failed || l->tops.failed || l->offsets.failed;
}

static struct str token_bytes(const struct api *api, int32_t id)
{
    const unsigned char *bytes = NULL;
    size_t size = 0;
    phid_token_bytes(api->model, id, &bytes, &size);
    return (struct str){(const char *)bytes, size};
}

/* The token as a JSON string. A control token has no bytes; it shows as it is written in the
 * vocabulary. */
static void put_token(struct buf *out, const struct api *api, int32_t id)
{
    char *written = NULL;
    size_t size = 0;
    if (phid_token_is_control(api->model, id) &&
        phid_detokenize(api->model, &id, 1, true, &written, &size, NULL) == PHID_OK) {
        json_put_string(out, (struct str){written, size});
        free(written);
        return;
    }
    json_put_string(out, token_bytes(api, id));
}

static void put_logprob(struct buf *out, float logprob)
{
    json_put_float(out, logprob < LOGPROB_FLOOR ? LOGPROB_FLOOR : logprob);
}

/* token, logprob and bytes: the members that an entry and its alternatives share. */
static void put_chat_members(struct buf *out, const struct api *api, int32_t id, float logprob)
{
    buf_append_c(out, "\"token\":");
    put_token(out, api, id);
    buf_append_c(out, ",\"logprob\":");
    put_logprob(out, logprob);
    buf_append_c(out, ",\"bytes\":");
    if (phid_token_is_control(api->model, id)) {
        buf_append_c(out, "null");
        return;
    }
    struct str bytes = token_bytes(api, id);
    buf_append_byte(out, '[');
    for (size_t i = 0; i < bytes.size; i++) {
        buf_printf(out, "%s%u", i > 0 ? "," : "", (unsigned char)bytes.data[i]);
    }
    buf_append_byte(out, ']');
}

static void add_chat(struct logprobs *l, const struct api *api, const struct phid_token *token)
{
    struct buf *out = &l->entries;
    buf_append_c(out, out->size > 0 ? ",{" : "{");
    put_chat_members(out, api, token->id, token->logprob);
    buf_append_c(out, ",\"top_logprobs\":[");
    for (size_t i = 0; i < token->top_count && (int64_t)i < l->alternatives; i++) {
        buf_append_c(out, i > 0 ? ",{" : "{");
        put_chat_members(out, api, token->top[i].id, token->top[i].logprob);
        buf_append_byte(out, '}');
    }
    buf_append_c(out, "]}");
}

/* One member of a completion's map, unless its name is there: parts of characters are all written
 * as U+FFFD, and the first, more probable one keeps the name. `names` holds those that are there,
 * each with its length before it. */
static void put_top(struct logprobs *l, const struct api *api, int32_t id, float logprob,
                    struct buf *names)
{
    size_t start = names->size;
    put_token(names, api, id);
    size_t size = names->size - start;
    for (size_t at = 0; at < start;) {
        const char *end = memchr(names->data + at, '\n', start - at); /* no JSON string holds one */
        size_t length = (size_t)(end - (names->data + at));
        if (length == size && memcmp(names->data + at, names->data + start, size) == 0) {
            names->size = start;
            return;
        }
        at += length + 1;
    }
    buf_append_c(&l->tops, start > 0 ? "," : "");
    buf_append(&l->tops, names->data + start, size);
    buf_append_byte(&l->tops, ':');
    put_logprob(&l->tops, logprob);
    buf_append_byte(names, '\n');
}

/* The map of a completion's token: its alternatives, and the token itself if it is none of them. */
static void put_top_map(struct logprobs *l, const struct api *api, const struct phid_token *token)
{
    struct buf names;
    buf_init(&names, TOP_NAMES_MAX);
    buf_append_byte(&l->tops, '{');
    for (size_t i = 0; i < token->top_count && (int64_t)i < l->alternatives && !names.failed; i++) {
        put_top(l, api, token->top[i].id, token->top[i].logprob, &names);
    }
    if (!names.failed) {
        put_top(l, api, token->id, token->logprob, &names);
    }
    buf_append_byte(&l->tops, '}');
    l->tops.failed |= names.failed;
    buf_fini(&names);
}

/* Whether `byte` goes on from what is held, and whether that makes a character whole. */
static bool extends(const struct logprobs *l, unsigned char byte, bool *ret_whole)
{
    uint32_t code_point;
    char bytes[UTF8_MAX_BYTES];
    struct str s = {bytes, l->held_count + 1};
    memcpy(bytes, l->held, l->held_count);
    bytes[l->held_count] = (char)byte;
    *ret_whole = utf8_decode(s, &code_point) == s.size;
    return *ret_whole || (s.size < UTF8_MAX_BYTES && utf8_complete_prefix(s) == 0);
}

/* What is held stays half a character: the text has U+FFFD for it. */
static void cut_off(struct logprobs *l)
{
    l->characters += l->held_count > 0;
    l->held_count = 0;
}

static void count_byte(struct logprobs *l, unsigned char byte)
{
    bool whole;
    bool goes_on = extends(l, byte, &whole);
    if (!goes_on && l->held_count > 0) {
        cut_off(l);
        goes_on = extends(l, byte, &whole);
    }
    if (whole || !goes_on) {
        l->characters++;
        l->held_count = 0;
    } else {
        l->held[l->held_count++] = byte;
    }
}

/* Whether the text lacks the space that the token begins with. */
static bool loses_space(const struct api *api, int32_t id, struct str bytes)
{
    char *text = NULL;
    size_t size = bytes.size;
    if (bytes.data[0] != ' ' ||
        phid_detokenize(api->model, &id, 1, false, &text, &size, NULL) != PHID_OK) {
        return false;
    }
    free(text);
    return size < bytes.size;
}

/* Where the token begins, and counts on. A token that begins inside a character belongs to that
 * character. */
static size_t take_offset(struct logprobs *l, const struct api *api, int32_t id)
{
    struct str bytes = token_bytes(api, id);
    bool whole;
    if (bytes.size > 0 && l->at_start) {
        l->at_start = false;
        size_t lost = loses_space(api, id, bytes) ? 1 : 0;
        bytes.data += lost;
        bytes.size -= lost;
    }
    if (bytes.size > 0 && l->held_count > 0 && !extends(l, (unsigned char)bytes.data[0], &whole)) {
        cut_off(l);
    }
    size_t offset = l->characters;
    for (size_t i = 0; i < bytes.size; i++) {
        count_byte(l, (unsigned char)bytes.data[i]);
    }
    return offset;
}

static void add_completion(struct logprobs *l, const struct api *api,
                           const struct phid_token *token)
{
    const char *comma = l->entries.size > 0 ? "," : "";
    if (l->in_prompt && !token->is_prompt) {
        cut_off(l);
        l->in_prompt = false;
        l->at_start = l->answer_begins;
    }
    size_t offset = take_offset(l, api, token->id);
    buf_append_c(&l->entries, comma);
    buf_append_c(&l->values, comma);
    buf_append_c(&l->tops, comma);
    buf_printf(&l->offsets, "%s%zu", comma, offset);
    put_token(&l->entries, api, token->id);
    if (isnan(token->logprob)) {
        buf_append_c(&l->values, "null");
        buf_append_c(&l->tops, "null");
        return;
    }
    put_logprob(&l->values, token->logprob);
    put_top_map(l, api, token);
}

void logprobs_add(struct logprobs *l, const struct api *api, const struct phid_token *token)
{
    if (l->alternatives < 0 ||
        (!token->is_prompt && phid_token_is_control(api->model, token->id))) {
        return;
    }
    if (l->form == LOGPROBS_CHAT) {
        add_chat(l, api, token);
    } else {
        add_completion(l, api, token);
    }
}

void logprobs_write(const struct logprobs *l, struct buf *out)
{
    if (l->alternatives < 0) {
        buf_append_c(out, "null");
        return;
    }
    if (l->form == LOGPROBS_CHAT) {
        buf_append_c(out, "{\"content\":[");
        buf_append_str(out, buf_view(&l->entries));
        buf_append_c(out, "],\"refusal\":null}");
        return;
    }
    buf_append_c(out, "{\"tokens\":[");
    buf_append_str(out, buf_view(&l->entries));
    buf_append_c(out, "],\"token_logprobs\":[");
    buf_append_str(out, buf_view(&l->values));
    buf_append_c(out, "],\"top_logprobs\":[");
    buf_append_str(out, buf_view(&l->tops));
    buf_append_c(out, "],\"text_offset\":[");
    buf_append_str(out, buf_view(&l->offsets));
    buf_append_c(out, "]}");
}
