#include "model/forward.h"

#include <gtest/gtest.h>

#include <cmath>
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
  const std::vector<int32_t> order = Get<int32_t>(backend, linear.order);
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
  ASSERT_OK(Embed(*checkpoint, ids, *backend, x));
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

}  // namespace
}  // namespace svdllm
