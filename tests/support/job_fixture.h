// A tiny random model, some text and a store: everything a compression needs.
#pragma once

#include <gtest/gtest.h>

#include <memory>
#include <string>

#include "base/digest.h"
#include "base/files.h"
#include "pipeline/pipeline.h"
#include "tests/support/run_job.h"
#include "tests/support/status_matchers.h"
#include "tests/support/temp_dir.h"
#include "tests/support/tiny_checkpoint.h"

namespace svdllm {

class JobFixture : public ::testing::Test {
 protected:
  void SetUp() override {
    testing::WriteTinyCheckpoint(model_);
    std::string text;
    for (int i = 0; i < 400; ++i) {
      text += "Line " + std::to_string(i * i) + " of a text that is not quite regular.\n";
    }
    text_ = dir_.Write("text.txt", text);
    auto store = NewFileStore({{}, dir_.File("artifacts")});
    ASSERT_OK(store);
    store_ = *std::move(store);
  }

  CompressSpec Spec(const std::string& output) {
    CompressSpec spec;
    spec.job_id = "job-" + output;
    spec.model_dir = spec.model_uri = model_;
    spec.keep_ratios = {0.5};
    spec.calibration.sources = {{{text_}}};
    spec.calibration.samples = 6;
    spec.calibration.seq_len = 64;
    spec.output_uri = *store_->ResolveOutput(dir_.File("artifacts/" + output));
    spec.work_dir = dir_.File("work");
    return spec;
  }
  std::string Artifact(const std::string& path) { return dir_.File("artifacts/" + path); }
  absl::StatusOr<CompressResult> Run(const CompressSpec& spec, const RunHooks& hooks = {}) {
    return testing::RunCompress(spec, *backend_, *store_, hooks);
  }

  testing::TempDir dir_;
  std::string model_ = dir_.File("model");
  std::string text_;
  std::unique_ptr<ArtifactStore> store_;
  std::unique_ptr<Backend> backend_ = NewCpuBackend(1);
};

}  // namespace svdllm
