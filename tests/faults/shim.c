/* A shim in front of the C library, for one process under test: it records what is done to a folder's files, fails, delays, and
 * shifts the clock. The runner compiles it and loads it with LD_PRELOAD; tests/faults/shim.rs is the other side.
 *
 * Invariant: without a control file (GATELET_SHIM_CONTROL) every call does what it always did. The control file is a row of 64-bit
 * numbers shared with the runner, which may change them at any time; files outside of GATELET_SHIM_ROOT are never touched. A record is
 * one append to GATELET_SHIM_LOG, in the order in which the calls took effect: `OP PATH OFFSET LENGTH\n` and LENGTH bytes.
 */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/types.h>
#include <sys/uio.h>
#include <time.h>
#include <unistd.h>

/* The order of the numbers is that of `Dial` in tests/faults/shim.rs. */
enum {
    CLOCK_SHIFT_NS,  /* added to the wall clock */
    SYNC_FAIL_FROM,  /* the sync with this number (from 1) and those behind it ... */
    SYNC_FAIL_COUNT, /* ... so many of them ... */
    SYNC_ERRNO,      /* ... fail with this */
    SYNC_DELAY_US,   /* every sync takes this much longer */
    WRITE_FAIL_FROM, /* the same for writes */
    WRITE_FAIL_COUNT,
    WRITE_ERRNO,
    ALLOC_FAIL_FROM, /* the same for allocations of memory; they give a null pointer */
    ALLOC_FAIL_COUNT,
    RANDOM_ERRNO,    /* the system's randomness fails with this */
    THREAD_ERRNO,    /* no thread can be made */
    SYNCS,           /* counted: syncs, writes, bytes written, allocations, threads refused */
    WRITES,
    BYTES,
    ALLOCS,
    DIALS
};

static volatile int64_t own_dials[64];
static volatile int64_t *dials = own_dials;
static char root[512];
static size_t root_length;
static int log_fd = -1;
static int ready;
static pthread_mutex_t order = PTHREAD_MUTEX_INITIALIZER;

#define REAL(name) ((__typeof__(&name))real(#name))

static void *real(const char *name) { return dlsym(RTLD_NEXT, name); }

__attribute__((constructor)) static void begin(void) {
    const char *control = getenv("GATELET_SHIM_CONTROL"), *at = getenv("GATELET_SHIM_ROOT"), *log = getenv("GATELET_SHIM_LOG");
    if (at && strlen(at) < sizeof root) {
        strcpy(root, at);
        root_length = strlen(root);
    }
    if (log) log_fd = (int)syscall(SYS_openat, AT_FDCWD, log, O_WRONLY | O_APPEND | O_CLOEXEC, 0);
    if (control) {
        int fd = (int)syscall(SYS_openat, AT_FDCWD, control, O_RDWR | O_CLOEXEC, 0);
        void *at_memory = fd < 0 ? MAP_FAILED : mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
        if (at_memory != MAP_FAILED) dials = at_memory;
        if (fd >= 0) syscall(SYS_close, fd);
    }
    ready = 1;
}

/* Whether the call that is counted here is one of those that are to fail. */
static int fails(int counter, int from) {
    int64_t number = __atomic_add_fetch((int64_t *)&dials[counter], 1, __ATOMIC_SEQ_CST);
    int64_t first = dials[from];
    return first > 0 && number >= first && number < first + dials[from + 1];
}

static int ours(const char *path) { return root_length && !strncmp(path, root, root_length) && path[root_length] == '/'; }

/* The path of an open file, below the root; 0 where it is elsewhere. */
static int path_of(int fd, char *path, size_t size) {
    if (fd <= 2) return 0; /* its outputs are no files of its own */
    char link[64];
    snprintf(link, sizeof link, "/proc/self/fd/%d", fd);
    ssize_t n = readlink(link, path, size - 1);
    if (n <= 0) return 0;
    path[n] = 0;
    return ours(path) || !strcmp(path, root);
}

