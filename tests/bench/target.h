/* The server under load: its address, the paths below its URL, the model to ask for. */
#ifndef PHID_BENCH_TARGET_H
#define PHID_BENCH_TARGET_H

#include <sys/socket.h>

#include "tests/bench/options.h"

struct target {
    struct sockaddr_storage address;
    socklen_t address_size;
    char host[300]; /* with the port, as in the Host field */
    char base[300]; /* path before /v1; often empty */
    char model[256];
};

/* Takes the URL apart, finds the address and, unless the options name one, asks for the model. On
 * failure says why on stderr. */
bool target_find(struct target *t, const struct options *o);

/* Appends a whole POST for the body to `out`. */
void target_post(const struct target *t, const struct options *o, struct str body, struct buf *out);

/* A connection on its way, or -1. */
int target_connect(const struct target *t);

#endif
