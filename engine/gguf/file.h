/* What a struct gguf_file holds, and the steps that fill it. Internal to this folder.
 *
 * Opening runs: part_read (header, metadata, tensor descriptions of one file), then tensors_place
 * (where the data lies), for each part; split.c finds the parts. Nothing is allocated from a count
 * before the bytes that are left have been compared with the least that so many things take. */
#ifndef PHID_GGUF_FILE_H
#define PHID_GGUF_FILE_H

#include "engine/base/file_map.h"
#include "engine/base/map.h"
#include "engine/gguf/gguf.h"

/* Limits far above any real file (the largest vocabularies have 300 thousand tokens and as many
 * merges, in about 20 MB). They bound the time and memory that a hostile one can cost. */
#define GGUF_MAX_ENTRIES        65536
#define GGUF_MAX_TENSORS        65536
#define GGUF_MAX_PARTS          1000
#define GGUF_MAX_KEY_BYTES      65535u /* the format's own limit */
#define GGUF_MAX_NAME_BYTES     64u    /* the format's own limit */
#define GGUF_MAX_STRING_BYTES   (16u << 20)
#define GGUF_MAX_ARRAY_COUNT    (4u << 20)
#define GGUF_MAX_METADATA_BYTES (64u << 20)
#define GGUF_MIN_ALIGNMENT      8u
#define GGUF_MAX_ALIGNMENT      65536u
#define GGUF_DEFAULT_ALIGNMENT  32u

struct gguf_part {
    struct file_map map; /* not open for gguf_open_memory */
    const unsigned char *bytes;
    uint64_t size;
    uint32_t version;
    uint32_t alignment;

    struct gguf_entry *entries; /* heap */
    size_t entry_count;
    struct map keys; /* key -> index in entries */

    uint64_t tensor_count; /* as the header says */
    uint64_t infos_at;     /* offset of the first tensor description */
};

struct gguf_file {
    char *path;              /* heap; of part 1 */
    struct gguf_part *parts; /* heap */
    size_t part_count;

    struct gguf_tensor *tensors; /* heap; of all parts, in order */
    size_t tensor_count;
    struct map names; /* name -> index in tensors */
};

/* read.c: header and metadata of the bytes in `part`. */
enum phid_status part_read(struct gguf_part *part, struct phid_error *err);
void part_close(struct gguf_part *part);

/* An entry of one part; NULL when absent. */
const struct gguf_entry *part_find(const struct gguf_part *part, const char *key);

/* tensors.c: appends the tensors of part `index` to the file and checks where their data lies. */
enum phid_status tensors_read(struct gguf_file *file, size_t index, struct phid_error *err);

/* split.c: opens the other parts of a set whose first part is read. */
enum phid_status split_open(struct gguf_file *file, struct phid_error *err);

/* get.c: the integer in an entry, whatever its width; PHID_ERR_FORMAT for another type or a
 * negative number. */
enum phid_status entry_u64(const struct gguf_entry *entry, uint64_t *ret, struct phid_error *err);

/* message.c: "WHAT 'NAME' at offset N: ..." with a long name cut, and err->where set to the name.
 */
enum phid_status gguf_fail(struct phid_error *err, enum phid_status status, const char *what,
                           struct str name, uint64_t offset, const char *format, ...)
    __attribute__((format(printf, 6, 7)));

/* True for a name that can be shown and compared: not empty, valid UTF-8, no control characters. */
bool gguf_name_valid(struct str name);

#endif
