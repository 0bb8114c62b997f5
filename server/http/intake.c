#include "server/http/intake.h"

#include <stdlib.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <unistd.h>

#include "server/http/reply.h"

/* ---------------------------------------------------------- our own answers */

void intake_refuse(struct conn *c, const struct api_error *error)
{
    struct reply reply;
    char id[REPLY_ID_SIZE];
    if (c->answered) {
        conn_close(c);
        return;
    }
    metrics_count_fault(&c->io->metrics, error->fault);
    reply_init(&reply);
    reply_error(&reply, error);
    (void)reply_make_id(id);
    reply_header(&reply, "x-request-id", str_of(id));
    if (c->head.origin.size > 0) {
        cors_add_headers(&c->io->cors, &c->head, &reply);
    }
    reply.head_only = str_equal_c(c->head.method, "HEAD");
    reply_write(&reply, &c->to_client);
    io_log(c->io, SERVER_LOG_INFO, "event=refused id=%s status=%u code=%s", id, reply.status,
           api_error_code(error->fault));
    reply_fini(&reply);
    conn_close_inner(c);
    c->state = CONN_LINGER;
    c->deadline_ms = c->io->now_ms + IO_LINGER_MS;
}

void intake_linger(struct conn *c)
{
    conn_close_inner(c);
    c->state = CONN_LINGER;
    c->deadline_ms = c->io->now_ms + IO_LINGER_MS;
}

/* ------------------------------------------------------------ client's bytes */

/* What libmicrohttpd is told: only what it needs to find the body and to end or keep the
 * connection. */
static void write_inner_head(struct conn *c)
{
    struct buf *out = &c->to_inner;
    const struct head *head = &c->head;
    buf_append_str(out, head->method);
    buf_append_c(out, " / HTTP/1.");
    buf_append_c(out, head->version_1_0 ? "0\r\n" : "1\r\n");
    buf_append_c(out, "Host: phid\r\n");
    buf_append_c(out, head->keep_alive ? "Connection: Keep-Alive\r\n" : "Connection: close\r\n");
    if (head->chunked) {
        buf_append_c(out, "Transfer-Encoding: chunked\r\n");
    } else if (head->has_length) {
        buf_printf(out, "Content-Length: %llu\r\n", (unsigned long long)head->content_length);
    }
    if (head->expects_continue && !head->version_1_0 && c->framing.state != FRAMING_END) {
        buf_append_c(out, "Expect: 100-continue\r\n");
    }
    buf_append_c(out, "\r\n");
}

static bool open_inner(struct conn *c)
{
    struct io *io = c->io;
    struct sockaddr_storage nobody = {.ss_family = AF_UNIX};
    int pair[2];
    if (c->inner >= 0) {
        return true;
    }
    if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0, pair) != 0) {
        return false;
    }
    c->inner_events = EPOLLIN;
    /* Bit 0 of the tag says which of the two sockets it is. */
    struct epoll_event event = {.events = c->inner_events, .data.u64 = (uint64_t)(uintptr_t)c | 1};
    if (epoll_ctl(io->epoll_fd, EPOLL_CTL_ADD, pair[0], &event) != 0) {
        close(pair[0]);
        close(pair[1]);
        return false;
    }
    c->inner = pair[0];
    c->inner_eof = false;
    unsigned held = c->held;
    io->adding = c;
    /* Closes pair[1] itself when it fails. */
    enum MHD_Result added = MHD_add_connection(io->daemon, pair[1], (struct sockaddr *)&nobody,
                                               sizeof(struct sockaddr));
    io->adding = NULL;
    io->daemon_ready = true;
    return added == MHD_YES && c->held > held;
}

static void out_of_resources(struct conn *c)
{
    struct api_error error;
    api_fail(&error, API_OVERLOADED, NULL, "The server has too many connections.");
    intake_refuse(c, &error);
}

