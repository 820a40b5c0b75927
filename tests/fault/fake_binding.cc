// Puts the pretended pipeline into the real server's main.
#include "fake_operations.h"

namespace svdllm {

absl::StatusOr<Operations> PipelineOperations(const std::string&) { return FakeOperations(); }

}  // namespace svdllm
