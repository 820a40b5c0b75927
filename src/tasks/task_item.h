// One question of a dataset.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

namespace svdllm {

// One question. A model either weighs given answers, each a continuation of a context, or writes
// one.
struct TaskItem {
  // One and several continuations, or several and one: choice i is the two with number i. A
  // generation has one context, its prompt, and no continuations.
  std::vector<std::string> contexts, continuations;
  // As the dataset has them; acc_norm measures their lengths. One a choice.
  std::vector<std::string> choices;
  int64_t gold = 0;  // the right choice
  // Generations: what scores well, the first being the answer in full, and what scores ill.
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
