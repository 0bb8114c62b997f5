#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "engine/base/checked.h"
#include "engine/gguf/gguf.h"
#include "quant/format/format.h"
#include "server/cli/cli.h"
#include "server/cli/metadata.h"
#include "server/cli/workload.h"

#define OUTPUT_MAX    ((size_t)1 << 30)
#define HEAD_SIZE_MAX ((uint64_t)1 << 40) /* a file may claim anything */

/* What the file says, gathered once for both outputs. */
struct facts {
    const struct gguf_file *file;
    struct phid_model *model; /* NULL when it cannot be served; problem says why */
    struct phid_error problem;
    struct str architecture;
    uint64_t context, layers, heads, kv_heads, head_size, vocab;
    uint64_t parameters, kv_bytes_per_token;
    uint64_t weight_bytes;   /* in memory; in the file when the model cannot be served */
    uint64_t chosen_context; /* the one memory is reckoned for */
};

struct type_count {
    uint32_t type;
    uint64_t tensors, bytes;
};

#define TYPES_MAX 64

static size_t count_types(const struct gguf_file *file, struct type_count *types)
{
    size_t count = 0;
    for (size_t i = 0; i < gguf_tensor_count(file); i++) {
        const struct gguf_tensor *t = gguf_tensor_at(file, i);
        size_t k = 0;
        while (k < count && types[k].type != t->type) {
            k++;
        }
        if (k == count && count == TYPES_MAX) {
            continue;
        }
        if (k == count) {
            types[count++] = (struct type_count){.type = t->type};
        }
        types[k].tensors++;
        types[k].bytes += t->size_bytes;
    }
    return count;
}

/* A file may claim anything: sums of nonsense stop at the largest number. */
static uint64_t times(uint64_t a, uint64_t b)
{
    uint64_t product;
    return checked_mul_u64(a, b, &product) ? product : UINT64_MAX;
}

static uint64_t plus(uint64_t a, uint64_t b)
{
    uint64_t sum;
    return checked_add_u64(a, b, &sum) ? sum : UINT64_MAX;
}

static const char *type_name(uint32_t type)
{
    const char *name = quant_type_name(type);
    return name != NULL ? name : "?";
}

/* "phi3.KEY" as an integer, 0 when absent or something else. */
static uint64_t read_number(const struct facts *facts, const char *key)
{
    char name[192];
    uint64_t value = 0;
    struct phid_error ignored;
    int shown = facts->architecture.size < 64 ? (int)facts->architecture.size : 64;
    snprintf(name, sizeof(name), "%.*s.%s", shown, facts->architecture.data, key);
    return gguf_get_u64(facts->file, name, &value, &ignored) == PHID_OK ? value : 0;
}

static void gather(struct facts *facts, const struct config *config)
{
    const struct gguf_file *file = facts->file;
    struct phid_error ignored;
    if (gguf_get_str(file, "general.architecture", &facts->architecture, &ignored) != PHID_OK) {
        facts->architecture = STR("");
    }
    const struct gguf_entry *tokens = gguf_find(file, STR("tokenizer.ggml.tokens"));
    facts->vocab = tokens != NULL ? tokens->count : 0;
    facts->context = read_number(facts, "context_length");
    facts->layers = read_number(facts, "block_count");
    facts->heads = read_number(facts, "attention.head_count");
    facts->kv_heads = read_number(facts, "attention.head_count_kv");
    facts->kv_heads = facts->kv_heads > 0 ? facts->kv_heads : facts->heads;
    facts->head_size = read_number(facts, "attention.key_length");
    if (facts->head_size == 0 && facts->heads > 0) {
        facts->head_size = read_number(facts, "embedding_length") / facts->heads;
    }
    for (size_t i = 0; i < gguf_tensor_count(file); i++) {
        const struct gguf_tensor *t = gguf_tensor_at(file, i);
        facts->parameters += t->ne[0] * t->ne[1] * t->ne[2] * t->ne[3];
        facts->weight_bytes += t->size_bytes;
    }
    uint64_t head_size = facts->head_size < HEAD_SIZE_MAX ? facts->head_size : HEAD_SIZE_MAX;
    facts->kv_bytes_per_token = times(times(facts->layers, facts->kv_heads),
                                      workload_kv_head_bytes(config->engine.kv_type, head_size));
    uint64_t most = facts->context < 4096 ? facts->context : 4096;
    facts->chosen_context = config->engine.context > 0 ? (uint64_t)config->engine.context : most;
}

static const char *template_of(const struct facts *facts)
{
    return facts->model != NULL ? phid_model_info(facts->model)->template_name : NULL;
}

/* ------------------------------------------------------------------ JSON */

