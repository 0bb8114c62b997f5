/* Quantizing a model with every allocation, and every call to the system that opens, writes or
 * names a file, failing once: each failure is a status, nothing crashes or leaks, and no half file
 * is left. Reader, writer and quantizer all run. Linked with wrappers around the functions that
 * fail. */
#include "quant/quantize.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdatomic.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include "engine/gguf/gguf.h"
#include "engine/gguf/writer.h"

void *__real_malloc(size_t size);
void *__real_calloc(size_t count, size_t size);
void *__real_realloc(void *old, size_t size);
void *__real_aligned_alloc(size_t alignment, size_t size);
void *__real_mmap(void *at, size_t size, int protection, int flags, int fd, off_t offset);
int __real_open(const char *path, int flags, ...);
int __real_fstat(int fd, struct stat *info);
size_t __real_fwrite(const void *bytes, size_t size, size_t count, FILE *file);
int __real_fflush(FILE *file);
int __real_fsync(int fd);
int __real_fclose(FILE *file);
int __real_rename(const char *from, const char *to);
FILE *__real_fdopen(int fd, const char *mode);

void *__wrap_malloc(size_t size);
void *__wrap_calloc(size_t count, size_t size);
void *__wrap_realloc(void *old, size_t size);
void *__wrap_aligned_alloc(size_t alignment, size_t size);
void *__wrap_mmap(void *at, size_t size, int protection, int flags, int fd, off_t offset);
int __wrap_open(const char *path, int flags, ...);
int __wrap_fstat(int fd, struct stat *info);
size_t __wrap_fwrite(const void *bytes, size_t size, size_t count, FILE *file);
int __wrap_fflush(FILE *file);
int __wrap_fsync(int fd);
int __wrap_fclose(FILE *file);
int __wrap_rename(const char *from, const char *to);
FILE *__wrap_fdopen(int fd, const char *mode);

static atomic_long calls_left = -1; /* until the one that fails; below zero: none will */
static atomic_long calls;
static int failure; /* the errno it gives */

static bool must_fail(void)
{
    atomic_fetch_add(&calls, 1);
    if (atomic_load(&calls_left) < 0 || atomic_fetch_sub(&calls_left, 1) != 0) {
        return false;
    }
    errno = failure;
    return true;
}

void *__wrap_malloc(size_t size)
{
    return must_fail() ? NULL : __real_malloc(size);
}

void *__wrap_calloc(size_t count, size_t size)
{
    return must_fail() ? NULL : __real_calloc(count, size);
}

void *__wrap_realloc(void *old, size_t size)
{
    return must_fail() ? NULL : __real_realloc(old, size);
}

void *__wrap_aligned_alloc(size_t alignment, size_t size)
{
    return must_fail() ? NULL : __real_aligned_alloc(alignment, size);
}

void *__wrap_mmap(void *at, size_t size, int protection, int flags, int fd, off_t offset)
{
    return must_fail() ? MAP_FAILED : __real_mmap(at, size, protection, flags, fd, offset);
}

int __wrap_open(const char *path, int flags, ...)
{
    va_list arguments;
    va_start(arguments, flags);
    mode_t mode = (flags & O_CREAT) != 0 ? va_arg(arguments, mode_t) : 0;
    va_end(arguments);
    return must_fail() ? -1 : __real_open(path, flags, mode);
}

int __wrap_fstat(int fd, struct stat *info)
{
    return must_fail() ? -1 : __real_fstat(fd, info);
}

size_t __wrap_fwrite(const void *bytes, size_t size, size_t count, FILE *file)
{
    return must_fail() ? 0 : __real_fwrite(bytes, size, count, file);
}

int __wrap_fflush(FILE *file)
{
    return must_fail() ? EOF : __real_fflush(file);
}

int __wrap_fsync(int fd)
{
    return must_fail() ? -1 : __real_fsync(fd);
}

int __wrap_fclose(FILE *file)
{
    /* A file whose closing fails is closed all the same. */
    bool fail = must_fail();
    int closed = __real_fclose(file);
    errno = fail ? failure : errno;
    return fail ? EOF : closed;
}

int __wrap_rename(const char *from, const char *to)
{
    return must_fail() ? -1 : __real_rename(from, to);
}

FILE *__wrap_fdopen(int fd, const char *mode)
{
    return must_fail() ? NULL : __real_fdopen(fd, mode);
}

static char folder[] = "/tmp/quant_fault_test_XXXXXX";
static char in[128];
static char out[128];

