#include "base/map_guard.h"

#include <fcntl.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/mman.h>
#include <unistd.h>

#include <string>

#include "base/files.h"
#include "tests/support/status_matchers.h"
#include "tests/support/temp_dir.h"

namespace svdllm {
namespace {

using ::testing::HasSubstr;

// Somebody copies a new model over the one that is being read.
TEST(MapGuardTest, AFileThatGetsShorterIsNamedAndDoesNotEndTheProcess) {
  testing::TempDir dir;
  InstallMapGuard();
  ResetMapGuard();
  const std::string whole(1 << 20, 'w');
  const std::string path = dir.Write("weights", whole), other = dir.Write("other", whole);
  auto file = MappedFile::Open(path);
  const auto untouched = MappedFile::Open(other);
  ASSERT_TRUE(file.ok() && untouched.ok());
  EXPECT_OK(CheckMaps());
  ASSERT_EQ(truncate(path.c_str(), 100'000), 0);
  const auto at = [](const MappedFile& map, size_t i) { return static_cast<char>(map.bytes()[i]); };
  EXPECT_EQ(at(*file, 99'999), 'w');
  EXPECT_OK(CheckMaps());
  for (size_t i = 200'000; i < whole.size(); i += 1000) ASSERT_EQ(at(*file, i), 0);
  const absl::Status status = CheckMaps();
  EXPECT_EQ(ErrorReason(status), kModelCorrupt);
  EXPECT_THAT(std::string(status.message()), HasSubstr(path + ": became shorter"));
  EXPECT_EQ(at(*untouched, 500'000), 'w');
  { const MappedFile moved = std::move(*file); }
  EXPECT_EQ(ErrorReason(CheckMaps()), kModelCorrupt) << "although the map is gone";
  ResetMapGuard();
  EXPECT_OK(CheckMaps());
}

TEST(MapGuardDeathTest, AFaultElsewhereStillEndsTheProcess) {
  testing::TempDir dir;
  const std::string path = dir.Write("file", std::string(100'000, 'x'));
  EXPECT_DEATH(
      {
        InstallMapGuard();
        const int fd = open(path.c_str(), O_RDONLY);
        const char* const map =
            static_cast<const char*>(mmap(nullptr, 100'000, PROT_READ, MAP_PRIVATE, fd, 0));
        if (truncate(path.c_str(), 0) != 0) _exit(0);
        volatile char byte = map[50'000];
        _exit(byte);
      },
      "");
}

}  // namespace
}  // namespace svdllm
