// Every allocation but the uniform one needs the spectra of the whole model: a pass of its own.
#include "compress/allocate.h"

#include <algorithm>
#include <optional>

#include "compress/cost.h"
#include "compress/dense_pass.h"
#include "compress/kl_probe.h"
#include "compress/layer_journal.h"
#include "compress/rank_rules.h"

namespace svdllm {
namespace {

// A matrix that saves nothing at the uniform ratio was not probed; this keeps it dense where
// anything else can give way.
constexpr double kUnprobed = 1e6;

using Ranks = std::vector<std::vector<int64_t>>;

// What the pass over the dense model tells an allocation.
struct Spectra {
  std::vector<AllocationItem> items;             // one per linear layer
  std::vector<std::vector<double>> divergences;  // per keep ratio and linear layer; probes only
};

// The divergence of a probe at its rank, carried over to other ranks by the spectrum: KL_i · E_i(k)
// / E_i(k_probe), E_i being the tail.
double WeightOf(const AllocationItem& item, int64_t probed_rank, double divergence) {
  // Below these a figure is rounding; a matrix that loses nothing must not look free to cut.
  constexpr double kLeastDivergence = 1e-9, kLeastShare = 1e-7;
  AllocationItem plain = item;
  plain.weight = 1;
  const double share = AllocationError({plain}, {probed_rank});  // E(k_probe) / E(0)
  return std::max(divergence, kLeastDivergence) / std::max(share, kLeastShare);
}

// KL probes: a pass of the calibration stream aside, every matrix's variant goes through the blocks
// behind its own and the head.
double ProbeFlops(const CompressSpec& spec, const Checkpoint& checkpoint,
                  const Workload& calibration) {
  const ModelConfig& config = checkpoint.config();
  const double layers = Real(config.num_layers);
  const double variants =
      layers *
      Real(static_cast<int64_t>(checkpoint.arch().linears.size() * spec.keep_ratios.size()));
  const double tokens = Real(
      KlProbe::Tokens(static_cast<int64_t>(calibration.tokens), config.hidden_size,
                      checkpoint.arch().linears.size() * static_cast<size_t>(config.num_layers)));
  const double block = BlockFlops(config, checkpoint.arch(), tokens, KlProbe::kLength / 2.0);
  return variants * ((layers + 1) / 2 * block + HeadFlops(config, tokens)) + layers * block;
}

constexpr char kSpectraSeries[] = "spectra", kRanksSeries[] = "ranks";
constexpr char kStream[] = "dense", kSpectra[] = "spectra";

// The item of a linear layer, still without its spectrum.
absl::StatusOr<AllocationItem> ItemOf(const CompressRun& run, const LinearLayer& linear) {
  ASSIGN_OR_RETURN(const TensorSpec weight, run.checkpoint.Spec(linear.name + ".weight"));
  return AllocationItem{
      linear.rows, linear.cols, static_cast<int64_t>(SizeOf(weight.dtype)), linear.group, {}};
}

// The pass over the dense model, layer by layer, each of which is kept in the run's journal.
class SpectraPass {
 public:
  // probed: the ranks that are probed at; none is where the allocation does not probe.
  SpectraPass(const CompressRun& run, const Ranks& probed) : run_(run), pass_(run) {
    if (RowOf(run.spec.allocation).probes) probe_.emplace(run, probed);
  }

  absl::StatusOr<Spectra> Gather() {
    std::vector<JournalRecord> records;
    if (run_.journal != nullptr) {
      ASSIGN_OR_RETURN(records, run_.journal->Load(kSpectraSeries));
    }
    const auto done = static_cast<int64_t>(records.size());
    const int64_t layers = run_.checkpoint.config().num_layers;
    if (probe_) RETURN_IF_ERROR(probe_->Start());
    RETURN_IF_ERROR(Restore(records));
    for (int64_t layer = done; layer < layers; ++layer) {
      RETURN_IF_ERROR(AddLayer(layer));
      RETURN_IF_ERROR(KeepLayer(layer));
    }
    if (probe_) {
      ASSIGN_OR_RETURN(spectra_.divergences, probe_->Divergences());
    }
    return std::move(spectra_);
  }

