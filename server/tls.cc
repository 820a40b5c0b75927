#include "server/tls.h"

#include <openssl/bio.h>
#include <openssl/err.h>
#include <openssl/evp.h>
#include <openssl/pem.h>
#include <openssl/x509.h>
#include <openssl/x509v3.h>

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

absl::StatusOr<Certificate> FirstCertificate(const std::string& flag, const std::string& path,
                                             const std::string& content) {
  const Pem pem = Open(content);
  Certificate certificate(PEM_read_bio_X509(pem.get(), nullptr, nullptr, nullptr), X509_free);
  ERR_clear_error();
  if (certificate == nullptr) return Invalid(flag, path + " holds no certificate in PEM");
  return certificate;
}

// Instead of a prompt for the password of a key that has one.
int NoPassword(char*, int, int, void*) { return -1; }

}  // namespace

absl::StatusOr<TlsContents> ReadTlsFiles(const TlsFiles& files) {
  if (files.cert.empty() != files.key.empty()) {
    return files.cert.empty() ? Invalid("tls_key", "needs --tls_cert")
                              : Invalid("tls_cert", "needs --tls_key");
  }
  if (!files.client_ca.empty() && files.cert.empty()) {
    return Invalid("tls_client_ca", "needs --tls_cert and --tls_key");
  }
  TlsContents contents;
  if (files.cert.empty()) return contents;
  ASSIGN_OR_RETURN(contents.cert, Read("tls_cert", files.cert));
  ASSIGN_OR_RETURN(const Certificate certificate,
                   FirstCertificate("tls_cert", files.cert, contents.cert));
  ASSIGN_OR_RETURN(contents.key, Read("tls_key", files.key));
  const Pem pem = Open(contents.key);
  const Key key(PEM_read_bio_PrivateKey(pem.get(), nullptr, NoPassword, nullptr), EVP_PKEY_free);
  const bool match = key != nullptr && X509_check_private_key(certificate.get(), key.get()) == 1;
  ERR_clear_error();
  if (key == nullptr) return Invalid("tls_key", files.key + " holds no private key in PEM");
  if (!match) return Invalid("tls_key", files.key + " is not the key of " + files.cert);
  if (files.client_ca.empty()) return contents;
  ASSIGN_OR_RETURN(contents.client_ca, Read("tls_client_ca", files.client_ca));
  RETURN_IF_ERROR(FirstCertificate("tls_client_ca", files.client_ca, contents.client_ca).status());
  return contents;
}

std::vector<std::string> CertificateNames(std::string_view der) {
  const auto* bytes = reinterpret_cast<const unsigned char*>(der.data());
  const Certificate certificate(d2i_X509(nullptr, &bytes, static_cast<long>(der.size())),
                                X509_free);
  ERR_clear_error();
  std::vector<std::string> names;
  if (certificate == nullptr) return names;
  const auto add = [&names](const ASN1_STRING* text) {
    unsigned char* utf8 = nullptr;
    const int size = ASN1_STRING_to_UTF8(&utf8, text);
    if (size > 0)
      names.emplace_back(reinterpret_cast<const char*>(utf8), static_cast<size_t>(size));
    OPENSSL_free(utf8);
  };
  X509_NAME* const subject = X509_get_subject_name(certificate.get());
  const int at = X509_NAME_get_index_by_NID(subject, NID_commonName, -1);
  if (at >= 0) add(X509_NAME_ENTRY_get_data(X509_NAME_get_entry(subject, at)));
  const std::unique_ptr<GENERAL_NAMES, decltype(&GENERAL_NAMES_free)> others(
      static_cast<GENERAL_NAMES*>(
          X509_get_ext_d2i(certificate.get(), NID_subject_alt_name, nullptr, nullptr)),
      GENERAL_NAMES_free);
  for (int i = 0; others != nullptr && i < sk_GENERAL_NAME_num(others.get()); ++i) {
    const GENERAL_NAME* const name = sk_GENERAL_NAME_value(others.get(), i);
    if (name->type == GEN_DNS || name->type == GEN_URI || name->type == GEN_EMAIL) {
      add(name->d.ia5);  // the same member for all three
    }
  }
  return names;
}

}  // namespace svdllm
