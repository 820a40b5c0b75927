#include "client/cli/submit_commands.h"

namespace svdllm::cli {

std::vector<CommandSpec> SubmitCommands() {
  return {
      {"compress", "--model=DIR --keep_ratio=R --calibration=FILE",
       "Compresses a model: calibrates, factorises every linear layer, publishes an artifact.",
       "Queues a compression on the server, by default watches it on a terminal, and prints where "
       "the artifact is. What is not given is left to the server. Examples:\n"
       "  svdllm compress --model=/models/smollm2 --keep_ratio=0.8,0.6 "
       "--calibration=/data/wiki.txt\n"
       "  svdllm compress --model=/models/smollm2 --keep_ratio=0.8 --calibration=/data/wiki.txt "
       "\\\n"
       "      --tasks=wikitext2,openbookqa --dataset=wikitext2=/data/wiki.test.raw \\\n"
       "      --dataset=openbookqa=/data/test.jsonl",
       &DefineCompress},
      {"evaluate", "--model=DIR --dataset=FILE",
       "Measures a checkpoint, dense or compressed: perplexity, tasks, speed, size.",
       "Queues an evaluation on the server, by default watches it on a terminal, and prints the "
       "figures. What is not given is left to the server. Examples:\n"
       "  svdllm evaluate --model=/models/smollm2 --dataset=/data/wiki.test.txt --limit=16\n"
       "  svdllm evaluate --model=/artifacts/small --baseline=/models/smollm2 \\\n"
       "      --tasks=piqa --dataset=piqa=/data/valid.jsonl --answers=piqa=/data/valid-labels.lst\n"
       "  svdllm evaluate --model=/artifacts/small --baseline=/models/smollm2 --throughput=1,8",
       &DefineEvaluate},
  };
}

}  // namespace svdllm::cli