static int make_folder(void **state)
{
    bool made = mkdtemp(folder) != NULL;
    snprintf(in, sizeof in, "%s/in.gguf", folder);
    snprintf(out, sizeof out, "%s/out.gguf", folder);
    return !made;
}

static int remove_folder(void **state)
{
    unlink(in);
    unlink(out);
    return rmdir(folder);
}

static size_t files_in_folder(void)
{
    size_t count = 0;
    DIR *listing = opendir(folder);
    assert_non_null(listing);
    for (struct dirent *entry = readdir(listing); entry != NULL; entry = readdir(listing)) {
        count += entry->d_name[0] != '.';
    }
    closedir(listing);
    return count;
}

static enum phid_status write_model(struct phid_error *err)
{
    struct gguf_writer *writer = NULL;
    enum phid_status status = gguf_writer_new(&writer, err);
    if (status != PHID_OK) {
        return status;
    }
    gguf_writer_add_str(writer, "general.architecture", STR("phi3"));
    gguf_writer_add_strs(writer, "tokens", (const struct str[]){STR("a"), STR("b")}, 2);
    gguf_writer_add_tensor(writer, STR("token_embd.weight"), 0, 2, (const uint64_t[]){256, 2});
    gguf_writer_add_tensor(writer, STR("output_norm.weight"), 0, 1, (const uint64_t[]){256});
    status = gguf_writer_begin(writer, in, err);
    static const float weights[768] = {1, 2, 3};
    if (status == PHID_OK) {
        status = gguf_writer_data(writer, weights, sizeof weights, err);
    }
    if (status == PHID_OK) {
        status = gguf_writer_end(writer, err);
    }
    gguf_writer_free(writer);
    return status;
}

static enum phid_status quantize(struct phid_error *err)
{
    struct quantize_options options = {.target = STR("q4_k"), .threads = 1};
    struct quantize_report report;
    return quantize_file(in, out, &options, &report, err);
}

static enum phid_status read_arrays(struct phid_error *err)
{
    struct gguf_file *file = NULL;
    enum phid_status status = gguf_open(in, &file, err);
    if (status != PHID_OK) {
        return status;
    }
    struct str *strings = NULL;
    size_t count;
    status = gguf_get_strings(file, "tokens", &strings, &count, err);
    free(strings);
    gguf_close(file);
    return status;
}

/* Lets the first, second, .. call fail until the work is done without; `leaves` files must be there
 * after a failure. */
static void fail_each_call(enum phid_status (*work)(struct phid_error *err), int error_number,
                           const char *result, size_t leaves)
{
    failure = error_number;
    long n = 0;
    for (;; n++) {
        struct phid_error error = {.message = ""};
        atomic_store(&calls_left, n);
        enum phid_status status = work(&error);
        bool reached = atomic_load(&calls_left) < 0;
        atomic_store(&calls_left, -1);
        if (!reached) {
            assert_int_equal(status, PHID_OK);
            break;
        }
        if (status == PHID_OK) {
            /* Some calls may fail without harm (a buffer, advice); then the result is whole. */
            if (result != NULL) {
                assert_int_equal(unlink(result), 0);
            }
            continue;
        }
        if (status != PHID_ERR_MEMORY && status != PHID_ERR_IO) {
            fail_msg("call %ld: %s '%s'", n, phid_status_name(status), error.message);
        }
        assert_true(error.message[0] != '\0');
        if (result != NULL) {
            assert_int_equal(files_in_folder(), leaves);
            assert_int_not_equal(access(result, F_OK), 0);
        }
    }
    assert_true(n >= 5);
    if (result != NULL) {
        struct gguf_file *file = NULL;
        assert_int_equal(gguf_open(result, &file, NULL), PHID_OK);
        gguf_close(file);
    }
}

static void test_fault_writer(void **state)
{
    fail_each_call(write_model, ENOSPC, in, 0);
    unlink(in);
    fail_each_call(write_model, EIO, in, 0);
}

static void test_fault_reader(void **state)
{
    assert_int_equal(write_model(NULL), PHID_OK);
    fail_each_call(read_arrays, ENOMEM, NULL, 0);
    fail_each_call(read_arrays, EMFILE, NULL, 0);
}

static void test_fault_quantizer(void **state)
{
    assert_int_equal(write_model(NULL), PHID_OK);
    fail_each_call(quantize, ENOSPC, out, 1);
    unlink(out);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_fault_writer),
        cmocka_unit_test(test_fault_reader),
        cmocka_unit_test(test_fault_quantizer),
    };
    return cmocka_run_group_tests(tests, make_folder, remove_folder);
}
