/* The running server over real sockets, with the fake engine: keep-alive, clients that leave,
 * drains, deadlines. */
#include <arpa/inet.h>
#include <openssl/pem.h>
#include <openssl/ssl.h>
#include <openssl/x509.h>
#include <poll.h>
#include <pthread.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <unistd.h>
#include <cmocka.h>

#include "engine/base/buf.h"
#include "engine/base/clock.h"
#include "server/server.h"
#include "tests/unit/server/wire.h"

static void test_keep_alive_and_pipelining(void **state)
{
    struct world w;
    struct buf all;
    char request[1024];
    open_world(&w, quick, (struct server_options){0});
    buf_init(&all, 1u << 20);
    int fd = dial(&w);
    post(request, sizeof request, BODY(""), "");
    for (int i = 0; i < 3; i++) {
        say(fd, request);
        say(fd, "GET /nowhere HTTP/1.1\r\nHost: x\r\n\r\n");
    }
    say(fd, "GET /health HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\nGET /health "
            "HTTP/1.1\r\nHost: x\r\n\r\n");
    assert_true(hear(fd, &all, NULL));
    assert_int_equal(count_of(&all, "HTTP/1.1 200 OK"), 4); /* nothing after `Connection: close` */
    assert_int_equal(count_of(&all, "HTTP/1.1 404 Not Found"), 3);
    assert_int_equal(count_of(&all, "\"content\":\"Hello\""), 3);
    assert_int_equal(count_of(&all, "x-request-id: req_"), 7);
    close(fd);
    buf_fini(&all);
    close_world(&w);
}

static void test_a_bad_head_after_good_ones_is_answered_in_order(void **state)
{
    struct world w;
    struct buf all;
    open_world(&w, quick, (struct server_options){0});
    buf_init(&all, 1u << 20);
    int fd = dial(&w);
    say(fd, "GET /health HTTP/1.1\r\nHost: x\r\n\r\nGET /health HTTP/1.1\r\nHost : x\r\n\r\n");
    assert_true(hear(fd, &all, NULL));
    const char *good = strstr(all.data, "HTTP/1.1 200");
    const char *bad = strstr(all.data, "HTTP/1.1 400");
    assert_true(good != NULL && bad != NULL && good < bad);
    close(fd);
    buf_fini(&all);
    close_world(&w);
}

static void test_body_faults_after_the_head(void **state)
{
    static const struct {
        const char *body, *status;
    } cases[] = {
        {"zz\r\n", "HTTP/1.1 400 "},
        {"20\r\n01234567890123456789012345678901\r\n20\r\n01234567890123456789012345678901\r\n1\r\n"
         "x",
         "HTTP/1.1 413 "},
    };
    struct world w;
    open_world(&w, quick, (struct server_options){.max_body_bytes = 64});
    for (size_t i = 0; i < 2; i++) {
        struct buf all;
        buf_init(&all, 1u << 20);
        int fd = dial(&w);
        say(fd, "POST /v1/completions HTTP/1.1\r\nHost: x\r\nExpect: "
                "100-continue\r\nTransfer-Encoding: chunked\r\n\r\n");
        assert_true(hear(fd, &all, "HTTP/1.1 100 Continue\r\n\r\n"));
        say(fd, cases[i].body);
        assert_true(hear(fd, &all, NULL));
        assert_int_equal(count_of(&all, cases[i].status), 1);
        assert_int_equal(count_of(&all, "\"error\":"), 1);
        close(fd);
        buf_fini(&all);
    }
    close_world(&w);
}

