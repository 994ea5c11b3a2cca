/* A disk that fails on purpose, for one process: build with `cc -shared -fPIC -O1 -o shim.so shim.c -ldl -lpthread` and load
 * with LD_PRELOAD.
 *
 * It counts the calls that change what survives (fsync, fdatasync, rename*, unlink*, rmdir, mkdir*, link*, ftruncate, and
 * on request write*, pwrite*) below one folder, over all threads of the process, and does as it is told at the n-th. The
 * calls are made one after the other, so that "the n-th" is one moment for the whole process. (`strace -e inject=..:when=N`
 * counts for each thread, and a killed process loses nothing: what it wrote is in the page cache.)
 *
 *   SHIM_ROOT    the folder, an absolute path without links; without it the shim does nothing
 *   SHIM_TRACE   a file that gets a line `N CALL PATH` for each counted call, PATH below the root
 *   SHIM_WRITES  if set, writes are counted too
 *   SHIM_AT      n; without it calls are only counted
 *   SHIM_MODE    kill-before, kill-after   the process is killed just before or after the n-th call
 *                power                     the same as kill-before; see SHIM_SHADOW
 *                eio, enospc               the n-th call is not made and fails
 *   SHIM_WHILE   for eio and enospc: from the n-th on all calls fail (writes too, counted or not) while this file exists
 *   SHIM_SHADOW  an empty folder on the same file system, outside the root. It gets what would be found after a loss of
 *                power, by inode:
 *
 *     files/INO  what the file held when it was last synced; no such file: it never was, and would be empty
 *     dirs/INO   `TYPE INO NAME` (TYPE d or f) for each name in the folder when it was last synced; no such file: nothing
 *     grave/INO  keeps removed files and folders, so that no inode number is used twice
 *
 * This is the strictest disk that POSIX allows: a name is safe once its folder was synced, bytes once their file was. File
 * systems in use give more; code that is right here is right there. crashpoints.py puts a disk together from it. What
 * other processes write (a job's child, which is not under the shim) counts as never synced. Shared memory (`-shm` of
 * SQLite) is never synced either, so it comes back empty, as it may. Calls made without libc are not seen: crashpoints.py
 * compares the trace with that of strace.
 */
#define _GNU_SOURCE
#include <dirent.h>
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <ftw.h>
#include <limits.h>
#include <pthread.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <unistd.h>

enum mode { NONE, KILL_BEFORE, KILL_AFTER, POWER, FAIL };

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static const char *root, *shadow, *failing_while;
static int trace = -1, count_writes, failure;
static enum mode mode;
static unsigned long calls, at;
static pid_t owner;

/* The real function of this name. */
#define REAL(name) ((__typeof__(&name))real(#name))
static void *real(const char *name)
{
    void *found = dlsym(RTLD_NEXT, name);
    if (!found) abort();
    return found;
}

/* ---- which calls count ---- */

static int below_root(const char *path)
{
    size_t length = strlen(root);
    return strncmp(path, root, length) == 0 && (path[length] == '/' || path[length] == 0);
}

/* The path of an open file; empty if it has none. */
static void path_of(int fd, char *path)
{
    char link[64];
    snprintf(link, sizeof link, "/proc/self/fd/%d", fd);
    ssize_t length = readlink(link, path, PATH_MAX - 1);
    path[length < 0 ? 0 : length] = 0;
}

/* The absolute path of `name` in the folder `at`. Links are not followed: there are none below the root. */
static void path_at(int at, const char *name, char *path)
{
    path[0] = 0;
    if (name[0] != '/') {
        if (at == AT_FDCWD) {
            if (!getcwd(path, PATH_MAX)) path[0] = 0;
        } else {
            path_of(at, path);
        }
        strncat(path, "/", PATH_MAX - strlen(path) - 1);
    }
    strncat(path, name, PATH_MAX - strlen(path) - 1);
}

/* ---- what would survive ---- */

static void shadow_path(char *path, const char *kind, ino_t ino)
{
    snprintf(path, PATH_MAX, "%s/%s/%lu", shadow, kind, (unsigned long)ino);
}

