#include "config/load.h"

#include <stdlib.h>
#include <yaml.h>

#include "config/layers.h"
#include "config/options.h"
#include "config/scalar.h"

#define KEY_MAX       128 /* bytes of a dotted key */
#define LIST_MAX      1024
#define KEYS_SEEN_MAX 64

struct loader {
    yaml_parser_t parser;
    yaml_event_t event; /* the current one; holds_event says that it must be deleted */
    bool holds_event;
    size_t depth;
    struct config *config;
    const char *name;
    bool lines;
    struct str text; /* all of the input */
    struct phid_error *err;
};

/* A dotted key being built; fixed, since only known keys are followed. */
struct path {
    char text[KEY_MAX];
    size_t size;
};

static struct str path_view(const struct path *path)
{
    return (struct str){path->text, path->size};
}

/* Puts the place before the message in l->err. */
static enum phid_status at_line(struct loader *l, size_t line, enum phid_status status)
{
    if (l->lines) {
        return phid_prefix(l->err, status, "%s:%zu", l->name, line);
    }
    return phid_prefix(l->err, status, "%s", l->name);
}

static enum phid_status at_key(struct loader *l, size_t line, const struct path *path,
                               enum phid_status status)
{
    if (path->size > 0) {
        phid_prefix(l->err, status, "%.*s", (int)path->size, path->text);
    }
    if (l->err != NULL && path->size < sizeof(l->err->where)) {
        memcpy(l->err->where, path->text, path->size);
        l->err->where[path->size] = 0;
    }
    return at_line(l, line, status);
}

static size_t event_line(const struct loader *l)
{
    return l->event.start_mark.line + 1;
}

static enum phid_status parser_error(struct loader *l)
{
    const yaml_parser_t *p = &l->parser;
    if (p->error == YAML_MEMORY_ERROR) {
        return phid_fail(l->err, PHID_ERR_MEMORY, "%s: out of memory", l->name);
    }
    size_t line = p->problem_mark.line + 1;
    if (p->error == YAML_READER_ERROR) {
        /* Bad UTF-8 or a control character: libyaml gives the byte and no line. */
        line = 1;
        for (size_t i = 0; i < p->problem_offset && i < l->text.size; i++) {
            line += l->text.data[i] == '\n';
        }
    }
    enum phid_status status = phid_fail(
        l->err, PHID_ERR_FORMAT, "not valid YAML: %s%s%s", p->context != NULL ? p->context : "",
        p->context != NULL ? ": " : "", p->problem != NULL ? p->problem : "unreadable");
    return at_line(l, line, status);
}

static enum phid_status refuse(struct loader *l, const char *what)
{
    phid_fail(l->err, PHID_ERR_FORMAT, "%s are not accepted in a configuration", what);
    return at_line(l, event_line(l), PHID_ERR_FORMAT);
}

/* What YAML can say and a configuration must not. */
static enum phid_status check_event(struct loader *l)
{
    const yaml_event_t *e = &l->event;
    const yaml_char_t *anchor = NULL, *tag = NULL;
    switch (e->type) {
    case YAML_ALIAS_EVENT:
        return refuse(l, "aliases (*name)");
    case YAML_DOCUMENT_START_EVENT:
        if (e->data.document_start.tag_directives.start !=
            e->data.document_start.tag_directives.end) {
            return refuse(l, "%TAG directives");
        }
        return PHID_OK;
    case YAML_SCALAR_EVENT:
        anchor = e->data.scalar.anchor;
        tag = e->data.scalar.tag;
        break;
    case YAML_SEQUENCE_START_EVENT:
        anchor = e->data.sequence_start.anchor;
        tag = e->data.sequence_start.tag;
        break;
    case YAML_MAPPING_START_EVENT:
        anchor = e->data.mapping_start.anchor;
        tag = e->data.mapping_start.tag;
        break;
    default:
        return PHID_OK;
    }
    if (anchor != NULL) {
        return refuse(l, "anchors (&name)");
    }
    return tag != NULL ? refuse(l, "tags (!name)") : PHID_OK;
}

