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
  // "plain". In capitals and behind ENCODING_ it is the API's value.
  std::string_view name;
  // What it is, for reports and model cards: a phrase that continues "factors".
  std::string_view explanation;
  // Whether an order of the rows, one I32 per row, is stored beside the factors. They are then
  // pivoted: a [k, n], b [m − k, k]. Otherwise they are a [k, n], b [m, k].
  bool ordered;
  // How many numbers a matrix of rank k ≥ 1 stores. It grows with k up to min(m, n). The order
  // counts as no number.
  int64_t (*numbers)(int64_t rows, int64_t cols, int64_t rank);
  // Turns what Truncate gives into this encoding. Errors are those of Pivot.
  absl::StatusOr<Factors> (*encode)(Factors factors, Backend& backend);
  // Fits b anew after a was rounded. It is null where the rounding of a is left as it is. It needs
  // the Gram matrix of the inputs; an output Gram will not do.
  absl::Status (*refit)(MatrixRef w, const Metric& metric, Factors& factors, Backend& backend);
};

std::span<const EncodingRow> Encodings();
const EncodingRow& RowOf(Encoding encoding);
// "plain", "pivoted"
std::string EncodingName(Encoding encoding);

// Returns how many numbers a rank-k m × n matrix stores: m n for rank 0, which means dense.
int64_t StoredNumbers(Encoding encoding, int64_t rows, int64_t cols, int64_t rank);

}  // namespace svdllm
