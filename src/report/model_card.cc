#include <fmt/format.h>

#include <algorithm>
#include <nlohmann/json.hpp>

#include "base/format.h"
#include "report/compression_json.h"

namespace svdllm {
namespace {

std::string Megabytes(int64_t bytes) {
  return fmt::format("{:.1f} MB", static_cast<double>(bytes) / 1e6);
}

std::string Millions(int64_t count) {
  return fmt::format("{:.2f} M", static_cast<double>(count) / 1e6);
}

std::string Change(int64_t before, int64_t after) {
  return fmt::format("{:+.1f} %",
                     100.0 * (static_cast<double>(after) / static_cast<double>(before) - 1));
}

// The last part of a path or URI.
std::string BaseName(std::string uri) {
  while (!uri.empty() && uri.back() == '/') uri.pop_back();
  const size_t slash = uri.rfind('/');
  return slash == std::string::npos ? uri : uri.substr(slash + 1);
}

// "60 % wiki.txt and 40 % the model's own samples"
std::string SourcesText(const std::vector<CalibrationSource>& sources) {
  double total = 0;
  for (const CalibrationSource& source : sources) total += source.weight;
  std::string text;
  for (size_t i = 0; i < sources.size(); ++i) {
    if (i > 0) text += i + 1 < sources.size() ? ", " : " and ";
    if (sources.size() > 1) text += fmt::format("{:.3g} % ", 100 * sources[i].weight / total);
    text += sources[i].model_samples ? "the model's own samples"
                                     : "`" + BaseName(sources[i].text.path) + "`";
  }
  return text;
}

// Over all texts.
double PrefillRate(const std::vector<PerplexityResult>& perplexities) {
  double tokens = 0, seconds = 0;
  for (const PerplexityResult& p : perplexities) {
    tokens += static_cast<double>(p.predicted_tokens + p.windows);
    seconds += p.seconds;
  }
  return tokens / seconds;
}

// A line a metric, of tasks that were put to both models.
std::string TaskRows(const std::vector<TaskResult>& before, const std::vector<TaskResult>& after) {
  const auto text = [](const TaskMetric& metric) {
    return metric.std_error < 0 ? fmt::format("{:.3f}", metric.value)
                                : fmt::format("{:.3f} ± {:.3f}", metric.value, metric.std_error);
  };
  std::string rows;
  for (size_t t = 0; t < before.size() && t < after.size(); ++t) {
    for (size_t m = 0; m < before[t].metrics.size() && m < after[t].metrics.size(); ++m) {
      const TaskMetric &from = before[t].metrics[m], &to = after[t].metrics[m];
      rows += fmt::format("| {}, {} ({} questions) | {} | {} | {:+.3f} |\n", before[t].name,
                          from.name, before[t].items, text(from), text(to), to.value - from.value);
    }
  }
  return rows;
}

// What the job measured of speed, of batch sizes that both models have.
std::string SpeedSection(const CompressResult& job, const ArtifactResult& artifact) {
  std::string rows;
  for (size_t i = 0; i < job.before.throughputs.size() && i < artifact.figures.throughputs.size();
       ++i) {
    const ThroughputResult &before = job.before.throughputs[i],
                           &after = artifact.figures.throughputs[i];
    const auto rate = [&](const char* what, const RateSummary& from, const RateSummary& to) {
      rows +=
          fmt::format("| {} | {}, tokens per second | {} | {} | × {:.2f} |\n", before.batch_size,
                      what, Rate(from.median), Rate(to.median), to.median / from.median);
    };
    rate("prefill", before.prefill, after.prefill);
    rate("decode", before.decode, after.decode);
    rows += fmt::format("| {} | peak memory | {} | {} | {} |\n", before.batch_size,
                        Megabytes(before.peak_memory_bytes), Megabytes(after.peak_memory_bytes),
                        Change(before.peak_memory_bytes, after.peak_memory_bytes));
  }
  if (rows.empty()) return "";
  const ThroughputResult& first = job.before.throughputs.front();
  return fmt::format(
      "\n## Speed\n\n| batch size | | before | after | change |\n|---|---|---|---|---|\n{}\n"
      "On {}, by svdllm's own forward pass: prompts of {} tokens, {} new tokens each, chosen "
      "greedily; medians of {} rounds behind one that warmed up, one model after the other. Memory "
      "is that of weights, caches and buffers. Other programs and devices differ.\n",
      rows, job.device, first.prompt_tokens, first.new_tokens, first.repetitions);
}

// The licence that the source's own card or files declare, where they do.
std::string LicenceLine(const Checkpoint& source) {
  absl::StatusOr<std::string> card = ReadFile(source.dir() + "/README.md", 1 << 20);
  if (card.ok() && card->rfind("---", 0) == 0) {
    const size_t begin = card->find("\nlicense:");
    const size_t end = card->find("\n---", 3);
    if (begin != std::string::npos && end != std::string::npos && begin < end) {
      const size_t line_end = card->find('\n', begin + 1);
      return card->substr(begin + 1, line_end - begin - 1);
    }
  }
  return "license: other";
}

}  // namespace

std::string ModelCard(const Checkpoint& source, const CompressSpec& spec, const CompressResult& job,
                      const ArtifactResult& artifact) {
  const std::string base = BaseName(spec.model_uri);
  const std::string licence = LicenceLine(source);
  const bool factored = spec.output_format == OutputFormat::kFactored;
  std::string card = fmt::format(
      "---\nbase_model: {}\n{}\nlibrary_name: transformers\npipeline_tag: text-generation\n"
      "tags:\n- svd-llm\n- low-rank\n- compressed\n---\n\n"
      "# {}, {} % of its linear layers' parameters kept\n\n"
      "Made from `{}` by svdllm {}, with {}.\n\n",
      base, licence, base, fmt::format("{:.4g}", 100 * artifact.keep_ratio), base, SVDLLM_VERSION,
      RowOf(spec.method).explanation);
  if (licence == "license: other") {
    card += "The source declares no licence in its card: the base model's own terms apply.\n\n";
  }
  if (factored) {
    card +=
        "```python\nfrom transformers import AutoModelForCausalLM\n\n"
        "model = AutoModelForCausalLM.from_pretrained(\"path/to/this/directory\", "
        "trust_remote_code=True)\n```\n\n";
  } else {
    card +=
        "The weights here are the products of the low-rank factors under the stock architecture: "
        "any tool that reads the base model reads this, and it is **not smaller** than the base "
        "model.\n\n";
  }
  card += "## Measured\n\n| | before | after | change |\n|---|---|---|---|\n";
  card += fmt::format("| parameters | {} | {} | {} |\n", Millions(job.parameters),
                      Millions(artifact.parameters), Change(job.parameters, artifact.parameters));
  card += fmt::format("| of the compressed linears | {} | {} | {} |\n",
                      Millions(job.target_parameters), Millions(artifact.compressed_parameters),
                      Change(job.target_parameters, artifact.compressed_parameters));
  card += fmt::format("| weights on disk | {} | {} | {} |\n", Megabytes(job.weight_bytes),
                      Megabytes(artifact.weight_bytes),
                      Change(job.weight_bytes, artifact.weight_bytes));
  bool held_out = false;
  for (size_t i = 0; i < artifact.figures.perplexities.size() && i < job.before.perplexities.size();
       ++i) {
    const PerplexityResult &before = job.before.perplexities[i],
                           &after = artifact.figures.perplexities[i];
    held_out |= before.held_out;
    card += fmt::format("| {}{} ({} windows, {} tokens predicted) | {:.4g} | {:.4g} | × {:.3f} |\n",
                        before.name, before.held_out ? ", in domain" : "", before.windows,
                        before.predicted_tokens, before.perplexity, after.perplexity,
                        after.perplexity / before.perplexity);
  }
  card += TaskRows(job.before.tasks, artifact.figures.tasks);
  if (artifact.figures.perplexities.empty()) {
    card += "\nPerplexity was not measured by this job.\n";
  } else if (artifact.figures.throughputs.empty()) {
    const double before = PrefillRate(job.before.perplexities),
                 after = PrefillRate(artifact.figures.perplexities);
    card += fmt::format("| prefill, tokens per second | {:.0f} | {:.0f} | × {:.2f} |\n", before,
                        after, after / before);
  }
  if (held_out) {
    card +=
        "\nPerplexity in domain is that of windows of the calibration text which calibration did "
        "not see: it shows what compression costs on text of that kind, not how the model compares "
        "with published figures.\n";
  }
  card += SpeedSection(job, artifact);
  double worst = 0;
  std::string worst_name;
  int64_t dense = 0;
  for (const MatrixReport& m : artifact.matrices) {
    if (m.rank == 0) ++dense;
    if (m.relative_loss > worst) worst = m.relative_loss, worst_name = m.name;
  }
  card += fmt::format(
      "\n## How\n\n- method `{}`, keep ratio {:.4g}; {} matrices, {} of them left dense\n"
      "- ranks `{}`: {}\n",
      MethodName(spec.method), artifact.keep_ratio, artifact.matrices.size(), dense,
      AllocationName(spec.allocation), RowOf(spec.allocation).explanation);
  if (factored) {
    card += fmt::format("- factors {}\n", RowOf(spec.encoding).explanation);
  }
  if (RowOf(spec.method).statistic != Statistic::kNone) {
    card += fmt::format("- calibrated on {} sequences of up to {} tokens, seed {}: {}\n",
                        spec.calibration.samples, spec.calibration.seq_len, spec.calibration.seed,
                        SourcesText(spec.calibration.sources));
  }
  if (!worst_name.empty()) {
    card += fmt::format("- largest relative loss of a matrix: {:.3g}, `{}`\n", worst, worst_name);
  }
  card += fmt::format(
      "- computed on {}\n\n[report.html](report.html) shows all of it; every rank, loss and time "
      "is "
      "in `compression_report.json`, every file's digest in `compression_manifest.json`.\n",
      job.device);
  return card;
}

}  // namespace svdllm