/* Moves to the next event. */
static enum phid_status next(struct loader *l)
{
    if (l->holds_event) {
        yaml_event_delete(&l->event);
        l->holds_event = false;
    }
    if (!yaml_parser_parse(&l->parser, &l->event)) {
        return parser_error(l);
    }
    l->holds_event = true;
    if (l->event.type == YAML_SEQUENCE_START_EVENT || l->event.type == YAML_MAPPING_START_EVENT) {
        if (++l->depth > LOAD_DEPTH_MAX) {
            phid_fail(l->err, PHID_ERR_FORMAT, "nested more than %d deep", LOAD_DEPTH_MAX);
            return at_line(l, event_line(l), PHID_ERR_FORMAT);
        }
    } else if (l->event.type == YAML_SEQUENCE_END_EVENT ||
               l->event.type == YAML_MAPPING_END_EVENT) {
        l->depth--;
    }
    return check_event(l);
}

static struct scalar event_scalar(const struct loader *l)
{
    return (struct scalar){
        .text = {(const char *)l->event.data.scalar.value, l->event.data.scalar.length},
        .quoted = l->event.data.scalar.style != YAML_PLAIN_SCALAR_STYLE,
    };
}

static const char *event_name(const struct loader *l)
{
    switch (l->event.type) {
    case YAML_SEQUENCE_START_EVENT:
        return "a list";
    case YAML_MAPPING_START_EVENT:
        return "a mapping";
    default:
        return "a single value";
    }
}

static enum phid_status wrong_shape(struct loader *l, const struct path *path, const char *expected)
{
    phid_fail(l->err, PHID_ERR_ARGUMENT, "expected %s, found %s", expected, event_name(l));
    return at_key(l, event_line(l), path, PHID_ERR_ARGUMENT);
}

/* ------------------------------------------------------------------ lists */

static void list_fini(struct config_list *list)
{
    for (size_t i = 0; i < list->count; i++) {
        free(list->items[i]);
    }
    free(list->items);
    *list = (struct config_list){0};
}

/* The items after a sequence start, up to its end. */
static enum phid_status read_list(struct loader *l, const struct option *option,
                                  const struct path *path, struct config_list *list)
{
    while (true) {
        enum phid_status status = next(l);
        if (status != PHID_OK) {
            return status;
        }
        if (l->event.type == YAML_SEQUENCE_END_EVENT) {
            return PHID_OK;
        }
        if (l->event.type != YAML_SCALAR_EVENT) {
            return wrong_shape(l, path, "strings in the list");
        }
        if (list->count == LIST_MAX) {
            phid_fail(l->err, PHID_ERR_ARGUMENT, "expected at most %d items", LIST_MAX);
            return at_key(l, event_line(l), path, PHID_ERR_ARGUMENT);
        }
        char **grown = realloc(list->items, (list->count + 1) * sizeof(*grown));
        if (grown == NULL) {
            return phid_fail(l->err, PHID_ERR_MEMORY, "%s: out of memory", l->name);
        }
        list->items = grown;
        status = scalar_read_string(option, event_scalar(l), &grown[list->count], l->err);
        if (status != PHID_OK) {
            return at_key(l, event_line(l), path, status);
        }
        list->count++;
    }
}

static enum phid_status load_list(struct loader *l, const struct option *option,
                                  const struct path *path)
{
    struct config_list list = {0};
    enum phid_status status = read_list(l, option, path, &list);
    if (status != PHID_OK) {
        list_fini(&list);
        return status;
    }
    struct config_list *slot = option_value(option, l->config);
    list_fini(slot);
    *slot = list;
    return PHID_OK;
}

/* ----------------------------------------------------------------- layers */

/* The value of `range` or `device`, the current event being the key. */
static enum phid_status read_span_field(struct loader *l, const struct path *path,
                                        struct config_layer_span *span)
{
    struct scalar key = {0};
    if (l->event.type == YAML_SCALAR_EVENT) {
        key = event_scalar(l);
    }
    bool is_range = str_equal_c(key.text, "range") && span->first < 0;
    bool is_device = str_equal_c(key.text, "device") && span->device == NULL;
    if (!is_range && !is_device) {
        phid_fail(l->err, PHID_ERR_ARGUMENT, "expected `range` and `device`, once each");
        return at_key(l, event_line(l), path, PHID_ERR_ARGUMENT);
    }
    enum phid_status status = next(l);
    if (status != PHID_OK) {
        return status;
    }
    if (l->event.type != YAML_SCALAR_EVENT) {
        return wrong_shape(l, path, is_range ? "a range" : "a device");
    }
    struct str text = event_scalar(l).text;
    status = is_range ? layers_parse_range(text, span, l->err) : layers_check_device(text, l->err);
    if (status == PHID_OK && is_device && (span->device = str_dup(text)) == NULL) {
        status = phid_fail(l->err, PHID_ERR_MEMORY, "out of memory");
    }
    return status == PHID_OK ? PHID_OK : at_key(l, event_line(l), path, status);
}

