// The certificate of the gRPC port, which may change while it is served. Includes gRPC headers.
#pragma once

#include <grpcpp/security/server_credentials.h>

#include <memory>
#include <mutex>

#include "server/tls.h"

namespace svdllm {

// Thread-safe.
class GrpcTls {
 public:
  explicit GrpcTls(TlsContents contents) : contents_(std::move(contents)) {}

  // For connections from now on. All parts change at once, which gRPC's own watch over the files
  // does not do: it takes a key and a certificate that do not belong together, and then no
  // connection at all. Whether callers have to have a certificate stays as it was.
  void Set(TlsContents contents);
  // TLS 1.2 at least, which is gRPC's own bound. This object outlives the server that has them.
  std::shared_ptr<grpc::ServerCredentials> Credentials();

 private:
  static grpc_ssl_certificate_config_reload_status Fetch(
      void* self, grpc_ssl_server_certificate_config** config);

  std::mutex mutex_;
  TlsContents contents_;
  bool fetched_ = false;  // by the port's only listener
};

}  // namespace svdllm
