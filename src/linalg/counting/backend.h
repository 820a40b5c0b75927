// A backend that computes nothing and allocates nothing: it counts the memory that a real one would
// take, so that a plan is the job itself, run on it.
#pragma once

#include <memory>

#include "linalg/backend.h"

namespace svdllm {

struct CountingOptions {
  // The CUDA backend, with what its operations take for the time of a call (device_scratch.h).
  // Otherwise the CPU's.
  bool on_device = true;
  // Off a device: counts what LAPACK takes for eigenproblems too, which the CPU backend does not
  // call its own.
  bool host_scratch = false;
  // Weights are held as F32, whatever they are stored as.
  bool exact = false;
  // Otherwise BF16 ones are.
  bool bf16 = true;
};

// Matrices of it must not be looked into. Download leaves the host's memory as it is; sums are 0,
// everything is finite.
std::unique_ptr<Backend> NewCountingBackend(const CountingOptions& options);

}  // namespace svdllm
