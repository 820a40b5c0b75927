#include <cmath>
#include <limits>
#include <nlohmann/json.hpp>

#include "artifact/writer.h"
#include "checkpoint/checkpoint.h"
#include "pipeline/publish.h"
#include "tests/support/job_fixture.h"

namespace svdllm {
namespace {

nlohmann::json JsonOf(const std::string& path) { return nlohmann::json::parse(*ReadFile(path)); }

class CompressTest : public JobFixture {
 protected:
  void Overwrite(const std::string& tensor, float value) {
    const auto file = SafetensorsFile::Open(model_ + "/model.safetensors");
    ASSERT_OK(file);
    std::vector<TensorSpec> specs;
    for (const std::string& name : file->Names()) {
      const TensorView view = *file->Get(name);
      specs.push_back({name, view.dtype, view.shape});
    }
    auto writer = SafetensorsWriter::Create(dir_.File("changed"), specs);
    ASSERT_OK(writer);
    for (const TensorSpec& spec : specs) {
      const TensorView view = *file->Get(spec.name);
      std::vector<std::byte> bytes(view.bytes.begin(), view.bytes.end());
      if (spec.name == tensor) std::memcpy(bytes.data(), &value, sizeof(value));
      ASSERT_OK(writer->Write(spec.name, bytes));
    }
    ASSERT_OK(writer->Finish());
    ASSERT_OK(CopyFile(dir_.File("changed"), model_ + "/model.safetensors"));
  }
};

TEST_F(CompressTest, PublishesACheckpointThatLoadsAndIsListedInItsManifest) {
  const auto result = Run(Spec("a"));
  ASSERT_OK(result);
  ASSERT_EQ(result->artifacts.size(), 1u);
  const ArtifactResult& artifact = result->artifacts[0];
  const auto checkpoint = Checkpoint::Open(Artifact("a"));
  ASSERT_OK(checkpoint);
  EXPECT_EQ(checkpoint->config().model_type, "lowrank_llama");
  EXPECT_EQ(checkpoint->parameters(), artifact.parameters);
  EXPECT_EQ(checkpoint->weight_bytes(), artifact.weight_bytes);
  EXPECT_LE(artifact.compressed_parameters, result->target_parameters / 2);
  EXPECT_EQ(artifact.matrices.size(), 14u);

  const nlohmann::json manifest = JsonOf(Artifact("a/compression_manifest.json"));
  EXPECT_EQ(testing::ListDir(Artifact("")), "a") << "nothing is left of the staging";
  size_t files = 0;
  for (const auto& [name, entry] : manifest["files"].items()) {
    EXPECT_EQ(entry["sha256"], DigestOfFile(Artifact("a/" + name))->sha256) << name;
    ++files;
  }
  for (const char* name : {"config.json", "model-00001-of-00001.safetensors", "README.md",
                           "model.safetensors.index.json", "tokenizer.json", "modeling_svdllm.py",
                           "configuration_svdllm.py", "compression_report.json"}) {
    EXPECT_TRUE(manifest["files"].contains(name)) << name;
  }
  EXPECT_EQ(Sha256(*ReadFile(Artifact("a/compression_manifest.json"))), artifact.manifest_sha256);
  EXPECT_EQ(*ReadFile(Artifact("a/tokenizer.json")), *ReadFile(model_ + "/tokenizer.json"));

  // Every source key is still there.
  const nlohmann::json source = JsonOf(model_ + "/config.json"),
                       config = JsonOf(Artifact("a/config.json"));
  for (const auto& [key, value] : source.items()) {
    if (key == "model_type" || key == "architectures") continue;
    EXPECT_EQ(config[key], value) << key;
  }
  // Measured, before and after, on what calibration did not see.
  ASSERT_EQ(artifact.figures.perplexities.size(), 1u);
  EXPECT_EQ(result->before.perplexities[0].name, "held_out_perplexity");
  EXPECT_GT(artifact.figures.perplexities[0].perplexity, 1);
  EXPECT_NE(ReadFile(Artifact("a/README.md"))->find("held_out_perplexity"), std::string::npos);
}

TEST_F(CompressTest, TheSameRequestGivesTheSameBytesAndAnotherSeedDoesNot) {
  ASSERT_OK(Run(Spec("a")));
  ASSERT_OK(Run(Spec("b")));
  CompressSpec other = Spec("c");
  other.calibration.seed = 4;
  ASSERT_OK(Run(other));
  const char* shard = "/model-00001-of-00001.safetensors";
  EXPECT_EQ(DigestOfFile(Artifact("a") + shard)->sha256,
            DigestOfFile(Artifact("b") + shard)->sha256);
  EXPECT_NE(DigestOfFile(Artifact("a") + shard)->sha256,
            DigestOfFile(Artifact("c") + shard)->sha256);
}

TEST_F(CompressTest, SeveralRatiosEqualSingleOnes) {
  // A retry that finds one of two artifacts published computes the other alone.
  for (const Method method : {Method::kSvdLlm, Method::kSvdLlmUpdate, Method::kAnchored}) {
    const std::string name = MethodName(method);
    CompressSpec both = Spec(name), one = Spec(name + "-one");
    both.method = one.method = method;
    if (method == Method::kAnchored) {
      both.encoding = one.encoding = Encoding::kPivoted;
      both.allocation = one.allocation = Allocation::kKlProbe;
    }
    both.keep_ratios = {0.5, 0.7};
    one.keep_ratios = {0.5};
    const auto result = Run(both);
    ASSERT_OK(result);
    ASSERT_OK(Run(one));
    EXPECT_EQ(result->artifacts[0].keep_ratio, 0.7) << "resolved to decreasing order";
    EXPECT_EQ(testing::ListDir(Artifact(name)), "keep-0.50 keep-0.70");
    const char* shard = "/model-00001-of-00001.safetensors";
    EXPECT_EQ(DigestOfFile(Artifact(name + "/keep-0.50") + shard)->sha256,
              DigestOfFile(Artifact(name + "-one") + shard)->sha256);
    EXPECT_LT(result->artifacts[0].figures.perplexities[0].windows, 20);
  }
}

// Methods, allocations, encodings and formats combine freely, and none keeps more than it may.
TEST_F(CompressTest, EveryCombinationRuns) {
  for (const MethodRow& method : Methods()) {
    for (const Allocation allocation : {Allocation::kUniform, Allocation::kV2, Allocation::kDRank,
                                        Allocation::kRelativeTails, Allocation::kKlProbe}) {
      for (const Encoding encoding : {Encoding::kPlain, Encoding::kPivoted}) {
        for (const OutputFormat format : {OutputFormat::kFactored, OutputFormat::kDense}) {
          const std::string name = std::string(method.name) + "-" + AllocationName(allocation) +
                                   "-" + EncodingName(encoding) + "-" + OutputFormatName(format);
          SCOPED_TRACE(name);
          CompressSpec spec = Spec(name);
          spec.method = method.method;
          spec.allocation = allocation;
          spec.encoding = encoding;
          spec.output_format = format;
          const auto result = Run(spec);
          ASSERT_OK(result);
          const ArtifactResult& artifact = result->artifacts[0];
          const auto checkpoint = Checkpoint::Open(Artifact(name));
          ASSERT_OK(checkpoint);
          const bool factored = format == OutputFormat::kFactored;
          EXPECT_EQ(checkpoint->config().is_low_rank(), factored);
          EXPECT_LE(artifact.compressed_parameters,
                    factored ? result->target_parameters / 2 : result->target_parameters);
          EXPECT_EQ(checkpoint->parameters(), artifact.parameters);
          EXPECT_GT(artifact.figures.perplexities[0].perplexity, 1);
          const nlohmann::json report = JsonOf(Artifact(name + "/compression_report.json"));
          EXPECT_EQ(report["encoding"], EncodingName(encoding));
          EXPECT_EQ(report["allocation"], AllocationName(allocation));
        }
      }
    }
  }
}

TEST_F(CompressTest, DenseOutputComputesWhatTheFactorsCompute) {
  CompressSpec factored = Spec("f"), dense = Spec("d");
  dense.output_format = OutputFormat::kDense;
  const auto a = Run(factored), b = Run(dense);
  ASSERT_OK(a);
  ASSERT_OK(b);
  EXPECT_NEAR(a->artifacts[0].figures.perplexities[0].perplexity,
              b->artifacts[0].figures.perplexities[0].perplexity, 1e-3);
  EXPECT_EQ(*ReadFile(Artifact("d/config.json")), *ReadFile(model_ + "/config.json"));
  EXPECT_EQ(b->artifacts[0].weight_bytes, b->weight_bytes);
}

TEST_F(CompressTest, KeepingEverythingChangesNothing) {
  CompressSpec spec = Spec("all");
  spec.keep_ratios = {1.0};
  const auto result = Run(spec);
  ASSERT_OK(result);
  EXPECT_EQ(result->artifacts[0].figures.perplexities[0].perplexity,
            result->before.perplexities[0].perplexity);
  EXPECT_EQ(result->artifacts[0].parameters, result->parameters);
}

TEST_F(CompressTest, BiasesStayAndHalfPrecisionReportsWhatRoundingCosts) {
  testing::TinyCheckpointOptions options;
  options.attention_bias = options.mlp_bias = true;
  options.dtype = DType::kBF16;
  options.shards = 3;
  model_ = dir_.File("bf16");
  testing::WriteTinyCheckpoint(model_, options);
  const auto result = Run(Spec("b"));
  ASSERT_OK(result);
  const auto checkpoint = Checkpoint::Open(Artifact("b"));
  ASSERT_OK(checkpoint);
  const auto bias = checkpoint->Tensor("model.layers.1.mlp.down_proj.low_rank_b.bias");
  ASSERT_OK(bias);
  const auto dense = Checkpoint::Open(model_);
  const auto source = dense->Tensor("model.layers.1.mlp.down_proj.bias");
  EXPECT_EQ(std::memcmp(bias->bytes.data(), source->bytes.data(), bias->bytes.size()), 0);
  EXPECT_EQ(checkpoint->Tensor("model.layers.0.self_attn.q_proj.low_rank_a.weight")->dtype,
            DType::kBF16);
  double worst = 0;
  for (const MatrixReport& matrix : result->artifacts[0].matrices) {
    EXPECT_GT(matrix.rounding_excess, -1e-3) << matrix.name;
    worst = std::max(worst, matrix.rounding_excess);
  }
  EXPECT_GT(worst, 1e-8) << "bf16 costs something";
  EXPECT_LT(worst, 0.05);
}

TEST_F(CompressTest, OneSequenceAndDeadChannelsAreEnough) {
  testing::TinyCheckpointOptions options;
  options.hidden_size = 32;
  options.num_heads = 4, options.head_dim = 8;
  model_ = dir_.File("wider");
  testing::WriteTinyCheckpoint(model_, options);
  for (const MethodRow& row : Methods()) {
    CompressSpec spec = Spec(std::string(row.name));
    spec.method = row.method;
    spec.encoding = row.prefix == Prefix::kRefit ? Encoding::kPlain : Encoding::kPivoted;
    spec.calibration.samples = 1;
    spec.calibration.seq_len = 3;  // three tokens: every Gram matrix is singular
    spec.evaluate_held_out = false;
    const auto result = Run(spec);
    ASSERT_OK(result);
    EXPECT_TRUE(result->before.perplexities.empty());
  }
}

TEST_F(CompressTest, CancellationAtAnyStepPublishesNothing) {
  // Every check of a run in turn is the one that says no.
  int64_t checks = 0;
  RunHooks counting;
  counting.check = [&checks] { return ++checks, absl::OkStatus(); };
  ASSERT_OK(Run(Spec("whole"), counting));
  ASSERT_GT(checks, 20);
  for (int64_t stop = 1; stop <= checks; stop += 7) {
    int64_t seen = 0;
    RunHooks hooks;
    hooks.check = [&seen, stop] {
      return ++seen == stop ? absl::CancelledError("enough") : absl::OkStatus();
    };
    EXPECT_EQ(Run(Spec("cancelled"), hooks).status().code(), absl::StatusCode::kCancelled);
    EXPECT_EQ(testing::ListDir(Artifact("")), "whole") << stop;
  }
  RunHooks fenced;
  fenced.begin_publish = [] { return MakeError(absl::StatusCode::kAborted, kLeaseLost, "lost"); };
  EXPECT_STATUS(Run(Spec("fenced"), fenced), kAborted, kLeaseLost, {"lost"});
  EXPECT_EQ(testing::ListDir(Artifact("")), "whole");
}

TEST_F(CompressTest, ProgressNeverFallsAndNamesStages) {
  for (const Method method : {Method::kSvdLlm, Method::kSvdLlmUpdate, Method::kAnchored}) {
    SCOPED_TRACE(MethodName(method));
    double percent = 0, before_evaluation = 0;
    std::map<std::string, int> stages;
    RunHooks hooks;
    hooks.on_progress = [&](const ProgressEvent& progress) {
      EXPECT_GE(progress.percent, percent);
      percent = progress.percent;
      if (progress.stage == "write") before_evaluation = percent;
      ++stages[progress.stage];
      EXPECT_EQ(progress.layers_total, 2);
      EXPECT_GT(progress.peak_host_bytes, 0);
    };
    CompressSpec spec = Spec("p-" + MethodName(method));
    spec.method = method;
    if (method == Method::kAnchored) {
      spec.encoding = Encoding::kPivoted;
      spec.allocation = Allocation::kKlProbe;
    }
    const auto result = Run(spec, hooks);
    ASSERT_OK(result);
    EXPECT_GT(percent, 99);
    EXPECT_GT(before_evaluation, 20) << "the work itself counts";
    for (const char* stage : {"load", "calibrate", "factorise", "write", "evaluate"}) {
      EXPECT_GT(stages[stage], 0) << stage;
    }
    double seconds = 0;
    for (const StageTime& stage : result->stages) seconds += stage.seconds;
    EXPECT_GT(seconds, 0);
  }
}

TEST_F(CompressTest, WorkThatIsNotNeededCountsAsDone) {
  for (const Method method : {Method::kSvdLlm, Method::kAnchored}) {
    SCOPED_TRACE(MethodName(method));
    CompressSpec spec = Spec("all-" + MethodName(method));
    spec.method = method;
    spec.keep_ratios = {1};
    std::vector<ProgressEvent> events;
    RunHooks hooks;
    hooks.on_progress = [&](const ProgressEvent& progress) { events.push_back(progress); };
    ASSERT_OK(Run(spec, hooks));
    EXPECT_EQ(events.back().percent, 100);
    EXPECT_LT(events.back().eta_seconds, 0);
    EXPECT_GT(events[events.size() - 2].percent, 99) << "before the job is done";
    // An attempt that finds everything published is done as well.
    spec.attempt = 2;
    events.clear();
    ASSERT_OK(Run(spec, hooks));
    ASSERT_FALSE(events.empty());
    EXPECT_EQ(events.back().percent, 100);
  }
}

TEST_F(CompressTest, AnAttemptFindsWhatItsPredecessorPublished) {
  CompressSpec spec = Spec("own");
  spec.keep_ratios = {0.5, 0.7};
  const auto first = Run(spec);
  ASSERT_OK(first);
  // As if the worker had died between the two renames and the store's record.
  ASSERT_EQ(std::system(("rm -r " + Artifact("own/keep-0.50")).c_str()), 0);
  spec.attempt = 2;
  const auto second = Run(spec);
  ASSERT_OK(second);
  ASSERT_EQ(second->artifacts.size(), 2u);
  EXPECT_EQ(second->artifacts[0].manifest_sha256, first->artifacts[0].manifest_sha256);
  EXPECT_EQ(second->artifacts[0].matrices.size(), 14u);
  EXPECT_EQ(testing::ListDir(Artifact("own")), "keep-0.50 keep-0.70");
  const auto third = Run(spec);
  ASSERT_OK(third);
  EXPECT_EQ(third->before.perplexities.size(), 1u);
  EXPECT_EQ(third->before.perplexities[0].seq_len, 64);
  EXPECT_EQ(third->before.perplexities[0].window_start, WindowStart::kText);
  // What it was calibrated on is not forgotten either.
  EXPECT_EQ(third->calibration.sequences, first->calibration.sequences);
  EXPECT_EQ(third->calibration.tokens, first->calibration.tokens);
  EXPECT_EQ(third->calibration.window_start, WindowStart::kText);
  ASSERT_EQ(third->calibration.data.size(), 1u);
  EXPECT_EQ(third->calibration.data[0].uri, text_);
  EXPECT_EQ(third->calibration.data[0].sha256, first->calibration.data.at(0).sha256);
  // Another job's artifact is not ours to take.
  spec.job_id = "other";
  EXPECT_STATUS(Run(spec), kAlreadyExists, kOutputExists, {"keep-0.70"});
}

TEST_F(CompressTest, BadWeightsAreNamed) {
  for (const char* tensor :
       {"model.layers.1.mlp.up_proj.weight", "model.norm.weight", "lm_head.weight"}) {
    testing::WriteTinyCheckpoint(model_);
    Overwrite(tensor, std::nanf(""));
    EXPECT_STATUS(Run(Spec("nan")), kInvalidArgument, kModelCorrupt, {tensor, "NaN"});
  }
  testing::WriteTinyCheckpoint(model_);
  Overwrite("model.layers.0.mlp.up_proj.weight", 3e38f);
  Overwrite("model.layers.0.mlp.gate_proj.weight", 3e38f);
  const auto overflow = Run(Spec("huge"));
  EXPECT_STATUS(overflow, kInternal, kNumericalFailure, {"layer"});
  EXPECT_EQ(testing::ListDir(Artifact("")), "");
}

TEST_F(CompressTest, EveryTextIsMeasuredAndReportedUnderItsNameAndDomain) {
  CompressSpec spec = Spec("texts");
  spec.calibration.sources.push_back({{dir_.Write("other.txt", *ReadFile(text_))}, false, 0.5});
  spec.measure.texts = {{"mine", {text_}, 32, 2}};
  const auto result = Run(spec);
  ASSERT_OK(result);
  const auto named = [](const std::vector<PerplexityResult>& perplexities) {
    std::string text;
    for (const PerplexityResult& p : perplexities) {
      text += p.name + (p.held_out ? " held out, " : " given, ");
    }
    return text;
  };
  const std::string all =
      "held_out_perplexity_text held out, held_out_perplexity_other held out, mine given, ";
  EXPECT_EQ(named(result->before.perplexities), all);
  EXPECT_EQ(named(result->artifacts[0].figures.perplexities), all);
  EXPECT_EQ(result->before.perplexities[2].predicted_tokens, 2 * 31);

  const nlohmann::json report = JsonOf(Artifact("texts/compression_report.json"));
  EXPECT_EQ(report["encoding"], "plain");
  EXPECT_EQ(report["allocation"], "uniform");
  EXPECT_EQ(report["settings"], nlohmann::json({{"rank_multiple", 1}}));
  nlohmann::json sources = nlohmann::json::parse(R"([
                {"weight": 1.0, "text": "text.txt", "packing": "concatenated"},
                {"weight": 0.5, "text": "other.txt", "packing": "concatenated"}])");
  for (nlohmann::json& source : sources) {
    const std::string text = *ReadFile(dir_.File(source["text"].get<std::string>()));
    source.update({{"sha256", Sha256(text)}, {"bytes", text.size()}});
  }
  EXPECT_EQ(report["calibration"]["sources"], sources);
  EXPECT_EQ(report["calibration"]["window_start"], "text");
  EXPECT_EQ(report["after"]["perplexities"][0]["held_out"], true);
  EXPECT_EQ(report["after"]["perplexities"][2]["held_out"], false);
  const std::string card = *ReadFile(Artifact("texts/README.md"));
  for (const char* words : {"| held_out_perplexity_text, in domain (", "| mine (2 windows",
                            "66.7 % `text.txt` and 33.3 % `other.txt`"}) {
    EXPECT_NE(card.find(words), std::string::npos) << words << "\n" << card;
  }
  // As a later attempt of the job reads it back.
  const auto own = ReadOwnArtifact(Artifact("texts"), spec.job_id);
  ASSERT_OK(own);
  EXPECT_EQ(named(own->before.perplexities), all);
  EXPECT_EQ(named(own->artifact.figures.perplexities), all);
}

TEST_F(CompressTest, CalibratesOnWhatTheModelWrites) {
  CompressSpec spec = Spec("own-words");
  spec.calibration.sources = {{{}, true, 2}, {{text_}}};
  std::string said;
  double percent = 0;
  RunHooks hooks;
  hooks.on_progress = [&](const ProgressEvent& progress) {
    EXPECT_GE(progress.percent, percent);
    percent = progress.percent;
    if (progress.stage == "load") said = said.empty() ? progress.message : said;
  };
  const auto result = Run(spec, hooks);
  ASSERT_OK(result);
  EXPECT_GT(percent, 99);
  EXPECT_EQ(said, "sequences 1–4 of 4 of the model's own, token 2 of 64");
  ASSERT_EQ(result->before.perplexities.size(), 1u) << "of the text alone";
  EXPECT_EQ(result->before.perplexities[0].name, "held_out_perplexity");
  EXPECT_NE(ReadFile(Artifact("own-words/README.md"))->find("66.7 % the model's own samples"),
            std::string::npos);
  // Nothing but its own words, twice the same.
  CompressSpec a = Spec("a"), b = Spec("b");
  a.calibration.sources = b.calibration.sources = {{{}, true}};
  ASSERT_OK(Run(a));
  ASSERT_OK(Run(b));
  EXPECT_EQ(DigestOfFile(Artifact("a/model-00001-of-00001.safetensors"))->sha256,
            DigestOfFile(Artifact("b/model-00001-of-00001.safetensors"))->sha256);

  RunHooks stop;
  int64_t checks = 0;
  stop.check = [&checks] {
    return ++checks == 10 ? absl::CancelledError("enough") : absl::OkStatus();
  };
  spec = Spec("cancelled");
  spec.calibration.sources = {{{}, true}};
  EXPECT_EQ(Run(spec, stop).status().code(), absl::StatusCode::kCancelled);
  EXPECT_EQ(checks, 10) << "at the tenth token";
}

TEST_F(CompressTest, BadTextIsNamed) {
  CompressSpec spec = Spec("t");
  std::string& path = spec.calibration.sources[0].text.path;
  path = dir_.Write("empty.txt", " \n\n");
  EXPECT_STATUS(Run(spec), kInvalidArgument, kCalibrationInvalid, {"empty.txt", "no text"});
  path = dir_.Write("short.txt", "few");
  EXPECT_STATUS(Run(spec), kInvalidArgument, kCalibrationInvalid, {"short.txt", "4 tokens", "64"});
  path = dir_.File("none.txt");
  EXPECT_STATUS(Run(spec), kNotFound, kCalibrationInvalid, {"none.txt"});
  EXPECT_EQ(testing::ListDir(Artifact("")), "");
}

}  // namespace
}  // namespace svdllm
