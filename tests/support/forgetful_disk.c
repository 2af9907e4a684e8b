/* A disk that forgets at a power failure what was not synced; loaded before the C library.
 *
 * `fail_after(n)` arms it. After n further operations on files each file that was opened for writing since is cut to
 * its size at its last fsync (0 if it was created or emptied), and the process ends with code 137. Names are kept: a
 * journal writes them at once and in order, contents whenever it likes. */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <fcntl.h>
#include <stdarg.h>
#include <sys/stat.h>
#include <sys/uio.h>
#include <unistd.h>

static struct { dev_t dev; ino_t ino; int fd; off_t synced; } files[1024];
static int n_files;
static long operations_left = -1;

#define REAL(name) ((__typeof__(&name)) dlsym(RTLD_NEXT, #name))

void fail_after(long n) { operations_left = n; }

static void done(void) {
    if (operations_left < 0) return;
    if (operations_left-- > 0) return;
    for (int i = 0; i < n_files; i++)
        if (ftruncate(files[i].fd, files[i].synced)) _exit(1);
    _exit(137);
}

static int place(int fd, struct stat *found) {
    if (operations_left < 0 || fstat(fd, found) || !S_ISREG(found->st_mode)) return -1;
    for (int i = 0; i < n_files; i++)
        if (files[i].dev == found->st_dev && files[i].ino == found->st_ino) return i;
    return n_files;
}

static void opened(int fd, int flags, int is_new) {
    struct stat found;
    if (fd < 0 || (flags & O_ACCMODE) == O_RDONLY) return;
    int i = place(fd, &found);
    if (i < 0) return;
    if (i == n_files && n_files < 1023) {
        files[i].dev = found.st_dev, files[i].ino = found.st_ino;
        files[i].fd = fcntl(fd, F_DUPFD_CLOEXEC, 100);
        files[i].synced = is_new ? 0 : found.st_size;
        n_files++;
    }
    if (flags & O_TRUNC) files[i].synced = 0;
    done();
}

#define OPEN(name, parameters, arguments, folder, path)                                   \
    int name parameters {                                                                 \
        int mode = 0, is_new;                                                             \
        if (flags & (O_CREAT | O_TMPFILE)) {                                              \
            va_list more;                                                                 \
            va_start(more, flags), mode = va_arg(more, int), va_end(more);                \
        }                                                                                 \
        is_new = operations_left >= 0 && faccessat(folder, path, F_OK, 0) != 0;           \
        int fd = REAL(name) arguments;                                                    \
        opened(fd, flags, is_new);                                                        \
        return fd;                                                                        \
    }
OPEN(open, (const char *path, int flags, ...), (path, flags, mode), AT_FDCWD, path)
OPEN(open64, (const char *path, int flags, ...), (path, flags, mode), AT_FDCWD, path)
OPEN(openat, (int at, const char *path, int flags, ...), (at, path, flags, mode), at, path)
OPEN(openat64, (int at, const char *path, int flags, ...), (at, path, flags, mode), at, path)

#define OPERATION(type, name, parameters, arguments)                                      \
    type name parameters {                                                                \
        type found = REAL(name) arguments;                                                \
        if (found >= 0) done();                                                           \
        return found;                                                                     \
    }
OPERATION(ssize_t, write, (int fd, const void *from, size_t n), (fd, from, n))
OPERATION(ssize_t, writev, (int fd, const struct iovec *from, int n), (fd, from, n))
OPERATION(int, rename, (const char *a, const char *b), (a, b))
OPERATION(int, renameat, (int d, const char *a, int e, const char *b), (d, a, e, b))
OPERATION(int, link, (const char *a, const char *b), (a, b))
OPERATION(int, linkat, (int d, const char *a, int e, const char *b, int flags), (d, a, e, b, flags))
OPERATION(int, unlink, (const char *a), (a))
OPERATION(int, unlinkat, (int d, const char *a, int flags), (d, a, flags))
OPERATION(int, mkdir, (const char *a, mode_t mode), (a, mode))

#define SYNC(name)                                                                        \
    int name(int fd) {                                                                    \
        struct stat found;                                                                \
        int i = place(fd, &found), code = REAL(name)(fd);                                 \
        if (!code && i >= 0 && i < n_files) files[i].synced = found.st_size;              \
        if (!code) done();                                                                \
        return code;                                                                      \
    }
SYNC(fsync)
SYNC(fdatasync)
