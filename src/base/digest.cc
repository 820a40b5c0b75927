#include "base/digest.h"

#include <openssl/evp.h>
#include <openssl/sha.h>

#include <cerrno>
#include <cstdio>
#include <memory>
#include <span>
#include <vector>

#include "base/files.h"

namespace svdllm {

namespace {

std::string Hex(std::span<const unsigned char> digest) {
  static constexpr char kHex[] = "0123456789abcdef";
  std::string hex;
  hex.reserve(2 * digest.size());
  for (const unsigned char byte : digest) {
    hex.push_back(kHex[byte >> 4]);
    hex.push_back(kHex[byte & 15]);
  }
  return hex;
}

}  // namespace

std::string Sha256(std::string_view bytes) {
  unsigned char digest[SHA256_DIGEST_LENGTH];
  SHA256(reinterpret_cast<const unsigned char*>(bytes.data()), bytes.size(), digest);
  return Hex(digest);
}

absl::StatusOr<std::string> Sha256OfFile(const std::string& path) {
  ASSIGN_OR_RETURN(MappedFile file, MappedFile::Open(path));
  return Sha256({reinterpret_cast<const char*>(file.bytes().data()), file.bytes().size()});
}

absl::StatusOr<FileDigest> DigestOfFile(const std::string& path) {
  const std::unique_ptr<std::FILE, int (*)(std::FILE*)> file(std::fopen(path.c_str(), "rbe"),
                                                             &std::fclose);
  if (file == nullptr) return ErrnoToStatus(errno, "open", path);
  const std::unique_ptr<EVP_MD_CTX, void (*)(EVP_MD_CTX*)> context(EVP_MD_CTX_new(),
                                                                   &EVP_MD_CTX_free);
  if (EVP_DigestInit_ex(context.get(), EVP_sha256(), nullptr) != 1) {
    return absl::InternalError("SHA-256 is not available");
  }
  FileDigest digest;
  std::vector<char> buffer(size_t{1} << 20);
  for (size_t n; (n = std::fread(buffer.data(), 1, buffer.size(), file.get())) > 0;) {
    EVP_DigestUpdate(context.get(), buffer.data(), n);
    digest.bytes += static_cast<int64_t>(n);
  }
  if (std::ferror(file.get()) != 0) return ErrnoToStatus(errno, "read", path);
  unsigned char value[SHA256_DIGEST_LENGTH];
  EVP_DigestFinal_ex(context.get(), value, nullptr);
  digest.sha256 = Hex(value);
  return digest;
}

}  // namespace svdllm
