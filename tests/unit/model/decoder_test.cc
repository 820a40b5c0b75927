#include "model/decoder.h"

#include <gtest/gtest.h>

#include <cmath>
#include <limits>

#include "tests/support/status_matchers.h"
#include "tests/support/temp_dir.h"
#include "tests/support/tiny_checkpoint.h"

namespace svdllm {
namespace {

using testing::TempDir;
using testing::TinyCheckpointOptions;
using testing::WriteTinyCheckpoint;

struct Opened {
  explicit Opened(const TinyCheckpointOptions& options) {
    WriteTinyCheckpoint(dir.path(), options);
    auto opened = Checkpoint::Open(dir.path());
    EXPECT_OK(opened);
    checkpoint = std::make_unique<Checkpoint>(*std::move(opened));
    auto loaded = Decoder::Load(*checkpoint, *backend);
    EXPECT_OK(loaded);
    decoder = *std::move(loaded);
  }
  TempDir dir;
  std::unique_ptr<Backend> backend = NewCpuBackend();
  std::unique_ptr<Checkpoint> checkpoint;
  std::unique_ptr<Decoder> decoder;
};

std::vector<float> Download(Backend& backend, MatrixRef x) {
  std::vector<float> values(static_cast<size_t>(x.size()));
  EXPECT_OK(backend.Download(x, values.data(), DType::kF32));
  return values;
}

// The logits behind the last token, by a forward pass over everything.
std::vector<float> FullPass(Opened& model, const std::vector<int32_t>& ids) {
  Backend& backend = *model.backend;
  Forward forward(model.checkpoint->config(), model.checkpoint->arch(), backend);
  const int64_t tokens = static_cast<int64_t>(ids.size());
  const std::vector<int64_t> offsets = {0, tokens};
  const Matrix x = *backend.New(tokens, model.checkpoint->config().hidden_size, DType::kF32);
  EXPECT_OK(Embed(*model.checkpoint, ids, Positions(offsets), backend, x));
  for (int64_t layer = 0; layer < model.checkpoint->config().num_layers; ++layer) {
    EXPECT_OK(forward.RunBlock(*LoadBlock(*model.checkpoint, layer, backend), offsets, x));
  }
  const Matrix logits = *backend.New(1, model.checkpoint->config().vocab_size, DType::kF32);
  EXPECT_OK(
      forward.Logits(*LoadHead(*model.checkpoint, backend), x.ref().Rows(tokens - 1, 1), logits));
  return Download(backend, logits);
}

void ExpectRow(const std::vector<float>& logits, size_t row, const std::vector<float>& expected) {
  for (size_t i = 0; i < expected.size(); ++i) {
    EXPECT_NEAR(logits[row * expected.size() + i], expected[i], 1e-4) << row << " " << i;
  }
}

std::vector<int32_t> Ids(size_t count, int32_t start) {
  std::vector<int32_t> ids(count);
  for (size_t t = 0; t < count; ++t) ids[t] = static_cast<int32_t>((t * 37 + start) % 250);
  return ids;
}

std::vector<TinyCheckpointOptions> Variants() {
  std::vector<TinyCheckpointOptions> variants(5);
  variants[1].attention_bias = variants[1].mlp_bias = variants[1].tied = true;
  variants[1].head_dim = 6;
  variants[2].ranks = {{"model.layers.0.self_attn.k_proj", 3}, {"model.layers.1.mlp.down_proj", 7}};
  variants[3].ranks = variants[2].ranks;
  variants[3].pivoted = true;
  variants[3].attention_bias = true;
  variants[4].num_kv_heads = 4;
  variants[4].config_json =
      R"({"rope_scaling": {"rope_type": "llama3", "factor": 8.0, "low_freq_factor": 1.0,
          "high_freq_factor": 4.0, "original_max_position_embeddings": 16}})";
  for (const auto& [name, options] : testing::TinyFamilies()) {
    if (name != "phi3_longrope") variants.push_back(options);  // RefusesWhatCannotBeRun
  }
  return variants;
}

