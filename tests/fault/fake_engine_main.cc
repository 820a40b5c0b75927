// Puts the pretended pipeline into the real server's main.
#include "fake_engine.h"

namespace svdllm {

// With as many devices as are named, whatever they are called.
absl::StatusOr<Engine> PipelineEngine(const DeviceSettings& settings) {
  Engine engine = FakeEngine();
  engine.devices.clear();
  for (const std::string& name : settings.names) {
    engine.devices.push_back({name, "pretended", 1 << 30, 1 << 30});
  }
  return engine;
}

}  // namespace svdllm
