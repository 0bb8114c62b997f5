/* The two shapes chat templates come in, as data. Private to chat.c and chat_render.c. */
#ifndef PHID_TEXT_CHAT_STYLE_H
#define PHID_TEXT_CHAT_STYLE_H

#include <stdbool.h>

/* Every message is a block with its role's name; any order of roles will do.
 *   begin { before_role ROLE after_role CONTENT after_content } generation | otherwise */
struct block_style {
    const char *begin;
    const char *before_role;
    const char *after_role;
    const char *after_content;
    const char *generation;      /* the opening of the answer */
    const char *otherwise;       /* what stands in its place when no answer is wanted */
    const char *tool_role;       /* the name a tool's message goes by */
    const char *system_preamble; /* text before the leading system message's own; NULL: none */
    const char *default_system;  /* leads when no system message does; NULL: nothing leads then */
    bool trim;                   /* white space around contents is dropped */
    bool skip_empty_system;
};

enum system_place {
    SYSTEM_FIRST_USER, /* before the first user message, an empty line between */
    SYSTEM_LAST_USER,  /* before the last one */
    SYSTEM_TAGGED,     /* before the first one, between <<SYS>> tags */
};

/* User and assistant take turns, the user first; the system message is part of a user's turn.
 *   begin { before_user CONTENT after_user before_answer CONTENT after_answer } */
struct turn_style {
    const char *begin;
    const char *before_user;
    const char *after_user;
    const char *before_answer;
    const char *after_answer;
    enum system_place system;
    bool trim_user;
    bool trim_answer;
};

struct chat_template {
    const char *name;
    const struct block_style *blocks; /* one of the two; the other is NULL */
    const struct turn_style *turns;
    bool (*recognise)(const char *source); /* see chat.c */
};

#endif
