// Preloaded into a program, moves its wall clock by the seconds that a file holds, which may change
// while the program runs. LD_SHIFT_FILE names the file: eight bytes, a number of nanoseconds. Waits
// that end at a wall time are moved back, so that they take as long as they should.
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/futex.h>
#include <pthread.h>
#include <semaphore.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <sys/time.h>
#include <time.h>
#include <unistd.h>

static const int64_t kSecond = 1000000000;

static int64_t Shift(void) {
  static const volatile int64_t* shift = NULL;
  if (shift == NULL) {
    const char* path = getenv("LD_SHIFT_FILE");
    const int fd = path != NULL ? open(path, O_RDONLY | O_CLOEXEC) : -1;
    if (fd < 0) return 0;
    void* page = mmap(NULL, sizeof(int64_t), PROT_READ, MAP_SHARED, fd, 0);
    close(fd);
    if (page == MAP_FAILED) return 0;
    shift = page;
  }
  return *shift;
}

static struct timespec Moved(const struct timespec* time, int64_t by) {
  const int64_t ns = time->tv_sec * kSecond + time->tv_nsec + by;
  const struct timespec moved = {ns / kSecond, ns % kSecond};
  return moved;
}

static void* Next(const char* name) { return dlsym(RTLD_NEXT, name); }

int clock_gettime(clockid_t clock, struct timespec* time) {
  static int (*next)(clockid_t, struct timespec*);
  if (next == NULL) next = Next("clock_gettime");
  const int result = next(clock, time);
  if (result == 0 && (clock == CLOCK_REALTIME || clock == CLOCK_REALTIME_COARSE)) {
    *time = Moved(time, Shift());
  }
  return result;
}

int gettimeofday(struct timeval* restrict time, void* restrict zone) {
  (void)zone;
  struct timespec now;
  clock_gettime(CLOCK_REALTIME, &now);
  time->tv_sec = now.tv_sec;
  time->tv_usec = now.tv_nsec / 1000;
  return 0;
}

time_t time(time_t* out) {
  struct timespec now;
  clock_gettime(CLOCK_REALTIME, &now);
  if (out != NULL) *out = now.tv_sec;
  return now.tv_sec;
}

int pthread_cond_timedwait(pthread_cond_t* restrict condition, pthread_mutex_t* restrict mutex,
                           const struct timespec* restrict until) {
  static int (*next)(pthread_cond_t*, pthread_mutex_t*, const struct timespec*);
  if (next == NULL) next = dlvsym(RTLD_NEXT, "pthread_cond_timedwait", "GLIBC_2.3.2");
  if (condition->__data.__wrefs & 2) return next(condition, mutex, until);  // of the steady clock
  const struct timespec moved = Moved(until, -Shift());
  return next(condition, mutex, &moved);
}

int pthread_cond_clockwait(pthread_cond_t* condition, pthread_mutex_t* mutex, clockid_t clock,
                           const struct timespec* until) {
  static int (*next)(pthread_cond_t*, pthread_mutex_t*, clockid_t, const struct timespec*);
  if (next == NULL) next = Next("pthread_cond_clockwait");
  const struct timespec moved = Moved(until, clock == CLOCK_REALTIME ? -Shift() : 0);
  return next(condition, mutex, clock, &moved);
}

int sem_timedwait(sem_t* restrict semaphore, const struct timespec* restrict until) {
  static int (*next)(sem_t*, const struct timespec*);
  if (next == NULL) next = Next("sem_timedwait");
  const struct timespec moved = Moved(until, -Shift());
  return next(semaphore, &moved);
}

// Abseil waits by the system call itself.
long syscall(long number, ...) {
  static long (*next)(long, ...);
  if (next == NULL) next = Next("syscall");
  va_list list;
  va_start(list, number);
  long a[6];
  for (int i = 0; i < 6; ++i) a[i] = va_arg(list, long);
  va_end(list);
  struct timespec moved;
  const long wall_wait = FUTEX_WAIT_BITSET | FUTEX_CLOCK_REALTIME;
  if (number == SYS_futex && (a[1] & ~(long)FUTEX_PRIVATE_FLAG) == wall_wait && a[3] != 0) {
    moved = Moved((const struct timespec*)a[3], -Shift());
    a[3] = (long)&moved;
  }
  return next(number, a[0], a[1], a[2], a[3], a[4], a[5]);
}
