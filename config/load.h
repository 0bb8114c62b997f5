/* The YAML reader: libyaml's event interface walked along the option table. No tree is ever built.
 *
 * Refused: anchors, aliases, tags, a second document, duplicate and unknown keys, wrong types,
 * depth above 16, files above 256 KiB. */
#ifndef PHID_CONFIG_LOAD_H
#define PHID_CONFIG_LOAD_H

#include "config/config.h"
#include "engine/base/str.h"

#define LOAD_FILE_MAX  ((size_t)256 * 1024)
#define LOAD_DEPTH_MAX 16

/* Reads the document `text` into config at `prefix` ("" is the root; "server.port" when text is
 * that key's value). `name` stands for the place in messages; lines are given when `lines`. */
enum phid_status load_yaml(struct config *config, const char *name, bool lines, struct str prefix,
                           struct str text, struct phid_error *err);

#endif
