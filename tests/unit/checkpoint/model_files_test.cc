// Directories that are nearly a model, and files that are not what their names say.
#include "checkpoint/model_files.h"

#include <gtest/gtest.h>
#include <sys/stat.h>

#include <filesystem>

#include "checkpoint/checkpoint.h"
#include "tests/support/edit_tensors.h"
#include "tests/support/temp_dir.h"
#include "tests/support/tiny_checkpoint.h"

namespace svdllm {
namespace {

namespace fs = std::filesystem;
using testing::TempDir;
using testing::WriteTinyCheckpoint;

constexpr char kPointer[] =
    "version https://git-lfs.github.com/spec/v1\noid sha256:abababab\nsize 12345\n";

class Instead : public ::testing::Test {
 protected:
  Instead() {
    testing::TinyCheckpointOptions options;
    options.shards = 2;
    WriteTinyCheckpoint(dir_.path(), options);
  }
  void RemoveWeights() {
    for (const char* name : {"model-00001-of-00002.safetensors", "model-00002-of-00002.safetensors",
                             "model.safetensors.index.json"}) {
      fs::remove(dir_.File(name));
    }
  }
  void ExpectNotFound(std::initializer_list<std::string_view> parts) {
    EXPECT_STATUS(Checkpoint::Open(dir_.path()), kNotFound, kModelNotFound, parts);
  }
  TempDir dir_;
};

TEST_F(Instead, ShardsWithoutTheirIndex) {
  ASSERT_OK(Checkpoint::Open(dir_.path()));
  fs::remove(dir_.File("model.safetensors.index.json"));
  ExpectNotFound({"model.safetensors.index.json is missing",
                  "model-00001-of-00002.safetensors, "
                  "model-00002-of-00002.safetensors"});
}

TEST_F(Instead, WeightsOfOtherFormats) {
  RemoveWeights();
  ExpectNotFound({"model.safetensors and its index are both missing"});
  const std::pair<const char*, std::string_view> kOthers[] = {
      {"consolidated.safetensors", "consolidated.safetensors"},
      {"consolidated.00.pth", "the format of the model's authors"},
      {"pytorch_model-00001-of-00003.bin", "save_pretrained"},
      {"model.q4.gguf", "give its path"},
      {"model.fp16.safetensors", "model.fp16.safetensors: weights are looked for"},
      {"tf_model.h5", "TensorFlow"},
      {"flax_model.msgpack", "Flax"},
      {"model.onnx", "ONNX"}};
  for (const auto& [name, part] : kOthers) {
    const std::string path = dir_.Write(name, "x");
    ExpectNotFound({dir_.path(), part});
    fs::remove(path);
  }
}

TEST_F(Instead, NoConfiguration) {
  fs::remove(dir_.File("config.json"));
  ExpectNotFound({"config.json is missing"});
  const std::pair<const char*, std::string_view> kOthers[] = {
      {"adapter_config.json", "a LoRA adapter"},
      {"params.json", "params.json are the format of the model's authors"},
      {"consolidated.00.pth", "consolidated.00.pth"},
      {"model_index.json", "image pipeline"},
      {"models--meta--Llama/x", "a hub cache of several models"},
      {"checkpoint-500/config.json", "there is one in checkpoint-500"}};
  for (const auto& [name, part] : kOthers) {
    const std::string path = dir_.Write(name, "{}");
    ExpectNotFound({dir_.path(), "config.json is missing", part});
    fs::remove_all(fs::path(path).parent_path() == dir_.path() ? fs::path(path)
                                                               : fs::path(path).parent_path());
  }
}

TEST_F(Instead, AFileOfWeights) {
  EXPECT_STATUS(Checkpoint::Open(dir_.File("model-00001-of-00002.safetensors")), kNotFound,
                kModelNotFound, {"give the directory in which it lies"});
}

TEST_F(Instead, AnAdapterBesideAModel) {
  dir_.Write("adapter_config.json", "{}");
  EXPECT_STATUS(Checkpoint::Open(dir_.path()), kInvalidArgument, kModelCorrupt,
                {"adapter_config.json", "merge it"});
}

TEST(LfsPointers, AreNamedInEveryFileOfAModel) {
  for (const char* name : {"config.json", "model.safetensors", "tokenizer.json",
                           "tokenizer_config.json", "tokenizer.model", "LICENSE"}) {
    TempDir dir;
    WriteTinyCheckpoint(dir.path());
    dir.Write(name, kPointer);
    EXPECT_STATUS(Checkpoint::Open(dir.path()), kInvalidArgument, kModelCorrupt,
                  {dir.File(name), "Git LFS pointer", "git lfs pull"});
  }
  TempDir dir;
  testing::TinyCheckpointOptions options;
  options.shards = 2;
  for (const char* name : {"model.safetensors.index.json", "model-00002-of-00002.safetensors"}) {
    WriteTinyCheckpoint(dir.path(), options);
    dir.Write(name, kPointer);
    EXPECT_STATUS(Checkpoint::Open(dir.path()), kInvalidArgument, kModelCorrupt,
                  {dir.File(name), "Git LFS pointer"});
  }
  EXPECT_STATUS(Checkpoint::Open(dir.Write("model.gguf", kPointer)), kInvalidArgument,
                kModelCorrupt, {dir.File("model.gguf"), "Git LFS pointer"});
}

TEST(LfsPointers, OfFilesThatNobodyReadsDoNotMatter) {
  TempDir dir;
  WriteTinyCheckpoint(dir.path());
  for (const char* name : {"pytorch_model.bin", "model.onnx", "figure.png"}) {
    dir.Write(name, kPointer);
  }
  EXPECT_OK(Checkpoint::Open(dir.path()));
}

TEST(SpecialFiles, AreRefusedAtOnce) {
  for (const char* name : {"config.json", "model.safetensors", "model.safetensors.index.json"}) {
    TempDir dir;
    WriteTinyCheckpoint(dir.path());
    if (std::string_view(name).ends_with("index.json")) fs::remove(dir.File("model.safetensors"));
    fs::remove(dir.File(name));
    ASSERT_EQ(mkfifo(dir.File(name).c_str(), 0600), 0);
    EXPECT_STATUS(Checkpoint::Open(dir.path()), kInvalidArgument, kModelCorrupt,
                  {dir.File(name), "not a regular file"});
    fs::remove(dir.File(name));
    fs::create_symlink("/dev/zero", dir.File(name));
    EXPECT_STATUS(Checkpoint::Open(dir.path()), kInvalidArgument, kModelCorrupt,
                  {dir.File(name), "not a regular file"});
    fs::remove(dir.File(name));
    fs::create_directory(dir.File(name));
    EXPECT_STATUS(Checkpoint::Open(dir.path()), kInvalidArgument, kModelCorrupt,
                  {dir.File(name), "not a regular file"});
  }
  for (const char* name : {"tokenizer.model", "generation_config.json", "LICENSE"}) {
    TempDir dir;
    WriteTinyCheckpoint(dir.path());
    ASSERT_EQ(mkfifo(dir.File(name).c_str(), 0600), 0);
    EXPECT_STATUS(Checkpoint::Open(dir.path()), kInvalidArgument, kModelCorrupt,
                  {dir.File(name), "not a regular file"});
  }
  TempDir dir;
  ASSERT_EQ(mkfifo(dir.File("m.gguf").c_str(), 0600), 0);
  EXPECT_STATUS(Checkpoint::Open(dir.File("m.gguf")), kInvalidArgument, kModelCorrupt,
                {"m.gguf", "not a regular file"});
}

class HubCache : public ::testing::Test {
 protected:
  void Snapshot(const std::string& revision, int64_t layers) {
    testing::TinyCheckpointOptions options;
    options.num_layers = layers;
    WriteTinyCheckpoint(dir_.File("snapshots/" + revision), options);
  }
  TempDir dir_;
};

TEST_F(HubCache, StandsForTheSnapshotThatMainNames) {
  Snapshot("abc", 1);
  auto checkpoint = Checkpoint::Open(dir_.path());  // the only one
  ASSERT_OK(checkpoint);
  EXPECT_EQ(checkpoint->dir(), dir_.File("snapshots/abc"));
  Snapshot("def", 2);
  EXPECT_STATUS(Checkpoint::Open(dir_.path()), kNotFound, kModelNotFound,
                {"several snapshots", "abc, def"});
  dir_.Write("refs/main", "def\n");
  checkpoint = Checkpoint::Open(dir_.path());
  ASSERT_OK(checkpoint);
  EXPECT_EQ(checkpoint->config().num_layers, 2);
}

TEST_F(HubCache, OthersAreNamed) {
  fs::create_directory(dir_.File("snapshots"));
  EXPECT_STATUS(Checkpoint::Open(dir_.path()), kNotFound, kModelNotFound, {"nothing in snapshots"});
  Snapshot("abc", 1);
  for (const char* main : {"ghi", "../..", ""}) {
    dir_.Write("refs/main", main);
    EXPECT_STATUS(Checkpoint::Open(dir_.path()), kNotFound, kModelNotFound,
                  {"refs/main names the snapshot", main, "abc"});
  }
}

}  // namespace
}  // namespace svdllm
