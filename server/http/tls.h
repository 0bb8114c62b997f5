/* TLS 1.2 and 1.3 by OpenSSL, on a connection's non-blocking socket. The handshake happens inside
 * the first reads and writes. Sessions belong to the I/O thread. */
#ifndef PHID_SERVER_HTTP_TLS_H
#define PHID_SERVER_HTTP_TLS_H

#include <stdbool.h>
#include <stddef.h>
#include <sys/types.h>

#include "engine/base/status.h"

struct tls;         /* certificate and key, for all connections */
struct tls_session; /* one connection */

/* Files in PEM. Errors: PHID_ERR_IO, PHID_ERR_ARGUMENT (key and certificate do not match); where
 * names the option. */
enum phid_status tls_new(const char *cert_path, const char *key_path, struct tls **ret,
                         struct phid_error *err);
void tls_free(struct tls *tls);

/* Any thread: reads the files again, for new connections. A failure changes nothing. */
enum phid_status tls_reload(struct tls *tls, struct phid_error *err);

struct tls_session *tls_session_new(struct tls *tls, int fd); /* NULL: out of memory */
void tls_session_free(struct tls_session *s);

/* Like recv and send: -1 with errno EAGAIN when the socket must be waited for, as
 * tls_session_wants_* say. */
ssize_t tls_session_read(struct tls_session *s, void *bytes, size_t size);
ssize_t tls_session_write(struct tls_session *s, const void *bytes, size_t size);
void tls_session_shutdown(struct tls_session *s);
bool tls_session_wants_read(const struct tls_session *s);
bool tls_session_wants_write(const struct tls_session *s);

#endif
