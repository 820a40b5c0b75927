#include "server/unix_socket.h"

#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <string_view>

#include "base/files.h"

namespace svdllm {
namespace {

constexpr std::string_view kScheme = "unix:";
constexpr mode_t kOwnerAndGroup = 0660;

}  // namespace

absl::StatusOr<std::optional<std::string>> UnixPath(const std::string& address) {
  if (!address.starts_with(kScheme)) return std::nullopt;
  const std::string path = address.substr(kScheme.size());
  if (path.empty() || path.front() != '/' || path.size() >= sizeof(sockaddr_un::sun_path)) {
    return absl::InvalidArgumentError("\"" + address +
                                      "\" is not unix: and an absolute path of at most 107 bytes");
  }
  return path;
}

absl::Status CheckUnixSocketFree(const std::string& path) {
  sockaddr_un address{};
  address.sun_family = AF_UNIX;
  std::copy(path.begin(), path.end(), address.sun_path);
  const int probe = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
  if (probe < 0) return ErrnoToStatus(errno, "socket", path);
  const int connected =
      connect(probe, reinterpret_cast<const sockaddr*>(&address), sizeof(address));
  const bool taken = connected == 0 || errno == EAGAIN;  // EAGAIN: its backlog is full
  close(probe);
  return taken ? absl::UnavailableError("another server listens on " + path) : absl::OkStatus();
}

absl::Status ConfineUnixSocket(const std::string& path) {
  return chmod(path.c_str(), kOwnerAndGroup) == 0 ? absl::OkStatus()
                                                  : ErrnoToStatus(errno, "chmod", path);
}

}  // namespace svdllm
