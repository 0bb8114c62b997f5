#include "server/http/wishes.h"

#include <stdbool.h>
#include <stdlib.h>

#define NUMBER_MAX 32

/* Digits with at most one point among them, and one digit at least. */
static bool parse_seconds(struct str text, double *ret)
{
    char copy[NUMBER_MAX];
    size_t digits = 0, points = 0;
    if (text.size >= sizeof copy) {
        return false;
    }
    for (size_t i = 0; i < text.size; i++) {
        digits += text.data[i] >= '0' && text.data[i] <= '9';
        points += text.data[i] == '.';
        copy[i] = text.data[i];
    }
    copy[text.size] = '\0';
    if (digits == 0 || points > 1 || digits + points != text.size) {
        return false;
    }
    *ret = strtod(copy, NULL);
    return true;
}

static bool parse_timeout(struct str text, uint32_t *ret_ms)
{
    double seconds = 0;
    if (!parse_seconds(text, &seconds) || seconds <= 0) {
        return false;
    }
    double ms = seconds * 1000;
    *ret_ms = ms >= WISHES_TIMEOUT_MAX_MS ? WISHES_TIMEOUT_MAX_MS : ms < 1 ? 1 : (uint32_t)ms;
    return true;
}

static bool parse_priority(struct str text, int32_t *ret)
{
    bool negative = text.size > 0 && text.data[0] == '-';
    size_t at = negative || (text.size > 0 && text.data[0] == '+');
    int64_t value = 0;
    if (at == text.size || text.size > 11) {
        return false;
    }
    for (; at < text.size; at++) {
        if (text.data[at] < '0' || text.data[at] > '9') {
            return false;
        }
        value = value * 10 + (text.data[at] - '0');
    }
    value = negative ? -value : value;
    *ret = (int32_t)value;
    return value >= INT32_MIN && value <= INT32_MAX;
}

enum api_fault wishes_read(const struct head *head, struct wishes *ret, struct api_error *err)
{
    struct wishes wishes = {0};
    if (head->priority.size > 0 && !parse_priority(head->priority, &wishes.priority)) {
        return api_fail(err, API_INVALID_VALUE, "x-priority",
                        "Invalid 'x-priority' header: expected a 32-bit integer.");
    }
    if (head->request_timeout.size > 0) {
        if (!parse_timeout(head->request_timeout, &wishes.timeout_ms)) {
            return api_fail(err, API_INVALID_VALUE, "x-request-timeout",
                            "Invalid 'x-request-timeout' header: expected seconds above 0.");
        }
    } else {
        (void)parse_timeout(head->timeout, &wishes.timeout_ms);
    }
    *ret = wishes;
    return API_OK;
}
