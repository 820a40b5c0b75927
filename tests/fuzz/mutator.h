// Random changes to texts and bytes, the same ones in every run.
#pragma once

#include <algorithm>
#include <chrono>
#include <cstdint>
#include <cstdlib>
#include <random>
#include <string>
#include <vector>

namespace svdllm::testing {

class Mutator {
 public:
  // words: what is spliced in whole, such as keys of the format and numbers at its limits.
  Mutator(std::vector<std::string> seeds, std::vector<std::string> words)
      : seeds_(std::move(seeds)), words_(std::move(words)) {}

  // A seed with a few changes.
  std::string Next() {
    std::string text = seeds_[Below(seeds_.size())];
    for (uint64_t i = Below(6) + 1; i > 0; --i) Change(text);
    return text;
  }

  uint64_t Below(uint64_t bound) { return bound == 0 ? 0 : random_() % bound; }

 private:
  void Change(std::string& text) {
    const size_t at = Below(text.size() + 1);
    const size_t length = std::min<size_t>(Below(Below(4) == 0 ? 64 : 4) + 1, text.size() - at);
    switch (Below(7)) {
      case 0:
        if (at < text.size()) text[at] = static_cast<char>(random_());
        break;
      case 1:
        if (at < text.size()) text[at] = static_cast<char>(text[at] ^ (1 << Below(8)));
        break;
      case 2:
        text.erase(at, length);
        break;
      case 3:  // doubled
        text.insert(at, text.substr(at, length));
        break;
      case 4:
        text.replace(at, length, words_[Below(words_.size())]);
        break;
      case 5:
        text.insert(at, words_[Below(words_.size())]);
        break;
      case 6: {  // a piece of another seed
        const std::string& other = seeds_[Below(seeds_.size())];
        text.insert(at, other.substr(Below(other.size() + 1), Below(48)));
        break;
      }
    }
  }

  std::mt19937_64 random_{20240229};
  std::vector<std::string> seeds_, words_;
};

// Calls body until the time is over or it returns false; returns how often.
template <typename Body>
int64_t ForFuzzSeconds(Body&& body) {
  const char* text = std::getenv("SVDLLM_FUZZ_SECONDS");
  const std::chrono::duration<double> budget(text != nullptr ? std::atof(text) : 1.0);
  const auto begin = std::chrono::steady_clock::now();
  int64_t runs = 0;
  while (body()) {
    ++runs;
    if (std::chrono::steady_clock::now() - begin >= budget) break;
  }
  return runs;
}

}  // namespace svdllm::testing
