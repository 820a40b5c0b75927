// One question of a dataset.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

namespace svdllm {

// One question. A model either weighs given answers, each a continuation of a context, or writes an
// answer.
struct TaskItem {
  // Either one context and several continuations, or several contexts and one continuation: choice
  // i is made of context(i) and continuation(i). A generation has one context, its prompt, and no
  // continuations.
  std::vector<std::string> contexts, continuations;
  // One text per choice, as the dataset has it. acc_norm measures their lengths.
  std::vector<std::string> choices;
  int64_t gold = 0;  // the right choice
  // For generations: the texts that score well, the answer in full first, and those that score ill.
  std::vector<std::string> references, wrong_references;

  int64_t choice_count() const { return static_cast<int64_t>(choices.size()); }
  const std::string& context(int64_t choice) const {
    return contexts[contexts.size() > 1 ? static_cast<size_t>(choice) : 0];
  }
  const std::string& continuation(int64_t choice) const {
    return continuations[continuations.size() > 1 ? static_cast<size_t>(choice) : 0];
  }
};

}  // namespace svdllm
