#include "server/cli/download.h"

#include <curl/curl.h>
#include <errno.h>
#include <fcntl.h>
#include <openssl/evp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "engine/base/clock.h"
#include "engine/base/str.h"
#include "server/cli/cli.h"

#define ATTEMPTS    3
#define PATH_SIZE   8192
#define TAG_SIZE    512
#define PROGRESS_NS (CLOCK_NS_PER_S / 4)

/* One download under way. */
struct transfer {
    const struct download *download;
    CURL *curl;
    char part[PATH_SIZE], tag_path[PATH_SIZE];
    int fd;            /* of the part; written at its end */
    uint64_t start;    /* bytes that were there before this attempt */
    uint64_t received; /* by this attempt */
    bool body_begun;
    int write_errno;
    char tag[TAG_SIZE];           /* of the answer; "" when it has none we can use */
    char hub_sha256[SHA256_TEXT]; /* what the hub says about the file, "" when nothing */
    uint64_t shown_ns;            /* when the last progress line was written */
};

/* ------------------------------------------------------------------ hash */

static void hex(const unsigned char *bytes, size_t count, char *ret)
{
    for (size_t i = 0; i < count; i++) {
        snprintf(ret + 2 * i, 3, "%02x", bytes[i]);
    }
}

enum phid_status download_hash_file(const char *path, char ret_sha256[SHA256_TEXT],
                                    struct phid_error *err)
{
    enum phid_status status = PHID_OK;
    unsigned char digest[EVP_MAX_MD_SIZE];
    unsigned int size = 0;
    const size_t piece = (size_t)1 << 20;
    unsigned char *bytes = malloc(piece);
    EVP_MD_CTX *context = EVP_MD_CTX_new();
    FILE *file = fopen(path, "rbe");
    size_t got;
    if (bytes == NULL || context == NULL || EVP_DigestInit_ex(context, EVP_sha256(), NULL) != 1) {
        status = phid_fail(err, PHID_ERR_MEMORY, "out of memory");
        goto done;
    }
    if (file == NULL) {
        status = phid_fail(err, PHID_ERR_IO, "%.300s: cannot open: %s", path, strerror(errno));
        goto done;
    }
    while ((got = fread(bytes, 1, piece, file)) > 0) {
        EVP_DigestUpdate(context, bytes, got);
    }
    if (ferror(file)) {
        status = phid_fail(err, PHID_ERR_IO, "%.300s: cannot read: %s", path, strerror(errno));
        goto done;
    }
    EVP_DigestFinal_ex(context, digest, &size);
    hex(digest, size, ret_sha256);
done:
    if (file != NULL) {
        fclose(file);
    }
    EVP_MD_CTX_free(context);
    free(bytes);
    return status;
}

/* ------------------------------------------------------------- callbacks */

/* The value of header `name` without spaces around, or false. */
static bool header_value(struct str line, const char *name, struct str *ret)
{
    size_t size = strlen(name);
    if (line.size <= size || line.data[size] != ':' || strncasecmp(line.data, name, size) != 0) {
        return false;
    }
    struct str value = {line.data + size + 1, line.size - size - 1};
    while (value.size > 0 && (value.data[0] == ' ' || value.data[0] == '\t')) {
        value = (struct str){value.data + 1, value.size - 1};
    }
    while (value.size > 0 && strchr(" \t\r\n", value.data[value.size - 1]) != NULL) {
        value.size--;
    }
    *ret = value;
    return true;
}

static bool is_sha256(struct str s)
{
    for (size_t i = 0; i < s.size; i++) {
        if (strchr("0123456789abcdefABCDEF", s.data[i]) == NULL || s.data[i] == 0) {
            return false;
        }
    }
    return s.size == 64;
}

static size_t on_header(char *data, size_t size, size_t count, void *user)
{
    struct transfer *t = user;
    struct str line = {data, size * count}, value;
    if (line.size > 5 && memcmp(line.data, "HTTP/", 5) == 0) {
        t->tag[0] = 0; /* a redirect's headers are not the file's */
    } else if (header_value(line, "etag", &value) && value.size < TAG_SIZE && value.size > 0 &&
               value.data[0] == '"') {
        memcpy(t->tag, value.data, value.size);
        t->tag[value.size] = 0;
    } else if (header_value(line, "x-linked-etag", &value) && value.size == 66) {
        struct str digits = {value.data + 1, 64};
        if (is_sha256(digits)) {
            memcpy(t->hub_sha256, digits.data, 64);
            t->hub_sha256[64] = 0;
        }
    }
    return line.size;
}

