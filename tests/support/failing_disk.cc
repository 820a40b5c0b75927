// Preloaded into a program (LD_PRELOAD), a disk that fails: writes to files whose path has
// FAILING_DISK in it end with the error number FAILING_DISK_ERRNO while the file
// FAILING_DISK_WHEN is there.
#include <dlfcn.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

namespace {

bool Fails(int file) {
  const char* const part = getenv("FAILING_DISK");
  const char* const error = getenv("FAILING_DISK_ERRNO");
  const char* const when = getenv("FAILING_DISK_WHEN");
  if (part == nullptr || error == nullptr || when == nullptr) return false;
  char link[64], path[4096];
  snprintf(link, sizeof(link), "/proc/self/fd/%d", file);
  const ssize_t size = readlink(link, path, sizeof(path) - 1);
  if (size < 0) return false;
  path[size] = '\0';
  if (strstr(path, part) == nullptr || access(when, F_OK) != 0) return false;
  errno = atoi(error);
  return true;
}

template <typename Function>
Function Real(const char* name) {
  return reinterpret_cast<Function>(dlsym(RTLD_NEXT, name));
}

}  // namespace

extern "C" {

ssize_t write(int file, const void* data, size_t size) {
  static const auto real = Real<ssize_t (*)(int, const void*, size_t)>("write");
  return Fails(file) ? -1 : real(file, data, size);
}

ssize_t pwrite(int file, const void* data, size_t size, off_t offset) {
  static const auto real = Real<ssize_t (*)(int, const void*, size_t, off_t)>("pwrite");
  return Fails(file) ? -1 : real(file, data, size, offset);
}

ssize_t pwrite64(int file, const void* data, size_t size, off64_t offset) {
  static const auto real = Real<ssize_t (*)(int, const void*, size_t, off64_t)>("pwrite64");
  return Fails(file) ? -1 : real(file, data, size, offset);
}

int fsync(int file) {
  static const auto real = Real<int (*)(int)>("fsync");
  return Fails(file) ? -1 : real(file);
}

int fdatasync(int file) {
  static const auto real = Real<int (*)(int)>("fdatasync");
  return Fails(file) ? -1 : real(file);
}

}  // extern "C"
