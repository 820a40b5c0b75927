// How fast checkpoints run: prefill and decode, side by side, warm, in interleaved rounds.
//
//   decode_bench DENSE_DIR ARTIFACT_DIR... [--prompt=512] [--tokens=32] [--batch=8] [--rounds=7]
//
// A round goes over all directories, so that what else the machine does meets all of them. For each
// directory the best and the median rate of a prompt's tokens, of tokens generated for one sequence
// and for --batch of them at a time, and the ratio of its median to the first directory's.
#include <fmt/format.h>

#include <algorithm>
#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <functional>
#include <string>
#include <vector>

#include "model/decoder.h"

namespace svdllm {
namespace {

struct Flags {
  std::vector<std::string> dirs;
  int64_t prompt = 512, tokens = 32, batch = 8, rounds = 7;
};

bool ParseFlags(int argc, char** argv, Flags& flags) {
  for (int i = 1; i < argc; ++i) {
    const std::string arg = argv[i];
    if (arg.rfind("--", 0) != 0) {
      flags.dirs.push_back(arg);
      continue;
    }
    const size_t equals = arg.find('=');
    const std::string name = arg.substr(2, equals - 2);
    int64_t* value = name == "prompt"   ? &flags.prompt
                     : name == "tokens" ? &flags.tokens
                     : name == "batch"  ? &flags.batch
                     : name == "rounds" ? &flags.rounds
                                        : nullptr;
    if (value == nullptr || equals == std::string::npos) return false;
    *value = std::atoll(arg.c_str() + equals + 1);
    if (*value < 1) return false;
  }
  return !flags.dirs.empty();
}

struct Model {
  Checkpoint checkpoint;
  std::unique_ptr<Decoder> decoder;
};

double Seconds(std::chrono::steady_clock::time_point start) {
  return std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
}

std::vector<int32_t> Ids(const ModelConfig& config, int64_t count) {
  std::vector<int32_t> ids(static_cast<size_t>(count));
  for (size_t t = 0; t < ids.size(); ++t) {
    ids[t] = static_cast<int32_t>((t * 7919 + 17) % static_cast<size_t>(config.vocab_size));
  }
  return ids;
}

// Tokens a second of one prompt, its last token's logits included.
absl::StatusOr<double> PrefillRate(Model& model, int64_t prompt) {
  const std::vector<int32_t> ids = Ids(model.checkpoint.config(), prompt);
  const auto start = std::chrono::steady_clock::now();
  RETURN_IF_ERROR(model.decoder->Prefill(ids, std::vector<int64_t>{0, prompt}, prompt).status());
  return static_cast<double>(prompt) / Seconds(start);
}

// Tokens a second of `batch` sequences behind prompts of 16 tokens.
absl::StatusOr<double> DecodeRate(Model& model, int64_t batch, int64_t tokens) {
  constexpr int64_t kPrompt = 16;
  const std::vector<int32_t> ids = Ids(model.checkpoint.config(), kPrompt * batch);
  std::vector<int64_t> offsets;
  for (int64_t s = 0; s <= batch; ++s) offsets.push_back(s * kPrompt);
  RETURN_IF_ERROR(model.decoder->Prefill(ids, offsets, kPrompt + tokens).status());
  const std::vector<int32_t> next = Ids(model.checkpoint.config(), batch);
  const auto start = std::chrono::steady_clock::now();
  for (int64_t t = 0; t < tokens; ++t) RETURN_IF_ERROR(model.decoder->Step(next).status());
  return static_cast<double>(batch * tokens) / Seconds(start);
}

absl::Status Run(const Flags& flags) {
  const std::unique_ptr<Backend> backend = NewCpuBackend();
  std::vector<std::unique_ptr<Model>> models;
  for (const std::string& dir : flags.dirs) {
    ASSIGN_OR_RETURN(Checkpoint checkpoint, Checkpoint::Open(dir));
    models.push_back(std::make_unique<Model>(Model{std::move(checkpoint), nullptr}));
    ASSIGN_OR_RETURN(models.back()->decoder, Decoder::Load(models.back()->checkpoint, *backend));
  }
  using Measure = std::function<absl::StatusOr<double>(Model&)>;
  const std::vector<std::pair<std::string, Measure>> measures = {
      {fmt::format("prefill {}", flags.prompt),
       [&](Model& model) { return PrefillRate(model, flags.prompt); }},
      {"decode 1", [&](Model& model) { return DecodeRate(model, 1, flags.tokens); }},
      {fmt::format("decode {}", flags.batch),
       [&](Model& model) { return DecodeRate(model, flags.batch, flags.tokens); }}};

  fmt::print("{}, {} rounds\n", backend->Name(), flags.rounds);
  fmt::print("{:<14}{:>12}{:>12}{:>8}{:>12}  {}\n", "tokens/s", "median", "best", "ratio",
             "linears MB", "model");
  for (const auto& [name, measure] : measures) {
    std::vector<std::vector<double>> rates(models.size());
    for (int64_t round = -1; round < flags.rounds; ++round) {  // the first one warms up
      for (size_t i = 0; i < models.size(); ++i) {
        ASSIGN_OR_RETURN(const double rate, measure(*models[i]));
        if (round >= 0) rates[i].push_back(rate);
      }
    }
    double first = 0;  // the first directory's median
    for (size_t i = 0; i < models.size(); ++i) {
      std::sort(rates[i].begin(), rates[i].end());
      const double median = rates[i][rates[i].size() / 2];
      if (i == 0) first = median;
      const ModelConfig& config = models[i]->checkpoint.config();
      const int64_t others =
          config.vocab_size * config.hidden_size * (config.tie_word_embeddings ? 1 : 2);
      fmt::print("{:<14}{:>12.1f}{:>12.1f}{:>8.3f}{:>12.1f}  {}\n", name, median, rates[i].back(),
                 median / first,
                 4e-6 * static_cast<double>(models[i]->checkpoint.parameters() - others),
                 flags.dirs[i]);
    }
    std::fflush(stdout);
  }
  return absl::OkStatus();
}

int Main(int argc, char** argv) {
  Flags flags;
  if (!ParseFlags(argc, argv, flags)) {
    fmt::print(stderr,
               "usage: decode_bench DENSE_DIR ARTIFACT_DIR... [--prompt=512] [--tokens=32] "
               "[--batch=8] [--rounds=7]\n");
    return 2;
  }
  const absl::Status status = Run(flags);
  if (status.ok()) return 0;
  fmt::print(stderr, "decode_bench: {}\n",
             std::string(status.message().data(), status.message().size()));
  return 1;
}

}  // namespace
}  // namespace svdllm

int main(int argc, char** argv) { return svdllm::Main(argc, argv); }
