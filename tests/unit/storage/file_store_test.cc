#include <gtest/gtest.h>

#include <atomic>
#include <filesystem>
#include <thread>
#include <vector>

#include "base/digest.h"
#include "base/files.h"
#include "storage/artifact_store.h"
#include "tests/support/status_matchers.h"
#include "tests/support/temp_dir.h"

namespace svdllm {
namespace {

namespace fs = std::filesystem;
using testing::FileExists;
using testing::ListDir;
using testing::TempDir;

constexpr char kManifest[] = "compression_manifest.json";

class FileStoreTest : public ::testing::Test {
 protected:
  void SetUp() override {
    dir_.Write("models/llama/config.json", "{}");
    dir_.Write("secret/config.json", "{}");
    store_ = Open({dir_.File("models")});
  }
  std::unique_ptr<ArtifactStore> Open(std::vector<std::string> roots) {
    auto store = NewFileStore({.model_roots = std::move(roots), .artifact_root = out_});
    EXPECT_OK(store);
    return *std::move(store);
  }
  std::string Uri(const std::string& name) const { return "file://" + dir_.File(name); }
  // Stages, writes a small artifact, commits.
  absl::Status Publish(const std::string& uri, const std::string& token,
                       const std::string& manifest = "m") {
    ASSIGN_OR_RETURN(const std::string staging, store_->Stage(uri, token));
    RETURN_IF_ERROR(WriteFileAtomic(staging + "/weights", manifest + " weights"));
    RETURN_IF_ERROR(WriteFileAtomic(staging + "/" + kManifest, manifest));
    return store_->Commit(staging, uri);
  }

