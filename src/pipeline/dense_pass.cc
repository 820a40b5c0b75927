#include "pipeline/dense_pass.h"

#include "pipeline/perplexity.h"

namespace svdllm {

absl::StatusOr<BlockStatistics> DensePass::NewStatistics() const {
  return BlockStatistics::Create(context_.checkpoint.config(), context_.checkpoint.arch(),
                                 statistic_, WantsOutputGrams(context_.spec), context_.backend);
}

absl::Status DensePass::Start() {
  if (statistic_ == Statistic::kNone) return absl::OkStatus();
  context_.log.Enter("load");
  ASSIGN_OR_RETURN(stream_,
                   EmbedSequences(context_.checkpoint, context_.calibration, context_.backend));
  return absl::OkStatus();
}

absl::Status DensePass::Calibrate(int64_t layer) {
  RunLog& log = context_.log;
  log.Enter("load");
  layer_ = layer;
  ASSIGN_OR_RETURN(block_, LoadBlock(context_.checkpoint, layer, context_.backend));
  ASSIGN_OR_RETURN(statistics_, NewStatistics());
  if (statistic_ == Statistic::kNone) return log.Check();
  log.Enter("calibrate");
  RETURN_IF_ERROR(AdvanceStream(forward_, block_, batches_, stream_, nullptr,
                                statistics_.Observer(), context_.backend,
                                [&log] { return log.Check(); }));
  RETURN_IF_ERROR(statistics_.Finish("layer " + std::to_string(layer), context_.spec.asvd_alpha));
  const Workload work = WorkloadOf(context_.calibration);
  const ModelConfig& config = context_.checkpoint.config();
  const Architecture& arch = context_.checkpoint.arch();
  return log.Step(BlockFlops(config, arch, work.tokens, work.positions) +
                  StatisticsFlops(context_.spec, config, arch, work.tokens));
}

absl::StatusOr<std::vector<Decomposition>> DensePass::DecomposeLayer(
    bool values_only, const std::vector<bool>& wanted) {
  context_.log.Enter("factorise");
  std::vector<DecomposeItem> items;
  const auto& linears = context_.checkpoint.arch().linears;
  for (size_t i = 0; i < linears.size(); ++i) {
    if (wanted[i]) {
      items.push_back({block_.linear(linears[i].id).w, statistics_.MetricOf(linears[i].id)});
    }
  }
  absl::StatusOr<std::vector<Decomposition>> decompositions =
      values_only ? DecomposeValues(items, context_.backend) : Decompose(items, context_.backend);
  if (!decompositions.ok()) {
    return Annotate(decompositions.status(), "factorise: layer " + std::to_string(layer_));
  }
  RETURN_IF_ERROR(
      context_.log.Step(DecomposeFlops(context_.checkpoint.config(), context_.checkpoint.arch()) *
                        (values_only ? kValuesShare : 1)));
  return decompositions;
}

}  // namespace svdllm
