/* Chat templates: messages to a list of trusted and user spans, ready for tokenizer_encode.
 *
 * Templates are built in and recognised from `tokenizer.chat_template`, or chosen by name. A file's
 * template is never run. Immutable tables, any thread. */
#ifndef PHID_TEXT_CHAT_H
#define PHID_TEXT_CHAT_H

#include "engine/base/buf.h"
#include "engine/gguf/gguf.h"
#include "engine/text/tokenizer.h"

enum chat_role { CHAT_SYSTEM, CHAT_USER, CHAT_ASSISTANT, CHAT_TOOL };

struct chat_message {
    enum chat_role role; /* `developer` is mapped to CHAT_SYSTEM by the caller */
    struct str content;
};

/* A rendered prompt. Spans of user text are views of the messages; markers are static. Heap; free
 * with chat_prompt_fini. */
struct chat_prompt {
    struct text_span *spans;
    size_t count;
    size_t capacity;
};

struct chat_template; /* opaque, static */

/* From the file: `name` is "auto" (recognise `tokenizer.chat_template`), "none" (*ret is NULL) or
 * one of the known names. An unknown template or name is PHID_ERR_UNSUPPORTED with the list of the
 * known ones. A file without a template gives NULL under "auto". */
enum phid_status chat_template_find(const struct gguf_file *file, struct str name,
                                    const struct chat_template **ret, struct phid_error *err);
const char *chat_template_name(const struct chat_template *t);
const char *chat_template_name_at(size_t index); /* for listings; NULL past the end */

/* Renders messages (count >= 1) and, if add_generation_prompt, the opening of the assistant's turn.
 * Templates that insist on alternation or a leading system message are satisfied by merging
 * neighbours of one role (joined by an empty line) and moving system messages first, never by an
 * error. Never drops a message. Errors: PHID_ERR_MEMORY, PHID_ERR_UNSUPPORTED (a role the template
 * cannot express), PHID_ERR_ARGUMENT (no messages). */
enum phid_status chat_render(const struct chat_template *t, const struct chat_message *messages,
                             size_t count, bool add_generation_prompt, struct chat_prompt *ret,
                             struct phid_error *err);
void chat_prompt_fini(struct chat_prompt *p);

#endif
