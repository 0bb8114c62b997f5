/* What can go wrong with a request, and what the client is told.
 *
 * An api_error is filled where the fault is found; error.c holds the one table that turns it into
 * an HTTP status, an OpenAI error object and retry headers. Plain values, no ownership, any thread.
 */
#ifndef PHID_SERVER_API_ERROR_H
#define PHID_SERVER_API_ERROR_H

#include "engine/base/buf.h"
#include "engine/base/status.h"
#include "engine/phid.h"

enum api_fault {
    API_OK = 0,
    /* the body */
    API_INVALID_JSON,
    API_INVALID_TYPE,
    API_INVALID_VALUE,
    API_MISSING_PARAMETER,
    API_UNSUPPORTED_PARAMETER,
    API_UNSUPPORTED_VALUE,
    API_INTEGER_BELOW,
    API_INTEGER_ABOVE,
    API_DECIMAL_BELOW,
    API_DECIMAL_ABOVE,
    API_STRING_TOO_LONG,
    API_ARRAY_TOO_LONG,
    API_EMPTY_ARRAY,
    API_CONTEXT_LENGTH,
    API_ANSWER_TOO_LARGE,
    /* the head */
    API_BAD_REQUEST,
    API_HEAD_TIMEOUT,
    API_BODY_TIMEOUT,
    API_INVALID_KEY,
    API_HOST_REFUSED,
    API_MODEL_NOT_FOUND,
    API_UNKNOWN_URL,
    API_WRONG_METHOD,
    API_BODY_TOO_LARGE,
    API_UNSUPPORTED_ENCODING,
    API_UNSUPPORTED_EXPECT,
    API_HEAD_TOO_LARGE,
    API_UNSUPPORTED_FRAMING,
    API_UNSUPPORTED_VERSION,
    /* ourselves */
    API_RATE_LIMITED,
    API_OVERLOADED,
    API_DRAINING,
    API_LOADING,
    API_REQUEST_TIMEOUT,
    API_INTERNAL,
    API_FAULT_COUNT,
};

#define API_PARAM_MAX 160
#define API_RETRY_MAX 60 /* seconds; after two minutes the clients do not come back at all */

struct api_error {
    enum api_fault fault;
    unsigned retry_after; /* seconds; 0: what the fault has by itself */
    char message[PHID_ERROR_MESSAGE_MAX];
    char param[API_PARAM_MAX]; /* a JSON path such as messages[1].content[0].type; "" for none */
};

/* Fills err and returns fault. param may be NULL. Control characters in the message become '?'. */
enum api_fault api_fail(struct api_error *err, enum api_fault fault, const char *param,
                        const char *format, ...) __attribute__((format(printf, 4, 5)));

/* The same for a failure of the engine: its message, its `where` as param unless param is given. */
enum api_fault api_fail_engine(struct api_error *err, const struct phid_error *engine_error,
                               const char *param);

/* The engine has no place for it: API_OVERLOADED, to be tried again when about half of the wait is
 * over that it would have now. */
enum api_fault api_fail_overloaded(struct api_error *err, const struct phid_engine *engine,
                                   const char *message);

unsigned api_error_status(enum api_fault fault);  /* 400 */
const char *api_error_code(enum api_fault fault); /* "invalid_type" */
unsigned
api_error_retry_after(const struct api_error *err); /* seconds for Retry-After; 0: no header */
bool api_error_retryable(enum api_fault fault); /* false on a 5xx: say `x-should-retry: false` */

/* Appends {"error":{"message":..,"type":..,"param":..,"code":..}}. */
void api_error_write(const struct api_error *err, struct buf *out);

#endif
