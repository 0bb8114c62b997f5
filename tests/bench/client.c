#include "tests/bench/client.h"

#include <errno.h>
#include <jansson.h>
#include <stdio.h>
#include <sys/epoll.h>
#include <unistd.h>

#include "engine/base/clock.h"

#define ERROR_BODY_MAX ((size_t)65536)

void client_init(struct client *c, int epoll_fd)
{
    *c = (struct client){.fd = -1, .epoll_fd = epoll_fd};
    buf_init(&c->out, TRAFFIC_BODY_MAX);
    buf_init(&c->error_body, ERROR_BODY_MAX);
    response_init(&c->response);
    sse_init(&c->sse);
    samples_init(&c->gaps);
    conversation_init(&c->talk);
}

static void hang_up(struct client *c)
{
    if (c->fd >= 0) {
        close(c->fd);
        c->fd = -1;
    }
}

void client_fini(struct client *c)
{
    hang_up(c);
    buf_fini(&c->out);
    buf_fini(&c->error_body);
    response_fini(&c->response);
    sse_fini(&c->sse);
    samples_fini(&c->gaps);
    conversation_fini(&c->talk);
}

static void set_events(struct client *c, uint32_t events)
{
    struct epoll_event event = {.events = events, .data.ptr = c};
    if (events != c->events && epoll_ctl(c->epoll_fd, EPOLL_CTL_MOD, c->fd, &event) == 0) {
        c->events = events;
    }
}

static bool dial(struct client *c, const struct target *target)
{
    struct epoll_event event = {.events = EPOLLIN | EPOLLOUT, .data.ptr = c};
    c->reused = c->fd >= 0;
    if (c->reused) {
        return true;
    }
    c->fd = target_connect(target);
    c->events = event.events;
    return c->fd >= 0 && epoll_ctl(c->epoll_fd, EPOLL_CTL_ADD, c->fd, &event) == 0;
}

/* ------------------------------------------------------------------ results */

static bool end(struct client *c, enum outcome outcome, const char *reason)
{
    struct client_result *r = &c->result;
    r->outcome = outcome;
    r->status = c->response.status;
    r->e2el_ms = (double)(clock_now_ns() - r->start_ns) / CLOCK_NS_PER_MS;
    r->has_retry_after = c->response.has_retry_after;
    snprintf(r->reason, sizeof r->reason, "%s", reason);
    c->busy = false;
    if (c->response.state != RESPONSE_END || !c->response.keep_alive) {
        hang_up(c);
    }
    return true;
}

/* An answer other than 200, whole: is it an error object of the API? */
static bool end_error(struct client *c)
{
    char reason[96];
    json_t *body = json_loadb(c->error_body.data != NULL ? c->error_body.data : "",
                              c->error_body.size, 0, NULL);
    const json_t *error = json_object_get(body, "error");
    const char *code = json_string_value(json_object_get(error, "code"));
    const char *type = json_string_value(json_object_get(error, "type"));
    c->result.well_formed = json_is_string(json_object_get(error, "message")) && type != NULL;
    snprintf(reason, sizeof reason, "%u %.80s", c->response.status,
             code != NULL   ? code
             : type != NULL ? type
                            : "without an error object");
    json_decref(body);
    bool refused = c->response.status == 429 || c->response.status == 503;
    return end(c, refused ? OUTCOME_REFUSED : OUTCOME_FAILED, reason);
}

static bool end_response(struct client *c)
{
    if (c->response.status != 200) {
        return end_error(c);
    }
    if (c->result.reason[0] != '\0') {
        char reason[sizeof c->result.reason];
        memcpy(reason, c->result.reason, sizeof reason);
        return end(c, OUTCOME_FAILED, reason);
    }
    return c->done_seen ? end(c, OUTCOME_GOOD, "")
                        : end(c, OUTCOME_FAILED, "200 stream without its [DONE]");
}

/* ------------------------------------------------------------------ sending */

static bool send_request(struct client *c)
{
    while (c->sent < c->out.size) {
        ssize_t size = send(c->fd, c->out.data + c->sent, c->out.size - c->sent, MSG_NOSIGNAL);
        if (size < 0) {
            return errno == EAGAIN || errno == EINTR || errno == ENOTCONN || errno == EPIPE ||
                   errno == ECONNRESET;
        }
        c->sent += (size_t)size;
    }
    set_events(c, EPOLLIN);
    return true;
}

