/* chat_render: messages to spans, by a template's style. */
#include "engine/text/chat.h"

#include <stdlib.h>

#include "engine/base/checked.h"
#include "engine/text/chat_style.h"
#include "engine/text/space.h"

struct writer {
    struct chat_prompt prompt;
    bool failed; /* out of memory; sticky */
};

static void put(struct writer *w, struct str text, bool trusted)
{
    if (text.size == 0 || w->failed) {
        return;
    }
    struct chat_prompt *p = &w->prompt;
    if (p->count == p->capacity) {
        size_t capacity = p->capacity == 0 ? 16 : p->capacity * 2;
        size_t bytes = 0;
        struct text_span *spans =
            checked_mul(capacity, sizeof(*spans), &bytes) ? realloc(p->spans, bytes) : NULL;
        if (spans == NULL) {
            w->failed = true;
            return;
        }
        p->spans = spans;
        p->capacity = capacity;
    }
    p->spans[p->count++] = (struct text_span){.text = text, .trusted = trusted};
}

static void put_marker(struct writer *w, const char *marker)
{
    put(w, str_of(marker), true);
}

static void put_content(struct writer *w, struct str content, bool trim)
{
    put(w, trim ? space_strip(content) : content, false);
}

static const char *role_name(const struct block_style *s, enum chat_role role)
{
    switch (role) {
    case CHAT_SYSTEM:
        return "system";
    case CHAT_USER:
        return "user";
    case CHAT_ASSISTANT:
        return "assistant";
    case CHAT_TOOL:
        return s->tool_role;
    }
    return NULL;
}

static void open_block(struct writer *w, const struct block_style *s, const char *role)
{
    put_marker(w, s->before_role);
    put_marker(w, role);
    put_marker(w, s->after_role);
}

static void render_blocks(struct writer *w, const struct block_style *s,
                          const struct chat_message *messages, size_t count, bool generate)
{
    put_marker(w, s->begin);
    if (s->default_system != NULL && messages[0].role != CHAT_SYSTEM) {
        open_block(w, s, "system");
        put_marker(w, s->system_preamble != NULL ? s->system_preamble : "");
        put_marker(w, s->default_system);
        put_marker(w, s->after_content);
    }
    for (size_t i = 0; i < count; i++) {
        const struct chat_message *m = &messages[i];
        if (m->role == CHAT_SYSTEM && m->content.size == 0 && s->skip_empty_system) {
            continue;
        }
        open_block(w, s, role_name(s, m->role));
        if (i == 0 && m->role == CHAT_SYSTEM && s->system_preamble != NULL) {
            put_marker(w, s->system_preamble);
        }
        put_content(w, m->content, s->trim);
        put_marker(w, s->after_content);
    }
    put_marker(w, generate ? s->generation : s->otherwise);
}

/* What a message counts as where only user and assistant take turns. */
static enum chat_role turn_role(const struct chat_message *m)
{
    return m->role == CHAT_TOOL ? CHAT_USER : m->role;
}

/* All system messages, an empty line between. False when there is none. */
static bool put_systems(struct writer *w, const struct chat_message *messages, size_t count)
{
    bool any = false;
    for (size_t i = 0; i < count; i++) {
        if (messages[i].role == CHAT_SYSTEM) {
            put_marker(w, any ? "\n\n" : "");
            put_content(w, messages[i].content, false);
            any = true;
        }
    }
    return any;
}

/* The neighbours of one role from `first` on, system messages in between left out, joined by empty
 * lines. Returns where the next turn begins. `left` is false to keep white space at the start. */
static size_t put_turn(struct writer *w, const struct chat_message *messages, size_t count,
                       size_t first, bool left, bool right)
{
    enum chat_role role = turn_role(&messages[first]);
    size_t i = first;
    for (; i < count && (messages[i].role == CHAT_SYSTEM || turn_role(&messages[i]) == role); i++) {
        if (messages[i].role == CHAT_SYSTEM) {
            continue;
        }
        struct str content = messages[i].content;
        struct str stripped = space_strip(content);
        if (right) {
            const char *end = stripped.size > 0 ? stripped.data + stripped.size : content.data;
            content.size = content.size == 0 ? 0 : (size_t)(end - content.data);
        }
        if (left && i == first) {
            content = right ? stripped : content;
        }
        put_marker(w, i == first ? "" : "\n\n");
        put_content(w, content, false);
    }
    return i;
}

