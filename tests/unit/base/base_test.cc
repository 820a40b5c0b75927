#include <gtest/gtest.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include <filesystem>
#include <nlohmann/json.hpp>
#include <string>

#include "base/digest.h"
#include "base/files.h"
#include "base/logging.h"
#include "base/utf8.h"
#include "tests/support/status_matchers.h"
#include "tests/support/temp_dir.h"

namespace svdllm {
namespace {

absl::StatusOr<int> Half(int x) {
  if (x % 2 != 0) return absl::InvalidArgumentError("odd");
  return x / 2;
}
absl::StatusOr<int> Quarter(int x) {
  ASSIGN_OR_RETURN(const int half, Half(x));
  return Half(half);
}

TEST(LoggingTest, NumbersAreNumbersAndTextsAreTexts) {
  ::testing::internal::CaptureStderr();
  const int attempt = 2;
  const int64_t bytes = int64_t{1} << 40;
  Log(LogLevel::kInfo, "said \"x\"",
      {{"attempt", attempt}, {"bytes", bytes}, {"text", "7"}, {"odd", std::string("\xff\n")}});
  const auto line = nlohmann::json::parse(::testing::internal::GetCapturedStderr());
  EXPECT_EQ(line["message"], "said \"x\"");
  EXPECT_EQ(line["attempt"], 2);
  EXPECT_TRUE(line["attempt"].is_number());
  EXPECT_EQ(line["bytes"], bytes);
  EXPECT_EQ(line["text"], "7");
  EXPECT_EQ(line["odd"], "\ufffd\n");
}

TEST(StatusTest, MacrosReturnTheError) {
  EXPECT_EQ(*Quarter(8), 2);
  EXPECT_EQ(Quarter(6).status().code(), absl::StatusCode::kInvalidArgument);
}

TEST(StatusTest, ReasonSurvivesAnnotation) {
  const absl::Status status =
      Annotate(MakeError(absl::StatusCode::kNotFound, kModelNotFound, "x"), "loading");
  EXPECT_STATUS(status, kNotFound, kModelNotFound, {"loading: x"});
  EXPECT_EQ(ErrorReason(absl::InternalError("x")), "");
  EXPECT_TRUE(Annotate(absl::OkStatus(), "x").ok());
}

TEST(StatusTest, TextsAreUtf8AndShort) {
  const std::string foreign = "\xff" + std::string(10000, 'x');
  for (const absl::Status& status :
       {MakeError(absl::StatusCode::kInvalidArgument, kModelCorrupt, foreign),
        Annotate(absl::InvalidArgumentError("x"), foreign)}) {
    const std::string_view text(status.message().data(), status.message().size());
    EXPECT_TRUE(IsValidUtf8(text));
    EXPECT_LE(text.size(), 4096u);
    EXPECT_TRUE(text.starts_with("\xef\xbf\xbdxxx")) << text;
  }
}

TEST(StatusTest, OffendersKeepTheirNames) {
  absl::Status status = MakeError(absl::StatusCode::kNotFound, kJobNotFound, "x");
  EXPECT_TRUE(OffendersOf(status).empty()) << "the reason is none";
  status = WithOffender(WithOffender(status, "job", "jobs/a"), "field", "name");
  const std::map<std::string, std::string> expected = {{"field", "name"}, {"job", "jobs/a"}};
  EXPECT_EQ(OffendersOf(Annotate(status, "asked for")), expected);
  EXPECT_EQ(ErrorReason(status), kJobNotFound);
  EXPECT_TRUE(WithOffender(absl::OkStatus(), "job", "jobs/a").ok());
}

TEST(DigestTest, KnownAnswers) {
  EXPECT_EQ(Sha256(""), "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855");
  EXPECT_EQ(Sha256("abc"), "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad");
}

TEST(FilesTest, AtomicWriteReplacesAndLeavesNothingBehind) {
  testing::TempDir dir;
  const std::string path = dir.File("a");
  ASSERT_OK(WriteFileAtomic(path, "one"));
  ASSERT_OK(WriteFileAtomic(path, "two"));
  EXPECT_EQ(*ReadFile(path), "two");
  EXPECT_EQ(testing::ListDir(dir.path()), "a");
  EXPECT_EQ(DigestOfFile(path)->sha256, Sha256("two"));
  EXPECT_EQ(DigestOfFile(path)->bytes, 3);
}

TEST(FilesTest, ErrorsNameThePath) {
  testing::TempDir dir;
  EXPECT_STATUS(ReadFile(dir.File("none")), kNotFound, "", {"/none"});
  EXPECT_STATUS(ReadFile(dir.path()), kInvalidArgument, kModelCorrupt, {dir.path(), "regular"});
  EXPECT_STATUS(WriteFileAtomic(dir.File("no/such/dir"), "x"), kNotFound, "", {"no/such/dir"});
  ASSERT_OK(WriteFileAtomic(dir.File("big"), "12345"));
  EXPECT_STATUS(ReadFile(dir.File("big"), 4), kInvalidArgument, kModelCorrupt, {"big", "5 bytes"});
  EXPECT_STATUS(ErrnoToStatus(ENOSPC, "write", "p"), kResourceExhausted, kScratchFull, {"p"});
}

// Bytes that somebody has cut off meanwhile are missing from what is read; in the map they end the
// process.
TEST(FilesTest, AMappedFileIsReadAsFarAsItStillGoes) {
  testing::TempDir dir;
  ASSERT_OK(WriteFileAtomic(dir.File("f"), "0123456789"));
  const auto file = MappedFile::Open(dir.File("f"));
  ASSERT_OK(file);
  EXPECT_EQ(*file->Read(2, 3), "234");
  EXPECT_EQ(*file->Read(8, 100), "89");
  EXPECT_EQ(*file->Read(100, 1), "");
  std::filesystem::resize_file(dir.File("f"), 4);
  EXPECT_EQ(*file->Read(2, 3), "23");
  EXPECT_EQ(*file->Read(8, 1), "");
}

TEST(FilesTest, AnEmptyFileMaps) {
  testing::TempDir dir;
  ASSERT_OK(WriteFileAtomic(dir.File("empty"), ""));
  EXPECT_EQ(*ReadFile(dir.File("empty")), "");
}

// A pipe without a writer, a device, a socket, a directory: an error at once, never a wait.
TEST(FilesTest, WhatIsNoFileOfBytesIsRefusedWithoutAWait) {
  testing::TempDir dir;
  ASSERT_EQ(mkfifo(dir.File("pipe").c_str(), 0600), 0);
  std::filesystem::create_symlink("pipe", dir.File("link to a pipe"));
  const int socket_fd = socket(AF_UNIX, SOCK_STREAM, 0);
  sockaddr_un address{};
  address.sun_family = AF_UNIX;
  const std::string path = dir.File("s");
  ASSERT_LT(path.size(), sizeof(address.sun_path));
  path.copy(address.sun_path, path.size());
  ASSERT_EQ(bind(socket_fd, reinterpret_cast<sockaddr*>(&address), sizeof(address)), 0);
  for (const std::string& special : {dir.File("pipe"), dir.File("link to a pipe"), path, dir.path(),
                                     std::string("/dev/zero"), std::string("/dev/null")}) {
    EXPECT_STATUS(ReadFile(special), kInvalidArgument, kModelCorrupt,
                  {special, "not a regular file"});
    EXPECT_STATUS(MappedFile::Open(special), kInvalidArgument, kModelCorrupt,
                  {special, "not a regular file"});
    EXPECT_STATUS(CopyFile(special, dir.File("copy")), kInvalidArgument, kModelCorrupt, {special});
    EXPECT_STATUS(DigestOfFile(special), kInvalidArgument, kModelCorrupt, {special});
  }
  EXPECT_FALSE(testing::FileExists(dir.File("copy")));
  close(socket_fd);
  std::filesystem::create_symlink("circle", dir.File("circle"));
  EXPECT_STATUS(ReadFile(dir.File("circle")), kInvalidArgument, kModelCorrupt,
                {"circle", "symbolic link"});
}

TEST(LoggingTest, LinesAreJsonWhateverTheyHold) {
  ::testing::internal::CaptureStderr();
  SetLogContext({{"role", "test"}});
  Log(LogLevel::kInfo, "a \"quoted\"\nline \xff", {{"key", "value % {}"}});
  SetLogContext({});
  const std::string line = ::testing::internal::GetCapturedStderr();
  EXPECT_EQ(std::count(line.begin(), line.end(), '\n'), 1);
  const auto json = nlohmann::json::parse(line, nullptr, false);
  ASSERT_TRUE(json.is_object()) << line;
  EXPECT_EQ(json["level"], "info");
  EXPECT_EQ(json["role"], "test");
  EXPECT_EQ(json["key"], "value % {}");
  EXPECT_EQ(json["message"].get<std::string>().rfind("a \"quoted\"\nline ", 0), 0u);
}

}  // namespace
}  // namespace svdllm