TEST(Decoder, StepsEqualFullPasses) {
  for (const TinyCheckpointOptions& options : Variants()) {
    Opened model(options);
    std::vector<std::vector<int32_t>> sequences = {Ids(1, 3), Ids(20, 5), Ids(7, 100)};
    std::vector<int32_t> ids;
    std::vector<int64_t> offsets = {0};
    for (const auto& sequence : sequences) {
      ids.insert(ids.end(), sequence.begin(), sequence.end());
      offsets.push_back(static_cast<int64_t>(ids.size()));
    }
    auto logits = model.decoder->Prefill(ids, offsets, 26);
    for (int32_t step = 0;; ++step) {
      ASSERT_OK(logits);
      ASSERT_EQ(logits->rows, 3);
      const std::vector<float> got = Download(*model.backend, *logits);
      for (size_t s = 0; s < 3; ++s) ExpectRow(got, s, FullPass(model, sequences[s]));
      if (step == 6) break;
      const std::vector<int32_t> next = {step * 11, 255 - step, 17};
      for (size_t s = 0; s < 3; ++s) sequences[s].push_back(next[s]);
      logits = model.decoder->Step(next);
    }
    EXPECT_EQ(model.decoder->lengths(), (std::vector<int64_t>{7, 26, 13}));
    EXPECT_STATUS(model.decoder->Step(std::vector<int32_t>{1, 2, 3}), kOutOfRange, "",
                  {"capacity of 26"});
  }
}

// Equally long ones go a shorter way.
TEST(Decoder, SequencesInStepEqualFullPasses) {
  for (const TinyCheckpointOptions& options : Variants()) {
    Opened model(options);
    const std::vector<int32_t> ids = Ids(15, 3), shared = Ids(3, 77);  // as many as sequences
    for (const size_t length : {5, 1}) {
      const bool has_shared = length == 1;
      std::vector<std::vector<int32_t>> sequences(3);
      std::vector<int64_t> offsets = {0};
      for (size_t s = 0; s < 3; ++s) {
        if (has_shared) sequences[s] = shared;
        const auto begin = ids.begin() + static_cast<std::ptrdiff_t>(s * length);
        sequences[s].insert(sequences[s].end(), begin, begin + static_cast<std::ptrdiff_t>(length));
        offsets.push_back(static_cast<int64_t>((s + 1) * length));
      }
      auto logits = model.decoder->Prefill(
          std::span<const int32_t>(ids).first(3 * length), offsets, 12,
          has_shared ? std::span<const int32_t>(shared) : std::span<const int32_t>());
      for (int32_t step = 0; step < 3; ++step) {
        ASSERT_OK(logits);
        const std::vector<float> got = Download(*model.backend, *logits);
        const std::vector<int32_t> next = {step * 11, 255 - step, 17};
        for (size_t s = 0; s < 3; ++s) {
          ExpectRow(got, s, FullPass(model, sequences[s]));
          sequences[s].push_back(next[s]);
        }
        logits = model.decoder->Step(next);
      }
    }
  }
}

TEST(Decoder, StartsAfresh) {
  Opened model({});
  const std::vector<int32_t> first = Ids(9, 1), second = Ids(4, 60);
  ASSERT_OK(model.decoder->Prefill(first, std::vector<int64_t>{0, 4, 9}, 12));
  ASSERT_OK(model.decoder->Step(std::vector<int32_t>{1, 2}));
  ASSERT_OK(model.decoder->Prefill(second, std::vector<int64_t>{0, 4}, 6));
  const auto logits = model.decoder->Step(std::vector<int32_t>{9});
  ASSERT_OK(logits);
  std::vector<int32_t> all = second;
  all.push_back(9);
  ExpectRow(Download(*model.backend, *logits), 0, FullPass(model, all));
}

