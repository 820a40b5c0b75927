// Activations of many sequences, taken through the model a block at a time.
#pragma once

#include <functional>
#include <span>
#include <utility>
#include <vector>

#include "model/forward.h"
#include "model/sequences.h"

namespace svdllm {

// Returns the residual streams of the sequences, F32 [tokens, hidden]. To begin with they are the
// embeddings.
absl::StatusOr<Matrix> EmbedSequences(const Checkpoint& checkpoint, const Sequences& sequences,
                                      Backend& backend);

// Residual streams in the backend's memory or, where that is too small, in the host's. In the
// second case what is worked on is copied to the backend and back. Movable. It must not outlive the
// backend.
class ResidualStream {
 public:
  ResidualStream() = default;
  ResidualStream(Matrix x, Backend& backend) : backend_(&backend), device_(std::move(x)) {}
  static absl::StatusOr<ResidualStream> Embed(const Checkpoint& checkpoint,
                                              const Sequences& sequences, bool on_host,
                                              Backend& backend);
  // Of numbers that Read has handed out, F32 [rows, cols], row-major.
  static absl::StatusOr<ResidualStream> Of(std::span<const std::byte> x, int64_t rows, int64_t cols,
                                           bool on_host, Backend& backend);
  absl::StatusOr<ResidualStream> Copy() const;

  bool empty() const { return rows() == 0; }
  int64_t rows() const { return on_host() ? host_rows_ : device_.rows(); }
  int64_t cols() const { return on_host() ? host_cols_ : device_.cols(); }
  // Hands out all rows, from the first on, some at a time: rows [first, first + piece.size() /
  // cols()).
  absl::Status Read(
      const std::function<absl::Status(int64_t first, std::span<const float> piece)>& take) const;
  // Returns the rows of a batch in the backend's memory. They may be changed and are then handed to
  // Keep. They are valid until the next call of Rows or CopyOfRows.
  absl::StatusOr<MatrixRef> Rows(const Batch& batch);
  // Returns a copy of a batch's rows, for callers that overwrite them without advancing the stream.
  absl::StatusOr<MatrixRef> CopyOfRows(const Batch& batch);
  absl::Status Keep(const Batch& batch, MatrixRef rows);

 private:
  bool on_host() const { return device_.empty() && host_rows_ > 0; }
  // Returns at least `rows` rows of memory on the backend.
  absl::StatusOr<MatrixRef> Window(int64_t rows);

  Backend* backend_ = nullptr;
  Matrix device_;
  std::vector<float> host_;
  int64_t host_rows_ = 0, host_cols_ = 0;
  Matrix window_;
};

// Returns what AdvanceStream does between batches while another block is read: it asks check, which
// ends a job that must not go on, and reads a part of block `next`. Both outlive it.
std::function<absl::Status()> CheckAndRead(std::function<absl::Status()> check, BlockReader& reader,
                                           int64_t next);

// Runs a block over every batch of x, which is advanced. Without keep, x stays as it is, and only
// the observer sees what happens.
absl::Status AdvanceStream(Forward& forward, const Block& block, const std::vector<Batch>& batches,
                           ResidualStream& x, bool keep, const BlockObserver& observer,
                           const std::function<absl::Status()>& check);

}  // namespace svdllm
