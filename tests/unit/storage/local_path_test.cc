#include "storage/local_path.h"

#include <gtest/gtest.h>

#include <filesystem>

#include "tests/support/status_matchers.h"
#include "tests/support/temp_dir.h"

namespace svdllm {
namespace {

namespace fs = std::filesystem;
using testing::TempDir;

TEST(PathOfUri, PathsAndFileUris) {
  const std::pair<const char*, const char*> cases[] = {
      {"/a/b", "/a/b"},
      {"file:///a/b", "/a/b"},
      {"file://localhost/a", "/a"},
      {"file:///a%20b/%C3%A9", "/a b/\xc3\xa9"},
      {"file:///a%2Fb", "/a/b"},
      {"/a%20b", "/a%20b"},  // a plain path is taken as it is
      {"/a?b#c", "/a?b#c"},
      {"/odd://name", "/odd://name"},
  };
  for (const auto& [uri, path] : cases) {
    const auto result = PathOfUri(uri, "");
    ASSERT_OK(result);
    EXPECT_EQ(*result, path) << uri;
  }
  EXPECT_EQ(*PathOfUri("a/b", "/base"), "/base/a/b");
}

TEST(PathOfUri, RefusesTheRestWithTheUriInTheMessage) {
  for (const std::string& uri :
       {std::string("relative/path"), std::string("s3://bucket/key"), std::string("http://x/y"),
        std::string("file://host/a"), std::string("file://"), std::string("file://a"),
        std::string("file:///a%"), std::string("file:///a%2"), std::string("file:///a%zz"),
        std::string("file:///a?x"), std::string("file:///a#x"), std::string("file:///a%00b")}) {
    EXPECT_STATUS(PathOfUri(uri, ""), kInvalidArgument, "", {uri});
  }
  EXPECT_STATUS(PathOfUri("", "/base"), kInvalidArgument, "", {"empty"});
  EXPECT_STATUS(PathOfUri(std::string("/a\0b", 4), ""), kInvalidArgument, "", {"NUL"});
  EXPECT_STATUS(PathOfUri("/" + std::string(5000, 'a'), ""), kInvalidArgument, "", {"too long"});
  EXPECT_STATUS(PathOfUri("s3://bucket/key", "/base"), kInvalidArgument, "", {"scheme s3"});
}

TEST(UriOfPath, IsReadBack) {
  EXPECT_EQ(UriOfPath("/a b/\xff%?#"), "file:///a%20b/%FF%25%3F%23");
  std::string every = "/";
  for (int c = 1; c < 256; ++c) every.push_back(static_cast<char>(c));
  const auto back = PathOfUri(UriOfPath(every), "");
  ASSERT_OK(back);
  EXPECT_EQ(*back, every);
}

TEST(CanonicalPath, ResolvesAsTheSystemWould) {
  TempDir dir;
  dir.Write("real/sub/file", "x");
  fs::create_directory_symlink("real/sub", dir.File("link"));
  fs::create_directory_symlink(dir.File("link"), dir.File("link2"));
  const auto expect = [&dir](const std::string& path, const std::string& expected) {
    const auto result = CanonicalPath(dir.File(path));
    ASSERT_OK(result);
    EXPECT_EQ(*result, dir.path() + expected) << path;
  };
  expect("real/sub/file", "/real/sub/file");
  expect(".//real/./sub/", "/real/sub");
  expect("link/file", "/real/sub/file");
  expect("link2/file", "/real/sub/file");
  expect("link/..", "/real");  // of the target, not of the name
  expect("absent/x/../y", "/absent/y");
  expect("link/absent/x", "/real/sub/absent/x");
  EXPECT_EQ(*CanonicalPath("/"), "/");
  EXPECT_EQ(*CanonicalPath("/../.."), "/");
}

TEST(CanonicalPath, RefusesWhatCannotBeResolved) {
  TempDir dir;
  dir.Write("file", "x");
  fs::create_symlink(dir.File("absent"), dir.File("dangling"));
  fs::create_symlink(dir.File("loop"), dir.File("loop"));
  EXPECT_STATUS(CanonicalPath(dir.File("dangling")), kPermissionDenied, "", {"dangling"});
  EXPECT_STATUS(CanonicalPath(dir.File("dangling/x")), kPermissionDenied, "", {"dangling"});
  EXPECT_STATUS(CanonicalPath(dir.File("loop")), kInvalidArgument, "", {"loop"});
  EXPECT_STATUS(CanonicalPath(dir.File("file/x")), kInvalidArgument, "", {"file/x"});
  EXPECT_STATUS(CanonicalPath(dir.File(std::string(300, 'n'))), kInvalidArgument, "", {"nnn"});
}

TEST(IsWithin, ComparesWholeComponents) {
  EXPECT_TRUE(IsWithin("/a/b", "/a"));
  EXPECT_TRUE(IsWithin("/a", "/a"));
  EXPECT_TRUE(IsWithin("/a", "/"));
  EXPECT_FALSE(IsWithin("/ab", "/a"));
  EXPECT_FALSE(IsWithin("/", "/a"));
  EXPECT_FALSE(IsWithin("/b/a", "/a"));
}

}  // namespace
}  // namespace svdllm
