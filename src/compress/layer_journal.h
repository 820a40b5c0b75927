// What a compression keeps of every decoder layer that is finished, and takes over from an earlier
// attempt: the factors and their reports, and the residual streams behind the layer.
#pragma once

#include <optional>
#include <span>
#include <string>
#include <vector>

#include "compress/context.h"
#include "model/residual_stream.h"

namespace svdllm {

// Writes residual streams to a file of a record, and reads them back.
absl::Status KeepStream(Journal& journal, const std::string& series, int64_t number,
                        const std::string& role, const ResidualStream& stream);
absl::StatusOr<ResidualStream> TakeStream(const CompressRun& run, const JournalRecord& record,
                                          const std::string& role);
// The same for rows in the backend's memory, F32.
absl::Status KeepRows(Journal& journal, const std::string& series, int64_t number,
                      const std::string& role, MatrixRef rows, Backend& backend);
absl::Status TakeRows(const JournalRecord& record, const std::string& role, MatrixRef rows,
                      Backend& backend);

// Between the layers and their sinks. Without a journal in the run it hands on what it gets. Not
// thread-safe.
class LayerJournal {
 public:
  // layer_work: what a layer counts for in the run's progress.
  LayerJournal(const CompressRun& run, std::span<const FactorSink> sinks, double layer_work);

  // Hands the factors of layers that an earlier attempt has finished to their sinks, and returns
  // how many layers these are. CHECKPOINT_MISMATCH where their ranks are others.
  absl::StatusOr<int64_t> Restore();

  // Where the layers' factors go.
  std::span<const FactorSink> sinks() const { return sinks_; }
  // What became of each matrix, restored ones too.
  MatrixReports& reports() { return reports_; }

  // The dense model's residual streams behind the last restored layer, and those of the model
  // compressed for a keep ratio. Empty where no layer was restored.
  absl::StatusOr<ResidualStream> DenseStream() const;
  absl::StatusOr<ResidualStream> CompressedStream(size_t sink) const;
  // Keep them for the record of a layer. Call them before LayerDone.
  absl::Status KeepDense(int64_t layer, const ResidualStream& stream);
  absl::Status KeepCompressed(int64_t layer, size_t sink, const ResidualStream& stream);

  // The layer is finished: commits its record, tells the job's watchers, and asks whether the job
  // should stop here.
  absl::Status LayerDone(int64_t layer);

 private:
  std::string RatioOf(size_t sink) const;
  absl::Status KeepFactors(size_t sink, size_t linear, const StoredFactors& factors);
  absl::Status RestoreLayer(const JournalRecord& record);
  absl::Status RestoreFactors(const JournalRecord& record, size_t sink, size_t linear);
  absl::StatusOr<ResidualStream> Stream(const std::string& role) const;
  absl::Status Keep(int64_t layer, const std::string& role, const ResidualStream& stream);

  const CompressRun& run_;
  const std::span<const FactorSink> originals_;
  const double layer_work_;
  std::vector<FactorSink> sinks_;
  MatrixReports reports_;
  std::vector<size_t> committed_;          // reports of each sink that are in records
  std::optional<JournalRecord> restored_;  // the last one
};

}  // namespace svdllm
