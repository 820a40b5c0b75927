// A socket in the file system, "unix:/run/svdllm/grpc.sock": only processes of this machine reach
// it, and of these only those that its mode lets in.
#pragma once

#include <optional>
#include <string>

#include "base/status.h"

namespace svdllm {

// Returns the path of an address that begins with "unix:"; none of any other. INVALID_ARGUMENT
// where the path is relative, or too long for a socket.
absl::StatusOr<std::optional<std::string>> UnixPath(const std::string& address);
// UNAVAILABLE where somebody listens there. A socket that a server has left behind is no hindrance.
absl::Status CheckUnixSocketFree(const std::string& path);
// Lets in the owner and the group, and nobody else.
absl::Status ConfineUnixSocket(const std::string& path);

}  // namespace svdllm
