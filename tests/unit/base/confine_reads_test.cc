#include <fcntl.h>
#include <gtest/gtest.h>
#include <unistd.h>

#include <atomic>
#include <cstdio>
#include <filesystem>
#include <string>
#include <thread>

#include "base/digest.h"
#include "base/files.h"
#include "tests/support/status_matchers.h"
#include "tests/support/temp_dir.h"

namespace svdllm {
namespace {

namespace fs = std::filesystem;

class ConfineReadsTest : public ::testing::Test {
 protected:
  void SetUp() override {
    for (const char* name : {"a", "b", "a/blobs", "a/snapshot", "outside"}) {
      fs::create_directories(dir_.File(name));
    }
    ASSERT_OK(WriteFileAtomic(dir_.File("a/blobs/x"), "inside"));
    ASSERT_OK(WriteFileAtomic(dir_.File("b/y"), "inside"));
    ASSERT_OK(WriteFileAtomic(dir_.File("outside/secret"), "secret"));
    if (!CanConfineReads()) GTEST_SKIP() << ConfineReads({});
    ASSERT_OK(ConfineReads({dir_.File("a"), dir_.File("b")}));
  }
  void TearDown() override { ConfineReads({}).IgnoreError(); }

  testing::TempDir dir_;
};

TEST_F(ConfineReadsTest, LinksInsideAreFollowed) {
  fs::create_symlink("../blobs/x", dir_.File("a/snapshot/relative"));
  fs::create_symlink(dir_.File("a/blobs/x"), dir_.File("a/snapshot/absolute"));
  fs::create_symlink(dir_.File("b/y"), dir_.File("a/snapshot/other"));
  fs::create_symlink("../../b/y", dir_.File("a/snapshot/beside"));
  for (const char* name : {"relative", "absolute", "other", "beside"}) {
    const auto content = ReadFile(dir_.File(std::string("a/snapshot/") + name));
    ASSERT_OK(content.status());
    EXPECT_EQ(*content, "inside") << name;
  }
  EXPECT_TRUE(absl::IsNotFound(ReadFile(dir_.File("a/none")).status()));
  EXPECT_EQ(NamesIn(dir_.File("a")), (std::vector<std::string>{"blobs", "snapshot"}));
}

TEST_F(ConfineReadsTest, WhatLiesOutsideIsRefused) {
  fs::create_symlink("../outside/secret", dir_.File("a/link"));
  fs::create_symlink(dir_.File("outside/secret"), dir_.File("a/absolute"));
  fs::create_directory_symlink("../outside", dir_.File("a/directory"));
  fs::create_directories(dir_.File("aa"));
  ASSERT_OK(WriteFileAtomic(dir_.File("aa/x"), "secret"));
  for (const char* name : {"a/link", "a/absolute", "a/directory/secret", "a/../outside/secret",
                           "outside/secret", "aa/x"}) {
    EXPECT_TRUE(absl::IsPermissionDenied(ReadFile(dir_.File(name)).status())) << name;
    EXPECT_TRUE(absl::IsPermissionDenied(MappedFile::Open(dir_.File(name)).status())) << name;
    EXPECT_TRUE(absl::IsPermissionDenied(DigestOfFile(dir_.File(name)).status())) << name;
  }
  EXPECT_TRUE(NamesIn(dir_.File("a/directory")).empty());
  const int file = open(dir_.File("outside/secret").c_str(), O_RDONLY);
  fs::create_symlink("/proc/self/fd/" + std::to_string(file), dir_.File("a/magic"));
  EXPECT_TRUE(absl::IsPermissionDenied(ReadFile(dir_.File("a/magic")).status()));
  close(file);
}

// Somebody swaps a file for links out and back as fast as the system lets him.
TEST_F(ConfineReadsTest, ARaceReadsNothingOutside) {
  std::atomic<bool> stop = false;
  const std::string path = dir_.File("a/raced"), next = dir_.File("a/next");
  std::thread swapper([&] {
    for (int i = 0; !stop; ++i) {
      if (i % 3 == 0) {
        fs::copy_file(dir_.File("a/blobs/x"), next);
      } else {
        // Both ways: a relative link, and an absolute one, which is looked up first.
        fs::create_symlink(i % 3 == 1 ? "../outside/secret" : dir_.File("outside/secret"), next);
      }
      std::rename(next.c_str(), path.c_str());
    }
  });
  int inside = 0, refused = 0, outside = 0;
  for (int i = 0; i < 20000 || (i < 2000000 && (inside < 100 || refused < 100)); ++i) {
    const auto content = ReadFile(path);
    if (!content.ok()) {
      ++refused;
    } else if (*content == "secret") {
      ++outside;
    } else {
      ++inside;
    }
  }
  stop = true;
  swapper.join();
  EXPECT_EQ(outside, 0);
  EXPECT_GT(inside, 0);
  EXPECT_GT(refused, 0);
}

}  // namespace
}  // namespace svdllm
