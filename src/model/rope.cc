#include "model/rope.h"

#include <cmath>
#include <numbers>

namespace svdllm {
namespace {

// Lengths with the same key have the same frequencies; 0 are those of short sequences.
int64_t TableKey(const RopeConfig& rope, int64_t length) {
  if (length <= rope.original_max_position_embeddings) return 0;
  if (rope.kind == RopeKind::kDynamic) return length;
  return rope.kind == RopeKind::kLongRope ? 1 : 0;
}

absl::StatusOr<RopeTable> MakeTable(const RopeConfig& rope, int64_t length, Backend& backend) {
  const std::vector<double> inverse = InverseFrequencies(rope, length);
  const int64_t half = static_cast<int64_t>(inverse.size());
  std::vector<double> cosines(static_cast<size_t>(length * half)), sines(cosines.size());
  for (int64_t p = 0; p < length; ++p) {
    for (int64_t i = 0; i < half; ++i) {
      // Reference implementations multiply in single precision; at long positions the angle of the
      // fastest pair differs by more than a rounding of the product otherwise.
      const double angle = static_cast<float>(p) * static_cast<float>(inverse[i]);
      cosines[static_cast<size_t>(p * half + i)] = rope.attention_factor * std::cos(angle);
      sines[static_cast<size_t>(p * half + i)] = rope.attention_factor * std::sin(angle);
    }
  }
  RopeTable table;
  ASSIGN_OR_RETURN(table.cosines, backend.New(length, half, DType::kF32));
  ASSIGN_OR_RETURN(table.sines, backend.New(length, half, DType::kF32));
  RETURN_IF_ERROR(backend.Upload(cosines.data(), DType::kF64, table.cosines));
  RETURN_IF_ERROR(backend.Upload(sines.data(), DType::kF64, table.sines));
  return table;
}

double Llama3(const RopeConfig& rope, double f) {
  const auto original = static_cast<double>(rope.original_max_position_embeddings);
  const double wavelength = 2 * std::numbers::pi / f;
  if (wavelength > original / rope.low_freq_factor) return f / rope.factor;
  if (wavelength < original / rope.high_freq_factor) return f;
  const double smooth = (original / wavelength - rope.low_freq_factor) /
                        (rope.high_freq_factor - rope.low_freq_factor);
  return (1 - smooth) * f / rope.factor + smooth * f;
}

}  // namespace

std::vector<double> InverseFrequencies(const RopeConfig& rope, int64_t length) {
  const auto dim = static_cast<double>(rope.dim);
  const bool is_long = TableKey(rope, length) != 0;
  double theta = rope.theta;
  if (rope.kind == RopeKind::kDynamic && is_long) {
    const auto limit = static_cast<double>(rope.original_max_position_embeddings);
    theta *= std::pow(rope.factor * static_cast<double>(length) / limit - (rope.factor - 1),
                      dim / (dim - 2));
  }
  std::vector<double> inverse(static_cast<size_t>(rope.dim / 2));
  for (size_t i = 0; i < inverse.size(); ++i) {
    double f = std::pow(theta, -2.0 * static_cast<double>(i) / dim);
    if (rope.kind == RopeKind::kLinear) f /= rope.factor;
    if (rope.kind == RopeKind::kLlama3) f = Llama3(rope, f);
    if (rope.kind == RopeKind::kLongRope) f /= (is_long ? rope.long_factor : rope.short_factor)[i];
    inverse[i] = f;
  }
  return inverse;
}

bool RopeCache::SameTable(const RopeConfig& rope, int64_t a, int64_t b) {
  return TableKey(rope, a) == TableKey(rope, b);
}

absl::StatusOr<const RopeTable*> RopeCache::Get(const RopeConfig& rope, int64_t length,
                                                Backend& backend) {
  const int64_t key = TableKey(rope, length);
  const auto found = tables_.find(key);
  if (found != tables_.end() && found->second.cosines.rows() >= length) return &found->second;
  ASSIGN_OR_RETURN(RopeTable table, MakeTable(rope, length, backend));
  return &(tables_[key] = std::move(table));
}

bool SameFrequencies(const ModelConfig& config, int64_t a, int64_t b) {
  if (config.rope.dim == 0) return true;
  return RopeCache::SameTable(config.rope, a, b) &&
         (!config.local_rope || RopeCache::SameTable(*config.local_rope, a, b));
}

}  // namespace svdllm
