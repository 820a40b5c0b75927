// What a refused call says beside its code and message.
#pragma once

#include <map>
#include <string>
#include <string_view>
#include <vector>

#include "base/status.h"

namespace svdllm {

struct RpcErrorDetails {
  struct Violation {
    std::string field;        // "calibration.samples"
    std::string description;  // what is wrong with it
  };
  std::string reason;  // stable, for programs: "QUEUE_FULL"; empty where the server did not answer
  std::map<std::string, std::string> metadata;  // offending names
  std::vector<Violation> violations;            // every field that is wrong
  double retry_delay_seconds = -1;              // negative: none given
};

// The status of a call from its parts; details_bin holds a google.rpc.Status, or is empty. Details
// that cannot be parsed are dropped.
absl::Status MakeRpcError(int code, std::string_view message, std::string_view details_bin);
// Of a status made by MakeRpcError; empty for any other.
RpcErrorDetails RpcErrorDetailsOf(const absl::Status& status);
// For people, without a newline at the end: message and reason, then a line a violation, metadata
// that the message does not name, and when to try again.
std::string DescribeError(const absl::Status& status);

}  // namespace svdllm
