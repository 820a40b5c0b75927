// A backend of which one operation fails.
#pragma once

#include <memory>
#include <span>
#include <string>

#include "linalg/backend.h"
#include "tests/support/fault.h"

namespace svdllm::testing {

// Both references outlive it.
class FaultyBackend : public Backend {
 public:
  FaultyBackend(Backend& backend, Fault& fault) : backend_(backend), fault_(fault) {}

  std::string Name() const override { return backend_.Name(); }
  bool OnDevice() const override { return backend_.OnDevice(); }
  MemoryUse Memory() const override { return backend_.Memory(); }
  void ResetPeak() override { backend_.ResetPeak(); }
  bool Computes() const override { return backend_.Computes(); }
  DType WeightType(DType stored) const override { return backend_.WeightType(stored); }
  absl::StatusOr<Matrix> New(int64_t rows, int64_t cols, DType dtype) override {
    RETURN_IF_ERROR(fault_.Next());
    return backend_.New(rows, cols, dtype);
  }
  absl::Status Upload(const void* host, DType host_dtype, MatrixRef to) override {
    RETURN_IF_ERROR(fault_.Next());
    return backend_.Upload(host, host_dtype, to);
  }
  absl::Status Download(MatrixRef from, void* host, DType host_dtype) override {
    RETURN_IF_ERROR(fault_.Next());
    return backend_.Download(from, host, host_dtype);
  }
  absl::Status Copy(MatrixRef from, MatrixRef to) override {
    RETURN_IF_ERROR(fault_.Next());
    return backend_.Copy(from, to);
  }
  absl::Status BeginUploads() override {
    RETURN_IF_ERROR(fault_.Next());
    return backend_.BeginUploads();
  }
  absl::Status EndUploads() override {
    RETURN_IF_ERROR(fault_.Next());
    return backend_.EndUploads();
  }
  absl::Status Transpose(MatrixRef from, MatrixRef to) override {
    RETURN_IF_ERROR(fault_.Next());
    return backend_.Transpose(from, to);
  }
  absl::Status GatherRows(MatrixRef from, std::span<const int32_t> rows, MatrixRef to) override {
    RETURN_IF_ERROR(fault_.Next());
    return backend_.GatherRows(from, rows, to);
  }
  absl::Status Gemm(bool transpose_a, bool transpose_b, double alpha, MatrixRef a, MatrixRef b,
                    double beta, MatrixRef c) override {
    RETURN_IF_ERROR(fault_.Next());
    return backend_.Gemm(transpose_a, transpose_b, alpha, a, b, beta, c);
  }
  absl::Status AccumulateGram(MatrixRef x, DType precision, MatrixRef gram) override {
    RETURN_IF_ERROR(fault_.Next());
    return backend_.AccumulateGram(x, precision, gram);
  }
  absl::Status AccumulateCross(MatrixRef x, MatrixRef y, DType precision,
                               MatrixRef cross) override {
    RETURN_IF_ERROR(fault_.Next());
    return backend_.AccumulateCross(x, y, precision, cross);
  }
  absl::Status MirrorLower(MatrixRef a) override {
    RETURN_IF_ERROR(fault_.Next());
    return backend_.MirrorLower(a);
  }
  absl::Status AccumulateAbs(MatrixRef x, MatrixRef sum) override {
    RETURN_IF_ERROR(fault_.Next());
    return backend_.AccumulateAbs(x, sum);
  }
  absl::StatusOr<std::unique_ptr<PendingEigen>> StartEigen(
      std::span<const EigenProblem> problems) override {
    RETURN_IF_ERROR(fault_.Next());
    return backend_.StartEigen(problems);
  }
  absl::Status ThinQr(MatrixRef w, MatrixRef q, MatrixRef r) override {
    RETURN_IF_ERROR(fault_.Next());
    return backend_.ThinQr(w, q, r);
  }
  absl::Status SolveSpd(MatrixRef a, MatrixRef b) override {
    RETURN_IF_ERROR(fault_.Next());
    return backend_.SolveSpd(a, b);
  }
  absl::Status Interpolative(MatrixRef x, std::span<int32_t> pivots, MatrixRef t) override {
    RETURN_IF_ERROR(fault_.Next());
    return backend_.Interpolative(x, pivots, t);
  }
  absl::Status ScaleRows(MatrixRef x, MatrixRef scale) override {
    RETURN_IF_ERROR(fault_.Next());
    return backend_.ScaleRows(x, scale);
  }
  absl::Status ScaleCols(MatrixRef x, MatrixRef scale) override {
    RETURN_IF_ERROR(fault_.Next());
    return backend_.ScaleCols(x, scale);
  }
  absl::Status RowDots(MatrixRef a, MatrixRef b, MatrixRef sums) override {
    RETURN_IF_ERROR(fault_.Next());
    return backend_.RowDots(a, b, sums);
  }
  absl::StatusOr<double> Dot(MatrixRef a, MatrixRef b) override {
    RETURN_IF_ERROR(fault_.Next());
    return backend_.Dot(a, b);
  }
  absl::Status RmsNorm(MatrixRef x, MatrixRef weight, double eps, MatrixRef y) override {
    RETURN_IF_ERROR(fault_.Next());
    return backend_.RmsNorm(x, weight, eps, y);
  }
  absl::Status LayerNorm(MatrixRef x, MatrixRef weight, MatrixRef bias, double eps,
                         MatrixRef y) override {
    RETURN_IF_ERROR(fault_.Next());
    return backend_.LayerNorm(x, weight, bias, eps, y);
  }
  absl::Status GatherCols(MatrixRef x, MatrixRef order, MatrixRef y) override {
    RETURN_IF_ERROR(fault_.Next());
    return backend_.GatherCols(x, order, y);
  }
  absl::Status AddBias(MatrixRef y, MatrixRef bias) override {
    RETURN_IF_ERROR(fault_.Next());
    return backend_.AddBias(y, bias);
  }
  absl::Status Add(double alpha, MatrixRef x, MatrixRef y) override {
    RETURN_IF_ERROR(fault_.Next());
    return backend_.Add(alpha, x, y);
  }
  absl::Status Rope(MatrixRef x, int64_t heads, MatrixRef cosines, MatrixRef sines,
                    std::span<const int64_t> offsets, std::span<const int64_t> first) override {
    RETURN_IF_ERROR(fault_.Next());
    return backend_.Rope(x, heads, cosines, sines, offsets, first);
  }
  absl::Status Attention(MatrixRef q, MatrixRef k, MatrixRef v, const AttentionShape& shape,
                         std::span<const int64_t> offsets, std::span<const KeyRange> keys,
                         MatrixRef out) override {
    RETURN_IF_ERROR(fault_.Next());
    return backend_.Attention(q, k, v, shape, offsets, keys, out);
  }
  absl::Status Activate(Activation activation, MatrixRef gate, MatrixRef up) override {
    RETURN_IF_ERROR(fault_.Next());
    return backend_.Activate(activation, gate, up);
  }
  absl::Status SoftCap(MatrixRef x, double cap) override {
    RETURN_IF_ERROR(fault_.Next());
    return backend_.SoftCap(x, cap);
  }
  absl::StatusOr<double> CrossEntropy(MatrixRef logits, std::span<const int32_t> targets) override {
    RETURN_IF_ERROR(fault_.Next());
    return backend_.CrossEntropy(logits, targets);
  }
  absl::StatusOr<double> KlDivergence(MatrixRef reference, MatrixRef logits) override {
    RETURN_IF_ERROR(fault_.Next());
    return backend_.KlDivergence(reference, logits);
  }
  absl::StatusOr<bool> AllFinite(MatrixRef x) override {
    RETURN_IF_ERROR(fault_.Next());
    return backend_.AllFinite(x);
  }

 private:
  Backend& backend_;
  Fault& fault_;
};

}  // namespace svdllm::testing
