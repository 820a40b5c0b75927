// Which files stand for a model, and what lies there instead of one.
#pragma once

#include <cstdint>
#include <optional>
#include <string>

#include "base/status.h"

namespace svdllm {

struct ModelPlace {
  std::string path;                 // a directory, or a .gguf file
  std::optional<std::string> gguf;  // the file itself, or the first of its parts
};

// Finds the model that a path means: a directory with a config.json, a GGUF file, a directory with
// one (GgufPathOf), or a hub cache's directory of one model, which stands for the snapshot that its
// refs/main names, or for its only one. NOT_FOUND with MODEL_NOT_FOUND for anything else, saying
// what is there instead and what to do: an adapter, another tool's format, several models.
absl::StatusOr<ModelPlace> FindModel(const std::string& path);

// The text of a file of a model. NOT_FOUND with MODEL_NOT_FOUND where it is missing; MODEL_CORRUPT
// where it is no regular file, is larger than max_bytes, or is a Git LFS pointer.
absl::StatusOr<std::string> ReadModelFile(const std::string& dir, const std::string& name,
                                          int64_t max_bytes);

// The error for a directory with neither model.safetensors nor its index: what weights are there
// instead, such as shards without the index or pickles, and what to do.
absl::Status NoWeights(const std::string& dir);

// Refuses a directory whose model is not all that a loader would compute with, or not yet there: an
// adapter beside it, or a file that would be carried over (side_files.h) and is a Git LFS pointer,
// a pipe, a device or a socket.
absl::Status CheckCompanions(const std::string& dir);

}  // namespace svdllm
