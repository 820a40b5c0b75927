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
  // Stable, for programs: "QUEUE_FULL". Empty where the server did not answer.
  std::string reason;
  std::map<std::string, std::string> metadata;  // offending names
  std::vector<Violation> violations;            // every field that is wrong
  double retry_delay_seconds = -1;              // negative: none given
};

// Makes the status of a call from its parts. details_bin holds a google.rpc.Status, or is empty.
// Details that cannot be parsed are dropped.
absl::Status MakeRpcError(int code, std::string_view message, std::string_view details_bin);
// Returns the details of a status that MakeRpcError made; empty ones for any other.
RpcErrorDetails RpcErrorDetailsOf(const absl::Status& status);
// Describes an error for people, without a newline at the end: message and reason, then one line
// per violation, metadata that the message does not name, and when to try again.
std::string DescribeError(const absl::Status& status);

}  // namespace svdllm
