#include "checkpoint/gguf_model.h"

#include <cstring>
#include <memory>
#include <numeric>
#include <utility>
#include <vector>

#include "base/json.h"
#include "checkpoint/gguf_config.h"
#include "formats/gguf_quants.h"
#include "tokenizer/gguf.h"

namespace svdllm {
namespace {

constexpr std::pair<std::string_view, std::string_view> kTopTensors[] = {
    {"token_embd", "model.embed_tokens"}, {"output_norm", "model.norm"}, {"output", "lm_head"}};

struct BlockTensor {
  std::string_view name, module;
  enum { kPlain, kQueryHeads, kKeyHeads } rows = kPlain;  // whose heads' rows are interleaved
};
constexpr BlockTensor kBlockTensors[] = {{"attn_norm", "input_layernorm"},
                                         {"attn_q", "self_attn.q_proj", BlockTensor::kQueryHeads},
                                         {"attn_k", "self_attn.k_proj", BlockTensor::kKeyHeads},
                                         {"attn_v", "self_attn.v_proj"},
                                         {"attn_output", "self_attn.o_proj"},
                                         {"ffn_norm", "post_attention_layernorm"},
                                         {"ffn_gate", "mlp.gate_proj"},
                                         {"ffn_up", "mlp.up_proj"},
                                         {"ffn_down", "mlp.down_proj"}};

DType StoredType(const GgmlType& type) {
  const std::string_view name = type.name;
  return name == "F32" ? DType::kF32 : name == "BF16" ? DType::kBF16 : DType::kF16;
}

// A row of so many elements, as StoredType has it.
void ConvertRow(const GgmlType& type, const std::byte* from, size_t elements,
                std::vector<float>* scratch, std::byte* to) {
  if (type.dequantize == nullptr) {
    std::memcpy(to, from, elements * type.block_bytes);
    return;
  }
  scratch->resize(elements);
  for (size_t i = 0; i < elements / type.block_elements; ++i) {
    type.dequantize(reinterpret_cast<const uint8_t*>(from) + i * type.block_bytes,
                    scratch->data() + i * type.block_elements);
  }
  ConvertElements(scratch->data(), DType::kF32, to, DType::kF16, elements);
}

// Where the file has row `row` of a matrix whose heads' rows it interleaves.
int64_t InterleavedRow(int64_t row, int64_t head_rows) {
  const int64_t head = row / head_rows, in_head = row % head_rows, half = head_rows / 2;
  return head * head_rows + in_head % half * 2 + in_head / half;
}

}  // namespace

absl::StatusOr<GgufModel> GgufModel::Open(const std::string& path) {
  ASSIGN_OR_RETURN(GgufFile file, GgufFile::Open(path));
  GgufModel model(std::move(file));
  ASSIGN_OR_RETURN(const auto architecture, model.file_.String("general.architecture"));
  if (architecture != "llama") {
    return UnsupportedGguf(model.file_,
                           "general.architecture " + Printable(architecture.value_or("(none)")) +
                               " is not supported in GGUF files (supported: llama); use "
                               "the Hugging Face directory");
  }
  RETURN_IF_ERROR(model.MapTensors());
  ASSIGN_OR_RETURN(model.config_text_, GgufConfigText(model.file_));
  return model;
}

absl::Status GgufModel::MapTensors() {
  for (const auto& [name, tensor] : file_.tensors()) {
    if (name == kGgufRopeFactors) continue;  // part of the configuration
    if (FindGgmlType(tensor.type) == nullptr) {
      return UnsupportedGguf(file_, Printable(name) + ": ggml type " + std::to_string(tensor.type) +
                                        " is not supported (supported: " + KnownGgmlTypes() + ")");
    }
    if (FindGgmlType(tensor.type)->dequantize != nullptr && tensor.shape.size() != 2) {
      return UnsupportedGguf(file_, Printable(name) + ": quantised, but no matrix");
    }
    RETURN_IF_ERROR(MapTensor(name, tensor));
  }
  return absl::OkStatus();
}

// "blk.3.attn_q.weight" → "model.layers.3.self_attn.q_proj.weight".
absl::Status GgufModel::MapTensor(const std::string& name, const GgufTensor& tensor) {
  const size_t dot = name.rfind('.');
  const std::string_view base = std::string_view(name).substr(0, dot);
  const std::string suffix = dot == name.npos ? "" : name.substr(dot);
  std::string mapped;
  Source source{&tensor, 0};
  for (const auto& [from, to] : kTopTensors) {
    if (base == from) mapped = to;
  }
  const size_t kind = base.rfind('.');
  if (base.starts_with("blk.") && kind > 4 && kind != base.npos) {
    for (const BlockTensor& row : kBlockTensors) {
      if (base.substr(kind + 1) != row.name) continue;
      mapped =
          "model.layers." + std::string(base.substr(4, kind - 4)) + "." + std::string(row.module);
      if (row.rows == BlockTensor::kPlain) continue;
      ASSIGN_OR_RETURN(source.interleaved_heads,
                       GgufHeads(file_, /*of_keys=*/row.rows == BlockTensor::kKeyHeads));
    }
  }
  if (mapped.empty() || (suffix != ".weight" && suffix != ".bias")) {
    return UnsupportedGguf(file_, Printable(name) + ": a tensor that a LLaMA does not have");
  }
  if (source.interleaved_heads > 0 &&
      (tensor.shape.empty() || tensor.shape[0] % (2 * source.interleaved_heads) != 0)) {
    return file_.Corrupt(Printable(name) + ": its rows are not those of " +
                         std::to_string(source.interleaved_heads) + " heads");
  }
  mapped += suffix;
  specs_[mapped] = {mapped, StoredType(*FindGgmlType(tensor.type)), tensor.shape};
  sources_[mapped] = source;
  return absl::OkStatus();
}

absl::StatusOr<std::map<std::string, std::string>> GgufModel::SideFiles() const {
  return GgufTokenizerFiles(file_);
}

TensorView GgufModel::Tensor(const std::string& name) const {
  const TensorSpec& spec = specs_.at(name);
  const Source& source = sources_.at(name);
  const bool stored = FindGgmlType(source.tensor->type)->dequantize == nullptr;
  if (stored && source.interleaved_heads == 0) {
    return {spec.dtype, spec.shape, source.tensor->bytes, nullptr};
  }
  std::vector<int64_t> rows(spec.shape.empty() ? 1 : static_cast<size_t>(spec.shape[0]));
  std::iota(rows.begin(), rows.end(), int64_t{0});
  TensorView view = Rows(name, rows);
  view.shape = spec.shape;
  return view;
}

TensorView GgufModel::Rows(const std::string& name, std::span<const int64_t> rows) const {
  const TensorSpec& spec = specs_.at(name);
  const Source& source = sources_.at(name);
  const GgmlType& type = *FindGgmlType(source.tensor->type);
  const int64_t all_rows = spec.shape.empty() ? 1 : spec.shape[0];
  const auto cols = static_cast<size_t>(std::accumulate(
      spec.shape.begin() + !spec.shape.empty(), spec.shape.end(), int64_t{1}, std::multiplies<>()));
  const size_t from_bytes = cols / type.block_elements * type.block_bytes;
  const size_t to_bytes = cols * SizeOf(spec.dtype);
  const int64_t head_rows = source.interleaved_heads > 0 ? all_rows / source.interleaved_heads : 0;
  auto data = std::make_shared<std::vector<std::byte>>(rows.size() * to_bytes);
  const auto count = static_cast<int64_t>(rows.size());
#pragma omp parallel
  {
    std::vector<float> scratch;
#pragma omp for
    for (int64_t i = 0; i < count; ++i) {
      int64_t row = rows[static_cast<size_t>(i)];
      if (head_rows > 0) row = InterleavedRow(row, head_rows);
      ConvertRow(type, source.tensor->bytes.data() + static_cast<size_t>(row) * from_bytes, cols,
                 &scratch, data->data() + static_cast<size_t>(i) * to_bytes);
    }
  }
  std::vector<int64_t> shape = {count};
  shape.insert(shape.end(), spec.shape.begin() + !spec.shape.empty(), spec.shape.end());
  return {spec.dtype, std::move(shape), *data, data};
}

}  // namespace svdllm
