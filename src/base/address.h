// Listening addresses: "host:port", "[v6]:port".
#pragma once

#include <string>

#include "base/status.h"

namespace svdllm {

struct HostPort {
  std::string host;
  std::string port;
};

// INVALID_ARGUMENT, naming the address.
absl::StatusOr<HostPort> ParseAddress(const std::string& address);
// Whether only this machine can reach the address: 127.0.0.0/8, ::1 or "localhost", literally.
bool IsLoopback(const HostPort& address);

}  // namespace svdllm
