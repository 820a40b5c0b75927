// Puts the pretended pipeline into the real server's main.
#include "fake_engine.h"

namespace svdllm {

// With as many devices as are named, whatever they are called.
absl::StatusOr<Operations> PipelineOperations(const DeviceSettings& settings) {
  Operations operations = FakeOperations();
  operations.devices.clear();
  for (const std::string& name : settings.names) {
    operations.devices.push_back({name, "pretended", 1 << 30, 1 << 30});
  }
  return operations;
}

}  // namespace svdllm
