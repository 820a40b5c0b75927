// A directory of a test's own, removed with everything in it.
#pragma once

#include <string>
#include <string_view>

namespace svdllm::testing {

class TempDir {
 public:
  TempDir();  // aborts where none can be made
  ~TempDir();
  TempDir(const TempDir&) = delete;
  TempDir& operator=(const TempDir&) = delete;

  // Canonical: free of symbolic links.
  const std::string& path() const { return path_; }
  std::string File(std::string_view name) const { return path_ + "/" + std::string(name); }
  // Writes a file below the directory, with the directories in between; returns its path.
  std::string Write(std::string_view name, std::string_view content) const;

 private:
  std::string path_;
};

void WriteOrDie(const std::string& path, std::string_view content);
bool FileExists(const std::string& path);
// Names in a directory, dotted ones too, sorted and separated by blanks.
std::string ListDir(const std::string& path);

}  // namespace svdllm::testing