/* One `{range: a-b, device: d}` after its mapping start. */
static enum phid_status read_span(struct loader *l, const struct path *path,
                                  struct config_layers *layers)
{
    struct config_layer_span span = {.first = -1};
    enum phid_status status;
    while ((status = next(l)) == PHID_OK && l->event.type != YAML_MAPPING_END_EVENT) {
        if ((status = read_span_field(l, path, &span)) != PHID_OK) {
            break;
        }
    }
    if (status == PHID_OK) {
        if (span.first < 0 || span.device == NULL) {
            status = phid_fail(l->err, PHID_ERR_ARGUMENT, "expected both `range` and `device`");
        } else {
            status = layers_add(layers, span, l->err);
        }
        if (status == PHID_OK) {
            return PHID_OK;
        }
        at_key(l, event_line(l), path, status);
    }
    free(span.device);
    return status;
}

static enum phid_status read_layers(struct loader *l, const struct path *path,
                                    struct config_layers *layers)
{
    while (true) {
        enum phid_status status = next(l);
        if (status != PHID_OK || l->event.type == YAML_SEQUENCE_END_EVENT) {
            return status;
        }
        if (l->event.type != YAML_MAPPING_START_EVENT) {
            return wrong_shape(l, path, "mappings like {range: 0-9, device: cpu}");
        }
        if ((status = read_span(l, path, layers)) != PHID_OK) {
            return status;
        }
    }
}

static enum phid_status load_layers(struct loader *l, const struct option *option,
                                    const struct path *path)
{
    struct config_layers layers = {0};
    enum phid_status status = read_layers(l, path, &layers);
    if (status != PHID_OK) {
        layers_fini(&layers);
        return status;
    }
    struct config_layers *slot = option_value(option, l->config);
    layers_fini(slot);
    *slot = layers;
    return PHID_OK;
}

/* --------------------------------------------------------------- mappings */

static enum phid_status load_mapping(struct loader *l, struct path *path);

/* The value of an option, the current event being its first. */
static enum phid_status load_option(struct loader *l, const struct option *option,
                                    const struct path *path)
{
    if (option->type == OPTION_LIST || option->type == OPTION_LAYERS) {
        if (l->event.type != YAML_SEQUENCE_START_EVENT) {
            return wrong_shape(l, path, "a list, [...]");
        }
        return option->type == OPTION_LIST ? load_list(l, option, path)
                                           : load_layers(l, option, path);
    }
    if (l->event.type != YAML_SCALAR_EVENT) {
        return wrong_shape(l, path, "a single value");
    }
    enum phid_status status = scalar_store(option, event_scalar(l), l->config, l->err);
    return status == PHID_OK ? PHID_OK : at_key(l, event_line(l), path, status);
}

/* The value at `path`, an option's or a group's. */
static enum phid_status load_value(struct loader *l, struct path *path)
{
    const struct option *option = option_find(path_view(path));
    if (option != NULL) {
        return load_option(l, option, path);
    }
    if (l->event.type == YAML_SCALAR_EVENT && scalar_is_null(event_scalar(l))) {
        return PHID_OK; /* a group whose keys are all commented out */
    }
    if (l->event.type != YAML_MAPPING_START_EVENT) {
        return wrong_shape(l, path, path->size == 0 ? "a mapping of options" : "a mapping");
    }
    return load_mapping(l, path);
}

