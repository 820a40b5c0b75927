// What a message says that this program does not understand. Protobuf keeps it in silence, and a
// request of which a part is passed over would be another request.
#pragma once

#include <google/protobuf/message.h>

#include <vector>

#include "base/status.h"
#include "server/status_proto.h"

namespace svdllm {

// Every enum value without a name and every field without a meaning, in the message and in all
// below it: "calibration.sources[2].text.packing" is the path of a value; field number 31 of
// calibration has the path "calibration.31". Not more than are reported (kMaxViolations).
std::vector<FieldViolation> UnknownParts(const google::protobuf::Message& message);

// INVALID_ARGUMENT with INVALID_FIELD and all of UnknownParts, where there are any.
absl::Status CheckKnown(const google::protobuf::Message& message);

}  // namespace svdllm
