#include "pipeline/sequences.h"

#include <set>

#include "job_fixture.h"

namespace svdllm {
namespace {

class SequencesTest : public JobFixture {
 protected:
  void SetUp() override {
    JobFixture::SetUp();
    tokenizer_ = std::make_unique<Tokenizer>(*Tokenizer::Load(model_));
  }
  std::unique_ptr<Tokenizer> tokenizer_;
};

TEST_F(SequencesTest, ReadsTextJsonAndJsonl) {
  using Documents = std::vector<std::string>;
  EXPECT_EQ(*LoadDocuments({dir_.Write("a.txt", "one\n\ntwo")}), Documents{"one\n\ntwo"});
  EXPECT_EQ(*LoadDocuments({dir_.Write("a.json", R"(["one", {"text": "two"}])")}),
            (Documents{"one", "two"}));
  EXPECT_EQ(
      *LoadDocuments({dir_.Write("a.jsonl", "\"one\"\n\n{\"body\": \"t\\u00e9\"}\n"), "body"}),
      (Documents{"one", "té"}));
}

TEST_F(SequencesTest, ErrorsNameFileAndLine) {
  EXPECT_STATUS(LoadDocuments({dir_.Write("b.jsonl", "\"a\"\n{\"text\": 3}\n")}), kInvalidArgument,
                kDatasetInvalid, {"b.jsonl: line 2", "'text'"});
  EXPECT_STATUS(LoadDocuments({dir_.Write("c.jsonl", "\"a\"\n\n{oops\n")}), kInvalidArgument,
                kDatasetInvalid, {"c.jsonl: line 3", "JSON"});
  EXPECT_STATUS(LoadDocuments({dir_.Write("d.json", "{}")}), kInvalidArgument, kDatasetInvalid,
                {"d.json", "array"});
  EXPECT_STATUS(LoadDocuments({dir_.Write("e.json", "[]")}), kInvalidArgument, kDatasetInvalid,
                {"e.json", "no text"});
  EXPECT_STATUS(LoadDocuments({dir_.File("none")}), kNotFound, kDatasetInvalid, {"none"});
}

TEST_F(SequencesTest, DrawsBySeedAndHoldsOut) {
  CalibrationSpec spec;
  spec.text.path = text_;
  spec.samples = 20;
  spec.seq_len = 64;
  const auto a = DrawCalibration(spec, 8, *tokenizer_), b = DrawCalibration(spec, 8, *tokenizer_);
  ASSERT_OK(a);
  EXPECT_EQ(a->calibration.ids, b->calibration.ids);
  EXPECT_EQ(a->calibration.count(), 20);
  EXPECT_EQ(a->calibration.tokens(), 20 * 64);
  EXPECT_EQ(a->held_out.count(), 8);
  spec.seed = 4;
  EXPECT_NE(DrawCalibration(spec, 8, *tokenizer_)->calibration.ids, a->calibration.ids);
  // What is held out is the end of the text, which no draw reaches.
  const std::vector<int32_t> all = tokenizer_->Encode(*ReadFile(text_), true);
  EXPECT_TRUE(std::equal(a->held_out.ids.begin(), a->held_out.ids.end(), all.end() - 8 * 64));
  spec.samples = 2000;
  const std::string held(reinterpret_cast<const char*>(&*(all.end() - 8 * 64)), 64 * 4);
  const auto many = DrawCalibration(spec, 8, *tokenizer_);
  const std::string drawn(reinterpret_cast<const char*>(many->calibration.ids.data()),
                          many->calibration.ids.size() * 4);
  EXPECT_EQ(drawn.find(held), std::string::npos);
}

TEST_F(SequencesTest, DocumentsKeepTheirOwnLengths) {
  std::string lines;
  for (int i = 0; i < 10; ++i) lines += "\"" + std::string(static_cast<size_t>(i), 'x') + "\"\n";
  CalibrationSpec spec;
  spec.text = {dir_.Write("docs.jsonl", lines), "text", Packing::kDocuments};
  spec.first_document = 2;
  spec.samples = 3;
  spec.seq_len = 4;
  const auto data = DrawCalibration(spec, 1, *tokenizer_);
  ASSERT_OK(data);
  // Documents 2, 3 and 4: BOS and as many letters, cut at four tokens.
  EXPECT_EQ(data->calibration.offsets, (std::vector<int64_t>{0, 3, 7, 11}));
  EXPECT_EQ(data->calibration.ids[0], 256);
  EXPECT_EQ(data->held_out.count(), 4);
  spec.first_document = 100;
  EXPECT_STATUS(DrawCalibration(spec, 1, *tokenizer_), kInvalidArgument, kCalibrationInvalid,
                {"docs.jsonl", "100"});
}

TEST_F(SequencesTest, WindowsCoverTheTextWithoutOverlap) {
  PerplexitySpec spec;
  spec.text.path = dir_.Write("w.txt", "abcdefghij");  // eleven tokens with BOS
  spec.seq_len = 4;
  auto data = CutWindows(spec, *tokenizer_);
  ASSERT_OK(data);
  EXPECT_EQ(data->windows.offsets, (std::vector<int64_t>{0, 4, 8}));
  EXPECT_EQ(data->leftover_tokens, 3);
  spec.limit = 1;
  EXPECT_EQ(CutWindows(spec, *tokenizer_)->windows.count(), 1);
  spec.seq_len = 100;  // a short text is one window
  data = CutWindows(spec, *tokenizer_);
  EXPECT_EQ(data->windows.offsets, (std::vector<int64_t>{0, 11}));
  EXPECT_EQ(data->leftover_tokens, 0);
}

}  // namespace
}  // namespace svdllm
