#include "pipeline/streams.h"

#include <algorithm>

namespace svdllm {

std::vector<Batch> MakeBatches(const Sequences& sequences, int64_t max_tokens) {
  std::vector<Batch> batches;
  int64_t first = 0;  // sequence of the last batch
  for (int64_t s = 0; s < sequences.count();) {
    int64_t end = s + 1;
    while (end < sequences.count() && sequences.parent(end) >= 0) ++end;
    const int64_t begin = sequences.offsets[static_cast<size_t>(s)];
    const int64_t rows = sequences.offsets[static_cast<size_t>(end)] - begin;
    if (batches.empty() || batches.back().rows + rows > max_tokens) {
      batches.push_back({begin, 0, {0}, {}});
      first = s;
    }
    Batch& batch = batches.back();
    for (; s < end; ++s) {
      batch.rows += sequences.length(s);
      batch.offsets.push_back(batch.rows);
      if (sequences.parents.empty()) continue;
      batch.parents.push_back(sequences.parent(s) < 0 ? -1 : sequences.parent(s) - first);
    }
  }
  return batches;
}

int64_t LargestBatch(const std::vector<Batch>& batches) {
  int64_t rows = 0;
  for (const Batch& batch : batches) rows = std::max(rows, batch.rows);
  return rows;
}

absl::StatusOr<Matrix> EmbedSequences(const Checkpoint& checkpoint, const Sequences& sequences,
                                      Backend& backend) {
  ASSIGN_OR_RETURN(Matrix x,
                   backend.New(sequences.tokens(), checkpoint.config().hidden_size, DType::kF32));
  const std::vector<int64_t> positions =
      Positions(SequenceLayout(sequences.offsets, sequences.parents));
  constexpr int64_t kRows = 8192;  // bounds the host copy
  for (int64_t begin = 0; begin < x.rows(); begin += kRows) {
    const int64_t rows = std::min(kRows, x.rows() - begin);
    const auto first = static_cast<size_t>(begin), count = static_cast<size_t>(rows);
    RETURN_IF_ERROR(Embed(checkpoint, std::span<const int32_t>(sequences.ids).subspan(first, count),
                          std::span(positions).subspan(first, count), backend,
                          x.ref().Rows(begin, rows)));
  }
  return x;
}

absl::Status AdvanceStream(Forward& forward, const Block& block, const std::vector<Batch>& batches,
                           MatrixRef x, const MatrixRef* scratch, const BlockObserver& observer,
                           Backend& backend, const std::function<absl::Status()>& check) {
  for (const Batch& batch : batches) {
    RETURN_IF_ERROR(check());
    MatrixRef rows = x.Rows(batch.first_row, batch.rows);
    if (scratch != nullptr) {
      const MatrixRef copy = scratch->Rows(0, batch.rows);
      RETURN_IF_ERROR(backend.Copy(rows, copy));
      rows = copy;
    }
    RETURN_IF_ERROR(
        forward.RunBlock(block, SequenceLayout(batch.offsets, batch.parents), rows, observer));
  }
  return absl::OkStatus();
}

}  // namespace svdllm
