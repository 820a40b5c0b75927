// What is said of calibrations that do not give what was asked for.
#include <gmock/gmock.h>

#include "checkpoint/checkpoint.h"
#include "corpus/calibration.h"
#include "tests/support/packed.h"
#include "tests/support/status_matchers.h"
#include "tests/support/temp_dir.h"
#include "tests/support/tiny_checkpoint.h"

namespace svdllm {
namespace {

using ::testing::AllOf;
using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::IsEmpty;

class CalibrationCheckTest : public ::testing::Test {
 protected:
  void SetUp() override {
    testing::WriteTinyCheckpoint(dir_.File("model"));
    tokenizer_ = std::make_unique<Tokenizer>(*Tokenizer::Load(dir_.File("model")));
    config_ = Checkpoint::Open(dir_.File("model"))->config();
    spec_.samples = 8;
    spec_.seq_len = 32;
  }

  // Of spec_ as it is drawn and as it is checked beforehand, which must be the same.
  CalibrationData Draw(int64_t held_out = 2) {
    const auto sampler = [](int64_t count, int64_t length, uint64_t) -> absl::StatusOr<Sequences> {
      Sequences sequences;
      const std::vector<int32_t> one(static_cast<size_t>(length), 7);
      for (int64_t i = 0; i < count; ++i) sequences.Append(one);
      return sequences;
    };
    const auto data = DrawCalibration(spec_, held_out, *tokenizer_, config_, sampler);
    EXPECT_OK(data);
    const auto check = CheckCalibration(spec_, held_out, *tokenizer_, config_);
    EXPECT_OK(check);
    if (!data.ok() || !check.ok()) return {};
    EXPECT_EQ(check->warnings, data->warnings);
    EXPECT_TRUE(check->exact);
    int64_t sequences = 0, tokens = 0;
    for (size_t i = 0; i < data->sources.size(); ++i) {
      const SourceUse &used = data->sources[i], &expected = check->sources.at(i);
      EXPECT_EQ(expected.documents, used.documents);
      EXPECT_EQ(expected.sequences, used.sequences);
      EXPECT_EQ(expected.tokens, used.tokens);
      EXPECT_EQ(expected.available_tokens, used.available_tokens);
      EXPECT_EQ(expected.start_tokens, used.start_tokens);
      sequences += used.sequences;
      tokens += used.tokens;
    }
    EXPECT_EQ(sequences, data->calibration.count());
    EXPECT_EQ(sequences, check->sequences());
    EXPECT_EQ(tokens, data->calibration.tokens());
    return *data;
  }
  std::string Lines(int count) {
    std::string lines;
    for (int i = 0; i < count; ++i) lines += "\"document " + std::to_string(i) + "\"\n";
    return lines;
  }

