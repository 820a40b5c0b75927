// Reading config.json: for the config_*.cc files only.
#pragma once

#include <cstdint>
#include <functional>
#include <nlohmann/json.hpp>
#include <optional>
#include <string>
#include <string_view>

#include "base/status.h"
#include "checkpoint/config.h"

namespace svdllm::config {

using nlohmann::json;

// Far beyond any model, and small enough that products of three never overflow.
inline constexpr int64_t kMaxWidth = int64_t{1} << 20;
inline constexpr int64_t kMaxVocab = int64_t{1} << 24;
inline constexpr int64_t kMaxLayers = 4096;
inline constexpr int64_t kMaxPositions = int64_t{1} << 31;

// The errors "config.json: KEY: WHAT". Unsupported also lists the known families.
absl::Status Corrupt(std::string_view key, std::string_view what);
absl::Status Unsupported(std::string_view key, std::string_view what);
std::string Dump(const json& value);

// Reads the values of one object and checks each. A null counts as absent, as Hugging Face writes
// it. The first error stays; values read after it are defaults.
class Reader {
 public:
  explicit Reader(const json& object, std::string prefix = "")
      : object_(object), prefix_(std::move(prefix)) {}

  const json* Find(const char* key) const {
    const auto it = object_.find(key);
    return it == object_.end() || it->is_null() ? nullptr : &*it;
  }
  // As Find, but a null is a value.
  const json* Given(const char* key) const {
    const auto it = object_.find(key);
    return it == object_.end() ? nullptr : &*it;
  }
  bool IsNull(const char* key) const { return Given(key) != nullptr && Given(key)->is_null(); }

  // Returns a number between 1 and max. It is an error where the key is absent and there is no
  // fallback.
  int64_t Size(const char* key, std::optional<int64_t> fallback, int64_t max);
  double Positive(const char* key, std::optional<double> fallback);
  bool Bool(const char* key, bool fallback);
  std::string String(const char* key, std::optional<std::string> fallback);
  // Returns `count` positive numbers.
  std::vector<double> Positives(const char* key, int64_t count);

  std::string Path(const char* key) const { return prefix_ + key; }
  const absl::Status& status() const { return status_; }
  void Keep(absl::Status status) {
    if (status_.ok()) status_ = std::move(status);
  }

 private:
  const json* Get(const char* key, bool optional);
  void Wrong(const char* key, const json& value, const std::string& what) {
    Keep(Corrupt(Path(key), Dump(value) + " " + what));
  }

  const json& object_;
  std::string prefix_;
  absl::Status status_;
};

// How a family spells and fills the keys that all families have, and what it has beside them.
struct FamilyRow {
  std::string_view family;
  int64_t kv_heads = 0;  // where not given; 0: as many as query heads
  int64_t head_dim = 0;  // where not given; 0: hidden_size / heads
  int64_t max_positions = 2048;
  double norm_eps = 1e-6;
  const char* norm_eps_key = "rms_norm_eps";
  bool tied = false;
  const char* intermediate_key = "intermediate_size";
  const char* activation_key = "hidden_act";
  const char* activation = "silu";
  bool needs_start = false;                         // ModelConfig::needs_start
  void (*read)(Reader& root, ModelConfig& config);  // the rest, all of the above being read
};
const FamilyRow& FamilyRowOf(std::string_view family);

// What no family computes, by the key that asks for it; reads config.is_base_model on the way.
absl::Status RefuseForeign(const Reader& root, ModelConfig& config);

// Rotary positions of a family that has them; config's sizes are read.
absl::Status ReadRope(const json& root, ModelConfig& config);

}  // namespace svdllm::config
