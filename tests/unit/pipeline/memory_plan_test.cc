// The plan's memory against the run's, and what a shortage of it changes (nothing but the time).
#include "pipeline/memory_plan.h"

#include <gmock/gmock.h>

#include <filesystem>
#include <nlohmann/json.hpp>

#include "artifact/writer.h"
#include "base/format.h"
#include "compress/allocate.h"
#include "compress/layers.h"
#include "corpus/calibration.h"
#include "pipeline/plan.h"
#include "pipeline/publish.h"
#include "tests/support/job_fixture.h"
#include "tests/support/packed.h"
#include "tokenizer/tokenizer.h"

namespace svdllm {
namespace {

constexpr int64_t kGiB = int64_t{1} << 30;
// What the CPU backend says that it holds.
constexpr CountingOptions kHost{.on_device = false};

class MemoryPlanTest : public JobFixture {
 protected:
  void SetUp() override {
    JobFixture::SetUp();
    // Large enough that matrices outweigh what is rounded up around them.
    testing::TinyCheckpointOptions options;
    options.hidden_size = 48;
    options.intermediate_size = 120;
    options.num_layers = 4;
    options.num_kv_heads = 1;
    options.head_dim = 12;
    testing::WriteTinyCheckpoint(model_, options);
  }

  // The digests of the weights, one per keep ratio.
  std::vector<std::string> WeightsWith(const CompressJob& job, const Placement& placement,
                                       const std::string& name) {
    const auto& [spec, checkpoint, linears] = job;
    const Tokenizer tokenizer = *Tokenizer::Load(model_);
    const CalibrationData data =
        *DrawCalibration(spec.calibration, 0, tokenizer, checkpoint.config());
    const RunHooks hooks;
    Progress progress(hooks, 1, checkpoint.config().num_layers);
    const CompressRun run{spec,      checkpoint, linears,  data.calibration,
                          *backend_, progress,   placement};
    const auto ranks = AllocateRanks(run);
    EXPECT_OK(ranks);
    std::vector<ArtifactWriter> writers;
    for (size_t i = 0; i < ranks->size(); ++i) {
      const std::string dir = dir_.File(name + std::to_string(i));
      std::filesystem::create_directories(dir);
      writers.push_back(*ArtifactWriter::Create(checkpoint, linears, spec, spec.keep_ratios[i],
                                                (*ranks)[i], dir));
    }
    std::vector<FactorSink> sinks;
    for (ArtifactWriter& writer : writers) sinks.push_back(SinkOf(writer));
    EXPECT_OK(CompressLayers(run, sinks));
    std::vector<std::string> digests;
    for (ArtifactWriter& writer : writers) {
      EXPECT_OK(writer.FinishWeights());
      digests.push_back(DigestOfFile(writer.dir() + "/model-00001-of-00001.safetensors")->sha256);
    }
    return digests;
  }
};

TEST_F(MemoryPlanTest, CountsWhatARunTakes) {
  double worst = 0;
  for (const MethodRow& row : Methods()) {
    const Method method = row.method;
    for (const Encoding encoding : {Encoding::kPlain, Encoding::kPivoted}) {
      for (const Allocation allocation : {Allocation::kUniform, Allocation::kKlProbe}) {
        CompressSpec spec = Spec("run" + std::to_string(static_cast<int>(method)) +
                                 std::to_string(static_cast<int>(encoding)) +
                                 std::to_string(static_cast<int>(allocation)));
        spec.method = method;
        spec.encoding = encoding;
        spec.allocation = allocation;
        spec.keep_ratios = {0.6, 0.8};
        spec.evaluate_held_out = encoding == Encoding::kPlain;  // it outweighs the rest here
        backend_ = NewCpuBackend(1);
        ASSERT_OK(Run(spec));
        const auto counted = CountPeak(*Resolve(spec), {}, kHost);
        ASSERT_OK(counted);
        const double ratio =
            static_cast<double>(*counted) / static_cast<double>(backend_->Memory().peak);
        EXPECT_NEAR(ratio, 1, 0.15) << spec.output_uri;
        worst = std::max(worst, std::abs(ratio - 1));
      }
    }
  }
  std::printf("counted memory: at most %.1f %% from a run's\n", 100 * worst);
}

TEST_F(MemoryPlanTest, CountsAModelThatIsHeldWhole) {
  CompressSpec spec = Spec("fast");
  spec.measure.throughput.batch_sizes = {2, 32};
  spec.measure.throughput.prompt_tokens = 100;
  spec.measure.throughput.new_tokens = 8;
  const auto result = Run(spec);
  ASSERT_OK(result);
  const auto counted = CountPeak(*Resolve(spec), {}, kHost);
  ASSERT_OK(counted);
  const int64_t peak = result->before.throughputs[1].peak_memory_bytes;
  EXPECT_NEAR(static_cast<double>(*counted) / static_cast<double>(peak), 1, 0.15);
}

TEST_F(MemoryPlanTest, CountsAnEvaluation) {
  CompressSpec compression = Spec("artifact");
  compression.encoding = Encoding::kPivoted;
  ASSERT_OK(Run(compression));
  EvaluateSpec spec;
  spec.model_dir = spec.model_uri = Artifact("artifact");
  spec.baseline_dir = spec.baseline_uri = model_;
  PerplexitySpec text;
  text.name = "text";
  text.text.path = text_;
  text.seq_len = 64;
  spec.measure.texts = {text};
  for (const std::vector<int64_t>& batches : {std::vector<int64_t>{}, std::vector<int64_t>{4}}) {
    spec.measure.throughput.batch_sizes = batches;
    spec.measure.throughput.prompt_tokens = 90;
    spec.measure.throughput.new_tokens = 8;
    spec.measure.throughput.repetitions = 1;
    const auto plan = testing::PlanEvaluate(spec);
    ASSERT_OK(plan);
    // A backend with as much as that is enough, and a little less is not.
    const int64_t counted = PlanMemory(*Resolve(spec), {})->peak_bytes;
    EXPECT_GT(plan->host.anonymous, counted);
    EXPECT_EQ(plan->host.mapped, plan->weight_bytes + plan->baseline_weight_bytes);
    backend_ = NewCpuBackend(1, counted);
    ASSERT_OK(testing::RunEvaluate(spec, *backend_, *store_, {}));
    EXPECT_NEAR(static_cast<double>(counted), static_cast<double>(backend_->Memory().peak),
                0.15 * static_cast<double>(counted))
        << batches.size();
    backend_ = NewCpuBackend(1, counted - 1);
    EXPECT_STATUS(testing::RunEvaluate(spec, *backend_, *store_, {}), kResourceExhausted,
                  kHostOutOfMemory, {"this evaluation takes"});
    EXPECT_EQ(backend_->Memory().peak, 0) << "refused before anything was computed";
  }
  EXPECT_STATUS(testing::PlanEvaluate(spec, {.on_device = true, .memory_bytes = 1000}),
                kResourceExhausted, kDeviceOutOfMemory, {"device memory"});
  const auto plan = testing::PlanEvaluate(spec, {.on_device = true, .memory_bytes = kGiB});
  ASSERT_OK(plan);
  EXPECT_GT(plan->peak_device_bytes, 0);
  EXPECT_GT(plan->baseline_parameters, plan->parameters);
}

TEST_F(MemoryPlanTest, ACompressedTextIsPlannedForWhatItHolds) {
  EvaluateSpec spec;
  spec.model_dir = spec.model_uri = model_;
  PerplexitySpec text;
  text.name = "text";
  text.text.path = text_;
  text.seq_len = 64;
  spec.measure.texts = {text};
  const auto plain = testing::PlanEvaluate(spec);
  spec.measure.texts[0].text.path = dir_.Write("text.txt.gz", testing::Gzip(*ReadFile(text_)));
  const auto compressed = testing::PlanEvaluate(spec);
  ASSERT_OK(plain);
  ASSERT_OK(compressed);
  EXPECT_GE(compressed->host.anonymous, plain->host.anonymous);
}

TEST_F(MemoryPlanTest, ManyTokensAreNotGoneThrough) {
  CompressSpec spec = Spec("many");
  spec.calibration.samples = 1 << 20;
  spec.calibration.seq_len = 128;
  const CompressJob job = *Resolve(spec);
  const auto start = std::chrono::steady_clock::now();
  const auto plan = PlanMemory(job, {.on_device = true, .memory_bytes = kGiB});
  ASSERT_OK(plan);
  EXPECT_TRUE(plan->placement.host_streams);
  EXPECT_EQ(plan->stream_bytes, int64_t{4} * 48 * 128 << 20);
  EXPECT_LT(std::chrono::steady_clock::now() - start, std::chrono::seconds(20));
}

TEST_F(MemoryPlanTest, PlacementDoesNotChangeTheWeights) {
  for (const Method method : {Method::kSvdLlm, Method::kSvdLlmUpdate, Method::kAnchored}) {
    CompressSpec spec = Spec("x");
    spec.method = method;
    spec.keep_ratios = {0.8, 0.5};
    if (method == Method::kAnchored) {
      spec.allocation = Allocation::kKlProbe;
      spec.encoding = Encoding::kPivoted;
    }
    const CompressJob job = *Resolve(spec);
    const std::string name = std::to_string(static_cast<int>(method));
    const std::vector<std::string> expected = WeightsWith(job, {}, name + "plain");
    EXPECT_NE(expected[0], expected[1]);
    EXPECT_EQ(WeightsWith(job, {.host_streams = true}, name + "host"), expected);
    EXPECT_EQ(WeightsWith(job, {.overlap = true}, name + "overlap"), expected);
    EXPECT_EQ(WeightsWith(job, {.host_streams = true, .overlap = true}, name + "both"), expected);
    EXPECT_EQ(WeightsWith(job, {.host_streams = true, .one_matrix = true}, name + "one"), expected);
  }
}

TEST_F(MemoryPlanTest, FitsALimitOrSaysWhatItTakes) {
  const CompressSpec spec = Spec("x");
  const int64_t roomy = *CountPeak(*Resolve(spec), {}, kHost);
  const int64_t frugal = *CountPeak(*Resolve(spec), {.one_matrix = true}, kHost);
  ASSERT_LT(frugal, roomy);
  backend_ = NewCpuBackend(1, (frugal + roomy) / 2);
  ASSERT_OK(Run(spec));
  EXPECT_LE(backend_->Memory().peak, (frugal + roomy) / 2);

  backend_ = NewCpuBackend(1, frugal / 2);
  CompressSpec refused = Spec("refused");
  EXPECT_STATUS(Run(refused), kResourceExhausted, kHostOutOfMemory,
                {model_, "laid out to take little"});
  EXPECT_FALSE(std::filesystem::exists(Artifact("refused")));
  EXPECT_STATUS(testing::PlanCompress(refused, {.on_device = true, .memory_bytes = 1000}),
                kResourceExhausted, kDeviceOutOfMemory, {model_, "device memory"});
  const auto plan = testing::PlanCompress(refused, {.on_device = true, .memory_bytes = kGiB});
  ASSERT_OK(plan);
  EXPECT_GT(plan->peak_device_bytes, roomy);
  EXPECT_EQ(testing::PlanCompress(refused)->peak_device_bytes, 0);
}

TEST_F(MemoryPlanTest, WhatMustFitIsComparedWithTheHost) {
  const CompressSpec spec = Spec("host");
  const auto on_host = [&spec](int64_t bytes) {
    return testing::PlanCompress(spec, {.host_memory_bytes = bytes});
  };
  const auto unbounded = on_host(0);
  ASSERT_OK(unbounded);
  EXPECT_EQ(unbounded->host.total, 0);
  EXPECT_TRUE(unbounded->warnings.empty()) << "nobody looked";
  const auto roomy = on_host(64 * kGiB);
  ASSERT_OK(roomy);
  EXPECT_EQ(roomy->host.total, 64 * kGiB);
  EXPECT_EQ(roomy->host.anonymous, unbounded->host.anonymous);
  EXPECT_TRUE(roomy->warnings.empty());
  // Beside the server's own there is no more than the job takes.
  EXPECT_OK(on_host(unbounded->host.anonymous + (int64_t{48} << 20)));
  const auto refused = on_host(unbounded->host.anonymous / 2);
  EXPECT_STATUS(
      refused, kResourceExhausted, kHostOutOfMemory,
      {model_, "of its own of the host's memory", GiB(unbounded->host.anonymous / 2).c_str()});
  EvaluateSpec evaluation;
  evaluation.model_dir = evaluation.model_uri = model_;
  evaluation.measure.texts = {{"text", {text_}}};
  EXPECT_OK(testing::PlanEvaluate(evaluation, {.host_memory_bytes = kGiB}));
  EXPECT_STATUS(testing::PlanEvaluate(evaluation, {.host_memory_bytes = 1 << 20}),
                kResourceExhausted, kHostOutOfMemory, {model_, "this evaluation"});
  // Of a device's job, what stays on the host must fit too.
  EXPECT_STATUS(testing::PlanCompress(spec, {.on_device = true, .host_memory_bytes = 1 << 20}),
                kResourceExhausted, kHostOutOfMemory, {model_});
}

// A frugal placement is taken where only that fits the host.
TEST_F(MemoryPlanTest, TheHostsMemoryDecidesThePlacementToo) {
  const CompressJob job = *Resolve(Spec("frugal"));
  const MemoryPlan roomy = *PlanMemory(job, {});
  EXPECT_FALSE(roomy.placement.one_matrix);
  const auto frugal =
      PlanMemory(job, {.host_memory_bytes = roomy.host.anonymous + (int64_t{48} << 20) - 1});
  ASSERT_OK(frugal);
  EXPECT_TRUE(frugal->placement.one_matrix);
  EXPECT_LT(frugal->host.anonymous, roomy.host.anonymous);
}

TEST(MemoryWarnings, AreGivenWhereItIsTight) {
  EXPECT_TRUE(MemoryWarnings({100, 900, 0}).empty());
  EXPECT_TRUE(MemoryWarnings({100, 900, 1000}).empty());
  EXPECT_EQ(MemoryWarnings({100, 901, 1000}).size(), 1u);  // pages do not fit beside it
  EXPECT_TRUE(MemoryWarnings({800, 0, 1000}).empty());
  EXPECT_EQ(MemoryWarnings({801, 0, 1000}).size(), 1u);
  const std::string text = MemoryWarnings({24'000'000'000, 13'500'000'000, 25'300'000'000}).front();
  EXPECT_THAT(text, ::testing::HasSubstr("37.5 GB of 25.3 GB"));
  EXPECT_THAT(text, ::testing::HasSubstr("24.0 GB of the job's own and 13.5 GB"));
}

// A checkpoint of a published shape whose weights are a hole in a file.
void WriteHollow(const std::string& dir, int64_t hidden, int64_t intermediate, int64_t layers,
                 int64_t heads, int64_t kv_heads) {
  std::filesystem::create_directories(dir);
  nlohmann::json header;
  int64_t end = 0;
  const auto add = [&](const std::string& name, std::vector<int64_t> shape) {
    int64_t bytes = 2;
    for (const int64_t n : shape) bytes *= n;
    header[name] = {{"dtype", "BF16"}, {"shape", shape}, {"data_offsets", {end, end + bytes}}};
    end += bytes;
  };
  const int64_t kv = hidden / heads * kv_heads;
  add("model.embed_tokens.weight", {32000, hidden});
  for (int64_t layer = 0; layer < layers; ++layer) {
    const std::string prefix = "model.layers." + std::to_string(layer) + ".";
    add(prefix + "input_layernorm.weight", {hidden});
    add(prefix + "post_attention_layernorm.weight", {hidden});
    add(prefix + "self_attn.q_proj.weight", {hidden, hidden});
    add(prefix + "self_attn.k_proj.weight", {kv, hidden});
    add(prefix + "self_attn.v_proj.weight", {kv, hidden});
    add(prefix + "self_attn.o_proj.weight", {hidden, hidden});
    add(prefix + "mlp.gate_proj.weight", {intermediate, hidden});
    add(prefix + "mlp.up_proj.weight", {intermediate, hidden});
    add(prefix + "mlp.down_proj.weight", {hidden, intermediate});
  }
  add("model.norm.weight", {hidden});
  add("lm_head.weight", {32000, hidden});
  std::string text = header.dump();
  text.resize((text.size() + 7) / 8 * 8, ' ');
  const auto length = static_cast<uint64_t>(text.size());
  const std::string prefix(reinterpret_cast<const char*>(&length), sizeof(length));
  const std::string path = dir + "/model.safetensors";
  ASSERT_OK(WriteFileAtomic(path, prefix + text));
  std::filesystem::resize_file(path, prefix.size() + text.size() + static_cast<uint64_t>(end));
  const nlohmann::json config = {{"model_type", "llama"},
                                 {"hidden_size", hidden},
                                 {"intermediate_size", intermediate},
                                 {"num_hidden_layers", layers},
                                 {"num_attention_heads", heads},
                                 {"num_key_value_heads", kv_heads},
                                 {"vocab_size", 32000},
                                 {"max_position_embeddings", 4096},
                                 {"rms_norm_eps", 1e-5},
                                 {"torch_dtype", "bfloat16"}};
  ASSERT_OK(WriteFileAtomic(dir + "/config.json", config.dump()));
}

// The published promise: LLaMA-7B in 16 GB of device memory, 70B in 24 GB, with 256 × 2048 tokens.
TEST_F(MemoryPlanTest, PublishedShapesFitTheirDevices) {
  struct Case {
    const char* name;
    int64_t hidden, intermediate, layers, heads, kv_heads, device_bytes;
  };
  for (const Case& shape : {Case{"7b", 4096, 11008, 32, 32, 32, 16'000'000'000},
                            Case{"70b", 8192, 28672, 80, 64, 8, 24'000'000'000}}) {
    const std::string dir = dir_.File(shape.name);
    WriteHollow(dir, shape.hidden, shape.intermediate, shape.layers, shape.heads, shape.kv_heads);
    for (const char* file : {"/tokenizer.json", "/tokenizer_config.json"}) {
      std::filesystem::copy_file(model_ + file, dir + file);
    }
    for (const Method method : {Method::kSvdLlm, Method::kSvdLlmUpdate, Method::kAnchored}) {
      CompressSpec spec = Spec("x");
      spec.model_dir = spec.model_uri = dir;
      spec.method = method;
      spec.keep_ratios = {0.8};
      spec.calibration.samples = 256;
      spec.calibration.seq_len = 2048;
      if (method == Method::kAnchored) {
        spec.encoding = Encoding::kPivoted;
        spec.allocation = Allocation::kKlProbe;
      }
      // What the server leaves the driver and the libraries.
      const int64_t usable = shape.device_bytes - kGiB * 5 / 4;
      const auto start = std::chrono::steady_clock::now();
      const auto plan = testing::PlanCompress(spec, {.on_device = true, .memory_bytes = usable});
      const double seconds =
          std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
      EXPECT_OK(plan);
      if (!plan.ok()) continue;
      EXPECT_LE(plan->peak_device_bytes, usable);
      std::printf("%s, method %d: %.2f GiB of device memory, planned in %.2f s\n", shape.name,
                  static_cast<int>(method),
                  static_cast<double>(plan->peak_device_bytes) / static_cast<double>(kGiB),
                  seconds);
    }
  }
}

}  // namespace
}  // namespace svdllm