/* A whole head has come: `size` bytes of c->in. */
static void begin_request(struct conn *c, size_t size)
{
    struct api_error error;
    free(c->head_bytes);
    c->head = (struct head){0};
    c->answered = false;
    c->head_bytes = str_dup((struct str){c->in.data, size});
    if (c->head_bytes == NULL) {
        out_of_resources(c);
        return;
    }
    buf_drop(&c->in, size);
    if (head_parse((struct str){c->head_bytes, size}, &c->head, &error) != API_OK ||
        framing_init(&c->framing, &c->head, c->io->max_body_bytes, &error) != API_OK) {
        intake_refuse(c, &error);
        return;
    }
    if (!open_inner(c)) {
        out_of_resources(c);
        return;
    }
    write_inner_head(c);
    c->completed = false;
    c->served = true;
    c->state = c->framing.state == FRAMING_END ? CONN_WAIT : CONN_BODY;
    c->body_since_ms = c->io->now_ms;
}

static bool advance_head(struct conn *c)
{
    struct api_error error;
    if (c->scan.at == 0) {
        buf_drop(&c->in, head_blank_lines(buf_view(&c->in)));
    }
    if (c->in.size == 0) {
        return false;
    }
    size_t seen = c->scan.at;
    switch (head_scan(&c->scan, buf_view(&c->in), &error)) {
    case HEAD_MORE:
        if (seen == 0 && c->served) {
            c->deadline_ms = c->io->now_ms + IO_HEAD_MS; /* it was the idle deadline until now */
        }
        return false;
    case HEAD_BAD:
        c->answered = false;
        c->head = (struct head){0};
        intake_refuse(c, &error);
        return true;
    case HEAD_COMPLETE:
        break;
    }
    size_t size = c->scan.at;
    head_scan_init(&c->scan);
    begin_request(c, size);
    return true;
}

static void forward_piece(struct conn *c, struct str body)
{
    if (!c->framing.chunked) {
        buf_append_str(&c->to_inner, body);
    } else if (body.size > 0) {
        buf_printf(&c->to_inner, "%zx\r\n", body.size);
        buf_append_str(&c->to_inner, body);
        buf_append_c(&c->to_inner, "\r\n");
    }
}

/* Forwards as much of the body as fits, chunked anew. */
static bool advance_body(struct conn *c)
{
    struct api_error error;
    size_t taken = 0;
    while (taken < c->in.size && c->to_inner.size < CONN_INNER_MAX &&
           c->framing.state != FRAMING_END) {
        struct str rest = {c->in.data + taken, c->in.size - taken};
        struct str body;
        size_t used = 0;
        if (framing_next(&c->framing, rest, &used, &body, &error) != API_OK) {
            intake_refuse(c, &error);
            return true;
        }
        forward_piece(c, body);
        taken += used;
    }
    buf_drop(&c->in, taken);
    if (c->framing.state == FRAMING_END) {
        if (c->framing.chunked) {
            buf_append_c(&c->to_inner, "0\r\n\r\n");
        }
        c->state = CONN_WAIT;
        return true;
    }
    return taken > 0;
}

void intake_end_request(struct conn *c)
{
    c->completed = c->muted = false;
    c->state = CONN_HEAD;
    c->deadline_ms = c->io->now_ms + (c->in.size > 0 ? IO_HEAD_MS : IO_IDLE_MS);
    c->head = (struct head){0};
    free(c->head_bytes);
    c->head_bytes = NULL;
    if (c->in.size == 0) { /* an idle connection costs little */
        buf_fini(&c->in);
        buf_init(&c->in, CONN_BUFFER_MAX);
    }
}

bool intake_advance(struct conn *c)
{
    switch (c->state) {
    case CONN_HEAD:
        return advance_head(c);
    case CONN_BODY:
        return advance_body(c);
    case CONN_WAIT:
    case CONN_LINGER:
    case CONN_CLOSED:
        break;
    }
    return false;
}
