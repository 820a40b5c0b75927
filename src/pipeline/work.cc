#include "pipeline/work.h"

#include <algorithm>
#include <set>

#include "pipeline/block_statistics.h"
#include "pipeline/kl_probe.h"
#include "pipeline/plan.h"

namespace svdllm {
namespace {

constexpr int64_t kBatchTokens = 4096;

double Real(int64_t x) { return static_cast<double>(x); }

// KL probes: a pass of the calibration stream aside, every matrix's variant goes through the blocks
// behind its own and the head.
double ProbeFlops(const CompressSpec& spec, const Checkpoint& checkpoint,
                  const Workload& calibration) {
  const ModelConfig& config = checkpoint.config();
  const double layers = Real(config.num_layers);
  const double variants =
      layers *
      Real(static_cast<int64_t>(checkpoint.arch().linears.size() * spec.keep_ratios.size()));
  const double tokens = Real(KlProbe::Tokens(static_cast<int64_t>(calibration.tokens),
                                             config.hidden_size, Targets(checkpoint).size()));
  const double block = BlockFlops(config, checkpoint.arch(), tokens, KlProbe::kLength / 2.0);
  return variants * ((layers + 1) / 2 * block + HeadFlops(config, tokens)) + layers * block;
}

}  // namespace

double BlockFlops(const ModelConfig& config, const Architecture& arch, double tokens,
                  double positions) {
  double flops = 0;
  for (const LinearRow& row : arch.linears) {
    const LinearShape shape = ShapeOf(config, row.id);
    flops += 2 * Real(shape.rows * shape.cols) * tokens;
  }
  return flops + 4 * tokens * positions * Real(config.num_heads * config.head_dim);
}

double StatisticsFlops(const CompressSpec& spec, const ModelConfig& config,
                       const Architecture& arch, double tokens) {
  if (RowOf(spec.method).statistic != Statistic::kGram) return 0;
  std::set<Site> seen;
  double flops = 0;
  for (const LinearRow& row : arch.linears) {
    if (!seen.insert(row.input).second) continue;
    LinearId reader;
    const LinearShape shape = ShapeOf(config, row.id);
    const bool output =
        WantsOutputGrams(spec) && BlockStatistics::UsesOutputGram(config, arch, row.input, &reader);
    const double order = Real(output ? shape.rows : shape.cols);
    flops += order * order * tokens;  // one triangle
  }
  return flops;
}

double AnchoredFlops(const ModelConfig& config, const Architecture& arch, Site site,
                     const Workload& work) {
  LinearId reader;
  const bool output = BlockStatistics::UsesOutputGram(config, arch, site, &reader);
  const LinearShape shape = ShapeOf(config, reader);
  const double n = Real(shape.cols), m = Real(shape.rows);
  double flops = n * n + (output ? 4 * m * n : 2 * n * n);
  // Both streams pass through the site's half of the block where the site ends it.
  if (site == Site::kOIn || site == Site::kDownIn) {
    flops += BlockFlops(config, arch, 1, work.positions);
  }
  return flops * work.tokens;
}

double DecomposeFlops(const ModelConfig& config, const Architecture& arch) {
  double flops = 0;
  for (const LinearRow& row : arch.linears) {
    const LinearShape shape = ShapeOf(config, row.id);
    const double m = Real(shape.rows), n = Real(shape.cols), p = std::min(m, n);
    flops += 9 * p * p * p + 4 * p * p * n + (m > n ? 4 * m * n * n : 0) + 2 * m * n * n;
  }
  return 2 * flops;  // F64
}

double HeadFlops(const ModelConfig& config, double tokens) {
  const int64_t projection =
      config.embedding_size == config.hidden_size ? 0 : config.embedding_size * config.hidden_size;
  return 2 * Real(config.vocab_size * config.embedding_size + projection) * tokens;
}

int64_t KvCacheBytes(const ModelConfig& config, int64_t tokens) {
  return 4 * 2 * config.num_layers * config.num_kv_heads * config.head_dim * tokens;
}

double PerplexityFlops(const Checkpoint& checkpoint, const Workload& windows) {
  const ModelConfig& config = checkpoint.config();
  return Real(config.num_layers) *
             BlockFlops(config, checkpoint.arch(), windows.tokens, windows.positions) +
         HeadFlops(config, windows.tokens);
}

double CompressFlops(const CompressSpec& spec, const Checkpoint& checkpoint,
                     const Workload& calibration, const Workload& windows) {
  const ModelConfig& config = checkpoint.config();
  const Architecture& arch = checkpoint.arch();
  const MethodRow& method = RowOf(spec.method);
  const double layers = Real(config.num_layers);
  const double ratios = Real(static_cast<int64_t>(spec.keep_ratios.size()));
  const double forward = BlockFlops(config, arch, calibration.tokens, calibration.positions);
  const double pass = method.statistic == Statistic::kNone
                          ? 0
                          : forward + StatisticsFlops(spec, config, arch, calibration.tokens);
  const double decompose = DecomposeFlops(config, arch);
  double work = 0;
  if (spec.method == Method::kAnchored) {
    for (const Site site : {Site::kAttnIn, Site::kOIn, Site::kMlpIn, Site::kDownIn}) {
      work += layers * ratios * AnchoredFlops(config, arch, site, calibration);
    }
    work += layers * ratios * decompose * (1 + kFactorShare);
  } else {
    work += layers * (pass + decompose * (1 + ratios * kFactorShare));
    if (method.update) work += ratios * 2 * (layers - 1) * forward;
  }
  if (spec.allocation != Allocation::kUniform) {
    const bool probes = spec.allocation == Allocation::kKlProbe;
    work += layers * (pass + decompose * (probes ? 1 : kValuesShare));
    if (probes) work += ProbeFlops(spec, checkpoint, calibration);
  }
  return work + (1 + ratios) * PerplexityFlops(checkpoint, windows);
}

int64_t PeakHostBytes(const CompressSpec& spec, const Checkpoint& checkpoint,
                      const Workload& windows) {
  const ModelConfig& config = checkpoint.config();
  const MethodRow& method = RowOf(spec.method);
  const bool anchored = spec.method == Method::kAnchored;
  const int64_t hidden = config.hidden_size, inter = config.intermediate_size;
  const int64_t q = config.num_heads * config.head_dim, kv = config.num_kv_heads * config.head_dim;
  const auto ratios = static_cast<int64_t>(spec.keep_ratios.size());
  int64_t block = 0, decompositions = 0, statistics = 0, largest = 0, widest = 0;
  for (const LinearRow& row : checkpoint.arch().linears) {
    const LinearShape shape = ShapeOf(config, row.id);
    const int64_t size = shape.rows * shape.cols, order = std::min(shape.rows, shape.cols);
    block += 4 * size;
    // W, Q and C of a tall matrix, eigenvectors.
    decompositions +=
        8 * (size + (shape.rows > shape.cols ? size + order * order : 0) + 3 * order * order);
    largest = std::max(largest, size);
    widest = std::max(widest, shape.cols);
    LinearId reader;
    if (!anchored && WantsOutputGrams(spec) &&
        BlockStatistics::UsesOutputGram(config, checkpoint.arch(), row.input, &reader)) {
      statistics += 8 * shape.rows * shape.rows + 4 * 2048 * shape.cols;
    }
  }
  const int64_t attention = std::max(hidden, q);
  if (anchored) {
    // H, the drift and a copy of H for the solve, of one site at a time.
    statistics = 8 * widest * (2 * widest + std::max(hidden, attention)) * ratios;
  } else {
    statistics += 3 * 8 * attention * attention;
    if (!WantsOutputGrams(spec)) statistics += 8 * inter * inter;
  }
  const int64_t prefixes = anchored || method.update ? ratios : 0;
  const int64_t streams = method.statistic == Statistic::kNone ? 0 : 1 + prefixes;
  const int64_t tokens = spec.calibration.samples * spec.calibration.seq_len;
  const int64_t batch = std::min(tokens, std::max(kBatchTokens, spec.calibration.seq_len));
  const int64_t activations = 4 * streams * tokens * hidden;
  const int64_t workspace = 4 * batch * (2 * hidden + 2 * q + 2 * kv + 2 * inter);
  // The products of a chunk of tokens, before they are added up in double precision.
  const int64_t chunk = 4 * widest * widest;
  int64_t compress = chunk + activations + (prefixes > 0 ? 2 : 1) * workspace +
                     (method.update ? 2 : 1) * (block + statistics) + decompositions +
                     8 * 4 * largest;
  if (anchored) {
    compress += ratios * block;
    compress += std::min(int64_t{1} << 30, 4 * tokens * std::max(inter, q) * ratios);
  }
  if (spec.allocation == Allocation::kKlProbe) {
    const int64_t targets =
        config.num_layers * static_cast<int64_t>(checkpoint.arch().linears.size());
    const int64_t probe = 4 * hidden * KlProbe::Tokens(tokens, hidden, targets) * targets * ratios +
                          4 * config.vocab_size * (hidden + 512);
    compress = std::max(compress,
                        probe + activations + workspace + 2 * block + statistics + decompositions);
  }
  int64_t evaluate = 0;
  if (windows.tokens > 0) {
    evaluate = 4 * static_cast<int64_t>(windows.tokens) * hidden + workspace + block +
               4 * config.vocab_size * (hidden + 256);
  }
  // The mapped weights of a block and the libraries.
  return std::max(compress, evaluate) + checkpoint.weight_bytes() + (int64_t{100} << 20);
}

}  // namespace svdllm
