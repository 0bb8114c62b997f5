/* The `messages` of a chat request, as the engine's messages.
 *
 * Contents are views into the body, or texts of our own where parts had to be joined; both live
 * until messages_fini, which comes before the body is given back. */
#ifndef PHID_SERVER_API_MESSAGES_H
#define PHID_SERVER_API_MESSAGES_H

#include "server/api/api.h"

#define MESSAGES_MAX 16384

struct messages {
    struct phid_message *items; /* heap */
    size_t count;
    char **joined; /* heap; joined[i] belongs to items[i], mostly NULL */
    size_t bytes;  /* of all contents */
};

/* Errors name the place: messages[1].content[0].type. */
enum api_fault messages_read(const json_t *body, struct messages *ret, struct api_error *err);
void messages_fini(struct messages *m);

#endif
