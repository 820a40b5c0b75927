#include "server/heartbeat.h"

#include <sys/mman.h>
#include <unistd.h>

#include <cerrno>
#include <utility>

#include "base/files.h"
#include "queue/job.h"

namespace svdllm {

static_assert(std::atomic<int64_t>::is_always_lock_free, "or it would not do between processes");

absl::StatusOr<Heartbeat> Heartbeat::Map(int fd) {
  void* const page = mmap(nullptr, sizeof(Page), PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
  if (page == MAP_FAILED) return ErrnoToStatus(errno, "map", "the worker's heartbeat");
  return Heartbeat(fd, static_cast<Page*>(page));
}

absl::StatusOr<Heartbeat> Heartbeat::Create() {
  const int fd = memfd_create("heartbeat", MFD_CLOEXEC);
  if (fd < 0) return ErrnoToStatus(errno, "create", "a worker's heartbeat");
  if (ftruncate(fd, sizeof(Page)) != 0) {  // all zero
    const int error = errno;
    close(fd);
    return ErrnoToStatus(error, "create", "a worker's heartbeat");
  }
  auto created = Map(fd);
  if (!created.ok()) {
    close(fd);
    return created;
  }
  created->page_->beat_ms = BootMs();
  return created;
}

absl::StatusOr<Heartbeat> Heartbeat::Attach(int fd) { return Map(fd); }

Heartbeat::Heartbeat(Heartbeat&& other) noexcept
    : fd_(std::exchange(other.fd_, -1)), page_(std::exchange(other.page_, nullptr)) {}

Heartbeat::~Heartbeat() {
  if (page_ != nullptr) munmap(page_, sizeof(Page));
  if (fd_ >= 0) close(fd_);
}

void Heartbeat::Beat() {
  page_->beat_ms = BootMs();
  ++page_->beats;
}

void Heartbeat::SetWriting(bool writing) { page_->writing_since_ms = writing ? BootMs() : 0; }

bool Heartbeat::HasBeaten() const { return page_->beats > 0; }

int64_t Heartbeat::SilentMs() const { return BootMs() - page_->beat_ms; }

int64_t Heartbeat::WritingMs() const {
  const int64_t since = page_->writing_since_ms;
  return since == 0 ? 0 : BootMs() - since;
}

}  // namespace svdllm
