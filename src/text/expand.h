// Compressed bytes as what they hold.
#pragma once

#include <cstddef>
#include <functional>
#include <string>
#include <string_view>

#include "base/status.h"

namespace svdllm {

enum class Compression { kNone, kGzip, kZstd };

// "gzip", "Zstandard"; empty for kNone.
std::string_view CompressionName(Compression compression);
// By the bytes that a file begins with.
Compression CompressionOf(std::string_view beginning);

// Writes up to size bytes to data and returns how many; 0 at the end.
using ByteSource = std::function<absl::StatusOr<size_t>(char* data, size_t size)>;
// Takes the next bytes; false ends the reading early, which is no error.
using ByteSink = std::function<absl::StatusOr<bool>(std::string_view bytes)>;

// Everything that the source's bytes hold, piece by piece; several members or frames one behind the
// other are one text, as the programs gzip and zstd have it. INVALID_ARGUMENT, "damaged: why" or
// that it ends in the middle, and the errors of source and sink. Holds some hundred kilobytes, and
// a Zstandard window of 128 MiB at most.
absl::Status Expand(Compression compression, const ByteSource& source, const ByteSink& sink);

}  // namespace svdllm