  TempDir dir_;
  std::string out_ = dir_.File("artifacts");
  std::unique_ptr<ArtifactStore> store_;
};

TEST_F(FileStoreTest, InputsHaveOneForm) {
  for (const std::string& uri :
       {dir_.File("models/llama"), Uri("models/llama"), Uri("models/./llama/"),
        dir_.File("models/other/../llama"), dir_.File("secret/../models/llama")}) {
    const auto resolved = store_->ResolveInput(uri);
    ASSERT_OK(resolved);
    EXPECT_EQ(*resolved, Uri("models/llama")) << uri;
    const auto path = store_->Fetch(uri, "");
    ASSERT_OK(path);
    EXPECT_EQ(*path, dir_.File("models/llama")) << uri;
  }
  EXPECT_EQ(*store_->Fetch(Uri("models/llama/config.json"), ""),
            dir_.File("models/llama/config.json"));
}

TEST_F(FileStoreTest, InputsAreConfinedToTheRoots) {
  fs::create_directory_symlink(dir_.File("secret"), dir_.File("models/escape"));
  for (const std::string& uri :
       {dir_.File("secret"), dir_.File("models/../secret"), Uri("models/%2e%2e/secret"),
        dir_.File("models/escape"), dir_.File("models/escape/config.json"),
        dir_.File("models-beside"), std::string("/"), std::string("/etc/passwd")}) {
    EXPECT_STATUS(store_->ResolveInput(uri), kPermissionDenied, kInvalidField,
                  {uri, "models may be read: " + dir_.File("models") + ", " + out_});
    EXPECT_STATUS(store_->Fetch(uri, ""), kPermissionDenied, kInvalidField, {uri});
  }
  for (const std::string& uri :
       {std::string("models/llama"), std::string("s3://b/k"), std::string("")}) {
    EXPECT_STATUS(store_->ResolveInput(uri), kInvalidArgument, kInvalidField, {uri});
  }
}

TEST_F(FileStoreTest, LinksInsideADirectoryAreConfinedToo) {
  dir_.Write("models/blobs/abc", "weights");
  fs::create_symlink("../blobs/abc", dir_.File("models/llama/model.safetensors"));
  EXPECT_OK(store_->Fetch(Uri("models/llama"), ""));
  fs::create_symlink(dir_.File("secret/config.json"), dir_.File("models/llama/tokenizer.json"));
  EXPECT_STATUS(store_->Fetch(Uri("models/llama"), ""), kPermissionDenied, kInvalidField,
                {Uri("models/llama"), "tokenizer.json"});
  EXPECT_OK(Open({})->Fetch(Uri("models/llama"), ""));
}

TEST_F(FileStoreTest, WithoutRootsEveryPathIsAnInput) {
  EXPECT_EQ(*Open({})->ResolveInput(dir_.File("secret")), Uri("secret"));
}

TEST_F(FileStoreTest, AbsentInputIsNotFound) {
  EXPECT_STATUS(store_->Fetch(Uri("models/absent"), ""), kNotFound, "", {Uri("models/absent")});
  EXPECT_OK(store_->ResolveInput(Uri("models/absent")));
}

TEST_F(FileStoreTest, OutputsHaveOneForm) {
  for (const std::string& uri : {std::string("a/b"), std::string("./a//b/"), out_ + "/a/b",
                                 "file://" + out_ + "/x/../a/b"}) {
    const auto resolved = store_->ResolveOutput(uri);
    ASSERT_OK(resolved);
    EXPECT_EQ(*resolved, "file://" + out_ + "/a/b") << uri;
  }
  EXPECT_EQ(store_->DefaultOutput("job-1"), "file://" + out_ + "/job-1");
  EXPECT_EQ(store_->DefaultOutput("../x/y"), "file://" + out_ + "/_.._x_y");
  EXPECT_OK(store_->ResolveOutput(store_->DefaultOutput("../x y")));
}

TEST_F(FileStoreTest, OutputsAreConfinedToTheRoot) {
  fs::create_directory_symlink(dir_.File("secret"), out_ + "/escape");
  fs::create_symlink(dir_.File("absent"), out_ + "/dangling");
  for (const std::string& uri :
       {dir_.File("models/x"), std::string("../x"), std::string("a/../../x"), std::string("."),
        out_, std::string("escape/x"), std::string("escape"), std::string("dangling"),
        out_ + "-beside/x", "file://" + out_ + "/%2e%2e/x"}) {
    EXPECT_STATUS(store_->ResolveOutput(uri), kPermissionDenied, kOutputInvalid, {uri});
    EXPECT_STATUS(store_->Stage(uri, "t"), kPermissionDenied, kOutputInvalid, {uri});
  }
  for (const std::string& uri :
       {std::string("s3://b/k"), std::string(".staging-a-b"), std::string("x/.staging-a-b/y")}) {
    EXPECT_STATUS(store_->ResolveOutput(uri), kInvalidArgument, kOutputInvalid, {uri});
  }
}

TEST_F(FileStoreTest, PublishesAllOrNothing) {
  const auto staging = store_->Stage("run/keep-0.80", "job.1");
  ASSERT_OK(staging);
  ASSERT_OK(WriteFileAtomic(*staging + "/a", "1"));
  fs::create_directory(*staging + "/sub");
  ASSERT_OK(WriteFileAtomic(*staging + "/sub/b", "2"));
  EXPECT_FALSE(FileExists(out_ + "/run/keep-0.80"));
  ASSERT_OK(WriteFileAtomic(*staging + "/" + kManifest, "m"));
  ASSERT_OK(store_->Commit(*staging, "run/keep-0.80"));
  EXPECT_EQ(ListDir(out_ + "/run"), "keep-0.80");
  EXPECT_EQ(*ReadFile(out_ + "/run/keep-0.80/sub/b"), "2");
  // What was published can be read back, whatever the model roots.
  EXPECT_OK(store_->Fetch("file://" + out_ + "/run/keep-0.80", ""));
}

// What was staged and came to nothing leaves nothing: no directory on the way to it either.
TEST_F(FileStoreTest, StagingLeavesNoTrace) {
  fs::create_directories(out_ + "/mine/empty");
  for (const char* uri : {"x", "a/b/c/keep-0.80", "mine/empty/x", "mine/empty"}) {
    const auto staging = store_->Stage(uri, "job.1");
    ASSERT_OK(staging);
    store_->Discard(*staging);
    EXPECT_EQ(ListDir(out_), "mine") << uri;
    EXPECT_EQ(ListDir(out_ + "/mine"), "empty") << uri;
    EXPECT_EQ(ListDir(out_ + "/mine/empty"), "") << uri;
  }
  const auto staging = store_->Stage("a/b/c", "job.1");
  ASSERT_OK(staging);
  EXPECT_FALSE(store_->Commit(*staging, "a/b/c").ok()) << "has no manifest";
  store_->Discard(*staging);
  EXPECT_EQ(ListDir(out_), "mine");
}

// Of the ratios of one job the first makes the directory that the second was to make.
TEST_F(FileStoreTest, StagedBeforeTheWayWasThereAndPublishedAfterwards) {
  const auto first = store_->Stage("a/b/keep-0.80", "job.1");
  const auto second = store_->Stage("a/b/keep-0.60", "job.1");
  ASSERT_OK(first);
  ASSERT_OK(second);
  for (const std::string& staging : {*first, *second}) {
    ASSERT_OK(WriteFileAtomic(staging + "/" + kManifest, "m"));
  }
  ASSERT_OK(store_->Commit(*first, "a/b/keep-0.80"));
  // An attempt that comes now stages there, and still clears away what the earlier one left above.
  const auto again = store_->Stage("a/b/keep-0.60", "job.2");
  ASSERT_OK(again);
  EXPECT_EQ(ListDir(out_), "a");
  EXPECT_FALSE(FileExists(*second));
  ASSERT_OK(WriteFileAtomic(*again + "/" + kManifest, "m"));
  ASSERT_OK(store_->Commit(*again, "a/b/keep-0.60"));
  EXPECT_EQ(ListDir(out_ + "/a/b"), "keep-0.60 keep-0.80");
}

TEST_F(FileStoreTest, AWayThatLeadsNowhereIsTakenBack) {
  const auto staging = store_->Stage("a/b/c", "job.1");
  ASSERT_OK(staging);
  ASSERT_OK(WriteFileAtomic(*staging + "/" + kManifest, "m"));
  dir_.Write("artifacts/a/b", "a file, meanwhile");
  EXPECT_FALSE(store_->Commit(*staging, "a/b/c").ok());
  EXPECT_EQ(*ReadFile(out_ + "/a/b"), "a file, meanwhile");
}

TEST_F(FileStoreTest, NamesMayBeAsLongAsTheSystemAllows) {
  const std::string longest(255, 'n');
  ASSERT_OK(Publish("a/" + longest, "job.1"));
  EXPECT_TRUE(FileExists(out_ + "/a/" + longest + "/weights"));
  const std::string beyond(256, 'n');
  for (const std::string& uri : {beyond, "absent/" + beyond + "/x"}) {
    EXPECT_STATUS(store_->ResolveOutput(uri), kInvalidArgument, kOutputInvalid, {beyond});
  }
}

TEST_F(FileStoreTest, NothingIsPublishedWithoutAManifest) {
  const auto staging = store_->Stage("x", "job.1");
  ASSERT_OK(staging);
  ASSERT_OK(WriteFileAtomic(*staging + "/a", "1"));
  EXPECT_STATUS(store_->Commit(*staging, "x"), kFailedPrecondition, "", {kManifest});
  EXPECT_FALSE(FileExists(out_ + "/x"));
  store_->Discard(*staging);
  EXPECT_EQ(ListDir(out_), "");
}

TEST_F(FileStoreTest, ExistingOutputsAreNeverTouched) {
  dir_.Write("artifacts/user/notes.txt", "mine");
  dir_.Write("artifacts/file", "mine");
  ASSERT_OK(Publish("done", "job.1"));
  for (const char* uri : {"user", "file", "done"}) {
    EXPECT_STATUS(store_->Stage(uri, "job.2"), kAlreadyExists, kOutputExists, {uri});
  }
  EXPECT_EQ(*ReadFile(out_ + "/user/notes.txt"), "mine");
  EXPECT_EQ(*ReadFile(out_ + "/file"), "mine");
  EXPECT_EQ(ListDir(out_), "done file user");
}

TEST_F(FileStoreTest, AnEmptyDirectoryIsFree) {
  fs::create_directory(out_ + "/empty");
  ASSERT_OK(Publish("empty", "job.1"));
  EXPECT_EQ(*ReadFile(out_ + "/empty/weights"), "m weights");
}

TEST_F(FileStoreTest, NothingIsPublishedInsideAnArtifact) {
  ASSERT_OK(Publish("a/b", "job.1"));
  EXPECT_STATUS(store_->Stage("a/b/c/d", "job.1"), kInvalidArgument, kOutputInvalid,
                {"a/b/c/d", "inside the published artifact"});
  EXPECT_OK(Publish("a/c", "job.1"));
}

TEST_F(FileStoreTest, DiscardRemovesStagingDirectoriesOnly) {
  ASSERT_OK(Publish("done", "job.1"));
  dir_.Write("elsewhere/.staging-x-y/a", "1");
  dir_.Write("artifacts/user/a", "1");
  store_->Discard(out_ + "/done");
  store_->Discard(out_ + "/user");
  store_->Discard(out_);
  store_->Discard(out_ + "/.staging-absent-1");
  store_->Discard(dir_.File("elsewhere/.staging-x-y"));
  store_->Discard("");
  EXPECT_EQ(ListDir(out_), "done user");
  EXPECT_TRUE(FileExists(dir_.File("elsewhere/.staging-x-y/a")));
  const auto staging = store_->Stage("x", "job.1");
  ASSERT_OK(staging);
  ASSERT_OK(WriteFileAtomic(*staging + "/a", "1"));
  store_->Discard(*staging);
  EXPECT_EQ(ListDir(out_), "done user");
}

TEST_F(FileStoreTest, CommitTakesItsOwnStagingDirectoriesOnly) {
  const auto staging = store_->Stage("x", "job.1");
  ASSERT_OK(staging);
  ASSERT_OK(WriteFileAtomic(*staging + "/" + kManifest, "m"));
  dir_.Write(std::string("models/llama/") + kManifest, "m");
  EXPECT_STATUS(store_->Commit(dir_.File("models/llama"), "x"), kInvalidArgument, "", {"llama"});
  EXPECT_STATUS(store_->Commit(*staging, "y"), kInvalidArgument, "", {*staging, "y"});
  EXPECT_STATUS(store_->Commit(*staging + "/../../secret", "x"), kInvalidArgument, "", {"secret"});
  EXPECT_OK(store_->Commit(*staging, "x"));
}

TEST_F(FileStoreTest, ArtifactsHoldFilesAndDirectoriesOnly) {
  const auto staging = store_->Stage("x", "job.1");
  ASSERT_OK(staging);
  ASSERT_OK(WriteFileAtomic(*staging + "/" + kManifest, "m"));
  fs::create_symlink(dir_.File("secret"), *staging + "/link");
  EXPECT_STATUS(store_->Commit(*staging, "x"), kFailedPrecondition, "", {"link"});
  EXPECT_FALSE(FileExists(out_ + "/x"));
}

TEST_F(FileStoreTest, OfManyPublishersOneWins) {
  std::atomic<int> published = 0, refused = 0;
  std::vector<std::thread> threads;
  for (int i = 0; i < 8; ++i) {
    threads.emplace_back([&, i] {
      const std::string manifest = "m" + std::to_string(i);
      const absl::Status status = Publish("same", "job" + std::to_string(i) + ".1", manifest);
      if (status.ok()) {
        ++published;
      } else if (ErrorReason(status) == kOutputExists) {
        ++refused;
      }
    });
  }
  for (std::thread& thread : threads) thread.join();
  EXPECT_EQ(published, 1);
  EXPECT_EQ(refused, 7);
  EXPECT_EQ(*ReadFile(out_ + "/same/weights"), *ReadFile(out_ + "/same/" + kManifest) + " weights");
}

TEST(NewFileStore, RefusesRootsThatAreNotThere) {
  TempDir dir;
  dir.Write("file", "x");
  EXPECT_STATUS(NewFileStore({.model_roots = {}, .artifact_root = ""}), kInvalidArgument, "",
                {"artifact_root"});
  EXPECT_STATUS(
      NewFileStore({.model_roots = {dir.File("absent")}, .artifact_root = dir.File("out")}),
      kInvalidArgument, "", {dir.File("absent")});
  EXPECT_FALSE(NewFileStore({.model_roots = {}, .artifact_root = dir.File("file")}).ok());
  EXPECT_FALSE(NewFileStore({.model_roots = {}, .artifact_root = dir.File("file/below")}).ok());
  EXPECT_OK(NewFileStore({.model_roots = {}, .artifact_root = dir.File("made/here")}));
  EXPECT_TRUE(FileExists(dir.File("made/here")));
}

TEST(NewFileStore, RootsMayBeLinks) {
  TempDir dir;
  dir.Write("real/m/config.json", "{}");
  fs::create_directory_symlink(dir.File("real"), dir.File("link"));
  const auto store =
      NewFileStore({.model_roots = {dir.File("link")}, .artifact_root = dir.File("link/out")});
  ASSERT_OK(store);
  EXPECT_EQ(*(*store)->ResolveInput(dir.File("link/m")), "file://" + dir.File("real/m"));
  EXPECT_EQ(*(*store)->ResolveOutput(dir.File("link/out/x")), "file://" + dir.File("real/out/x"));
}

TEST_F(FileStoreTest, WhatWasPublishedIsRemovedByItsManifest) {
  const std::string manifest = R"({"files": {"weights": {}}})", digest = Sha256(manifest);
  ASSERT_OK(Publish("a/x", "job.1", manifest));
  EXPECT_STATUS(store_->Remove("a/x", Sha256("other")), kNotFound, "", {"a/x"});
  EXPECT_STATUS(store_->Remove("a/y", digest), kNotFound, "", {"a/y"});
  EXPECT_STATUS(store_->Remove("../secret", digest), kPermissionDenied, kOutputInvalid, {"secret"});
  EXPECT_EQ(ListDir(out_ + "/a/x"), "compression_manifest.json weights");
  ASSERT_OK(store_->Remove("a/x", digest));
  EXPECT_EQ(ListDir(out_), "") << "nor is the way to it left";
  EXPECT_STATUS(store_->Remove("a/x", digest), kNotFound, "", {"a/x"});
  ASSERT_OK(Publish("a/x", "job2.1"));  // the place is free again
}

TEST_F(FileStoreTest, WhatOthersPutBesideStays) {
  const std::string manifest = R"({"files": {"weights": {}, "deep/er/notes": {}}})";
  ASSERT_OK(Publish("x", "job.1", manifest));
  dir_.Write("artifacts/x/deep/er/notes", "ours");
  dir_.Write("artifacts/x/mine/model.gguf", "made from it");
  ASSERT_OK(store_->Remove("x", Sha256(manifest)));
  EXPECT_EQ(ListDir(out_ + "/x"), "mine");
  EXPECT_EQ(*ReadFile(out_ + "/x/mine/model.gguf"), "made from it");
  EXPECT_STATUS(store_->Remove("x", Sha256(manifest)), kNotFound, "", {"x"});
}

TEST_F(FileStoreTest, WhatACrashLeftOfARemovalIsALeftover) {
  ASSERT_OK(Publish("x", "job.1"));
  fs::rename(out_ + "/x", out_ + "/.staging-x-expired.0");  // and then it died
  EXPECT_EQ(store_->DiscardLost([](const std::string&, int64_t) { return false; }), 1);
  EXPECT_EQ(ListDir(out_), "");
}

}  // namespace
}  // namespace svdllm
