// The encodings of a low-rank matrix: a static table.
#pragma once

#include <cstdint>
#include <span>
#include <string>
#include <string_view>

#include "lowrank/factors.h"

namespace svdllm {

// How W′ [m, n] of rank k is stored (factors.h).
enum class Encoding { kPlain, kPivoted };

struct EncodingRow {
  Encoding encoding;
  // "plain"; in capitals, behind ENCODING_, the API's value.
  std::string_view name;
  // What it is, for reports and model cards: a phrase that follows "factors".
  std::string_view explanation;
  // Whether an order of the rows, one I32 each, is stored beside the factors, which then are
  // pivoted: a [k, n], b [m − k, k]. Otherwise a [k, n], b [m, k].
  bool ordered;
  // Stored numbers of a matrix of rank k ≥ 1; grows with k up to min(m, n). The order counts as
  // none.
  int64_t (*numbers)(int64_t rows, int64_t cols, int64_t rank);
  // What Truncate gives, in this encoding. The errors of Pivot.
  absl::StatusOr<Factors> (*encode)(Factors factors, Backend& backend);
  // Fits b anew once a is rounded; null where rounding a is left as it is. Needs the Gram matrix of
  // the inputs: an output Gram will not do.
  absl::Status (*refit)(MatrixRef w, const Metric& metric, Factors& factors, Backend& backend);
};

std::span<const EncodingRow> Encodings();
const EncodingRow& RowOf(Encoding encoding);
// "plain", "pivoted"
std::string EncodingName(Encoding encoding);

// Stored numbers of a rank-k m × n matrix; m n for rank 0, which means dense.
int64_t StoredNumbers(Encoding encoding, int64_t rows, int64_t cols, int64_t rank);

}  // namespace svdllm