static void test_get_with_a_body(void **state)
{
    struct world w;
    struct buf all;
    open_world(&w, quick, (struct server_options){0});
    buf_init(&all, 1u << 20);
    int fd = dial(&w);
    say(fd,
        "GET /health HTTP/1.1\r\nHost: x\r\nContent-Length: 5\r\n\r\nhello"
        "GET /x HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n"
        "OPTIONS * HTTP/1.1\r\nHost: x\r\n\r\n"
        "HEAD /health HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n");
    assert_true(hear(fd, &all, NULL));
    assert_int_equal(count_of(&all, "HTTP/1.1 200 OK"), 2);
    assert_int_equal(count_of(&all, "HTTP/1.1 404 Not Found"), 1);
    assert_int_equal(count_of(&all, "HTTP/1.1 204 No Content"), 1);
    close(fd);
    buf_fini(&all);
    close_world(&w);
}

/* ------------------------------------------------------- clients that leave */

static void leave(bool stream, bool reset)
{
    struct world w;
    struct buf all;
    char request[1024];
    open_world(&w, slow, (struct server_options){0});
    buf_init(&all, 1u << 20);
    int fd = dial(&w);
    post(request, sizeof request, stream ? BODY(",\"stream\":true,\"n\":2") : BODY(",\"n\":2"), "");
    say(fd, request);
    assert_true(eventually_live(&w, 2, 2000));
    assert_true(!stream || hear(fd, &all, "\"content\":\"0\""));
    if (reset) {
        struct linger now = {.l_onoff = 1};
        setsockopt(fd, SOL_SOCKET, SO_LINGER, &now, sizeof now);
    }
    close(fd);
    assert_true(eventually_live(&w, 0, 1500));
    buf_fini(&all);
    close_world(&w);
}

static void test_leaving_cancels_soon(void **state)
{
    leave(true, false);
    leave(true, true);
    leave(false, false);
    leave(false, true);
}

static void test_half_sent_requests_are_dropped(void **state)
{
    struct world w;
    char request[1024];
    open_world(&w, slow, (struct server_options){0});
    post(request, sizeof request, BODY(",\"stream\":true"), "");
    for (size_t size = 1; size < strlen(request); size += 7) {
        int fd = dial(&w);
        assert_int_equal(send(fd, request, size, MSG_NOSIGNAL), (ssize_t)size);
        close(fd);
    }
    assert_true(eventually_live(&w, 0, 1500));
    close_world(&w);
}

/* Who has no more to ask may still want the answer, all of them when several were asked for. */
static void half_close(const char *request, size_t probes, size_t answers, const char *end)
{
    struct world w;
    struct buf all;
    open_world(&w, probes > 0 ? slow : quick, (struct server_options){0});
    buf_init(&all, 1u << 20);
    int fd = dial(&w);
    say(fd, request);
    shutdown(fd, SHUT_WR);
    assert_true(hear(fd, &all, NULL));
    assert_int_equal(count_of(&all, "HTTP/1.1 200 OK"), answers);
    assert_int_equal(count_of(&all, "HTTP/1.1 100 Continue"), probes);
    assert_int_equal(count_of(&all, end), answers);
    close(fd);
    buf_fini(&all);
    close_world(&w);
}

static void test_a_half_closed_client_is_answered(void **state)
{
    char request[4096];
    size_t size = 0;
    for (int i = 0; i < 5; i++) {
        post(request + size, sizeof request - size, BODY(""), "");
        size += strlen(request + size);
    }
    half_close(request, 0, 5, "\"content\":\"Hello\"");
    post(request, sizeof request, BODY(",\"stream\":true"), "");
    half_close(request, 0, 1, "data: [DONE]");
    post(request, sizeof request, BODY(""), "");
    half_close(request, 1, 1, "456789\""); /* two seconds: it was asked whether it still reads */
}

