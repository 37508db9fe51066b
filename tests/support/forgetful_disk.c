/* A disk that forgets what was not synced: preloaded into Redis, it keeps what is written to an append-only file in
 * memory and hands it on when the file is synced. SIGKILL then loses exactly what a power cut may lose; without this it
 * loses nothing, since the kernel has taken the writes.
 *
 * With FORGETFUL_FSYNC_MS it forgets nothing, but takes that long for each sync: SIGKILL then loses only what Redis itself
 * had not written, since it writes nothing while a sync is under way.
 *
 * Only files whose name ends in ".aof" and that are opened for appending are treated so, 64 descriptors at most.
 */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <sys/uio.h>
#include <time.h>
#include <unistd.h>

#define FILES 64

static struct pending {
    int is_kept;
    char *bytes;
    size_t size, room;
} files[FILES];
static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;

#define REAL(name) ((__typeof__(&name))dlsym(RTLD_NEXT, #name))

static int watch(int fd, const char *path, int flags) {
    size_t length = strlen(path);
    if (fd >= 0 && fd < FILES) {
        pthread_mutex_lock(&lock);
        files[fd].is_kept = (flags & O_APPEND) && length > 4 && strcmp(path + length - 4, ".aof") == 0;
        files[fd].size = 0;
        pthread_mutex_unlock(&lock);
    }
    return fd;
}

int open(const char *path, int flags, ...) {
    va_list more;
    va_start(more, flags);
    int mode = (flags & O_CREAT) ? va_arg(more, int) : 0;
    va_end(more);
    return watch(REAL(open)(path, flags, mode), path, flags);
}

int open64(const char *path, int flags, ...) {
    va_list more;
    va_start(more, flags);
    int mode = (flags & O_CREAT) ? va_arg(more, int) : 0;
    va_end(more);
    return watch(REAL(open64)(path, flags, mode), path, flags);
}

ssize_t write(int fd, const void *bytes, size_t size) {
    if (fd < 0 || fd >= FILES || !files[fd].is_kept || getenv("FORGETFUL_FSYNC_MS")) return REAL(write)(fd, bytes, size);
    pthread_mutex_lock(&lock);
    struct pending *file = &files[fd];
    if (file->size + size > file->room) {
        file->room = 2 * (file->size + size);
        file->bytes = realloc(file->bytes, file->room);
        if (!file->bytes) abort();
    }
    memcpy(file->bytes + file->size, bytes, size);
    file->size += size;
    pthread_mutex_unlock(&lock);
    return (ssize_t)size;
}

static void take_time(void) {
    const char *asked = getenv("FORGETFUL_FSYNC_MS");
    if (!asked) return;
    long ms = atol(asked);
    struct timespec pause = {ms / 1000, ms % 1000 * 1000000};
    nanosleep(&pause, NULL);
}

static void hand_on(int fd) {
    if (fd < 0 || fd >= FILES || !files[fd].is_kept) return;
    pthread_mutex_lock(&lock);
    struct pending *file = &files[fd];
    size_t done = 0;
    while (done < file->size) {
        ssize_t taken = REAL(write)(fd, file->bytes + done, file->size - done);
        if (taken < 0) abort();
        done += (size_t)taken;
    }
    file->size = 0;
    pthread_mutex_unlock(&lock);
    take_time();
}

int fsync(int fd) {
    hand_on(fd);
    return REAL(fsync)(fd);
}

int fdatasync(int fd) {
    hand_on(fd);
    return REAL(fdatasync)(fd);
}
