// An attempt that goes on behind one that was lost ends in the same bytes.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <filesystem>
#include <map>
#include <set>

#include "tests/support/job_fixture.h"

namespace svdllm {
namespace {

namespace fs = std::filesystem;
using ::testing::HasSubstr;

constexpr int64_t kLayers = 3;

class ResumeTest : public JobFixture {
 protected:
  void SetUp() override {
    JobFixture::SetUp();
    testing::TinyCheckpointOptions options;
    options.num_layers = kLayers;
    fs::remove_all(model_);
    testing::WriteTinyCheckpoint(model_, options);
  }

  CompressSpec ResumableSpec(Method method, const std::string& output) {
    CompressSpec spec = Spec(output);
    spec.method = method;
    spec.allocation = RowOf(method).default_allocation;
    spec.encoding = RowOf(method).default_encoding;
    spec.keep_ratios = {0.8, 0.6};
    spec.journal_dir = dir_.File("journal-" + output);
    return spec;
  }

  // Runs until the n-th record has been kept, or check has been asked so often: as if the process
  // were killed there.
  absl::Status RunUntil(CompressSpec spec, int records, int checks = 1 << 30) {
    RunHooks hooks;
    hooks.kept = [&records] { return Killed(--records <= 0); };
    hooks.check = [&checks] { return Killed(--checks <= 0); };
    return Run(spec, hooks).status();
  }
  static absl::Status Killed(bool now) {
    return now ? absl::AbortedError("killed") : absl::OkStatus();
  }