static void test_a_slow_reader_pauses_only_itself(void **state)
{
    static char answer[4000];
    struct world w;
    struct buf all;
    char request[1024];
    memset(answer, 'x', sizeof answer - 1);
    open_world(&w, (struct fake_options){.answer = answer, .token_us = 50},
               (struct server_options){0});
    buf_init(&all, 1u << 24);
    int deaf = dial(&w);
    int small = 65536;
    setsockopt(deaf, SOL_SOCKET, SO_RCVBUF, &small, sizeof small);
    post(request, sizeof request,
         BODY(",\"stream\":true,\"logprobs\":true,\"top_logprobs\":4,\"n\":4"), "");
    say(deaf, request);
    usleep(300000);
    int fd = dial(&w);
    post(request, sizeof request, BODY(",\"max_tokens\":3"), "Connection: close\r\n");
    say(fd, request);
    assert_true(hear(fd, &all, "\"content\":\"xxx\""));
    close(fd);
    buf_clear(&all);
    assert_true(hear(deaf, &all, "data: [DONE]")); /* nothing was lost meanwhile */
    assert_int_equal(count_of(&all, "\"finish_reason\":\"stop\""), 4);
    close(deaf);
    buf_fini(&all);
    close_world(&w);
}

/* -------------------------------------------------------------------- limits */

static void test_pings_in_silence(void **state)
{
    struct world w;
    struct buf all;
    char request[1024];
    open_world(&w, (struct fake_options){.answer = "ab", .token_us = 1500000},
               (struct server_options){.sse_ping_ms = 300});
    buf_init(&all, 1u << 20);
    int fd = dial(&w);
    post(request, sizeof request, BODY(",\"stream\":true"), "Connection: close\r\n");
    say(fd, request);
    assert_true(hear(fd, &all, "[DONE]"));
    assert_true(count_of(&all, ": ping\n\n") >= 3);
    close(fd);
    buf_fini(&all);
    close_world(&w);
}

static void test_request_timeout(void **state)
{
    struct world w;
    char request[1024];
    open_world(&w, slow, (struct server_options){.request_timeout_ms = 300});
    for (int stream = 0; stream < 2; stream++) {
        struct buf all;
        buf_init(&all, 1u << 20);
        int fd = dial(&w);
        post(request, sizeof request, stream ? BODY(",\"stream\":true") : BODY(""),
             "Connection: close\r\n");
        say(fd, request);
        assert_true(hear(fd, &all, "\"code\":\"request_timeout\""));
        assert_int_equal(count_of(&all, stream ? "HTTP/1.1 200" : "HTTP/1.1 503"), 1);
        assert_int_equal(count_of(&all, "[DONE]"), 0);
        assert_int_equal(count_of(&all, "x-should-retry: false"), stream ? 0 : 1);
        close(fd);
        buf_fini(&all);
        assert_int_equal(fake_live(w.engine), 0);
    }
    close_world(&w);
}

static void test_too_many_connections(void **state)
{
    struct world w;
    struct buf all;
    int fds[8];
    open_world(&w, quick, (struct server_options){.max_connections = 8});
    buf_init(&all, 1u << 20);
    for (int i = 0; i < 8; i++) {
        fds[i] = dial(&w);
    }
    usleep(50000);
    int fd = dial(&w);
    assert_true(hear(fd, &all, NULL));
    assert_int_equal(count_of(&all, "HTTP/1.1 503"), 1);
    assert_int_equal(count_of(&all, "Retry-After: 1"), 1);
    close(fd);
    close(fds[0]);
    usleep(50000);
    buf_clear(&all);
    say(fds[1], "GET /health HTTP/1.1\r\nHost: x\r\n\r\n");
    assert_true(hear(fds[1], &all, "HTTP/1.1 200"));
    for (int i = 1; i < 8; i++) {
        close(fds[i]);
    }
    buf_fini(&all);
    close_world(&w);
}

