#include "job/spec.h"

#include <fmt/format.h>

#include <cmath>

namespace svdllm {
namespace {

constexpr OutputFormatRow kOutputFormats[] = {
    {OutputFormat::kFactored, "factored"},
    {OutputFormat::kDense, "dense"},
};

constexpr PackingRow kPackings[] = {
    {Packing::kConcatenated, "concatenated"},
    {Packing::kDocuments, "documents"},
};

constexpr WindowStartRow kWindowStarts[] = {
    {WindowStart::kText, "text"},
    {WindowStart::kWindow, "window"},
};

constexpr MethodSetting kMethodSettings[] = {
    {"asvd_alpha", &CompressSpec::asvd_alpha},
    {"anchor_blend", &CompressSpec::anchor_blend},
    {"anchor_ridge", &CompressSpec::anchor_ridge},
};

}  // namespace

std::span<const MethodSetting> MethodSettings() { return kMethodSettings; }

const MethodSetting* FindSetting(std::string_view name) {
  for (const MethodSetting& setting : kMethodSettings) {
    if (setting.name == name) return &setting;
  }
  return nullptr;
}

std::span<const PackingRow> Packings() { return kPackings; }

std::string PackingName(Packing packing) {
  for (const PackingRow& row : kPackings) {
    if (row.packing == packing) return std::string(row.name);
  }
  return std::string(kPackings[0].name);
}

std::span<const WindowStartRow> WindowStarts() { return kWindowStarts; }

std::string WindowStartName(WindowStart window_start) {
  for (const WindowStartRow& row : kWindowStarts) {
    if (row.window_start == window_start) return std::string(row.name);
  }
  return std::string(kWindowStarts[0].name);
}

std::span<const OutputFormatRow> OutputFormats() { return kOutputFormats; }

std::string OutputFormatName(OutputFormat format) {
  for (const OutputFormatRow& row : kOutputFormats) {
    if (row.format == format) return std::string(row.name);
  }
  return std::string(kOutputFormats[0].name);
}

std::vector<std::string> OutputUris(const CompressSpec& spec) {
  if (spec.keep_ratios.size() == 1) return {spec.output_uri};
  std::vector<std::string> uris;
  for (const double ratio : spec.keep_ratios) {
    // Two decimals where they say it all: keep-0.80, keep-0.125.
    const bool is_short = std::abs(ratio * 100 - std::round(ratio * 100)) < 1e-9;
    uris.push_back(spec.output_uri + "/keep-" +
                   (is_short ? fmt::format("{:.2f}", ratio) : fmt::format("{}", ratio)));
  }
  return uris;
}

}  // namespace svdllm
