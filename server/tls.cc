#include "server/tls.h"

#include <openssl/bio.h>
#include <openssl/err.h>
#include <openssl/evp.h>
#include <openssl/pem.h>
#include <openssl/x509.h>

#include <memory>

#include "base/files.h"

namespace svdllm {
namespace {

constexpr int64_t kMaxPemBytes = 4 << 20;  // a bundle of all public CAs has a quarter of it

using Pem = std::unique_ptr<BIO, decltype(&BIO_free)>;
using Certificate = std::unique_ptr<X509, decltype(&X509_free)>;
using Key = std::unique_ptr<EVP_PKEY, decltype(&EVP_PKEY_free)>;

absl::Status Invalid(const std::string& flag, const std::string& why) {
  return absl::InvalidArgumentError("--" + flag + ": " + why);
}

absl::StatusOr<std::string> Read(const std::string& flag, const std::string& path) {
  absl::StatusOr<std::string> content = ReadFile(path, kMaxPemBytes);
  if (content.ok()) return content;
  return Invalid(flag, std::string(content.status().message()));
}

Pem Open(const std::string& content) {
  return {BIO_new_mem_buf(content.data(), static_cast<int>(content.size())), BIO_free};
}

absl::StatusOr<Certificate> FirstCertificate(const std::string& flag, const std::string& path) {
  ASSIGN_OR_RETURN(const std::string content, Read(flag, path));
  const Pem pem = Open(content);
  Certificate certificate(PEM_read_bio_X509(pem.get(), nullptr, nullptr, nullptr), X509_free);
  ERR_clear_error();
  if (certificate == nullptr) return Invalid(flag, path + " holds no certificate in PEM");
  return certificate;
}

// Instead of a prompt for the password of a key that has one.
int NoPassword(char*, int, int, void*) { return -1; }

}  // namespace

absl::Status CheckTlsFiles(const TlsFiles& files) {
  if (files.cert.empty() != files.key.empty()) {
    return files.cert.empty() ? Invalid("tls_key", "needs --tls_cert")
                              : Invalid("tls_cert", "needs --tls_key");
  }
  if (!files.client_ca.empty() && files.cert.empty()) {
    return Invalid("tls_client_ca", "needs --tls_cert and --tls_key");
  }
  if (files.cert.empty()) return absl::OkStatus();
  ASSIGN_OR_RETURN(const Certificate certificate, FirstCertificate("tls_cert", files.cert));
  ASSIGN_OR_RETURN(const std::string content, Read("tls_key", files.key));
  const Pem pem = Open(content);
  const Key key(PEM_read_bio_PrivateKey(pem.get(), nullptr, NoPassword, nullptr), EVP_PKEY_free);
  const bool match = key != nullptr && X509_check_private_key(certificate.get(), key.get()) == 1;
  ERR_clear_error();
  if (key == nullptr) return Invalid("tls_key", files.key + " holds no private key in PEM");
  if (!match) return Invalid("tls_key", files.key + " is not the key of " + files.cert);
  if (files.client_ca.empty()) return absl::OkStatus();
  return FirstCertificate("tls_client_ca", files.client_ca).status();
}

}  // namespace svdllm
