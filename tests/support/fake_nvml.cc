// A stand-in for NVIDIA's management library, with two devices. NVML_FAILS in the environment: it
// finds no driver.
#include <cstdlib>
#include <cstring>

namespace {

constexpr int kSuccess = 0, kNotSupported = 3, kNotFound = 6, kDriverNotLoaded = 9;

struct Memory {
  unsigned long long total, free, used;
};
struct Utilization {
  unsigned int gpu, memory;
};
struct Device {
  const char* pci_bus_id;
  Memory memory;
  int utilization;  // percent; -1: not told
};

constexpr unsigned long long kGiB = 1ULL << 30;
Device devices[] = {{"0000:3b:00.0", {80 * kGiB, 50 * kGiB, 30 * kGiB}, 42},
                    {"0000:5e:00.0", {40 * kGiB, 39 * kGiB, 1 * kGiB}, -1}};
int sessions = 0;

}  // namespace

extern "C" {

int nvmlInit_v2() {
  if (std::getenv("NVML_FAILS") != nullptr) return kDriverNotLoaded;
  ++sessions;
  return kSuccess;
}

int nvmlShutdown() {
  --sessions;
  return kSuccess;
}

int fakeNvmlSessions() { return sessions; }

int nvmlDeviceGetHandleByPciBusId_v2(const char* pci_bus_id, Device** device) {
  for (Device& candidate : devices) {
    if (std::strcmp(candidate.pci_bus_id, pci_bus_id) != 0) continue;
    *device = &candidate;
    return kSuccess;
  }
  return kNotFound;
}

int nvmlDeviceGetMemoryInfo(const Device* device, Memory* memory) {
  *memory = device->memory;
  return kSuccess;
}

int nvmlDeviceGetUtilizationRates(const Device* device, Utilization* utilization) {
  if (device->utilization < 0) return kNotSupported;
  *utilization = {static_cast<unsigned int>(device->utilization), 7};
  return kSuccess;
}

const char* nvmlErrorString(int result) {
  return result == kDriverNotLoaded ? "Driver Not Loaded" : "Not Found";
}
}
