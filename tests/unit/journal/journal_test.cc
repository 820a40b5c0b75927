#include "journal/journal.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <filesystem>
#include <fstream>

#include "base/build_id.h"
#include "base/files.h"
#include "tests/support/status_matchers.h"
#include "tests/support/temp_dir.h"

namespace svdllm {
namespace {

namespace fs = std::filesystem;
using ::testing::HasSubstr;

absl::Status Go() { return absl::OkStatus(); }

class JournalTest : public ::testing::Test {
 protected:
  JournalTest() {
    identity_.files["model weights"] = dir_.Write("weights", "0123456789");
    identity_.parameters["method"] = "anchored";
    identity_.program["build"] = "one";
  }

  absl::StatusOr<Journal> Open(const std::string& writer) {
    return Journal::Open(path_, writer, identity_, Go);
  }
  // One file with one number.
  static absl::Status Write(Journal& journal, int64_t number, const std::string& role,
                            Journal::Needed needed, float value) {
    return journal.Write("layers", number, role, needed, {{"x", DType::kF32, {1}}},
                         [value](SafetensorsWriter& writer) {
                           return writer.Write("x", std::as_bytes(std::span(&value, 1)));
                         });
  }
  // A layer: its factors are 100 + number, the stream behind it is number.
  static absl::Status Layer(Journal& journal, int64_t number) {
    const auto value = static_cast<float>(number);
    RETURN_IF_ERROR(Write(journal, number, "factors", Journal::Needed::kAlways, 100 + value));
    RETURN_IF_ERROR(Write(journal, number, "stream", Journal::Needed::kByTheNext, value));
    return journal.Commit("layers", number, {{"loss", 0.1 * value}});
  }
  absl::Status FirstLayer() {
    ASSIGN_OR_RETURN(Journal journal, Open("1"));
    return Layer(journal, 0);
  }
  static float ValueOf(const JournalRecord& record, const std::string& role) {
    const auto file = SafetensorsFile::Open(record.files.at(role));
    if (!file.ok()) return -1;
    float value = 0;
    std::memcpy(&value, file->Get("x")->bytes.data(), sizeof(value));
    return value;
  }
  static void Damage(const std::string& path) {
    std::fstream file(path, std::ios::in | std::ios::out | std::ios::binary);
    file.seekp(-1, std::ios::end);
    file.put('\x7f');
  }
  int FilesLike(const std::string& part) const {
    int count = 0;
    for (const auto& entry : fs::directory_iterator(path_)) {
      count += entry.path().filename().string().find(part) != std::string::npos ? 1 : 0;
    }
    return count;
  }

