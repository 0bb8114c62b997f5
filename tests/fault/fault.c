/* Loaded into phid by LD_PRELOAD: makes the nth allocation, or the nth call to the file system,
 * that phid's own code makes fail. PHID_FAULT_KIND is "alloc" or "io", PHID_FAULT_AT is n (from 1).
 * Calls from libraries pass through. */
#include <dlfcn.h>
#include <errno.h>
#include <link.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

/* The build hides symbols; these must be found before the C library's. */
#pragma GCC visibility push(default)

extern void *__libc_malloc(size_t size);
extern void *__libc_calloc(size_t count, size_t size);
extern void *__libc_realloc(void *old, size_t size);
extern void *__libc_memalign(size_t alignment, size_t size);

void *malloc(size_t size);
void *calloc(size_t count, size_t size);
void *realloc(void *old, size_t size);
void *aligned_alloc(size_t alignment, size_t size);
int posix_memalign(void **ret, size_t alignment, size_t size);
int open(const char *path, int flags, ...);

/* Written by the constructor, before phid's threads. */
static long fail_at[2];
static uintptr_t first_address, last_address;
static atomic_long counts[2];

enum kind { ALLOC, IO };

static int find_program(struct dl_phdr_info *info, size_t size, void *data)
{
    (void)size;
    (void)data;
    for (int i = 0; i < info->dlpi_phnum; i++) {
        if (info->dlpi_phdr[i].p_type == PT_LOAD && (info->dlpi_phdr[i].p_flags & PF_X) != 0) {
            first_address = info->dlpi_addr + info->dlpi_phdr[i].p_vaddr;
            last_address = first_address + info->dlpi_phdr[i].p_memsz;
        }
    }
    return 1; /* the program is the first */
}

__attribute__((constructor)) static void start(void)
{
    const char *kind = getenv("PHID_FAULT_KIND"), *at = getenv("PHID_FAULT_AT");
    dl_iterate_phdr(find_program, NULL);
    if (kind != NULL && at != NULL) {
        fail_at[strcmp(kind, "io") == 0 ? IO : ALLOC] = strtol(at, NULL, 10);
    }
}

/* Tells the test how many calls there were, by a line on stderr that begins like no message of
 * phid's. */
__attribute__((destructor)) static void stop(void)
{
    char line[64];
    int size = snprintf(line, sizeof(line), "calls %ld %ld\n", counts[ALLOC], counts[IO]);
    ssize_t written = write(STDERR_FILENO, line, (size_t)size);
    (void)written;
}

static int fails(enum kind kind, const void *caller)
{
    uintptr_t address = (uintptr_t)caller;
    if (address < first_address || address >= last_address) {
        return 0;
    }
    return atomic_fetch_add(&counts[kind], 1) + 1 == fail_at[kind];
}

#define CALLER __builtin_return_address(0)

void *malloc(size_t size)
{
    return fails(ALLOC, CALLER) ? NULL : __libc_malloc(size);
}

void *calloc(size_t count, size_t size)
{
    return fails(ALLOC, CALLER) ? NULL : __libc_calloc(count, size);
}

void *realloc(void *old, size_t size)
{
    return fails(ALLOC, CALLER) ? NULL : __libc_realloc(old, size);
}

void *aligned_alloc(size_t alignment, size_t size)
{
    return fails(ALLOC, CALLER) ? NULL : __libc_memalign(alignment, size);
}

int posix_memalign(void **ret, size_t alignment, size_t size)
{
    *ret = fails(ALLOC, CALLER) ? NULL : __libc_memalign(alignment, size);
    return *ret == NULL ? ENOMEM : 0;
}

/* The rest of a call goes to the next definition of the same name. */
#define NEXT(type, name) ((type)(uintptr_t)dlsym(RTLD_NEXT, name))

int open(const char *path, int flags, ...)
{
    va_list list;
    va_start(list, flags);
    mode_t mode = va_arg(list, mode_t);
    va_end(list);
    if (fails(IO, CALLER)) {
        errno = EMFILE;
        return -1;
    }
    return NEXT(int (*)(const char *, int, mode_t), "open")(path, flags, mode);
}

ssize_t read(int fd, void *bytes, size_t size)
{
    if (fails(IO, CALLER)) {
        errno = EIO;
        return -1;
    }
    return NEXT(ssize_t(*)(int, void *, size_t), "read")(fd, bytes, size);
}

int fstat(int fd, struct stat *info)
{
    if (fails(IO, CALLER)) {
        errno = EIO;
        return -1;
    }
    return NEXT(int (*)(int, struct stat *), "fstat")(fd, info);
}

void *mmap(void *address, size_t size, int protection, int flags, int fd, off_t offset)
{
    if (fails(IO, CALLER)) {
        errno = ENOMEM;
        return MAP_FAILED;
    }
    return NEXT(void *(*)(void *, size_t, int, int, int, off_t), "mmap")(address, size, protection,
                                                                         flags, fd, offset);
}
