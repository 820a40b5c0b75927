// Who calls, and what they may do. docs/identity.md describes the file that says so.
#pragma once

#include <map>
#include <memory>
#include <mutex>
#include <string>
#include <vector>

#include "base/status.h"

namespace svdllm {

inline constexpr std::string_view kUnauthenticated = "UNAUTHENTICATED";
inline constexpr std::string_view kForbidden = "FORBIDDEN";

// Each may do what those before it may.
enum class Access {
  kRead,    // see jobs and the server
  kSubmit,  // submit jobs, cancel and delete one's own
  kAdmin,   // everything
};

struct Caller {
  std::string name = {};  // empty: nobody that the server knows
  Access access = Access::kAdmin;
  std::string peer = {};  // where from: "ipv4:127.0.0.1:4711"
};

// What a caller shows of itself.
struct Credentials {
  std::vector<std::string> authorization;  // the values of the header: "Bearer 5f0c…"
  // The names in a certificate of a CA that the server trusts: the common name, then the
  // alternative ones.
  std::vector<std::string> certificate_names;
};

// Thread-safe.
class Identities {
 public:
  // path: the file of --tokens. Empty: whoever is let in may do everything, and has the first name
  // of its certificate where it has one. INVALID_ARGUMENT, naming the line, where the file cannot
  // be read or is faulty.
  static absl::StatusOr<std::unique_ptr<Identities>> Open(const std::string& path);

  bool ask_for_tokens() const { return !path_.empty(); }
  // Returns a caller without its peer. UNAUTHENTICATED where the file is asked and does not know
  // it. A token goes before a certificate. It takes no time that depends on how much of a token is
  // right.
  absl::StatusOr<Caller> Identify(const Credentials& credentials) const;
  // Reads the file again. One that is faulty changes nothing; the log says so once.
  void Reload();

 private:
  struct Known;
  explicit Identities(std::string path) : path_(std::move(path)) {}
  static absl::StatusOr<std::shared_ptr<const Known>> Parse(const std::string& content);

  const std::string path_;
  mutable std::mutex mutex_;
  std::shared_ptr<const Known> known_;  // replaced as a whole
  std::string content_, fault_;         // of Open and Reload alone
};

}  // namespace svdllm
