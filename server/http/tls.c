#include "server/http/tls.h"

#include <errno.h>
#include <limits.h>
#include <openssl/err.h>
#include <openssl/ssl.h>
#include <pthread.h>
#include <stdlib.h>

#include "engine/base/str.h"

struct tls {
    pthread_mutex_t mu;
    SSL_CTX *context; /* guarded by mu; sessions hold references of their own */
    char *cert_path, *key_path;
};

struct tls_session {
    SSL *ssl;
    int wants; /* SSL_ERROR_WANT_READ, _WRITE or none, of the last call that could not go on */
};

static enum phid_status tls_fail(SSL_CTX *context, const char *where, const char *path,
                                 struct phid_error *err)
{
    char reason[128];
    ERR_error_string_n(ERR_get_error(), reason, sizeof reason);
    ERR_clear_error();
    SSL_CTX_free(context);
    return phid_fail_at(err, PHID_ERR_IO, where, "%s: %s", path, reason);
}

static enum phid_status context_new(const char *cert_path, const char *key_path, SSL_CTX **ret,
                                    struct phid_error *err)
{
    SSL_CTX *context = SSL_CTX_new(TLS_server_method());
    if (context == NULL) {
        return phid_fail(err, PHID_ERR_MEMORY, "out of memory for TLS");
    }
    SSL_CTX_set_min_proto_version(context, TLS1_2_VERSION);
    SSL_CTX_set_options(context, SSL_OP_NO_RENEGOTIATION | SSL_OP_CIPHER_SERVER_PREFERENCE |
                                     SSL_OP_NO_COMPRESSION | SSL_OP_IGNORE_UNEXPECTED_EOF);
    SSL_CTX_set_mode(context, SSL_MODE_ENABLE_PARTIAL_WRITE | SSL_MODE_ACCEPT_MOVING_WRITE_BUFFER |
                                  SSL_MODE_RELEASE_BUFFERS);
    /* Forward secrecy and authenticated ciphers only; TLS 1.3 has nothing else. */
    if (SSL_CTX_set_cipher_list(context, "ECDHE+AESGCM:ECDHE+CHACHA20") != 1) {
        return tls_fail(context, "server.tls", "ciphers", err);
    }
    if (SSL_CTX_use_certificate_chain_file(context, cert_path) != 1) {
        return tls_fail(context, "server.tls.cert", cert_path, err);
    }
    if (SSL_CTX_use_PrivateKey_file(context, key_path, SSL_FILETYPE_PEM) != 1 ||
        SSL_CTX_check_private_key(context) != 1) {
        unsigned long code = ERR_peek_error();
        if (ERR_GET_LIB(code) == ERR_LIB_X509 &&
            ERR_GET_REASON(code) == X509_R_KEY_VALUES_MISMATCH) {
            ERR_clear_error();
            SSL_CTX_free(context);
            return phid_fail(err, PHID_ERR_IO, "server.tls: %s is not the key of %s", key_path,
                             cert_path);
        }
        return tls_fail(context, "server.tls.key", key_path, err);
    }
    *ret = context;
    return PHID_OK;
}

enum phid_status tls_new(const char *cert_path, const char *key_path, struct tls **ret,
                         struct phid_error *err)
{
    struct tls *tls = calloc(1, sizeof *tls);
    if (tls == NULL) {
        return phid_fail(err, PHID_ERR_MEMORY, "out of memory for TLS");
    }
    pthread_mutex_init(&tls->mu, NULL);
    tls->cert_path = str_dup(str_of(cert_path));
    tls->key_path = str_dup(str_of(key_path));
    enum phid_status status = PHID_OK;
    if (tls->cert_path == NULL || tls->key_path == NULL) {
        status = phid_fail(err, PHID_ERR_MEMORY, "out of memory for TLS");
    } else {
        status = tls_reload(tls, err);
    }
    if (status != PHID_OK) {
        tls_free(tls);
        return status;
    }
    *ret = tls;
    return PHID_OK;
}

enum phid_status tls_reload(struct tls *tls, struct phid_error *err)
{
    SSL_CTX *fresh = NULL;
    enum phid_status status = context_new(tls->cert_path, tls->key_path, &fresh, err);
    if (status != PHID_OK) {
        return status;
    }
    pthread_mutex_lock(&tls->mu);
    SSL_CTX *old = tls->context;
    tls->context = fresh;
    pthread_mutex_unlock(&tls->mu);
    SSL_CTX_free(old);
    return PHID_OK;
}

void tls_free(struct tls *tls)
{
    if (tls != NULL) {
        SSL_CTX_free(tls->context);
        free(tls->cert_path);
        free(tls->key_path);
        pthread_mutex_destroy(&tls->mu);
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
    pthread_mutex_lock(&tls->mu);
    s->ssl = SSL_new(tls->context);
    pthread_mutex_unlock(&tls->mu);
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
