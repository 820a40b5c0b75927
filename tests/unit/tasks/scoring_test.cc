#include "tasks/scoring.h"

#include <gmock/gmock.h>

#include <cmath>

#include "tasks/bleu.h"
#include "tasks/task_table.h"

namespace svdllm {
namespace {

using ::testing::ElementsAre;

TaskItem Item(std::vector<std::string> choices, int64_t gold) {
  TaskItem item;
  item.choices = std::move(choices);
  item.gold = gold;
  return item;
}

TEST(Scoring, TheFirstOfEqualChoicesWins) {
  EXPECT_EQ(FirstMaximum(std::vector<double>{-2, -1, -1}), 1);
  EXPECT_EQ(FirstMaximum(std::vector<double>{-1, -1, -1}), 0);
}

TEST(Scoring, LengthsAreInCharacters) {
  const TaskRow& task = **FindTask("piqa");
  // Seven characters in eight bytes: −7 / 7 < −5.9 / 6, but −7 / 8 > −5.9 / 6.
  const TaskItem item = Item({"naïvely", "abcdef"}, 1);
  const std::vector<double> log_likelihoods = {-7, -5.9};
  EXPECT_EQ(Predict(item, log_likelihoods, true), 1);
  EXPECT_THAT(ScoreChoices(task.metrics, item, log_likelihoods), ElementsAre(1, 1));
  // The longer choice is less likely, and more so per character.
  EXPECT_THAT(ScoreChoices(task.metrics, Item({"ab", "abcdef"}, 1), std::vector<double>{-3, -4}),
              ElementsAre(0, 1));
  EXPECT_THAT(
      ScoreChoices((*FindTask("winogrande"))->metrics, Item({"x", "x"}, 0), log_likelihoods),
      ElementsAre(0));
}

TEST(Scoring, AnEmptyChoiceDoesNotWinPerCharacter) {
  EXPECT_EQ(Predict(Item({"", "a long one"}, 0), std::vector<double>{-1, -9}, true), 1);
}

TEST(Scoring, GsmAnswers) {
  TaskItem item;
  item.references = {"6*200=<<6*200=1200>>1200\n#### 1,200"};
  const auto score = [&item](const char* text) { return ScoreGsm8k(item, text); };
  EXPECT_THAT(score(" It is 1200.\n#### 1200"), ElementsAre(1, 1));
  EXPECT_THAT(score(" #### 1,200. Then #### 7"), ElementsAre(1, 0));  // the first, and the last
  EXPECT_THAT(score(" The result is $1,200."), ElementsAre(0, 1));
  EXPECT_THAT(score(" #### $1200"), ElementsAre(0, 1));  // no digit behind ####
  EXPECT_THAT(score(" 1200 or 1300"), ElementsAre(0, 0));
  EXPECT_THAT(score(" none"), ElementsAre(0, 0));
  EXPECT_THAT(score(""), ElementsAre(0, 0));
  item.references = {"...\n#### -5"};
  EXPECT_THAT(score("#### -5"), ElementsAre(1, 1));
  EXPECT_THAT(score("#### 5"), ElementsAre(0, 0));
}

TEST(Scoring, TruthfulQaComparesTheBestOfBothKinds) {
  TaskItem item;
  item.references = {"Nothing happens to you.", "You will be quite well."};
  item.wrong_references = {"You will be quite ill.", "A plant grows."};
  const char* const text = "You will be quite well, I think.";
  const std::vector<double> scores = ScoreTruthfulQa(item, text);
  const double right = SentenceBleu(text, item.references[1]),
               wrong = SentenceBleu(text, item.wrong_references[0]);
  EXPECT_GT(right, wrong);
  EXPECT_THAT(scores, ElementsAre(1, right, right - wrong));
  EXPECT_THAT(ScoreTruthfulQa(item, ""), ElementsAre(0, 0, 0));  // a tie is not right
}

TEST(Scoring, MeansHaveStandardErrors) {
  const MeanAndError summary = Summarize(std::vector<double>{1, 0, 0, 1, 1});
  EXPECT_NEAR(summary.mean, 0.6, 1e-15);
  EXPECT_NEAR(summary.std_error, std::sqrt(5 * 0.24 / 4 / 5), 1e-15);
  EXPECT_LT(Summarize(std::vector<double>{1}).std_error, 0);
}

}  // namespace
}  // namespace svdllm