/* The same request again, from its first byte. */
static bool start(struct client *c, const struct target *target)
{
    c->sent = 0;
    response_clear(&c->response);
    if (!dial(c, target)) {
        return false;
    }
    /* A new connection says itself when it is there. */
    if (c->reused) {
        set_events(c, EPOLLIN | EPOLLOUT);
        return send_request(c);
    }
    return true;
}

bool client_ask(struct client *c, const struct target *target, struct traffic *traffic)
{
    struct buf body;
    buf_init(&body, TRAFFIC_BODY_MAX);
    traffic_ask(traffic, &c->talk, &body);
    buf_clear(&c->out);
    target_post(target, traffic->options, buf_view(&body), &c->out);
    bool failed = body.failed || c->out.failed;
    buf_fini(&body);
    sse_clear(&c->sse);
    buf_clear(&c->error_body);
    samples_clear(&c->gaps);
    c->done_seen = false;
    c->busy = true;
    c->result = (struct client_result){.start_ns = clock_now_ns()};
    if (traffic->options->reconnect) {
        hang_up(c);
    }
    if (failed || !start(c, target)) {
        hang_up(c);
        end(c, OUTCOME_FAILED, failed ? "out of memory" : "no connection");
        return false;
    }
    return true;
}

/* ---------------------------------------------------------------- receiving */

static void on_event(struct client *c, struct traffic *traffic, const struct sse_event *event)
{
    struct client_result *r = &c->result;
    uint64_t now = clock_now_ns();
    if (event->text.size > 0) {
        if (r->pieces == 0) {
            r->ttft_ms = (double)(now - r->start_ns) / CLOCK_NS_PER_MS;
        } else {
            samples_add(&c->gaps, (double)(now - c->last_ns) / CLOCK_NS_PER_MS);
        }
        c->last_ns = now;
        r->pieces++;
        traffic_hear(traffic, &c->talk, event->text);
    }
    if (event->has_usage) {
        r->has_usage = true;
        r->usage = event->usage;
    }
    if (event->error) {
        snprintf(r->reason, sizeof r->reason, "200 then error %.*s",
                 (int)(event->error_code.size < 60 ? event->error_code.size : 60),
                 event->error_code.data);
    }
    c->done_seen |= event->done;
}

static void on_body(struct client *c, struct traffic *traffic, struct str body)
{
    struct sse_event event;
    if (c->response.status != 200) {
        buf_append_str(&c->error_body, body);
        return;
    }
    while (sse_next(&c->sse, &body, &event)) {
        on_event(c, traffic, &event);
    }
}

static bool on_bytes(struct client *c, struct traffic *traffic, struct str bytes)
{
    struct str body;
    while (response_next(&c->response, &bytes, &body)) {
        on_body(c, traffic, body);
    }
    if (c->response.state == RESPONSE_BAD) {
        return end(c, OUTCOME_FAILED, "an answer that is not HTTP");
    }
    if (c->response.state == RESPONSE_END) {
        traffic_heard(traffic, &c->talk);
        return end_response(c);
    }
    return false;
}

/* The connection ended. A kept one may have been closed before the request came: then once more. */
static bool on_close(struct client *c, const struct target *target)
{
    bool unused = c->reused && c->response.state == RESPONSE_STATUS_LINE;
    bool whole = response_close(&c->response);
    hang_up(c);
    if (whole) {
        return end_response(c);
    }
    if (unused && start(c, target)) {
        return false;
    }
    return end(c, OUTCOME_FAILED,
               c->response.status == 0 ? "closed without an answer" : "closed in the answer");
}

bool client_on_event(struct client *c, const struct target *target, struct traffic *traffic,
                     uint32_t events, char *scratch)
{
    if (c->fd < 0) {
        return false;
    }
    if (!c->busy) {
        hang_up(c); /* the server has closed it */
        return false;
    }
    if ((events & EPOLLOUT) != 0 && !send_request(c)) {
        hang_up(c);
        return end(c, OUTCOME_FAILED, "cannot send");
    }
    if ((events & (EPOLLIN | EPOLLERR | EPOLLHUP)) == 0) {
        return false;
    }
    ssize_t size = recv(c->fd, scratch, CLIENT_SCRATCH, 0);
    if (size > 0) {
        return on_bytes(c, traffic, (struct str){scratch, (size_t)size});
    }
    if (size < 0 && (errno == EAGAIN || errno == EINTR)) {
        return false;
    }
    return on_close(c, target);
}

void client_cut(struct client *c)
{
    hang_up(c);
    if (c->busy) {
        end(c, OUTCOME_CUT, "");
    }
}