static void put_tensors(const struct facts *facts, struct buf *out)
{
    struct type_count types[TYPES_MAX];
    size_t count = count_types(facts->file, types);
    buf_append_c(out, ",\"types\":{");
    for (size_t i = 0; i < count; i++) {
        buf_printf(out, "%s\"%s\":%" PRIu64, i > 0 ? "," : "", type_name(types[i].type),
                   types[i].tensors);
    }
    buf_append_c(out, "},\"tensors\":[");
    for (size_t i = 0; i < gguf_tensor_count(facts->file); i++) {
        const struct gguf_tensor *t = gguf_tensor_at(facts->file, i);
        buf_append_c(out, i > 0 ? ",{\"name\":" : "{\"name\":");
        cli_json_string(out, t->name.data, t->name.size);
        buf_printf(out, ",\"type\":\"%s\",\"shape\":[", type_name(t->type));
        for (uint32_t d = 0; d < t->n_dims; d++) {
            buf_printf(out, "%s%" PRIu64, d > 0 ? "," : "", t->ne[d]);
        }
        buf_printf(out, "],\"offset\":%" PRIu64 ",\"bytes\":%" PRIu64, t->offset, t->size_bytes);
        if (gguf_part_count(facts->file) > 1) {
            buf_printf(out, ",\"part\":%u", t->part);
        }
        buf_append_byte(out, '}');
    }
    buf_append_byte(out, ']');
}

static enum phid_status put_json(const struct facts *facts, size_t array_max, struct buf *out,
                                 struct phid_error *err)
{
    buf_append_c(out, "{\"architecture\":");
    cli_json_string(out, facts->architecture.data, facts->architecture.size);
    buf_printf(out,
               ",\"parameters\":%" PRIu64 ",\"file_bytes\":%" PRIu64 ",\"context\":%" PRIu64
               ",\"vocab\":%" PRIu64,
               facts->parameters, gguf_file_bytes(facts->file), facts->context, facts->vocab);
    buf_append_c(out, ",\"template\":");
    const char *template_name = template_of(facts);
    if (template_name != NULL) {
        cli_json_string(out, template_name, strlen(template_name));
    } else {
        buf_append_c(out, "null");
    }
    buf_append_c(out, ",\"problem\":");
    if (facts->model == NULL) {
        cli_json_string(out, facts->problem.message, strlen(facts->problem.message));
    } else {
        buf_append_c(out, "null");
    }
    buf_printf(out,
               ",\"memory\":{\"weights_bytes\":%" PRIu64 ",\"kv_bytes_per_token\":%" PRIu64
               ",\"context\":%" PRIu64 ",\"kv_bytes\":%" PRIu64 "}",
               facts->weight_bytes, facts->kv_bytes_per_token, facts->chosen_context,
               times(facts->kv_bytes_per_token, facts->chosen_context));
    put_tensors(facts, out);
    buf_append_c(out, ",\"metadata\":{");
    for (size_t i = 0; i < gguf_entry_count(facts->file); i++) {
        const struct gguf_entry *entry = gguf_entry_at(facts->file, i);
        buf_append_c(out, i > 0 ? "," : "");
        cli_json_string(out, entry->key.data, entry->key.size);
        buf_append_byte(out, ':');
        enum phid_status status = metadata_put(facts->file, entry, array_max, out, err);
        if (status != PHID_OK) {
            return status;
        }
    }
    buf_append_c(out, "}}\n");
    return PHID_OK;
}

/* ------------------------------------------------------------------ text */

#define TEXT_SHOWN 100 /* bytes of a long value */

static enum phid_status put_metadata_text(const struct facts *facts, struct buf *out,
                                          struct phid_error *err)
{
    struct buf value;
    enum phid_status status = PHID_OK;
    buf_init(&value, OUTPUT_MAX);
    for (size_t i = 0; i < gguf_entry_count(facts->file) && status == PHID_OK; i++) {
        const struct gguf_entry *entry = gguf_entry_at(facts->file, i);
        buf_clear(&value);
        status = metadata_put(facts->file, entry, 8, &value, err);
        size_t shown = value.size < TEXT_SHOWN ? value.size : TEXT_SHOWN;
        while (shown > 0 && shown < value.size &&
               ((unsigned char)value.data[shown] & 0xc0) == 0x80) {
            shown--;
        }
        buf_append_c(out, "  ");
        cli_json_string(out, entry->key.data, entry->key.size);
        buf_printf(out, " %.*s%s\n", (int)shown, shown > 0 ? value.data : "",
                   shown < value.size ? "..." : "");
    }
    buf_fini(&value);
    return status;
}