static void test_keys_and_hosts(void **state)
{
    static const char *const keys[] = {"sk-test"};
    struct world w;
    struct buf all;
    open_world(&w, quick, (struct server_options){.api_keys = keys, .api_key_count = 1});
    buf_init(&all, 1u << 20);
    int fd = dial(&w);
    say(fd, "GET /v1/models HTTP/1.1\r\nHost: x\r\n\r\nGET /health HTTP/1.1\r\nHost: x\r\n\r\n"
            "GET /v1/models HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer sk-test\r\nConnection: "
            "close\r\n\r\n");
    assert_true(hear(fd, &all, NULL));
    assert_int_equal(count_of(&all, "HTTP/1.1 401"), 1);
    assert_int_equal(count_of(&all, "HTTP/1.1 200"), 2);
    close(fd);
    assert_int_equal(server_set_api_keys(w.server, NULL, NULL, 0, NULL), PHID_OK);
    buf_clear(&all);
    fd = dial(&w);
    say(fd, "GET /v1/models HTTP/1.1\r\nHost: x\r\n\r\nGET /v1/models HTTP/1.1\r\nHost: "
            "evil.example\r\nConnection: close\r\n\r\n");
    assert_true(hear(fd, &all, NULL));
    assert_int_equal(count_of(&all, "HTTP/1.1 200"), 1);
    assert_int_equal(count_of(&all, "HTTP/1.1 403"), 1);
    close(fd);
    buf_fini(&all);
    close_world(&w);
}

/* --------------------------------------------------------------------- drain */

static void test_drain_finishes_what_runs(void **state)
{
    struct world w;
    struct buf all;
    struct buf other;
    char request[1024];
    open_world(&w, slow, (struct server_options){0});
    buf_init(&all, 1u << 20);
    buf_init(&other, 1u << 20);
    int idle = dial(&w);
    int fd = dial(&w);
    post(request, sizeof request, BODY(",\"stream\":true,\"max_tokens\":20"), "");
    say(fd, request);
    assert_true(hear(fd, &all, "\"content\":\"0\""));
    server_drain(w.server);
    assert_false(server_wait(w.server, 50));
    int late = dial(&w);
    post(request, sizeof request, BODY(""), "");
    say(late, request);
    assert_true(hear(late, &other, NULL));
    assert_int_equal(count_of(&other, "HTTP/1.1 503"), 1);
    assert_int_equal(count_of(&other, "Connection: close"), 1);
    assert_true(hear(fd, &all, "data: [DONE]"));
    assert_int_equal(count_of(&all, "\"finish_reason\":\"length\""), 1);
    assert_true(server_wait(w.server, 3000));
    buf_clear(&other);
    assert_true(hear(idle, &other, NULL)); /* closed */
    close(idle);
    close(late);
    close(fd);
    buf_fini(&all);
    buf_fini(&other);
    close_world(&w);
}

static void test_drain_timeout_ends_the_rest(void **state)
{
    struct world w;
    struct buf all;
    char request[1024];
    open_world(&w, slow, (struct server_options){.drain_timeout_ms = 200});
    buf_init(&all, 1u << 20);
    int fd = dial(&w);
    post(request, sizeof request, BODY(",\"stream\":true"), "");
    say(fd, request);
    assert_true(hear(fd, &all, "\"content\":\"0\""));
    server_drain(w.server);
    assert_true(hear(fd, &all, "\"code\":\"shutting_down\""));
    assert_true(hear(fd, &all, NULL));
    assert_int_equal(count_of(&all, "[DONE]"), 0);
    assert_non_null(strstr(all.data, "\r\n0\r\n\r\n")); /* the body ends cleanly */
    assert_true(server_wait(w.server, 3000));
    close(fd);
    buf_fini(&all);
    close_world(&w);
}

static void test_stop_is_prompt(void **state)
{
    struct world w;
    char request[1024];
    int fds[4];
    open_world(&w, slow, (struct server_options){0});
    for (int i = 0; i < 4; i++) {
        fds[i] = dial(&w);
        post(request, sizeof request, i % 2 == 0 ? BODY(",\"stream\":true") : BODY(""), "");
        say(fds[i], request);
    }
    assert_true(eventually_live(&w, 4, 2000));
    uint64_t start = clock_now_ns();
    server_stop(w.server);
    assert_true(server_wait(w.server, 5000));
    assert_true(clock_seconds_since(start) < 3);
    for (int i = 0; i < 4; i++) {
        close(fds[i]);
    }
    close_world(&w);
}

