// What the ports are encrypted with, as files in PEM.
#pragma once

#include <string>
#include <string_view>
#include <vector>

#include "base/status.h"

namespace svdllm {

// Empty cert: no TLS. They are read again when they change.
struct TlsFiles {
  std::string cert;       // the server's certificate, with those that lead from it to its CA
  std::string key;        // the certificate's private key
  std::string client_ca;  // whose certificates callers must have; empty: callers need none
};

// What is in the files.
struct TlsContents {
  std::string cert, key, client_ca;
  bool operator==(const TlsContents&) const = default;
};

// INVALID_ARGUMENT, naming the flag and the file that is missing or cannot be used, a key that is
// not the certificate's, and files of which one needs another.
absl::StatusOr<TlsContents> ReadTlsFiles(const TlsFiles& files);
// The names in a certificate in DER: the common name, then the alternative ones for hosts, URIs and
// mail. None where it is no certificate.
std::vector<std::string> CertificateNames(std::string_view der);

}  // namespace svdllm
