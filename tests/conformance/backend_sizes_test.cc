// What every Backend promises where it changes its way: transfers in several pieces and of every
// type, heads of every size, more problems than run at a time, and more than there is memory for.
#include <gmock/gmock.h>

#include <cmath>
#include <cstring>

#include "tests/conformance/backend_fixture.h"

namespace svdllm::testing {
namespace {

constexpr DType kFloats[] = {DType::kF64, DType::kF32, DType::kF16, DType::kBF16};

// Halfway cases, subnormals of every type, infinities and zeros among random bits.
std::vector<double> Varied(int64_t count, std::mt19937_64& generator) {
  std::vector<double> values(static_cast<size_t>(count));
  std::normal_distribution<double> normal;
  std::uniform_int_distribution<int> exponent(-160, 140);
  for (double& value : values) value = std::ldexp(normal(generator), exponent(generator));
  const double special[] = {0.0,       -0.0,    1 + 0x1p-11, 1 + 0x1p-8,
                            65504,     65519.9, 65520,       0x1p-25,
                            -0x1p-149, 0x1p-24, INFINITY,    1 + 0x1p-11 + 0x1p-40};
  for (size_t i = 0; i < std::size(special) && i < values.size(); ++i) values[i] = special[i];
  return values;
}

std::vector<char> Converted(const void* from, DType from_type, DType to_type, int64_t count) {
  std::vector<char> to(static_cast<size_t>(count) * SizeOf(to_type));
  ConvertElements(from, from_type, to.data(), to_type, static_cast<size_t>(count));
  return to;
}

TEST_P(BackendTest, TransfersConvertAsTheHostDoes) {
  const int64_t rows = 7, cols = 31, count = rows * cols;
  const std::vector<double> values = Varied(count, generator_);
  for (const DType host : kFloats) {
    const std::vector<char> given = Converted(values.data(), DType::kF64, host, count);
    for (const DType device : kFloats) {
      // Beside a column that must stay as it is.
      const Matrix memory = *backend_->New(rows, cols + 1, device);
      const MatrixRef view = memory.ref().Cols(1, cols);
      ASSERT_TRUE(backend_->Upload(given.data(), host, view).ok());
      const std::vector<char> held = Converted(given.data(), host, device, count);
      for (const DType back : kFloats) {
        std::vector<char> got(static_cast<size_t>(count) * SizeOf(back));
        ASSERT_TRUE(backend_->Download(view, got.data(), back).ok());
        EXPECT_EQ(got, Converted(held.data(), device, back, count))
            << DTypeName(host) << " " << DTypeName(device) << " " << DTypeName(back);
      }
      EXPECT_EQ(Get(memory.ref().Cols(0, 1)), MatD::Zero(rows, 1));
    }
  }
}

TEST_P(BackendTest, LongTransfersComeInOrder) {
  const int64_t rows = 2, cols = 3'000'001;  // more than a piece, and no multiple of one
  std::vector<float> host(static_cast<size_t>(rows * cols));
  for (size_t i = 0; i < host.size(); ++i) host[i] = static_cast<float>(i % 16'777'213);
  const Matrix plain = *backend_->New(rows, cols, DType::kF32),
               wide = *backend_->New(rows, cols + 3, DType::kF32);
  const MatrixRef view = wide.ref().Cols(2, cols);
  ASSERT_TRUE(backend_->Upload(host.data(), DType::kF32, plain).ok());
  ASSERT_TRUE(backend_->Copy(plain, view).ok());
  std::vector<float> back(host.size());
  ASSERT_TRUE(backend_->Download(view, back.data(), DType::kF32).ok());
  EXPECT_TRUE(back == host);
  ASSERT_TRUE(backend_->Upload(back.data(), DType::kF32, view).ok());
  std::fill(back.begin(), back.end(), 0.0f);  // the upload is done with it
  std::vector<double> doubles(host.size());
  ASSERT_TRUE(backend_->Download(view, doubles.data(), DType::kF64).ok());
  EXPECT_TRUE(std::equal(host.begin(), host.end(), doubles.begin()));
}

TEST_P(BackendTest, NoMemoryIsAnErrorAndNotTheEnd) {
#if defined(SVDLLM_SANITIZED)
  GTEST_SKIP() << "a sanitizer's allocator ends the process instead";
#endif
  const absl::Status status =
      backend_->New(int64_t{1} << 25, int64_t{1} << 24, DType::kF64).status();
  EXPECT_EQ(status.code(), absl::StatusCode::kResourceExhausted);
  EXPECT_THAT(ErrorReason(status), ::testing::AnyOf(kHostOutOfMemory, kDeviceOutOfMemory));
  EXPECT_THAT(std::string(status.message()),
              ::testing::HasSubstr(std::to_string(int64_t{1} << 52)));
  const MatD m = Random(5, 4);
  EXPECT_EQ(Get(Put(m, DType::kF32)), m);
}

TEST_P(BackendTest, EmptyOperandsAreHarmless) {
  const Matrix a = *backend_->New(0, 5, DType::kF32), b = *backend_->New(5, 0, DType::kF32),
               w = *backend_->New(3, 5, DType::kF32), y = *backend_->New(0, 3, DType::kF32);
  EXPECT_TRUE(backend_->Gemm(false, true, 1, a, w, 0, y).ok());
  EXPECT_TRUE(backend_->Copy(a, a).ok());
  EXPECT_TRUE(backend_->Add(1, b, b).ok());
  EXPECT_TRUE(backend_->Activate(Activation::kSilu, a, a).ok());
  EXPECT_TRUE(*backend_->AllFinite(b));
  EXPECT_EQ(*backend_->CrossEntropy(a, {}), 0);
  Matrix gram = *backend_->New(5, 5, DType::kF64);
  EXPECT_TRUE(backend_->AccumulateGram(a, DType::kF32, gram).ok());
  EXPECT_EQ(Get(gram), MatD::Zero(5, 5));
  // Without a term the product is 0, and what was there stays or goes as beta says.
  Matrix c = Put(Random(3, 3), DType::kF32);
  const Matrix none = *backend_->New(3, 0, DType::kF32);
  EXPECT_TRUE(backend_->Gemm(false, true, 1, none, none, 0, c).ok());
  EXPECT_EQ(Get(c), MatD::Zero(3, 3));
}

TEST_P(BackendTest, ProductsOfManyTerms) {
  const int64_t m = 1300, n = 1301, k = 1303;  // past 2^31 terms
  const MatD a = Random(m, k), b = Random(n, k), v = Random(n, 1);
  for (const DType dtype : {DType::kF32, DType::kF64}) {
    Matrix c = *backend_->New(m, n, dtype);
    ASSERT_TRUE(backend_->Gemm(false, true, 1, Put(a, dtype), Put(b, dtype), 0, c).ok());
    const MatD expected = a * MatD(b.transpose() * v);
    EXPECT_LT((Get(c) * v - expected).norm(),
              (dtype == DType::kF32 ? 1e-5 : 1e-13) * expected.norm());
  }
}

TEST_P(BackendTest, EigenSolvesAnyNumberOfProblems) {
  std::vector<MatD> ks;
  std::vector<Matrix> inputs, values, vectors;
  std::vector<EigenProblem> problems;
  for (int64_t i = 0; i < 9; ++i) {
    const int64_t n = 150 - 7 * i;
    ks.push_back(RandomSpd(n));
    inputs.push_back(Put(ks.back(), DType::kF64));
    values.push_back(*backend_->New(1, n, DType::kF64));
    vectors.push_back(*backend_->New(n, n, DType::kF64));
    // Every third without its vectors.
    problems.push_back(
        {inputs.back(), values.back(), i % 3 == 2 ? MatrixRef{} : vectors.back().ref()});
  }
  ASSERT_TRUE(backend_->SymmetricEigen(problems).ok());
  EXPECT_TRUE(backend_->SymmetricEigen({}).ok());
  for (size_t i = 0; i < ks.size(); ++i) {
    const MatD d = Get(values[i]), v = Get(vectors[i]);
    EXPECT_NEAR(d.sum(), ks[i].trace(), 1e-11 * ks[i].trace());
    if (i % 3 == 2) continue;
    EXPECT_LT((v.transpose() * d.row(0).asDiagonal() * v - ks[i]).norm(), 1e-12 * ks[i].norm());
  }
}

TEST_P(BackendTest, SolveSpdRefusesWhatOnlyLooksDefinite) {
  // Eigenvalues from 1 down to 1e-15: the factorisation may well succeed.
  const int64_t n = 40;
  const MatD x = Random(n, n);
  const MatD q = Eigen::HouseholderQR<MatD>(x).householderQ();
  MatD d = MatD::Ones(n, 1);
  d(n - 1, 0) = 1e-15;
  const MatD a = q * d.col(0).asDiagonal() * q.transpose(), b = Random(3, n);
  Matrix unchanged = Put(b, DType::kF64);
  EXPECT_EQ(backend_->SolveSpd(Put(a, DType::kF64), unchanged).code(),
            absl::StatusCode::kFailedPrecondition);
  EXPECT_EQ(Get(unchanged), b);
  // Ill conditioned is not singular.
  d(n - 1, 0) = 1e-9;
  const MatD fair = q * d.col(0).asDiagonal() * q.transpose();
  Matrix solved = Put(b, DType::kF64);
  ASSERT_TRUE(backend_->SolveSpd(Put(fair, DType::kF64), solved).ok());
  EXPECT_LT((Get(solved) * fair - b).norm(), 1e-6 * b.norm());
}

TEST_P(BackendTest, KlDivergenceSumsOverRows) {
  const MatD p = Random(5, 777) * 5, q = Random(5, 777) * 5;
  double expected = 0;
  for (int64_t i = 0; i < 5; ++i) {
    const auto log_softmax = [](const MatD& row) {
      const double max = row.maxCoeff();
      return MatD(row.array() - max - std::log((row.array() - max).exp().sum()));
    };
    const MatD lp = log_softmax(p.row(i)), lq = log_softmax(q.row(i));
    expected += (lp.array().exp() * (lp - lq).array()).sum();
  }
  EXPECT_NEAR(*backend_->KlDivergence(Put(p, DType::kF32), Put(q, DType::kF32)), expected,
              1e-5 * expected);
  EXPECT_NEAR(*backend_->KlDivergence(Put(p, DType::kF32), Put(p, DType::kF32)), 0, 1e-6);
}

TEST_P(BackendTest, MirrorsAndTransposesAcrossTiles) {
  for (const int64_t n : {1, 31, 32, 33, 100}) {
    const MatD x = Random(n, n + 7);
    Matrix y = *backend_->New(n + 7, n, DType::kF64);
    ASSERT_TRUE(backend_->Transpose(Put(x, DType::kF64), y).ok());
    EXPECT_EQ(Get(y), MatD(x.transpose()));
    const Matrix memory = Put(x, DType::kF64);
    const MatrixRef square = memory.ref().Cols(3, n);
    ASSERT_TRUE(backend_->MirrorLower(square).ok());
    const MatD lower = x.middleCols(3, n).triangularView<Eigen::Lower>();
    MatD expected = lower + MatD(lower.transpose());
    expected.diagonal() /= 2;
    EXPECT_EQ(Get(square), expected);
    EXPECT_EQ(Get(memory.ref().Cols(0, 3)), MatD(x.leftCols(3)));
    EXPECT_EQ(Get(memory.ref().Cols(n + 3, 4)), MatD(x.rightCols(4)));
  }
}

}  // namespace
}  // namespace svdllm::testing
