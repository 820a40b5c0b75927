// A backend that computes nothing and allocates nothing. It counts the memory that a real one would
// take, so that a plan is the job itself, run on it.
#pragma once

#include <memory>

#include "linalg/backend.h"

namespace svdllm {

struct CountingOptions {
  // Counts like the CUDA backend, with what its operations take for the time of a call
  // (device_scratch.h). Otherwise it counts like the CPU's.
  bool on_device = true;
  // Off a device, counts what LAPACK takes for eigenproblems too, which the CPU backend does not
  // count as its own.
  bool host_scratch = false;
  // Counts all weights as F32, whatever they are stored as.
  bool exact = false;
  // Whether BF16 weights are held as BF16. Otherwise they are held as F32.
  bool bf16 = true;
};

// The elements of its matrices must not be read or written. Download leaves the host's memory as it
// is, sums are 0, and everything is finite.
std::unique_ptr<Backend> NewCountingBackend(const CountingOptions& options);

}  // namespace svdllm
