#include "linalg/backend_checks.h"

#include <initializer_list>
#include <string>

namespace svdllm::checks {
namespace {

absl::Status Misuse(const char* operation, const std::string& what) {
  return absl::InternalError(std::string(operation) + ": " + what);
}

std::string ShapeText(const MatrixRef& x) {
  return "[" + std::to_string(x.rows) + ", " + std::to_string(x.cols) + "] " +
         std::string(DTypeName(x.dtype));
}

absl::Status Expect(bool ok, const char* operation, std::initializer_list<MatrixRef> operands) {
  if (ok) return absl::OkStatus();
  std::string shapes;
  for (const MatrixRef& x : operands) shapes += " " + ShapeText(x);
  return Misuse(operation, "operands do not fit:" + shapes);
}

bool Are(DType dtype, std::initializer_list<MatrixRef> operands) {
  for (const MatrixRef& x : operands) {
    if (x.dtype != dtype) return false;
  }
  return true;
}

constexpr DType kF32 = DType::kF32, kF64 = DType::kF64;

bool IsPrecision(DType dtype) { return dtype == kF32 || IsHalf(dtype); }

bool SameShape(const MatrixRef& a, const MatrixRef& b) {
  return a.rows == b.rows && a.cols == b.cols;
}

// First 0, last tokens, ascending.
bool Cover(std::span<const int64_t> offsets, int64_t tokens) {
  if (offsets.empty() || offsets.front() != 0 || offsets.back() != tokens) return false;
  for (size_t s = 1; s < offsets.size(); ++s) {
    if (offsets[s] < offsets[s - 1]) return false;
  }
  return true;
}

}  // namespace

absl::Status New(int64_t rows, int64_t cols) {
  return rows < 0 || cols < 0 ? Misuse("New", "negative shape") : absl::OkStatus();
}

// I32 holds indices and converts to nothing else.
absl::Status Movable(const char* operation, DType from, DType to) {
  if (from == to || (from != DType::kI32 && to != DType::kI32)) return absl::OkStatus();
  return Misuse(operation, std::string(DTypeName(from)) + " does not convert to " +
                               std::string(DTypeName(to)));
}

absl::Status Copy(MatrixRef from, MatrixRef to) {
  RETURN_IF_ERROR(Expect(SameShape(from, to), "Copy", {from, to}));
  return Movable("Copy", from.dtype, to.dtype);
}

absl::Status Transpose(MatrixRef from, MatrixRef to) {
  return Expect(from.rows == to.cols && from.cols == to.rows && Are(kF64, {from, to}), "Transpose",
                {from, to});
}

absl::Status GatherRows(MatrixRef from, std::span<const int32_t> rows, MatrixRef to) {
  bool inside = true;
  for (const int32_t row : rows) inside = inside && row >= 0 && row < from.rows;
  return Expect(inside && static_cast<int64_t>(rows.size()) == to.rows && from.cols == to.cols &&
                    Are(kF64, {from, to}),
                "GatherRows", {from, to});
}

absl::Status Gemm(bool transpose_a, bool transpose_b, MatrixRef a, MatrixRef b, MatrixRef c) {
  const int64_t m = transpose_a ? a.cols : a.rows, k = transpose_a ? a.rows : a.cols;
  const int64_t kb = transpose_b ? b.cols : b.rows, n = transpose_b ? b.rows : b.cols;
  const bool narrow = IsHalf(b.dtype) && !transpose_a && transpose_b && Are(kF32, {a, c});
  return Expect(k == kb && c.rows == m && c.cols == n &&
                    (Are(kF32, {a, b, c}) || Are(kF64, {a, b, c}) || narrow),
                "Gemm", {a, b, c});
}

absl::Status AccumulateGram(MatrixRef x, DType precision, MatrixRef gram) {
  return Expect(Are(kF32, {x}) && IsPrecision(precision) && Are(kF64, {gram}) &&
                    gram.rows == x.cols && gram.cols == x.cols,
                "AccumulateGram", {x, gram});
}

absl::Status AccumulateCross(MatrixRef x, MatrixRef y, DType precision, MatrixRef cross) {
  return Expect(x.rows == y.rows && cross.rows == x.cols && cross.cols == y.cols &&
                    IsPrecision(precision) && Are(kF32, {x, y}) && Are(kF64, {cross}),
                "AccumulateCross", {x, y, cross});
}

absl::Status MirrorLower(MatrixRef a) {
  return Expect(a.rows == a.cols && Are(kF64, {a}), "MirrorLower", {a});
}

absl::Status AccumulateAbs(MatrixRef x, MatrixRef sum) {
  return Expect(Are(kF32, {x}) && Are(kF64, {sum}) && sum.cols == x.cols, "AccumulateAbs",
                {x, sum});
}

absl::Status SymmetricEigen(std::span<const EigenProblem> problems) {
  for (const EigenProblem& p : problems) {
    const int64_t n = p.k.rows;
    RETURN_IF_ERROR(
        Expect(p.k.cols == n && Are(kF64, {p.k, p.values}) && p.values.cols == n &&
                   (p.vectors.data == nullptr ||
                    (p.vectors.rows == n && p.vectors.cols == n && Are(kF64, {p.vectors}))),
               "SymmetricEigen", {p.k, p.values, p.vectors}));
  }
  return absl::OkStatus();
}

absl::Status ThinQr(MatrixRef w, MatrixRef q, MatrixRef r) {
  return Expect(w.rows >= w.cols && SameShape(w, q) && r.rows == w.cols && r.cols == w.cols &&
                    Are(kF64, {w, q, r}),
                "ThinQr", {w, q, r});
}

absl::Status SolveSpd(MatrixRef a, MatrixRef b) {
  return Expect(a.rows == a.cols && b.cols == a.rows && Are(kF64, {a, b}), "SolveSpd", {a, b});
}

absl::Status Interpolative(MatrixRef x, std::span<const int32_t> pivots, MatrixRef t) {
  return Expect(x.rows <= x.cols && static_cast<int64_t>(pivots.size()) == x.rows &&
                    t.rows == x.cols - x.rows && t.cols == x.rows && Are(kF64, {x, t}),
                "Interpolative", {x, t});
}

absl::Status ScaleRows(MatrixRef x, MatrixRef scale) {
  return Expect(Are(kF64, {x, scale}) && scale.cols == x.rows, "ScaleRows", {x, scale});
}

absl::Status ScaleCols(MatrixRef x, MatrixRef scale) {
  return Expect(Are(kF64, {x, scale}) && scale.cols == x.cols, "ScaleCols", {x, scale});
}

absl::Status RowDots(MatrixRef a, MatrixRef b, MatrixRef sums) {
  return Expect(SameShape(a, b) && Are(kF64, {a, b, sums}) && sums.cols == a.rows, "RowDots",
                {a, b, sums});
}

absl::Status Dot(MatrixRef a, MatrixRef b) {
  return Expect(SameShape(a, b) && Are(kF64, {a, b}), "Dot", {a, b});
}

absl::Status RmsNorm(MatrixRef x, MatrixRef weight, MatrixRef y) {
  return Expect(SameShape(x, y) && weight.cols == x.cols && Are(kF32, {x, weight, y}), "RmsNorm",
                {x, weight, y});
}

absl::Status LayerNorm(MatrixRef x, MatrixRef weight, MatrixRef bias, MatrixRef y) {
  return Expect(SameShape(x, y) && weight.cols == x.cols && bias.cols == x.cols &&
                    Are(kF32, {x, weight, bias, y}),
                "LayerNorm", {x, weight, bias, y});
}

absl::Status GatherCols(MatrixRef x, MatrixRef order, MatrixRef y) {
  return Expect(
      x.rows == y.rows && order.cols == y.cols && Are(kF32, {x, y}) && Are(DType::kI32, {order}),
      "GatherCols", {x, order, y});
}

absl::Status AddBias(MatrixRef y, MatrixRef bias) {
  return Expect(bias.cols == y.cols && Are(kF32, {y, bias}), "AddBias", {y, bias});
}

absl::Status Add(MatrixRef x, MatrixRef y) {
  return Expect(SameShape(x, y) && (Are(kF32, {x, y}) || Are(kF64, {x, y})), "Add", {x, y});
}

absl::Status Rope(MatrixRef x, int64_t heads, MatrixRef cosines, MatrixRef sines,
                  std::span<const int64_t> offsets, std::span<const int64_t> first) {
  RETURN_IF_ERROR(Expect(heads > 0 && x.cols % heads == 0 && cosines.cols * 2 <= x.cols / heads &&
                             SameShape(cosines, sines) && Are(kF32, {x, cosines, sines}) &&
                             Cover(offsets, x.rows) &&
                             (first.empty() || first.size() + 1 == offsets.size()),
                         "Rope", {x, cosines, sines}));
  for (size_t s = 1; s < offsets.size(); ++s) {
    const int64_t begin = first.empty() ? 0 : first[s - 1];
    if (begin < 0 || begin + offsets[s] - offsets[s - 1] > cosines.rows) {
      return Misuse("Rope", "a sequence is longer than the table");
    }
  }
  return absl::OkStatus();
}

absl::Status Attention(MatrixRef q, MatrixRef k, MatrixRef v, const AttentionShape& shape,
                       std::span<const int64_t> offsets, std::span<const KeyRange> keys,
                       MatrixRef out) {
  const bool fits = shape.kv_heads > 0 && shape.head_dim > 0 && shape.heads % shape.kv_heads == 0 &&
                    q.cols == shape.heads * shape.head_dim &&
                    k.cols == shape.kv_heads * shape.head_dim && SameShape(k, v) &&
                    SameShape(q, out) && Are(kF32, {q, k, v, out}) && Cover(offsets, q.rows) &&
                    (keys.empty() ? q.rows == k.rows : keys.size() + 1 == offsets.size());
  RETURN_IF_ERROR(Expect(fits, "Attention", {q, k, v, out}));
  if (shape.scale < 0 || shape.softcap < 0 || shape.window < 0) {
    return Misuse("Attention", "a negative scale, softcap or window");
  }
  for (size_t s = 0; s < keys.size(); ++s) {
    const KeyRange& range = keys[s];
    if (range.first < 0 || range.count < offsets[s + 1] - offsets[s] ||
        range.first + range.count > k.rows) {
      return Misuse("Attention", "keys " + std::to_string(range.first) + " + " +
                                     std::to_string(range.count) + " of sequence " +
                                     std::to_string(s) +
                                     " are outside k or fewer than its queries");
    }
  }
  return absl::OkStatus();
}

absl::Status Activate(MatrixRef gate, MatrixRef up) {
  return Expect(
      Are(kF32, {gate}) && (up.data == nullptr || (SameShape(gate, up) && Are(kF32, {up}))),
      "Activate", {gate, up});
}

absl::Status SoftCap(MatrixRef x, double cap) {
  return Expect(Are(kF32, {x}) && cap > 0, "SoftCap", {x});
}

absl::Status CrossEntropy(MatrixRef logits, std::span<const int32_t> targets) {
  RETURN_IF_ERROR(Expect(static_cast<int64_t>(targets.size()) == logits.rows && Are(kF32, {logits}),
                         "CrossEntropy", {logits}));
  for (const int32_t target : targets) {
    if (target >= logits.cols) return Misuse("CrossEntropy", "a target is outside the vocabulary");
  }
  return absl::OkStatus();
}

absl::Status KlDivergence(MatrixRef reference, MatrixRef logits) {
  return Expect(SameShape(reference, logits) && Are(kF32, {reference, logits}), "KlDivergence",
                {reference, logits});
}

absl::Status AllFinite(MatrixRef x) {
  return Expect(Are(kF32, {x}) || Are(kF64, {x}), "AllFinite", {x});
}

std::vector<KeyRange> KeysOf(std::span<const int64_t> offsets, std::span<const KeyRange> keys) {
  if (!keys.empty()) return {keys.begin(), keys.end()};
  std::vector<KeyRange> own;
  for (size_t s = 1; s < offsets.size(); ++s) {
    own.push_back({offsets[s - 1], offsets[s] - offsets[s - 1]});
  }
  return own;
}

}  // namespace svdllm::checks
