/* What becomes of a client's bytes: a connection's requests, one after the other.
 *
 * A head is collected and parsed, its body checked; both go on to libmicrohttpd in our own words.
 * What is wrong with them is answered here, because libmicrohttpd must not see it. The state is the
 * connection's. I/O thread only. */
#ifndef PHID_SERVER_HTTP_INTAKE_H
#define PHID_SERVER_HTTP_INTAKE_H

#include "server/http/conn.h"

/* Uses up some of c->in. False when there was nothing to do. */
bool intake_advance(struct conn *c);

/* The answer is out of libmicrohttpd and relayed: on to the next request. */
void intake_end_request(struct conn *c);

/* Answers with an error, ends the connection after it. Only ends it when some of an answer is out
 * already. */
void intake_refuse(struct conn *c, const struct api_error *error);

/* Everything is said: no more bytes from us, but what the client still sends is read, or its reset
 * of the connection could destroy our last words on their way. */
void intake_linger(struct conn *c);

#endif
