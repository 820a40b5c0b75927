// Binds the service to the pipeline and the devices that it runs on.
#include <algorithm>
#include <charconv>
#include <memory>
#include <string_view>

#include "base/machine.h"
#include "linalg/backend.h"
#include "linalg/cuda/loader.h"
#include "linalg/cuda/module_api.h"
#include "pipeline/pipeline.h"
#include "server/engine.h"

namespace svdllm {
namespace {

// Whether "auto" takes CUDA devices. Not before the backend has passed scripts/gpu_check on one: it
// has not run on a device yet, and has to be asked for by name.
constexpr bool kAutoTakesCuda = false;

constexpr int kCpu = -1;  // beside the numbers of CUDA devices

// Of a CUDA device's memory, what is not for jobs: the context, the solvers' handles and the
// kernels' code. A worker's backend takes what it finds free but for 768 MiB, so what a plan counts
// on is there.
constexpr int64_t kReservedBytes = int64_t{1280} << 20;

DeviceInfo DescribeCpu() {
  DeviceInfo device;
  device.name = "cpu";
  device.model = ProcessorName();
  device.description = device.model + ", " + std::to_string(UsableCores()) + " threads";
  device.memory_bytes = UsableMemoryBytes();
  return device;
}

DeviceInfo DescribeCuda(int number, const CudaDeviceInfo& info) {
  DeviceInfo device;
  device.name = "cuda:" + std::to_string(number);
  device.description =
      info.name + ", compute capability " + info.capability + ", driver " + info.driver;
  device.memory_bytes = info.memory_bytes;
  device.model = info.name;
  device.driver = info.driver;
  device.compute_capability = info.capability;
  device.pci_bus_id = info.pci_bus_id;
  return device;
}

// The number of a device by its name.
absl::StatusOr<int> ParseDevice(const std::string& name) {
  if (name == "cpu") return kCpu;
  constexpr std::string_view kPrefix = "cuda:";
  const std::string_view digits =
      name.starts_with(kPrefix) ? std::string_view(name).substr(kPrefix.size()) : "";
  int number = 0;
  const char* const end = digits.data() + digits.size();
  const auto parsed = std::from_chars(digits.data(), end, number);
  if (parsed.ec != std::errc() || parsed.ptr != end || number < 0) {
    return absl::InvalidArgumentError("none of cpu, cuda:N; auto stands alone");
  }
  return number;
}

bool IsSupported(const CudaDeviceInfo& info) {
  return 10 * info.major + info.minor >= kOldestCapability;
}

// The devices that "auto" stands for; note says why there is no CUDA device among them.
std::vector<int> ChooseAny(const absl::StatusOr<std::vector<CudaDeviceInfo>>& found,
                           std::string& note) {
  std::vector<int> supported;
  for (size_t i = 0; found.ok() && i < found->size(); ++i) {
    if (IsSupported((*found)[i])) supported.push_back(static_cast<int>(i));
  }
  if (kAutoTakesCuda && !supported.empty()) return supported;
  if (!found.ok()) {
    note = std::string(found.status().message());
  } else if (supported.empty()) {
    note = "all that there are have a compute capability below 7.5 (Turing)";
  } else {
    note = "it has to be asked for: --devices=cuda:" + std::to_string(supported.front());
  }
  return {kCpu};
}

// What the names stand for; numbers gets the devices' numbers in the same order.
absl::Status Choose(const std::vector<std::string>& names, Engine& engine,
                    std::vector<int>& numbers) {
  const bool any = names == std::vector<std::string>{"auto"};
  const auto invalid = [](const std::string& name, const std::string& why) {
    return absl::InvalidArgumentError("--devices=" + name + ": " + why);
  };
  if (names.empty()) return invalid("", "names no device");
  bool ask = any;
  for (const std::string& name : names) {
    if (any) break;
    const auto number = ParseDevice(name);
    if (!number.ok()) return invalid(name, std::string(number.status().message()));
    if (std::count(numbers.begin(), numbers.end(), *number) > 0) {
      return invalid(name, "is named twice");
    }
    numbers.push_back(*number);
    ask = ask || *number != kCpu;
  }
  // Not even asked for where only the CPU is wanted: it costs a library or two.
  absl::StatusOr<std::vector<CudaDeviceInfo>> found = std::vector<CudaDeviceInfo>();
  if (ask) found = CudaDevices();
  if (any) numbers = ChooseAny(found, engine.device_note);
  for (const int number : numbers) {
    if (number == kCpu) {
      engine.devices.push_back(DescribeCpu());
      continue;
    }
    const std::string name = "cuda:" + std::to_string(number);
    if (!found.ok()) return invalid(name, std::string(found.status().message()));
    if (static_cast<size_t>(number) >= found->size()) {
      return invalid(name, "there are only " + std::to_string(found->size()) + " such devices");
    }
    const CudaDeviceInfo& info = (*found)[static_cast<size_t>(number)];
    if (!IsSupported(info)) {
      return invalid(name, info.name + " has compute capability " + info.capability +
                               ", at least 7.5 (Turing) is needed");
    }
    engine.devices.push_back(DescribeCuda(number, info));
  }
  return absl::OkStatus();
}

// What jobs may use of a device; cuda: a CUDA device is among those that were chosen.
int64_t LimitOf(const DeviceInfo& device, bool cuda, const DeviceSettings& settings) {
  const bool cpu = device.name == "cpu";
  const int64_t most = cpu ? device.memory_bytes
                           : std::max<int64_t>(device.memory_bytes - kReservedBytes, 1);  // 0: none
  const bool limited = settings.memory_limit > 0 && !(cpu && cuda);
  return limited ? std::min(settings.memory_limit, most) : most;
}

// A job runs on whichever worker is free, so it must fit on every one: the CUDA device with the
// least memory counts, and the CPU only where there is no other. Products of BF16 are counted on
// where every CUDA device has them, from Ampere on.
DeviceBudget TightestBudget(const std::vector<DeviceInfo>& devices,
                            const DeviceSettings& settings) {
  DeviceBudget budget{.memory_bytes = settings.memory_limit, .exact = settings.exact_products};
  for (const DeviceInfo& device : devices) {
    if (device.name == "cpu") continue;
    if (!budget.on_device || device.memory_limit_bytes < budget.memory_bytes) {
      budget.memory_bytes = device.memory_limit_bytes;
    }
    budget.on_device = true;
    budget.bf16 = budget.bf16 && std::stoi(device.compute_capability) >= 8;
  }
  return budget;
}

// Moves one number to the device and back.
absl::Status CheckBackend(Backend& backend) {
  constexpr float kSent = 1.5F;
  float received = 0;
  ASSIGN_OR_RETURN(const Matrix one, backend.New(1, 1, DType::kF32));
  RETURN_IF_ERROR(backend.Upload(&kSent, DType::kF32, one));
  RETURN_IF_ERROR(backend.Download(one, &received, DType::kF32));
  if (received != kSent) return absl::InternalError("a number came back changed");
  return absl::OkStatus();
}

// The backend of one device. Made where it is needed: a process that only serves the API needs
// none.
class DeviceBackend {
 public:
  // memory_limit: 0: what there is.
  DeviceBackend(int number, int64_t memory_limit, bool exact)
      : number_(number), memory_limit_(memory_limit), exact_(exact) {}

