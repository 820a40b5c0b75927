#include "client/cli/values.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "base/suggest.h"
#include "svdllm/v1/compression.pb.h"

namespace svdllm::cli {
namespace {

using testing::ElementsAre;
using testing::HasSubstr;
using testing::IsEmpty;

// What is wrong with the text; empty where nothing is.
std::string ErrorOf(const ValueReader& read, const std::string& text) {
  return std::string(read(text).message());
}

TEST(ValuesTest, IntegersAreDecimalAndInTheirRange) {
  int64_t value = -1;
  const ValueReader read = IntegerValue(
      1, [&](int64_t n) { value = n; }, 100);
  EXPECT_THAT(ErrorOf(read, "100"), IsEmpty());
  EXPECT_EQ(value, 100);
  EXPECT_THAT(ErrorOf(read, "010"), IsEmpty());
  EXPECT_EQ(value, 10) << "no octal numbers";
  for (const char* text : {"0", "-1", "1.5", "x", "0x10", "99999999999999999999"}) {
    EXPECT_EQ(ErrorOf(read, text), "is not an integer of at least 1") << text;
  }
  EXPECT_EQ(ErrorOf(read, "101"), "is above 100");
  EXPECT_EQ(value, 10) << "what is wrong is not taken";
}

TEST(ValuesTest, ListsAreTakenWholeOrNotAtAll) {
  std::vector<double> reals;
  const ValueReader read = RealList([&](double real) { reals.push_back(real); });
  EXPECT_THAT(ErrorOf(read, "0.8,0.6"), IsEmpty());
  EXPECT_THAT(ErrorOf(read, "0.5"), IsEmpty());
  EXPECT_EQ(ErrorOf(read, "0.8,,0.6"), "has '', which is not a number");
  EXPECT_EQ(ErrorOf(read, "0.1,x"), "has 'x', which is not a number");
  EXPECT_THAT(reals, ElementsAre(0.8, 0.6, 0.5));

  std::vector<int32_t> sizes;
  const ValueReader read_sizes = SizeList([&](int32_t size) { sizes.push_back(size); });
  EXPECT_THAT(ErrorOf(read_sizes, "1,16"), IsEmpty());
  EXPECT_THAT(ErrorOf(read_sizes, ""), IsEmpty());
  for (const char* text : {"0", "1,", "1,x", "-1", "1.5"}) {
    EXPECT_THAT(ErrorOf(read_sizes, text), HasSubstr("which is not an integer of at least 1"));
  }
  EXPECT_THAT(sizes, ElementsAre(1, 16));

  std::vector<std::string> words;
  EXPECT_THAT(ErrorOf(WordList(&words), "a,b"), IsEmpty());
  EXPECT_THAT(ErrorOf(WordList(&words), ","), HasSubstr("names nothing"));
  EXPECT_THAT(words, ElementsAre("a", "b"));
}

TEST(ValuesTest, OthersSayWhatTheyAreNot) {
  double real = 0;
  EXPECT_THAT(ErrorOf(RealValue([&](double r) { real = r; }), "1e-3"), IsEmpty());
  EXPECT_EQ(real, 1e-3);
  EXPECT_EQ(ErrorOf(RealValue([](double) {}), "0.1,0.2"), "is not a number");

  double seconds = 0;
  const ValueReader duration = DurationValue([&](double s) { seconds = s; });
  EXPECT_THAT(ErrorOf(duration, "1h30m"), IsEmpty());
  EXPECT_EQ(seconds, 5400);
  for (const char* text : {"10", "0s", "-1s"}) {
    EXPECT_THAT(ErrorOf(duration, text), HasSubstr("90s")) << text;
  }

  std::string label;
  const ValueReader read = LabelValue(
      [&](const std::string& key, const std::string& value) { label = key + " is " + value; });
  EXPECT_THAT(ErrorOf(read, "b=x=y"), IsEmpty());
  EXPECT_EQ(label, "b is x=y");
  EXPECT_THAT(ErrorOf(read, "x"), HasSubstr("key=value"));
  EXPECT_THAT(ErrorOf(read, "=x"), HasSubstr("key=value"));
}

TEST(ValuesTest, EnumsListTheirValuesAndSuggestOne) {
  v1::Packing packing = {};
  const ValueReader read = EnumValue<v1::Packing>([&](v1::Packing value) { packing = value; });
  for (const char* text : {"documents", "DOCUMENTS", "PACKING_DOCUMENTS"}) {
    packing = {};
    EXPECT_THAT(ErrorOf(read, text), IsEmpty());
    EXPECT_EQ(packing, v1::PACKING_DOCUMENTS) << text;
  }
  EXPECT_EQ(ErrorOf(read, "document"),
            "is not one of concatenated|documents, did you mean documents?");
  EXPECT_THAT(ErrorOf(read, "PACKING_DOKUMENTS"), HasSubstr("did you mean documents?"));
  EXPECT_EQ(ErrorOf(read, "unspecified"), "is not one of concatenated|documents");
}

TEST(SuggestTest, OnlyWhatIsCloseIsSuggested) {
  const std::vector<std::string> names = {"keep_ratio", "method", "model"};
  EXPECT_EQ(Closest("keep_ratios", names), "keep_ratio");
  EXPECT_EQ(Closest("modle", names), "model");
  EXPECT_EQ(Closest("METHOD", names), "method");
  EXPECT_EQ(Closest("keep", names), "keep_ratio");
  EXPECT_EQ(Closest("zzz", names), "");
  EXPECT_EQ(Closest("", names), "");
}

}  // namespace
}  // namespace svdllm::cli
