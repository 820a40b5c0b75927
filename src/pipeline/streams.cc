#include "pipeline/streams.h"

#include <algorithm>

namespace svdllm {

std::vector<Batch> MakeBatches(const Sequences& sequences, int64_t max_tokens) {
  std::vector<Batch> batches;
  for (int64_t s = 0; s < sequences.count(); ++s) {
    const int64_t begin = sequences.offsets[static_cast<size_t>(s)];
    const int64_t length = sequences.offsets[static_cast<size_t>(s) + 1] - begin;
    if (batches.empty() || batches.back().rows + length > max_tokens) {
      batches.push_back({begin, 0, {0}});
    }
    batches.back().rows += length;
    batches.back().offsets.push_back(batches.back().rows);
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
  constexpr int64_t kRows = 8192;  // bounds the host copy
  for (int64_t begin = 0; begin < x.rows(); begin += kRows) {
    const int64_t rows = std::min(kRows, x.rows() - begin);
    RETURN_IF_ERROR(Embed(checkpoint,
                          std::span<const int32_t>(sequences.ids)
                              .subspan(static_cast<size_t>(begin), static_cast<size_t>(rows)),
                          backend, x.ref().Rows(begin, rows)));
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
    RETURN_IF_ERROR(forward.RunBlock(block, batch.offsets, rows, observer));
  }
  return absl::OkStatus();
}

}  // namespace svdllm
