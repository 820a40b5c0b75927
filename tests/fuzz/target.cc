#include "tests/fuzz/target.h"

#include <malloc.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <cstdio>
#include <cstdlib>
#include <ctime>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <new>

#include "base/utf8.h"

namespace svdllm::testing {
namespace {

namespace fs = std::filesystem;

constexpr double kMaxSeconds = 1;
constexpr size_t kMaxErrorBytes = 4096;
constexpr int64_t kBytesPerByte = 10;

// Bytes that are allocated now, and the most since it was last set.
std::atomic<int64_t> live_bytes{0}, most_bytes{0};

void Allocated(size_t size) {
  const int64_t live =
      live_bytes.fetch_add(static_cast<int64_t>(size)) + static_cast<int64_t>(size);
  int64_t most = most_bytes.load(std::memory_order_relaxed);
  while (live > most && !most_bytes.compare_exchange_weak(most, live)) {
  }
}

void Freed(size_t size) { live_bytes.fetch_sub(static_cast<int64_t>(size)); }

double ProcessorSeconds() {
  timespec now{};
  clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &now);
  return static_cast<double>(now.tv_sec) + 1e-9 * static_cast<double>(now.tv_nsec);
}

}  // namespace
}  // namespace svdllm::testing

#if defined(SVDLLM_SANITIZED)
// Every allocation is seen, those of C libraries too.
extern "C" int __sanitizer_install_malloc_and_free_hooks(void (*)(const volatile void*, size_t),
                                                         void (*)(const volatile void*));
extern "C" size_t __sanitizer_get_allocated_size(const volatile void*);
namespace svdllm::testing {
namespace {
void OnMalloc(const volatile void*, size_t size) { Allocated(size); }
void OnFree(const volatile void* block) {
  if (block != nullptr) Freed(__sanitizer_get_allocated_size(block));
}
const int kHooked = __sanitizer_install_malloc_and_free_hooks(OnMalloc, OnFree);
}  // namespace
}  // namespace svdllm::testing
#else
// What C++ allocates. (All other forms of new and delete end in these.)
void* operator new(size_t size) {
  void* const block = std::malloc(std::max<size_t>(size, 1));
  if (block == nullptr) throw std::bad_alloc();
  svdllm::testing::Allocated(malloc_usable_size(block));
  return block;
}
void operator delete(void* block) noexcept {
  if (block != nullptr) svdllm::testing::Freed(malloc_usable_size(block));
  std::free(block);
}
void operator delete(void* block, size_t) noexcept { operator delete(block); }
#endif

namespace svdllm::testing {

void FailFuzz(const char* condition, int line, const std::string& what) {
  throw FuzzFailure{"line " + std::to_string(line) + ": " + condition + ": " + what};
}

void CheckErrorText(std::string_view text) {
  FUZZ_CHECK(!text.empty(), "an error without a text");
  FUZZ_CHECK(text.size() <= kMaxErrorBytes, std::to_string(text.size()) + " bytes of error");
  FUZZ_CHECK(IsValidUtf8(text), ToValidUtf8(text));
}

void CheckRefusal(const absl::Status& status, std::initializer_list<std::string_view> reasons) {
  FUZZ_CHECK(!status.ok(), "nothing was refused");
  CheckErrorText({status.message().data(), status.message().size()});
  const std::string reason = ErrorReason(status);
  FUZZ_CHECK(!reason.empty(), status.ToString());
  FUZZ_CHECK(
      reasons.size() == 0 || std::find(reasons.begin(), reasons.end(), reason) != reasons.end(),
      reason + ": " + status.ToString());
}

void RunFuzzTarget(const FuzzTarget& target, std::string_view bytes) {
  const int64_t before = live_bytes;
  most_bytes = before;
  const double begin = ProcessorSeconds();
  target.run(bytes);
  const double seconds = ProcessorSeconds() - begin;
  const int64_t most = most_bytes - before;
  FUZZ_CHECK(seconds <= kMaxSeconds, std::to_string(seconds) + " s");
  FUZZ_CHECK(most <= target.floor_bytes + kBytesPerByte * static_cast<int64_t>(bytes.size()),
             std::to_string(most) + " bytes for " + std::to_string(bytes.size()));
}

const std::string& FuzzDirectory::Fill(std::string_view bytes, const std::string& first_name) {
  for (const std::string& name : written_) unlink(dir_.File(name).c_str());
  written_.clear();
  constexpr std::string_view kMark = "=== ";
  std::string_view name = first_name;
  size_t begin = 0;
  while (true) {
    // A mark stands at the beginning of the bytes or behind a newline, which belongs to it.
    size_t mark = bytes.substr(begin).starts_with(kMark) && begin == 0 ? 0 : bytes.npos;
    if (mark == bytes.npos) {
      const size_t found = bytes.find("\n=== ", begin);
      if (found == bytes.npos) break;
      PutNamed(name, bytes.substr(begin, found - begin));
      mark = found + 1;
    }
    const size_t line = bytes.find('\n', mark);
    name =
        bytes.substr(mark + kMark.size(), line == bytes.npos ? line : line - mark - kMark.size());
    begin = line == bytes.npos ? bytes.size() : line + 1;
    if (begin == 0) break;
  }
  PutNamed(name, bytes.substr(begin));
  return dir_.path();
}

std::string FuzzDirectory::Put(std::string_view name, std::string_view content) {
  const std::string path = dir_.File(name);
  unlink(path.c_str());
  WriteOrDie(path, content);
  return path;
}

void FuzzDirectory::PutNamed(std::string_view name, std::string_view content) {
  const bool link = name.ends_with('@');
  if (link) name.remove_suffix(1);
  const bool plain = std::all_of(name.begin(), name.end(), [](unsigned char c) {
    return c < 0x80 && (std::isalnum(c) != 0 || c == '.' || c == '_' || c == '-');
  });
  if (!plain || name.empty() || name.size() > 64 || name == "." || name == "..") return;
  if (link) {
    unlink(dir_.File(name).c_str());
    if (symlink(std::string(content).c_str(), dir_.File(name).c_str()) != 0) return;
  } else {
    Put(name, content);
  }
  written_.emplace_back(name);
}

std::string FuzzDirectory::Pack(const std::string& dir, const std::string& first_name) {
  std::string text = ReadOrDie(dir + "/" + first_name);
  std::vector<std::string> names;
  for (const auto& entry : fs::directory_iterator(dir)) {
    if (entry.path().filename() != first_name) names.push_back(entry.path().filename());
  }
  std::sort(names.begin(), names.end());
  for (const std::string& name : names) {
    text += "\n=== " + name + "\n" + ReadOrDie(dir + "/" + name);
  }
  return text;
}

std::string ReadOrDie(const std::string& path) {
  std::ifstream in(path, std::ios::binary);
  if (!in) {
    std::perror(path.c_str());
    std::abort();
  }
  return {std::istreambuf_iterator<char>(in), {}};
}

}  // namespace svdllm::testing