static void save_tag(const struct transfer *t)
{
    unlink(t->tag_path);
    if (t->tag[0] == 0) {
        return;
    }
    FILE *file = fopen(t->tag_path, "wbe");
    if (file != NULL) {
        fputs(t->tag, file);
        fclose(file);
    }
}

/* The first bytes of the body: a server that answers 200 to a range begins at the beginning. */
static bool begin_body(struct transfer *t)
{
    long code = 0;
    curl_easy_getinfo(t->curl, CURLINFO_RESPONSE_CODE, &code);
    t->body_begun = true;
    if (t->start > 0 && code != 206) {
        t->start = 0;
        if (ftruncate(t->fd, 0) != 0) {
            t->write_errno = errno;
            return false;
        }
    }
    if (t->start == 0) {
        save_tag(t);
    }
    return true;
}

static size_t on_body(char *data, size_t size, size_t count, void *user)
{
    struct transfer *t = user;
    size_t bytes = size * count, done = 0;
    if (!t->body_begun && !begin_body(t)) {
        return 0;
    }
    while (done < bytes) {
        ssize_t wrote = write(t->fd, data + done, bytes - done);
        if (wrote < 0 && errno == EINTR) {
            continue;
        }
        if (wrote < 0) {
            t->write_errno = errno;
            return 0;
        }
        done += (size_t)wrote;
    }
    t->received += bytes;
    return bytes;
}

static int on_progress(void *user, curl_off_t total, curl_off_t done, curl_off_t up_total,
                       curl_off_t up_done)
{
    struct transfer *t = user;
    (void)up_total;
    (void)up_done;
    uint64_t now = clock_now_ns();
    if (total <= 0 || now - t->shown_ns < PROGRESS_NS) {
        return 0;
    }
    t->shown_ns = now;
    char have[32], all[32], rate[32];
    curl_off_t speed = 0;
    uint64_t whole = t->start + (uint64_t)total, here = t->start + (uint64_t)done;
    curl_easy_getinfo(t->curl, CURLINFO_SPEED_DOWNLOAD_T, &speed);
    cli_size_text(here, have, sizeof(have));
    cli_size_text(whole, all, sizeof(all));
    cli_size_text((uint64_t)speed, rate, sizeof(rate));
    int bars = (int)(30 * here / whole);
    fprintf(stderr, "\r[%.*s%*s] %3d%%  %s of %s, %s/s   ", bars, "##############################",
            30 - bars, "", (int)(100 * here / whole), have, all, rate);
    return 0;
}

/* -------------------------------------------------------------- attempts */

/* Where an earlier attempt stopped, and the tag it came with. */
static void read_state(struct transfer *t, char tag[TAG_SIZE])
{
    struct stat info;
    t->start = fstat(t->fd, &info) == 0 && info.st_size > 0 ? (uint64_t)info.st_size : 0;
    tag[0] = 0;
    FILE *file = fopen(t->tag_path, "rbe");
    if (file != NULL) {
        size_t got = fread(tag, 1, TAG_SIZE - 1, file);
        tag[got] = 0;
        fclose(file);
    }
    if (strpbrk(tag, "\r\n") != NULL) {
        tag[0] = 0;
    }
}

static void configure(struct transfer *t)
{
    bool secure = strncmp(t->download->url, "https://", 8) == 0;
    curl_easy_reset(t->curl);
    curl_easy_setopt(t->curl, CURLOPT_URL, t->download->url);
    curl_easy_setopt(t->curl, CURLOPT_PROTOCOLS_STR, "http,https");
    /* What began encrypted stays encrypted. */
    curl_easy_setopt(t->curl, CURLOPT_REDIR_PROTOCOLS_STR, secure ? "https" : "http,https");
    curl_easy_setopt(t->curl, CURLOPT_FOLLOWLOCATION, 1L);
    curl_easy_setopt(t->curl, CURLOPT_MAXREDIRS, 10L);
    curl_easy_setopt(t->curl, CURLOPT_FAILONERROR, 1L);
    curl_easy_setopt(t->curl, CURLOPT_CONNECTTIMEOUT, 30L);
    curl_easy_setopt(t->curl, CURLOPT_LOW_SPEED_LIMIT, 1L);
    curl_easy_setopt(t->curl, CURLOPT_LOW_SPEED_TIME, 60L);
    curl_easy_setopt(t->curl, CURLOPT_NOSIGNAL, 1L);
    curl_easy_setopt(t->curl, CURLOPT_USERAGENT, "phid");
    curl_easy_setopt(t->curl, CURLOPT_HEADERFUNCTION, on_header);
    curl_easy_setopt(t->curl, CURLOPT_HEADERDATA, t);
    curl_easy_setopt(t->curl, CURLOPT_WRITEFUNCTION, on_body);
    curl_easy_setopt(t->curl, CURLOPT_WRITEDATA, t);
    curl_easy_setopt(t->curl, CURLOPT_NOPROGRESS, t->download->progress ? 0L : 1L);
    curl_easy_setopt(t->curl, CURLOPT_XFERINFOFUNCTION, on_progress);
    curl_easy_setopt(t->curl, CURLOPT_XFERINFODATA, t);
}

