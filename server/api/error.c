#include "server/api/error.h"

#include <stdarg.h>
#include <stdio.h>

#include "server/api/json_write.h"

struct fault_row {
    unsigned status;
    const char *type;
    const char *code;
    unsigned retry_after; /* seconds */
    bool final;           /* a 5xx that a retry cannot change */
};

#define INVALID "invalid_request_error"

static const struct fault_row rows[API_FAULT_COUNT] = {
    [API_INVALID_JSON] = {400, INVALID, "invalid_json", 0, false},
    [API_INVALID_TYPE] = {400, INVALID, "invalid_type", 0, false},
    [API_INVALID_VALUE] = {400, INVALID, "invalid_value", 0, false},
    [API_MISSING_PARAMETER] = {400, INVALID, "missing_required_parameter", 0, false},
    [API_UNSUPPORTED_PARAMETER] = {400, INVALID, "unsupported_parameter", 0, false},
    [API_UNSUPPORTED_VALUE] = {400, INVALID, "unsupported_value", 0, false},
    [API_INTEGER_BELOW] = {400, INVALID, "integer_below_min_value", 0, false},
    [API_INTEGER_ABOVE] = {400, INVALID, "integer_above_max_value", 0, false},
    [API_DECIMAL_BELOW] = {400, INVALID, "decimal_below_min_value", 0, false},
    [API_DECIMAL_ABOVE] = {400, INVALID, "decimal_above_max_value", 0, false},
    [API_STRING_TOO_LONG] = {400, INVALID, "string_above_max_length", 0, false},
    [API_ARRAY_TOO_LONG] = {400, INVALID, "array_above_max_length", 0, false},
    [API_EMPTY_ARRAY] = {400, INVALID, "empty_array", 0, false},
    [API_CONTEXT_LENGTH] = {400, INVALID, "context_length_exceeded", 0, false},
    [API_ANSWER_TOO_LARGE] = {400, INVALID, "answer_too_large", 0, false},
    [API_BAD_REQUEST] = {400, INVALID, "bad_request", 0, false},
    [API_HEAD_TIMEOUT] = {400, INVALID, "head_timeout", 0, false},
    [API_BODY_TIMEOUT] = {400, INVALID, "body_timeout", 0, false},
    [API_INVALID_KEY] = {401, INVALID, "invalid_api_key", 0, false},
    [API_HOST_REFUSED] = {403, "permission_error", "host_not_allowed", 0, false},
    [API_MODEL_NOT_FOUND] = {404, INVALID, "model_not_found", 0, false},
    [API_UNKNOWN_URL] = {404, INVALID, "unknown_url", 0, false},
    [API_WRONG_METHOD] = {405, INVALID, "method_not_supported", 0, false},
    [API_BODY_TOO_LARGE] = {413, INVALID, "request_too_large", 0, false},
    [API_UNSUPPORTED_ENCODING] = {415, INVALID, "unsupported_content_encoding", 0, false},
    [API_UNSUPPORTED_EXPECT] = {417, INVALID, "unsupported_expectation", 0, false},
    [API_HEAD_TOO_LARGE] = {431, INVALID, "head_too_large", 0, false},
    [API_UNSUPPORTED_FRAMING] = {501, INVALID, "unsupported_transfer_encoding", 0, true},
    [API_UNSUPPORTED_VERSION] = {505, INVALID, "unsupported_http_version", 0, true},
    [API_RATE_LIMITED] = {429, "rate_limit_error", "rate_limit_exceeded", 1, false},
    [API_OVERLOADED] = {503, "server_error", "overloaded", 1, false},
    [API_DRAINING] = {503, "server_error", "shutting_down", 1, false},
    [API_LOADING] = {503, "server_error", "model_loading", 2, false},
    [API_REQUEST_TIMEOUT] = {503, "server_error", "request_timeout", 0, true},
    [API_INTERNAL] = {500, "server_error", "internal_error", 0, false},
};

