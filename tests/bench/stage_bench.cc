// What each stage of a compression costs beside its arithmetic floor: the stage's floating-point
// operations at the rates that the same machine reaches, in the same process, for a large product.
//
//   stage_bench MODEL_DIR TEXT [samples=64] [seq_len=512] [method=svd_llm] [keep_ratio=0.8]
//               [encoding=plain] [allocation=uniform] [device=cpu]
//
// device: cpu or cuda:N.
//
// Rates are measured before and after the run and averaged, because shared machines drift. F64 work
// (decompositions) is put against the F64 rate; the column "at sgemm" is the same work at the F32
// rate.
#include <fmt/format.h>

#include <chrono>
#include <cstdlib>
#include <filesystem>
#include <string>

#include "linalg/cuda_backend_loader.h"
#include "pipeline/pipeline.h"
#include "pipeline/plan.h"
#include "pipeline/work.h"

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

// FLOP/s of y = x Wᵀ at the shape of a wide linear layer: the best of several.
double ProductRate(Backend& backend, DType dtype) {
  const int64_t m = 4096, n = 1536, k = 576;
  const Matrix x = *backend.New(m, k, dtype), w = *backend.New(n, k, dtype),
               y = *backend.New(m, n, dtype);
  double best = 1e30;
  for (int i = 0; i < 12; ++i) {
    const auto start = std::chrono::steady_clock::now();
    backend.Gemm(false, true, 1, x, w, 0, y).IgnoreError();
    Await(backend, y);
    best = std::min(best, Seconds(start));
  }
  return 2.0 * static_cast<double>(m * n * k) / best;
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

absl::StatusOr<std::unique_ptr<Backend>> DeviceBackend(const std::string& device) {
  if (device == "cpu") return NewCpuBackend();
  if (device.rfind("cuda:", 0) == 0) return NewCudaBackend(std::atoi(device.c_str() + 5));
  return absl::InvalidArgumentError("unknown device: " + device);
}

int Main(int argc, char** argv) {
  if (argc < 3) {
    fmt::print(stderr,
               "usage: stage_bench MODEL_DIR TEXT [samples] [seq_len] [method] [keep_ratio] "
               "[encoding] [allocation] [device]\n");
    return 2;
  }
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
  const auto checkpoint = Checkpoint::Open(spec.model_dir);
  if (!store.ok() || !checkpoint.ok()) {
    fmt::print(stderr, "stage_bench: {} {}\n", std::string(store.status().message()),
               std::string(checkpoint.status().message()));
    return 1;
  }
  spec.output_uri = root + "/out";
  spec.work_dir = root + "/work";
  const auto made = DeviceBackend(argc > 9 ? argv[9] : "cpu");
  if (!made.ok()) {
    fmt::print(stderr, "stage_bench: {}\n", std::string(made.status().message()));
    return 1;
  }
  const std::unique_ptr<Backend>& backend = *made;
  const ModelConfig& config = checkpoint->config();
  const Architecture& arch = checkpoint->arch();

  double single = ProductRate(*backend, DType::kF32), dual = ProductRate(*backend, DType::kF64);
  double eigen = EigenSeconds(*backend, config, arch);
  const auto start = std::chrono::steady_clock::now();
  const auto result = RunCompress(spec, *backend, **store, {});
  const double total = Seconds(start);
  if (!result.ok()) {
    fmt::print(stderr, "stage_bench: {}\n", std::string(result.status().message()));
    return 1;
  }
  single = (single + ProductRate(*backend, DType::kF32)) / 2;
  dual = (dual + ProductRate(*backend, DType::kF64)) / 2;
  eigen = (eigen + EigenSeconds(*backend, config, arch)) / 2;
  std::filesystem::remove_all(root);

  const MethodRow& row = RowOf(spec.method);
  const double layers = static_cast<double>(config.num_layers);
  const double tokens = static_cast<double>(spec.calibration.samples * spec.calibration.seq_len);
  const double forward =
      BlockFlops(config, arch, tokens, static_cast<double>(spec.calibration.seq_len) / 2);
  const double grams = StatisticsFlops(spec, config, arch, tokens);
  const double passes = row.statistic == Statistic::kNone ? 0 : (row.update ? 3 : 1);
  const double statistics = row.update ? 2 : 1;
  double block_work = passes * forward + statistics * grams;
  if (spec.method == Method::kAnchored) {
    const Workload work{tokens, static_cast<double>(spec.calibration.seq_len) / 2};
    block_work = 0;
    for (const Site site : {Site::kAttnIn, Site::kOIn, Site::kMlpIn, Site::kDownIn}) {
      block_work += AnchoredFlops(config, arch, site, work);
    }
  }
  const double calibrate = layers * block_work / single;
  const double factorise =
      layers * (eigen + ProductFlops(config, arch, spec.encoding, spec.keep_ratios[0]) / dual);
  fmt::print("{}\n{} {} {} {} at keep {}, {} x {} tokens\n", backend->Name(), argv[1], method,
             encoding, allocation, spec.keep_ratios[0], spec.calibration.samples,
             spec.calibration.seq_len);
  fmt::print(
      "products: F32 {:.1f} GFLOP/s, F64 {:.1f} GFLOP/s; one layer's eigenproblems {:.3f} s\n",
      single / 1e9, dual / 1e9, eigen);
  fmt::print("{:<12}{:>10}{:>10}{:>8}\n", "stage", "seconds", "floor", "ratio");
  for (const StageTime& stage : result->stages) {
    const double floor = stage.stage == "calibrate"   ? calibrate
                         : stage.stage == "factorise" ? factorise
                                                      : 0;
    fmt::print("{:<12}{:>10.2f}", stage.stage, stage.seconds);
    if (floor > 0) fmt::print("{:>10.2f}{:>8.2f}", floor, stage.seconds / floor);
    fmt::print("\n");
  }
  fmt::print("{:<12}{:>10.2f}   (with reading, sampling and tokenising)\n", "total", total);
  return 0;
}

}  // namespace
}  // namespace svdllm

int main(int argc, char** argv) { return svdllm::Main(argc, argv); }
