#include "server/identity.h"

#include <openssl/crypto.h>

#include <algorithm>
#include <optional>
#include <sstream>
#include <utility>

#include "base/digest.h"
#include "base/files.h"
#include "base/logging.h"
#include "base/utf8.h"

namespace svdllm {
namespace {

constexpr int64_t kMaxFileBytes = 1 << 20;
constexpr size_t kMaxNameBytes = 64;
constexpr size_t kMaxCertificateNameBytes = 256;
constexpr size_t kDigestDigits = 64;
constexpr std::string_view kCertificate = "cert:";
constexpr std::string_view kScheme = "bearer ";

absl::Status Unknown(const std::string& why) {
  return MakeError(absl::StatusCode::kUnauthenticated, kUnauthenticated, why);
}

bool IsName(const std::string& text) {
  return !text.empty() && text.size() <= kMaxNameBytes &&
         std::all_of(text.begin(), text.end(), [](unsigned char c) {
           return std::isalnum(c) != 0 || c == '.' || c == '_' || c == '-' || c == '@' || c == '+';
         });
}

std::optional<Access> AccessOf(const std::string& word) {
  if (word == "read") return Access::kRead;
  if (word == "submit") return Access::kSubmit;
  if (word == "admin") return Access::kAdmin;
  return std::nullopt;
}

// What stands behind "Bearer ", or nothing.
std::string TokenOf(const std::string& header) {
  if (header.size() <= kScheme.size()) return "";
  for (size_t i = 0; i < kScheme.size(); ++i) {
    if (std::tolower(static_cast<unsigned char>(header[i])) != kScheme[i]) return "";
  }
  return header.substr(kScheme.size());
}

}  // namespace

// What the file says.
struct Identities::Known {
  std::map<std::string, Access> callers;            // by name
  std::map<std::string, std::string> digests;       // SHA-256 of a token -> name
  std::map<std::string, std::string> certificates;  // name in a certificate -> name
};

absl::StatusOr<std::shared_ptr<const Identities::Known>> Identities::Parse(
    const std::string& content) {
  auto known = std::make_shared<Known>();
  std::istringstream lines(content);
  std::string line;
  for (int number = 1; std::getline(lines, line); ++number) {
    // What a line says is never repeated: somebody may have put a token there.
    const auto faulty = [number](const std::string& why) {
      return absl::InvalidArgumentError("line " + std::to_string(number) + ": " + why);
    };
    std::istringstream words(line);
    std::string name, role, secret, more;
    if (!(words >> name) || name.front() == '#') continue;
    words >> role >> secret;
    if (!IsName(name)) {
      return faulty("a name has at most 64 letters, digits and any of . _ - @ +");
    }
    const std::optional<Access> access = AccessOf(role);
    if (!access.has_value()) return faulty("the role is none of read, submit, admin");
    const auto [caller, added] = known->callers.emplace(name, *access);
    if (!added && caller->second != *access) return faulty("the name has another role above");
    if (secret.starts_with(kCertificate)) {
      std::getline(words, more);  // common names may have blanks in them
      secret = secret.substr(kCertificate.size()) + more;
      secret.erase(secret.find_last_not_of(" \t\r") + 1);
      if (secret.empty()) return faulty("cert: needs the name that the certificate has");
      if (!known->certificates.emplace(secret, name).second) {
        return faulty("the certificate's name is above already");
      }
      continue;
    }
    if (secret.size() != kDigestDigits ||
        secret.find_first_not_of("0123456789abcdef") != std::string::npos || words >> more) {
      return faulty("needs NAME ROLE and the token's SHA-256 in hexadecimal, or cert:NAME");
    }
    if (!known->digests.emplace(secret, name).second) return faulty("the token is above already");
  }
  if (known->callers.empty()) return absl::InvalidArgumentError("it names nobody");
  return known;
}

absl::StatusOr<std::unique_ptr<Identities>> Identities::Open(const std::string& path) {
  std::unique_ptr<Identities> identities(new Identities(path));
  if (path.empty()) return identities;
  absl::StatusOr<std::string> content = ReadFile(path, kMaxFileBytes);
  if (!content.ok()) return absl::InvalidArgumentError(content.status().message());
  identities->content_ = *std::move(content);
  auto known = Parse(identities->content_);
  if (!known.ok()) {
    return absl::InvalidArgumentError(path + ": " + std::string(known.status().message()));
  }
  identities->known_ = *std::move(known);
  return identities;
}

void Identities::Reload() {
  if (path_.empty()) return;
  absl::StatusOr<std::string> content = ReadFile(path_, kMaxFileBytes);
  if (content.ok() && *content == content_ && fault_.empty()) return;
  absl::Status status = content.status();
  if (content.ok()) {
    auto known = Parse(*content);
    status = known.status();
    if (known.ok()) {
      std::lock_guard<std::mutex> lock(mutex_);
      known_ = *std::move(known);
    }
  }
  if (status.ok()) {
    content_ = *std::move(content);
    fault_.clear();
    Log(LogLevel::kInfo, "tokens read again", {{"file", path_}});
    return;
  }
  const std::string fault(status.message());
  if (std::exchange(fault_, fault) == fault) return;
  Log(LogLevel::kError, "tokens not read again, those before hold",
      {{"file", path_}, {"error", fault}});
}

absl::StatusOr<Caller> Identities::Identify(const Credentials& credentials) const {
  const std::vector<std::string>& names = credentials.certificate_names;
  if (path_.empty()) {
    if (names.empty()) return Caller{};
    // Cut, it could be somebody else's.
    if (names.front().size() > kMaxCertificateNameBytes) {
      return Unknown("the certificate's name is longer than 256 bytes");
    }
    return Caller{.name = ToValidUtf8(names.front())};
  }
  std::shared_ptr<const Known> known;
  {
    std::lock_guard<std::mutex> lock(mutex_);
    known = known_;
  }
  const std::string* found = nullptr;
  if (!credentials.authorization.empty()) {
    const std::string token =
        credentials.authorization.size() == 1 ? TokenOf(credentials.authorization.front()) : "";
    if (token.empty()) return Unknown("the header authorization is not one \"Bearer TOKEN\"");
    const std::string digest = Sha256(token);
    // All of them, and each to its end.
    for (const auto& [other, name] : known->digests) {
      if (CRYPTO_memcmp(digest.data(), other.data(), kDigestDigits) == 0) found = &name;
    }
    if (found == nullptr) return Unknown("the token is none that this server knows");
  } else {
    for (const std::string& name : names) {
      const auto entry = known->certificates.find(name);
      if (entry == known->certificates.end()) continue;
      found = &entry->second;
      break;
    }
    if (found == nullptr && !names.empty()) {
      return Unknown("the certificate has no name that this server knows, and there is no token");
    }
    if (found == nullptr) {
      return Unknown("this server asks for a token: the header authorization, Bearer TOKEN");
    }
  }
  return Caller{.name = *found, .access = known->callers.at(*found)};
}

}  // namespace svdllm
