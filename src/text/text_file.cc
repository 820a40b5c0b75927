#include "text/text_file.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cctype>
#include <cerrno>

#include "base/files.h"
#include "base/format.h"
#include "base/utf8.h"
#include "text/expand.h"
#include "text/foreign.h"

namespace svdllm {
namespace {

constexpr std::string_view kMark = "\xEF\xBB\xBF";

absl::Status Invalid(const std::string& path, const std::string& what) {
  return MakeError(absl::StatusCode::kInvalidArgument, kDatasetInvalid, path + ": " + what);
}

std::string_view SpecialFile(mode_t mode) {
  return S_ISDIR(mode)    ? "a directory; name a file in it"
         : S_ISFIFO(mode) ? "a named pipe, not a file"
         : S_ISSOCK(mode) ? "a socket, not a file"
                          : "a device, not a file";
}

// An open regular file, read from front to back.
class Reader {
 public:
  Reader() = default;
  Reader(const Reader&) = delete;
  Reader& operator=(const Reader&) = delete;
  ~Reader() {
    if (fd_ >= 0) close(fd_);
  }

  absl::Status Open(const std::string& path) {
    path_ = path;
    // Without O_NONBLOCK a pipe would be waited for until somebody writes to it.
    fd_ = OpenForReading(path, O_NONBLOCK | O_NOCTTY);
    if (fd_ < 0 && errno == ENXIO) return Invalid(path, std::string(SpecialFile(S_IFSOCK)));
    if (fd_ < 0) return Failed("open");
    struct stat info;
    if (fstat(fd_, &info) != 0) return Failed("stat");
    if (!S_ISREG(info.st_mode)) return Invalid(path, std::string(SpecialFile(info.st_mode)));
    size_ = info.st_size;
    return absl::OkStatus();
  }

  absl::StatusOr<size_t> Read(char* data, size_t size) {
    for (;;) {
      const ssize_t n = read(fd_, data, size);
      if (n < 0 && errno == EINTR) continue;
      if (n < 0) return Failed("read");
      taken_ += n;
      return static_cast<size_t>(n);
    }
  }

  // The bytes that the file begins with; reading goes on at the front.
  absl::StatusOr<std::string> Beginning() const {
    std::string bytes(kTellingBytes, '\0');
    const ssize_t n = pread(fd_, bytes.data(), bytes.size(), 0);
    if (n < 0) return Failed("read");
    bytes.resize(static_cast<size_t>(n));
    return bytes;
  }

  int64_t size() const { return size_; }
  int64_t taken() const { return taken_; }

 private:
  absl::Status Failed(std::string_view what) const {
    const absl::Status status = ErrnoToStatus(errno, what, path_);
    return MakeError(status.code(), kDatasetInvalid, std::string(status.message()));
  }

