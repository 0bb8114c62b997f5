/* The public request handle: submitting, taking output, cancelling, giving the handle back. */
#include "engine/engine.h"

#include <stdlib.h>

enum phid_status phid_engine_submit(struct phid_engine *engine,
                                    const struct phid_request_params *params,
                                    struct phid_request **ret_request, struct phid_error *err)
{
    struct phid_request *request = calloc(1, sizeof(*request));
    if (request == NULL) {
        return phid_fail(err, PHID_ERR_MEMORY, "no memory for a request");
    }
    enum phid_status status = sequence_new(&engine->terms, params, &request->sequence, err);
    if (status != PHID_OK) {
        free(request);
        return status;
    }
    request->bell = doorbell_ref(loop_doorbell(engine->loop));
    status = loop_submit(engine->loop, request->sequence, err);
    if (status != PHID_OK) {
        sequence_unref(request->sequence);
        doorbell_unref(request->bell);
        free(request);
        return status;
    }
    *ret_request = request;
    return PHID_OK;
}

bool phid_request_poll(struct phid_request *request, struct phid_output *ret)
{
    bool was_full = false;
    bool something = output_poll(&request->sequence->output, ret, &was_full);
    if (was_full) {
        doorbell_ring(request->bell);
    }
    return something;
}

bool phid_request_wait(struct phid_request *request, int timeout_ms)
{
    return output_wait(&request->sequence->output, timeout_ms);
}

void phid_request_cancel(struct phid_request *request)
{
    atomic_store_explicit(&request->sequence->cancelled, true, memory_order_relaxed);
    doorbell_cancelled(request->bell);
}

void phid_request_free(struct phid_request *request)
{
    if (request == NULL) {
        return;
    }
    output_silence(&request->sequence->output);
    phid_request_cancel(request);
    sequence_unref(request->sequence);
    doorbell_unref(request->bell);
    free(request);
}