static void test_port_in_use(void **state)
{
    struct world w;
    struct server *second = NULL;
    struct phid_error err;
    open_world(&w, quick, (struct server_options){0});
    const struct server_options options = {.port = server_port(w.server)};
    assert_int_equal(server_start(&options, w.engine, w.model, &second, &err), PHID_ERR_IO);
    assert_non_null(strstr(err.message, "in use"));
    const struct server_options nowhere = {.host = "no.such.host.invalid"};
    assert_int_equal(server_start(&nowhere, w.engine, w.model, &second, &err), PHID_ERR_ARGUMENT);
    const struct server_options half = {.tls_cert = "cert.pem"};
    assert_int_equal(server_start(&half, w.engine, w.model, &second, &err), PHID_ERR_ARGUMENT);
    close_world(&w);
}

/* ----------------------------------------------------------------------- TLS */

/* A key and a certificate signed with it, as PEM files. */
static void write_certificate(const char *cert_path, const char *key_path)
{
    EVP_PKEY *key = EVP_EC_gen("P-256");
    X509 *cert = X509_new();
    FILE *file = NULL;
    assert_non_null(key);
    ASN1_INTEGER_set(X509_get_serialNumber(cert), 1);
    X509_gmtime_adj(X509_getm_notBefore(cert), 0);
    X509_gmtime_adj(X509_getm_notAfter(cert), 3600);
    X509_set_pubkey(cert, key);
    assert_true(X509_sign(cert, key, EVP_sha256()) > 0);
    file = fopen(cert_path, "w");
    assert_int_equal(PEM_write_X509(file, cert), 1);
    fclose(file);
    file = fopen(key_path, "w");
    assert_int_equal(PEM_write_PrivateKey(file, key, NULL, NULL, 0, NULL, NULL), 1);
    fclose(file);
    X509_free(cert);
    EVP_PKEY_free(key);
}

/* One request over TLS up to `version`; false when the handshake fails. */
static bool ask_over_tls(const struct world *w, int version, const char *request, struct buf *all)
{
    SSL_CTX *context = SSL_CTX_new(TLS_client_method());
    char piece[4096];
    int size = 0;
    SSL_CTX_set_max_proto_version(context, version);
    SSL_CTX_set_cipher_list(context, "DEFAULT:@SECLEVEL=0");
    SSL *ssl = SSL_new(context);
    int fd = dial(w);
    SSL_set_fd(ssl, fd);
    bool connected = SSL_connect(ssl) == 1;
    if (connected) {
        assert_int_equal(SSL_write(ssl, request, (int)strlen(request)), (int)strlen(request));
        while ((size = SSL_read(ssl, piece, sizeof piece)) > 0) {
            buf_append(all, piece, (size_t)size);
        }
        assert_int_equal(SSL_get_error(ssl, size), SSL_ERROR_ZERO_RETURN); /* a clean end */
    }
    SSL_free(ssl);
    SSL_CTX_free(context);
    close(fd);
    return connected;
}

