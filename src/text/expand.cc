#include "text/expand.h"

#include <zlib.h>
#include <zstd.h>

#include <memory>
#include <vector>

namespace svdllm {
namespace {

// Compressed bytes are taken in small pieces: who ends the reading early knows by how many were
// taken how many more there may be.
constexpr size_t kTaken = size_t{1} << 14, kPiece = size_t{1} << 17;

absl::Status Damaged(std::string_view why) {
  return absl::InvalidArgumentError("damaged: " + std::string(why));
}

absl::Status EndsInTheMiddle(Compression compression) {
  return absl::InvalidArgumentError("its " + std::string(CompressionName(compression)) +
                                    " data end in the middle: it was not copied whole");
}

absl::Status Copy(const ByteSource& source, const ByteSink& sink) {
  std::vector<char> piece(kPiece);
  for (;;) {
    ASSIGN_OR_RETURN(const size_t size, source(piece.data(), piece.size()));
    if (size == 0) return absl::OkStatus();
    ASSIGN_OR_RETURN(const bool more, sink({piece.data(), size}));
    if (!more) return absl::OkStatus();
  }
}

absl::Status ExpandGzip(const ByteSource& source, const ByteSink& sink) {
  constexpr int kGzipOnly = MAX_WBITS + 16;
  z_stream stream = {};
  if (inflateInit2(&stream, kGzipOnly) != Z_OK) return absl::ResourceExhaustedError("zlib: memory");
  const std::unique_ptr<z_stream, void (*)(z_stream*)> end(&stream,
                                                           [](z_stream* s) { inflateEnd(s); });
  std::vector<char> in(kTaken), out(kPiece);
  bool first = true, within = false;  // within: a member has begun and not ended
  for (;;) {
    ASSIGN_OR_RETURN(const size_t size, source(in.data(), in.size()));
    if (size == 0) break;
    stream.next_in = reinterpret_cast<Bytef*>(in.data());
    stream.avail_in = static_cast<uInt>(size);
    do {
      if (!within) {
        // Tapes and block devices fill up with zeros behind the last member.
        while (!first && stream.avail_in > 0 && *stream.next_in == 0) {
          ++stream.next_in, --stream.avail_in;
        }
        if (stream.avail_in == 0) break;
        first = false, within = true;
      }
      stream.next_out = reinterpret_cast<Bytef*>(out.data());
      stream.avail_out = static_cast<uInt>(out.size());
      const int result = inflate(&stream, Z_NO_FLUSH);
      if (result != Z_OK && result != Z_STREAM_END && result != Z_BUF_ERROR) {
        return Damaged(stream.msg != nullptr ? stream.msg : "zlib cannot read it");
      }
      ASSIGN_OR_RETURN(const bool more, sink({out.data(), out.size() - stream.avail_out}));
      if (!more) return absl::OkStatus();
      if (result == Z_STREAM_END) {
        within = false;
        inflateReset(&stream);
      }
    } while (stream.avail_in > 0 || (within && stream.avail_out == 0));
  }
  return within ? EndsInTheMiddle(Compression::kGzip) : absl::OkStatus();
}

absl::Status ExpandZstd(const ByteSource& source, const ByteSink& sink) {
  const std::unique_ptr<ZSTD_DStream, size_t (*)(ZSTD_DStream*)> stream(ZSTD_createDStream(),
                                                                        ZSTD_freeDStream);
  if (stream == nullptr) return absl::ResourceExhaustedError("zstd: memory");
  std::vector<char> in(kTaken), out(kPiece);
  size_t left = 0;  // 0: at the end of a frame
  for (;;) {
    ASSIGN_OR_RETURN(const size_t size, source(in.data(), in.size()));
    if (size == 0) break;
    ZSTD_inBuffer input{in.data(), size, 0};
    for (bool pending = true; pending;) {
      ZSTD_outBuffer output{out.data(), out.size(), 0};
      left = ZSTD_decompressStream(stream.get(), &output, &input);
      if (ZSTD_isError(left)) return Damaged(ZSTD_getErrorName(left));
      ASSIGN_OR_RETURN(const bool more, sink({out.data(), output.pos}));
      if (!more) return absl::OkStatus();
      // A buffer that was filled may have been too small for all that is ready.
      pending = input.pos < input.size || (left > 0 && output.pos == output.size);
    }
  }
  return left > 0 ? EndsInTheMiddle(Compression::kZstd) : absl::OkStatus();
}

}  // namespace

std::string_view CompressionName(Compression compression) {
  return compression == Compression::kGzip   ? "gzip"
         : compression == Compression::kZstd ? "Zstandard"
                                             : "";
}

Compression CompressionOf(std::string_view beginning) {
  // Zstandard's skippable frames begin with 0x184D2A50 to …5F, in little-endian order.
  const bool skippable = beginning.size() >= 4 && (beginning[0] & 0xf0) == 0x50 &&
                         beginning.substr(1, 3) == "\x2a\x4d\x18";
  if (skippable || beginning.starts_with("\x28\xb5\x2f\xfd")) return Compression::kZstd;
  return beginning.starts_with("\x1f\x8b") ? Compression::kGzip : Compression::kNone;
}

absl::Status Expand(Compression compression, const ByteSource& source, const ByteSink& sink) {
  switch (compression) {
    case Compression::kGzip:
      return ExpandGzip(source, sink);
    case Compression::kZstd:
      return ExpandZstd(source, sink);
    case Compression::kNone:
      break;
  }
  return Copy(source, sink);
}

}  // namespace svdllm
