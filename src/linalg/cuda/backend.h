#pragma once

#include <memory>

#include "linalg/backend.h"
#include "linalg/cuda/module_api.h"

namespace svdllm::cuda {

absl::StatusOr<std::unique_ptr<Backend>> MakeBackend(int ordinal, const CudaOptions& options);

}  // namespace svdllm::cuda