  // Of the files that a model is loaded from.
  std::map<std::string, std::string> Digests(const std::string& output) {
    std::map<std::string, std::string> digests;
    for (const char* ratio : {"keep-0.80", "keep-0.60"}) {
      for (const auto& entry : fs::directory_iterator(Artifact(output) + "/" + ratio)) {
        const std::string name = entry.path().filename().string();
        if (name.ends_with(".safetensors") || name == "config.json" ||
            name == "model.safetensors.index.json") {
          digests[std::string(ratio) + "/" + name] = DigestOfFile(entry.path())->sha256;
        }
      }
    }
    return digests;
  }
};

class ResumeMethodTest : public ResumeTest, public ::testing::WithParamInterface<Method> {};

// The reports of matrices and the figures, as far as they do not tell of time.
void ExpectSameResult(const CompressResult& a, const CompressResult& b) {
  ASSERT_EQ(a.artifacts.size(), b.artifacts.size());
  for (size_t r = 0; r < a.artifacts.size(); ++r) {
    const ArtifactResult &x = a.artifacts[r], &y = b.artifacts[r];
    ASSERT_EQ(x.matrices.size(), y.matrices.size());
    for (size_t i = 0; i < x.matrices.size(); ++i) {
      EXPECT_EQ(x.matrices[i].name, y.matrices[i].name);
      EXPECT_EQ(x.matrices[i].rank, y.matrices[i].rank);
      EXPECT_EQ(x.matrices[i].relative_loss, y.matrices[i].relative_loss);
      EXPECT_EQ(x.matrices[i].rounding_excess, y.matrices[i].rounding_excess);
      EXPECT_EQ(x.matrices[i].spectrum, y.matrices[i].spectrum);
    }
    ASSERT_EQ(x.figures.perplexities.size(), y.figures.perplexities.size());
    EXPECT_EQ(x.figures.perplexities[0].perplexity, y.figures.perplexities[0].perplexity);
    EXPECT_EQ(x.comparisons[0].std_error, y.comparisons[0].std_error);
  }
}

TEST_P(ResumeMethodTest, EndsInTheSameBytesWhereverItWasLost) {
  const CompressSpec whole = ResumableSpec(GetParam(), "whole");
  std::set<int64_t> taken_over;
  int kept = 0;
  RunHooks hooks;
  hooks.kept = [&kept] {
    ++kept;
    return absl::OkStatus();
  };
  const auto expected = Run(whole, hooks);
  ASSERT_OK(expected);
  EXPECT_EQ(expected->resumed_layers, 0);
  ASSERT_GE(kept, kLayers + 3) << "a record per layer and per figure";
  for (int records = 1; records <= kept; ++records) {
    SCOPED_TRACE(records);
    const std::string output = "again-" + std::to_string(records);
    CompressSpec spec = ResumableSpec(GetParam(), output);
    ASSERT_TRUE(absl::IsAborted(RunUntil(spec, records)));
    spec.attempt = 2;
    const auto result = Run(spec);
    ASSERT_OK(result);
    EXPECT_EQ(Digests(output), Digests("whole"));
    ExpectSameResult(*result, *expected);
    taken_over.insert(result->resumed_layers);
  }
  for (int64_t layer = 1; layer <= kLayers; ++layer) EXPECT_EQ(taken_over.count(layer), 1u);
}

TEST_P(ResumeMethodTest, RepeatsNoFinishedLayerAndAtMostTheOneThatWasBegun) {
  CompressSpec spec = ResumableSpec(GetParam(), "lost"), whole = ResumableSpec(GetParam(), "whole");
  spec.allocation = whole.allocation = Allocation::kUniform;
  int64_t done = 0;
  for (int attempt = 1; attempt < 150; ++attempt) {
    SCOPED_TRACE(attempt);
    spec.attempt = attempt;
    int64_t done_now = 0, done_first = -1;
    int checks = 30 + 2 * attempt;
    RunHooks hooks;
    hooks.check = [&checks] { return Killed(--checks <= 0); };
    hooks.on_progress = [&](const ProgressEvent& event) {
      if (event.stage == "calibrate" && done_first < 0) done_first = event.layers_done;
      done_now = event.layers_done;
    };
    const auto result = Run(spec, hooks);
    EXPECT_TRUE(done_first < 0 || done_first >= done) << "what was done is done";
    if (result.ok()) break;
    ASSERT_TRUE(absl::IsAborted(result.status())) << result.status();
    done = std::max(done, done_now);
  }
  EXPECT_EQ(done, kLayers);
  ASSERT_OK(Run(whole));
  EXPECT_EQ(Digests("lost"), Digests("whole"));
}

INSTANTIATE_TEST_SUITE_P(Methods, ResumeMethodTest,
                         ::testing::Values(Method::kSvd, Method::kAsvd, Method::kSvdLlm,
                                           Method::kSvdLlmUpdate, Method::kAnchored),
                         [](const auto& method) { return MethodName(method.param); });

TEST_F(ResumeTest, EveryAllocationTakesItsPassOver) {
  for (const AllocationRow& row : Allocations()) {
    if (!row.needs_spectra) continue;
    const std::string name(row.name);
    CompressSpec whole = ResumableSpec(Method::kSvdLlm, "whole-" + name);
    whole.allocation = row.allocation;
    ASSERT_OK(Run(whole));
    for (int records = 1; records <= kLayers + 1; ++records) {
      SCOPED_TRACE(name + " " + std::to_string(records));
      CompressSpec spec = ResumableSpec(Method::kSvdLlm, name + std::to_string(records));
      spec.allocation = row.allocation;
      ASSERT_TRUE(absl::IsAborted(RunUntil(spec, records)));
      spec.attempt = 2;
      // No layer of the pass is computed again: less is asked than in a run from the beginning.
      ASSERT_OK(Run(spec));
      EXPECT_EQ(Digests(name + std::to_string(records)), Digests("whole-" + name));
    }
  }
}

TEST_F(ResumeTest, DenseOutputAndSamplesOfTheModelAreTakenOver) {
  const auto make = [this](const std::string& output) {
    CompressSpec spec = ResumableSpec(Method::kSvdLlmUpdate, output);
    spec.output_format = OutputFormat::kDense;
    spec.calibration.sources = {{{}, true}, {{text_}}};
    spec.calibration.seq_len = 16;
    return spec;
  };
  ASSERT_OK(Run(make("whole")));
  for (int checks = 20; checks < 130; checks += 45) {
    SCOPED_TRACE(checks);
    const std::string output = "again-" + std::to_string(checks);
    CompressSpec spec = make(output);
    ASSERT_TRUE(absl::IsAborted(RunUntil(spec, 1 << 30, checks)));
    spec.attempt = 2;
    ASSERT_OK(Run(spec));
    EXPECT_EQ(Digests(output), Digests("whole"));
  }
}

TEST_F(ResumeTest, AChangedModelIsRefusedByName) {
  CompressSpec spec = ResumableSpec(Method::kAnchored, "o");
  ASSERT_TRUE(absl::IsAborted(RunUntil(spec, 2)));
  testing::TinyCheckpointOptions other;
  other.num_layers = kLayers;
  other.seed = 77;
  testing::WriteTinyCheckpoint(model_, other);
  spec.attempt = 2;
  const absl::Status status = Run(spec).status();
  EXPECT_EQ(ErrorReason(status), kCheckpointMismatch) << status;
  EXPECT_THAT(std::string(status.message()), HasSubstr("model.safetensors has changed"));
  EXPECT_FALSE(fs::exists(Artifact("o")));
}

TEST_F(ResumeTest, AChangedTextIsRefused) {
  CompressSpec spec = ResumableSpec(Method::kAnchored, "o");
  ASSERT_TRUE(absl::IsAborted(RunUntil(spec, 2)));
  std::string text;
  for (int i = 0; i < 400; ++i) text += "Another line, " + std::to_string(i * 7) + ".\n";
  dir_.Write("text.txt", text);
  spec.attempt = 2;
  const absl::Status status = Run(spec).status();
  EXPECT_EQ(ErrorReason(status), kCheckpointMismatch) << status;
  EXPECT_THAT(std::string(status.message()), HasSubstr("tokens to calibrate and measure on"));
}

TEST_F(ResumeTest, AnotherNumberOfThreadsStartsOverAndSaysSo) {
  CompressSpec spec = ResumableSpec(Method::kAnchored, "o");
  ASSERT_TRUE(absl::IsAborted(RunUntil(spec, 8)));
  backend_ = NewCpuBackend(2);
  spec.attempt = 2;
  std::vector<std::string> notes;
  RunHooks hooks;
  hooks.note = [&notes](const std::string& text) { notes.push_back(text); };
  const auto result = Run(spec, hooks);
  ASSERT_OK(result);
  EXPECT_EQ(result->resumed_layers, 0);
  ASSERT_EQ(notes.size(), 1u);
  EXPECT_THAT(notes[0], HasSubstr("computed again, because device was cpu"));
}

TEST_F(ResumeTest, TheFirstArtifactPublishedTheOtherTakesItsLayersOver) {
  CompressSpec spec = ResumableSpec(Method::kAnchored, "o");
  const CompressSpec whole = ResumableSpec(Method::kAnchored, "whole");
  ASSERT_OK(Run(whole));
  RunHooks hooks;  // one is renamed into place, and then the process is gone
  hooks.begin_publish = [this] {
    dir_.Write("artifacts/o/keep-0.80/x", "in the way of the second");
    return absl::OkStatus();
  };
  ASSERT_FALSE(Run(spec, hooks).ok());
  fs::remove_all(Artifact("o") + "/keep-0.80");
  ASSERT_TRUE(fs::exists(Artifact("o") + "/keep-0.60"));
  spec.attempt = 2;
  const auto result = Run(spec);
  ASSERT_OK(result);
  EXPECT_EQ(result->resumed_layers, kLayers);
  EXPECT_EQ(Digests("o"), Digests("whole"));
}

TEST_F(ResumeTest, AnEvaluationTakesItsFiguresOver) {
  std::string other;
  for (int i = 0; i < 300; ++i) other += "Number " + std::to_string(i * 3) + " and some more.\n";
  const std::string second = dir_.Write("second.txt", other);
  const auto make = [&](const std::string& output) {
    EvaluateSpec spec;
    spec.job_id = "job-" + output;
    spec.model_dir = spec.model_uri = model_;
    spec.baseline_dir = spec.baseline_uri = model_;
    PerplexitySpec a{"first", {text_}, 32, 6}, b{"second", {second}, 32, 6};
    spec.measure.texts = {a, b};
    spec.output_uri = *store_->ResolveOutput(dir_.File("artifacts/" + output));
    spec.work_dir = dir_.File("work");
    spec.journal_dir = dir_.File("journal-" + output);
    return spec;
  };
  const auto whole = testing::RunEvaluate(make("whole"), *backend_, *store_, {});
  ASSERT_OK(whole);
  for (int records = 1; records <= 4; ++records) {
    SCOPED_TRACE(records);
    EvaluateSpec spec = make("again-" + std::to_string(records));
    int left = records;
    RunHooks hooks;
    hooks.kept = [&left] { return Killed(--left <= 0); };
    ASSERT_TRUE(absl::IsAborted(testing::RunEvaluate(spec, *backend_, *store_, hooks).status()));
    spec.attempt = 2;
    int again = 0;
    hooks.kept = [&again] {
      ++again;
      return absl::OkStatus();
    };
    const auto result = testing::RunEvaluate(spec, *backend_, *store_, hooks);
    ASSERT_OK(result);
    EXPECT_EQ(again, 4 - records) << "what was measured is not measured again";
    for (size_t i = 0; i < 2; ++i) {
      EXPECT_EQ(result->model.figures.perplexities[i].perplexity,
                whole->model.figures.perplexities[i].perplexity);
      EXPECT_EQ(result->comparisons[i].std_error, whole->comparisons[i].std_error);
    }
  }
}

TEST_F(ResumeTest, APlanHasRoomForIt) {
  CompressSpec spec = ResumableSpec(Method::kAnchored, "o");
  const auto plan = testing::PlanCompress(spec);
  ASSERT_OK(plan);
  int64_t most = 0;
  RunHooks hooks;
  hooks.kept = [&] {
    int64_t bytes = 0;
    for (const auto& entry : fs::recursive_directory_iterator(dir_.path())) {
      const std::string path = entry.path();
      const bool counts =
          path.find("/journal-o/") != path.npos || path.find("staging") != path.npos;
      if (counts && entry.is_regular_file()) bytes += static_cast<int64_t>(entry.file_size());
    }
    most = std::max(most, bytes);
    return absl::OkStatus();
  };
  ASSERT_OK(Run(spec, hooks));
  EXPECT_GT(most, 0);
  EXPECT_LE(most, plan->scratch_bytes);
}

}  // namespace
}  // namespace svdllm