enum outcome { DONE, AGAIN, GIVE_UP };

/* Says in err what went wrong, and whether another attempt may help. */
static enum outcome judge(struct transfer *t, CURLcode result, struct phid_error *err)
{
    const char *url = t->download->url;
    long code = 0;
    curl_easy_getinfo(t->curl, CURLINFO_RESPONSE_CODE, &code);
    if (result == CURLE_OK) {
        return DONE;
    }
    if (t->write_errno != 0) {
        phid_fail(err, PHID_ERR_IO, "%.300s: cannot write: %s", t->part, strerror(t->write_errno));
        return GIVE_UP;
    }
    if (result == CURLE_HTTP_RETURNED_ERROR && code == 416 && t->start > 0) {
        /* Nothing is left behind what we have, or the part is too long: begin again. */
        phid_fail(err, PHID_ERR_IO, "%.200s: HTTP status 416", url);
        return ftruncate(t->fd, 0) == 0 ? AGAIN : GIVE_UP;
    }
    if (result == CURLE_HTTP_RETURNED_ERROR) {
        phid_fail(err, code == 404 ? PHID_ERR_NOT_FOUND : PHID_ERR_IO, "%.300s: HTTP status %ld%s",
                  url, code,
                  code == 404   ? " (not found)"
                  : code == 401 ? " (the model wants a login)"
                                : "");
        return code >= 500 || code == 429 ? AGAIN : GIVE_UP;
    }
    if (t->received > 0) {
        phid_fail(
            err, PHID_ERR_IO,
            "%.200s: the connection broke after %llu bytes; the same command goes on from there",
            url, (unsigned long long)(t->start + t->received));
        return AGAIN;
    }
    phid_fail(err, PHID_ERR_IO, "%.300s: %s", url, curl_easy_strerror(result));
    return result == CURLE_COULDNT_CONNECT || result == CURLE_OPERATION_TIMEDOUT ? AGAIN : GIVE_UP;
}

static enum outcome attempt(struct transfer *t, struct phid_error *err)
{
    char tag[TAG_SIZE], condition[TAG_SIZE + 16];
    struct curl_slist *headers = NULL;
    t->received = 0;
    t->body_begun = false;
    read_state(t, tag);
    configure(t);
    if (t->start > 0) {
        curl_easy_setopt(t->curl, CURLOPT_RESUME_FROM_LARGE, (curl_off_t)t->start);
    }
    if (t->start > 0 && tag[0] != 0) {
        snprintf(condition, sizeof(condition), "If-Range: %s", tag);
        headers = curl_slist_append(NULL, condition);
        curl_easy_setopt(t->curl, CURLOPT_HTTPHEADER, headers);
    }
    CURLcode result = curl_easy_perform(t->curl);
    if (result == CURLE_RANGE_ERROR) {
        /* The server sends the whole file: libcurl refuses before we see it, so ask without a
         * range. */
        t->start = 0;
        result = ftruncate(t->fd, 0) == 0 ? CURLE_OK : CURLE_WRITE_ERROR;
        curl_easy_setopt(t->curl, CURLOPT_RESUME_FROM_LARGE, (curl_off_t)0);
        curl_easy_setopt(t->curl, CURLOPT_HTTPHEADER, NULL);
        result = result == CURLE_OK ? curl_easy_perform(t->curl) : result;
    }
    enum outcome outcome = judge(t, result, err);
    curl_slist_free_all(headers);
    if (t->download->progress && t->shown_ns > 0) {
        fputc('\n', stderr);
        t->shown_ns = 0;
    }
    return outcome;
}

