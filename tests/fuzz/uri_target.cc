#include <filesystem>

#include "storage/artifact_store.h"
#include "storage/local_path.h"
#include "tests/fuzz/targets.h"

namespace svdllm::testing {
namespace {

namespace fs = std::filesystem;

// A fixed name, so that kept inputs lead to the same place: what the inputs call ROOT.
constexpr std::string_view kRoot = "ROOT";

// Model roots and an artifact root, each with links that lead out of it and within it.
struct Roots {
  TempDir dir;
  std::string models = dir.File("models"), artifacts = dir.File("artifacts");
  std::unique_ptr<ArtifactStore> store;

  Roots() {
    dir.Write("models/m/config.json", "{}");
    dir.Write("secret/config.json", "{}");
    fs::create_directory_symlink(dir.File("secret"), dir.File("models/out"));
    fs::create_directory_symlink("m", dir.File("models/in"));
    store = std::move(*NewFileStore({.model_roots = {models}, .artifact_root = artifacts}));
    fs::create_directory_symlink(dir.File("secret"), dir.File("artifacts/out"));
  }
};

void Run(std::string_view bytes) {
  static const Roots roots;
  std::string uri(bytes);
  if (const size_t at = uri.find(kRoot); at != std::string::npos) {
    uri.replace(at, kRoot.size(), roots.dir.path());
  }
  const auto input = roots.store->ResolveInput(uri);
  if (input.ok()) {
    const std::string path = *PathOfUri(*input, "");
    FUZZ_CHECK(IsWithin(path, roots.models) || IsWithin(path, roots.artifacts), path);
    FUZZ_CHECK(*roots.store->ResolveInput(*input) == *input, path);
    std::error_code error;
    FUZZ_CHECK(!fs::exists(path, error) || fs::canonical(path).string() == path, path);
  } else {
    CheckRefusal(input.status(), {kInvalidField});
  }
  const auto output = roots.store->ResolveOutput(uri);
  if (output.ok()) {
    const std::string path = *PathOfUri(*output, "");
    FUZZ_CHECK(IsWithin(path, roots.artifacts) && path != roots.artifacts, path);
    FUZZ_CHECK(*roots.store->ResolveOutput(*output) == *output, path);
  } else {
    CheckRefusal(output.status(), {kOutputInvalid});
  }
}

}  // namespace

FuzzTarget UriTarget() {
  return {"uri",
          Run,
          {"file://ROOT/models/m", "ROOT/models/in/config.json", "ROOT/models/out",
           "file://ROOT/artifacts/a/b", "ROOT/artifacts/out/x", "a/b",
           "file://ROOT/artifacts/../secret", "file://localhost/a%20b?x#y"},
          {"..",         ".",
           "/",          "/../",
           "//",         "%2e",
           "%2F",        "%00",
           "file://",    "localhost",
           "?",          "#",
           "%",          "\xff",
           "/out",       "/in",
           "/m",         ".staging-",
           "ROOT",       "/models",
           "/artifacts", std::string(1, '\0')},
          512};
}

}  // namespace svdllm::testing
