// A fuzz target: one reader of bytes that somebody else wrote, and what must hold whatever they
// are. The same function is run by libFuzzer (libfuzzer_main.cc) and by ctest (replay_test.cc).
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "base/status.h"
#include "tests/support/temp_dir.h"

namespace svdllm::testing {

// Of readers that use protobuf: it makes room for up to 50 MB where a text claims to be so long,
// before it sees that the message has fewer bytes.
inline constexpr int64_t kProtobufFloor = int64_t{64} << 20;

struct FuzzTarget {
  std::string name;
  void (*run)(std::string_view bytes) = nullptr;
  // Inputs that get far, and what is spliced in whole: keys of the format and numbers at its
  // limits.
  std::vector<std::string> seeds, words;
  size_t max_bytes = 4096;  // of what libFuzzer makes
  // What it may take of memory besides ten times its input: buffers, and tables that are made at
  // the first use.
  int64_t floor_bytes = int64_t{16} << 20;
};

// Those of this binary. They are made once.
const std::vector<FuzzTarget>& FuzzTargets();

// What is thrown where something does not hold.
struct FuzzFailure {
  std::string what;
};

[[noreturn]] void FailFuzz(const char* condition, int line, const std::string& what);
// FUZZ_CHECK(condition, text): text says what was seen.
#define FUZZ_CHECK(condition, ...)                                                    \
  do {                                                                                \
    if (!(condition)) ::svdllm::testing::FailFuzz(#condition, __LINE__, __VA_ARGS__); \
  } while (false)

// What holds for every error's text: it says something, is UTF-8, and has at most 4 KiB.
void CheckErrorText(std::string_view text);
// An error as callers get to see it: it has a reason too, which is one of these where there are
// any.
void CheckRefusal(const absl::Status& status, std::initializer_list<std::string_view> reasons = {});

// Runs the target on these bytes, and checks in addition that it takes no more than a second of the
// processor, and of memory at most ten times the bytes above the target's floor. Throws
// FuzzFailure.
void RunFuzzTarget(const FuzzTarget& target, std::string_view bytes);

// A directory whose files are those of the bytes in turn: what follows a line "=== NAME" is the
// content of that file, what stands before the first such line that of first_name. A name ending in
// '@' is a symbolic link, and its content what it leads to. Names other than [A-Za-z0-9._-]+ are
// passed over.
class FuzzDirectory {
 public:
  const std::string& Fill(std::string_view bytes, const std::string& first_name);
  // The text that Fill reads as the files of a directory, first_name's in front.
  static std::string Pack(const std::string& dir, const std::string& first_name);
  // Writes one file anew and returns its path. (One that is truncated and written again would be
  // flushed to the disk at once.)
  std::string Put(std::string_view name, std::string_view content);

 private:
  void PutNamed(std::string_view name, std::string_view content);

  TempDir dir_;
  std::vector<std::string> written_;
};

// One text of a data directory or of a file, for seeds. Aborts where it cannot be read.
std::string ReadOrDie(const std::string& path);

}  // namespace svdllm::testing
