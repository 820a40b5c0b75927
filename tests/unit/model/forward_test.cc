#include "model/forward.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <memory>
#include <span>
#include <vector>

#include "tests/support/status_matchers.h"
#include "tests/support/temp_dir.h"
#include "tests/support/tiny_checkpoint.h"

namespace svdllm {
namespace {

using testing::TempDir;
using testing::TinyCheckpointOptions;
using testing::WriteTinyCheckpoint;

template <typename T>
std::vector<T> Get(Backend& backend, MatrixRef x) {
  std::vector<T> values(static_cast<size_t>(x.size()));
  EXPECT_OK(backend.Download(x, values.data(), sizeof(T) == 8 ? DType::kF64 : x.dtype));
  return values;
}

// W [out, in] of a pivoted linear by its definition, in double.
std::vector<double> Product(Backend& backend, const Linear& linear) {
  const int64_t rank = linear.a.rows(), in = linear.a.cols(), out = linear.order.cols();
  const std::vector<double> a = Get<double>(backend, linear.a), t = Get<double>(backend, linear.b);
  std::vector<int32_t> order = Get<int32_t>(backend, linear.order);
  for (int32_t& place : order) {
    if (place >= rank) place -= static_cast<int32_t>(AlignedCols(rank) - rank);
  }
  std::vector<double> stacked = a;
  stacked.resize(static_cast<size_t>(out * in));
  for (int64_t i = rank; i < out; ++i) {
    for (int64_t j = 0; j < in; ++j) {
      double sum = 0;
      for (int64_t l = 0; l < rank; ++l) {
        sum += t[static_cast<size_t>((i - rank) * rank + l)] * a[static_cast<size_t>(l * in + j)];
      }
      stacked[static_cast<size_t>(i * in + j)] = sum;
    }
  }
  std::vector<double> w(stacked.size());
  for (int64_t i = 0; i < out; ++i) {
    const auto from = stacked.begin() + order[static_cast<size_t>(i)] * in;
    std::copy(from, from + in, w.begin() + i * in);
  }
  return w;
}

// Every linear of both blocks pivoted, one of them with all of its rows.
TinyCheckpointOptions PivotedOptions() {
  TinyCheckpointOptions options;
  options.pivoted = true;
  options.attention_bias = options.mlp_bias = true;
  for (int64_t layer = 0; layer < options.num_layers; ++layer) {
    const std::string prefix = "model.layers." + std::to_string(layer);
    options.ranks[prefix + ".self_attn.q_proj"] = 5 + layer;
    options.ranks[prefix + ".self_attn.k_proj"] = 8;
    options.ranks[prefix + ".self_attn.v_proj"] = 1;
    options.ranks[prefix + ".self_attn.o_proj"] = 15;
    options.ranks[prefix + ".mlp.gate_proj"] = 16;
    options.ranks[prefix + ".mlp.up_proj"] = 9;
    options.ranks[prefix + ".mlp.down_proj"] = 7;
  }
  return options;
}

TEST(Forward, PivotedLinearsAreTheirProducts) {
  TempDir dir;
  const TinyCheckpointOptions options = PivotedOptions();
  WriteTinyCheckpoint(dir.path(), options);
  const auto checkpoint = Checkpoint::Open(dir.path());
  ASSERT_OK(checkpoint);
  const std::unique_ptr<Backend> backend = NewCpuBackend();

  const std::vector<int64_t> offsets = {0, 1, 6, 40};
  std::vector<int32_t> ids(40);
  for (size_t t = 0; t < ids.size(); ++t) ids[t] = static_cast<int32_t>(t * 31 % 256);
  Matrix x = *backend->New(40, options.hidden_size, DType::kF32);
  Matrix y = *backend->New(40, options.hidden_size, DType::kF32);
  ASSERT_OK(Embed(*checkpoint, ids, Positions(offsets), *backend, x));
  ASSERT_OK(backend->Copy(x, y));

  Forward pivoted(checkpoint->config(), checkpoint->arch(), *backend);
  Forward dense(checkpoint->config(), checkpoint->arch(), *backend);
  for (int64_t layer = 0; layer < options.num_layers; ++layer) {
    auto block = LoadBlock(*checkpoint, layer, *backend);
    ASSERT_OK(block);
    Block whole = *block;
    for (Linear& linear : whole.linears) {
      ASSERT_TRUE(linear.pivoted());
      const std::vector<double> w = Product(*backend, linear);
      Linear replaced;
      replaced.w = *backend->New(linear.order.cols(), linear.a.cols(), DType::kF32);
      ASSERT_OK(backend->Upload(w.data(), DType::kF64, replaced.w));
      replaced.bias = linear.bias;
      ASSERT_FALSE(replaced.bias.empty());
      linear = replaced;
    }
    std::vector<std::vector<float>> seen[2];
    const auto observer = [&](int which) {
      return BlockObserver{.input = {},
                           .output = [&seen, &backend, which](LinearId, MatrixRef out) {
                             seen[which].push_back(Get<float>(*backend, out));
                             return absl::OkStatus();
                           }};
    };
    ASSERT_OK(pivoted.RunBlock(*block, offsets, x, observer(0)));
    ASSERT_OK(dense.RunBlock(whole, offsets, y, observer(1)));
    ASSERT_EQ(seen[0].size(), static_cast<size_t>(kNumLinears));
    for (size_t i = 0; i < seen[0].size(); ++i) {
      ASSERT_EQ(seen[0][i].size(), seen[1][i].size());
      for (size_t j = 0; j < seen[0][i].size(); ++j) {
        EXPECT_NEAR(seen[0][i][j], seen[1][i][j], 2e-4) << layer << " " << i << " " << j;
      }
    }
  }
  const std::vector<float> a = Get<float>(*backend, x), b = Get<float>(*backend, y);
  for (size_t i = 0; i < a.size(); ++i) EXPECT_NEAR(a[i], b[i], 2e-4) << i;
}

// A small model that runs sequences given as ids.
struct Runner {
  explicit Runner(const TinyCheckpointOptions& options) {
    WriteTinyCheckpoint(dir.path(), options);
    auto opened = Checkpoint::Open(dir.path());
    EXPECT_OK(opened);
    checkpoint = std::make_unique<Checkpoint>(*std::move(opened));
    config = checkpoint->config();
    for (int64_t layer = 0; layer < config.num_layers; ++layer) {
      blocks.push_back(*LoadBlock(*checkpoint, layer, *backend));
    }
  }
  Matrix Embedded(const std::vector<int32_t>& ids, const std::vector<int64_t>& positions) {
    Matrix x = *backend->New(static_cast<int64_t>(ids.size()), config.hidden_size, DType::kF32);
    EXPECT_OK(Embed(*checkpoint, ids, positions, *backend, x));
    return x;
  }
  std::vector<float> Logits(const Matrix& x) {
    const Matrix logits = *backend->New(x.rows(), config.vocab_size, DType::kF32);
    EXPECT_OK(Forward(config, checkpoint->arch(), *backend)
                  .Logits(*LoadHead(*checkpoint, *backend), x, logits));
    return Get<float>(*backend, logits);
  }
  // The logits of each token of the batch.
  std::vector<float> Run(const std::vector<int32_t>& ids, const SequenceLayout& layout) {
    const Matrix x = Embedded(ids, Positions(layout));
    Forward forward(config, checkpoint->arch(), *backend);
    for (const Block& block : blocks) EXPECT_OK(forward.RunBlock(block, layout, x));
    return Logits(x);
  }
  // Rows from `first` on of the logits of a sequence by itself.
  std::vector<float> Alone(const std::vector<int32_t>& ids, size_t first = 0) {
    const std::vector<int64_t> offsets = {0, static_cast<int64_t>(ids.size())};
    const std::vector<float> all = Run(ids, offsets);
    return {all.begin() + static_cast<int64_t>(first) * config.vocab_size, all.end()};
  }