  absl::StatusOr<Backend*> Get() {
    if (backend_ != nullptr) return backend_.get();
    if (number_ == kCpu) {
      backend_ = NewCpuBackend(0, memory_limit_);
      return backend_.get();
    }
    ASSIGN_OR_RETURN(backend_, NewCudaBackend(number_, CudaOptions{memory_limit_, exact_ ? 1 : 0}));
    return backend_.get();
  }

  // An error of a kernel spoils the process's connection to its device for good, and every later
  // operation fails: the smallest one tells. A job that ran out of memory or was wrong does not.
  absl::Status Check() const {
    return backend_ == nullptr ? absl::OkStatus() : CheckBackend(*backend_);
  }

 private:
  const int number_;
  const int64_t memory_limit_;
  const bool exact_;
  std::unique_ptr<Backend> backend_;
};

}  // namespace

absl::StatusOr<Engine> PipelineEngine(const DeviceSettings& settings) {
  Engine engine;
  std::vector<int> numbers;
  RETURN_IF_ERROR(Choose(settings.names, engine, numbers));
  const bool cuda =
      std::any_of(numbers.begin(), numbers.end(), [](int number) { return number != kCpu; });
  for (DeviceInfo& device : engine.devices) {
    device.memory_limit_bytes = LimitOf(device, cuda, settings);
  }
  const bool unlimited = cuda && numbers.front() == kCpu;
  const auto device = std::make_shared<DeviceBackend>(
      numbers.front(), unlimited ? 0 : settings.memory_limit, settings.exact_products);
  // What the container has may change while the server runs.
  const auto budget = [tightest = TightestBudget(engine.devices, settings),
                       here = settings.jobs_run_here] {
    DeviceBudget now = tightest;
    if (here) now.host_memory_bytes = UsableMemoryBytes();
    return now;
  };
  engine.plan_compress = [budget](const CompressSpec& spec) -> absl::StatusOr<CompressPlan> {
    ASSIGN_OR_RETURN(const CompressJob job, Resolve(spec));
    return Plan(job, budget());
  };
  engine.plan_evaluate = [budget](const EvaluateSpec& spec) -> absl::StatusOr<EvaluatePlan> {
    ASSIGN_OR_RETURN(const EvaluateJob job, Resolve(spec));
    return Plan(job, budget());
  };
  engine.run_compress = [device](const CompressSpec& spec, ArtifactStore& store,
                                 const RunHooks& hooks) -> absl::StatusOr<CompressResult> {
    ASSIGN_OR_RETURN(Backend* const on, device->Get());
    ASSIGN_OR_RETURN(CompressJob job, Resolve(spec));
    return Run(std::move(job), *on, store, hooks);
  };
  engine.run_evaluate = [device](const EvaluateSpec& spec, ArtifactStore& store,
                                 const RunHooks& hooks) -> absl::StatusOr<EvaluateResult> {
    ASSIGN_OR_RETURN(Backend* const on, device->Get());
    ASSIGN_OR_RETURN(EvaluateJob job, Resolve(spec));
    return Run(std::move(job), *on, store, hooks);
  };
  engine.open_device = [device] { return device->Get().status(); };
  engine.check_device = [device] { return device->Check(); };
  return engine;
}

}  // namespace svdllm
