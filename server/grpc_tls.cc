#include "server/grpc_tls.h"

#include <grpc/grpc.h>
#include <grpc/grpc_security.h>

#include <string>
#include <utility>

namespace svdllm {
namespace {

// What gRPC's C interface makes, in the form that its C++ interface wants. That has no function for
// certificates that change, other than its watch over files.
class OwnedCredentials final : public grpc::ServerCredentials {
 public:
  explicit OwnedCredentials(grpc_server_credentials* credentials) : credentials_(credentials) {}
  ~OwnedCredentials() override { grpc_server_credentials_release(credentials_); }
  void SetAuthMetadataProcessor(const std::shared_ptr<grpc::AuthMetadataProcessor>&) override {}

 private:
  int AddPortToServer(const std::string& address, grpc_server* server) override {
    return grpc_server_add_http2_port(server, address.c_str(), credentials_);
  }

  grpc_server_credentials* const credentials_;
};

}  // namespace

void GrpcTls::Set(TlsContents contents) {
  std::lock_guard<std::mutex> lock(mutex_);
  contents_ = std::move(contents);
  fetched_ = false;
}

grpc_ssl_certificate_config_reload_status GrpcTls::Fetch(
    void* self, grpc_ssl_server_certificate_config** config) {
  auto& tls = *static_cast<GrpcTls*>(self);
  std::lock_guard<std::mutex> lock(tls.mutex_);
  if (std::exchange(tls.fetched_, true)) return GRPC_SSL_CERTIFICATE_CONFIG_RELOAD_UNCHANGED;
  const grpc_ssl_pem_key_cert_pair pair = {tls.contents_.key.c_str(), tls.contents_.cert.c_str()};
  // gRPC wants a CA in any case. Where callers are not asked for certificates it is for nothing.
  const std::string& ca =
      tls.contents_.client_ca.empty() ? tls.contents_.cert : tls.contents_.client_ca;
  *config = grpc_ssl_server_certificate_config_create(ca.c_str(), &pair, 1);
  return GRPC_SSL_CERTIFICATE_CONFIG_RELOAD_NEW;
}

std::shared_ptr<grpc::ServerCredentials> GrpcTls::Credentials() {
  const auto asked = contents_.client_ca.empty()
                         ? GRPC_SSL_DONT_REQUEST_CLIENT_CERTIFICATE
                         : GRPC_SSL_REQUEST_AND_REQUIRE_CLIENT_CERTIFICATE_AND_VERIFY;
  return std::make_shared<OwnedCredentials>(grpc_ssl_server_credentials_create_with_options(
      grpc_ssl_server_credentials_create_options_using_config_fetcher(asked, &Fetch, this)));
}

}  // namespace svdllm