  testing::TempDir dir_;
  const std::string path_ = dir_.File("journal");
  JournalIdentity identity_;
};

TEST_F(JournalTest, TheNextAttemptFindsWhatWasKept) {
  {
    auto journal = Open("1");
    ASSERT_OK(journal);
    EXPECT_TRUE(journal->Load("layers")->empty());
    for (int64_t layer = 0; layer < 4; ++layer) ASSERT_OK(Layer(*journal, layer));
  }
  auto journal = Open("2");
  ASSERT_OK(journal);
  EXPECT_TRUE(journal->started_over().empty());
  const auto records = journal->Load("layers");
  ASSERT_EQ(records->size(), 4u);
  for (size_t layer = 0; layer < 4; ++layer) {
    const JournalRecord& record = (*records)[layer];
    EXPECT_EQ(record.number, static_cast<int64_t>(layer));
    EXPECT_EQ(record.facts.at("loss").get<double>(), 0.1 * static_cast<float>(layer));
    EXPECT_EQ(ValueOf(record, "factors"), 100 + static_cast<float>(layer));
  }
  EXPECT_EQ(ValueOf(records->back(), "stream"), 3);
  ASSERT_OK(Layer(*journal, 4));
  EXPECT_EQ(journal->Load("layers")->size(), 5u);
}

TEST_F(JournalTest, KeepsTwoGenerationsOfWhatTheNextRecordReplaces) {
  auto journal = Open("1");
  ASSERT_OK(journal);
  for (int64_t layer = 0; layer < 5; ++layer) ASSERT_OK(Layer(*journal, layer));
  // 5 records, their factors, and the streams of layers 3 and 4.
  EXPECT_EQ(FilesLike(".json"), 5 + 1) << "and the identity";
  EXPECT_EQ(FilesLike(".safetensors"), 5 + 2);
}

TEST_F(JournalTest, WhatIsDamagedCountsAsNotThere) {
  std::vector<JournalRecord> records;
  {
    auto journal = Open("1");
    for (int64_t layer = 0; layer < 4; ++layer) ASSERT_OK(Layer(*journal, layer));
    records = *journal->Load("layers");
  }
  Damage(records[3].files.at("stream"));
  EXPECT_EQ(Open("2")->Load("layers")->size(), 3u) << "the generation before";
  Damage(records[2].files.at("stream"));
  EXPECT_TRUE(Open("3")->Load("layers")->empty()) << "no stream is left to go on from";
}

TEST_F(JournalTest, DamagedFactorsAndRecordsEndTheSeriesInFrontOfThem) {
  auto journal = Open("1");
  ASSERT_OK(journal);
  for (int64_t layer = 0; layer < 3; ++layer) ASSERT_OK(Layer(*journal, layer));
  const auto records = journal->Load("layers");
  Damage((*records)[2].files.at("factors"));
  EXPECT_EQ(journal->Load("layers")->size(), 2u);
  Damage(path_ + "/layers-000001.json");
  EXPECT_TRUE(journal->Load("layers")->empty()) << "the stream of layer 0 is gone";
}

TEST_F(JournalTest, ARecordThatWasNotCommittedIsNotThere) {
  {
    auto journal = Open("1");
    ASSERT_OK(Layer(*journal, 0));
    ASSERT_OK(Write(*journal, 1, "factors", Journal::Needed::kAlways, 7));
  }
  auto journal = Open("2");
  EXPECT_EQ(journal->Load("layers")->size(), 1u);
  ASSERT_OK(Layer(*journal, 1));
  EXPECT_EQ(ValueOf(journal->Load("layers")->back(), "factors"), 101);
}

// With overlap, the streams behind a layer are kept while the layer before is unfinished.
TEST_F(JournalTest, FilesBelongToTheRecordThatTheyWereWrittenFor) {
  auto journal = Open("1");
  ASSERT_OK(Write(*journal, 0, "stream", Journal::Needed::kByTheNext, 0));
  ASSERT_OK(Write(*journal, 1, "stream", Journal::Needed::kByTheNext, 1));
  ASSERT_OK(journal->Commit("layers", 0, {}));
  EXPECT_EQ(ValueOf(journal->Load("layers")->back(), "stream"), 0);
  ASSERT_OK(journal->Commit("layers", 1, {}));
  EXPECT_EQ(ValueOf(journal->Load("layers")->back(), "stream"), 1);
}

TEST_F(JournalTest, AnotherContentOfAFileIsRefusedByName) {
  ASSERT_OK(FirstLayer());
  dir_.Write("weights", "9876543210");  // as long as before
  const absl::Status status = Open("2").status();
  EXPECT_EQ(status.code(), absl::StatusCode::kFailedPrecondition);
  EXPECT_EQ(ErrorReason(status), kCheckpointMismatch);
  EXPECT_THAT(std::string(status.message()), HasSubstr("model weights has changed"));
  EXPECT_EQ(ErrorReason(Open("3").status()), kCheckpointMismatch) << "and again";
}

TEST_F(JournalTest, AFileMoreOrLessIsRefusedByName) {
  ASSERT_OK(FirstLayer());
  identity_.files["model tokenizer.json"] = dir_.Write("tokenizer.json", "{}");
  EXPECT_THAT(std::string(Open("2").status().message()),
              HasSubstr("model tokenizer.json has come"));
  identity_.files.clear();
  EXPECT_THAT(std::string(Open("3").status().message()), HasSubstr("model weights has gone"));
}

TEST_F(JournalTest, ACopyOfAFileIsTheSame) {
  ASSERT_OK(FirstLayer());
  identity_.files["model weights"] = dir_.Write("copied", "0123456789");
  EXPECT_EQ(Open("2")->Load("layers")->size(), 1u);
}

TEST_F(JournalTest, AnotherParameterIsRefusedByName) {
  ASSERT_OK(FirstLayer());
  identity_.parameters["method"] = "svd_llm";
  const absl::Status status = Open("2").status();
  EXPECT_EQ(ErrorReason(status), kCheckpointMismatch);
  EXPECT_THAT(std::string(status.message()), HasSubstr("method has changed"));
}

TEST_F(JournalTest, AnotherProgramStartsOverAndSaysWhy) {
  ASSERT_OK(FirstLayer());
  identity_.program["build"] = "two";
  identity_.parameters["method"] = "as the newer program calls it";
  auto journal = Open("2");
  ASSERT_OK(journal);
  EXPECT_EQ(journal->started_over(), "build was one and is two");
  EXPECT_TRUE(journal->Load("layers")->empty());
  ASSERT_OK(Layer(*journal, 0));
  EXPECT_EQ(Open("3")->Load("layers")->size(), 1u);
}

TEST_F(JournalTest, WithoutAnIdentityNothingIsTrusted) {
  ASSERT_OK(FirstLayer());
  Damage(path_ + "/identity.json");
  auto journal = Open("2");
  EXPECT_FALSE(journal->started_over().empty());
  EXPECT_TRUE(journal->Load("layers")->empty());
}

TEST_F(JournalTest, WhatIsConfirmedLaterIsComparedToo) {
  {
    auto journal = Open("1");
    ASSERT_OK(journal->Confirm("tokens", "abc"));
    ASSERT_OK(journal->Confirm("tokens", "abc"));
  }
  auto journal = Open("2");
  ASSERT_OK(journal->Confirm("tokens", "abc"));
  EXPECT_EQ(ErrorReason(journal->Confirm("tokens", "xyz")), kCheckpointMismatch);
}

// A worker that was frozen, and goes on while another has its job.
TEST_F(JournalTest, AWriterThatWasThoughtDeadHarmsNoOther) {
  auto first = Open("1");
  ASSERT_OK(Layer(*first, 0));
  auto second = Open("2");
  for (int64_t layer = 1; layer < 4; ++layer) ASSERT_OK(Layer(*second, layer));
  ASSERT_OK(Layer(*first, 1));
  ASSERT_OK(Layer(*first, 2));
  const auto records = Open("3")->Load("layers");
  ASSERT_EQ(records->size(), 4u);
  EXPECT_EQ(ValueOf(records->back(), "stream"), 3);
  EXPECT_EQ(ValueOf((*records)[2], "factors"), 102);
}

TEST_F(JournalTest, ADroppedSeriesLeavesNothing) {
  auto journal = Open("1");
  for (int64_t layer = 0; layer < 3; ++layer) ASSERT_OK(Layer(*journal, layer));
  ASSERT_OK(journal->Commit("ranks", 0, {{"0.8", {1, 2}}}));
  ASSERT_OK(journal->Drop("layers"));
  EXPECT_EQ(FilesLike("layers"), 0);
  EXPECT_EQ(journal->Load("ranks")->size(), 1u);
}

TEST_F(JournalTest, AJournalThatKeepsNothingDoesNothing) {
  Journal journal;
  EXPECT_FALSE(journal.keeps());
  ASSERT_OK(Layer(journal, 0));
  ASSERT_OK(journal.Confirm("tokens", "abc"));
  EXPECT_TRUE(journal.Load("layers")->empty());
}

TEST_F(JournalTest, ACancelledJobStopsBetweenTwoFiles) {
  const auto journal =
      Journal::Open(path_, "1", identity_, [] { return absl::CancelledError("it is cancelled"); });
  EXPECT_TRUE(absl::IsCancelled(journal.status()));
}

TEST(BuildIdTest, IsADigest) { EXPECT_EQ(BuildId().size(), 40u) << BuildId(); }

}  // namespace
}  // namespace svdllm
