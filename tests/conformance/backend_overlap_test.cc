// What every Backend promises of work that goes on beside other work, and of its memory.
#include <gmock/gmock.h>

#include <cmath>

#include "linalg/counting/backend.h"
#include "linalg/counting/device_scratch.h"
#include "tests/conformance/backend_fixture.h"

namespace svdllm::testing {
namespace {

// A chain of operations, each of which needs the one before.
void Work(Backend& backend, const MatrixRef& w, const MatrixRef& x, const MatrixRef& y) {
  for (int i = 0; i < 20; ++i) {
    ASSERT_TRUE(backend.Gemm(false, true, 0.05, i % 2 == 0 ? x : y, w, 0, i % 2 == 0 ? y : x).ok());
  }
}

TEST_P(BackendTest, UploadsGoBesideOtherWork) {
  const MatD w = Random(64, 64), x = Random(30, 64);
  const Matrix weights = Put(w, DType::kF32), a = Put(x, DType::kF32),
               b = *backend_->New(30, 64, DType::kF32);
  MatD expected = x;
  for (int round = 0; round < 3; ++round) {
    Work(*backend_, weights, a, b);
    for (int i = 0; i < 20; ++i) expected = (0.05 * expected * w.transpose()).eval();
    std::vector<MatD> hosts;
    std::vector<Matrix> uploaded;
    std::vector<MatD> given;
    ASSERT_TRUE(backend_->BeginUploads().ok());
    for (const DType dtype : {DType::kF32, DType::kF16, DType::kF64}) {
      for (const int64_t cols : {1, 33, 40'000}) {
        given.push_back(Held(Random(3, cols), DType::kF16));
        uploaded.push_back(*backend_->New(4, cols, dtype));
        const MatD host = given.back();
        ASSERT_TRUE(
            backend_->Upload(host.data(), DType::kF64, uploaded.back().ref().Rows(1, 3)).ok());
      }
    }
    // Something is dropped before they end, which brings a wait of its own; once only.
    if (round == 1) const Matrix dropped = *backend_->New(50, 50, DType::kF64);
    ASSERT_TRUE(backend_->EndUploads().ok());
    for (size_t i = uploaded.size(); i-- > 0;) {  // first what has come last
      const Matrix copy = *backend_->New(4, uploaded[i].cols(), uploaded[i].dtype());
      ASSERT_TRUE(backend_->Copy(uploaded[i], copy).ok());
      uploaded[i] = Matrix();
      EXPECT_EQ(MatD(Get(copy).bottomRows(3)), given[i]);
      EXPECT_EQ(Get(copy).row(0).norm(), 0);
    }
    EXPECT_LT((Get(a) - expected).norm(), 1e-5 * expected.norm());
  }
}

// Many small transfers, among them what operations send along, without losing one.
TEST_P(BackendTest, ManySmallTransfersKeepTheirOrder) {
  const Matrix at = *backend_->New(1, 7, DType::kF32), sum = *backend_->New(1, 7, DType::kF32);
  MatD expected = MatD::Zero(1, 7);
  for (int i = 0; i < 2000; ++i) {
    const std::vector<float> host(7, static_cast<float>(i % 17));
    ASSERT_TRUE(backend_->Upload(host.data(), DType::kF32, at).ok());
    ASSERT_TRUE(backend_->Add(1, at, sum).ok());
    expected.array() += i % 17;
  }
  EXPECT_EQ(Get(sum), expected);
  const Matrix large = *backend_->New(1, 16'000, DType::kF32),
               total = *backend_->New(1, 16'000, DType::kF32);
  for (int i = 0; i < 100; ++i) {
    const std::vector<float> host(16'000, static_cast<float>(i));
    ASSERT_TRUE(backend_->Upload(host.data(), DType::kF32, large).ok());
    ASSERT_TRUE(backend_->Add(1, large, total).ok());
  }
  EXPECT_EQ(Get(total), MatD(MatD::Constant(1, 16'000, 4950)));
}

TEST_P(BackendTest, EigenproblemsGoOnInTheBackground) {
  struct Started {
    std::vector<MatD> ks;
    std::vector<Matrix> inputs, values, vectors;
    std::unique_ptr<PendingEigen> pending;
  };
  const auto start = [&](int64_t count, int64_t n) {
    Started started;
    std::vector<EigenProblem> problems;
    for (int64_t i = 0; i < count; ++i) {
      const MatD x = Random(n + 20 + i, n + i);
      started.ks.push_back(x.transpose() * x);
      // Made by operations right before: the batch must wait for them.
      const Matrix rows = Put(x, DType::kF64);
      started.inputs.push_back(*backend_->New(n + i, n + i, DType::kF64));
      EXPECT_TRUE(backend_->Gemm(true, false, 1, rows, rows, 0, started.inputs.back()).ok());
      started.values.push_back(*backend_->New(1, n + i, DType::kF64));
      started.vectors.push_back(*backend_->New(n + i, n + i, DType::kF64));
    }
    for (size_t i = 0; i < started.ks.size(); ++i) {
      problems.push_back({started.inputs[i], started.values[i], started.vectors[i]});
    }
    auto pending = backend_->StartEigen(problems);
    EXPECT_TRUE(pending.ok()) << pending.status();
    started.pending = *std::move(pending);
    return started;
  };
  const auto check = [&](Started& started) {
    ASSERT_TRUE(started.pending->Finish().ok());
    for (size_t i = 0; i < started.ks.size(); ++i) {
      const MatD d = Get(started.values[i]), v = Get(started.vectors[i]);
      EXPECT_LT((v.transpose() * d.row(0).asDiagonal() * v - started.ks[i]).norm(),
                1e-12 * started.ks[i].norm());
    }
    started.pending.reset();
  };
  const MatD w = Random(64, 64), x = Random(30, 64);
  const Matrix weights = Put(w, DType::kF32), a = Put(x, DType::kF32),
               b = *backend_->New(30, 64, DType::kF32);
  Started first = start(6, 40);
  Work(*backend_, weights, a, b);
  Started second = start(2, 25);  // another meanwhile
  { const Matrix memory = *backend_->New(100, 100, DType::kF64); }
  const MatD alone = RandomSpd(33);
  const Matrix k = Put(alone, DType::kF64), values = *backend_->New(1, 33, DType::kF64);
  ASSERT_TRUE(backend_->SymmetricEigen(std::vector<EigenProblem>{{k, values, {}}}).ok());
  EXPECT_NEAR(Get(values).sum(), alone.trace(), 1e-11 * alone.trace());
  check(second);
  check(first);
  MatD expected = x;
  for (int i = 0; i < 20; ++i) expected = (0.05 * expected * w.transpose()).eval();
  EXPECT_LT((Get(a) - expected).norm(), 1e-5 * expected.norm());
  // Dropped without a Finish.
  Started dropped = start(5, 30);
  dropped.pending.reset();
}

TEST_P(BackendTest, CountsItsMemory) {
  const int64_t before = backend_->Memory().now;
  backend_->ResetPeak();
  EXPECT_EQ(backend_->Memory().peak, before);
  constexpr int64_t kBytes = 1000 * 1000 * 8;
  {
    const Matrix one = *backend_->New(1000, 1000, DType::kF64);
    EXPECT_GE(backend_->Memory().now, before + kBytes);
    { const Matrix other = *backend_->New(1000, 1000, DType::kF64); }
    EXPECT_LT(backend_->Memory().now, before + 2 * kBytes);
    EXPECT_GE(backend_->Memory().peak, before + 2 * kBytes);
  }
  EXPECT_EQ(backend_->Memory().now, before);
  backend_->ResetPeak();
  EXPECT_EQ(backend_->Memory().peak, before);
  // What an operation takes for itself is counted and given back.
  const Matrix k = Put(RandomSpd(100), DType::kF64), values = *backend_->New(1, 100, DType::kF64),
               vectors = *backend_->New(100, 100, DType::kF64);
  const int64_t held = backend_->Memory().now;
  ASSERT_TRUE(backend_->SymmetricEigen(std::vector<EigenProblem>{{k, values, vectors}}).ok());
  EXPECT_EQ(backend_->Memory().now, held);
}

// A plan predicts a job's peak by these without a device.
TEST_P(BackendTest, TakesTheScratchThatIsPlanned) {
  if (!backend_->OnDevice()) return;
  const bool bf16 = backend_->WeightType(DType::kBF16) == DType::kBF16;
  const std::unique_ptr<Backend> counting = NewCountingBackend({.bf16 = bf16});
  // What operation(backend, x, gram) takes beside its operands.
  const auto taken = [](Backend& backend, MatrixRef x, MatrixRef gram, auto operation) {
    const Matrix other = *backend.New(1, 1, DType::kF32);
    const int64_t before = backend.Memory().now;
    backend.ResetPeak();
    const absl::Status status = operation(backend, x, gram);
    EXPECT_TRUE(status.ok()) << status;
    const int64_t most = backend.Memory().peak - before;
    EXPECT_TRUE(backend.Add(1, other, other).ok());  // lets go of what a product keeps
    EXPECT_EQ(backend.Memory().now, before);
    return most;
  };
  // Wider than a panel of a Gram matrix; longer than one product of it.
  for (const auto& [tokens, cols] :
       std::vector<std::pair<int64_t, int64_t>>{{300, 2100}, {2500, 64}}) {
    const Matrix x = Put(Random(tokens, cols), DType::kF32),
                 gram = *backend_->New(cols, cols, DType::kF64),
                 counted_x = *counting->New(tokens, cols, DType::kF32),
                 counted_gram = *counting->New(cols, cols, DType::kF64);
    const auto expect = [&, rows = tokens](auto operation) {
      EXPECT_EQ(taken(*backend_, x, gram, operation),
                taken(*counting, counted_x, counted_gram, operation))
          << rows << " tokens";
    };
    for (const DType stored : {DType::kF32, DType::kF16}) {
      const DType type = backend_->WeightType(stored);
      expect([type](Backend& backend, MatrixRef a, MatrixRef sum) {
        return backend.AccumulateGram(a, type, sum);
      });
      expect([type](Backend& backend, MatrixRef a, MatrixRef sum) {
        return backend.AccumulateCross(a, a.Cols(0, 50), type, sum.Cols(0, 50));
      });
      if (cols < 384) continue;
      // The keys and values of several heads in one matrix.
      AttentionShape shape{4, 2, 64};
      shape.precision = type;
      const std::vector<int64_t> offsets = {0, tokens};
      const std::vector<KeyRange> keys = {{0, tokens}};
      const int64_t most = taken(*backend_, x, gram, [&](Backend& backend, MatrixRef a, MatrixRef) {
        const MatrixRef q = a.Cols(0, 256), k = a.Cols(256, 128);
        return backend.Attention(q, k, k, shape, offsets, {}, q);
      });
      EXPECT_GE(most, device::AttentionScratch(shape, offsets, keys));
      EXPECT_LE(most, device::AttentionScratch(shape, offsets, keys) + 4096);  // the offsets
    }
  }
  EXPECT_GE(backend_->Memory().now, device::kFixedBytes);
}

TEST(BackendLimitTest, RefusesWhatIsBeyondIt) {
  constexpr int64_t kLimit = int64_t{256} << 20;
  const CudaOptions options{kLimit, 0};
  for (auto& made :
       {std::function<absl::StatusOr<std::unique_ptr<Backend>>()>(
            [&]() -> absl::StatusOr<std::unique_ptr<Backend>> { return NewCpuBackend(1, kLimit); }),
        std::function<absl::StatusOr<std::unique_ptr<Backend>>()>(
            [&] { return NewCudaBackend(0, options); })}) {
    auto backend = made();
    if (absl::IsUnavailable(backend.status())) continue;
    ASSERT_TRUE(backend.ok()) << backend.status();
    EXPECT_EQ((*backend)->Memory().limit, kLimit);
    auto first = (*backend)->New(1000, 18'000, DType::kF64);
    ASSERT_TRUE(first.ok()) << first.status();
    const absl::Status second = (*backend)->New(1000, 18'000, DType::kF64).status();
    EXPECT_EQ(second.code(), absl::StatusCode::kResourceExhausted);
    EXPECT_THAT(ErrorReason(second), ::testing::AnyOf(kHostOutOfMemory, kDeviceOutOfMemory));
    EXPECT_THAT(std::string(second.message()), ::testing::HasSubstr(std::to_string(kLimit)));
    *first = Matrix();
    EXPECT_TRUE((*backend)->New(1000, 18'000, DType::kF64).ok());
  }
}

TEST(BackendLimitTest, ExactHoldsWeightsAsF32) {
  const CudaOptions options{0, 1};
  auto backend = NewCudaBackend(0, options);
  if (absl::IsUnavailable(backend.status())) GTEST_SKIP() << backend.status().message();
  ASSERT_TRUE(backend.ok()) << backend.status();
  EXPECT_EQ((*backend)->WeightType(DType::kBF16), DType::kF32);
  EXPECT_EQ((*backend)->WeightType(DType::kF16), DType::kF32);
}

}  // namespace
}  // namespace svdllm::testing
