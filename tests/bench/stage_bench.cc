// What each stage of a compression costs beside its arithmetic floor: the stage's floating-point
// operations at the rates that the same machine reaches, in the same process, for a large product.
//
//   stage_bench MODEL_DIR TEXT [samples=64] [seq_len=512] [method=svd_llm] [keep_ratio=0.8]
//               [encoding=plain] [allocation=uniform] [device=cpu] [exact]
//
// device: cpu or cuda:N. exact: weights are multiplied as F32.
//
// Rates are measured before and after the run and averaged, because shared machines drift. F64 work
// (decompositions) is put against the F64 rate, the forward pass and the Grams against that of the
// type that weights are held in; a stage that moves weights takes as long as the copy at least.
#include <fmt/format.h>

#include <algorithm>
#include <chrono>
#include <cstdlib>
#include <filesystem>
#include <string>
#include <vector>

#include "compress/cost.h"
#include "linalg/cuda/loader.h"
#include "model/cost.h"
#include "pipeline/estimate.h"
#include "pipeline/pipeline.h"
#include "pipeline/plan.h"

namespace svdllm {
namespace {

double Seconds(std::chrono::steady_clock::time_point since) {
  return std::chrono::duration<double>(std::chrono::steady_clock::now() - since).count();
}

// Until the device has done what it was asked.
void Await(Backend& backend, const Matrix& x) {
  double one = 0;
  backend.Download(x.ref().Rows(0, 1).Cols(0, 1), &one, DType::kF64).IgnoreError();
}

// FLOP/s of y = x Wᵀ: the best of several. On a host at the shape of a wide linear layer of a small
// model, on a device at size³, several in a row.
double ProductRate(Backend& backend, DType weights, int64_t size) {
  const bool on_device = backend.OnDevice();
  const int64_t m = on_device ? size : 4096, n = on_device ? size : 1536,
                k = on_device ? size : 576;
  const DType dtype = weights == DType::kF64 ? DType::kF64 : DType::kF32;
  const auto x = backend.New(m, k, dtype), w = backend.New(n, k, weights),
             y = backend.New(m, n, dtype);
  if (!x.ok() || !w.ok() || !y.ok()) return 0;
  // Of zeros a device would not get warm.
  std::vector<float> values(static_cast<size_t>(k));
  for (size_t i = 0; i < values.size(); ++i) values[i] = static_cast<float>(i * 7919 % 1009) / 1009;
  for (int64_t i = 0; i < std::max(m, n); ++i) {
    const size_t first = static_cast<size_t>(i * 31 % k);
    std::rotate(values.begin(), values.begin() + static_cast<ptrdiff_t>(first), values.end());
    if (i < m) backend.Upload(values.data(), DType::kF32, x->ref().Rows(i, 1)).IgnoreError();
    if (i < n) backend.Upload(values.data(), DType::kF32, w->ref().Rows(i, 1)).IgnoreError();
  }
  const int in_a_row = on_device ? 8 : 1;
  double best = 1e30;
  for (int i = 0; i < (on_device ? 4 : 12); ++i) {
    Await(backend, *y);
    const auto start = std::chrono::steady_clock::now();
    for (int run = 0; run < in_a_row; ++run) {
      backend.Gemm(false, true, 1, *x, *w, 0, *y).IgnoreError();
    }
    Await(backend, *y);
    best = std::min(best, Seconds(start) / in_a_row);
  }
  return 2.0 * static_cast<double>(m) * static_cast<double>(n) * static_cast<double>(k) / best;
}

// Bytes a second, from and to together, of a copy in the backend's memory, and from the host's.
struct Bandwidth {
  double memory = 0, upload = 0;
};

Bandwidth BandwidthOf(Backend& backend, int64_t size) {
  const int64_t rows = backend.OnDevice() ? 2 * size : 1024, cols = 16384;
  const auto a = backend.New(rows, cols, DType::kF32), b = backend.New(rows, cols, DType::kF32);
  if (!a.ok() || !b.ok()) return {};
  const std::vector<float> host(static_cast<size_t>(rows * cols), 1.0f);
  const double bytes = static_cast<double>(rows * cols) * 4;
  Bandwidth best;
  for (int i = 0; i < 4; ++i) {
    Await(backend, *b);
    auto start = std::chrono::steady_clock::now();
    backend.Copy(*a, *b).IgnoreError();
    Await(backend, *b);
    best.memory = std::max(best.memory, 2 * bytes / Seconds(start));
    start = std::chrono::steady_clock::now();
    backend.Upload(host.data(), DType::kF32, *a).IgnoreError();
    Await(backend, *a);
    best.upload = std::max(best.upload, bytes / Seconds(start));
  }
  return best;
}

// The library's own eigensolver on the problems of one layer: what a decomposition cannot beat with
// it.
double EigenSeconds(Backend& backend, const ModelConfig& config, const Architecture& arch) {
  std::vector<Matrix> memory;
  std::vector<EigenProblem> problems;
  for (const LinearRow& row : arch.linears) {
    const LinearShape shape = ShapeOf(config, row.id);
    const int64_t p = std::min(shape.rows, shape.cols);
    std::vector<double> x(static_cast<size_t>(p * p));
    uint64_t state = static_cast<uint64_t>(row.id) + 1;
    for (double& value : x) {
      state = state * 6364136223846793005ull + 1442695040888963407ull;
      value = static_cast<double>(state >> 40) / (1 << 24) - 0.5;
    }
    Matrix random = *backend.New(p, p, DType::kF64), k = *backend.New(p, p, DType::kF64);
    backend.Upload(x.data(), DType::kF64, random).IgnoreError();
    backend.Gemm(true, false, 1, random, random, 0, k).IgnoreError();
    memory.push_back(k);
    memory.push_back(*backend.New(1, p, DType::kF64));
    memory.push_back(*backend.New(p, p, DType::kF64));
    problems.push_back({k, memory[memory.size() - 2], memory.back()});
  }
  Await(backend, memory.back());
  const auto start = std::chrono::steady_clock::now();
  backend.SymmetricEigen(problems).IgnoreError();
  Await(backend, memory.back());
  return Seconds(start);
}

// F64 products of a layer's decompositions and factors, without the eigensolver.
double ProductFlops(const ModelConfig& config, const Architecture& arch, Encoding encoding,
                    double keep_ratio) {
  double flops = 0;
  for (const LinearRow& row : arch.linears) {
    const LinearShape shape = ShapeOf(config, row.id);
    const double m = static_cast<double>(shape.rows), n = static_cast<double>(shape.cols);
    const double p = std::min(m, n);
    const double k =
        static_cast<double>(UniformRank({encoding, keep_ratio}, shape.rows, shape.cols));
    if (m > n) flops += 2 * 2 * m * n * n;  // QR and forming Q
    if (m >= n || row.input != Site::kDownIn) flops += 2 * p * n * n + 2 * p * p * n;  // K
    flops += 2 * k * p * n + (m > n ? 2 * m * n * k : 0);                              // factors
    flops += 2 * 2 * m * n * k;  // exact and stored products
    flops += 2 * 2 * m * n * n;  // both losses
    flops += p * p * p;          // verification of the spectrum
  }
  return flops;
}

// FLOP/s of products of a layer's weights, of F32 and of F64, and seconds of a layer's
// eigenproblems.
struct Rates {
  double layer = 0, single = 0, dual = 0, eigen = 0;
};

// "32 steps of 0.61 to 1.20 s (the longest: 3), median 0.63": whether one of them stalled.
std::string Spread(std::vector<double> steps) {
  if (steps.empty()) return "";
  const auto longest = std::max_element(steps.begin(), steps.end()) - steps.begin() + 1;
  std::sort(steps.begin(), steps.end());
  return fmt::format("{} steps of {:.2f} to {:.2f} s (the longest: {}), median {:.2f}",
                     steps.size(), steps.front(), steps.back(), longest, steps[steps.size() / 2]);
}

absl::StatusOr<std::unique_ptr<Backend>> DeviceBackend(const std::string& device, bool exact) {
  if (device == "cpu") return NewCpuBackend();
  if (device.rfind("cuda:", 0) == 0) {
    return NewCudaBackend(std::atoi(device.c_str() + 5), CudaOptions{0, exact ? 1 : 0});
  }
  return absl::InvalidArgumentError("unknown device: " + device);
}

int Main(int argc, char** argv) {
  if (argc < 3) {
    fmt::print(stderr,
               "usage: stage_bench MODEL_DIR TEXT [samples] [seq_len] [method] [keep_ratio] "
               "[encoding] [allocation] [device] [exact]\n");
    return 2;
  }
  const bool exact = argc > 10 && std::string(argv[10]) == "exact";
  CompressSpec spec;
  spec.job_id = "bench";
  spec.model_dir = spec.model_uri = argv[1];
  spec.calibration.sources = {{{argv[2]}}};
  spec.calibration.samples = argc > 3 ? std::atoll(argv[3]) : 64;
  spec.calibration.seq_len = argc > 4 ? std::atoll(argv[4]) : 512;
  const std::string method = argc > 5 ? argv[5] : "svd_llm";
  spec.keep_ratios = {argc > 6 ? std::atof(argv[6]) : 0.8};
  spec.evaluate_held_out = false;
  bool known = false;
  for (const MethodRow& row : Methods()) {
    if (row.name == method) spec.method = row.method, known = true;
  }
  const std::string encoding = argc > 7 ? argv[7] : "plain";
  bool known_encoding = false;
  for (const Encoding one : {Encoding::kPlain, Encoding::kPivoted}) {
    if (EncodingName(one) == encoding) spec.encoding = one, known_encoding = true;
  }
  const std::string allocation = argc > 8 ? argv[8] : "uniform";
  bool known_allocation = false;
  for (const Allocation one : {Allocation::kUniform, Allocation::kV2, Allocation::kDRank,
                               Allocation::kRelativeTails, Allocation::kKlProbe}) {
    if (AllocationName(one) == allocation) spec.allocation = one, known_allocation = true;
  }
  if (!known || !known_encoding || !known_allocation) {
    fmt::print(stderr, "stage_bench: unknown method, encoding or allocation: {} {} {}\n", method,
               encoding, allocation);
    return 2;
  }
  const std::string root = std::filesystem::temp_directory_path() / "svdllm-stage-bench";
  std::filesystem::remove_all(root);
  auto store = NewFileStore({{}, root});
  spec.output_uri = root + "/out";
  spec.work_dir = root + "/work";
  const auto job = Resolve(spec);
  if (!store.ok() || !job.ok()) {
    fmt::print(stderr, "stage_bench: {} {}\n", std::string(store.status().message()),
               std::string(job.status().message()));
    return 1;
  }
  const auto made = DeviceBackend(argc > 9 ? argv[9] : "cpu", exact);
  if (!made.ok()) {
    fmt::print(stderr, "stage_bench: {}\n", std::string(made.status().message()));
    return 1;
  }
  const std::unique_ptr<Backend>& backend = *made;
  const ModelConfig& config = job->checkpoint.config();
  const Architecture& arch = job->checkpoint.arch();

  const auto plan = Plan(*job, {.on_device = backend->OnDevice(),
                                .memory_bytes = backend->Memory().limit,
                                .exact = exact,
                                .bf16 = backend->WeightType(DType::kBF16) == DType::kBF16});
  if (!plan.ok()) {
    fmt::print(stderr, "stage_bench: {}\n", std::string(plan.status().message()));
    return 1;
  }

  const DType weights = backend->WeightType(DType::kBF16);
  const int64_t size = std::clamp<int64_t>(config.hidden_size, 256, 4096);
  const auto measure = [&](Rates& rates) {
    rates.layer += ProductRate(*backend, weights, size) / 2;
    rates.single += ProductRate(*backend, DType::kF32, size) / 2;
    rates.dual += ProductRate(*backend, DType::kF64, size) / 2;
    rates.eigen += EigenSeconds(*backend, config, arch) / 2;
  };
  Rates rates;
  measure(rates);
  const Bandwidth bandwidth = BandwidthOf(*backend, size);
  if (backend->OnDevice()) {
    fmt::print("products of {}: {} {:.1f} TFLOP/s, F32 {:.1f}, F64 {:.1f}\n", 2 * size,
               DTypeName(weights), ProductRate(*backend, weights, 2 * size) / 1e12,
               ProductRate(*backend, DType::kF32, 2 * size) / 1e12,
               ProductRate(*backend, DType::kF64, 2 * size) / 1e12);
  }
  backend->ResetPeak();
  const auto start = std::chrono::steady_clock::now();
  std::vector<double> steps;  // of calibrate: one a layer for most methods, with its reading
  auto reported = start;
  RunHooks hooks;
  hooks.on_progress = [&steps, &reported](const ProgressEvent& progress) {
    if (progress.stage == "calibrate") steps.push_back(Seconds(reported));
    reported = std::chrono::steady_clock::now();
  };
  const auto result = Run(*job, *backend, **store, hooks);
  const double total = Seconds(start);
  if (!result.ok()) {
    fmt::print(stderr, "stage_bench: {}\n", std::string(result.status().message()));
    return 1;
  }
  const int64_t device_peak = backend->Memory().peak;
  measure(rates);
  std::filesystem::remove_all(root);

  const MethodRow& row = RowOf(spec.method);
  const double layers = static_cast<double>(config.num_layers);
  const double tokens = static_cast<double>(spec.calibration.samples * spec.calibration.seq_len);
  const double forward =
      BlockFlops(config, arch, tokens, static_cast<double>(spec.calibration.seq_len) / 2);
  const double grams = StatisticsFlops(spec, config, arch, tokens);
  const double passes =
      row.statistic == Statistic::kNone ? 0 : (row.prefix == Prefix::kRefit ? 3 : 1);
  const double statistics = row.prefix == Prefix::kRefit ? 2 : 1;
  double block_work = passes * forward + statistics * grams;
  if (row.prefix == Prefix::kTarget) {
    const Workload work{tokens, static_cast<double>(spec.calibration.seq_len) / 2};
    block_work = 0;
    for (const Site site : {Site::kAttnIn, Site::kOIn, Site::kMlpIn, Site::kDownIn}) {
      block_work += AnchoredFlops(config, arch, site, work);
    }
  }
  const double weight_bytes = static_cast<double>(plan->weight_bytes);
  const double calibrate =
      std::max(layers * block_work / rates.layer,
               backend->OnDevice() ? weight_bytes / std::max(bandwidth.upload, 1.0) : 0.0);
  const double factorise =
      layers *
      (rates.eigen + ProductFlops(config, arch, spec.encoding, spec.keep_ratios[0]) / rates.dual);
  fmt::print("{}\n{} {} {} {} at keep {}, {} x {} tokens\n", backend->Name(), argv[1], method,
             encoding, allocation, spec.keep_ratios[0], spec.calibration.samples,
             spec.calibration.seq_len);
  fmt::print(
      "products: {} {:.1f} GFLOP/s, F32 {:.1f}, F64 {:.1f}; one layer's eigenproblems {:.3f} s\n",
      DTypeName(weights), rates.layer / 1e9, rates.single / 1e9, rates.dual / 1e9, rates.eigen);
  fmt::print("memory {:.1f} GB/s, from the host {:.1f} GB/s\n", bandwidth.memory / 1e9,
             bandwidth.upload / 1e9);
  fmt::print("{:<12}{:>10}{:>10}{:>8}\n", "stage", "seconds", "floor", "ratio");
  for (const StageTime& stage : result->stages) {
    const double floor = stage.stage == "calibrate"   ? calibrate
                         : stage.stage == "factorise" ? factorise
                                                      : 0;
    fmt::print("{:<12}{:>10.2f}", stage.stage, stage.seconds);
    if (floor > 0) fmt::print("{:>10.2f}{:>8.2f}", floor, stage.seconds / floor);
    if (stage.stage == "calibrate") fmt::print("   {}", Spread(steps));
    fmt::print("\n");
  }
  fmt::print("{:<12}{:>10.2f}   (with reading, sampling and tokenising)\n", "total", total);
  const bool on_device = backend->OnDevice();  // otherwise of the whole process
  const int64_t peak = on_device ? device_peak : result->peak_host_bytes;
  const int64_t planned =
      on_device ? plan->peak_device_bytes : plan->host.anonymous + plan->host.mapped;
  fmt::print("{:<12}{:>10.3f} GB, planned {:.3f} GB, ratio {:.2f}\n", "peak memory",
             static_cast<double>(peak) / 1e9, static_cast<double>(planned) / 1e9,
             static_cast<double>(peak) / static_cast<double>(std::max<int64_t>(planned, 1)));
  return 0;
}

}  // namespace
}  // namespace svdllm

int main(int argc, char** argv) { return svdllm::Main(argc, argv); }
