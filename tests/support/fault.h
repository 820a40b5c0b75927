// One call of many that fails, for the twins of the seams.
#pragma once

#include <atomic>
#include <cstdint>
#include <utility>

#include "base/status.h"

namespace svdllm::testing {

// Thread-safe.
class Fault {
 public:
  // The nth call fails with error, from 1. 0: none does.
  explicit Fault(int64_t nth = 0, absl::Status error = absl::OkStatus())
      : nth_(nth), error_(std::move(error)) {}

  absl::Status Next() { return ++calls_ == nth_ ? error_ : absl::OkStatus(); }
  bool has_struck() const { return nth_ > 0 && calls_ >= nth_; }
  int64_t calls() const { return calls_; }

 private:
  const int64_t nth_;
  const absl::Status error_;
  std::atomic<int64_t> calls_{0};
};

}  // namespace svdllm::testing