static void copy(int from, const char *to)
{
    char piece[1 << 16];
    int out = open(to, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
    if (out < 0) abort();
    off_t offset = 0;
    for (ssize_t got; (got = pread(from, piece, sizeof piece, offset)) > 0; offset += got)
        if (syscall(SYS_write, out, piece, got) != got) abort();
    close(out);
}

static void list(const char *folder, const char *to)
{
    DIR *names = opendir(folder);
    FILE *out = fopen(to, "we");
    if (!names || !out) abort();
    for (struct dirent *name; (name = readdir(names));)
        if (strcmp(name->d_name, ".") && strcmp(name->d_name, ".."))
            fprintf(out, "%c %lu %s\n", name->d_type == DT_DIR ? 'd' : 'f', (unsigned long)name->d_ino, name->d_name);
    fclose(out);
    closedir(names);
}

/* This file or folder is safe as it now is. */
static void keep(int fd, const char *path)
{
    char to[PATH_MAX];
    struct stat info;
    if (!shadow || fstat(fd, &info)) return;
    if (S_ISDIR(info.st_mode)) {
        shadow_path(to, "dirs", info.st_ino);
        list(path, to);
        return;
    }
    shadow_path(to, "files", info.st_ino);
    if ((fcntl(fd, F_GETFL) & O_ACCMODE) != O_WRONLY) {
        /* Read through the same descriptor: closing another one of SQLite's files would end its locks. */
        copy(fd, to);
        return;
    }
    char link[64];
    snprintf(link, sizeof link, "/proc/self/fd/%d", fd);
    int again = open(link, O_RDONLY | O_CLOEXEC);
    if (again < 0) abort();
    copy(again, to);
    close(again);
}

/* What was there before the process began is safe. */
static int keep_found(const char *path, const struct stat *info, int type, struct FTW *place)
{
    (void)info, (void)type, (void)place;
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    if (fd >= 0) {
        keep(fd, path);
        close(fd);
    }
    return 0;
}

/* Keeps the inode of a file whose name goes. */
static void bury(const char *path)
{
    char to[PATH_MAX];
    struct stat info;
    if (!shadow || lstat(path, &info) || S_ISDIR(info.st_mode)) return;
    shadow_path(to, "grave", info.st_ino);
    REAL(link)(path, to);
}

/* Removes a folder; where inodes are kept, by moving it away. */
static int remove_folder(int at, const char *name, const char *path)
{
    struct stat info;
    if (!shadow || lstat(path, &info)) return REAL(unlinkat)(at, name, AT_REMOVEDIR);
    DIR *names = opendir(path);
    if (!names) return -1;
    int found = 0;
    while (readdir(names)) found++;
    closedir(names);
    if (found > 2) {
        errno = ENOTEMPTY;
        return -1;
    }
    char to[PATH_MAX];
    shadow_path(to, "grave", info.st_ino);
    return REAL(rename)(path, to);
}

/* ---- the n-th call ---- */

static void die(void)
{
    kill(getpid(), SIGKILL);
    for (;;) pause();
}

/* Counts a call; then the lock is held, unless it returns -1: the call has failed. */
static int enter(const char *call, const char *path)
{
    int saved = errno;
    pthread_mutex_lock(&lock);
    calls++;
    if (trace >= 0) {
        char line[PATH_MAX + 64];
        int length = snprintf(line, sizeof line, "%lu %s %s\n", calls, call, path + strlen(root));
        syscall(SYS_write, trace, line, length);
    }
    if (at && calls == at && (mode == KILL_BEFORE || mode == POWER)) die();
    int still = failing_while ? at && calls >= at && access(failing_while, F_OK) == 0 : calls == at;
    if (mode == FAIL && still) {
        pthread_mutex_unlock(&lock);
        errno = failure;
        return -1;
    }
    errno = saved;
    return 0;
}

/* Ends a counted call. */
static void leave(void)
{
    int saved = errno;
    if (at && calls == at && mode == KILL_AFTER) die();
    pthread_mutex_unlock(&lock);
    errno = saved;
}

/* Makes a counted call if the path is below the root, and the plain call otherwise. `after` is done if it succeeds. */
#define COUNTED(name, path, plain, before, after)                                                                              \
    if (!root || owner != getpid() || !below_root(path)) return plain;                                                         \
    if (enter(name, path)) return -1;                                                                                          \
    before;                                                                                                                    \
    int result = plain;                                                                                                        \
    if (result == 0) after;                                                                                                    \
    leave();                                                                                                                   \
    return result

#define PATH_AT(variable, at, name) char variable[PATH_MAX]; if (root) path_at(at, name, variable)
#define PATH_OF(variable, fd) char variable[PATH_MAX]; if (root) path_of(fd, variable)
#define NOTHING (void)0

int fsync(int fd) { PATH_OF(path, fd); COUNTED("fsync", path, REAL(fsync)(fd), NOTHING, keep(fd, path)); }
int fdatasync(int fd) { PATH_OF(path, fd); COUNTED("fdatasync", path, REAL(fdatasync)(fd), NOTHING, keep(fd, path)); }
int ftruncate(int fd, off_t size) { PATH_OF(path, fd); COUNTED("ftruncate", path, REAL(ftruncate)(fd, size), NOTHING, NOTHING); }
int ftruncate64(int fd, off64_t size) { return ftruncate(fd, size); }

int renameat2(int from, const char *old, int to, const char *new, unsigned flags)
{
    PATH_AT(path, to, new);
    COUNTED("rename", path, REAL(renameat2)(from, old, to, new, flags), bury(path), NOTHING);
}
int renameat(int from, const char *old, int to, const char *new) { return renameat2(from, old, to, new, 0); }
int rename(const char *old, const char *new) { return renameat2(AT_FDCWD, old, AT_FDCWD, new, 0); }

int linkat(int from, const char *old, int to, const char *new, int flags)
{
    PATH_AT(path, to, new);
    COUNTED("link", path, REAL(linkat)(from, old, to, new, flags), NOTHING, NOTHING);
}
int link(const char *old, const char *new) { return linkat(AT_FDCWD, old, AT_FDCWD, new, 0); }

int unlinkat(int at, const char *name, int flags)
{
    PATH_AT(path, at, name);
    if (flags & AT_REMOVEDIR) {
        COUNTED("rmdir", path, (root && below_root(path) ? remove_folder(at, name, path) : REAL(unlinkat)(at, name, flags)), NOTHING, NOTHING);
    }
    COUNTED("unlink", path, REAL(unlinkat)(at, name, flags), bury(path), NOTHING);
}
int unlink(const char *name) { return unlinkat(AT_FDCWD, name, 0); }
int rmdir(const char *name) { return unlinkat(AT_FDCWD, name, AT_REMOVEDIR); }

int mkdirat(int at, const char *name, mode_t bits)
{
    PATH_AT(path, at, name);
    COUNTED("mkdir", path, REAL(mkdirat)(at, name, bits), NOTHING, NOTHING);
}
int mkdir(const char *name, mode_t bits) { return mkdirat(AT_FDCWD, name, bits); }

/* A write is counted on request; where it is not, a disk that is full is full for it all the same. */
static int write_fails(const char *call, int fd)
{
    int saved = errno;
    char path[PATH_MAX];
    if (!root || owner != getpid() || (!count_writes && !failing_while)) return 0;
    path_of(fd, path);
    if (!below_root(path)) {
        errno = saved;
        return 0;
    }
    if (count_writes) return enter(call, path) ? 1 : 2;
    pthread_mutex_lock(&lock);
    int fails = mode == FAIL && at && calls >= at && access(failing_while, F_OK) == 0;
    pthread_mutex_unlock(&lock);
    errno = fails ? failure : saved;
    return fails;
}

#define WRITE(name, fd, plain)                                                                                                 \
    int fails = write_fails(name, fd);                                                                                         \
    if (fails == 1) return -1;                                                                                                 \
    ssize_t result = plain;                                                                                                    \
    if (fails == 2) leave();                                                                                                   \
    return result

ssize_t write(int fd, const void *data, size_t size) { WRITE("write", fd, syscall(SYS_write, fd, data, size)); }
ssize_t writev(int fd, const struct iovec *parts, int count) { WRITE("writev", fd, syscall(SYS_writev, fd, parts, count)); }
ssize_t pwrite64(int fd, const void *data, size_t size, off64_t offset)
{
    WRITE("pwrite", fd, syscall(SYS_pwrite64, fd, data, size, offset));
}
ssize_t pwrite(int fd, const void *data, size_t size, off_t offset) { return pwrite64(fd, data, size, offset); }

__attribute__((constructor)) static void begin(void)
{
    const char *name = getenv("SHIM_MODE"), *n = getenv("SHIM_AT"), *file = getenv("SHIM_TRACE");
    const char *below = getenv("SHIM_ROOT");
    if (!below) return;
    owner = getpid();
    shadow = getenv("SHIM_SHADOW");
    failing_while = getenv("SHIM_WHILE");
    count_writes = getenv("SHIM_WRITES") != NULL;
    at = n ? strtoul(n, NULL, 10) : 0;
    if (!name) mode = NONE;
    else if (!strcmp(name, "kill-before")) mode = KILL_BEFORE;
    else if (!strcmp(name, "kill-after")) mode = KILL_AFTER;
    else if (!strcmp(name, "power")) mode = POWER;
    else if (!strcmp(name, "eio")) mode = FAIL, failure = EIO;
    else if (!strcmp(name, "enospc")) mode = FAIL, failure = ENOSPC;
    else abort();
    if (file) trace = open(file, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0600);
    if (shadow) {
        char folder[PATH_MAX];
        for (const char *const *kind = (const char *const[]){"files", "dirs", "grave", NULL}; *kind; kind++) {
            snprintf(folder, sizeof folder, "%s/%s", shadow, *kind);
            mkdir(folder, 0700);
        }
        nftw(below, keep_found, 16, FTW_PHYS);
    }
    root = below;
}