static enum phid_status put_text(const struct facts *facts, bool tensors, struct buf *out,
                                 struct phid_error *err)
{
    char file_size[32], weights[32], kv[32], total[32];
    uint64_t kv_bytes = times(facts->kv_bytes_per_token, facts->chosen_context);
    cli_size_text(gguf_file_bytes(facts->file), file_size, sizeof(file_size));
    cli_size_text(facts->weight_bytes, weights, sizeof(weights));
    cli_size_text(kv_bytes, kv, sizeof(kv));
    cli_size_text(plus(facts->weight_bytes, kv_bytes), total, sizeof(total));
    const char *template_name = template_of(facts);
    buf_append_c(out, "architecture ");
    cli_json_string(out, facts->architecture.data, facts->architecture.size);
    buf_printf(
        out, "\nparameters   %" PRIu64 "\nfile         %s, GGUF version %" PRIu32 ", %zu part(s)\n",
        facts->parameters, file_size, gguf_version(facts->file), gguf_part_count(facts->file));
    buf_printf(
        out, "context      %" PRIu64 " tokens\nvocabulary   %" PRIu64 " tokens\ntemplate     %s\n",
        facts->context, facts->vocab, template_name != NULL ? template_name : "none");
    if (facts->model == NULL) {
        buf_printf(out, "problem      %s\n", facts->problem.message);
    }
    buf_printf(out,
               "memory       %s: weights %s, keys and values %s for %" PRIu64 " tokens (%" PRIu64
               " bytes a token)\n",
               total, weights, kv, facts->chosen_context, facts->kv_bytes_per_token);
    struct type_count types[TYPES_MAX];
    size_t count = count_types(facts->file, types);
    for (size_t i = 0; i < count; i++) {
        char bytes[32];
        cli_size_text(types[i].bytes, bytes, sizeof(bytes));
        buf_printf(out, "%-12s %-8s %5" PRIu64 " tensors, %s\n", i == 0 ? "types" : "",
                   type_name(types[i].type), types[i].tensors, bytes);
    }
    for (size_t i = 0; tensors && i < gguf_tensor_count(facts->file); i++) {
        const struct gguf_tensor *t = gguf_tensor_at(facts->file, i);
        buf_append_c(out, i == 0 ? "tensors\n  " : "  ");
        cli_json_string(out, t->name.data, t->name.size);
        buf_printf(out, " %s %" PRIu64 " x %" PRIu64 "\n", type_name(t->type), t->ne[0],
                   t->ne[1] * t->ne[2] * t->ne[3]);
    }
    buf_append_c(out, "metadata\n");
    return put_metadata_text(facts, out, err);
}

/* --------------------------------------------------------------- command */

struct choices {
    bool json, tensors, full;
};

static int inspect(const struct config *config, const struct choices *choices)
{
    struct phid_error err = {0};
    struct facts facts = {0};
    struct gguf_file *file = NULL;
    char *path = NULL;
    struct buf out;
    buf_init(&out, OUTPUT_MAX);
    enum phid_status status = cli_model_path(config, &path, &err);
    if (status == PHID_OK) {
        status = gguf_open(path, &file, &err);
    }
    if (status == PHID_OK) {
        facts.file = file;
        gather(&facts, config);
        struct phid_model_options options = {
            .template_name = config->model.chat_template,
            .vocab_only = gguf_tensor_count(file) == 0,
        };
        enum phid_status opened = phid_model_open(path, &options, &facts.model, &facts.problem);
        if (opened == PHID_ERR_MEMORY || opened == PHID_ERR_IO) {
            /* Says nothing about the file. */
            status = opened;
            err = facts.problem;
        } else if (opened == PHID_OK) {
            status = phid_model_weight_bytes(facts.model, &facts.weight_bytes, &err);
        }
    }
    if (status == PHID_OK) {
        status = choices->json ? put_json(&facts, choices->full ? SIZE_MAX : 256, &out, &err)
                               : put_text(&facts, choices->tensors, &out, &err);
    }
    if (status == PHID_OK && out.failed) {
        status = phid_fail(&err, PHID_ERR_MEMORY, "the result does not fit the memory");
    }
    int code = CLI_OK;
    if (status != PHID_OK) {
        code = cli_fail(&err);
    } else {
        fwrite(out.data, 1, out.size, stdout);
    }
    buf_fini(&out);
    phid_model_close(facts.model);
    gguf_close(file);
    free(path);
    return code;
}

int cli_inspect(int argc, char **argv)
{
    struct choices choices = {0};
    const struct arg table[] = {
        {.name = "--json",
         .kind = ARG_SWITCH,
         .dest = &choices.json,
         .help = "everything as one JSON object"},
        {.name = "--tensors",
         .kind = ARG_SWITCH,
         .dest = &choices.tensors,
         .help = "list the tensors too (without --json)"},
        {.name = "--full",
         .kind = ARG_SWITCH,
         .dest = &choices.full,
         .help = "with --json: arrays of more than 256 elements as they are, not summed up"},
        {0},
    };
    struct args args;
    int code = args_parse(&args, cli_command("inspect"), table, argc, argv);
    if (code >= 0) {
        return code;
    }
    code = args.config.model.path == NULL ? cli_usage("no model: give one with -m FILE")
                                          : inspect(&args.config, &choices);
    args_fini(&args);
    return code;
}
