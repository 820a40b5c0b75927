#include <gmock/gmock.h>

#include <nlohmann/json.hpp>
#include <set>

#include "checkpoint/checkpoint.h"
#include "corpus/calibration.h"
#include "corpus/windows.h"
#include "tests/support/job_fixture.h"
#include "tests/support/packed.h"

namespace svdllm {
namespace {

class SequencesTest : public JobFixture {
 protected:
  void SetUp() override {
    JobFixture::SetUp();
    tokenizer_ = std::make_unique<Tokenizer>(*Tokenizer::Load(model_));
    config_ = Checkpoint::Open(model_)->config();
  }
  std::unique_ptr<Tokenizer> tokenizer_;
  ModelConfig config_;
};

TEST_F(SequencesTest, DrawsBySeedAndHoldsOut) {
  CalibrationSpec spec;
  spec.sources = {{{text_}}};
  spec.samples = 20;
  spec.seq_len = 64;
  const auto a = DrawCalibration(spec, 8, *tokenizer_, config_),
             b = DrawCalibration(spec, 8, *tokenizer_, config_);
  ASSERT_OK(a);
  EXPECT_EQ(a->calibration.ids, b->calibration.ids);
  EXPECT_EQ(a->calibration.count(), 20);
  EXPECT_EQ(a->calibration.tokens(), 20 * 64);
  ASSERT_EQ(a->held_out.size(), 1u);
  const TextWindows& held_out = a->held_out[0];
  EXPECT_EQ(held_out.name, "held_out_perplexity");
  EXPECT_TRUE(held_out.held_out);
  EXPECT_EQ(held_out.windows.count(), 8);
  spec.seed = 4;
  EXPECT_NE(DrawCalibration(spec, 8, *tokenizer_, config_)->calibration.ids, a->calibration.ids);
  // What is held out is the end of the text, which no draw reaches.
  const std::vector<int32_t> all = *tokenizer_->Encode(*ReadFile(text_), true);
  EXPECT_TRUE(
      std::equal(held_out.windows.ids.begin(), held_out.windows.ids.end(), all.end() - 8 * 64));
  spec.samples = 2000;
  const std::string held(reinterpret_cast<const char*>(&*(all.end() - 8 * 64)), 64 * 4);
  const auto many = DrawCalibration(spec, 8, *tokenizer_, config_);
  const std::string drawn(reinterpret_cast<const char*>(many->calibration.ids.data()),
                          many->calibration.ids.size() * 4);
  EXPECT_EQ(drawn.find(held), std::string::npos);
}

TEST_F(SequencesTest, DocumentsKeepTheirOwnLengths) {
  std::string lines;
  for (int i = 0; i < 10; ++i) lines += "\"" + std::string(static_cast<size_t>(i), 'x') + "\"\n";
  CalibrationSpec spec;
  spec.sources = {{{dir_.Write("docs.jsonl", lines), "text", Packing::kDocuments}}};
  spec.first_document = 2;
  spec.samples = 3;
  spec.seq_len = 4;
  const auto data = DrawCalibration(spec, 1, *tokenizer_, config_);
  ASSERT_OK(data);
  // Documents 2, 3 and 4: BOS and as many letters, cut at four tokens.
  EXPECT_EQ(data->calibration.offsets, (std::vector<int64_t>{0, 3, 7, 11}));
  EXPECT_EQ(data->calibration.ids[0], 256);
  EXPECT_EQ(data->held_out.at(0).windows.count(), 4);
  spec.first_document = 100;
  EXPECT_STATUS(DrawCalibration(spec, 1, *tokenizer_, config_), kInvalidArgument,
                kCalibrationInvalid, {"docs.jsonl", "100"});
}

TEST_F(SequencesTest, SamplesAreSplitByWeightAndNoneIsLeftOut) {
  const auto split = [](int64_t samples, const std::vector<double>& weights) {
    std::vector<CalibrationSource> sources(weights.size());
    for (size_t i = 0; i < weights.size(); ++i) sources[i].weight = weights[i];
    return SplitSamples(samples, sources);
  };
  using Shares = std::vector<int64_t>;
  EXPECT_EQ(split(256, {7}), Shares{256});
  EXPECT_EQ(split(10, {1, 1}), (Shares{5, 5}));
  EXPECT_EQ(split(10, {1, 1, 1}), (Shares{4, 3, 3})) << "the first of equal remainders";
  EXPECT_EQ(split(10, {0.5, 0.3, 0.2}), (Shares{5, 3, 2}));
  EXPECT_EQ(split(7, {0.55, 0.45}), (Shares{4, 3}));
  EXPECT_EQ(split(8, {1e-6, 1e6, 1}), (Shares{1, 6, 1}));
  EXPECT_EQ(split(3, {1, 1e6, 1}), (Shares{1, 1, 1}));
}

TEST_F(SequencesTest, SourcesAreDrawnEachAsIfAlone) {
  std::string other_text;
  for (int i = 0; i < 400; ++i) other_text += "Another text, with numbers: " + std::to_string(i);
  const std::string other = dir_.Write("other.text.txt", other_text);
  std::string lines;
  for (int i = 0; i < 40; ++i) lines += "\"document " + std::to_string(i) + "\"\n";
  const std::string documents = dir_.Write("docs.jsonl", lines);
  CalibrationSpec spec;
  spec.samples = 20;
  spec.seq_len = 64;
  spec.sources = {{{text_}, false, 3},
                  {{documents, "text", Packing::kDocuments}, false, 1},
                  {{}, true, 2},
                  {{other}, false, 4}};
  uint64_t sampled_with = 0;
  const auto sampler = [&](int64_t count, int64_t seq_len, uint64_t seed) {
    sampled_with = seed;
    Sequences sequences;
    for (int64_t i = 0; i < count; ++i) {
      sequences.Append(std::vector<int32_t>(static_cast<size_t>(seq_len), 7));
    }
    return absl::StatusOr<Sequences>(sequences);
  };
  const auto data = DrawCalibration(spec, 8, *tokenizer_, config_, sampler);
  ASSERT_OK(data);
  EXPECT_EQ(sampled_with, spec.seed + 2);
  EXPECT_EQ(data->calibration.count(), 20);

  // 6, 2, 4 and 8 sequences in the order of the sources.
  std::vector<int32_t> expected;
  const auto alone = [&](size_t source, int64_t samples) {
    CalibrationSpec one = spec;
    one.sources = {spec.sources[source]};
    one.samples = samples;
    one.seed = spec.seed + source;
    const CalibrationData drawn = *DrawCalibration(one, 8, *tokenizer_, config_, sampler);
    expected.insert(expected.end(), drawn.calibration.ids.begin(), drawn.calibration.ids.end());
  };
  alone(0, 6), alone(1, 2), alone(2, 4), alone(3, 8);
  EXPECT_EQ(data->calibration.ids, expected);

  std::string names;
  for (const TextWindows& held_out : data->held_out) {
    names += held_out.name + ":" + std::to_string(held_out.windows.count()) + " ";
  }
  EXPECT_EQ(names,
            "held_out_perplexity_text:8 held_out_perplexity_docs:32 "
            "held_out_perplexity_other.text:8 ");

  // The same text twice: not the same sequences, and two names.
  spec.sources = {{{text_}}, {{text_}}};
  const auto twice = DrawCalibration(spec, 8, *tokenizer_, config_);
  ASSERT_OK(twice);
  EXPECT_FALSE(std::equal(twice->calibration.ids.begin(), twice->calibration.ids.begin() + 640,
                          twice->calibration.ids.begin() + 640));
  EXPECT_EQ(twice->held_out.at(1).name, "held_out_perplexity_text_2");
}

TEST_F(SequencesTest, ABadSourceIsNamed) {
  CalibrationSpec spec;
  spec.samples = 4;
  spec.seq_len = 64;
  spec.sources = {{{text_}}, {{dir_.Write("short.txt", "few")}}};
  EXPECT_STATUS(DrawCalibration(spec, 8, *tokenizer_, config_), kInvalidArgument,
                kCalibrationInvalid, {"short.txt", "4 tokens"});
  // A source without a document is not covered up by another's.
  spec.sources[1] = {{dir_.Write("empty.jsonl", "\"\"\n\"x\"\n"), "text", Packing::kDocuments}};
  spec.first_document = 2;
  EXPECT_STATUS(DrawCalibration(spec, 8, *tokenizer_, config_), kInvalidArgument,
                kCalibrationInvalid, {"empty.jsonl"});
  spec.sources = {{{text_}}, {{}, true}};
  const auto failing = [](int64_t, int64_t, uint64_t) -> absl::StatusOr<Sequences> {
    return absl::CancelledError("enough");
  };
  EXPECT_EQ(DrawCalibration(spec, 8, *tokenizer_, config_, failing).status().code(),
            absl::StatusCode::kCancelled);
}

TEST_F(SequencesTest, WindowsCoverTheTextWithoutOverlap) {
  PerplexitySpec spec;
  spec.text.path = dir_.Write("w.txt", "abcdefghij");  // eleven tokens with BOS
  spec.seq_len = 4;
  auto data = CutWindows(spec, *tokenizer_, config_);
  ASSERT_OK(data);
  EXPECT_EQ(data->windows.offsets, (std::vector<int64_t>{0, 4, 8}));
  EXPECT_EQ(data->leftover_tokens, 3);
  spec.limit = 1;
  EXPECT_EQ(CutWindows(spec, *tokenizer_, config_)->windows.count(), 1);
  spec.seq_len = 100;  // a short text is one window
  data = CutWindows(spec, *tokenizer_, config_);
  EXPECT_EQ(data->windows.offsets, (std::vector<int64_t>{0, 11}));
  EXPECT_EQ(data->leftover_tokens, 0);
}

// Eleven letters, of which each window takes three behind its own BOS.
TEST_F(SequencesTest, EveryWindowBeginsWithWhatATextBeginsWith) {
  const auto ids = [&](const char* text) { return *tokenizer_->Encode(text, true); };
  ASSERT_EQ(ids("a").size(), 2u) << "BOS and a token for each letter";
  PerplexitySpec spec;
  spec.text.path = dir_.Write("w.txt", "abcdefghijk");
  spec.seq_len = 4;
  spec.window_start = WindowStart::kWindow;
  auto data = CutWindows(spec, *tokenizer_, config_);
  ASSERT_OK(data);
  std::vector<int32_t> expected;
  for (const char* part : {"abc", "def", "ghi"}) {
    for (const int32_t id : ids(part)) expected.push_back(id);
  }
  EXPECT_EQ(data->windows.ids, expected);
  EXPECT_EQ(data->windows.offsets, (std::vector<int64_t>{0, 4, 8, 12}));
  EXPECT_EQ(data->leftover_tokens, 2);
  EXPECT_EQ(data->seq_len, 4);
  EXPECT_EQ(data->window_start, WindowStart::kWindow);
  spec.seq_len = 100;  // a short text is one window
  data = CutWindows(spec, *tokenizer_, config_);
  EXPECT_EQ(data->windows.ids, ids("abcdefghijk"));
  EXPECT_EQ(data->leftover_tokens, 0);
  // As before where nothing is said, and of documents, which begin so anyway.
  spec.window_start.reset();
  spec.seq_len = 4;
  data = CutWindows(spec, *tokenizer_, config_);
  EXPECT_EQ(data->windows.offsets, (std::vector<int64_t>{0, 4, 8, 12}));
  EXPECT_EQ(data->windows.ids[4], ids("d")[1]) << "behind BOS, a, b and c";
  EXPECT_EQ(data->window_start, WindowStart::kText);
  spec.text.packing = Packing::kDocuments;
  data = CutWindows(spec, *tokenizer_, config_);
  EXPECT_EQ(data->windows.ids, ids("abc"));
  EXPECT_FALSE(data->window_start.has_value());
  // One letter behind a BOS is predicted; a window of one token has nothing to predict.
  spec.text = {dir_.Write("one.txt", "a")};
  spec.window_start = WindowStart::kWindow;
  spec.seq_len = 2;
  EXPECT_EQ(CutWindows(spec, *tokenizer_, config_)->windows.ids, ids("a"));
  spec.seq_len = 1;
  EXPECT_STATUS(CutWindows(spec, *tokenizer_, config_), kInvalidArgument, kInvalidField,
                {"one.txt: seq_len 1 leaves no room"});
}

TEST_F(SequencesTest, CalibrationsWindowsBeginSoToo) {
  CalibrationSpec spec;
  spec.sources = {{{text_}}};
  spec.samples = 20;
  spec.seq_len = 64;
  spec.window_start = WindowStart::kWindow;
  const auto data = DrawCalibration(spec, 8, *tokenizer_, config_);
  ASSERT_OK(data);
  EXPECT_EQ(data->calibration.tokens(), 20 * 64);
  const std::vector<int32_t> all = *tokenizer_->Encode(*ReadFile(text_), false);
  for (int64_t s = 0; s < 20; ++s) {
    const auto begin = data->calibration.ids.begin() + s * 64;
    EXPECT_EQ(*begin, 256);
    const auto found = std::search(all.begin(), all.end() - 8 * 63, begin + 1, begin + 64);
    EXPECT_NE(found, all.end() - 8 * 63) << "a part of the text that is not held out";
  }
  const TextWindows& held_out = data->held_out.at(0);
  EXPECT_EQ(held_out.window_start, WindowStart::kWindow);
  EXPECT_EQ(held_out.seq_len, 64);
  for (int64_t w = 0; w < 8; ++w) {
    const auto begin = held_out.windows.ids.begin() + w * 64;
    EXPECT_EQ(*begin, 256);
    EXPECT_TRUE(std::equal(begin + 1, begin + 64, all.end() - (8 - w) * 63));
  }
  ASSERT_EQ(data->data.size(), 1u);
  EXPECT_EQ(data->data[0].uri, text_);
  EXPECT_EQ(data->data[0].sha256, Sha256(*ReadFile(text_)));
  EXPECT_EQ(data->data[0].bytes, static_cast<int64_t>(ReadFile(text_)->size()));
}

// A tokenizer that puts nothing in front of a text can put nothing in front of a window.
TEST_F(SequencesTest, WithoutATokenOfItsOwnAWindowIsAsOfTheText) {
  const std::string path = model_ + "/tokenizer.json";
  nlohmann::json tokenizer = nlohmann::json::parse(*ReadFile(path));
  tokenizer["post_processor"] = nullptr;
  ASSERT_OK(WriteFileAtomic(path, tokenizer.dump()));
  const auto plain = Tokenizer::Load(model_);
  ASSERT_OK(plain);
  ASSERT_TRUE(plain->start_ids().empty());
  PerplexitySpec spec;
  spec.text.path = text_;
  spec.seq_len = 64;
  const auto text = CutWindows(spec, *plain, config_);
  spec.window_start = WindowStart::kWindow;
  const auto window = CutWindows(spec, *plain, config_);
  ASSERT_OK(window);
  EXPECT_EQ(window->windows.ids, text->windows.ids);
  EXPECT_EQ(window->window_start, WindowStart::kText) << "what was done";
  CalibrationSpec calibration;
  calibration.sources = {{{text_}}};
  calibration.seq_len = 64;
  calibration.samples = 4;
  calibration.window_start = WindowStart::kWindow;
  const auto data = DrawCalibration(calibration, 8, *plain, config_);
  ASSERT_OK(data);
  EXPECT_EQ(data->window_start, WindowStart::kText);
  EXPECT_THAT(data->warnings,
              ::testing::Contains(::testing::HasSubstr("puts no token in front of a text")));
}

// What a job would end with is said beforehand, as far as the beginning shows it.
TEST_F(SequencesTest, WindowsAreCheckedWithoutTheirText) {
  PerplexitySpec spec;
  spec.seq_len = 8;
  const auto check = [&](const std::string& path, int64_t read_bytes = 1 << 20) {
    spec.text.path = path;
    return CheckWindows(spec, read_bytes, *tokenizer_, config_);
  };
  EXPECT_OK(check(text_));
  EXPECT_STATUS(check(dir_.Write("a.parquet", "PAR1\x15\x04")), kInvalidArgument, kDatasetInvalid,
                {"a.parquet", "Parquet"});
  EXPECT_STATUS(check(dir_.Write("a.jsonl", "\"a\"\n{\"no\": 1}\n")), kInvalidArgument,
                kDatasetInvalid, {"a.jsonl: line 2"});
  EXPECT_STATUS(check(dir_.File("none.txt")), kNotFound, kDatasetInvalid, {"none.txt"});
  spec.text.packing = Packing::kDocuments;
  const std::string few = dir_.Write("few.jsonl", "\"\"\n\"\"\n\"x");
  EXPECT_STATUS(check(dir_.Write("empty.jsonl", "\"\"\n")), kInvalidArgument, kDatasetInvalid,
                {"empty.jsonl"});
  EXPECT_OK(check(few, 6));  // what is behind may do
  config_.vocab_size = 257;
  EXPECT_STATUS(check(dir_.Write("z.txt", "abc</s>")), kInvalidArgument, kModelCorrupt,
                {"z.txt: the token '</s>'"});
}

// The same documents under four names.
TEST_F(SequencesTest, FormsOfOneTextGiveTheSameTokens) {
  std::string lines;
  for (int i = 0; i < 60; ++i) lines += "{\"text\": \"Étude no. " + std::to_string(i * i) + "\"}\n";
  PerplexitySpec spec;
  spec.seq_len = 64;
  for (const Packing packing : {Packing::kConcatenated, Packing::kDocuments}) {
    spec.text.packing = packing;
    spec.text.path = dir_.Write("a.jsonl", lines);
    const auto plain = CutWindows(spec, *tokenizer_, config_);
    ASSERT_OK(plain);
    for (const auto& [name, bytes] : {std::pair<const char*, std::string>{"a.NDJSON", lines},
                                      {"b.jsonl.gz", testing::Gzip(lines)},
                                      {"b.jsonl.zst", testing::Zstd(lines)},
                                      {"B.JSONL.ZST", testing::Zstd("\xef\xbb\xbf" + lines)},
                                      {"b.json", lines}}) {
      spec.text.path = dir_.Write(name, bytes);
      const auto other = CutWindows(spec, *tokenizer_, config_);
      ASSERT_OK(other);
      EXPECT_EQ(other->windows.ids, plain->windows.ids) << name;
      EXPECT_EQ(other->windows.offsets, plain->windows.offsets) << name;
    }
  }
}

TEST_F(SequencesTest, ATokenBeyondTheEmbeddingsIsNamed) {
  PerplexitySpec spec;
  spec.text.path = dir_.Write("z.txt", "abc</s>defghi");
  spec.seq_len = 8;
  CalibrationSpec calibration;
  calibration.sources = {{{spec.text.path}}};
  calibration.samples = 1;
  calibration.seq_len = 8;
  config_.vocab_size = 258;
  ASSERT_OK(CutWindows(spec, *tokenizer_, config_));
  config_.vocab_size = 257;
  for (const Packing packing : {Packing::kConcatenated, Packing::kDocuments}) {
    spec.text.packing = calibration.sources[0].text.packing = packing;
    EXPECT_STATUS(CutWindows(spec, *tokenizer_, config_), kInvalidArgument, kModelCorrupt,
                  {"z.txt: the token '</s>' has the id 257", "ids below 257 only"});
    EXPECT_STATUS(DrawCalibration(calibration, 0, *tokenizer_, config_), kInvalidArgument,
                  kModelCorrupt, {"calibration: ", "z.txt: the token '</s>'"});
    EXPECT_STATUS(CheckCalibration(calibration, 0, *tokenizer_, config_), kInvalidArgument,
                  kModelCorrupt, {"z.txt: the token '</s>'"});
  }
}

}  // namespace
}  // namespace svdllm
