// Changing what a directory that WriteTinyCheckpoint made holds.
#pragma once

#include <gtest/gtest.h>

#include <functional>
#include <nlohmann/json.hpp>
#include <string>
#include <string_view>
#include <vector>

#include "base/files.h"
#include "formats/safetensors.h"
#include "tests/support/safetensors_bytes.h"
#include "tests/support/status_matchers.h"

namespace svdllm::testing {

// The directory's tensors, changed and written again as one file.
inline void EditTensors(const std::string& dir,
                        const std::function<void(std::vector<TestTensor>&)>& edit) {
  std::vector<TestTensor> tensors;
  {
    const auto file = SafetensorsFile::Open(dir + "/model.safetensors");
    ASSERT_OK(file);
    for (const std::string& name : file->Names()) {
      const auto view = file->Get(name);
      ASSERT_OK(view);
      tensors.push_back({name,
                         view->dtype,
                         view->shape,
                         {reinterpret_cast<const char*>(view->bytes.data()), view->bytes.size()}});
    }
  }
  edit(tensors);
  ASSERT_OK(WriteFileAtomic(dir + "/model.safetensors", SafetensorsBytes(tensors)));
}

inline TestTensor& Find(std::vector<TestTensor>& tensors, std::string_view name) {
  for (TestTensor& tensor : tensors) {
    if (tensor.name == name) return tensor;
  }
  ADD_FAILURE() << name;
  return tensors.front();
}

// Adds a tensor of any type to the directory's one file, behind the others.
inline void AddRawTensor(const std::string& dir, const std::string& name, const std::string& type,
                         const std::vector<int64_t>& shape, const std::string& data) {
  const std::string path = dir + "/model.safetensors";
  const auto bytes = ReadFile(path);
  ASSERT_OK(bytes);
  uint64_t header_bytes = 0;
  bytes->copy(reinterpret_cast<char*>(&header_bytes), sizeof(header_bytes));
  nlohmann::json header = nlohmann::json::parse(bytes->substr(8, header_bytes));
  const std::string old = bytes->substr(8 + header_bytes);
  header[name] = {
      {"dtype", type}, {"shape", shape}, {"data_offsets", {old.size(), old.size() + data.size()}}};
  ASSERT_OK(WriteFileAtomic(path, SafetensorsBytes(header.dump(), old + data)));
}

// Merges changes into the directory's config.json.
inline void EditConfig(const std::string& dir, const std::string& changes) {
  const auto text = ReadFile(dir + "/config.json");
  ASSERT_OK(text);
  nlohmann::json config = nlohmann::json::parse(*text);
  config.update(nlohmann::json::parse(changes));
  ASSERT_OK(WriteFileAtomic(dir + "/config.json", config.dump()));
}

}  // namespace svdllm::testing
