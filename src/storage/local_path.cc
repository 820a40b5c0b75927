#include "storage/local_path.h"

#include <sys/stat.h>

#include <algorithm>
#include <cerrno>
#include <climits>
#include <cstdlib>

#include "base/files.h"

namespace svdllm {
namespace {

absl::Status BadUri(std::string_view uri, std::string_view what) {
  return absl::InvalidArgumentError(std::string(uri.substr(0, 300)) + ": " + std::string(what));
}

int HexValue(char c) {
  if (c >= '0' && c <= '9') return c - '0';
  if (c >= 'a' && c <= 'f') return c - 'a' + 10;
  if (c >= 'A' && c <= 'F') return c - 'A' + 10;
  return -1;
}

bool PercentDecode(std::string_view text, std::string* out) {
  for (size_t i = 0; i < text.size(); ++i) {
    if (text[i] != '%') {
      out->push_back(text[i]);
      continue;
    }
    if (i + 2 >= text.size()) return false;
    const int high = HexValue(text[i + 1]), low = HexValue(text[i + 2]);
    if (high < 0 || low < 0) return false;
    out->push_back(static_cast<char>(high * 16 + low));
    i += 2;
  }
  return true;
}

bool IsScheme(std::string_view text) {
  return !text.empty() && std::all_of(text.begin(), text.end(), [](unsigned char c) {
    return std::isalnum(c) != 0 || c == '+' || c == '-' || c == '.';
  });
}

}  // namespace

absl::StatusOr<std::string> PathOfUri(std::string_view uri, const std::string& base) {
  constexpr std::string_view kFile = "file://";
  if (uri.empty()) return BadUri("(empty)", "a path or a file:// URI is expected");
  std::string path;
  if (uri.substr(0, kFile.size()) == kFile) {
    std::string_view rest = uri.substr(kFile.size());
    constexpr std::string_view kLocal = "localhost/";
    if (rest.substr(0, kLocal.size()) == kLocal) rest.remove_prefix(kLocal.size() - 1);
    if (rest.empty() || rest[0] != '/') {
      return BadUri(uri, "a file:// URI has three slashes and an absolute path");
    }
    if (rest.find_first_of("?#") != std::string_view::npos) {
      return BadUri(uri, "a query or fragment has no meaning here; write %3F or %23");
    }
    if (!PercentDecode(rest, &path)) return BadUri(uri, "bad percent-encoding");
  } else if (const size_t colon = uri.find("://");
             colon != std::string_view::npos && IsScheme(uri.substr(0, colon))) {
    return BadUri(uri, "scheme " + std::string(uri.substr(0, colon)) +
                           " is not supported; a path or a file:// URI is");
  } else if (uri[0] == '/') {
    path = uri;
  } else if (!base.empty()) {
    path = base + "/" + std::string(uri);
  } else {
    return BadUri(uri, "relative paths are not accepted here");
  }
  if (path.find('\0') != std::string::npos) return BadUri(uri, "contains a NUL byte");
  if (path.size() >= PATH_MAX) return BadUri(uri, "the path is too long");
  return path;
}

std::string UriOfPath(std::string_view path) {
  static constexpr char kHex[] = "0123456789ABCDEF";
  std::string uri = "file://";
  for (const char c : path) {
    const unsigned char byte = static_cast<unsigned char>(c);
    const bool plain = (byte < 0x80 && std::isalnum(byte) != 0) ||
                       std::string_view("/-._~@+=,:").find(c) != std::string_view::npos;
    if (plain) {
      uri.push_back(c);
    } else {
      uri.push_back('%');
      uri.push_back(kHex[byte >> 4]);
      uri.push_back(kHex[byte & 15]);
    }
  }
  return uri;
}

absl::StatusOr<std::string> CanonicalPath(const std::string& absolute_path) {
  std::string current;  // canonical, without a trailing slash; empty is the root
  size_t begin = 0;
  while (begin < absolute_path.size()) {
    const size_t end = std::min(absolute_path.find('/', begin), absolute_path.size());
    const std::string component = absolute_path.substr(begin, end - begin);
    begin = end + 1;
    if (component.empty() || component == ".") continue;
    if (component == "..") {
      current.erase(std::min(current.rfind('/'), current.size()));
      continue;
    }
    if (component.size() > NAME_MAX) {  // also where nothing is there that would say so
      return absl::InvalidArgumentError(
          ErrnoToStatus(ENAMETOOLONG, "resolve", absolute_path).message());
    }
    current += "/" + component;
    struct stat info;
    if (lstat(current.c_str(), &info) != 0) {
      if (errno == ENOENT) continue;  // nothing there: no link either
      if (errno == ENOTDIR || errno == ENAMETOOLONG) {
        return absl::InvalidArgumentError(ErrnoToStatus(errno, "resolve", absolute_path).message());
      }
      return ErrnoToStatus(errno, "resolve", absolute_path);
    }
    if (!S_ISLNK(info.st_mode)) continue;
    char* resolved = realpath(current.c_str(), nullptr);
    if (resolved == nullptr) {
      if (errno == ENOENT) {
        return absl::PermissionDeniedError(absolute_path + ": " + current +
                                           " is a symbolic link to nothing");
      }
      return absl::InvalidArgumentError(ErrnoToStatus(errno, "resolve", absolute_path).message());
    }
    current = resolved;
    std::free(resolved);
    if (current == "/") current.clear();
  }
  return current.empty() ? "/" : current;
}

bool IsWithin(const std::string& path, const std::string& root) {
  if (root == "/" || path == root) return true;
  return path.size() > root.size() && path.compare(0, root.size(), root) == 0 &&
         path[root.size()] == '/';
}

}  // namespace svdllm
