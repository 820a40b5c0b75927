// What this program does not know is an error by name: in a request, and in one that was stored.
#include "server/known_parts.h"

#include <gmock/gmock.h>

#include <functional>

#include "spec_proto_fixture.h"

namespace svdllm {
namespace {

using ::testing::HasSubstr;
using ::testing::UnorderedElementsAre;

std::vector<std::string> PathsIn(const google::protobuf::Message& message) {
  std::vector<std::string> paths;
  for (const FieldViolation& violation : UnknownParts(message)) paths.push_back(violation.field);
  return paths;
}

// As a newer client has it: a field of a number that is not in our .proto.
void AddField(int number, google::protobuf::Message& message) {
  message.GetReflection()->MutableUnknownFields(&message)->AddVarint(number, 1);
}

TEST(KnownPartsTest, FieldsAreNamedByPathAndNumber) {
  v1::CompressModelRequest request;
  EXPECT_TRUE(UnknownParts(request).empty());
  AddField(900, request);
  AddField(900, request);
  AddField(901, *request.mutable_calibration()->mutable_text());
  request.mutable_calibration()->add_sources();
  AddField(902, *request.mutable_calibration()->add_sources()->mutable_text());
  AddField(903, *request.mutable_evaluation()->add_tasks()->mutable_dataset());
  AddField(904, *request.mutable_timeout());
  EXPECT_THAT(PathsIn(request),
              UnorderedElementsAre("900", "calibration.text.901", "calibration.sources[1].text.902",
                                   "evaluation.tasks[0].dataset.903", "timeout.904"));
  EXPECT_THAT(std::string(CheckKnown(request).message()),
              HasSubstr("calibration.text.901: this server knows no field of the number 901"));
  // What is kept over the wire is found behind it, too.
  v1::CompressModelRequest received;
  ASSERT_TRUE(received.ParseFromString(request.SerializeAsString()));
  EXPECT_EQ(PathsIn(received).size(), 5u);
}

TEST(KnownPartsTest, ValuesAreNamedByPathAndNumber) {
  v1::ListJobsRequest list;
  list.add_states(v1::JOB_STATE_QUEUED);
  list.add_states(static_cast<v1::JobState>(77));
  list.add_kinds(static_cast<v1::JobKind>(-1));
  const auto unknown = UnknownParts(list);
  ASSERT_EQ(unknown.size(), 2u);
  EXPECT_EQ(unknown[0].field, "states[1]");
  EXPECT_EQ(unknown[0].description, "77 is no JobState that this server knows");
  EXPECT_EQ(unknown[1].field, "kinds[0]");
}

TEST(KnownPartsTest, AFloodIsNotAllLookedAt) {
  v1::CompressModelRequest request;
  for (int i = 0; i < 100000; ++i) AddField(1000 + i, request);
  EXPECT_EQ(UnknownParts(request).size(), kMaxViolations);
}

constexpr int kUnknown = 99;

// Every place of a request that has an enum, set to a value that there is not.
class UnknownValueTest : public SpecProtoTest {
 protected:
  struct Place {
    std::string path;
    std::function<void(v1::CompressModelRequest&)> set;
  };
  std::vector<Place> Places() const {
    using Request = v1::CompressModelRequest;
    const auto packing = static_cast<v1::Packing>(kUnknown);
    const auto text = [this, packing](v1::TextSource* source) {
      source->set_uri(text_);
      source->set_packing(packing);
    };
#pragma GCC diagnostic push
#pragma GCC diagnostic ignored "-Wdeprecated-declarations"
    return {
        {"method", [](Request& r) { r.set_method(static_cast<v1::Method>(kUnknown)); }},
        {"allocation", [](Request& r) { r.set_allocation(static_cast<v1::Allocation>(kUnknown)); }},
        {"encoding", [](Request& r) { r.set_encoding(static_cast<v1::Encoding>(kUnknown)); }},
        {"output_format",
         [](Request& r) { r.set_output_format(static_cast<v1::OutputFormat>(kUnknown)); }},
        {"calibration.text.packing",
         [text](Request& r) { text(r.mutable_calibration()->mutable_text()); }},
        {"calibration.sources[0].text.packing",
         [text](Request& r) {
           r.mutable_calibration()->clear_text();
           text(r.mutable_calibration()->add_sources()->mutable_text());
         }},
        {"evaluation.text.packing",
         [text](Request& r) { text(r.mutable_evaluation()->mutable_text()); }},
        {"evaluation.texts[0].text.packing",
         [text](Request& r) { text(r.mutable_evaluation()->add_texts()->mutable_text()); }},
        {"evaluation.tasks[0].dataset.packing",
         [text](Request& r) {
           v1::EvaluationTask& task = *r.mutable_evaluation()->add_tasks();
           task.set_name("perplexity");
           text(task.mutable_dataset());
         }},
    };
#pragma GCC diagnostic pop
  }
};

TEST_F(UnknownValueTest, IsRefusedInARequestAndInAStoredOne) {
  const v1::CompressModelRequest good = request_;
  v1::CompressModelRequest resolved = good;
  ASSERT_TRUE(ResolveRequest(*store_, "default", resolved).ok());
  for (const Place& place : Places()) {
    request_ = good;
    place.set(request_);
    const absl::Status refused = Resolve();
    EXPECT_EQ(ErrorReason(refused), kInvalidField) << place.path;
    const std::string words = place.path + ": 99 is no ";
    EXPECT_EQ(std::string(refused.message()).rfind(words, 0), 0u) << refused;

    v1::CompressModelRequest stored = resolved;
    place.set(stored);
    const absl::Status failed = ToSpec(stored, *store_, "").status();
    EXPECT_EQ(ErrorReason(failed), kInvalidField) << place.path;
    EXPECT_EQ(std::string(failed.message()).rfind(words, 0), 0u) << failed;
  }
}

TEST_F(UnknownValueTest, AllAreNamedAtOnceWithWhatElseIsWrong) {
  for (const Place& place : Places()) place.set(request_);
  AddField(900, request_);
  request_.set_rank_multiple(-1);
  const std::string message(Resolve().message());
  for (const char* words :
       {"method: 99 is no Method", "allocation: 99", "encoding: 99", "output_format: 99",
        "calibration.sources[0].text.packing: 99 is no Packing", "evaluation.text.packing: 99",
        "900: this server knows no field", "rank_multiple: must"}) {
    EXPECT_THAT(message, HasSubstr(words));
  }
}

TEST_F(UnknownValueTest, AnEvaluationIsReadAsStrictly) {
  v1::EvaluateRequest request;
  request.set_model(model_);
  v1::EvaluationTask& task = *request.add_tasks();
  task.set_name("perplexity");
  task.mutable_dataset()->set_uri(text_);
  ASSERT_TRUE(ResolveRequest(*store_, "default", request).ok());
  ASSERT_TRUE(ToSpec(request, *store_, "").ok());
  task.mutable_dataset()->set_packing(static_cast<v1::Packing>(kUnknown));
  AddField(900, *request.mutable_threshold());
  for (const absl::Status& status :
       {ToSpec(request, *store_, "").status(), ResolveRequest(*store_, "default", request)}) {
    EXPECT_EQ(ErrorReason(status), kInvalidField);
    EXPECT_THAT(std::string(status.message()), HasSubstr("tasks[0].dataset.packing: 99 is no"));
    EXPECT_THAT(std::string(status.message()), HasSubstr("threshold.900: "));
  }
}

}  // namespace
}  // namespace svdllm