/* ---------------------------------------------------------------- checks */

static enum phid_status check_part(const struct transfer *t, char ret_sha256[SHA256_TEXT],
                                   struct phid_error *err)
{
    char magic[4] = {0};
    const char *wanted = t->download->sha256 != NULL ? t->download->sha256
                         : t->hub_sha256[0] != 0     ? t->hub_sha256
                                                     : NULL;
    struct str path = str_of(t->download->path);
    bool is_gguf = path.size > 5 && strcmp(path.data + path.size - 5, ".gguf") == 0;
    ssize_t got = pread(t->fd, magic, sizeof(magic), 0);
    if (is_gguf && (got != (ssize_t)sizeof(magic) || memcmp(magic, "GGUF", 4) != 0)) {
        return phid_fail(err, PHID_ERR_FORMAT, "%.300s: what came is not a GGUF file",
                         t->download->url);
    }
    enum phid_status status = download_hash_file(t->part, ret_sha256, err);
    if (status == PHID_OK && wanted != NULL && strcasecmp(wanted, ret_sha256) != 0) {
        return phid_fail(err, PHID_ERR_FORMAT, "%.200s: expected SHA-256 %s, found %s",
                         t->download->url, wanted, ret_sha256);
    }
    return status;
}

static enum phid_status fetch(struct transfer *t, char ret_sha256[SHA256_TEXT],
                              struct phid_error *err)
{
    enum outcome outcome = AGAIN;
    for (int i = 0; i < ATTEMPTS && outcome == AGAIN; i++) {
        const struct timespec pause = {.tv_sec = i};
        nanosleep(&pause, NULL);
        outcome = attempt(t, err);
    }
    if (outcome != DONE) {
        struct stat info;
        if (fstat(t->fd, &info) == 0 && info.st_size == 0) {
            unlink(t->part);
            unlink(t->tag_path);
        }
        return err->status;
    }
    enum phid_status status = check_part(t, ret_sha256, err);
    if (status == PHID_ERR_FORMAT) {
        unlink(t->part);
        unlink(t->tag_path);
    }
    if (status != PHID_OK) {
        return status;
    }
    if (fsync(t->fd) != 0 || rename(t->part, t->download->path) != 0) {
        return phid_fail(err, PHID_ERR_IO, "%.300s: cannot finish: %s", t->download->path,
                         strerror(errno));
    }
    unlink(t->tag_path);
    return PHID_OK;
}

enum phid_status download_run(const struct download *download, char ret_sha256[SHA256_TEXT],
                              struct phid_error *err)
{
    struct phid_error local = {0};
    err = err != NULL ? err : &local;
    struct transfer *t = calloc(1, sizeof(*t));
    if (t == NULL) {
        return phid_fail(err, PHID_ERR_MEMORY, "out of memory");
    }
    enum phid_status status;
    t->download = download;
    t->fd = -1;
    int size = snprintf(t->part, sizeof(t->part), "%s.part", download->path);
    int tag_size = snprintf(t->tag_path, sizeof(t->tag_path), "%s.part.etag", download->path);
    if (size >= (int)sizeof(t->part) || tag_size >= (int)sizeof(t->tag_path)) {
        status = phid_fail(err, PHID_ERR_ARGUMENT, "the path is too long");
        goto done;
    }
    t->fd = open(t->part, O_RDWR | O_CREAT | O_APPEND | O_CLOEXEC, 0644);
    if (t->fd < 0) {
        status = phid_fail(err, PHID_ERR_IO, "%.300s: cannot create: %s", t->part, strerror(errno));
        goto done;
    }
    if (flock(t->fd, LOCK_EX | LOCK_NB) != 0) {
        status = phid_fail(err, PHID_ERR_BUSY, "%.300s: another phid pull is fetching it", t->part);
        goto done;
    }
    if (curl_global_init(CURL_GLOBAL_DEFAULT) != CURLE_OK || (t->curl = curl_easy_init()) == NULL) {
        status = phid_fail(err, PHID_ERR_MEMORY, "out of memory");
        goto done;
    }
    status = fetch(t, ret_sha256, err);
done:
    if (t->curl != NULL) {
        curl_easy_cleanup(t->curl);
    }
    if (t->fd >= 0) {
        close(t->fd);
    }
    free(t);
    return status;
}