  TempDir dir;
  std::unique_ptr<Backend> backend = NewCpuBackend();
  std::unique_ptr<Checkpoint> checkpoint;
  ModelConfig config;
  std::vector<Block> blocks;
};

std::vector<int32_t> Ids(int64_t count, int32_t start) {
  std::vector<int32_t> ids;
  for (int32_t t = 0; t < count; ++t) ids.push_back((t * 37 + start * 101) % 250);
  return ids;
}

void ExpectNear(std::span<const float> got, std::span<const float> expected, const char* what) {
  ASSERT_EQ(got.size(), expected.size()) << what;
  // Of the largest value: the order of sums in F32 is the compiler's and the processor's.
  double worst = 0, largest = 1;
  for (size_t i = 0; i < got.size(); ++i) {
    worst = std::max(worst, std::abs(static_cast<double>(got[i]) - expected[i]));
    largest = std::max(largest, std::abs(static_cast<double>(expected[i])));
  }
  EXPECT_LT(worst, 1e-5 * largest) << what;
}

std::vector<TinyCheckpointOptions> FamiliesAndWindows() {
  std::vector<TinyCheckpointOptions> all;
  for (const auto& [name, options] : testing::TinyFamilies()) all.push_back(options);
  for (const int64_t window : {1, 7, 40}) {
    all.emplace_back().family = "mistral";
    all.back().family_json = R"({"sliding_window": )" + std::to_string(window) + "}";
  }
  return all;
}

TEST(Forward, SequencesGoOnBehindTheirParents) {
  const std::vector<int64_t> lengths = {37, 5, 1, 19, 1, 60, 4}, parents = {-1, 0, 0, -1, 3, 3, -1};
  for (const TinyCheckpointOptions& options : FamiliesAndWindows()) {
    SCOPED_TRACE(options.family + options.family_json);
    Runner runner(options);
    std::vector<int32_t> ids;
    std::vector<int64_t> offsets = {0};
    std::vector<std::vector<int32_t>> parts;
    for (size_t s = 0; s < lengths.size(); ++s) {
      parts.push_back(Ids(lengths[s], static_cast<int32_t>(s)));
      ids.insert(ids.end(), parts[s].begin(), parts[s].end());
      offsets.push_back(static_cast<int64_t>(ids.size()));
    }
    const std::vector<float> got = runner.Run(ids, {offsets, parents});
    const int64_t vocab = runner.config.vocab_size;
    for (size_t s = 0; s < parts.size(); ++s) {
      std::vector<int32_t> whole;
      if (parents[s] >= 0) whole = parts[static_cast<size_t>(parents[s])];
      const size_t before = whole.size();
      whole.insert(whole.end(), parts[s].begin(), parts[s].end());
      ExpectNear(std::span(got).subspan(static_cast<size_t>(offsets[s] * vocab),
                                        static_cast<size_t>(lengths[s] * vocab)),
                 runner.Alone(whole, before), "sequence behind its parent");
    }
  }
}

TEST(Forward, RefusesParentsThatAreNone) {
  Runner runner({});
  const std::vector<int64_t> offsets = {0, 2, 4, 6};
  const Matrix x = runner.Embedded(Ids(6, 1), Positions(offsets));
  Forward forward(runner.config, runner.checkpoint->arch(), *runner.backend);
  for (const std::vector<int64_t>& parents : std::vector<std::vector<int64_t>>{
           {-1, 0}, {0, -1, -1}, {-1, 2, -1}, {-1, 0, 1}, {-1, -2, -1}}) {
    EXPECT_STATUS(forward.RunBlock(runner.blocks[0], {offsets, parents}, x), kInternal, "",
                  {"parent"});
  }
}

TEST(Forward, DynamicRopeIsNotSharedAcrossItsLimit) {
  TinyCheckpointOptions options;
  options.max_position_embeddings = 8;
  options.config_json = R"({"rope_scaling": {"rope_type": "dynamic", "factor": 2.0}})";
  Runner runner(options);
  Forward forward(runner.config, runner.checkpoint->arch(), *runner.backend);
  const std::vector<int64_t> parents = {-1, 0};
  const Matrix x = runner.Embedded(Ids(9, 1), Positions(std::vector<int64_t>{0, 9}));
  EXPECT_OK(forward.RunBlock(runner.blocks[0], {std::vector<int64_t>{0, 5, 8}, parents},
                             x.ref().Rows(0, 8)));
  EXPECT_STATUS(forward.RunBlock(runner.blocks[0], {std::vector<int64_t>{0, 5, 9}, parents}, x),
                kUnimplemented, "", {"9 tokens", "beginning of 5"});
}

TEST(Forward, CachesTakeAnyNumberOfTokens) {
  const std::vector<std::vector<int64_t>> steps = {{3, 1}, {1, 1}, {4, 17}, {0, 1}, {12, 1}};
  constexpr int64_t kCapacity = 30;
  for (const TinyCheckpointOptions& options : FamiliesAndWindows()) {
    SCOPED_TRACE(options.family + options.family_json);
    Runner runner(options);
    Backend& backend = *runner.backend;
    const std::vector<std::vector<int32_t>> whole = {Ids(20, 1), Ids(21, 2)};
    const std::vector<std::vector<float>> expected = {runner.Alone(whole[0]),
                                                      runner.Alone(whole[1])};
    const int64_t cols = runner.config.num_kv_heads * runner.config.head_dim;
    std::vector<KvCache> caches(runner.blocks.size());
    for (KvCache& cache : caches) {
      cache.k = *backend.New(2 * kCapacity, cols, DType::kF32);
      cache.v = *backend.New(2 * kCapacity, cols, DType::kF32);
    }
    Forward forward(runner.config, runner.checkpoint->arch(), backend);
    const auto vocab = static_cast<size_t>(runner.config.vocab_size);
    std::vector<int64_t> done = {0, 0};
    for (const std::vector<int64_t>& step : steps) {
      std::vector<int32_t> ids;
      for (size_t s = 0; s < 2; ++s) {
        ids.insert(ids.end(), whole[s].begin() + done[s], whole[s].begin() + done[s] + step[s]);
      }
      const std::vector<int64_t> offsets = {0, step[0], step[0] + step[1]};
      const Matrix x = runner.Embedded(ids, Positions(offsets, done));
      for (size_t layer = 0; layer < caches.size(); ++layer) {
        ASSERT_OK(forward.RunBlock(runner.blocks[layer], offsets, x, caches[layer], done));
      }
      const std::vector<float> got = runner.Logits(x);
      for (size_t s = 0; s < 2; ++s) {
        const auto count = static_cast<size_t>(step[s]) * vocab;
        ExpectNear(std::span(got).subspan(static_cast<size_t>(offsets[s]) * vocab, count),
                   std::span(expected[s]).subspan(static_cast<size_t>(done[s]) * vocab, count),
                   "tokens behind a cache");
        done[s] += step[s];
      }
    }
  }
}

}  // namespace
}  // namespace svdllm
