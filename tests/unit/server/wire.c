#include "tests/unit/server/wire.h"

#include <arpa/inet.h>
#include <poll.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <sys/socket.h>
#include <unistd.h>
#include <cmocka.h>

#include "engine/base/clock.h"

const struct fake_options quick = {.answer = "Hello"};
const struct fake_options slow = {
    .answer = "012345678901234567890123456789012345678901234567890123456789012345678901234567890123"
              "4567890123456789",
    .token_us = 20000,
};

void open_world(struct world *w, struct fake_options fake, struct server_options options)
{
    w->model = fake_model_new();
    w->engine = fake_engine_new(w->model, &fake);
    if (options.drain_timeout_ms == 0) {
        options.drain_timeout_ms = 5000;
    }
    assert_int_equal(server_start(&options, w->engine, w->model, &w->server, NULL), PHID_OK);
}

void close_world(struct world *w)
{
    server_free(w->server);
    assert_int_equal(fake_live(w->engine), 0);
    phid_engine_free(w->engine);
    phid_model_close(w->model);
}

int dial(const struct world *w)
{
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_port = htons(server_port(w->server))};
    address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    int fd = socket(AF_INET, SOCK_STREAM, 0);
    assert_int_equal(connect(fd, (struct sockaddr *)&address, sizeof address), 0);
    return fd;
}

void say(int fd, const char *text)
{
    assert_int_equal(send(fd, text, strlen(text), MSG_NOSIGNAL), (ssize_t)strlen(text));
}

bool hear(int fd, struct buf *all, const char *text)
{
    uint64_t end = clock_now_ns() + 10 * (uint64_t)CLOCK_NS_PER_S;
    size_t looked_at = 0;
    while (text == NULL || all->data == NULL || strstr(all->data + looked_at, text) == NULL) {
        char piece[16384];
        struct pollfd ready = {.fd = fd, .events = POLLIN};
        size_t overlap = text != NULL ? strlen(text) : 0;
        looked_at = all->size > overlap ? all->size - overlap : 0;
        if (clock_now_ns() > end || poll(&ready, 1, 1000) < 0) {
            return false;
        }
        ssize_t size = ready.revents != 0 ? recv(fd, piece, sizeof piece, MSG_DONTWAIT) : -1;
        if (size == 0 || (size < 0 && ready.revents != 0)) {
            return text == NULL;
        }
        if (size > 0) {
            buf_append(all, piece, (size_t)size);
        }
    }
    return true;
}

bool eventually_live(const struct world *w, size_t count, unsigned ms)
{
    for (unsigned i = 0; i < ms; i++) {
        if (fake_live(w->engine) == count) {
            return true;
        }
        usleep(1000);
    }
    return false;
}

size_t count_of(const struct buf *all, const char *text)
{
    size_t count = 0;
    for (const char *at = all->data; at != NULL && (at = strstr(at, text)) != NULL;
         at += strlen(text)) {
        count++;
    }
    return count;
}

void post(char *out, size_t size, const char *body, const char *headers)
{
    snprintf(out, size,
             "POST /v1/chat/completions HTTP/1.1\r\nHost: x\r\n%sContent-Length: %zu\r\n\r\n%s",
             headers, strlen(body), body);
}
