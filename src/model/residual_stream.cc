#include "model/residual_stream.h"

#include <algorithm>
#include <cstring>

namespace svdllm {

namespace {

// Bounds the host's copy of embedded rows.
constexpr int64_t kEmbedRows = 8192;
// The same of rows that are read back.
constexpr int64_t kReadRows = 1024;

// Hands out the embedded rows from the first on, a piece at a time.
absl::Status EmbedPieces(
    const Checkpoint& checkpoint, const Sequences& sequences, Backend& backend,
    const std::function<absl::StatusOr<MatrixRef>(int64_t begin, int64_t rows)>& memory,
    const std::function<absl::Status(int64_t begin, MatrixRef rows)>& done) {
  if (!backend.Computes()) return absl::OkStatus();
  const std::vector<int64_t> positions =
      Positions(SequenceLayout(sequences.offsets, sequences.parents));
  for (int64_t begin = 0; begin < sequences.tokens(); begin += kEmbedRows) {
    const int64_t rows = std::min(kEmbedRows, sequences.tokens() - begin);
    const auto first = static_cast<size_t>(begin), count = static_cast<size_t>(rows);
    ASSIGN_OR_RETURN(const MatrixRef x, memory(begin, rows));
    RETURN_IF_ERROR(Embed(checkpoint, std::span<const int32_t>(sequences.ids).subspan(first, count),
                          std::span(positions).subspan(first, count), backend, x));
    RETURN_IF_ERROR(done(begin, x));
  }
  return absl::OkStatus();
}

}  // namespace

absl::StatusOr<Matrix> EmbedSequences(const Checkpoint& checkpoint, const Sequences& sequences,
                                      Backend& backend) {
  ASSIGN_OR_RETURN(Matrix x,
                   backend.New(sequences.tokens(), checkpoint.config().hidden_size, DType::kF32));
  RETURN_IF_ERROR(EmbedPieces(
      checkpoint, sequences, backend,
      [&x](int64_t begin, int64_t rows) { return x.ref().Rows(begin, rows); },
      [](int64_t, MatrixRef) { return absl::OkStatus(); }));
  return x;
}

absl::StatusOr<ResidualStream> ResidualStream::Embed(const Checkpoint& checkpoint,
                                                     const Sequences& sequences, bool on_host,
                                                     Backend& backend) {
  if (!on_host) {
    ASSIGN_OR_RETURN(Matrix x, EmbedSequences(checkpoint, sequences, backend));
    return ResidualStream(std::move(x), backend);
  }
  ResidualStream stream;
  stream.backend_ = &backend;
  stream.host_rows_ = sequences.tokens();
  stream.host_cols_ = checkpoint.config().hidden_size;
  if (!backend.Computes()) return stream;
  stream.host_.resize(static_cast<size_t>(stream.host_rows_ * stream.host_cols_));
  RETURN_IF_ERROR(EmbedPieces(
      checkpoint, sequences, backend,
      [&stream](int64_t, int64_t rows) { return stream.Window(rows); },
      [&stream](int64_t begin, MatrixRef rows) {
        return stream.Keep({begin, rows.rows, {}, {}}, rows);
      }));
  stream.window_ = Matrix();  // batches are shorter
  return stream;
}

absl::StatusOr<ResidualStream> ResidualStream::Of(std::span<const std::byte> x, int64_t rows,
                                                  int64_t cols, bool on_host, Backend& backend) {
  if (static_cast<int64_t>(x.size()) != rows * cols * static_cast<int64_t>(sizeof(float))) {
    return absl::InternalError("residual streams of another size");
  }
  if (!on_host) {
    ASSIGN_OR_RETURN(Matrix device, backend.New(rows, cols, DType::kF32));
    RETURN_IF_ERROR(backend.Upload(x.data(), DType::kF32, device));
    return ResidualStream(std::move(device), backend);
  }
  ResidualStream stream;
  stream.backend_ = &backend;
  stream.host_rows_ = rows;
  stream.host_cols_ = cols;
  stream.host_.resize(static_cast<size_t>(rows * cols));
  std::memcpy(stream.host_.data(), x.data(), x.size());
  return stream;
}

absl::Status ResidualStream::Read(
    const std::function<absl::Status(int64_t first, std::span<const float> piece)>& take) const {
  std::vector<float> buffer;
  for (int64_t first = 0; first < rows(); first += kReadRows) {
    const int64_t count = std::min(kReadRows, rows() - first);
    const auto size = static_cast<size_t>(count * cols());
    if (on_host()) {
      RETURN_IF_ERROR(take(first, {host_.data() + first * cols(), size}));
      continue;
    }
    buffer.resize(size);
    RETURN_IF_ERROR(
        backend_->Download(device_.ref().Rows(first, count), buffer.data(), DType::kF32));
    RETURN_IF_ERROR(take(first, buffer));
  }
  return absl::OkStatus();
}

absl::StatusOr<ResidualStream> ResidualStream::Copy() const {
  if (on_host()) {
    ResidualStream copy;
    copy.backend_ = backend_;
    copy.host_ = host_;
    copy.host_rows_ = host_rows_;
    copy.host_cols_ = host_cols_;
    return copy;
  }
  ASSIGN_OR_RETURN(Matrix copy, backend_->New(device_.rows(), device_.cols(), DType::kF32));
  RETURN_IF_ERROR(backend_->Copy(device_, copy));
  return ResidualStream(std::move(copy), *backend_);
}

absl::StatusOr<MatrixRef> ResidualStream::Window(int64_t rows) {
  if (window_.rows() < rows) {
    window_ = Matrix();  // first give the old one back
    ASSIGN_OR_RETURN(window_,
                     backend_->New(rows, on_host() ? host_cols_ : device_.cols(), DType::kF32));
  }
  return window_.ref().Rows(0, rows);
}

absl::StatusOr<MatrixRef> ResidualStream::Rows(const Batch& batch) {
  return on_host() ? CopyOfRows(batch) : device_.ref().Rows(batch.first_row, batch.rows);
}

absl::StatusOr<MatrixRef> ResidualStream::CopyOfRows(const Batch& batch) {
  ASSIGN_OR_RETURN(const MatrixRef window, Window(batch.rows));
  if (!backend_->Computes()) return window;
  if (on_host()) {
    RETURN_IF_ERROR(
        backend_->Upload(host_.data() + batch.first_row * host_cols_, DType::kF32, window));
  } else {
    RETURN_IF_ERROR(backend_->Copy(device_.ref().Rows(batch.first_row, batch.rows), window));
  }
  return window;
}

absl::Status ResidualStream::Keep(const Batch& batch, MatrixRef rows) {
  if (!on_host() || !backend_->Computes()) return absl::OkStatus();
  return backend_->Download(rows, host_.data() + batch.first_row * host_cols_, DType::kF32);
}

std::function<absl::Status()> CheckAndRead(std::function<absl::Status()> check, BlockReader& reader,
                                           int64_t next) {
  return [check = std::move(check), &reader, next]() -> absl::Status {
    RETURN_IF_ERROR(check());
    return reader.ReadPart(next);
  };
}

absl::Status AdvanceStream(Forward& forward, const Block& block, const std::vector<Batch>& batches,
                           ResidualStream& x, bool keep, const BlockObserver& observer,
                           const std::function<absl::Status()>& check) {
  for (const Batch& batch : batches) {
    RETURN_IF_ERROR(check());
    ASSIGN_OR_RETURN(const MatrixRef rows, keep ? x.Rows(batch) : x.CopyOfRows(batch));
    RETURN_IF_ERROR(
        forward.RunBlock(block, SequenceLayout(batch.offsets, batch.parents), rows, observer));
    if (keep) RETURN_IF_ERROR(x.Keep(batch, rows));
  }
  return absl::OkStatus();
}

}  // namespace svdllm
