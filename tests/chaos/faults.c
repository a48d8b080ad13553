/* Counts the calls by which a process changes files below a folder, and ends or fails it at one.

   Preloaded. `fault_arm` is for the process that calls it, not for what that starts: the call with
   the number `at` is the last one, by SIGKILL before it (an odd number of bytes into a write), or
   from it on the disk is full: what needs space fails with ENOSPC. at = 0 counts only. */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/types.h>
#include <sys/uio.h>
#include <unistd.h>

enum { KILL = 1, FULL = 2 };
static char root[4096];
static size_t length;
static pid_t armed;
static long at, calls;
static int fault;

void fault_arm(const char *folder, long number, int kind) {
    strncpy(root, folder, sizeof root - 1);
    length = strlen(root), at = number, fault = kind, calls = 0, armed = getpid();
}
long fault_calls(void) { return calls; }

static int below(const char *path) {
    return path && strncmp(path, root, length) == 0;
}
static int of_file(int fd) {
    char link[64], path[4096];
    snprintf(link, sizeof link, "/proc/self/fd/%d", fd);
    ssize_t size = readlink(link, path, sizeof path - 1);
    if (size < 0) return 0;
    path[size] = 0;
    return below(path);
}
/* what to do at this call: nothing, KILL or FULL */
static int due(void) {
    long number = __atomic_add_fetch(&calls, 1, __ATOMIC_SEQ_CST);
    if (!at || number < at) return 0;
    if (fault == KILL) return number == at ? KILL : 0;
    return FULL;
}
static int active(void) { return armed && armed == getpid(); }
static void die(void) { kill(getpid(), SIGKILL), pause(); }

#define REAL(type, name, ...) \
    static type (*real)(__VA_ARGS__); \
    if (!real) real = dlsym(RTLD_NEXT, #name)
/* a call that needs space on the disk */
#define TAKES(condition) \
    if (active() && (condition)) \
        switch (due()) { case KILL: die(); case FULL: errno = ENOSPC; return -1; }
/* a call that needs none */
#define MOVES(condition) \
    if (active() && (condition) && due() == KILL) die()

#define OPEN(name) \
    int name(const char *path, int flags, ...) { \
        REAL(int, name, const char *, int, ...); \
        va_list rest; va_start(rest, flags); mode_t mode = va_arg(rest, mode_t); va_end(rest); \
        if (flags & (O_CREAT | O_TRUNC)) TAKES(below(path)) \
        return real(path, flags, mode); }
OPEN(open)
OPEN(open64)
#define OPENAT(name) \
    int name(int folder, const char *path, int flags, ...) { \
        REAL(int, name, int, const char *, int, ...); \
        va_list rest; va_start(rest, flags); mode_t mode = va_arg(rest, mode_t); va_end(rest); \
        if (flags & (O_CREAT | O_TRUNC)) TAKES(below(path)) \
        return real(folder, path, flags, mode); }
OPENAT(openat)
OPENAT(openat64)

/* a write that is cut short leaves half of its bytes */
#define WRITES(call, half) \
    if (active() && of_file(fd)) \
        switch (due()) { case KILL: half; die(); case FULL: errno = ENOSPC; return -1; } \
    return call
ssize_t write(int fd, const void *bytes, size_t size) {
    REAL(ssize_t, write, int, const void *, size_t);
    WRITES(real(fd, bytes, size), (void)!real(fd, bytes, size / 2));
}
ssize_t pwrite(int fd, const void *bytes, size_t size, off_t where) {
    REAL(ssize_t, pwrite, int, const void *, size_t, off_t);
    WRITES(real(fd, bytes, size, where), (void)!real(fd, bytes, size / 2, where));
}
ssize_t pwrite64(int fd, const void *bytes, size_t size, off64_t where) {
    REAL(ssize_t, pwrite64, int, const void *, size_t, off64_t);
    WRITES(real(fd, bytes, size, where), (void)!real(fd, bytes, size / 2, where));
}
ssize_t writev(int fd, const struct iovec *parts, int count) {
    REAL(ssize_t, writev, int, const struct iovec *, int);
    WRITES(real(fd, parts, count), (void)!real(fd, parts, count / 2));
}
ssize_t sendfile(int fd, int from, off_t *where, size_t size) {
    REAL(ssize_t, sendfile, int, int, off_t *, size_t);
    WRITES(real(fd, from, where, size), (void)!real(fd, from, where, size / 2));
}
ssize_t sendfile64(int fd, int from, off64_t *where, size_t size) {
    REAL(ssize_t, sendfile64, int, int, off64_t *, size_t);
    WRITES(real(fd, from, where, size), (void)!real(fd, from, where, size / 2));
}
ssize_t copy_file_range(int from, off64_t *start, int fd, off64_t *end, size_t size, unsigned flags) {
    REAL(ssize_t, copy_file_range, int, off64_t *, int, off64_t *, size_t, unsigned);
    WRITES(real(from, start, fd, end, size, flags), (void)!real(from, start, fd, end, size / 2, flags));
}

#define ONE(name, kind) \
    int name(const char *path) { REAL(int, name, const char *); kind(below(path)); return real(path); }
ONE(unlink, MOVES)
ONE(rmdir, MOVES)
int unlinkat(int folder, const char *path, int flags) {
    REAL(int, unlinkat, int, const char *, int);
    MOVES(below(path) || of_file(folder));
    return real(folder, path, flags);
}
int mkdir(const char *path, mode_t mode) {
    REAL(int, mkdir, const char *, mode_t);
    TAKES(below(path));
    return real(path, mode);
}
#define TWO(name, kind) \
    int name(const char *from, const char *to) { \
        REAL(int, name, const char *, const char *); kind(below(to)); return real(from, to); }
TWO(rename, MOVES)
TWO(link, TAKES)
TWO(symlink, TAKES)
#define TWO_AT(name, ...) \
    int name(int there, const char *from, int here, const char *to, ##__VA_ARGS__)
TWO_AT(renameat) {
    REAL(int, renameat, int, const char *, int, const char *);
    MOVES(below(to));
    return real(there, from, here, to);
}
TWO_AT(renameat2, unsigned flags) {
    REAL(int, renameat2, int, const char *, int, const char *, unsigned);
    MOVES(below(to));
    return real(there, from, here, to, flags);
}
TWO_AT(linkat, int flags) {
    REAL(int, linkat, int, const char *, int, const char *, int);
    TAKES(below(to));
    return real(there, from, here, to, flags);
}
#define SYNC(name) \
    int name(int fd) { REAL(int, name, int); MOVES(of_file(fd)); return real(fd); }
SYNC(fsync)
SYNC(fdatasync)
#define CUT(name, type) \
    int name(int fd, type size) { \
        REAL(int, name, int, type); MOVES(of_file(fd)); return real(fd, size); }
CUT(ftruncate, off_t)
CUT(ftruncate64, off64_t)