  testing::TempDir dir_;
  std::unique_ptr<Tokenizer> tokenizer_;
  ModelConfig config_;
  CalibrationSpec spec_;
};

TEST_F(CalibrationCheckTest, ATextWithEnoughIsNoMatter) {
  spec_.sources = {{{dir_.Write("a.txt", std::string(4999, 'x'))}}};  // a token per letter, and BOS
  const CalibrationData data = Draw();
  EXPECT_THAT(data.warnings, IsEmpty());
  ASSERT_EQ(data.sources.size(), 1u);
  EXPECT_EQ(data.sources[0].documents, 1);
  EXPECT_EQ(data.sources[0].sequences, 8);
  EXPECT_EQ(data.sources[0].tokens, 8 * 32);
  EXPECT_EQ(data.sources[0].available_tokens, 5000 - 2 * 32);
  EXPECT_EQ(data.sources[0].different_tokens(), 8 * 32);
}

TEST_F(CalibrationCheckTest, SequencesThatOverlapAreSaid) {
  spec_.sources = {{{dir_.Write("a.txt", std::string(199, 'x'))}}};
  const CalibrationData data = Draw();
  EXPECT_THAT(data.warnings,
              ElementsAre("calibration: a.txt: 8 sequences of 32 tokens are 256, drawn from 200: "
                          "they overlap; a longer text or fewer samples would serve better",
                          "calibration: a.txt: nothing of it is left over to measure its "
                          "perplexity on"));
  EXPECT_EQ(data.sources[0].available_tokens, 200);
  EXPECT_EQ(data.sources[0].different_tokens(), 200);
  EXPECT_THAT(Draw(/*held_out=*/0).warnings, ElementsAre(HasSubstr("they overlap")));
}

TEST_F(CalibrationCheckTest, FewerDocumentsThanSamplesAreSaid) {
  config_.intermediate_size = config_.hidden_size;  // few tokens are enough
  spec_.sources = {{{dir_.Write("a.jsonl", Lines(3) + "\"\"\n"), "text", Packing::kDocuments}}};
  CalibrationData data = Draw();
  EXPECT_THAT(data.warnings,
              ElementsAre("calibration: a.jsonl: it has 3 documents of two tokens or more, fewer "
                          "than the 8 asked for: so many sequences are used",
                          HasSubstr("nothing of it is left over")));
  EXPECT_EQ(data.sources[0].documents, 4);
  EXPECT_EQ(data.sources[0].sequences, 3);
  EXPECT_EQ(data.sources[0].available_tokens, data.sources[0].tokens);
  spec_.first_document = 1;
  EXPECT_THAT(Draw().warnings, ElementsAre(HasSubstr("2 documents of two tokens or more behind "
                                                     "document 1, fewer than the 8"),
                                           HasSubstr("left over")));
  // Just enough: all of them calibrate, none is left.
  spec_.first_document = 0;
  spec_.samples = 3;
  EXPECT_THAT(Draw().warnings, ElementsAre(HasSubstr("left over")));
  spec_.samples = 2;
  EXPECT_THAT(Draw().warnings, IsEmpty());
}

TEST_F(CalibrationCheckTest, FewerTokensThanALayersInputsAreSaid) {
  config_.intermediate_size = 5000;
  spec_.sources = {{{dir_.Write("a.txt", std::string(9999, 'x'))}}};
  EXPECT_THAT(
      Draw().warnings,
      ElementsAre("calibration: 256 different tokens are fewer than the 5,000 inputs of the "
                  "widest layer, which so few cannot cover"));
  // Of all sources together; what overlaps does not count twice.
  spec_.samples = 160;
  spec_.sources.push_back({{}, true});
  EXPECT_THAT(Draw().warnings, IsEmpty());
  spec_.sources[0].text.path = dir_.Write("b.txt", std::string(399, 'x'));
  EXPECT_THAT(Draw().warnings,
              ElementsAre(HasSubstr("overlap"), HasSubstr("2,928 different tokens")));
}

TEST_F(CalibrationCheckTest, WhatCannotWorkIsRefusedByBothAlike) {
  const auto refuses = [&](const std::string& path, std::initializer_list<std::string_view> parts) {
    spec_.sources = {{{path}}};
    EXPECT_STATUS(DrawCalibration(spec_, 2, *tokenizer_, config_), kInvalidArgument,
                  kCalibrationInvalid, parts);
    EXPECT_STATUS(CheckCalibration(spec_, 2, *tokenizer_, config_), kInvalidArgument,
                  kCalibrationInvalid, parts);
  };
  refuses(dir_.Write("a.txt", "few"), {"a.txt has 4 tokens, fewer than one sequence of 32"});
  refuses(dir_.Write("a.parquet", "PAR1\x15\x04"), {"calibration: ", "a.parquet", "Parquet"});
  refuses(dir_.Write("a.jsonl", "\"a\"\noops\n"), {"a.jsonl: line 2"});
  refuses(dir_.path(), {"a directory"});
  spec_.sources = {{{dir_.Write("e.jsonl", "\"\"\n\"x\"\n"), "text", Packing::kDocuments}}};
  spec_.first_document = 2;
  EXPECT_STATUS(CheckCalibration(spec_, 2, *tokenizer_, config_), kInvalidArgument,
                kCalibrationInvalid, {"e.jsonl has no document"});
}

TEST_F(CalibrationCheckTest, WindowsThatBeginWithTheirOwnTokens) {
  spec_.window_start = WindowStart::kWindow;
  config_.intermediate_size = 240;
  spec_.sources = {{{dir_.Write("a.txt", std::string(800, 'x'))}}};
  const CalibrationData data = Draw();
  EXPECT_THAT(data.warnings, IsEmpty());
  EXPECT_EQ(data.window_start, WindowStart::kWindow);
  EXPECT_EQ(data.sources[0].tokens, 8 * 32);
  EXPECT_EQ(data.sources[0].start_tokens, 8);
  EXPECT_EQ(data.sources[0].available_tokens, 800 - 2 * 31);
  EXPECT_EQ(data.sources[0].different_tokens(), 8 * 31);
  config_.intermediate_size = 8 * 31 + 1;
  EXPECT_THAT(Draw().warnings,
              ElementsAre(HasSubstr("248 different tokens are fewer than the 249")));
  // 31 letters are one sequence, with their beginning.
  config_.intermediate_size = 1;
  config_.hidden_size = 1;
  config_.num_heads = 1;
  config_.head_dim = 1;
  spec_.samples = 1;
  spec_.sources[0].text.path = dir_.Write("b.txt", std::string(31, 'x'));
  EXPECT_THAT(Draw(/*held_out=*/0).warnings, IsEmpty());
  spec_.sources[0].text.path = dir_.Write("c.txt", std::string(30, 'x'));
  EXPECT_STATUS(CheckCalibration(spec_, 0, *tokenizer_, config_), kInvalidArgument,
                kCalibrationInvalid, {"has 31 tokens, fewer than one sequence of 32"});
}

// What nothing reads is not drawn, and is not too little.
TEST_F(CalibrationCheckTest, WhereNoneIsNeededNoneIsDrawn) {
  spec_.needed = false;
  spec_.sources = {{{dir_.Write("a.txt", std::string(700, 'x'))}}, {{}, true}};
  spec_.samples = 200;
  config_.intermediate_size = 5000;
  CalibrationData data = Draw();
  EXPECT_THAT(data.warnings, IsEmpty());
  EXPECT_EQ(data.calibration.count(), 0);
  EXPECT_EQ(data.held_out.at(0).windows.count(), 2);
  spec_.sources = {{{dir_.Write("a.jsonl", Lines(9)), "text", Packing::kDocuments}}};
  spec_.samples = 5;
  data = Draw();
  EXPECT_EQ(data.calibration.count(), 0);
  EXPECT_EQ(data.held_out.at(0).windows.count(), 4) << "behind those that another method draws";
  spec_.samples = 12;
  EXPECT_THAT(Draw().warnings, ElementsAre(HasSubstr("left over")));
  spec_.sources.clear();
  spec_.samples = 0;
  EXPECT_THAT(Draw().warnings, IsEmpty());
}

// Where tokens are long, or the first document comes late, more is looked at before anything is
// taken for granted.
TEST_F(CalibrationCheckTest, WhatTheBeginningDoesNotTellIsLookedFor) {
  std::string lines(5 << 20, '\n');
  lines.replace(0, 3, "\"a\"");
  spec_.sources = {{{dir_.Write("late.jsonl", lines + "\"\"\n"), "text", Packing::kDocuments}}};
  spec_.first_document = 1;
  EXPECT_STATUS(CheckCalibration(spec_, 2, *tokenizer_, config_), kInvalidArgument,
                kCalibrationInvalid, {"late.jsonl has no document"});
  // Documents that are far from being enough, but for the last.
  lines.clear();
  while (lines.size() < (5 << 20)) lines += Lines(10000);
  const auto count = std::count(lines.begin(), lines.end(), '\n');
  spec_.sources[0].text.path = dir_.Write("many.jsonl", lines);
  spec_.first_document = count - 3;
  auto check = CheckCalibration(spec_, 2, *tokenizer_, config_);
  ASSERT_OK(check);
  EXPECT_EQ(check->sequences(), 3);
  spec_.first_document = count;
  EXPECT_STATUS(CheckCalibration(spec_, 2, *tokenizer_, config_), kInvalidArgument,
                kCalibrationInvalid, {"many.jsonl has no document"});
  // Half of them passed over: the other half is enough.
  spec_.first_document = count / 2;
  EXPECT_THAT(CheckCalibration(spec_, 2, *tokenizer_, config_)->warnings, IsEmpty());
}

TEST_F(CalibrationCheckTest, OfALargeTextTheBeginningIsEnough) {
  const std::string text(static_cast<size_t>(kCheckedBytes) + (1 << 20), 'x');
  // What is wrong is found far behind what is tokenised, but not at any distance.
  spec_.sources = {{{dir_.Write("a.txt", text + "\xff")}}};
  EXPECT_STATUS(CheckCalibration(spec_, 2, *tokenizer_, config_), kInvalidArgument,
                kCalibrationInvalid, {"a.txt", "not UTF-8 (0xFF)"});
  spec_.sources = {{{dir_.Write("b.txt", std::string(kReadBytes, 'x') + "\xff")}}};
  EXPECT_OK(CheckCalibration(spec_, 2, *tokenizer_, config_));
  spec_.sources = {{{dir_.Write("a.txt", text)}}};
  auto check = CheckCalibration(spec_, 2, *tokenizer_, config_);
  ASSERT_OK(check);
  EXPECT_FALSE(check->exact);
  EXPECT_THAT(check->warnings, IsEmpty());
  EXPECT_EQ(check->sources[0].documents, 1);
  EXPECT_NEAR(static_cast<double>(check->sources[0].available_tokens),
              static_cast<double>(text.size()), 1e5);
  spec_.samples = 1000000;
  check = CheckCalibration(spec_, 2, *tokenizer_, config_);
  ASSERT_OK(check);
  EXPECT_THAT(check->warnings,
              ElementsAre(AllOf(HasSubstr("drawn from about 5,"), HasSubstr("overlap"))));

  std::string lines;
  while (lines.size() < text.size()) lines += Lines(10000);
  spec_.sources = {{{dir_.Write("a.jsonl", lines), "text", Packing::kDocuments}}};
  check = CheckCalibration(spec_, 2, *tokenizer_, config_);
  ASSERT_OK(check);
  EXPECT_LT(check->sources[0].sequences, 1000000);
  EXPECT_GT(check->sources[0].sequences, 200000);
  EXPECT_THAT(check->warnings, ElementsAre(HasSubstr("it has about"), HasSubstr("left over")));
  spec_.samples = 8;
  EXPECT_THAT(CheckCalibration(spec_, 2, *tokenizer_, config_)->warnings, IsEmpty());
}

}  // namespace
}  // namespace svdllm
