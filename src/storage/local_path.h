// file:// URIs and canonical local paths.
#pragma once

#include <string>
#include <string_view>

#include "base/status.h"

namespace svdllm {

// Returns the path that a file:// URI or a plain path names: "file:///a%20b" and "/a b" are "/a b".
// A relative path is taken below base, and is refused where base is empty. INVALID_ARGUMENT, with
// the uri in it, for other schemes, hosts, queries, bad percent-encoding, NUL bytes and absurd
// lengths.
absl::StatusOr<std::string> PathOfUri(std::string_view uri, const std::string& base);
// Returns "file:///a%20b": ASCII whatever the path's bytes are.
std::string UriOfPath(std::string_view path);

// Returns the path without symbolic links, "." and "..", each resolved as the system would. The
// last components may be absent. Errors name the path: PERMISSION_DENIED (unreadable, or a dangling
// link, whose target could be made to appear anywhere), INVALID_ARGUMENT (a file used as a
// directory, a loop of links).
absl::StatusOr<std::string> CanonicalPath(const std::string& absolute_path);
// Whether a canonical path is root or lies below it.
bool IsWithin(const std::string& path, const std::string& root);

}  // namespace svdllm
