/* placement.layers: one span of layers with its device. */
#ifndef PHID_CONFIG_LAYERS_H
#define PHID_CONFIG_LAYERS_H

#include "config/config.h"
#include "engine/base/str.h"

#define CONFIG_LAYER_MAX 100000

/* "0-9" or "3". PHID_ERR_ARGUMENT says what was expected. */
enum phid_status layers_parse_range(struct str text, struct config_layer_span *span,
                                    struct phid_error *err);

/* "cpu", "cuda" or "cuda:N"; checks the spelling only. */
enum phid_status layers_check_device(struct str text, struct phid_error *err);

/* Takes over span->device on success. */
enum phid_status layers_add(struct config_layers *layers, struct config_layer_span span,
                            struct phid_error *err);

void layers_fini(struct config_layers *layers);

#endif