/* The only place that knows which engine status means what to a client. */
static enum api_fault fault_of_status(enum phid_status status)
{
    switch (status) {
    case PHID_OK:
        return API_OK;
    case PHID_ERR_ARGUMENT:
        return API_INVALID_VALUE;
    case PHID_ERR_UNSUPPORTED:
        return API_UNSUPPORTED_VALUE;
    case PHID_ERR_CONTEXT:
        return API_CONTEXT_LENGTH;
    case PHID_ERR_NOT_FOUND:
        return API_MODEL_NOT_FOUND;
    case PHID_ERR_BUSY:
        return API_OVERLOADED;
    case PHID_ERR_MEMORY:
        return API_OVERLOADED;
    case PHID_ERR_CLOSED:
        return API_DRAINING;
    case PHID_ERR_TIMEOUT:
        return API_REQUEST_TIMEOUT;
    case PHID_ERR_IO:
    case PHID_ERR_FORMAT:
    case PHID_ERR_DEVICE:
    case PHID_ERR_INTERNAL:
        break;
    }
    return API_INTERNAL;
}

enum api_fault api_fail(struct api_error *err, enum api_fault fault, const char *param,
                        const char *format, ...)
{
    va_list args;
    err->fault = fault;
    err->retry_after = 0;
    snprintf(err->param, sizeof err->param, "%s", param != NULL ? param : "");
    va_start(args, format);
    vsnprintf(err->message, sizeof err->message, format, args);
    va_end(args);
    for (char *c = err->message; *c != '\0'; c++) {
        if ((unsigned char)*c < 0x20 || *c == 0x7f) {
            *c = '?';
        }
    }
    return fault;
}

enum api_fault api_fail_engine(struct api_error *err, const struct phid_error *engine_error,
                               const char *param)
{
    enum api_fault fault = fault_of_status(engine_error->status);
    if (fault == API_INTERNAL) {
        /* What broke inside is for the log, not for the client. */
        return api_fail(err, fault, NULL, "The server had an error while processing your request.");
    }
    if (param == NULL && engine_error->where[0] != '\0') {
        param = engine_error->where;
    }
    bool of_request = api_error_status(fault) < 500;
    return api_fail(err, fault, of_request ? param : NULL, "%s", engine_error->message);
}

enum api_fault api_fail_overloaded(struct api_error *err, const struct phid_engine *engine,
                                   const char *message)
{
    struct phid_engine_load load;
    phid_engine_load(engine, &load);
    uint64_t seconds = (load.wait_ms / 2 + 999) / 1000;
    api_fail(err, API_OVERLOADED, NULL, "%s", message);
    err->retry_after = seconds < 1               ? 1
                       : seconds > API_RETRY_MAX ? API_RETRY_MAX
                                                 : (unsigned)seconds;
    return API_OVERLOADED;
}

static const struct fault_row *row_of(enum api_fault fault)
{
    if (fault <= API_OK || fault >= API_FAULT_COUNT) {
        fault = API_INTERNAL;
    }
    return &rows[fault];
}

unsigned api_error_status(enum api_fault fault)
{
    return row_of(fault)->status;
}

const char *api_error_code(enum api_fault fault)
{
    return row_of(fault)->code;
}

unsigned api_error_retry_after(const struct api_error *err)
{
    unsigned own = row_of(err->fault)->retry_after;
    return own > 0 && err->retry_after > 0 ? err->retry_after : own;
}

bool api_error_retryable(enum api_fault fault)
{
    return !row_of(fault)->final;
}

void api_error_write(const struct api_error *err, struct buf *out)
{
    const struct fault_row *row = row_of(err->fault);
    buf_append_c(out, "{\"error\":{\"message\":");
    json_put_string(out, str_of(err->message));
    buf_append_c(out, ",\"type\":");
    json_put_string(out, str_of(row->type));
    buf_append_c(out, ",\"param\":");
    if (err->param[0] != '\0') {
        json_put_string(out, str_of(err->param));
    } else {
        buf_append_c(out, "null");
    }
    buf_append_c(out, ",\"code\":");
    json_put_string(out, str_of(row->code));
    buf_append_c(out, "}}");
}