static void record(const char *op, const char *path, int64_t offset, const void *bytes, size_t length) {
    if (log_fd < 0) return;
    const char *name = path[root_length] ? path + root_length + 1 : ".";
    char head[700];
    int n = snprintf(head, sizeof head, "%s %s %lld %zu\n", op, name, (long long)offset, length);
    struct iovec parts[2] = {{head, (size_t)n}, {(void *)bytes, length}};
    (void)!syscall(SYS_writev, log_fd, parts, length ? 2 : 1);
}

static ssize_t written(int fd, const void *bytes, size_t length, int64_t offset, int is_positioned) {
    char path[600];
    int keep = errno;
    if (!ready || !path_of(fd, path, sizeof path)) {
        errno = keep;
        return is_positioned ? syscall(SYS_pwrite64, fd, bytes, length, offset) : syscall(SYS_write, fd, bytes, length);
    }
    errno = keep;
    if (fails(WRITES, WRITE_FAIL_FROM)) {
        errno = (int)dials[WRITE_ERRNO];
        return -1;
    }
    pthread_mutex_lock(&order);
    if (!is_positioned) {
        struct stat about;
        int flags = (int)syscall(SYS_fcntl, fd, F_GETFL);
        offset = (flags & O_APPEND) && !fstat(fd, &about) ? about.st_size : syscall(SYS_lseek, fd, 0, SEEK_CUR);
    }
    ssize_t done = is_positioned ? syscall(SYS_pwrite64, fd, bytes, length, offset) : syscall(SYS_write, fd, bytes, length);
    keep = errno;
    if (done > 0) {
        __atomic_add_fetch((int64_t *)&dials[BYTES], done, __ATOMIC_SEQ_CST);
        record("W", path, offset, bytes, (size_t)done);
    }
    pthread_mutex_unlock(&order);
    errno = keep;
    return done;
}

ssize_t pwrite64(int fd, const void *bytes, size_t length, off64_t offset) { return written(fd, bytes, length, offset, 1); }
ssize_t pwrite(int fd, const void *bytes, size_t length, off_t offset) { return written(fd, bytes, length, offset, 1); }
ssize_t write(int fd, const void *bytes, size_t length) { return written(fd, bytes, length, 0, 0); }

static int synced(int fd, long call) {
    char path[600];
    if (!ready || !path_of(fd, path, sizeof path)) return (int)syscall(call, fd);
    if (dials[SYNC_DELAY_US] > 0) {
        struct timespec pause = {dials[SYNC_DELAY_US] / 1000000, dials[SYNC_DELAY_US] % 1000000 * 1000};
        syscall(SYS_nanosleep, &pause, NULL);
    }
    if (fails(SYNCS, SYNC_FAIL_FROM)) {
        record("F", path, 0, NULL, 0);
        errno = (int)dials[SYNC_ERRNO];
        return -1;
    }
    record("s", path, 0, NULL, 0);
    int done = (int)syscall(call, fd), keep = errno;
    if (!done) record("S", path, 0, NULL, 0);
    errno = keep;
    return done;
}

int fsync(int fd) { return synced(fd, SYS_fsync); }
int fdatasync(int fd) { return synced(fd, SYS_fdatasync); }

static int truncated(int fd, off64_t length) {
    char path[600];
    if (!ready || !path_of(fd, path, sizeof path)) return (int)syscall(SYS_ftruncate, fd, length);
    pthread_mutex_lock(&order);
    int done = (int)syscall(SYS_ftruncate, fd, length), keep = errno;
    if (!done) record("T", path, length, NULL, 0);
    pthread_mutex_unlock(&order);
    errno = keep;
    return done;
}

int ftruncate64(int fd, off64_t length) { return truncated(fd, length); }
int ftruncate(int fd, off_t length) { return truncated(fd, length); }

