// What the gRPC port is encrypted with, as files in PEM.
#pragma once

#include <string>

#include "base/status.h"

namespace svdllm {

// Empty cert: no TLS. They are read again when they change.
struct TlsFiles {
  std::string cert;       // the server's certificate, with those that lead from it to its CA
  std::string key;        // the certificate's private key
  std::string client_ca;  // whose certificates callers must have; empty: callers need none
};

// INVALID_ARGUMENT, naming the flag and the file that is missing or cannot be used, a key that is
// not the certificate's, and files of which one needs another.
absl::Status CheckTlsFiles(const TlsFiles& files);

}  // namespace svdllm
