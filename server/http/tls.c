#include "server/http/tls.h"

#include <errno.h>
#include <limits.h>
#include <openssl/err.h>
#include <openssl/ssl.h>
#include <stdlib.h>

struct tls {
    SSL_CTX *context;
};

struct tls_session {
    SSL *ssl;
    int wants; /* SSL_ERROR_WANT_READ, _WRITE or none, of the last call that could not go on */
};

static enum phid_status tls_fail(struct tls *tls, const char *where, const char *path,
                                 struct phid_error *err)
{
    char reason[128];
    ERR_error_string_n(ERR_get_error(), reason, sizeof reason);
    ERR_clear_error();
    tls_free(tls);
    return phid_fail_at(err, PHID_ERR_IO, where, "%s: %s", path, reason);
}

enum phid_status tls_new(const char *cert_path, const char *key_path, struct tls **ret,
                         struct phid_error *err)
{
    struct tls *tls = calloc(1, sizeof *tls);
    if (tls == NULL || (tls->context = SSL_CTX_new(TLS_server_method())) == NULL) {
        tls_free(tls);
        return phid_fail(err, PHID_ERR_MEMORY, "out of memory for TLS");
    }
    SSL_CTX_set_min_proto_version(tls->context, TLS1_2_VERSION);
    SSL_CTX_set_options(tls->context, SSL_OP_NO_RENEGOTIATION | SSL_OP_CIPHER_SERVER_PREFERENCE |
                                          SSL_OP_NO_COMPRESSION | SSL_OP_IGNORE_UNEXPECTED_EOF);
    SSL_CTX_set_mode(tls->context, SSL_MODE_ENABLE_PARTIAL_WRITE |
                                       SSL_MODE_ACCEPT_MOVING_WRITE_BUFFER |
                                       SSL_MODE_RELEASE_BUFFERS);
    /* Forward secrecy and authenticated ciphers only; TLS 1.3 has nothing else. */
    if (SSL_CTX_set_cipher_list(tls->context, "ECDHE+AESGCM:ECDHE+CHACHA20") != 1) {
        return tls_fail(tls, "server.tls", "ciphers", err);
    }
    if (SSL_CTX_use_certificate_chain_file(tls->context, cert_path) != 1) {
        return tls_fail(tls, "server.tls.cert", cert_path, err);
    }
    if (SSL_CTX_use_PrivateKey_file(tls->context, key_path, SSL_FILETYPE_PEM) != 1 ||
        SSL_CTX_check_private_key(tls->context) != 1) {
        return tls_fail(tls, "server.tls.key", key_path, err);
    }
    *ret = tls;
    return PHID_OK;
}

void tls_free(struct tls *tls)
{
    if (tls != NULL) {
        SSL_CTX_free(tls->context);
        free(tls);
    }
}

struct tls_session *tls_session_new(struct tls *tls, int fd)
{
    struct tls_session *s = calloc(1, sizeof *s);
    if (s == NULL) {
        return NULL;
    }
    s->wants = SSL_ERROR_NONE;
    s->ssl = SSL_new(tls->context);
    if (s->ssl == NULL || SSL_set_fd(s->ssl, fd) != 1) {
        tls_session_free(s);
        return NULL;
    }
    SSL_set_accept_state(s->ssl);
    return s;
}

void tls_session_free(struct tls_session *s)
{
    if (s != NULL) {
        SSL_free(s->ssl);
        ERR_clear_error();
        free(s);
    }
}

/* The result of an OpenSSL call in the terms of recv and send. */
static ssize_t result(struct tls_session *s, int n)
{
    int reason = SSL_get_error(s->ssl, n);
    s->wants = SSL_ERROR_NONE;
    if (n > 0) {
        return n;
    }
    ERR_clear_error();
    if (reason == SSL_ERROR_ZERO_RETURN) {
        return 0;
    }
    if (reason == SSL_ERROR_WANT_READ || reason == SSL_ERROR_WANT_WRITE) {
        s->wants = reason;
        errno = EAGAIN;
    } else {
        errno = ECONNRESET;
    }
    return -1;
}

ssize_t tls_session_read(struct tls_session *s, void *bytes, size_t size)
{
    ERR_clear_error();
    return result(s, SSL_read(s->ssl, bytes, size < INT_MAX ? (int)size : INT_MAX));
}

ssize_t tls_session_write(struct tls_session *s, const void *bytes, size_t size)
{
    ERR_clear_error();
    return result(s, SSL_write(s->ssl, bytes, size < INT_MAX ? (int)size : INT_MAX));
}

void tls_session_shutdown(struct tls_session *s)
{
    if (SSL_is_init_finished(s->ssl)) {
        (void)SSL_shutdown(s->ssl);
    }
    ERR_clear_error();
}

bool tls_session_wants_read(const struct tls_session *s)
{
    return s->wants == SSL_ERROR_WANT_READ;
}

bool tls_session_wants_write(const struct tls_session *s)
{
    return s->wants == SSL_ERROR_WANT_WRITE;
}
