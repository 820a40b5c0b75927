#include <gtest/gtest.h>

#include <filesystem>

#include "storage/artifact_store.h"
#include "storage/local_path.h"
#include "tests/fuzz/mutator.h"
#include "tests/support/temp_dir.h"

namespace svdllm {
namespace {

namespace fs = std::filesystem;

TEST(UriFuzz, WhatIsAcceptedLiesBelowTheRoots) {
  testing::TempDir dir;
  dir.Write("models/m/config.json", "{}");
  dir.Write("secret/config.json", "{}");
  fs::create_directory_symlink(dir.File("secret"), dir.File("models/out"));
  fs::create_directory_symlink("m", dir.File("models/in"));
  const std::string artifacts = dir.File("artifacts"), models = dir.File("models");
  auto store = NewFileStore({.model_roots = {models}, .artifact_root = artifacts});
  ASSERT_TRUE(store.ok());
  fs::create_directory_symlink(dir.File("secret"), dir.File("artifacts/out"));

  const std::vector<std::string> seeds = {
      "file://" + models + "/m",           models + "/in/config.json", models + "/out",
      "file://" + artifacts + "/a/b",      artifacts + "/out/x",       "a/b",
      "file://" + artifacts + "/../secret"};
  const std::vector<std::string> words = {
      "..",   ".",       "/",         "/../",      "//",   "%2e",     "%2F",
      "%00",  "file://", "localhost", "?",         "#",    "%",       "\xff",
      "/out", "/in",     "/m",        ".staging-", models, artifacts, std::string(1, '\0')};
  testing::Mutator mutator(seeds, words);
  int64_t accepted = 0;
  testing::ForFuzzSeconds([&] {
    const std::string uri = mutator.Next();
    const auto input = (*store)->ResolveInput(uri);
    if (input.ok()) {
      ++accepted;
      const std::string path = *PathOfUri(*input, "");
      ASSERT_TRUE(IsWithin(path, models) || IsWithin(path, artifacts)) << uri << " gave " << path;
      ASSERT_EQ(*(*store)->ResolveInput(*input), *input);
      std::error_code error;
      if (fs::exists(path, error)) {
        ASSERT_EQ(fs::canonical(path).string(), path);
      }
    }
    const auto output = (*store)->ResolveOutput(uri);
    if (output.ok()) {
      ++accepted;
      const std::string path = *PathOfUri(*output, "");
      ASSERT_TRUE(IsWithin(path, artifacts) && path != artifacts) << uri << " gave " << path;
      ASSERT_EQ(*(*store)->ResolveOutput(*output), *output);
    }
  });
  EXPECT_GT(accepted, 0);
  RecordProperty("accepted", static_cast<int>(accepted));
}

}  // namespace
}  // namespace svdllm
