// compress and evaluate.
#include <filesystem>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "client/cli/follow.h"
#include "client/cli/json_output.h"
#include "client/cli/submit_requests.h"
#include "client/cli/text_output.h"

namespace svdllm::cli {
namespace {

bool IsLoopback(const std::string& address) {
  return absl::StartsWith(address, "127.") || absl::StartsWith(address, "localhost:") ||
         absl::StartsWith(address, "[::1]") || absl::StartsWith(address, "unix:");
}

// Where the server did not find what may well lie here: whose files it looked for.
std::string PathNote(const CommandContext& context, const absl::Status& error) {
  const std::string reason = ErrorReason(error);
  if (reason != kModelNotFound && reason != kCalibrationInvalid && reason != kDatasetInvalid &&
      reason != kInvalidField) {
    return "";
  }
  std::vector<std::string> paths;
  for (const char* flag : {"model", "baseline", "calibration", "evaluation", "dataset", "task"}) {
    for (const std::string& text : context.flags.Texts(flag)) {
      const std::string_view kind = flag;
      const std::string uri = kind == "calibration"                   ? SplitWeighted(text).second
                              : kind == "model" || kind == "baseline" ? text
                                                                      : SplitDataset(text).second;
      const std::string path = Located(context, uri);
      std::error_code ignored;
      if (IsLocalPath(path) &&
          (std::filesystem::exists(path, ignored) || !IsLoopback(context.client.address()))) {
        paths.push_back(path);
      }
    }
  }
  // On one machine, what exists is also found; a violated field is then something else.
  if (paths.empty() || (reason == kInvalidField && IsLoopback(context.client.address()))) return "";
  return absl::StrCat(
      "Paths are looked up by the server, on ", context.client.address(),
      "'s host, where this must exist and be readable: ", absl::StrJoin(paths, ", "));
}

bool ShouldWatch(const CommandContext& context) {
  if (context.flags.On("watch")) return true;
  return !context.flags.On("detach") && context.environment.out_is_terminal &&
         context.environment.err_is_terminal;
}

template <typename Request>
absl::StatusOr<int> Submit(CommandContext& context, const Request& request,
                           absl::StatusOr<v1::Job> (Client::*call)(Request)) {
  const absl::StatusOr<v1::Job> job = (context.client.*call)(request);
  if (!job.ok()) {
    const absl::Status& error = job.status();
    const bool unknown =
        absl::IsUnavailable(error) || absl::IsDeadlineExceeded(error) || absl::IsCancelled(error);
    if (unknown && !request.validate_only()) {
      context.note_on_error =
          absl::StrCat("Should the server have got it nevertheless: repeated with --request_id=",
                       request.request_id(), " it is the same job.");
    } else {
      context.note_on_error = PathNote(context, error);
    }
    return error;
  }
  std::ostream& out = context.environment.out;
  if (request.validate_only()) {
    out << (context.json ? ToJson(*job) : PlanText(*job)) << std::flush;
    return kExitOk;
  }
  if (!ShouldWatch(context)) {
    out << (context.json ? ToJson(*job) : job->name() + "\n") << std::flush;
    return kExitOk;
  }
  context.say(job->name());
  return FollowJob(context, job->name());
}

absl::StatusOr<int> Compress(CommandContext& context) {
  ASSIGN_OR_RETURN(const v1::CompressModelRequest request, CompressRequest(context));
  return Submit(context, request, &Client::CompressModel);
}

absl::StatusOr<int> Evaluate(CommandContext& context) {
  ASSIGN_OR_RETURN(const v1::EvaluateRequest request, EvaluateRequestOf(context));
  return Submit(context, request, &Client::Evaluate);
}

}  // namespace

std::vector<CommandSpec> SubmitCommands() {
  return {
      {"compress", "--model=DIR --keep_ratio=R --calibration=FILE",
       "Compresses a model: calibrates, factorises every linear layer, publishes an artifact.",
       "Queues a compression on the server, by default watches it on a terminal, and prints where "
       "the "
       "artifact is. Example:\n"
       "  svdllm compress --model=/models/smollm2 --keep_ratio=0.8,0.6 "
       "--calibration=/data/wiki.txt",
       CompressFlags(), false, &Compress},
      {"evaluate", "--model=DIR --dataset=FILE",
       "Measures a checkpoint, dense or compressed: perplexity, tasks, speed, size.",
       "Queues an evaluation on the server, by default watches it on a terminal, and prints the "
       "figures. Example:\n"
       "  svdllm evaluate --model=/models/smollm2 --dataset=/data/wiki.test.txt --limit=16\n"
       "  svdllm evaluate --model=/artifacts/small --baseline=/models/smollm2 \\\n"
       "      --tasks=piqa --dataset=piqa=/data/valid.jsonl --answers=piqa=/data/valid-labels.lst\n"
       "  svdllm evaluate --model=/artifacts/small --baseline=/models/smollm2 --throughput=1,8",
       EvaluateFlags(), false, &Evaluate},
  };
}

}  // namespace svdllm::cli
