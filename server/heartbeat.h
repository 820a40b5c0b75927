// A worker's signs of life for its supervisor, in a page of memory that both have. They need
// neither the job store, which a frozen worker may have locked, nor a clock that somebody sets.
#pragma once

#include <atomic>
#include <cstdint>

#include "base/status.h"

namespace svdllm {

// Thread-safe.
class Heartbeat {
 public:
  // Makes a page, for a supervisor.
  static absl::StatusOr<Heartbeat> Create();
  // Maps the page of an inherited descriptor, for a worker.
  static absl::StatusOr<Heartbeat> Attach(int fd);
  Heartbeat(Heartbeat&& other) noexcept;
  Heartbeat& operator=(Heartbeat&&) = delete;
  ~Heartbeat();

  int fd() const { return fd_; }
  // The worker lives.
  void Beat();
  // The worker begins or ends a change of the job store, which keeps others from theirs.
  void SetWriting(bool writing);

  // Whether there was a Beat yet.
  bool HasBeaten() const;
  // Since the latest Beat, or since Create.
  int64_t SilentMs() const;
  // Since the change that is under way began; 0: none is.
  int64_t WritingMs() const;

 private:
  struct Page {
    std::atomic<int64_t> beats;
    std::atomic<int64_t> beat_ms;
    std::atomic<int64_t> writing_since_ms;  // 0: nothing is written
  };
  Heartbeat(int fd, Page* page) : fd_(fd), page_(page) {}
  static absl::StatusOr<Heartbeat> Map(int fd);

  int fd_;
  Page* page_;
};

}  // namespace svdllm