static void test_tls(void **state)
{
    char folder[] = "/tmp/phid-tls-XXXXXX";
    char cert[64];
    char key[64];
    char request[1024];
    struct world w;
    struct buf all;
    struct phid_error err;
    assert_non_null(mkdtemp(folder));
    snprintf(cert, sizeof cert, "%s/cert.pem", folder);
    snprintf(key, sizeof key, "%s/key.pem", folder);
    write_certificate(cert, key);
    open_world(&w, quick, (struct server_options){.tls_cert = cert, .tls_key = key});
    buf_init(&all, 1u << 20);
    post(request, sizeof request, BODY(",\"stream\":true"), "Connection: close\r\n");
    assert_true(ask_over_tls(&w, TLS1_3_VERSION, request, &all));
    assert_int_equal(count_of(&all, "data: [DONE]"), 1);
    buf_clear(&all);
    assert_true(ask_over_tls(&w, TLS1_2_VERSION, request, &all));
    assert_int_equal(count_of(&all, "data: [DONE]"), 1);
    assert_false(ask_over_tls(&w, TLS1_1_VERSION, request, &all));
    write_certificate(cert, key);
    assert_int_equal(server_reload_tls(w.server, &err), PHID_OK);
    assert_true(ask_over_tls(&w, TLS1_3_VERSION, request, &all));
    unlink(key);
    assert_int_equal(server_reload_tls(w.server, &err), PHID_ERR_IO);
    assert_string_equal(err.where, "server.tls.key");
    assert_true(ask_over_tls(&w, TLS1_3_VERSION, request, &all)); /* the old key stays in use */
    unlink(cert);
    rmdir(folder);
    int fd = dial(&w); /* plain HTTP on this port gets nothing but the end */
    buf_clear(&all);
    say(fd, "GET /health HTTP/1.1\r\nHost: x\r\n\r\n");
    assert_true(hear(fd, &all, NULL));
    assert_int_equal(count_of(&all, "HTTP/"), 0);
    close(fd);
    buf_fini(&all);
    close_world(&w);
}

/* ---------------------------------------------------------------------- load */

static void *hammer(void *user)
{
    const struct world *w = user;
    char request[1024];
    unsigned random = (unsigned)(uintptr_t)&request;
    for (int i = 0; i < 60; i++) {
        struct buf all;
        buf_init(&all, 1u << 20);
        int fd = dial(w);
        random = random * 1664525 + 1013904223;
        post(request, sizeof request,
             (random & 1u << 20) != 0 ? BODY(",\"stream\":true,\"n\":3") : BODY(",\"n\":3"),
             "Connection: close\r\n");
        say(fd, request);
        if ((random & 1u << 21) != 0) {
            usleep(random >> 24 << 5);
        } else {
            assert_true(hear(fd, &all, NULL));
            assert_int_equal(count_of(&all, "HTTP/1.1 200"), 1);
            assert_int_equal(count_of(&all, "\"finish_reason\":\"stop\""), 3);
        }
        close(fd);
        buf_fini(&all);
    }
    return NULL;
}

static void test_many_clients_come_and_go(void **state)
{
    struct world w;
    pthread_t threads[4];
    open_world(&w, (struct fake_options){.answer = "Hello", .token_us = 500},
               (struct server_options){0});
    for (int i = 0; i < 4; i++) {
        assert_int_equal(pthread_create(&threads[i], NULL, hammer, &w), 0);
    }
    for (int i = 0; i < 4; i++) {
        pthread_join(threads[i], NULL);
    }
    assert_true(eventually_live(&w, 0, 1000));
    close_world(&w);
}

int main(void)
{
    signal(SIGPIPE, SIG_IGN);
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_keep_alive_and_pipelining),
        cmocka_unit_test(test_a_bad_head_after_good_ones_is_answered_in_order),
        cmocka_unit_test(test_body_faults_after_the_head),
        cmocka_unit_test(test_get_with_a_body),
        cmocka_unit_test(test_leaving_cancels_soon),
        cmocka_unit_test(test_half_sent_requests_are_dropped),
        cmocka_unit_test(test_a_half_closed_client_is_answered),
        cmocka_unit_test(test_a_slow_reader_pauses_only_itself),
        cmocka_unit_test(test_pings_in_silence),
        cmocka_unit_test(test_request_timeout),
        cmocka_unit_test(test_too_many_connections),
        cmocka_unit_test(test_keys_and_hosts),
        cmocka_unit_test(test_drain_finishes_what_runs),
        cmocka_unit_test(test_drain_timeout_ends_the_rest),
        cmocka_unit_test(test_stop_is_prompt),
        cmocka_unit_test(test_port_in_use),
        cmocka_unit_test(test_tls),
        cmocka_unit_test(test_many_clients_come_and_go),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
