// The merge loop against the definition: merge the leftmost pair of the lowest rank, again and
// again.
#include "tokenizer/bpe.h"

#include <gtest/gtest.h>

#include <random>
#include <string>
#include <vector>

namespace svdllm {
namespace {

struct RandomModel {
  Vocabulary vocabulary;
  BpeModel::MergeList merges;
};

// Merges of pairs of tokens that exist already, over the letters a to e.
RandomModel MakeModel(std::mt19937* random, size_t merges) {
  RandomModel model;
  std::vector<std::string> tokens = {"a", "b", "c", "d", "e"};
  for (const std::string& token : tokens) {
    model.vocabulary.emplace(token, static_cast<int32_t>(model.vocabulary.size()));
  }
  while (model.merges.size() < merges) {
    const std::string left = tokens[(*random)() % tokens.size()];
    const std::string right = tokens[(*random)() % tokens.size()];
    if (left.size() + right.size() > 8) continue;
    model.merges.emplace_back(left, right);
    if (model.vocabulary.emplace(left + right, static_cast<int32_t>(model.vocabulary.size()))
            .second)
      tokens.push_back(left + right);
  }
  return model;
}

std::vector<int32_t> ByDefinition(const RandomModel& model, const std::string& word) {
  std::vector<std::string> symbols;
  for (const char c : word) symbols.emplace_back(1, c);
  for (;;) {
    // Of duplicates the last counts, as in the reference.
    int best_rank = -1;
    size_t best = 0;
    for (size_t i = 0; i + 1 < symbols.size(); ++i) {
      for (int rank = static_cast<int>(model.merges.size()) - 1; rank >= 0; --rank) {
        if (model.merges[static_cast<size_t>(rank)] != std::make_pair(symbols[i], symbols[i + 1])) {
          continue;
        }
        if (best_rank < 0 || rank < best_rank) {
          best_rank = rank;
          best = i;
        }
        break;
      }
    }
    if (best_rank < 0) break;
    symbols[best] += symbols[best + 1];
    symbols.erase(symbols.begin() + static_cast<std::ptrdiff_t>(best) + 1);
  }
  std::vector<int32_t> ids;
  for (const std::string& symbol : symbols) ids.push_back(model.vocabulary.at(symbol));
  return ids;
}

TEST(Bpe, EqualsItsDefinition) {
  std::mt19937 random(5);
  for (int round = 0; round < 60; ++round) {
    const RandomModel made = MakeModel(&random, 1 + random() % 60);
    const auto model = BpeModel::Create(made.vocabulary, made.merges, {});
    ASSERT_TRUE(model.ok()) << model.status();
    std::vector<std::string> words;
    for (int i = 0; i < 30; ++i) {
      std::string& word = words.emplace_back();
      // Some are long enough to be cut.
      const size_t length = i == 0 ? 300 : random() % 40;
      while (word.size() < length) {
        word.push_back(static_cast<char>('a' + random() % 5));
      }
    }
    BpeModel::Scratch scratch;
    std::vector<int32_t> ids, expected;
    // Twice: the second time from what the scratch remembers.
    for (int time = 0; time < 2; ++time) {
      for (const std::string& word : words) {
        model->Encode(word, &scratch, &ids);
        const std::vector<int32_t> one = ByDefinition(made, word);
        expected.insert(expected.end(), one.begin(), one.end());
        ASSERT_EQ(ids, expected) << word;
      }
    }
  }
}

TEST(Bpe, IgnoreMergesTakesWholeWords) {
  const Vocabulary vocabulary = {{"a", 0}, {"b", 1}, {"ab", 2}, {"abab", 3}};
  for (const bool ignore : {false, true}) {
    BpeOptions options;
    options.ignore_merges = ignore;
    const auto model = BpeModel::Create(vocabulary, {{"a", "b"}}, options);
    ASSERT_TRUE(model.ok()) << model.status();
    BpeModel::Scratch scratch;
    std::vector<int32_t> ids;
    model->Encode("abab", &scratch, &ids);
    EXPECT_EQ(ids, ignore ? std::vector<int32_t>({3}) : std::vector<int32_t>({2, 2}));
  }
}

}  // namespace
}  // namespace svdllm
