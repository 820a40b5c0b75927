// Requests and errors as messages.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "jobs/job_store.h"
#include "pipeline/pipeline.h"
#include "server/job_proto.h"
#include "server/spec_proto.h"
#include "server/status_proto.h"
#include "svdllm/rpc/error_details.pb.h"
#include "tests/support/temp_dir.h"

namespace svdllm {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;

class SpecProtoTest : public ::testing::Test {
 protected:
  void SetUp() override {
    model_ = temp_.Write("model/config.json", "{}");
    model_ = model_.substr(0, model_.rfind('/'));
    text_ = temp_.Write("text.jsonl", "{}");
    store_ = *NewFileStore({{}, temp_.path() + "/artifacts"});
    request_.set_model(model_);
    request_.add_keep_ratios(0.5);
    request_.mutable_calibration()->mutable_text()->set_uri(text_);
  }
  absl::Status Resolve() { return ResolveRequest(*store_, "default", request_); }

  testing::TempDir temp_;
  std::string model_, text_;
  std::unique_ptr<ArtifactStore> store_;
  v1::CompressModelRequest request_;
};

TEST_F(SpecProtoTest, DefaultsAreFilledInAndResolvingTwiceChangesNothing) {
  ASSERT_TRUE(Resolve().ok()) << Resolve();
  EXPECT_EQ(request_.method(), v1::SVD_LLM);
  EXPECT_EQ(request_.allocation(), v1::UNIFORM);
  EXPECT_EQ(request_.output_format(), v1::FACTORED);
  EXPECT_EQ(request_.encoding(), v1::PLAIN);
  EXPECT_EQ(request_.output_uri(), "default");
  EXPECT_EQ(request_.model(), "file://" + model_);
  EXPECT_EQ(request_.calibration().samples(), 256);
  EXPECT_EQ(request_.calibration().seed(), 3u);
  EXPECT_EQ(request_.calibration().text().packing(), v1::CONCATENATED);
  EXPECT_EQ(request_.asvd_alpha(), 0.5);
  // What an absent length means depends on the model: the pipeline is asked.
  const auto spec = ToSpec(request_, *store_, "");
  ASSERT_TRUE(spec.ok()) << spec.status();
  EXPECT_EQ(spec->calibration.seq_len, 0);
  EXPECT_EQ(spec->evaluation.seq_len, 0);
  request_.clear_output_uri();
  const std::string once = request_.SerializeAsString();
  ASSERT_TRUE(Resolve().ok());
  request_.clear_output_uri();
  EXPECT_EQ(request_.SerializeAsString(), once);
}

TEST_F(SpecProtoTest, ExplicitZerosAreNotDefaults) {
  request_.mutable_calibration()->set_seed(0);
  request_.set_asvd_alpha(0);
  ASSERT_TRUE(Resolve().ok());
  EXPECT_EQ(request_.calibration().seed(), 0u);
  EXPECT_EQ(request_.asvd_alpha(), 0);
}

TEST_F(SpecProtoTest, EverythingReachesTheSpec) {
  request_.set_method(v1::SVD_LLM_UPDATE);
  request_.set_allocation(v1::V2);
  request_.set_output_format(v1::DENSE);
  request_.add_keep_ratios(0.9);
  request_.set_asvd_alpha(0.25);
  v1::Calibration& calibration = *request_.mutable_calibration();
  calibration.mutable_text()->set_packing(v1::DOCUMENTS);
  calibration.mutable_text()->set_text_field("body");
  calibration.set_samples(7);
  calibration.set_seq_len(64);
  calibration.set_seed(9);
  calibration.set_first_document(5);
  request_.mutable_evaluation()->mutable_text()->set_uri(text_);
  request_.mutable_evaluation()->set_limit(3);
  request_.mutable_evaluation()->set_seq_len(32);
  ASSERT_TRUE(Resolve().ok());
  const auto spec = ToSpec(request_, *store_, "/scratch");
  ASSERT_TRUE(spec.ok()) << spec.status();
  EXPECT_EQ(spec->method, Method::kSvdLlmUpdate);
  EXPECT_EQ(spec->allocation, Allocation::kV2);
  EXPECT_EQ(spec->output_format, OutputFormat::kDense);
  EXPECT_THAT(spec->keep_ratios, ElementsAre(0.9, 0.5));
  EXPECT_EQ(spec->asvd_alpha, 0.25);
  EXPECT_EQ(spec->model_dir, model_);
  EXPECT_EQ(spec->model_uri, "file://" + model_);
  EXPECT_EQ(spec->work_dir, "/scratch");
  EXPECT_EQ(spec->calibration.text.path, text_);
  EXPECT_EQ(spec->calibration.text.text_field, "body");
  EXPECT_EQ(spec->calibration.text.packing, Packing::kDocuments);
  EXPECT_EQ(spec->calibration.samples, 7);
  EXPECT_EQ(spec->calibration.seq_len, 64);
  EXPECT_EQ(spec->calibration.seed, 9u);
  EXPECT_EQ(spec->calibration.first_document, 5);
  EXPECT_EQ(spec->evaluation.text.path, text_);
  EXPECT_EQ(spec->evaluation.limit, 3);
  EXPECT_EQ(spec->evaluation.seq_len, 32);
  request_.mutable_evaluation()->set_disabled(true);
  EXPECT_EQ(ToSpec(request_, *store_, "")->evaluation.limit, -1);
}

TEST_F(SpecProtoTest, EqualRatiosAreRefusedAndNamesFollowTheRatios) {
  request_.add_keep_ratios(0.125);
  request_.add_keep_ratios(1);
  request_.set_output_uri("run");
  ASSERT_TRUE(Resolve().ok());
  const std::string base = "file://" + temp_.path() + "/artifacts/run";
  EXPECT_THAT(OutputUris(*ToSpec(request_, *store_, "")),
              ElementsAre(base + "/keep-1.00", base + "/keep-0.50", base + "/keep-0.125"));
  request_.add_keep_ratios(0.5);
  EXPECT_THAT(std::string(Resolve().message()), HasSubstr("keep_ratios: no two may be equal"));
}

google::rpc::Status Rich(const absl::Status& status) {
  google::rpc::Status rich;
  EXPECT_TRUE(rich.ParseFromString(ErrorDetails(status)));
  return rich;
}

TEST(StatusProtoTest, FieldNamedInAMessageBecomesAViolation) {
  const auto rich = Rich(MakeError(absl::StatusCode::kInvalidArgument, kInvalidField,
                                   "calibration.seq_len: 4096 is more than 2048"));
  google::rpc::ErrorInfo info;
  google::rpc::BadRequest bad_request;
  ASSERT_EQ(rich.details_size(), 2);
  ASSERT_TRUE(rich.details(0).UnpackTo(&info));
  ASSERT_TRUE(rich.details(1).UnpackTo(&bad_request));
  EXPECT_EQ(info.reason(), "INVALID_FIELD");
  EXPECT_EQ(info.metadata().at("field"), "calibration.seq_len");
  EXPECT_EQ(bad_request.field_violations(0).description(), "4096 is more than 2048");
  EXPECT_EQ(Rich(MakeError(absl::StatusCode::kInvalidArgument, kInvalidField, "No field: here"))
                .details_size(),
            1);
}

TEST(StatusProtoTest, ErrorWithoutAReasonIsInternal) {
  google::rpc::ErrorInfo info;
  ASSERT_TRUE(Rich(absl::UnknownError("x")).details(0).UnpackTo(&info));
  EXPECT_EQ(info.reason(), "INTERNAL");
  EXPECT_EQ(info.domain(), "svdllm");
}

TEST(JobProtoTest, NamesAreParsedStrictly) {
  EXPECT_EQ(*ParseJobName(JobName("abc123")), "abc123");
  for (const char* bad : {"", "abc", "jobs/", "jobs/A", "jobs/a/b", "jobs/..", "jobs/a b"}) {
    EXPECT_EQ(ParseJobName(bad).status().code(), absl::StatusCode::kInvalidArgument) << bad;
  }
}

TEST(JobProtoTest, UnreadableBytesInTheStoreAreNoCrash) {
  Job job;
  job.id = "a";
  job.state = JobState::kSucceeded;
  job.request = job.result = job.progress = "\xff\xff\xff";
  EXPECT_EQ(ToProto(job).name(), "jobs/a");
}

}  // namespace
}  // namespace svdllm