 private:
  absl::Status Restore(const std::vector<JournalRecord>& records) {
    if (records.empty()) return pass_.Start();
    for (const JournalRecord& record : records) {
      const auto path = record.files.find(kSpectra);
      if (path == record.files.end()) return absl::InternalError("a record without its spectra");
      ASSIGN_OR_RETURN(const SafetensorsFile file, SafetensorsFile::Open(path->second));
      for (const size_t i : LinearsOf(run_.linears, record.number)) {
        ASSIGN_OR_RETURN(AllocationItem item, ItemOf(run_, run_.linears[i]));
        ASSIGN_OR_RETURN(const TensorView spectrum, file.Get(std::to_string(i)));
        item.spectrum.resize(static_cast<size_t>(spectrum.elements()));
        ConvertElements(spectrum.bytes.data(), spectrum.dtype, item.spectrum.data(), DType::kF64,
                        item.spectrum.size());
        spectra_.items.push_back(std::move(item));
      }
    }
    const JournalRecord& last = records.back();
    ResidualStream stream;
    if (last.files.count(kStream) > 0) {
      ASSIGN_OR_RETURN(stream, TakeStream(run_, last, kStream));
    }
    RETURN_IF_ERROR(pass_.Start(std::move(stream)));
    if (probe_) RETURN_IF_ERROR(probe_->Restore(last));
    run_.progress.Skip(AllocationFlops(run_.spec, run_.checkpoint, WorkloadOf(run_.calibration)) *
                       static_cast<double>(records.size()) /
                       static_cast<double>(run_.checkpoint.config().num_layers));
    return run_.progress.Step(
        0, "",
        std::to_string(records.size()) + " layers' spectra taken over from an earlier attempt");
  }

  absl::Status AddLayer(int64_t layer) {
    RETURN_IF_ERROR(pass_.Calibrate(layer));
    if (probe_) RETURN_IF_ERROR(probe_->BeginLayer(pass_.block()));
    for (const std::vector<size_t>& group : DecompositionGroups(run_, layer)) {
      ASSIGN_OR_RETURN(PendingDecompositions pending,
                       StartDecompositions(run_, pass_.block(), pass_.statistics(),
                                           /*values_only=*/!probe_, group));
      absl::StatusOr<std::vector<Decomposition>> decompositions = pending.Finish();
      if (!decompositions.ok()) return LayerError(decompositions.status(), layer);
      for (size_t j = 0; j < group.size(); ++j) {
        ASSIGN_OR_RETURN(AllocationItem item, ItemOf(run_, run_.linears[group[j]]));
        item.spectrum = (*decompositions)[j].spectrum;
        spectra_.items.push_back(std::move(item));
        if (!probe_) continue;
        RETURN_IF_ERROR(probe_->AddMatrix(pass_.block(), group[j], (*decompositions)[j]));
      }
    }
    return probe_ ? probe_->EndLayer(pass_.block()) : absl::OkStatus();
  }

  absl::Status KeepLayer(int64_t layer) {
    if (run_.journal == nullptr) return absl::OkStatus();
    std::vector<TensorSpec> specs;
    const std::vector<size_t> linears = LinearsOf(run_.linears, layer);
    for (const size_t i : linears) {
      specs.push_back({std::to_string(i),
                       DType::kF64,
                       {static_cast<int64_t>(spectra_.items[i].spectrum.size())}});
    }
    RETURN_IF_ERROR(run_.journal->Write(
        kSpectraSeries, layer, kSpectra, Journal::Needed::kAlways, specs,
        [&](SafetensorsWriter& writer) -> absl::Status {
          for (const size_t i : linears) {
            RETURN_IF_ERROR(writer.Write(std::to_string(i),
                                         std::as_bytes(std::span(spectra_.items[i].spectrum))));
          }
          return absl::OkStatus();
        }));
    if (!pass_.stream().empty()) {
      RETURN_IF_ERROR(KeepStream(*run_.journal, kSpectraSeries, layer, kStream, pass_.stream()));
    }
    if (probe_) RETURN_IF_ERROR(probe_->Keep(*run_.journal, kSpectraSeries, layer));
    RETURN_IF_ERROR(run_.journal->Commit(kSpectraSeries, layer, nlohmann::json::object()));
    return run_.progress.Kept();
  }

