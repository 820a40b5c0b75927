// What a task costs beside its arithmetic floor: the floating-point operations of its tokens at the
// rate that the same machine reaches, in the same process, for a large product.
//
//   task_bench MODEL_DIR TASK PATH [limit=0] [labels=] [fewshot=0] [fewshot_path=] [out=]
//   [device=cpu]
//
// labels, fewshot_path, out: "-" for none. out: where the report and predictions.jsonl go. The rate
// is measured before and after and averaged, because shared machines drift.
#include <fmt/format.h>

#include <chrono>
#include <cstdlib>
#include <filesystem>
#include <string>

#include "evaluate/measure.h"
#include "linalg/cuda/loader.h"
#include "pipeline/pipeline.h"
#include "tokenizer/tokenizer.h"

namespace svdllm {
namespace {

double Seconds(std::chrono::steady_clock::time_point since) {
  return std::chrono::duration<double>(std::chrono::steady_clock::now() - since).count();
}

// FLOP/s of y = x Wᵀ at the shape of a wide linear layer: the best of several.
double ProductRate(Backend& backend) {
  const int64_t m = 4096, n = 1536, k = 576;
  const Matrix x = *backend.New(m, k, DType::kF32), w = *backend.New(n, k, DType::kF32),
               y = *backend.New(m, n, DType::kF32);
  double best = 1e30;
  for (int i = 0; i < 12; ++i) {
    const auto start = std::chrono::steady_clock::now();
    backend.Gemm(false, true, 1, x, w, 0, y).IgnoreError();
    double one = 0;
    backend.Download(y.ref().Rows(0, 1).Cols(0, 1), &one, DType::kF64).IgnoreError();
    best = std::min(best, Seconds(start));
  }
  return 2.0 * static_cast<double>(m * n * k) / best;
}

int Fail(const absl::Status& status) {
  fmt::print(stderr, "task_bench: {}\n", std::string(status.message()));
  return 1;
}

int Main(int argc, char** argv) {
  if (argc < 4) {
    fmt::print(stderr,
               "usage: task_bench MODEL_DIR TASK PATH [limit] [labels] [fewshot] [fewshot_path] "
               "[out] [device]\n");
    return 2;
  }
  const auto text = [&](int i) {
    return i < argc && std::string(argv[i]) != "-" ? std::string(argv[i]) : std::string();
  };
  EvaluateSpec spec;
  spec.job_id = "bench";
  spec.model_dir = spec.model_uri = argv[1];
  spec.measure.tasks = {{argv[2], argv[2], argv[3], text(5), text(7), std::atoll(text(6).c_str()),
                         std::atoll(text(4).c_str())}};
  spec.output_uri = text(8);
  const std::filesystem::path root = spec.output_uri.empty()
                                         ? std::filesystem::temp_directory_path()
                                         : std::filesystem::path(spec.output_uri).parent_path();
  const auto store = NewFileStore({{}, root});
  const auto job = Resolve(spec);
  const auto tokenizer = Tokenizer::Load(spec.model_dir);
  if (!store.ok()) return Fail(store.status());
  if (!job.ok()) return Fail(job.status());
  const Checkpoint& checkpoint = job->model().checkpoint;
  if (!tokenizer.ok()) return Fail(tokenizer.status());
  const std::string device = argc > 9 ? argv[9] : "cpu";
  absl::StatusOr<std::unique_ptr<Backend>> backend = NewCpuBackend();
  if (device != "cpu") backend = NewCudaBackend(std::atoi(device.substr(5).c_str()));
  if (!backend.ok()) return Fail(backend.status());

  double rate = ProductRate(**backend);
  const auto what = LoadMeasureJob(job->model().measure, *tokenizer, checkpoint.config());
  if (!what.ok()) return Fail(what.status());
  const auto result = Run(*job, **backend, **store, {});
  if (!result.ok()) return Fail(result.status());
  rate = (rate + ProductRate(**backend)) / 2;

  const TaskResult& task = result->model.figures.tasks[0];
  fmt::print("{}: {} questions, {} tokens computed\n", task.name, task.items, task.tokens);
  for (const TaskMetric& metric : task.metrics) {
    fmt::print("  {} {:.4f} ± {:.4f}\n", metric.name, metric.value, metric.std_error);
  }
  const double flops = MeasureFlops(checkpoint, *what);
  fmt::print("products {:.1f} GFLOP/s; {:.2f} s, {:.1f} GFLOP", rate / 1e9, task.seconds,
             flops / 1e9);
  // The length of generated texts is a guess before they are there.
  if (what->tasks[0].task->kind == TaskKind::kMultipleChoice) {
    fmt::print(", floor {:.2f} s, ratio {:.2f}", flops / rate, task.seconds * rate / flops);
  }
  fmt::print("\n");
  return 0;
}

}  // namespace
}  // namespace svdllm

int main(int argc, char** argv) { return svdllm::Main(argc, argv); }
