// What a compression measured, made up, for tests of what is told of it.
#pragma once

#include <string>
#include <string_view>
#include <vector>

#include "job/result.h"
#include "job/spec.h"

namespace svdllm::testing {

// Empty where text is well-formed XML of elements, attributes and the five entities, else what is
// wrong. Knows nothing else of XML, and report.html needs nothing else.
inline std::string XmlError(std::string_view text) {
  const auto around = [&](size_t i) { return std::string(text.substr(i, 60)); };
  std::vector<std::string> open;
  for (size_t i = text.find('>') + 1; i < text.size();) {  // behind the doctype
    if (text[i] == '&') {
      bool known = false;
      for (const std::string_view entity : {"&amp;", "&lt;", "&gt;", "&quot;", "&#39;"}) {
        known |= text.substr(i, entity.size()) == entity;
      }
      if (!known) return "entity: " + around(i);
      ++i;
    } else if (text[i] != '<') {
      if (text[i] == '>') return "stray >: " + around(i);
      ++i;
    } else {
      size_t end = i + 1;
      for (bool quoted = false; end < text.size() && (quoted || text[end] != '>'); ++end) {
        if (text[end] == '"') quoted = !quoted;
        if (text[end] == '<') return "< in a tag: " + around(i);
      }
      if (end == text.size()) return "unfinished tag: " + around(i);
      const bool closes = text[i + 1] == '/';
      const size_t begin = i + (closes ? 2 : 1);
      const std::string name(text.substr(begin, text.find_first_of(" />", begin) - begin));
      if (closes) {
        if (open.empty() || open.back() != name) return "closes what is not open: " + around(i);
        open.pop_back();
      } else if (text[end - 1] != '/') {
        open.push_back(name);
      }
      i = end + 1;
    }
  }
  return open.empty() ? "" : "never closed: " + open.back();
}

inline CompressSpec Spec() {
  CompressSpec spec;
  spec.job_id = "job-1";
  spec.model_uri = "file:///models/some-model/";
  spec.keep_ratios = {0.8};
  spec.calibration.sources = {{{"/data/wiki.txt"}}};
  spec.calibration.seq_len = 2048;
  return spec;
}

inline MatrixReport MatrixOf(int64_t layer, const std::string& kind, int64_t rank) {
  MatrixReport matrix{"model.layers." + std::to_string(layer) + "." + kind, 576, 1536, rank};
  matrix.relative_loss = rank > 0 ? 0.1 + 0.001 * static_cast<double>(layer) : 0;
  if (rank > 0) {
    for (int i = 0; i < kSpectrumPoints; ++i) {
      matrix.spectrum.push_back(1 - static_cast<float>(i) / (kSpectrumPoints - 1));
    }
  }
  return matrix;
}

inline ArtifactResult Artifact(int64_t layers) {
  ArtifactResult artifact;
  artifact.keep_ratio = 0.8;
  artifact.parameters = 113'000'000;
  artifact.compressed_parameters = 85'000'000;
  artifact.weight_bytes = 226'000'000;
  for (int64_t layer = 0; layer < layers; ++layer) {
    for (const char* kind : {"self_attn.q_proj", "self_attn.k_proj", "self_attn.v_proj",
                             "self_attn.o_proj", "mlp.gate_proj", "mlp.up_proj", "mlp.down_proj"}) {
      artifact.matrices.push_back(MatrixOf(layer, kind, layer == 1 ? 0 : 200 + layer));
    }
  }
  artifact.figures.perplexities = {{"wikitext", 14.5, 8188, 4}};
  artifact.figures.perplexities[0].seq_len = 2048;
  artifact.figures.perplexities[0].data = {"/data/wiki.test.txt", std::string(64, 'a'), 1'290'590};
  artifact.figures.perplexities[0].log_std_error = 0.02;
  artifact.figures.tasks = {
      {"piqa", "piqa", {{"acc", 0.61, 0.011}, {"acc_norm", 0.62, 0.011}}, 1838},
      {"truthfulqa_gen", "truthful", {{"bleu_max", 21.5, 0.7}}, 817}};
  artifact.figures.throughputs = {
      {1, 512, 32, 3, {2345.6, 2300, 2500}, {60, 59, 61}, 400'000'000},
      {8, 512, 32, 3, {2500, 2400, 2600}, {300, 290, 310}, 500'000'000}};
  artifact.figures.tasks[0].data = {{"/data/valid.jsonl", std::string(64, 'b'), 800'000},
                                    {"/data/labels.lst", std::string(64, 'c'), 3'600}};
  artifact.figures.tasks[0].num_fewshot = 5;
  artifact.comparisons = {
      {"wikitext", Comparison::kPerplexityMetric, 12.25, 14.5, 14.5 / 12.25 - 1, 0.012, {}, true},
      {"piqa", "acc", 0.68, 0.61, -0.07, 0.009, {}, true},
      {"piqa", "acc_norm", 0.69, 0.62, -0.07, 0.009, {}, true}};
  return artifact;
}

// The job's artifacts of three keep ratios, of which the last is destroyed.
inline std::vector<ArtifactResult> ThreeRatios() {
  std::vector<ArtifactResult> artifacts(3, Artifact(1));
  for (size_t i = 0; i < artifacts.size(); ++i) {
    const double times[] = {1.184, 2.5, 4000};
    artifacts[i].keep_ratio = 0.8 - 0.3 * static_cast<double>(i);
    artifacts[i].weight_bytes -= 60'000'000 * static_cast<int64_t>(i);
    artifacts[i].comparisons[0].value = 12.25 * times[i];
    artifacts[i].comparisons[0].change = times[i] - 1;
  }
  return artifacts;
}

inline CompressResult Job() {
  CompressResult job;
  job.parameters = 134'515'008;
  job.target_parameters = 106'168'320;
  job.weight_bytes = 269'030'016;
  job.before.perplexities = {{"wikitext", 12.25, 8188, 4}};
  job.before.perplexities[0].log_std_error = 0.015;
  job.before.tasks = {{"piqa", "piqa", {{"acc", 0.68, 0.011}, {"acc_norm", 0.69, 0.011}}, 1838}};
  job.before.throughputs = {{1, 512, 32, 3, {2000, 1900, 2100}, {50, 49, 51}, 800'000'000}};
  job.stages = {{"calibrate", 61}, {"factorise", 187.4}, {"write", 0.25}};
  job.peak_host_bytes = 1'400'000'000;
  job.device = "cpu, 2 threads";
  job.started = "2026-01-31T12:34:56Z";
  return job;
}

}  // namespace svdllm::testing
