#include "compress/kl_probe.h"

#include <algorithm>
#include <cmath>

#include "compress/layer_journal.h"
#include "compress/matrix.h"
#include "model/cost.h"

namespace svdllm {
namespace {

constexpr int64_t kProbeTokens = 512, kFewestTokens = 128;
constexpr int64_t kMostVariantBytes = int64_t{1} << 30;
// Rows that go through a block together.
constexpr int64_t kBatchRows = 4096;
// Rows whose logits are compared at once.
constexpr int64_t kLogitRows = 256;

}  // namespace

int64_t KlProbe::Tokens(int64_t available, int64_t hidden_size, int64_t linears) {
  const int64_t fitting = kMostVariantBytes / std::max<int64_t>(1, 4 * hidden_size * linears);
  return std::min(available, std::clamp(fitting, kFewestTokens, kProbeTokens));
}

KlProbe::KlProbe(const CompressRun& run, std::vector<std::vector<int64_t>> ranks)
    : run_(run),
      backend_(run.backend),
      ranks_(std::move(ranks)),
      forward_(run.checkpoint.config(), run.checkpoint.arch(), run.backend) {}

absl::Status KlProbe::Start() {
  const Sequences& all = run_.calibration;
  const int64_t hidden = run_.checkpoint.config().hidden_size;
  const int64_t tokens = Tokens(all.tokens(), hidden, static_cast<int64_t>(run_.linears.size()));
  // Spread over the calibration set: its sources lie one behind the other.
  const int64_t length = std::min(kLength, (all.tokens() + all.count() - 1) / all.count());
  const int64_t wanted = std::max<int64_t>(1, (tokens + length - 1) / length);
  const int64_t stride = std::max<int64_t>(1, all.count() / wanted);
  for (int64_t s = 0; s < all.count() && sequences_.tokens() < tokens; s += stride) {
    const int64_t begin = all.offsets[static_cast<size_t>(s)];
    const int64_t taken = std::min(
        {all.offsets[static_cast<size_t>(s) + 1] - begin, kLength, tokens - sequences_.tokens()});
    sequences_.Append(std::span<const int32_t>(all.ids).subspan(static_cast<size_t>(begin),
                                                                static_cast<size_t>(taken)));
  }
  ASSIGN_OR_RETURN(dense_, EmbedSequences(run_.checkpoint, sequences_, backend_));
  int64_t probed = 0;
  for (const std::vector<int64_t>& ranks : ranks_) {
    probed += std::count_if(ranks.begin(), ranks.end(), [](int64_t rank) { return rank > 0; });
  }
  ASSIGN_OR_RETURN(streams_, backend_.New(probed * dense_.rows(), hidden, DType::kF32));
  return absl::OkStatus();
}

MatrixRef KlProbe::StreamsOf(size_t first, size_t count) const {
  return streams_.ref().Rows(static_cast<int64_t>(first) * dense_.rows(),
                             static_cast<int64_t>(count) * dense_.rows());
}

absl::Status KlProbe::AdvanceVariants(const Block& block) {
  const auto most = static_cast<size_t>(std::max<int64_t>(1, kBatchRows / dense_.rows()));
  for (size_t first = 0; first < variants_.size(); first += most) {
    RETURN_IF_ERROR(run_.progress.Check());
    const size_t count = std::min(most, variants_.size() - first);
    std::vector<int64_t> offsets = {0};
    for (size_t v = 0; v < count; ++v) {
      const int64_t begin = offsets.back();
      for (size_t s = 1; s < sequences_.offsets.size(); ++s) {
        offsets.push_back(begin + sequences_.offsets[s]);
      }
    }
    RETURN_IF_ERROR(forward_.RunBlock(block, offsets, StreamsOf(first, count)));
  }
  return absl::OkStatus();
}

absl::Status KlProbe::Branch(const Block& block, LinearId id, const Decomposition& decomposition,
                             const Variant& variant) {
  Block changed = block;  // shares what stays
  const int64_t rank = ranks_[variant.ratio][variant.linear];
  ASSIGN_OR_RETURN(const Factors factors, Truncate(decomposition, rank, backend_));
  RETURN_IF_ERROR(SetFactors(factors, block.linear(id).dtype(), changed.linear(id), backend_));
  const MatrixRef own = StreamsOf(variants_.size(), 1);
  RETURN_IF_ERROR(backend_.Copy(dense_, own));
  RETURN_IF_ERROR(forward_.RunBlock(changed, sequences_.offsets, own));
  variants_.push_back(variant);
  return absl::OkStatus();
}

absl::Status KlProbe::BeginLayer(const Block& block) {
  run_.progress.Enter("allocate");
  return AdvanceVariants(block);
}

absl::Status KlProbe::AddMatrix(const Block& block, size_t linear,
                                const Decomposition& decomposition) {
  run_.progress.Enter("allocate");
  for (size_t ratio = 0; ratio < ranks_.size(); ++ratio) {
    if (ranks_[ratio][linear] == 0) continue;
    RETURN_IF_ERROR(run_.progress.Check());
    RETURN_IF_ERROR(Branch(block, run_.linears[linear].id, decomposition, Variant{ratio, linear}));
  }
  return absl::OkStatus();
}

absl::Status KlProbe::EndLayer(const Block& block) {
  run_.progress.Enter("allocate");
  RETURN_IF_ERROR(forward_.RunBlock(block, sequences_.offsets, dense_));
  const auto tokens = static_cast<double>(sequences_.tokens());
  return run_.progress.Step(
      static_cast<double>(variants_.size() + 1) *
      BlockFlops(run_.checkpoint.config(), run_.checkpoint.arch(), tokens, kLength / 2.0));
}

absl::Status KlProbe::Keep(Journal& journal, const std::string& series, int64_t number) const {
  RETURN_IF_ERROR(KeepRows(journal, series, number, "probe", dense_, backend_));
  return KeepRows(journal, series, number, "variants", StreamsOf(0, variants_.size()), backend_);
}

absl::Status KlProbe::Restore(const JournalRecord& record) {
  for (size_t linear = 0; linear < run_.linears.size(); ++linear) {
    if (run_.linears[linear].layer > record.number) break;
    for (size_t ratio = 0; ratio < ranks_.size(); ++ratio) {
      if (ranks_[ratio][linear] > 0) variants_.push_back(Variant{ratio, linear});
    }
  }
  RETURN_IF_ERROR(TakeRows(record, "probe", dense_, backend_));
  return TakeRows(record, "variants", StreamsOf(0, variants_.size()), backend_);
}

absl::StatusOr<std::vector<std::vector<double>>> KlProbe::Divergences() {
  const ModelConfig& config = run_.checkpoint.config();
  ASSIGN_OR_RETURN(const Head head, LoadHead(run_.checkpoint, backend_));
  ASSIGN_OR_RETURN(const Matrix reference, backend_.New(kLogitRows, head.w.rows(), DType::kF32));
  ASSIGN_OR_RETURN(const Matrix logits, backend_.New(kLogitRows, head.w.rows(), DType::kF32));
  std::vector<std::vector<double>> sums;
  for (const auto& ranks : ranks_) sums.emplace_back(ranks.size(), 0.0);
  for (int64_t begin = 0; begin < dense_.rows(); begin += kLogitRows) {
    const int64_t rows = std::min(kLogitRows, dense_.rows() - begin);
    const MatrixRef dense_logits = reference.ref().Rows(0, rows);
    RETURN_IF_ERROR(forward_.Logits(head, dense_.ref().Rows(begin, rows), dense_logits));
    for (size_t v = 0; v < variants_.size(); ++v) {
      RETURN_IF_ERROR(run_.progress.Check());
      const MatrixRef own = logits.ref().Rows(0, rows);
      RETURN_IF_ERROR(forward_.Logits(head, StreamsOf(v, 1).Rows(begin, rows), own));
      ASSIGN_OR_RETURN(const double divergence, backend_.KlDivergence(dense_logits, own));
      sums[variants_[v].ratio][variants_[v].linear] += divergence;
      RETURN_IF_ERROR(run_.progress.Step(HeadFlops(config, static_cast<double>(rows)),
                                         run_.linears[variants_[v].linear].name));
    }
  }
  for (std::vector<double>& ratio : sums) {
    for (double& sum : ratio) {
      // Rounding leaves a divergence that is next to nothing on either side of zero.
      sum = std::max(sum / static_cast<double>(sequences_.tokens()), 0.0);
      if (!std::isfinite(sum)) {
        return MakeError(absl::StatusCode::kInternal, kNumericalFailure,
                         "allocate: the divergence of a probe is not finite");
      }
    }
  }
  return sums;
}

}  // namespace svdllm
