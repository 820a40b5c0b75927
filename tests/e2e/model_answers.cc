// What a checkpoint, dense or compressed, answers here, for who compares it with another program.
//
//   model_answers MODEL_DIR REQUEST.json LOGITS.f32
//
// REQUEST: {"sequences": [[id, ...], ...], "prompt": P, "new_tokens": N}. Writes the logits of all
// sequences, row after row, and prints {"generated": [[id, ...], ...]}: what follows greedily on
// the first P ids of each sequence.
#include <cstdio>
#include <nlohmann/json.hpp>

#include "base/files.h"
#include "model/decoder.h"
#include "model/residual_stream.h"

namespace svdllm {
namespace {

absl::Status Run(const std::string& dir, const std::string& request_path,
                 const std::string& logits_path) {
  ASSIGN_OR_RETURN(const std::string text, ReadFile(request_path, 1 << 24));
  const nlohmann::json request = nlohmann::json::parse(text);
  Sequences sequences;
  std::vector<int32_t> prompts;
  std::vector<int64_t> prompt_offsets = {0};
  for (const auto& ids : request.at("sequences")) {
    for (const int32_t id : ids) sequences.ids.push_back(id);
    sequences.offsets.push_back(static_cast<int64_t>(sequences.ids.size()));
    for (size_t i = 0; i < request.at("prompt"); ++i) prompts.push_back(ids.at(i));
    prompt_offsets.push_back(static_cast<int64_t>(prompts.size()));
  }

  const std::unique_ptr<Backend> backend = NewCpuBackend();
  ASSIGN_OR_RETURN(const Checkpoint checkpoint, Checkpoint::Open(dir));
  Forward forward(checkpoint.config(), checkpoint.arch(), *backend);
  ASSIGN_OR_RETURN(const Matrix x, EmbedSequences(checkpoint, sequences, *backend));
  for (int64_t layer = 0; layer < checkpoint.config().num_layers; ++layer) {
    ASSIGN_OR_RETURN(const Block block, LoadBlock(checkpoint, layer, *backend));
    RETURN_IF_ERROR(forward.RunBlock(block, sequences.offsets, x));
  }
  ASSIGN_OR_RETURN(const Head head, LoadHead(checkpoint, *backend));
  ASSIGN_OR_RETURN(const Matrix logits,
                   backend->New(x.rows(), checkpoint.config().vocab_size, DType::kF32));
  RETURN_IF_ERROR(forward.Logits(head, x, logits));
  std::string bytes(static_cast<size_t>(logits.rows() * logits.cols()) * sizeof(float), '\0');
  RETURN_IF_ERROR(backend->Download(logits, bytes.data(), DType::kF32));
  RETURN_IF_ERROR(WriteFileAtomic(logits_path, bytes));

  ASSIGN_OR_RETURN(const std::unique_ptr<Decoder> decoder, Decoder::Load(checkpoint, *backend));
  ASSIGN_OR_RETURN(const auto generated,
                   Generate(*decoder, prompts, prompt_offsets, request.at("new_tokens"),
                            [](size_t, std::span<const float> row) -> absl::StatusOr<int32_t> {
                              return GreedyToken(row);
                            }));
  std::printf("%s\n", nlohmann::json{{"generated", generated}}.dump().c_str());
  return absl::OkStatus();
}

}  // namespace
}  // namespace svdllm

int main(int argc, char** argv) {
  if (argc != 4) {
    std::fprintf(stderr, "usage: model_answers MODEL_DIR REQUEST.json LOGITS.f32\n");
    return 2;
  }
  try {
    const absl::Status status = svdllm::Run(argv[1], argv[2], argv[3]);
    if (status.ok()) return 0;
    std::fprintf(stderr, "model_answers: %s\n", std::string(status.message()).c_str());
  } catch (const nlohmann::json::exception& error) {
    std::fprintf(stderr, "model_answers: %s: %s\n", argv[2], error.what());
  }
  return 1;
}