TEST(Decoder, ASharedBeginningIsAsIfItWereInEveryPrompt) {
  for (const TinyCheckpointOptions& options : Variants()) {
    Opened model(options);
    const std::vector<int32_t> shared = Ids(11, 40);
    const std::vector<int32_t> ids = Ids(9, 1);
    // A second call has the beginning already, also where it has fewer or more sequences.
    for (const std::vector<int64_t>& offsets :
         std::vector<std::vector<int64_t>>{{0, 4, 9}, {0, 5}, {0, 2, 3, 9}}) {
      auto logits = model.decoder->Prefill(
          std::span<const int32_t>(ids).first(static_cast<size_t>(offsets.back())), offsets, 24,
          shared);
      ASSERT_OK(logits);
      std::vector<std::vector<int32_t>> sequences;
      for (size_t s = 0; s + 1 < offsets.size(); ++s) {
        sequences.push_back(shared);
        sequences[s].insert(sequences[s].end(), ids.begin() + offsets[s],
                            ids.begin() + offsets[s + 1]);
      }
      for (int32_t step = 0; step < 3; ++step) {
        const std::vector<float> got = Download(*model.backend, *logits);
        std::vector<int32_t> next;
        for (size_t s = 0; s < sequences.size(); ++s) {
          ExpectRow(got, s, FullPass(model, sequences[s]));
          next.push_back(step * 7 + static_cast<int32_t>(s));
          sequences[s].push_back(next[s]);
        }
        logits = model.decoder->Step(next);
        ASSERT_OK(logits);
      }
    }
    EXPECT_STATUS(model.decoder->Prefill(ids, std::vector<int64_t>{0, 9}, 19, shared),
                  kInvalidArgument, "", {"prompt 0 has 9 tokens", "between 1 and 8"});
  }
}

TEST(Decoder, KeepsSomeOfTheSequences) {
  Opened model({});
  const std::vector<int32_t> ids = Ids(12, 1);
  ASSERT_OK(model.decoder->Prefill(ids, std::vector<int64_t>{0, 4, 5, 12}, 12));
  ASSERT_OK(model.decoder->Keep(std::vector<size_t>{1, 2}));
  EXPECT_EQ(model.decoder->lengths(), (std::vector<int64_t>{1, 7}));
  auto logits = model.decoder->Step(std::vector<int32_t>{8, 9});
  ASSERT_OK(logits);
  std::vector<int32_t> last(ids.begin() + 5, ids.end());
  last.push_back(9);
  ExpectRow(Download(*model.backend, *logits), 0, FullPass(model, {ids[4], 8}));
  ExpectRow(Download(*model.backend, *logits), 1, FullPass(model, last));
  ASSERT_OK(model.decoder->Keep(std::vector<size_t>{1}));
  logits = model.decoder->Step(std::vector<int32_t>{3});
  ASSERT_OK(logits);
  last.push_back(3);
  ExpectRow(Download(*model.backend, *logits), 0, FullPass(model, last));
  EXPECT_STATUS(model.decoder->Keep(std::vector<size_t>{1}), kInvalidArgument, "",
                {"sequence 1 of 1"});
}

TEST(Decoder, RefusesWhatCannotBeRun) {
  Opened model({});
  const std::vector<int32_t> ids = Ids(5, 1), outside = {1, 260};
  EXPECT_STATUS(model.decoder->Step(std::vector<int32_t>{}), kInvalidArgument, "",
                {"0 tokens for 0 sequences"});
  EXPECT_STATUS(model.decoder->Prefill(ids, std::vector<int64_t>{0, 5}, 4), kInvalidArgument, "",
                {"prompt 0 has 5 tokens"});
  EXPECT_STATUS(model.decoder->Prefill(ids, std::vector<int64_t>{0, 5, 5}, 8), kInvalidArgument, "",
                {"prompt 1 has 0 tokens"});
  EXPECT_STATUS(model.decoder->Prefill(outside, std::vector<int64_t>{0, 2}, 8), kInvalidArgument,
                "", {"token id 260"});
  ASSERT_OK(model.decoder->Prefill(ids, std::vector<int64_t>{0, 2, 5}, 8));
  EXPECT_STATUS(model.decoder->Step(std::vector<int32_t>{1}), kInvalidArgument, "",
                {"1 tokens for 2 sequences"});

  TinyCheckpointOptions dynamic;
  dynamic.max_position_embeddings = 16;
  dynamic.config_json = R"({"rope_scaling": {"rope_type": "dynamic", "factor": 2.0}})";
  Opened scaled(dynamic);
  EXPECT_OK(scaled.decoder->Prefill(ids, std::vector<int64_t>{0, 5}, 16));
  EXPECT_STATUS(scaled.decoder->Prefill(ids, std::vector<int64_t>{0, 5}, 17), kUnimplemented, "",
                {"rope_scaling", "17"});

  Opened longrope(testing::TinyFamilies().at("phi3_longrope"));  // long from 17 tokens on
  EXPECT_OK(longrope.decoder->Prefill(ids, std::vector<int64_t>{0, 5}, 16));
  EXPECT_STATUS(longrope.decoder->Prefill(ids, std::vector<int64_t>{0, 5}, 17), kUnimplemented, "",
                {"rope_scaling", "17"});
  EXPECT_OK(longrope.decoder->Prefill(Ids(17, 1), std::vector<int64_t>{0, 17}, 20));

  Opened opt(testing::TinyFamilies().at("opt"));
  EXPECT_OK(opt.decoder->Prefill(Ids(128, 1), std::vector<int64_t>{0, 128}, 129));
  EXPECT_STATUS(opt.decoder->Step(std::vector<int32_t>{1}), kInvalidArgument, "",
                {"position 128", "max_position_embeddings"});
}