/* Whether all contents of the turn from `first` are white space. */
static bool blank_turn(const struct chat_message *messages, size_t count, size_t first)
{
    return first >= count || (space_strip(messages[first].content).size == 0 &&
                              (first + 1 >= count || messages[first + 1].role == CHAT_ASSISTANT));
}

static size_t put_user(struct writer *w, const struct turn_style *s,
                       const struct chat_message *messages, size_t count, size_t at,
                       bool with_system)
{
    put_marker(w, s->before_user);
    bool system = false;
    for (size_t i = 0; i < count && with_system; i++) {
        system = system || messages[i].role == CHAT_SYSTEM;
    }
    if (system) {
        bool tagged = s->system == SYSTEM_TAGGED;
        put_marker(w, tagged ? "<<SYS>>\n" : "");
        put_systems(w, messages, count);
        put_marker(w, tagged ? "\n<</SYS>>" : "");
        /* With the tags, the whole turn is stripped at its end. */
        put_marker(w, tagged && blank_turn(messages, count, at) ? "" : "\n\n");
    }
    bool is_user = at < count && turn_role(&messages[at]) == CHAT_USER;
    if (is_user) {
        at = put_turn(w, messages, count, at, s->trim_user && !system, s->trim_user);
    }
    put_marker(w, s->after_user);
    return at;
}

static size_t skip_systems(const struct chat_message *messages, size_t count, size_t at)
{
    while (at < count && messages[at].role == CHAT_SYSTEM) {
        at++;
    }
    return at;
}

/* Where the last user turn starts; 0 when there is none. */
static size_t last_user_turn(const struct chat_message *messages, size_t count)
{
    size_t start = 0;
    bool in_user = false;
    for (size_t i = 0; i < count; i++) {
        if (messages[i].role == CHAT_SYSTEM) {
            continue;
        }
        bool user = turn_role(&messages[i]) == CHAT_USER;
        start = user && !in_user ? i : start;
        in_user = user;
    }
    return start;
}

static void render_turns(struct writer *w, const struct turn_style *s,
                         const struct chat_message *messages, size_t count)
{
    put_marker(w, s->begin);
    size_t last = last_user_turn(messages, count);
    size_t at = skip_systems(messages, count, 0);
    /* The user begins: a conversation that does not start so gets an empty turn first. */
    bool first = true;
    while (at < count || first) {
        bool user = at >= count || turn_role(&messages[at]) == CHAT_USER;
        if (user || first) {
            bool with_system = s->system == SYSTEM_LAST_USER ? at >= last : first;
            at = put_user(w, s, messages, count, at, with_system);
        } else {
            put_marker(w, s->before_answer);
            at = put_turn(w, messages, count, at, s->trim_answer, s->trim_answer);
            put_marker(w, s->after_answer);
        }
        first = false;
    }
}

enum phid_status chat_render(const struct chat_template *t, const struct chat_message *messages,
                             size_t count, bool add_generation_prompt, struct chat_prompt *ret,
                             struct phid_error *err)
{
    if (count == 0) {
        return phid_fail(err, PHID_ERR_ARGUMENT, "a chat needs at least one message");
    }
    for (size_t i = 0; i < count; i++) {
        if ((unsigned)messages[i].role > CHAT_TOOL) {
            return phid_fail(err, PHID_ERR_UNSUPPORTED, "template %s has no role %d", t->name,
                             (int)messages[i].role);
        }
    }
    struct writer w = {0};
    if (t->blocks != NULL) {
        render_blocks(&w, t->blocks, messages, count, add_generation_prompt);
    } else {
        render_turns(&w, t->turns, messages, count);
    }
    if (w.failed) {
        chat_prompt_fini(&w.prompt);
        return phid_fail(err, PHID_ERR_MEMORY, "no memory to render %zu messages", count);
    }
    *ret = w.prompt;
    return PHID_OK;
}

void chat_prompt_fini(struct chat_prompt *p)
{
    free(p->spans);
    *p = (struct chat_prompt){0};
}