  std::string path_;
  int fd_ = -1;
  int64_t size_ = 0, taken_ = 0;
};

// The last ending of a name, in lower case; it is cut off.
std::string TakeEnding(std::string& name) {
  const size_t dot = name.rfind('.');
  if (dot == std::string::npos || dot == 0) return "";
  std::string ending = name.substr(dot);
  name.resize(dot);
  std::transform(ending.begin(), ending.end(), ending.begin(),
                 [](unsigned char c) { return static_cast<char>(std::tolower(c)); });
  return ending;
}

// Whether what a file begins with is what its name announces.
absl::Status CheckBeginning(const std::string& path, const TextName& name,
                            std::string_view beginning) {
  const Compression found = CompressionOf(beginning);
  if (found != name.compression && found != Compression::kNone) {
    const std::string with(CompressionName(found));
    return Invalid(path, "compressed with " + with +
                             ", which its name does not say: let it end in " +
                             (found == Compression::kGzip ? ".gz" : ".zst") + ", or decompress it");
  }
  if (found != Compression::kNone) return absl::OkStatus();
  std::string foreign = NameForeign(beginning, path);
  if (foreign.empty()) foreign = NameForeignEnding(name.ending, path);
  if (!foreign.empty()) return Invalid(path, foreign);
  if (name.compression != Compression::kNone && !beginning.empty()) {
    return Invalid(path, "not compressed with " + std::string(CompressionName(name.compression)) +
                             ", as its name says");
  }
  return absl::OkStatus();
}

absl::Status CheckIsText(const std::string& path, std::string_view text) {
  const size_t bad = std::min(FirstInvalidUtf8(text), text.find('\0'));
  if (bad == std::string_view::npos) return absl::OkStatus();
  std::string what = PlaceIn(text, bad) + " (byte " + std::to_string(bad) + "): ";
  if (text[bad] == '\0') return Invalid(path, what + "a NUL byte, which no text has");
  constexpr char kDigits[] = "0123456789ABCDEF";
  const auto byte = static_cast<unsigned char>(text[bad]);
  what += std::string("not UTF-8 (0x") + kDigits[byte >> 4] + kDigits[byte & 15] +
          "); if it is in another encoding, this turns it into UTF-8: iconv -f ENCODING -t UTF-8";
  return Invalid(path, what);
}

// Without the character that was cut in two.
void DropPartOfCharacter(std::string& text) {
  size_t start = text.size();
  for (int i = 0; i < 4 && start > 0; ++i) {
    const auto lead = static_cast<unsigned char>(text[--start]);
    if ((lead & 0xc0) == 0x80) continue;
    if (lead >= 0xc0 && start + CharLength(text[start]) > text.size()) text.resize(start);
    return;
  }
}

// Everything, or the first bytes, that the reader's file holds.
absl::Status ReadBytes(Reader& reader, Compression compression, const TextLimits& limits,
                       TextFile& file) {
  std::string& text = file.text;
  const int64_t most = limits.first_bytes > 0 ? limits.first_bytes : limits.max_bytes;
  if (compression == Compression::kNone) {
    text.reserve(static_cast<size_t>(std::min(reader.size(), most)) + 1);
  }
  const auto source = [&](char* data, size_t size) { return reader.Read(data, size); };
  const auto sink = [&](std::string_view bytes) -> absl::StatusOr<bool> {
    text.append(bytes);
    const auto size = static_cast<int64_t>(text.size());
    if (compression != Compression::kNone && size > kSurelyHarmless &&
        size > kMaxExpansion * reader.taken()) {
      return Invalid(file.path, "decompresses to more than " + std::to_string(kMaxExpansion) +
                                    " times its size, which no text does");
    }
    if (size <= most) return true;
    if (limits.first_bytes == 0) {
      return Invalid(file.path, "more than the " + GiB(most) + " of text that are accepted");
    }
    text.resize(static_cast<size_t>(most));
    file.whole = false;
    return false;
  };
  const absl::Status status = Expand(compression, source, sink);
  if (!status.ok() && ErrorReason(status).empty()) {
    return Invalid(file.path, std::string(status.message()));
  }
  return status;
}

}  // namespace

TextName TextNameOf(const std::string& path) {
  TextName name;
  name.stem = path.substr(path.rfind('/') + 1);  // npos + 1 is 0
  name.ending = TakeEnding(name.stem);
  if (name.ending == ".gz" || name.ending == ".gzip") name.compression = Compression::kGzip;
  if (name.ending == ".zst" || name.ending == ".zstd") name.compression = Compression::kZstd;
  if (name.compression != Compression::kNone) name.ending = TakeEnding(name.stem);
  return name;
}

absl::StatusOr<TextFile> ReadTextFile(const std::string& path, const TextLimits& limits) {
  Reader reader;
  RETURN_IF_ERROR(reader.Open(path));
  const TextName name = TextNameOf(path);
  ASSIGN_OR_RETURN(const std::string beginning, reader.Beginning());
  RETURN_IF_ERROR(CheckBeginning(path, name, beginning));
  TextFile file;
  file.path = path;
  file.ending = name.ending;
  // Before it is read to its end: what holds no text may be large.
  if (name.compression != Compression::kNone) {
    Reader again;
    RETURN_IF_ERROR(again.Open(path));
    TextFile inside;
    inside.path = path;
    RETURN_IF_ERROR(ReadBytes(again, name.compression, {limits.max_bytes, kTellingBytes}, inside));
    if (CompressionOf(inside.text) != Compression::kNone) {
      return Invalid(path, "compressed twice; decompress it once");
    }
    RETURN_IF_ERROR(CheckBeginning(path, {name.stem, name.ending}, inside.text));
  }
  RETURN_IF_ERROR(ReadBytes(reader, name.compression, limits, file));
  file.bytes = static_cast<double>(file.text.size());
  if (!file.whole) {
    DropPartOfCharacter(file.text);
    const auto size = static_cast<double>(reader.size());
    file.bytes = name.compression == Compression::kNone
                     ? size
                     : file.bytes * std::max(1.0, size / static_cast<double>(reader.taken()));
  }
  if (file.text.starts_with(kMark)) file.text.erase(0, kMark.size());
  RETURN_IF_ERROR(CheckIsText(path, file.text));
  return file;
}

std::string PlaceIn(std::string_view text, size_t position) {
  const std::string_view before = text.substr(0, position);
  const auto line = 1 + std::count(before.begin(), before.end(), '\n');
  const size_t begin = before.rfind('\n') + 1;  // npos + 1 is 0
  const auto column = 1 + std::count_if(before.begin() + static_cast<std::ptrdiff_t>(begin),
                                        before.end(), [](char c) { return (c & 0xc0) != 0x80; });
  return "line " + std::to_string(line) + ", column " + std::to_string(column);
}

}  // namespace svdllm
