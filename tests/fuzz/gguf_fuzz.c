/* Fuzz target: any bytes as a GGUF file. Whatever opens is walked from end to end, so that a length
 * that was not checked becomes a read the sanitizer sees. */
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>

#include "engine/gguf/gguf.h"
#include "tests/fuzz/fuzz.h"

static uint64_t sum_bytes(const unsigned char *bytes, size_t size)
{
    uint64_t sum = 0;
    for (size_t i = 0; i < size; i++) {
        sum = sum * 31 + bytes[i];
    }
    return sum;
}

static uint64_t walk_entry(const struct gguf_file *file, const struct gguf_entry *entry)
{
    /* The getters take C strings; a key holds no NUL. */
    char *key = str_dup(entry->key);
    if (key == NULL) {
        return 0;
    }
    uint64_t sum = sum_bytes(entry->data, (size_t)entry->size_bytes);
    uint64_t u64 = 0;
    uint32_t u32 = 0;
    int32_t i32 = 0;
    float f32 = 0;
    bool b = false;
    struct str s = STR("");
    struct phid_error error;
    gguf_get_u64(file, key, &u64, &error);
    gguf_get_u32(file, key, &u32, &error);
    gguf_get_i32(file, key, &i32, &error);
    gguf_get_f32(file, key, &f32, &error);
    gguf_get_bool(file, key, &b, &error);
    gguf_get_str(file, key, &s, &error);
    sum += u64 + u32 + (uint64_t)i32 + b + sum_bytes((const unsigned char *)s.data, s.size);

    struct str *strings = NULL;
    int32_t *i32s = NULL;
    float *f32s = NULL;
    size_t count = 0;
    if (gguf_get_strings(file, key, &strings, &count, &error) == PHID_OK) {
        for (size_t i = 0; i < count; i++) {
            sum += sum_bytes((const unsigned char *)strings[i].data, strings[i].size);
        }
    }
    gguf_get_i32s(file, key, &i32s, &count, &error);
    gguf_get_f32s(file, key, &f32s, &count, &error);
    free(strings);
    free(i32s);
    free(f32s);
    free(key);
    return sum;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct gguf_file *file = NULL;
    struct phid_error error;
    if (gguf_open_memory(data, size, &file, &error) != PHID_OK) {
        return 0;
    }
    uint64_t sum = gguf_version(file) + gguf_file_bytes(file);
    for (size_t i = 0; i < gguf_entry_count(file); i++) {
        const struct gguf_entry *entry = gguf_entry_at(file, i);
        FUZZ_CHECK(gguf_find(file, entry->key) == entry);
        sum += walk_entry(file, entry);
    }
    for (size_t i = 0; i < gguf_tensor_count(file); i++) {
        const struct gguf_tensor *tensor = gguf_tensor_at(file, i);
        FUZZ_CHECK(gguf_tensor_find(file, tensor->name) == tensor);
        FUZZ_CHECK(tensor->offset + tensor->size_bytes <= size);
        sum += sum_bytes(tensor->data, (size_t)tensor->size_bytes);
    }
    gguf_close(file);
    fuzz_use(sum);
    return 0;
}
