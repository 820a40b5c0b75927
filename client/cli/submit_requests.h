// compress and evaluate: their flags, and the requests that these make.
#pragma once

#include <string>
#include <utility>

#include "client/cli/commands.h"

namespace svdllm::cli {

FlagTable CompressFlags();
FlagTable EvaluateFlags();

// What is not given stays unset, so that the server's defaults count, not ours; only request_id is
// always there. Errors are UsageError.
absl::StatusOr<v1::CompressModelRequest> CompressRequest(const CommandContext& context);
absl::StatusOr<v1::EvaluateRequest> EvaluateRequestOf(const CommandContext& context);

bool IsLocalPath(const std::string& text);
// What the server is told of an input: a URI as it is, a path made absolute.
std::string Located(const CommandContext& context, const std::string& text);
// "wiki=/data/a.txt" → {"wiki", "/data/a.txt"}; without a name: {"", text}. A file name with '=' in
// it is written with a '/' before: ./a=b.
std::pair<std::string, std::string> SplitDataset(const std::string& text);
// "0.3:/data/a.txt" → {0.3, "/data/a.txt"}; without a weight: {1, text}. A file whose name begins
// so is written with a '/' before: ./1:b.
std::pair<double, std::string> SplitWeighted(const std::string& text);
// What stands in place of a file for the model's own samples.
inline constexpr char kModelSamples[] = "MODEL_SAMPLES";

}  // namespace svdllm::cli
