/* The whole server on a fake engine, and a client for it over real sockets. */
#ifndef PHID_TESTS_WIRE_H
#define PHID_TESTS_WIRE_H

#include "engine/base/buf.h"
#include "server/server.h"
#include "tests/unit/server/fake_phid.h"

struct world {
    struct phid_model *model;
    struct phid_engine *engine;
    struct server *server;
};

void open_world(struct world *w, struct fake_options fake, struct server_options options);
void close_world(struct world *w); /* every request must be gone */

int dial(const struct world *w);
void say(int fd, const char *text);

/* Reads until `text` has come; NULL: until the connection ends. False when that does not happen in
 * ten seconds. */
bool hear(int fd, struct buf *all, const char *text);

bool eventually_live(const struct world *w, size_t count, unsigned ms);
size_t count_of(const struct buf *all, const char *text);
void post(char *out, size_t size, const char *body, const char *headers);

#define BODY(more)                                                                                 \
    "{\"model\":\"fake\",\"messages\":[{\"role\":\"user\",\"content\":\"hi\"}]" more "}"

/* Engines: one answers at once, one takes its time. */
extern const struct fake_options quick, slow;

#endif
