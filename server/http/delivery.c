#include "server/http/delivery.h"

#include <stdio.h>
#include <stdlib.h>

#include "server/http/conn.h"
#include "server/http/feed.h"

static void add_common_headers(struct exchange *x)
{
    reply_header(&x->reply, "x-request-id", str_of(x->id));
    reply_header(&x->reply, "openai-version", STR("2020-10-01"));
    if (x->reply.status != 204) {
        cors_add_headers(&x->io->cors, &x->conn->head, &x->reply);
    }
    if (io_refuses(x->io) || x->prompt_reply) {
        reply_header(&x->reply, "Connection", STR("close"));
    }
}

static enum MHD_Result queue(struct exchange *x, struct MHD_Response *response)
{
    enum MHD_Result result = response != NULL && !x->reply.failed ? MHD_YES : MHD_NO;
    for (size_t i = 0; i < x->reply.header_count && result == MHD_YES; i++) {
        result =
            MHD_add_response_header(response, x->reply.headers[i].name, x->reply.headers[i].value);
    }
    if (result == MHD_YES) {
        x->status_sent = x->reply.status;
        result = MHD_queue_response(x->mhd, x->reply.status, response);
    }
    if (response != NULL) {
        MHD_destroy_response(response);
    }
    return result;
}

enum MHD_Result delivery_send(struct exchange *x)
{
    char elapsed[24];
    char *body = NULL;
    size_t size = 0;
    if (x->reply.body.failed) {
        struct api_error error;
        api_fail(&error, API_OVERLOADED, NULL, "The server is out of memory for this answer.");
        reply_error(&x->reply, &error);
    }
    x->stage = EXCHANGE_REPLYING;
    add_common_headers(x);
    int digits = snprintf(elapsed, sizeof elapsed, "%llu",
                          (unsigned long long)(x->io->now_ms - x->started_ms));
    reply_header(&x->reply, "openai-processing-ms", (struct str){elapsed, (size_t)digits});
    if (buf_take(&x->reply.body, &body, &size, NULL) != PHID_OK) {
        return MHD_NO;
    }
    struct MHD_Response *response =
        MHD_create_response_from_buffer(size, body, MHD_RESPMEM_MUST_FREE);
    if (response == NULL) {
        free(body);
    }
    return queue(x, response);
}

enum MHD_Result delivery_send_json(struct exchange *x)
{
    reply_header(&x->reply, "Content-Type", STR("application/json"));
    return delivery_send(x);
}

enum MHD_Result delivery_send_error(struct exchange *x, const struct api_error *error)
{
    x->fault = error->fault;
    reply_error(&x->reply, error);
    if (error->fault == API_WRONG_METHOD) {
        reply_header(&x->reply, "Allow", str_of(x->route.allow));
    }
    return delivery_send(x);
}

/* A client that wants to close, and one that cannot be told where a body ends. */
static bool closes_after(const struct exchange *x)
{
    return !x->conn->head.keep_alive || x->conn->head.version_1_0;
}

void delivery_open_stream(struct exchange *x)
{
    x->stage = EXCHANGE_STREAMING;
    x->status_sent = x->reply.status = 200;
    add_common_headers(x);
    if (closes_after(x) && !io_refuses(x->io)) {
        reply_header(&x->reply, "Connection", STR("close"));
    }
    reply_header(&x->reply, "Content-Type", STR("text/event-stream; charset=utf-8"));
    reply_header(&x->reply, "Cache-Control", STR("no-cache"));
    reply_header(&x->reply, "X-Accel-Buffering", STR("no"));
    x->conn->answered = x->conn->muted = true;
    x->fresh = true;
    if (feed_open(x, &x->conn->to_client)) {
        conn_touch(x->conn);
    } else {
        conn_close(x->conn);
    }
}

enum MHD_Result delivery_send_nothing(struct exchange *x)
{
    static char nothing[1];
    struct MHD_Response *response =
        MHD_create_response_from_buffer(0, nothing, MHD_RESPMEM_PERSISTENT);
    enum MHD_Result result = response != NULL ? MHD_YES : MHD_NO;
    if (result == MHD_YES && (closes_after(x) || io_refuses(x->io))) {
        result = MHD_add_response_header(response, "Connection", "close");
    }
    if (result == MHD_YES) {
        result = MHD_queue_response(x->mhd, x->reply.status, response);
    }
    if (response != NULL) {
        MHD_destroy_response(response);
    }
    return result;
}
