// Paired comparisons and what is said of them.
#include "evaluate/compare.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>

#include "base/random.h"
#include "evaluate/verdict.h"
#include "tasks/scoring.h"

namespace svdllm {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::IsEmpty;

Measured Text(std::vector<double> nll, std::vector<int64_t> predicted) {
  Measured measured;
  PerplexityResult& text = measured.figures.perplexities.emplace_back();
  text.name = "wiki";
  const MeanAndError mean = RatioOf(nll, predicted);
  text.perplexity = std::exp(mean.mean);
  measured.losses.push_back({std::move(nll), std::move(predicted), 1});
  return measured;
}

Measured Task(const std::vector<double>& acc) {
  Measured measured;
  const MeanAndError mean = Summarize(acc);
  measured.figures.tasks = {{"piqa", "mine", {{"acc", mean.mean, mean.std_error}}, 4}};
  std::vector<Answer>& answers = measured.answers.emplace_back();
  for (const double right : acc) answers.push_back({{}, "", {right}});
  return measured;
}

TEST(RatioOf, IsTheMeanPerTokenWithItsError) {
  // By hand: values 2, 6, 4 with weights 1, 2, 1 have the ratio 12 / 4 = 3, and 3 pairs leave
  // 2 − 3, 6 − 6, 4 − 3: √(3 / 2 · 2) / 4 = √3 / 4.
  const MeanAndError ratio = RatioOf(std::vector<double>{2, 6, 4}, std::vector<int64_t>{1, 2, 1});
  EXPECT_NEAR(ratio.mean, 3, 1e-15);
  EXPECT_NEAR(ratio.std_error, std::sqrt(3.0) / 4, 1e-15);
  // Of equal weights, what Summarize says of the means.
  const MeanAndError equal = RatioOf(std::vector<double>{2, 6, 4}, std::vector<int64_t>{2, 2, 2});
  const MeanAndError plain = Summarize(std::vector<double>{1, 3, 2});
  EXPECT_NEAR(equal.mean, plain.mean, 1e-15);
  EXPECT_NEAR(equal.std_error, plain.std_error, 1e-15);
  EXPECT_LT(RatioOf(std::vector<double>{2}, std::vector<int64_t>{1}).std_error, 0);
}

TEST(Compare, PairsQuestions) {
  // Differences −1, 0, 0, 0: mean −1/4, deviation 1/2, error 1/4. Unpaired it would be 0.38.
  const auto comparisons = Compare(Task({1, 1, 0, 0}), Task({0, 1, 0, 0}));
  ASSERT_EQ(comparisons.size(), 1u);
  EXPECT_EQ(comparisons[0].name, "mine");
  EXPECT_EQ(comparisons[0].metric, "acc");
  EXPECT_NEAR(comparisons[0].change, -0.25, 1e-15);
  EXPECT_NEAR(comparisons[0].std_error, 0.25, 1e-15);
  EXPECT_TRUE(comparisons[0].accepted);
  EXPECT_FALSE(comparisons[0].limit.has_value());
}

TEST(Compare, PairsWindowsByTheirTokens) {
  // ln(perplexity) goes from (10 + 40) / 30 to (12 + 44) / 30. Differences 2 and 4 of 10 and 20
  // tokens: both 0.2 a token, so the change is exp(0.2) − 1 for sure.
  auto comparisons = Compare(Text({10, 40}, {10, 20}), Text({12, 44}, {10, 20}));
  ASSERT_EQ(comparisons.size(), 1u);
  EXPECT_TRUE(comparisons[0].is_perplexity());
  EXPECT_NEAR(comparisons[0].change, std::exp(0.2) - 1, 1e-12);
  EXPECT_NEAR(comparisons[0].std_error, 0, 1e-12);
  // 3 and 3: again 0.2 in the mean, and 1 and −1 are left: √(2 / 1 · 2) / 30 = 2 / 30 of the
  // logarithm.
  comparisons = Compare(Text({10, 40}, {10, 20}), Text({13, 43}, {10, 20}));
  EXPECT_NEAR(comparisons[0].std_error, std::exp(0.2) * 2 / 30, 1e-12);
}

TEST(Compare, OtherWindowsHaveNoError) {
  const Measured before = Text({10, 40}, {10, 20});
  Measured after = Text({12, 44}, {10, 20});
  after.losses[0].ids_hash = 2;
  EXPECT_LT(Compare(before, after)[0].std_error, 0);
  EXPECT_LT(Compare(before, Text({12, 44, 1}, {10, 20, 1}))[0].std_error, 0);
  EXPECT_LT(Compare(Text({10}, {10}), Text({12}, {10}))[0].std_error, 0);
  Measured renamed = Text({12, 44}, {10, 20});
  renamed.figures.perplexities[0].name = "news";
  EXPECT_THAT(Compare(before, renamed), IsEmpty());
}

// Two models over and over on fresh windows: the change scatters as its standard error says.
TEST(Compare, ErrorIsThatOfRepeatedMeasurements) {
  constexpr int kRounds = 2000, kWindows = 40;
  Random random(11);
  const auto noise = [&random] {  // of mean 0 and variance 1
    double sum = 0;
    for (int i = 0; i < 12; ++i) sum += static_cast<double>(random.Below(1 << 20)) / (1 << 20);
    return sum - 6;
  };
  double changes = 0, squares = 0, errors = 0;
  for (int round = 0; round < kRounds; ++round) {
    std::vector<double> before, after;
    std::vector<int64_t> tokens;
    for (int w = 0; w < kWindows; ++w) {
      const auto n = static_cast<int64_t>(20 + random.Below(80));
      const double length = static_cast<double>(n), text = 3 + noise();  // what the text is like
      before.push_back(length * text);
      after.push_back(length * (text + 0.1 + 0.3 * noise()));
      tokens.push_back(n);
    }
    const Comparison c = Compare(Text(before, tokens), Text(after, tokens))[0];
    changes += c.change / kRounds;
    squares += c.change * c.change / kRounds;
    errors += c.std_error / kRounds;
  }
  const double scatter = std::sqrt(squares - changes * changes);
  EXPECT_NEAR(errors / scatter, 1, 0.06);
  EXPECT_NEAR(changes, std::exp(0.1) - 1, 0.01);
}

Comparison Perplexity(double from, double to, double std_error = 0) {
  return {"wiki", Comparison::kPerplexityMetric, from, to, to / from - 1, std_error, {}, true};
}

Comparison Accuracy(double from, double to, const char* metric = "acc", double std_error = 0) {
  return {"piqa", metric, from, to, to - from, std_error, {}, true};
}

TEST(Judge, HoldsAgainstTheThreshold) {
  AcceptanceThreshold threshold;
  threshold.max_accuracy_drop = 0.02;
  threshold.max_perplexity_increase = 0.1;
  const auto judge = [&](const Comparison& text, const Comparison& task) {
    std::vector<Comparison> both = {text, task};
    return Judge(threshold, both);
  };
  EXPECT_TRUE(judge(Perplexity(10, 11), Accuracy(0.40, 0.38)).accepted);  // just so
  EXPECT_TRUE(judge(Perplexity(10, 1), Accuracy(0.40, 0.9)).accepted);
  const Verdict worse = judge(Perplexity(10, 11.01), Accuracy(0.40, 0.3799));
  EXPECT_FALSE(worse.accepted);
  EXPECT_THAT(worse.regressions, ElementsAre("wiki: perplexity 10 → 11.01, more than 10 % higher",
                                             "piqa: acc 0.400 → 0.380, more than 0.02 lower"));
  EXPECT_FALSE(judge(Perplexity(10, NAN), Accuracy(0.4, 0.4)).accepted);
  EXPECT_FALSE(judge(Perplexity(10, INFINITY), Accuracy(0.4, 0.4)).accepted);
  threshold.max_accuracy_drop.reset();
  EXPECT_TRUE(judge(Perplexity(10, 10), Accuracy(0.4, 0)).accepted);
}

TEST(Judge, LooksAtTheFirstMetricOfEachTask) {
  AcceptanceThreshold threshold;
  threshold.max_accuracy_drop = 0.02;
  std::vector<Comparison> comparisons = {Perplexity(10, 99), Accuracy(0.4, 0.4, "acc"),
                                         Accuracy(0.4, 0.1, "acc_norm"), Accuracy(0.4, 0.3)};
  comparisons[3].name = "other";
  EXPECT_THAT(Judge(threshold, comparisons).regressions, ElementsAre(HasSubstr("other: acc")));
  EXPECT_FALSE(comparisons[0].limit.has_value());
  EXPECT_EQ(comparisons[1].limit, 0.02);
  EXPECT_FALSE(comparisons[2].limit.has_value());
  EXPECT_TRUE(comparisons[2].accepted);
  EXPECT_FALSE(comparisons[3].accepted);
  EXPECT_EQ(WorstOf(comparisons), &comparisons[3]);
}

TEST(Judge, WarnsOfLimitsThatChanceDecides) {
  AcceptanceThreshold threshold;
  threshold.max_accuracy_drop = 0.02;
  threshold.max_perplexity_increase = 0.1;
  std::vector<Comparison> comparisons = {Perplexity(10, 10, 0.05), Accuracy(0.4, 0.4, "acc", 0.01)};
  EXPECT_THAT(Judge(threshold, comparisons).warnings, IsEmpty());
  comparisons = {Perplexity(10, 10, 0.051), Accuracy(0.4, 0.4, "acc", 0.018)};
  EXPECT_THAT(Judge(threshold, comparisons).warnings,
              ElementsAre(HasSubstr("wiki: perplexity: the limit of 10 % is less than two standard "
                                    "errors of the change, 5.1 % each"),
                          HasSubstr("piqa: acc: the limit of 0.02 is less than two standard errors "
                                    "of the change, 0.018 each")));
  comparisons = {Perplexity(10, 300, 3)};
  EXPECT_THAT(Judge(threshold, comparisons).warnings, IsEmpty()) << "chance did not break it";
  comparisons = {Perplexity(10, 10, -1)};
  EXPECT_THAT(Judge(threshold, comparisons).warnings, ElementsAre(HasSubstr("is not known")));
}

TEST(DamageWarnings, CallADestroyedModelSo) {
  EXPECT_THAT(DamageWarnings({Perplexity(5, 50), Accuracy(1, 0)}), IsEmpty());
  EXPECT_THAT(DamageWarnings({Perplexity(5, 50.1), Perplexity(5, INFINITY), Perplexity(5, NAN)}),
              ElementsAre(HasSubstr("destroyed: wiki: perplexity 5 → 50.1, × 10"),
                          HasSubstr("destroyed"), HasSubstr("destroyed")));
}

TEST(WorstOf, IsTheFurthestPastItsLimit) {
  AcceptanceThreshold threshold;
  threshold.max_accuracy_drop = 0.02;
  threshold.max_perplexity_increase = 0.1;
  std::vector<Comparison> comparisons = {Perplexity(10, 12), Accuracy(0.4, 0.2)};
  EXPECT_EQ(WorstOf(comparisons), nullptr);
  Judge(threshold, comparisons);
  EXPECT_EQ(WorstOf(comparisons), &comparisons[1]);  // ten times the limit against twice
  EXPECT_EQ(RegressionText(comparisons[1]), "piqa: acc 0.400 → 0.200, more than 0.02 lower");
}

}  // namespace
}  // namespace svdllm
