#include "compress/dense_pass.h"

#include "compress/cost.h"
#include "compress/rank_rules.h"

namespace svdllm {

absl::StatusOr<BlockStatistics> DensePass::NewStatistics() const {
  return BlockStatistics::Create(context_.checkpoint.config(), context_.checkpoint.arch(),
                                 statistic_, WantsOutputGrams(context_.spec), context_.backend);
}

absl::Status DensePass::Start() {
  if (statistic_ == Statistic::kNone) return absl::OkStatus();
  context_.log.Enter("load");
  ASSIGN_OR_RETURN(stream_,
                   ResidualStream::Embed(context_.checkpoint, context_.calibration,
                                         context_.placement.host_streams, context_.backend));
  return absl::OkStatus();
}

absl::Status DensePass::Calibrate(int64_t layer) {
  RunLog& log = context_.log;
  log.Enter("load");
  layer_ = layer;
  block_ = Block();  // first give the old one back
  statistics_ = BlockStatistics();
  ASSIGN_OR_RETURN(block_, reader_.Take(layer));
  ASSIGN_OR_RETURN(statistics_, NewStatistics());
  if (statistic_ == Statistic::kNone) {
    RETURN_IF_ERROR(reader_.ReadAhead(layer + 1));
    return log.Check();
  }
  log.Enter("calibrate");
  RETURN_IF_ERROR(AdvanceStream(forward_, block_, batches_, stream_, /*keep=*/true,
                                statistics_.Observer(block_.precision()),
                                CheckAndRead([&] { return log.Check(); }, reader_, layer + 1)));
  RETURN_IF_ERROR(reader_.ReadAhead(layer + 1));
  RETURN_IF_ERROR(statistics_.Finish("layer " + std::to_string(layer), context_.spec.asvd_alpha));
  const Workload work = WorkloadOf(context_.calibration);
  const ModelConfig& config = context_.checkpoint.config();
  const Architecture& arch = context_.checkpoint.arch();
  return log.Step(BlockFlops(config, arch, work.tokens, work.positions) +
                  StatisticsFlops(context_.spec, config, arch, work.tokens));
}

absl::StatusOr<PendingDecompositions> StartDecompositions(const CompressContext& context,
                                                          const Block& block,
                                                          const BlockStatistics& statistics,
                                                          bool values_only,
                                                          std::span<const size_t> linears) {
  context.log.Enter("factorise");
  std::vector<DecomposeItem> items;
  for (const size_t i : linears) {
    const LinearId id = context.checkpoint.arch().linears[i].id;
    items.push_back({block.linear(id).w, statistics.MetricOf(id)});
  }
  absl::StatusOr<PendingDecompositions> pending =
      PendingDecompositions::Start(items, values_only, context.backend);
  if (!pending.ok()) return LayerError(pending.status(), block.layer);
  const Architecture& arch = context.checkpoint.arch();
  RETURN_IF_ERROR(context.log.Step(
      DecomposeFlops(context.checkpoint.config(), arch) * (values_only ? kValuesShare : 1) *
      static_cast<double>(linears.size()) / static_cast<double>(arch.linears.size())));
  return pending;
}

}  // namespace svdllm