TEST(Generate, GreedyFollowsTheFullPass) {
  Opened model({});
  const std::vector<int32_t> ids = Ids(9, 1);
  const std::vector<int64_t> offsets = {0, 4, 9};
  const auto greedy = [](size_t, std::span<const float> logits) { return GreedyToken(logits); };
  const auto generated = Generate(*model.decoder, ids, offsets, 6, greedy);
  ASSERT_OK(generated);
  for (size_t s = 0; s < 2; ++s) {
    ASSERT_EQ((*generated)[s].size(), 6u);
    std::vector<int32_t> sequence(ids.begin() + offsets[s], ids.begin() + offsets[s + 1]);
    for (const int32_t token : (*generated)[s]) {
      EXPECT_EQ(token, GreedyToken(FullPass(model, sequence)));
      sequence.push_back(token);
    }
  }
  int calls = 0;
  const auto cancelled = [&calls](size_t, std::span<const float>) -> absl::StatusOr<int32_t> {
    if (++calls == 5) return absl::CancelledError("enough");
    return 3;
  };
  EXPECT_STATUS(Generate(*model.decoder, ids, offsets, 6, cancelled), kCancelled, "", {"enough"});
  EXPECT_EQ(calls, 5);
  EXPECT_OK(Generate(*model.decoder, ids, offsets, 0, greedy));
  EXPECT_TRUE(Generate(*model.decoder, ids, offsets, 0, greedy)->at(0).empty());
}

// A sequence's tokens are its own: the batch around it does not matter.
TEST(Generate, SamplesRepeat) {
  Opened model({});
  const std::vector<int32_t> ids = {256, 256, 256};
  const auto run = [&](const std::vector<int64_t>& offsets, uint64_t seed) {
    std::vector<Random> randoms;
    for (size_t s = 0; s + 1 < offsets.size(); ++s) randoms.emplace_back(seed + s);
    return *Generate(
        *model.decoder, std::span<const int32_t>(ids).first(static_cast<size_t>(offsets.back())),
        offsets, 10,
        [&](size_t s, std::span<const float> logits) { return SampleToken(logits, randoms[s]); });
  };
  const auto three = run({0, 1, 2, 3}, 5);
  EXPECT_EQ(run({0, 1, 2, 3}, 5), three);
  EXPECT_NE(run({0, 1, 2, 3}, 50), three);
  EXPECT_NE(three[0], three[1]);
  EXPECT_EQ(run({0, 1}, 6)[0], three[1]);
}

TEST(SampleToken, DrawsBySoftmax) {
  const std::vector<float> logits = {0.0f, std::log(2.0f), -1000.0f, std::log(5.0f)};
  Random random(9);
  std::vector<int> counts(4);
  for (int i = 0; i < 80000; ++i) ++counts[static_cast<size_t>(SampleToken(logits, random))];
  EXPECT_NEAR(counts[0], 10000, 500);
  EXPECT_NEAR(counts[1], 20000, 700);
  EXPECT_EQ(counts[2], 0);
  EXPECT_NEAR(counts[3], 50000, 900);
  EXPECT_EQ(GreedyToken(logits), 3);
  EXPECT_EQ(GreedyToken(std::vector<float>{1, 7, 7}), 1);
}

}  // namespace
}  // namespace svdllm
