#include "tests/bench/target.h"

#include <errno.h>
#include <jansson.h>
#include <netdb.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "tests/bench/response.h"

#define LIST_MAX    ((size_t)4 << 20)
#define LIST_WAIT_S 60

static bool fail(const struct options *o, const char *reason)
{
    fprintf(stderr, "load: %s: %s\n", o->url, reason);
    return false;
}

/* http://HOST[:PORT][/BASE][/v1][/] */
static bool split_url(struct target *t, const struct options *o, char *host, size_t host_size,
                      char *port, size_t port_size)
{
    struct str url = str_of(o->url);
    if (!str_starts_with(url, STR("http://"))) {
        return fail(o, "expected http://HOST:PORT");
    }
    url = (struct str){url.data + 7, url.size - 7};
    const char *slash = memchr(url.data, '/', url.size);
    size_t size = slash != NULL ? (size_t)(slash - url.data) : url.size;
    struct str base = {url.data + size, url.size - size};
    while (base.size > 0 && base.data[base.size - 1] == '/') {
        base.size--;
    }
    if (base.size >= 3 && memcmp(base.data + base.size - 3, "/v1", 3) == 0) {
        base.size -= 3;
    }
    snprintf(t->host, sizeof t->host, "%.*s", (int)size, url.data);
    snprintf(t->base, sizeof t->base, "%.*s", (int)base.size, base.data);
    bool bracket = size > 0 && url.data[0] == '[';
    const char *end = bracket ? memchr(url.data, ']', size) : memrchr(url.data, ':', size);
    const char *colon = bracket && end != NULL ? end + 1 : end;
    bool has_port = colon != NULL && colon < url.data + size && *colon == ':';
    size_t name = end != NULL ? (size_t)(end - url.data) : size;
    snprintf(host, host_size, "%.*s", (int)(name - bracket), url.data + bracket);
    snprintf(port, port_size, "%.*s", has_port ? (int)(url.data + size - colon - 1) : 2,
             has_port ? colon + 1 : "80");
    return name > 0 || fail(o, "no host");
}

static bool resolve(struct target *t, const struct options *o)
{
    char host[256], port[16];
    struct addrinfo hints = {.ai_socktype = SOCK_STREAM};
    struct addrinfo *found = NULL;
    if (!split_url(t, o, host, sizeof host, port, sizeof port)) {
        return false;
    }
    int problem = getaddrinfo(host, port, &hints, &found);
    if (problem != 0) {
        return fail(o, gai_strerror(problem));
    }
    /* The first that answers: "localhost" often means two. */
    bool good = false;
    for (struct addrinfo *a = found; a != NULL && !good; a = a->ai_next) {
        int fd = socket(a->ai_family, SOCK_STREAM | SOCK_CLOEXEC, 0);
        good = fd >= 0 && connect(fd, a->ai_addr, a->ai_addrlen) == 0;
        memcpy(&t->address, a->ai_addr, a->ai_addrlen);
        t->address_size = a->ai_addrlen;
        if (fd >= 0) {
            close(fd);
        }
    }
    freeaddrinfo(found);
    return good || fail(o, "nobody answers there");
}

int target_connect(const struct target *t)
{
    int one = 1;
    int fd = socket(t->address.ss_family, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    if (fd < 0) {
        return -1;
    }
    setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
    if (connect(fd, (const struct sockaddr *)&t->address, t->address_size) != 0 &&
        errno != EINPROGRESS) {
        close(fd);
        return -1;
    }
    return fd;
}

static void put_head(const struct target *t, const struct options *o, const char *request,
                     struct buf *out)
{
    buf_printf(out, "%s HTTP/1.1\r\nHost: %s\r\n", request, t->host);
    if (o->api_key != NULL) {
        buf_printf(out, "Authorization: Bearer %s\r\n", o->api_key);
    }
    for (size_t i = 0; i < o->header_count; i++) {
        buf_printf(out, "%s\r\n", o->headers[i]);
    }
}

void target_post(const struct target *t, const struct options *o, struct str body, struct buf *out)
{
    char request[400];
    snprintf(request, sizeof request, "POST %s/v1/%s", t->base,
             o->chat ? "chat/completions" : "completions");
    put_head(t, o, request, out);
    buf_printf(out, "Content-Type: application/json\r\nContent-Length: %zu\r\n\r\n", body.size);
    buf_append_str(out, body);
}

/* ------------------------------------------------------------------- model */

/* GET /v1/models, waiting for it. */
static bool get_models(const struct target *t, const struct options *o, struct buf *body)
{
    char bytes[16384];
    char request[400];
    struct buf out;
    struct response response;
    struct timeval wait = {.tv_sec = LIST_WAIT_S};
    bool good = false;
    int fd = socket(t->address.ss_family, SOCK_STREAM | SOCK_CLOEXEC, 0);
    buf_init(&out, sizeof bytes);
    response_init(&response);
    snprintf(request, sizeof request, "GET %s/v1/models", t->base);
    put_head(t, o, request, &out);
    buf_append_c(&out, "\r\n");
    if (fd < 0 || setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &wait, sizeof wait) != 0 ||
        connect(fd, (const struct sockaddr *)&t->address, t->address_size) != 0 ||
        send(fd, out.data, out.size, MSG_NOSIGNAL) != (ssize_t)out.size) {
        goto done;
    }
    while (response.state != RESPONSE_END && response.state != RESPONSE_BAD) {
        ssize_t size = recv(fd, bytes, sizeof bytes, 0);
        struct str rest = {bytes, size > 0 ? (size_t)size : 0};
        struct str run;
        if (size <= 0) {
            break;
        }
        while (response_next(&response, &rest, &run)) {
            buf_append_str(body, run);
        }
    }
    good = response_close(&response) && response.status == 200 && !body->failed;
done:
    if (fd >= 0) {
        close(fd);
    }
    buf_fini(&out);
    response_fini(&response);
    return good;
}

static bool ask_model(struct target *t, const struct options *o)
{
    struct buf body;
    const char *id = NULL;
    json_t *list = NULL;
    buf_init(&body, LIST_MAX);
    if (get_models(t, o, &body)) {
        list = json_loadb(body.data, body.size, 0, NULL);
        id = json_string_value(
            json_object_get(json_array_get(json_object_get(list, "data"), 0), "id"));
    }
    if (id != NULL) {
        snprintf(t->model, sizeof t->model, "%s", id);
    }
    bool good = id != NULL;
    json_decref(list);
    buf_fini(&body);
    return good || fail(o, "GET /v1/models gives no model: name it with --model");
}

bool target_find(struct target *t, const struct options *o)
{
    *t = (struct target){0};
    if (!resolve(t, o)) {
        return false;
    }
    if (o->model == NULL) {
        return ask_model(t, o);
    }
    snprintf(t->model, sizeof t->model, "%s", o->model);
    return true;
}
