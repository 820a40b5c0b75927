#include "lowrank/encoding.h"

namespace svdllm {
namespace {

int64_t PlainNumbers(int64_t rows, int64_t cols, int64_t rank) { return rank * (rows + cols); }

int64_t PivotedNumbers(int64_t rows, int64_t cols, int64_t rank) {
  return rank * (rows + cols - rank);
}

absl::StatusOr<Factors> Balanced(Factors factors, Backend& backend) {
  RETURN_IF_ERROR(Balance(factors, backend));
  return factors;
}

absl::StatusOr<Factors> Pivoted(Factors factors, Backend& backend) {
  return Pivot(factors, backend);
}

constexpr EncodingRow kEncodings[] = {
    {Encoding::kPlain, "plain", "plain: two factors per matrix", /*ordered=*/false, PlainNumbers,
     Balanced, /*refit=*/nullptr},
    {Encoding::kPivoted, "pivoted",
     "pivoted: some rows of each matrix, and the coefficients of its other rows in them",
     /*ordered=*/true, PivotedNumbers, Pivoted, RefitPivoted},
};

}  // namespace

std::span<const EncodingRow> Encodings() { return kEncodings; }

const EncodingRow& RowOf(Encoding encoding) {
  for (const EncodingRow& row : kEncodings) {
    if (row.encoding == encoding) return row;
  }
  return kEncodings[0];
}

std::string EncodingName(Encoding encoding) { return std::string(RowOf(encoding).name); }

int64_t StoredNumbers(Encoding encoding, int64_t rows, int64_t cols, int64_t rank) {
  return rank == 0 ? rows * cols : RowOf(encoding).numbers(rows, cols, rank);
}

}  // namespace svdllm
