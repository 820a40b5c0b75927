#include "base/module.h"

#include <dlfcn.h>
#include <unistd.h>

#include <climits>
#include <cstdlib>
#include <vector>

namespace svdllm {
namespace {

std::string ExecutableDir() {
  char path[PATH_MAX];
  const ssize_t length = readlink("/proc/self/exe", path, sizeof(path));
  if (length <= 0) return ".";
  const std::string text(path, static_cast<size_t>(length));
  return text.substr(0, text.rfind('/'));
}

// The sanitizers refuse RTLD_DEEPBIND. g++ says by macros that they are there, clang by a feature,
// which headers may define for g++ as well.
#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
#define SVDLLM_IS_SANITIZED
#elif defined(__has_feature)
#if __has_feature(address_sanitizer) || __has_feature(thread_sanitizer)
#define SVDLLM_IS_SANITIZED
#endif
#endif
#if defined(SVDLLM_IS_SANITIZED)
constexpr int kFlags = RTLD_NOW | RTLD_LOCAL;
#else
constexpr int kFlags = RTLD_NOW | RTLD_LOCAL | RTLD_DEEPBIND;
#endif

}  // namespace

absl::StatusOr<void*> OpenModule(const std::string& file_name, const char* symbol) {
  std::vector<std::string> directories;
  if (const char* set = std::getenv("SVDLLM_MODULE_DIR")) directories.emplace_back(set);
  for (const char* place : {"", "/../lib/svdllm", "/../modules"}) {
    directories.push_back(ExecutableDir() + place);
  }
  std::string tried;
  for (const std::string& directory : directories) {
    const std::string path = directory + "/" + file_name;
    if (access(path.c_str(), R_OK) != 0) {
      tried += (tried.empty() ? "" : ", ") + path;
      continue;
    }
    void* module = dlopen(path.c_str(), kFlags);
    if (module == nullptr) return absl::UnavailableError(dlerror());
    void* found = dlsym(module, symbol);
    if (found == nullptr) return absl::UnavailableError(dlerror());
    return found;
  }
  return absl::UnavailableError(file_name + " is not there (looked for " + tried + ")");
}

}  // namespace svdllm