  const CompressRun& run_;
  DensePass pass_;
  std::optional<KlProbe> probe_;
  Spectra spectra_;
};

// The ranks that an earlier attempt decided on. Empty: none did.
absl::StatusOr<Ranks> KeptRanks(const CompressRun& run) {
  Ranks ranks;
  if (run.journal == nullptr) return ranks;
  ASSIGN_OR_RETURN(const std::vector<JournalRecord> records, run.journal->Load(kRanksSeries));
  if (records.empty()) return ranks;
  for (const double keep_ratio : run.spec.keep_ratios) {
    ranks.push_back(records.back().facts.at(RatioName(keep_ratio)).get<std::vector<int64_t>>());
  }
  run.progress.Skip(AllocationFlops(run.spec, run.checkpoint, WorkloadOf(run.calibration)));
  return ranks;
}

absl::Status KeepRanks(const CompressRun& run, const Ranks& ranks) {
  if (run.journal == nullptr) return absl::OkStatus();
  nlohmann::json facts = nlohmann::json::object();
  for (size_t r = 0; r < ranks.size(); ++r) facts[RatioName(run.spec.keep_ratios[r])] = ranks[r];
  RETURN_IF_ERROR(run.journal->Commit(kRanksSeries, 0, std::move(facts)));
  RETURN_IF_ERROR(run.journal->Drop(kSpectraSeries));
  return run.progress.Kept();
}

}  // namespace

absl::StatusOr<Ranks> AllocateRanks(const CompressRun& run) {
  const AllocationRow& allocation = RowOf(run.spec.allocation);
  const Ranks uniform = UniformRanks(run.spec, run.linears);
  if (!allocation.needs_spectra) return uniform;

  ASSIGN_OR_RETURN(Ranks ranks, KeptRanks(run));
  if (!ranks.empty()) return ranks;
  ASSIGN_OR_RETURN(Spectra spectra, SpectraPass(run, uniform).Gather());
  run.progress.Enter("allocate");
  for (size_t r = 0; r < run.spec.keep_ratios.size(); ++r) {
    for (size_t i = 0; i < spectra.items.size() && allocation.probes; ++i) {
      AllocationItem& item = spectra.items[i];
      const int64_t rank = uniform[r][i];
      item.weight = rank > 0 ? WeightOf(item, rank, spectra.divergences[r][i]) : kUnprobed;
    }
    ranks.push_back(allocation.allocate(spectra.items, RulesOf(run.spec, run.spec.keep_ratios[r])));
  }
  RETURN_IF_ERROR(KeepRanks(run, ranks));
  RETURN_IF_ERROR(run.progress.Step(0, "", "ranks allocated"));
  return ranks;
}

double AllocationFlops(const CompressSpec& spec, const Checkpoint& checkpoint,
                       const Workload& calibration) {
  const AllocationRow& allocation = RowOf(spec.allocation);
  if (!allocation.needs_spectra) return 0;
  const double pass = PassFlops(spec, checkpoint, calibration) +
                      DecomposeFlops(checkpoint.config(), checkpoint.arch()) *
                          (allocation.probes ? 1 : kValuesShare);
  return Real(checkpoint.config().num_layers) * pass +
         (allocation.probes ? ProbeFlops(spec, checkpoint, calibration) : 0);
}

}  // namespace svdllm
