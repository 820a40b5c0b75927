// The tiny trained LLaMA and its golden figures, which stand beside the repository where they are
// present; tests that need them skip where they are not.
#pragma once

#include <gtest/gtest.h>
#include <sys/stat.h>

#include <fstream>
#include <nlohmann/json.hpp>
#include <string>

#include "tests/support/source_dir.h"

namespace svdllm {

inline const std::string kShared = SourceDir() + "/../shared";
inline const std::string kTinyModel = kShared + "/models/stories260K";
inline const std::string kGolden = kShared + "/models/stories260K-golden";
inline const std::string kStories = kShared + "/data/tinystories/tinystories_train_1000.json";

inline bool Present(const std::string& path) {
  struct stat info;
  return stat(path.c_str(), &info) == 0;
}

inline nlohmann::json ReadJson(const std::string& path) {
  std::ifstream file(path);
  return nlohmann::json::parse(file);
}

// The stories as the golden figures take them: "\n\n" replaced by "\n", a JSON string a line.
inline void WriteStories(const std::string& path) {
  std::ofstream out(path);
  for (const auto& story : ReadJson(kStories)) {
    std::string text = story.get<std::string>();
    for (size_t at; (at = text.find("\n\n")) != std::string::npos;) text.erase(at, 1);
    out << nlohmann::json(text).dump() << "\n";
  }
}

}  // namespace svdllm

#define SKIP_WITHOUT_GOLDEN()                                        \
  for (const std::string& path_ : {kTinyModel, kGolden, kStories}) { \
    if (!Present(path_)) GTEST_SKIP() << path_ << " is not present"; \
  }
