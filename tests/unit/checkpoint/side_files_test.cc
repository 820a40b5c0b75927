#include "checkpoint/side_files.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/stat.h>

#include <filesystem>

#include "tests/support/status_matchers.h"
#include "tests/support/temp_dir.h"

namespace svdllm {
namespace {

namespace fs = std::filesystem;
using ::testing::ElementsAre;
using ::testing::IsEmpty;
using testing::TempDir;

std::vector<std::string> Names(const std::string& dir) {
  const auto files = SideFilesOf(dir);
  EXPECT_OK(files);
  std::vector<std::string> names;
  if (files.ok()) {
    for (const SideFile& file : *files) names.push_back(file.name);
  }
  return names;
}

TEST(SideFiles, GoByARule) {
  for (const char* name : {"tokenizer.json",
                           "tokenizer.model",
                           "tokenizer_config.json",
                           "special_tokens_map.json",
                           "vocab.json",
                           "added_tokens.json",
                           "merges.txt",
                           "chat_template.jinja",
                           "chat_template.json",
                           "generation_config.json",
                           "preprocessor_config.json",
                           "tekken.json",
                           "tokenizer.model.v3",
                           "spiece.model",
                           "LICENSE",
                           "LICENSE.md",
                           "license.TXT",
                           "LICENCE.html",
                           "NOTICE",
                           "NOTICE.md",
                           "COPYING",
                           "COPYING.LESSER",
                           "COPYRIGHT.rst",
                           "USE_POLICY.md",
                           "AUTHORS"}) {
    EXPECT_TRUE(IsSideFileName(name)) << name;
  }
  for (const char* name : {"config.json",
                           "README.md",
                           "readme.md",
                           "model.safetensors.index.json",
                           "pytorch_model.bin.index.json",
                           "model.safetensors",
                           "pytorch_model.bin",
                           "model.gguf",
                           "rng.pt",
                           "x.pth",
                           "model.onnx",
                           "tf_model.h5",
                           "flax_model.msgpack",
                           "modeling_x.py",
                           "tokenizer.py",
                           "NOTICE.sh",
                           "lib.so",
                           ".gitattributes",
                           ".cache",
                           "figure.png",
                           "a.html",
                           "compression_manifest.json",
                           "compression_report.json",
                           "evaluation_report.json",
                           "report.html",
                           "predictions.jsonl",
                           "params.json",
                           "adapter_config.json",
                           ""}) {
    EXPECT_FALSE(IsSideFileName(name)) << name;
  }
}

TEST(SideFiles, OfADirectory) {
  TempDir dir;
  EXPECT_THAT(Names(dir.path()), IsEmpty());
  EXPECT_THAT(Names(dir.File("absent")), IsEmpty());
  for (const char* name : {"NOTICE.md", "tokenizer.json", "config.json", "weights.bin",
                           "additional_chat_templates/tool_use.jinja",
                           "additional_chat_templates/run.py", "original/params.json"}) {
    dir.Write(name, "x");
  }
  fs::create_directory(dir.File("LICENSES"));
  EXPECT_THAT(
      Names(dir.path()),
      ElementsAre("NOTICE.md", "additional_chat_templates/tool_use.jinja", "tokenizer.json"));
}

TEST(SideFiles, LargeOnesStayUnlessTheyAreATokenizers) {
  TempDir dir;
  const auto sparse = [&dir](const std::string& name, int64_t megabytes) {
    fs::resize_file(dir.Write(name, ""), static_cast<uintmax_t>(megabytes) << 20);
  };
  sparse("tokenizer.json", 40);
  sparse("vocab.json", 300);
  sparse("train.json", 17);
  sparse("LICENSE", 1);
  EXPECT_THAT(Names(dir.path()), ElementsAre("LICENSE", "tokenizer.json", "vocab.json"));
  for (const char* name : {"A.json", "B.json", "C.json", "D.json", "E.json"}) sparse(name, 15);
  EXPECT_THAT(Names(dir.path()), ElementsAre("A.json", "B.json", "C.json", "D.json", "LICENSE",
                                             "tokenizer.json", "vocab.json"));
}

TEST(SideFiles, LinksStayInTheDirectoryOrItsHubCache) {
  TempDir dir;
  dir.Write("blobs/1", "one");
  dir.Write("snapshots/abc/sub/real", "two");
  dir.Write("secret", "three");
  const std::string model = dir.File("snapshots/abc");
  fs::create_symlink("../../blobs/1", model + "/tokenizer.json");
  fs::create_symlink("sub/real", model + "/NOTICE");
  fs::create_symlink(model, dir.File("by-another-name"));
  for (const std::string& path : {model, dir.File("by-another-name")}) {
    const auto files = SideFilesOf(path);
    ASSERT_OK(files);
    ASSERT_EQ(files->size(), 2u);
    EXPECT_EQ((*files)[0].path, model + "/sub/real");
    EXPECT_EQ((*files)[1].path, dir.File("blobs/1"));
  }
  fs::create_symlink("../../secret", model + "/LICENSE");
  EXPECT_STATUS(SideFilesOf(model), kInvalidArgument, kModelCorrupt,
                {"LICENSE", "out of the model's directory"});
  fs::remove(model + "/LICENSE");
  fs::create_symlink("/etc/passwd", model + "/COPYING");
  EXPECT_STATUS(SideFilesOf(model), kInvalidArgument, kModelCorrupt, {"COPYING"});
  fs::remove(model + "/COPYING");
  fs::create_symlink("nothing", model + "/COPYING");
  EXPECT_STATUS(SideFilesOf(model), kInvalidArgument, kModelCorrupt, {"COPYING", "nothing"});
}

TEST(SideFiles, SpecialOnesAreRefused) {
  TempDir dir;
  ASSERT_EQ(mkfifo(dir.File("NOTICE").c_str(), 0600), 0);
  EXPECT_STATUS(SideFilesOf(dir.path()), kInvalidArgument, kModelCorrupt,
                {"NOTICE", "not a regular file"});
  fs::remove(dir.File("NOTICE"));
  fs::create_symlink("/dev/zero", dir.File("NOTICE"));
  EXPECT_STATUS(SideFilesOf(dir.path()), kInvalidArgument, kModelCorrupt,
                {"NOTICE", "not a regular file"});
}

}  // namespace
}  // namespace svdllm
