#include "server/http/cors.h"

#include <stdlib.h>
#include <strings.h>

#define REQUESTED_HEADERS_MAX 4096 /* bytes of Access-Control-Request-Headers that are echoed */

enum phid_status cors_init(struct cors *cors, const char *const *origins, size_t count,
                           struct phid_error *err)
{
    *cors = (struct cors){0};
    cors->origins = calloc(count + 1, sizeof *cors->origins);
    for (size_t i = 0; cors->origins != NULL && i < count; i++) {
        cors->origins[i] = str_dup(str_of(origins[i]));
        if (cors->origins[i] == NULL) {
            break;
        }
        cors->any |= strcmp(origins[i], "*") == 0;
        cors->count++;
    }
    if (cors->count < count || cors->origins == NULL) {
        cors_fini(cors);
        return phid_fail(err, PHID_ERR_MEMORY, "out of memory for %zu CORS origins", count);
    }
    return PHID_OK;
}

void cors_fini(struct cors *cors)
{
    for (size_t i = 0; i < cors->count; i++) {
        free(cors->origins[i]);
    }
    free(cors->origins);
    *cors = (struct cors){0};
}

bool cors_allows(const struct cors *cors, struct str origin)
{
    if (origin.size == 0) {
        return false;
    }
    for (size_t i = 0; i < cors->count; i++) {
        if (origin.size == strlen(cors->origins[i]) &&
            strncasecmp(origin.data, cors->origins[i], origin.size) == 0) {
            return true;
        }
    }
    return cors->any;
}

static void add_origin(const struct cors *cors, const struct head *head, struct reply *reply)
{
    reply_header(reply, "Access-Control-Allow-Origin", cors->any ? STR("*") : head->origin);
}

void cors_add_headers(const struct cors *cors, const struct head *head, struct reply *reply)
{
    if (cors->count > 0 && !cors->any) {
        reply_header(reply, "Vary", STR("Origin"));
    }
    if (!cors_allows(cors, head->origin)) {
        return;
    }
    add_origin(cors, head, reply);
    reply_header(reply, "Access-Control-Expose-Headers",
                 STR("x-request-id, openai-processing-ms, openai-version, retry-after, "
                     "retry-after-ms, x-should-retry"));
}

void cors_preflight(const struct cors *cors, const struct head *head, struct reply *reply)
{
    reply->status = 204;
    reply_header(reply, "Vary", STR("Origin, Access-Control-Request-Headers"));
    if (!cors_allows(cors, head->origin)) {
        return;
    }
    add_origin(cors, head, reply);
    reply_header(reply, "Access-Control-Allow-Methods", STR("GET, POST, DELETE, OPTIONS"));
    reply_header(reply, "Access-Control-Max-Age", STR("86400"));
    /* A fixed list breaks with each header the clients invent. */
    if (head->cors_headers.size > 0 && head->cors_headers.size <= REQUESTED_HEADERS_MAX) {
        reply_header(reply, "Access-Control-Allow-Headers", head->cors_headers);
    }
    if (head->cors_private_network) {
        reply_header(reply, "Access-Control-Allow-Private-Network", STR("true"));
    }
}

bool cors_host_is_local(struct str host)
{
    static const char local[] = ".localhost";
    const size_t local_size = sizeof local - 1;
    bool dotted = false;
    bool numeric = true;
    const char *colon =
        host.size > 0 && host.data[0] != '[' ? memchr(host.data, ':', host.size) : NULL;
    size_t size = colon != NULL ? (size_t)(colon - host.data) : host.size;
    if (size == 0 || host.data[0] == '[') {
        return true; /* HTTP/1.0, or an IPv6 address */
    }
    if (size > local_size && strncasecmp(host.data + size - local_size, local, local_size) == 0) {
        return true;
    }
    for (size_t i = 0; i < size; i++) {
        dotted |= host.data[i] == '.';
        numeric &= host.data[i] == '.' || (host.data[i] >= '0' && host.data[i] <= '9');
    }
    return !dotted || numeric;
}
