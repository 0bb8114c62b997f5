/* The `prediction` of a chat request: the text that the client expects, as somebody who asks for a
 * small change in a long file does. It only makes the answer come sooner, where it comes true.
 * Worker threads. */
#ifndef PHID_SERVER_API_PREDICTION_H
#define PHID_SERVER_API_PREDICTION_H

#include "server/api/api.h"

/* object: {"type": "content", "content": text or parts}, or NULL: none. *ret_ids: heap, NULL when
 * *ret_count is 0. */
enum api_fault prediction_read(const struct api *api, const json_t *object, int32_t **ret_ids,
                               size_t *ret_count, struct api_error *err);

#endif
