/* A look at a JSON text before it is parsed: bounds how deep it nests and how much memory its tree
 * may take. It does not judge the grammar; the parser that runs afterwards does. One pass, no
 * allocation. */
#ifndef PHID_SERVER_API_JSON_SCAN_H
#define PHID_SERVER_API_JSON_SCAN_H

#include "server/api/error.h"

#define JSON_DEPTH_MAX 64
#define JSON_VALUES_MAX                                                                            \
    100000 /* strings (keys too), arrays, objects: about 100 bytes each once parsed */
#define JSON_NUMBERS_MAX                                                                           \
    1000000 /* numbers and literals: about 40 bytes each; prompts may be token ids */

enum api_fault json_scan(struct str text, struct api_error *err);

#endif
