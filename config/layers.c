#include "config/layers.h"

#include <inttypes.h>
#include <stdlib.h>

#include "config/scalar.h"

#define SPAN_MAX 1024

enum phid_status layers_parse_range(struct str text, struct config_layer_span *span,
                                    struct phid_error *err)
{
    size_t dash = 0;
    while (dash < text.size && text.data[dash] != '-') {
        dash++;
    }
    int64_t first, last;
    bool valid = scalar_parse_int((struct str){text.data, dash}, &first);
    if (dash == text.size) {
        last = first;
    } else {
        valid = valid &&
                scalar_parse_int((struct str){text.data + dash + 1, text.size - dash - 1}, &last);
    }
    if (!valid || first < 0 || last < first || last > CONFIG_LAYER_MAX) {
        int shown = text.size < 40 ? (int)text.size : 40;
        return phid_fail(err, PHID_ERR_ARGUMENT,
                         "expected a range of layers such as 0-9 or 3, found %.*s", shown,
                         text.data);
    }
    span->first = first;
    span->last = last;
    return PHID_OK;
}

enum phid_status layers_check_device(struct str text, struct phid_error *err)
{
    if (str_equal_c(text, "cpu") || str_equal_c(text, "cuda")) {
        return PHID_OK;
    }
    int64_t number;
    if (str_starts_with(text, STR("cuda:")) &&
        scalar_parse_int((struct str){text.data + 5, text.size - 5}, &number) && number >= 0 &&
        number < 64) {
        return PHID_OK;
    }
    int shown = text.size < 40 ? (int)text.size : 40;
    return phid_fail(err, PHID_ERR_ARGUMENT, "expected the device cpu or cuda:N, found %.*s", shown,
                     text.data);
}

enum phid_status layers_add(struct config_layers *layers, struct config_layer_span span,
                            struct phid_error *err)
{
    for (size_t i = 0; i < layers->count; i++) {
        const struct config_layer_span *other = &layers->items[i];
        if (span.first <= other->last && other->first <= span.last) {
            return phid_fail(err, PHID_ERR_ARGUMENT,
                             "the range %" PRId64 "-%" PRId64 " overlaps %" PRId64 "-%" PRId64,
                             span.first, span.last, other->first, other->last);
        }
    }
    if (layers->count == SPAN_MAX) {
        return phid_fail(err, PHID_ERR_ARGUMENT, "expected at most %d ranges", SPAN_MAX);
    }
    struct config_layer_span *grown = realloc(layers->items, (layers->count + 1) * sizeof(*grown));
    if (grown == NULL) {
        return phid_fail(err, PHID_ERR_MEMORY, "out of memory");
    }
    layers->items = grown;
    grown[layers->count++] = span;
    return PHID_OK;
}

void layers_fini(struct config_layers *layers)
{
    for (size_t i = 0; i < layers->count; i++) {
        free(layers->items[i].device);
    }
    free(layers->items);
    *layers = (struct config_layers){0};
}
