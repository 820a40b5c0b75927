#include "compress/dense_pass.h"

#include "compress/cost.h"
#include "compress/rank_rules.h"

namespace svdllm {

absl::StatusOr<BlockStatistics> DensePass::NewStatistics() const {
  return BlockStatistics::Create(run_.checkpoint.config(), run_.checkpoint.arch(), statistic_,
                                 WantsOutputGrams(run_.spec), run_.backend);
}

absl::Status DensePass::Start(ResidualStream stream) {
  if (statistic_ == Statistic::kNone) return absl::OkStatus();
  stream_ = std::move(stream);
  if (!stream_.empty()) return absl::OkStatus();
  run_.progress.Enter("load");
  ASSIGN_OR_RETURN(stream_, ResidualStream::Embed(run_.checkpoint, run_.calibration,
                                                  run_.placement.host_streams, run_.backend));
  return absl::OkStatus();
}

absl::Status DensePass::Calibrate(int64_t layer) {
  Progress& progress = run_.progress;
  progress.Enter("load");
  layer_ = layer;
  block_ = Block();  // first give the old one back
  statistics_ = BlockStatistics();
  ASSIGN_OR_RETURN(block_, reader_.Take(layer));
  ASSIGN_OR_RETURN(statistics_, NewStatistics());
  if (statistic_ == Statistic::kNone) {
    RETURN_IF_ERROR(reader_.ReadAhead(layer + 1));
    return progress.Check();
  }
  progress.Enter("calibrate");
  RETURN_IF_ERROR(AdvanceStream(
      forward_, block_, batches_, stream_, /*keep=*/true, statistics_.Observer(block_.precision()),
      CheckAndRead([&] { return progress.Check(); }, reader_, layer + 1)));
  RETURN_IF_ERROR(reader_.ReadAhead(layer + 1));
  RETURN_IF_ERROR(statistics_.Finish("layer " + std::to_string(layer), run_.spec.asvd_alpha));
  const Workload work = WorkloadOf(run_.calibration);
  const ModelConfig& config = run_.checkpoint.config();
  const Architecture& arch = run_.checkpoint.arch();
  return progress.Step(BlockFlops(config, arch, work.tokens, work.positions) +
                       StatisticsFlops(run_.spec, config, arch, work.tokens));
}

absl::StatusOr<PendingDecompositions> StartDecompositions(const CompressRun& run,
                                                          const Block& block,
                                                          const BlockStatistics& statistics,
                                                          bool values_only,
                                                          std::span<const size_t> linears) {
  run.progress.Enter("factorise");
  std::vector<DecomposeItem> items;
  for (const size_t i : linears) {
    const LinearId id = run.linears[i].id;
    items.push_back({block.linear(id).w, statistics.MetricOf(id)});
  }
  absl::StatusOr<PendingDecompositions> pending =
      PendingDecompositions::Start(items, values_only, run.backend);
  if (!pending.ok()) return LayerError(pending.status(), block.layer);
  const Architecture& arch = run.checkpoint.arch();
  RETURN_IF_ERROR(run.progress.Step(
      DecomposeFlops(run.checkpoint.config(), arch) * (values_only ? kValuesShare : 1) *
      static_cast<double>(linears.size()) / static_cast<double>(arch.linears.size())));
  return pending;
}

}  // namespace svdllm
