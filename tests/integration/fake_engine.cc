#include "fake_engine.h"

#include <signal.h>
#include <unistd.h>

#include <chrono>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <thread>

#include "base/digest.h"
#include "base/files.h"

namespace svdllm {
namespace {

namespace fs = std::filesystem;

constexpr char kManifest[] = "/compression_manifest.json";

absl::Status CheckModel(const std::string& model_dir) {
  if (!fs::exists(model_dir + "/config.json")) {
    return MakeError(absl::StatusCode::kNotFound, kModelNotFound,
                     model_dir + ": there is no config.json");
  }
  if (fs::exists(model_dir + "/corrupt")) {
    return MakeError(absl::StatusCode::kInvalidArgument, kModelCorrupt,
                     model_dir + ": model.safetensors: header is cut off");
  }
  return absl::OkStatus();
}

// What a check may meet in the files of a model.
void MaybeHangOrDie(const std::string& model_dir) {
  if (fs::exists(model_dir + "/crash_check")) kill(getpid(), SIGBUS);
  while (fs::exists(model_dir + "/hang")) usleep(100'000);
  while (fs::exists(model_dir + "/spin")) continue;
}

bool poisoned = false;  // the process's device, for good

void MaybeCrash(const std::string& model_dir) {
  const bool once = fs::remove(model_dir + "/crash_once");
  if (once || fs::exists(model_dir + "/crash")) {
    kill(getpid(), SIGKILL);
    pause();
  }
}

absl::Status MaybeFail(const std::string& model_dir) {
  if (fs::remove(model_dir + "/poison_once")) {
    poisoned = true;
    return absl::InternalError("the device is poisoned");
  }
  int code = 0;
  std::string reason;
  if (std::ifstream(model_dir + "/fail") >> code >> reason) {
    return MakeError(static_cast<absl::StatusCode>(code), reason, "failed on demand");
  }
  return absl::OkStatus();
}

absl::Status RunSteps(const std::string& model_dir, int64_t steps, int64_t step_ms,
                      const RunHooks& hooks) {
  for (int64_t i = 0; i < steps; ++i) {
    const auto until = std::chrono::steady_clock::now() + std::chrono::milliseconds(step_ms);
    do {
      RETURN_IF_ERROR(hooks.check());
      std::this_thread::sleep_for(std::chrono::milliseconds(1));
    } while (std::chrono::steady_clock::now() < until);
    if (i == steps / 2) {
      MaybeCrash(model_dir);
      RETURN_IF_ERROR(MaybeFail(model_dir));
    }
    ProgressEvent progress;
    progress.stage = "calibrate";
    progress.layers_done = i + 1;
    progress.layers_total = steps;
    progress.percent = 100.0 * static_cast<double>(i + 1) / static_cast<double>(steps);
    hooks.on_progress(progress);
  }
  return absl::OkStatus();
}

absl::StatusOr<CompressPlan> Plan(const CompressSpec& spec) {
  MaybeHangOrDie(spec.model_dir);
  RETURN_IF_ERROR(CheckModel(spec.model_dir));
  CompressPlan plan;
  plan.calibration = {spec.calibration.seq_len > 0 ? spec.calibration.seq_len : 1,
                      spec.calibration.window_start};
  plan.texts.assign(spec.measure.texts.size(), {7});
  plan.parameters = 1000;
  plan.least_seconds = 1;
  plan.expected_seconds = 1.5;
  plan.most_seconds = 2.25;
  plan.host = {700, 300, 5000};
  plan.warnings = {"pretended"};
  for (const double ratio : spec.keep_ratios) {
    plan.artifacts.push_back({ratio, {{"model.layers.0.q_proj", 8, 8, 3}}, 900, 1800});
  }
  return plan;
}

absl::StatusOr<CompressResult> Compress(const CompressSpec& spec, ArtifactStore& store,
                                        const RunHooks& hooks) {
  RETURN_IF_ERROR(
      RunSteps(spec.model_dir, spec.calibration.samples, spec.calibration.seq_len, hooks));
  RETURN_IF_ERROR(hooks.begin_publish());
  CompressResult result;
  result.parameters = 1000;
  result.stages = {{"calibrate", 0.25}, {"publish", 0.01}};
  const std::vector<std::string> uris = OutputUris(spec);
  for (size_t i = 0; i < uris.size(); ++i) {
    const std::string& uri = uris[i];
    // What an earlier attempt published stands.
    const absl::StatusOr<std::string> there = store.Fetch(uri, spec.work_dir);
    if (!there.ok() || ReadFile(*there + kManifest).value_or("") != spec.job_id) {
      ASSIGN_OR_RETURN(const std::string dir,
                       store.Stage(uri, spec.job_id + "." + std::to_string(spec.attempt)));
      RETURN_IF_ERROR(WriteFileAtomic(dir + kManifest, spec.job_id));
      RETURN_IF_ERROR(store.Commit(dir, uri));
    }
    ArtifactResult artifact;
    artifact.keep_ratio = spec.keep_ratios[i];
    artifact.uri = uri;
    artifact.manifest_sha256 = Sha256(spec.job_id);
    artifact.weight_bytes = 1800;
    artifact.matrices = {{"model.layers.0.q_proj", 8, 8, 3, 0.1, 0.2, 0}};
    result.artifacts.push_back(std::move(artifact));
  }
  return result;
}

absl::StatusOr<EvaluateResult> Evaluate(const EvaluateSpec& spec, ArtifactStore&,
                                        const RunHooks& hooks) {
  EvaluateResult result;
  result.report_uri = spec.output_uri;
  for (const PerplexitySpec& task : spec.measure.texts) {
    RETURN_IF_ERROR(RunSteps(spec.model_dir, task.limit, task.seq_len, hooks));
    PerplexityResult perplexity;
    perplexity.name = task.name;
    perplexity.perplexity = 12.5;
    result.model.figures.perplexities.push_back(perplexity);
  }
  return result;
}

}  // namespace

Engine FakeEngine() {
  Engine engine;
  engine.plan_compress = Plan;
  engine.plan_evaluate = [](const EvaluateSpec& spec) -> absl::StatusOr<EvaluatePlan> {
    RETURN_IF_ERROR(CheckModel(spec.model_dir));
    EvaluatePlan plan;
    plan.parameters = 1000;
    plan.weight_bytes = 2000;
    plan.host = {1000, 2000, 5000};
    for (const PerplexitySpec& text : spec.measure.texts) {
      plan.texts.push_back({text.seq_len, text.window_start});
    }
    return plan;
  };
  engine.run_compress = Compress;
  engine.run_evaluate = Evaluate;
  engine.open_device = [] {
    const char* const gone = std::getenv("FAKE_DEVICE_GONE");
    return gone != nullptr && fs::exists(gone) ? absl::UnavailableError("the device is gone")
                                               : absl::OkStatus();
  };
  engine.check_device = [] {
    return poisoned ? absl::InternalError("the device is poisoned") : absl::OkStatus();
  };
  engine.devices = {{"cpu", "pretended", 1 << 30, 1 << 30}};
  return engine;
}

}  // namespace svdllm
