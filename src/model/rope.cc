#include "model/rope.h"

#include <algorithm>
#include <cmath>
#include <numbers>
#include <vector>

namespace svdllm {
namespace {

int64_t DynamicLimit(const ModelConfig& config) {
  return config.rope.original_max_position_embeddings > 0
             ? config.rope.original_max_position_embeddings
             : config.max_position_embeddings;
}

absl::StatusOr<RopeTable> MakeTable(const ModelConfig& config, int64_t length, Backend& backend) {
  const std::vector<double> inverse = InverseFrequencies(config, length);
  const int64_t half = static_cast<int64_t>(inverse.size());
  std::vector<double> cosines(static_cast<size_t>(length * half)), sines(cosines.size());
  for (int64_t p = 0; p < length; ++p) {
    for (int64_t i = 0; i < half; ++i) {
      // Reference implementations multiply in single precision; at long positions the angle of the
      // fastest pair differs by more than a rounding of the product otherwise.
      const double angle = static_cast<float>(p) * static_cast<float>(inverse[i]);
      cosines[static_cast<size_t>(p * half + i)] = std::cos(angle);
      sines[static_cast<size_t>(p * half + i)] = std::sin(angle);
    }
  }
  RopeTable table;
  ASSIGN_OR_RETURN(table.cosines, backend.New(length, half, DType::kF32));
  ASSIGN_OR_RETURN(table.sines, backend.New(length, half, DType::kF32));
  RETURN_IF_ERROR(backend.Upload(cosines.data(), DType::kF64, table.cosines));
  RETURN_IF_ERROR(backend.Upload(sines.data(), DType::kF64, table.sines));
  return table;
}

}  // namespace

std::vector<double> InverseFrequencies(const ModelConfig& config, int64_t length) {
  const RopeConfig& rope = config.rope;
  const double dim = static_cast<double>(config.head_dim);
  double theta = rope.theta;
  if (RopeCache::DependsOnLength(config, length)) {
    const double limit = static_cast<double>(DynamicLimit(config));
    theta *= std::pow(rope.factor * static_cast<double>(length) / limit - (rope.factor - 1),
                      dim / (dim - 2));
  }
  std::vector<double> inverse(static_cast<size_t>(config.head_dim / 2));
  for (size_t i = 0; i < inverse.size(); ++i) {
    double f = std::pow(theta, -2.0 * static_cast<double>(i) / dim);
    if (rope.kind == RopeKind::kLinear) f /= rope.factor;
    if (rope.kind == RopeKind::kLlama3) {
      const double original = static_cast<double>(rope.original_max_position_embeddings);
      const double wavelength = 2 * std::numbers::pi / f;
      if (wavelength > original / rope.low_freq_factor) {
        f /= rope.factor;
      } else if (wavelength >= original / rope.high_freq_factor) {
        const double smooth = (original / wavelength - rope.low_freq_factor) /
                              (rope.high_freq_factor - rope.low_freq_factor);
        f = (1 - smooth) * f / rope.factor + smooth * f;
      }
    }
    inverse[i] = f;
  }
  return inverse;
}

bool RopeCache::DependsOnLength(const ModelConfig& config, int64_t length) {
  return config.rope.kind == RopeKind::kDynamic && length > DynamicLimit(config);
}

absl::StatusOr<const RopeTable*> RopeCache::Get(const ModelConfig& config, int64_t length,
                                                Backend& backend) {
  const int64_t key = DependsOnLength(config, length) ? length : 0;
  const auto found = tables_.find(key);
  if (found != tables_.end() && found->second.cosines.rows() >= length) return &found->second;
  ASSIGN_OR_RETURN(RopeTable table, MakeTable(config, length, backend));
  return &(tables_[key] = std::move(table));
}

}  // namespace svdllm