/* Appends a key read in a mapping to the path. Fails where the table does not know it. */
static enum phid_status extend_path(struct loader *l, struct path *path)
{
    struct str word = event_scalar(l).text;
    struct buf message;
    enum phid_status status = PHID_ERR_ARGUMENT;
    buf_init(&message, 4096);
    buf_append_str(&message, path_view(path));
    buf_append_c(&message, path->size > 0 ? "." : "");
    buf_append(&message, word.data, word.size < KEY_MAX ? word.size : KEY_MAX);
    bool dotted = memchr(word.data, '.', word.size) != NULL || word.size == 0;
    bool known = !dotted && !message.failed && message.size < KEY_MAX &&
                 (option_find(buf_view(&message)) != NULL || option_is_group(buf_view(&message)));
    if (known) {
        memcpy(path->text, message.data, message.size);
        path->size = message.size;
        status = PHID_OK;
    } else {
        struct buf hint;
        buf_init(&hint, 1024);
        option_hint(buf_view(&message), &hint);
        phid_fail(l->err, PHID_ERR_ARGUMENT, "unknown key %.*s%s",
                  message.size < KEY_MAX ? (int)message.size : KEY_MAX,
                  message.size > 0 ? message.data : "", hint.size > 0 ? hint.data : "");
        buf_fini(&hint);
        status = at_line(l, event_line(l), PHID_ERR_ARGUMENT);
    }
    buf_fini(&message);
    return status;
}

/* The pairs after a mapping start, up to its end. path is restored on success. */
static enum phid_status load_mapping(struct loader *l, struct path *path)
{
    /* Known keys only, so a small array of their line numbers and lengths is enough to find
     * duplicates. */
    struct path seen[KEYS_SEEN_MAX];
    size_t lines[KEYS_SEEN_MAX];
    size_t count = 0;
    size_t parent = path->size;
    while (true) {
        enum phid_status status = next(l);
        if (status != PHID_OK || l->event.type == YAML_MAPPING_END_EVENT) {
            return status;
        }
        if (l->event.type != YAML_SCALAR_EVENT) {
            return wrong_shape(l, path, "a key");
        }
        size_t line = event_line(l);
        if ((status = extend_path(l, path)) != PHID_OK) {
            return status;
        }
        for (size_t i = 0; i < count; i++) {
            if (str_equal(path_view(&seen[i]), path_view(path))) {
                phid_fail(l->err, PHID_ERR_ARGUMENT, "given twice (first on line %zu)", lines[i]);
                return at_key(l, line, path, PHID_ERR_ARGUMENT);
            }
        }
        if (count < KEYS_SEEN_MAX) {
            seen[count] = *path;
            lines[count++] = line;
        }
        if ((status = next(l)) != PHID_OK || (status = load_value(l, path)) != PHID_OK) {
            return status;
        }
        path->size = parent;
    }
}

/* Stream start, one document, stream end. */
static enum phid_status load_stream(struct loader *l, struct path *path)
{
    enum phid_status status = next(l);
    if (status == PHID_OK) {
        status = next(l);
    }
    if (status != PHID_OK || l->event.type == YAML_STREAM_END_EVENT) {
        return status;
    }
    if ((status = next(l)) != PHID_OK || (status = load_value(l, path)) != PHID_OK) {
        return status;
    }
    if ((status = next(l)) != PHID_OK || (status = next(l)) != PHID_OK) {
        return status;
    }
    if (l->event.type != YAML_STREAM_END_EVENT) {
        phid_fail(l->err, PHID_ERR_FORMAT, "expected one YAML document, found a second one");
        return at_line(l, event_line(l), PHID_ERR_FORMAT);
    }
    return PHID_OK;
}

enum phid_status load_yaml(struct config *config, const char *name, bool lines, struct str prefix,
                           struct str text, struct phid_error *err)
{
    struct loader l = {.config = config, .name = name, .lines = lines, .text = text, .err = err};
    struct path path = {.size = prefix.size};
    if (prefix.size >= KEY_MAX) {
        return phid_fail(err, PHID_ERR_ARGUMENT, "%s: unknown key", name);
    }
    if (!yaml_parser_initialize(&l.parser)) {
        return phid_fail(err, PHID_ERR_MEMORY, "%s: out of memory", name);
    }
    if (prefix.size > 0) {
        memcpy(path.text, prefix.data, prefix.size);
    }
    yaml_parser_set_encoding(&l.parser, YAML_UTF8_ENCODING);
    yaml_parser_set_input_string(&l.parser, (const unsigned char *)text.data, text.size);
    enum phid_status status = load_stream(&l, &path);
    if (l.holds_event) {
        yaml_event_delete(&l.event);
    }
    yaml_parser_delete(&l.parser);
    return status;
}
