// How fast checkpoints run: prefill and decode, side by side, warm, in interleaved rounds.
//
//   decode_bench DENSE_DIR ARTIFACT_DIR... [--prompt=512] [--tokens=32] [--batch=8] [--rounds=7]
//
// A round goes over all directories, so that what else the machine does meets all of them: a job
// measures one model after the other. For one sequence and for --batch of them, tokens a second of
// the prompts and of what follows: the median, the best, and the median's ratio to that of the
// first directory.
#include <fmt/format.h>

#include <cstdio>
#include <cstdlib>
#include <memory>
#include <string>
#include <vector>

#include "evaluate/throughput.h"

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
    if (*value < (name == "tokens" ? 2 : 1)) return false;
  }
  return !flags.dirs.empty();
}

struct Model {
  Checkpoint checkpoint;
  std::unique_ptr<Decoder> decoder;
};

absl::Status Run(const Flags& flags) {
  const std::unique_ptr<Backend> backend = NewCpuBackend();
  std::vector<std::unique_ptr<Model>> models;
  for (const std::string& dir : flags.dirs) {
    ASSIGN_OR_RETURN(Checkpoint checkpoint, Checkpoint::Open(dir));
    models.push_back(std::make_unique<Model>(Model{std::move(checkpoint), nullptr}));
    ASSIGN_OR_RETURN(models.back()->decoder, Decoder::Load(models.back()->checkpoint, *backend));
  }
  fmt::print("{}, {} rounds, {} prompt tokens, {} new tokens\n", backend->Name(), flags.rounds,
             flags.prompt, flags.tokens);
  fmt::print("{:>6}{:>10}{:>10}{:>8}{:>10}{:>10}{:>8}{:>12}  {}\n", "batch", "prefill", "best",
             "ratio", "decode", "best", "ratio", "linears MB", "model");
  for (const int64_t batch : {int64_t{1}, flags.batch}) {
    std::vector<std::vector<double>> prefill(models.size()), decode(models.size());
    for (int64_t round = -1; round < flags.rounds; ++round) {  // the first one warms up
      for (size_t i = 0; i < models.size(); ++i) {
        ASSIGN_OR_RETURN(const ThroughputRound rates,
                         RunThroughputRound(*models[i]->decoder, models[i]->checkpoint.config(),
                                            batch, flags.prompt, flags.tokens));
        if (round < 0) continue;
        prefill[i].push_back(rates.prefill);
        decode[i].push_back(rates.decode);
      }
    }
    const RateSummary first_prefill = SummarizeRates(prefill[0]),
                      first_decode = SummarizeRates(decode[0]);
    for (size_t i = 0; i < models.size(); ++i) {
      const RateSummary p = SummarizeRates(prefill[i]), d = SummarizeRates(decode[i]);
      const ModelConfig& config = models[i]->checkpoint.config();
      const int64_t others =
          config.vocab_size * config.hidden_size * (config.tie_word_embeddings ? 1 : 2);
      fmt::print("{:>6}{:>10.1f}{:>10.1f}{:>8.3f}{:>10.1f}{:>10.1f}{:>8.3f}{:>12.1f}  {}\n", batch,
                 p.median, p.largest, p.median / first_prefill.median, d.median, d.largest,
                 d.median / first_decode.median,
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
