#include "artifact/layout.h"

#include <fmt/format.h>

namespace svdllm {
namespace {

constexpr int64_t kShardBytes = int64_t{4} << 30;

// Adds tensors one behind the other, and begins a shard where one is full.
class Stacker {
 public:
  explicit Stacker(Layout& layout) : layout_(layout) {}

  void Add(TensorSpec spec, std::string source, bool is_used) {
    const int64_t bytes = spec.bytes();
    if (in_shard_ > 0 && in_shard_ + bytes > kShardBytes) {
      ++layout_.shards;
      in_shard_ = 0;
    }
    in_shard_ += bytes;
    layout_.stored_bytes += bytes;
    if (is_used) {
      layout_.weight_bytes += bytes;
      if (spec.dtype != DType::kI32) {  // an order is no parameter
        layout_.parameters += bytes / static_cast<int64_t>(SizeOf(spec.dtype));
      }
    }
    layout_.tensors.push_back({std::move(spec), std::move(source), layout_.shards - 1});
  }

 private:
  Layout& layout_;
  int64_t in_shard_ = 0;
};

// The tensors of a compressed linear layer.
std::vector<TensorSpec> FactorTensors(const LinearLayer& linear, const EncodingRow& encoding,
                                      int64_t rank, DType dtype) {
  const int64_t b_rows = encoding.ordered ? linear.rows - rank : linear.rows;
  std::vector<TensorSpec> tensors = {
      {FactorA(linear.name), dtype, {rank, linear.cols}},
      {FactorB(linear.name), dtype, {b_rows, rank}},
  };
  if (encoding.ordered) tensors.push_back({FactorOrder(linear.name), DType::kI32, {linear.rows}});
  return tensors;
}

// Which linear layers are in which of the checkpoint's tensors, of those that hold a compressed
// one: one each, but for a fused module. The bias of a compressed one, by its name there, and its
// name in the artifact.
struct Compressed {
  std::map<std::string, std::vector<size_t>> tensors;
  std::map<std::string, std::string> renamed;
};

Compressed FindCompressed(const Checkpoint& checkpoint, std::span<const LinearLayer> linears,
                          const StorageChoice& choice, std::span<const int64_t> ranks) {
  const auto stored = [&](const LinearLayer& linear) {
    const std::string weight = linear.name + ".weight";
    const Checkpoint::Part* part = checkpoint.PartOf(weight);
    return part != nullptr ? part->tensor : weight;
  };
  const bool moves_bias =
      choice.format == OutputFormat::kFactored && !RowOf(choice.encoding).ordered;
  Compressed compressed;
  for (size_t i = 0; i < linears.size(); ++i) {
    if (ranks[i] == 0) continue;
    compressed.tensors[stored(linears[i])];
    if (moves_bias) {
      compressed.renamed[linears[i].name + ".bias"] = linears[i].name + ".low_rank_b.bias";
    }
  }
  for (size_t i = 0; i < linears.size(); ++i) {
    const auto found = compressed.tensors.find(stored(linears[i]));
    if (found != compressed.tensors.end()) found->second.push_back(i);
  }
  return compressed;
}

}  // namespace

std::string Layout::ShardName(size_t shard) const {
  return fmt::format("model-{:05}-of-{:05}.safetensors", shard + 1, shards);
}

std::string FactorA(const std::string& name) { return name + ".low_rank_a.weight"; }
std::string FactorB(const std::string& name) { return name + ".low_rank_b.weight"; }
std::string FactorOrder(const std::string& name) { return name + ".low_rank_order"; }

absl::StatusOr<Layout> LayoutOf(const Checkpoint& checkpoint, std::span<const LinearLayer> linears,
                                const StorageChoice& choice, std::span<const int64_t> ranks) {
  Layout layout;
  const bool factored = choice.format == OutputFormat::kFactored;
  const EncodingRow& encoding = RowOf(choice.encoding);
  for (size_t i = 0; i < linears.size(); ++i) {
    layout.target_parameters +=
        StoredNumbers(choice.encoding, linears[i].rows, linears[i].cols, factored ? ranks[i] : 0);
  }
  const Compressed compressed = FindCompressed(checkpoint, linears, choice, ranks);
  Stacker stacker(layout);
  for (const std::string& name : checkpoint.TensorNames()) {
    ASSIGN_OR_RETURN(TensorSpec source, checkpoint.Spec(name));
    const DType dtype = source.dtype;
    const auto found = compressed.tensors.find(name);
    if (found == compressed.tensors.end()) {
      const auto new_name = compressed.renamed.find(name);
      if (new_name != compressed.renamed.end()) source.name = new_name->second;
      stacker.Add(std::move(source), name, checkpoint.IsUsed(name));
      continue;
    }
    if (!factored) stacker.Add(std::move(source), "", /*is_used=*/true);
    for (const size_t i : found->second) {
      const LinearLayer& linear = linears[i];
      const std::string weight = linear.name + ".weight";
      if (ranks[i] == 0 && !factored) layout.copied_parts.push_back(weight);
      if (!factored) continue;
      if (ranks[i] == 0) {
        stacker.Add({weight, dtype, {linear.rows, linear.cols}}, weight, /*is_used=*/true);
        continue;
      }
      for (TensorSpec& tensor : FactorTensors(linear, encoding, ranks[i], dtype)) {
        stacker.Add(std::move(tensor), "", /*is_used=*/true);
      }
    }
  }
  ASSIGN_OR_RETURN(layout.side_files, checkpoint.SideFiles());
  return layout;
}

}  // namespace svdllm
