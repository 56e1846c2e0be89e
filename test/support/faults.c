// Preloaded into a process: makes operations that write below FAULT_ROOT fail from the n-th one on. Controlled by
// opening magic paths: /__fault__/<mode>/<n> arms it, /__fault__/off disarms it, /__fault__/fired fails with
// EEXIST if it has struck since it was armed, else with ENOENT. Modes:
//   full     writes and new files fail with ENOSPC from then on; the n-th write is done by half first
//   readonly everything that changes a file fails with EROFS from then on
//   once     one operation fails with EIO
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/uio.h>
#include <unistd.h>

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static char mode = 0;  // 'f', 'r', 'o' or 0
static long left = 0;
static int fired = 0;

static int inside(const char* path) {
  const char* root = getenv("FAULT_ROOT");
  return root != NULL && path != NULL && strncmp(path, root, strlen(root)) == 0;
}

static int insideFd(int fd) {
  char link[64], path[4096];
  snprintf(link, sizeof link, "/proc/self/fd/%d", fd);
  ssize_t n = readlink(link, path, sizeof path - 1);
  if (n < 0) return 0;
  path[n] = 0;
  return inside(path);
}

// The error with which an operation fails, or 0. needs_space: a full disk refuses it. *strikes: it is the n-th.
static int strike(int needs_space, int* strikes) {
  int error = 0;
  pthread_mutex_lock(&lock);
  *strikes = 0;
  if (mode != 0 && (needs_space || mode != 'f')) {
    if (left > 0) --left;
    if (left == 0) {
      *strikes = !fired;
      if (mode == 'f') error = ENOSPC;
      if (mode == 'r') error = EROFS;
      if (mode == 'o' && !fired) error = EIO;
      fired = 1;
    }
  }
  pthread_mutex_unlock(&lock);
  return error;
}

static int refuse(int needs_space) {
  int strikes;
  int error = strike(needs_space, &strikes);
  if (error != 0) errno = error;
  return error != 0;
}

// Whether the path is magic; then errno says the answer.
static int control(const char* path) {
  if (path == NULL || strncmp(path, "/__fault__/", 11) != 0) return 0;
  const char* command = path + 11;
  pthread_mutex_lock(&lock);
  if (strcmp(command, "fired") == 0) {
    errno = fired ? EEXIST : ENOENT;
  } else {
    const char* number = strchr(command, '/');
    mode = number == NULL ? 0 : command[0] == 'r' ? 'r' : command[0] == 'o' ? 'o' : 'f';
    left = number == NULL ? 0 : atol(number + 1);
    if (number != NULL) fired = 0;
    errno = ENOENT;
  }
  pthread_mutex_unlock(&lock);
  return 1;
}

#define REAL(name) \
  static __typeof__(&name) real; \
  if (real == NULL) real = (__typeof__(&name))dlsym(RTLD_NEXT, #name)

static int opens(const char* path, int flags) {
  if (control(path)) return -1;
  if ((flags & O_ACCMODE) == O_RDONLY || !inside(path)) return 0;
  return refuse((flags & O_CREAT) != 0) ? -1 : 0;
}

#define OPEN(name)                                         \
  int name(const char* path, int flags, ...) {             \
    va_list arguments;                                     \
    va_start(arguments, flags);                            \
    mode_t permissions = va_arg(arguments, mode_t);        \
    va_end(arguments);                                     \
    if (opens(path, flags) != 0) return -1;                \
    REAL(name);                                            \
    return real(path, flags, permissions);                 \
  }
OPEN(open)
OPEN(open64)

#define WRITE(name, ...)                                                  \
  if (insideFd(fd)) {                                                     \
    int strikes;                                                          \
    int error = strike(1, &strikes);                                      \
    if (error == ENOSPC && strikes && size > 1) return real(__VA_ARGS__); \
    if (error != 0) {                                                     \
      errno = error;                                                      \
      return -1;                                                          \
    }                                                                     \
  }
ssize_t write(int fd, const void* data, size_t size) {
  REAL(write);
  WRITE(write, fd, data, size / 2)
  return real(fd, data, size);
}
ssize_t pwrite(int fd, const void* data, size_t size, off_t at) {
  REAL(pwrite);
  WRITE(pwrite, fd, data, size / 2, at)
  return real(fd, data, size, at);
}
ssize_t pwrite64(int fd, const void* data, size_t size, off64_t at) {
  REAL(pwrite64);
  WRITE(pwrite64, fd, data, size / 2, at)
  return real(fd, data, size, at);
}
ssize_t writev(int fd, const struct iovec* parts, int count) {
  REAL(writev);
  if (insideFd(fd) && refuse(1)) return -1;
  return real(fd, parts, count);
}

#define ON_FD(name, needs_space)             \
  int name(int fd) {                         \
    REAL(name);                              \
    if (insideFd(fd) && refuse(needs_space)) return -1; \
    return real(fd);                         \
  }
ON_FD(fsync, 1)
ON_FD(fdatasync, 1)

int ftruncate(int fd, off_t length) {
  REAL(ftruncate);
  if (insideFd(fd) && refuse(0)) return -1;
  return real(fd, length);
}
int ftruncate64(int fd, off64_t length) {
  REAL(ftruncate64);
  if (insideFd(fd) && refuse(0)) return -1;
  return real(fd, length);
}
int rename(const char* from, const char* to) {
  REAL(rename);
  if (inside(to) && refuse(0)) return -1;
  return real(from, to);
}
int mkdir(const char* path, mode_t permissions) {
  REAL(mkdir);
  if (inside(path) && refuse(1)) return -1;
  return real(path, permissions);
}
int unlink(const char* path) {
  REAL(unlink);
  if (inside(path) && refuse(0)) return -1;
  return real(path);
}
int rmdir(const char* path) {
  REAL(rmdir);
  if (inside(path) && refuse(0)) return -1;
  return real(path);
}
