#include "server/api/logprobs.h"

#include <math.h>
#include <stdlib.h>

#include "server/api/generation.h"
#include "server/api/json_write.h"

#define LOGPROB_FLOOR (-9999.0f)

void logprobs_init(struct logprobs *l, enum logprobs_form form, int64_t alternatives)
{
    *l = (struct logprobs){.form = form, .alternatives = alternatives};
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

/* Two ids may be written alike; the first, more probable one keeps the name. */
static bool same_name(const struct api *api, int32_t a, int32_t b)
{
    bool control = phid_token_is_control(api->model, a);
    return a == b || (control == phid_token_is_control(api->model, b) && !control &&
                      str_equal(token_bytes(api, a), token_bytes(api, b)));
}

/* The map of a completion's token: its alternatives, and the token itself if it is none of them. */
static void put_top_map(struct logprobs *l, const struct api *api, const struct phid_token *token)
{
    struct buf *out = &l->tops;
    bool chosen_is_in = false;
    size_t written = 0;
    buf_append_byte(out, '{');
    for (size_t i = 0; i < token->top_count && (int64_t)i < l->alternatives; i++) {
        bool repeated = false;
        for (size_t j = 0; j < i && !repeated; j++) {
            repeated = same_name(api, token->top[i].id, token->top[j].id);
        }
        if (repeated) {
            continue;
        }
        chosen_is_in |= same_name(api, token->top[i].id, token->id);
        buf_append_c(out, written++ > 0 ? "," : "");
        put_token(out, api, token->top[i].id);
        buf_append_byte(out, ':');
        put_logprob(out, token->top[i].logprob);
    }
    if (!chosen_is_in) {
        buf_append_c(out, written > 0 ? "," : "");
        put_token(out, api, token->id);
        buf_append_byte(out, ':');
        put_logprob(out, token->logprob);
    }
    buf_append_byte(out, '}');
}

/* Where the token begins, and counts on. A token that begins inside a character belongs to that
 * character. */
static size_t take_offset(struct logprobs *l, struct str bytes)
{
    size_t offset = l->characters;
    if (bytes.size > 0 && l->skip_space) {
        l->skip_space = false;
        if (bytes.data[0] == ' ') {
            bytes.data++;
            bytes.size--;
        }
    }
    if (bytes.size > 0 && ((unsigned char)bytes.data[0] & 0xc0) == 0x80 && offset > 0) {
        offset--;
    }
    for (size_t i = 0; i < bytes.size; i++) {
        l->characters += ((unsigned char)bytes.data[i] & 0xc0) != 0x80;
    }
    return offset;
}

static void add_completion(struct logprobs *l, const struct api *api,
                           const struct phid_token *token)
{
    const char *comma = l->entries.size > 0 ? "," : "";
    size_t offset = take_offset(l, token_bytes(api, token->id));
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
