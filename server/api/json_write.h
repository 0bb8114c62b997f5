/* JSON values written straight into a buffer. The output is always valid UTF-8 and valid JSON,
 * whatever goes in: broken UTF-8 becomes U+FFFD, numbers that JSON cannot say become -9999. */
#ifndef PHID_SERVER_API_JSON_WRITE_H
#define PHID_SERVER_API_JSON_WRITE_H

#include <stdint.h>

#include "engine/base/buf.h"

void json_put_string(struct buf *out, struct str text); /* with its quotes */
void json_put_int(struct buf *out, int64_t value);

/* The shortest decimal that reads back as the same float. NaN and infinities: -9999.0, the floor of
 * logprobs. */
void json_put_float(struct buf *out, float value);

#endif