int rename(const char *from, const char *to) {
    if (!ready || !ours(from) || !ours(to)) return (int)syscall(SYS_renameat2, AT_FDCWD, from, AT_FDCWD, to, 0);
    pthread_mutex_lock(&order);
    int done = (int)syscall(SYS_renameat2, AT_FDCWD, from, AT_FDCWD, to, 0), keep = errno;
    if (!done) record("R", from, 0, to + root_length + 1, strlen(to + root_length + 1));
    pthread_mutex_unlock(&order);
    errno = keep;
    return done;
}

int unlink(const char *path) {
    if (!ready || !ours(path)) return (int)syscall(SYS_unlinkat, AT_FDCWD, path, 0);
    pthread_mutex_lock(&order);
    int done = (int)syscall(SYS_unlinkat, AT_FDCWD, path, 0), keep = errno;
    if (!done) record("U", path, 0, NULL, 0);
    pthread_mutex_unlock(&order);
    errno = keep;
    return done;
}

static int opened(const char *path, int flags, mode_t mode) {
    int is_new = ready && (flags & O_CREAT) && ours(path) && syscall(SYS_faccessat, AT_FDCWD, path, F_OK) != 0;
    int is_cut = ready && (flags & O_TRUNC) && ours(path);
    if (is_new || is_cut) pthread_mutex_lock(&order);
    int fd = (int)syscall(SYS_openat, AT_FDCWD, path, flags, mode), keep = errno;
    if (fd >= 0 && is_new) record("C", path, mode, NULL, 0);
    if (fd >= 0 && is_cut && !is_new) record("T", path, 0, NULL, 0);
    if (is_new || is_cut) pthread_mutex_unlock(&order);
    errno = keep;
    return fd;
}

#define OPEN(name)                                           \
    int name(const char *path, int flags, ...) {             \
        va_list rest;                                        \
        va_start(rest, flags);                               \
        mode_t mode = flags & (O_CREAT | O_TMPFILE) ? va_arg(rest, mode_t) : 0; \
        va_end(rest);                                        \
        return opened(path, flags, mode);                    \
    }
OPEN(open)
OPEN(open64)

int clock_gettime(clockid_t clock, struct timespec *now) {
    static int (*real_one)(clockid_t, struct timespec *);
    if (!real_one) real_one = REAL(clock_gettime);
    int done = real_one(clock, now);
    if (!done && clock == CLOCK_REALTIME && dials[CLOCK_SHIFT_NS]) {
        int64_t ns = (int64_t)now->tv_sec * 1000000000 + now->tv_nsec + dials[CLOCK_SHIFT_NS];
        now->tv_sec = ns / 1000000000;
        now->tv_nsec = ns % 1000000000;
        if (now->tv_nsec < 0) {
            now->tv_nsec += 1000000000;
            now->tv_sec -= 1;
        }
    }
    return done;
}

ssize_t getrandom(void *into, size_t length, unsigned int flags) {
    if (dials[RANDOM_ERRNO]) {
        errno = (int)dials[RANDOM_ERRNO];
        return -1;
    }
    return syscall(SYS_getrandom, into, length, flags);
}

int pthread_create(pthread_t *thread, const pthread_attr_t *attributes, void *(*begin_at)(void *), void *with) {
    if (dials[THREAD_ERRNO]) return (int)dials[THREAD_ERRNO];
    return REAL(pthread_create)(thread, attributes, begin_at, with);
}

extern void *__libc_malloc(size_t);
extern void *__libc_calloc(size_t, size_t);
extern void *__libc_realloc(void *, size_t);
void *malloc(size_t size) { return fails(ALLOCS, ALLOC_FAIL_FROM) ? NULL : __libc_malloc(size); }
void *calloc(size_t n, size_t size) { return fails(ALLOCS, ALLOC_FAIL_FROM) ? NULL : __libc_calloc(n, size); }
void *realloc(void *old, size_t size) { return fails(ALLOCS, ALLOC_FAIL_FROM) ? NULL : __libc_realloc(old, size); }
