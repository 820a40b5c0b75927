// Requests and errors as messages.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>
#include <cstdio>

#include "absl/strings/ascii.h"
#include "absl/strings/strip.h"
#include "pipeline/pipeline.h"
#include "queue/job_store.h"
#include "server/job_proto.h"
#include "server/spec_proto.h"
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
  EXPECT_EQ(request_.method(), v1::METHOD_ANCHORED);
  EXPECT_EQ(request_.allocation(), v1::ALLOCATION_KL_PROBE);
  EXPECT_EQ(request_.output_format(), v1::OUTPUT_FORMAT_FACTORED);
  EXPECT_EQ(request_.encoding(), v1::ENCODING_PIVOTED);
  EXPECT_EQ(request_.output_uri(), "default");
  EXPECT_EQ(request_.model(), "file://" + model_);
  EXPECT_EQ(request_.calibration().samples(), 256);
  EXPECT_EQ(request_.calibration().seed(), 3u);
  EXPECT_EQ(request_.calibration().text().packing(), v1::PACKING_CONCATENATED);
  EXPECT_EQ(request_.asvd_alpha(), 0.5);
  EXPECT_EQ(request_.anchor_blend(), 0.5);
  EXPECT_EQ(request_.anchor_ridge(), 1e-6);
  EXPECT_EQ(request_.rank_multiple(), 1);
  EXPECT_EQ(request_.min_keep_ratio(), 0.1);
  // What an absent length means depends on the model: the pipeline is asked.
  const auto spec = ToSpec(request_, *store_, "");
  ASSERT_TRUE(spec.ok()) << spec.status();
  EXPECT_EQ(spec->calibration.seq_len, 0);
  EXPECT_TRUE(spec->evaluate_held_out);
  EXPECT_TRUE(spec->measure.texts.empty());
  request_.clear_output_uri();
  const std::string once = request_.SerializeAsString();
  ASSERT_TRUE(Resolve().ok());
  request_.clear_output_uri();
  EXPECT_EQ(request_.SerializeAsString(), once);
}

TEST_F(SpecProtoTest, ExplicitZerosAreNotDefaults) {
  request_.mutable_calibration()->set_seed(0);
  request_.set_asvd_alpha(0);
  request_.set_anchor_blend(0);
  request_.set_anchor_ridge(0);
  request_.set_min_keep_ratio(0);
  ASSERT_TRUE(Resolve().ok());
  EXPECT_EQ(request_.anchor_blend(), 0);
  EXPECT_EQ(request_.anchor_ridge(), 0);
  EXPECT_EQ(request_.min_keep_ratio(), 0);
  EXPECT_EQ(request_.calibration().seed(), 0u);
  EXPECT_EQ(request_.asvd_alpha(), 0);
}

TEST_F(SpecProtoTest, EverythingReachesTheSpec) {
  request_.set_method(v1::METHOD_ANCHORED);
  request_.set_allocation(v1::ALLOCATION_RELATIVE_TAILS);
  request_.set_encoding(v1::ENCODING_PIVOTED);
  request_.set_anchor_blend(0.75);
  request_.set_anchor_ridge(1e-3);
  request_.set_rank_multiple(16);
  request_.set_min_keep_ratio(0.2);
  request_.set_output_format(v1::OUTPUT_FORMAT_DENSE);
  request_.add_keep_ratios(0.9);
  request_.set_asvd_alpha(0.25);
  v1::Calibration& calibration = *request_.mutable_calibration();
  calibration.mutable_text()->set_packing(v1::PACKING_DOCUMENTS);
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
  EXPECT_EQ(spec->method, Method::kAnchored);
  EXPECT_EQ(spec->allocation, Allocation::kRelativeTails);
  EXPECT_EQ(spec->encoding, Encoding::kPivoted);
  EXPECT_EQ(spec->anchor_blend, 0.75);
  EXPECT_EQ(spec->anchor_ridge, 1e-3);
  EXPECT_EQ(spec->rank_multiple, 16);
  EXPECT_EQ(spec->min_keep_ratio, 0.2);
  EXPECT_EQ(spec->output_format, OutputFormat::kDense);
  EXPECT_THAT(spec->keep_ratios, ElementsAre(0.9, 0.5));
  EXPECT_EQ(spec->asvd_alpha, 0.25);
  EXPECT_EQ(spec->model_dir, model_);
  EXPECT_EQ(spec->model_uri, "file://" + model_);
  EXPECT_EQ(spec->work_dir, "/scratch");
  ASSERT_EQ(spec->calibration.sources.size(), 1u);
  const TextSource& text = spec->calibration.sources[0].text;
  EXPECT_EQ(text.path, text_);
  EXPECT_EQ(text.text_field, "body");
  EXPECT_EQ(text.packing, Packing::kDocuments);
  EXPECT_EQ(spec->calibration.samples, 7);
  EXPECT_EQ(spec->calibration.seq_len, 64);
  EXPECT_EQ(spec->calibration.seed, 9u);
  EXPECT_EQ(spec->calibration.first_document, 5);
  EXPECT_TRUE(spec->evaluate_held_out);
  ASSERT_EQ(spec->measure.texts.size(), 1u);
  EXPECT_EQ(spec->measure.texts[0].name, "perplexity");
  EXPECT_EQ(spec->measure.texts[0].text.path, text_);
  EXPECT_EQ(spec->measure.texts[0].limit, 3);
  EXPECT_EQ(spec->measure.texts[0].seq_len, 32);
  request_.mutable_evaluation()->set_disabled(true);
  const auto silent = ToSpec(request_, *store_, "");
  EXPECT_FALSE(silent->evaluate_held_out);
  EXPECT_TRUE(silent->measure.texts.empty());
}

// A value of the API that the pipeline takes for another would go unnoticed in a figure.
TEST_F(SpecProtoTest, EveryMethodAllocationAndEncodingIsItself) {
  ASSERT_TRUE(Resolve().ok());
  const auto spec_of = [this] { return *ToSpec(request_, *store_, ""); };
  const auto row_name = [](const char* prefix, const std::string& name) {
    return absl::AsciiStrToLower(absl::StripPrefix(name, prefix));
  };
  for (int i = v1::Method_MIN + 1; i <= v1::Method_MAX; ++i) {
    request_.set_method(static_cast<v1::Method>(i));
    EXPECT_EQ(MethodName(spec_of().method), row_name("METHOD_", v1::Method_Name(i)));
  }
  for (int i = v1::Allocation_MIN + 1; i <= v1::Allocation_MAX; ++i) {
    request_.set_allocation(static_cast<v1::Allocation>(i));
    EXPECT_EQ(AllocationName(spec_of().allocation),
              row_name("ALLOCATION_", v1::Allocation_Name(i)));
  }
  for (int i = v1::Encoding_MIN + 1; i <= v1::Encoding_MAX; ++i) {
    request_.set_encoding(static_cast<v1::Encoding>(i));
    EXPECT_EQ(EncodingName(spec_of().encoding), row_name("ENCODING_", v1::Encoding_Name(i)));
  }
}

TEST_F(SpecProtoTest, MethodsOfPapersAreWhatThePapersSay) {
  for (const v1::Method method :
       {v1::METHOD_SVD, v1::METHOD_ASVD, v1::METHOD_SVD_LLM, v1::METHOD_SVD_LLM_UPDATE}) {
    request_.set_method(method);
    request_.clear_encoding();
    request_.clear_allocation();
    ASSERT_TRUE(Resolve().ok());
    EXPECT_EQ(request_.encoding(), v1::ENCODING_PLAIN);
    EXPECT_EQ(request_.allocation(), v1::ALLOCATION_UNIFORM);
  }
}

TEST_F(SpecProtoTest, SeveralSourcesAndTexts) {
  const std::string other = temp_.Write("other.text.txt", "x");
  v1::Calibration& calibration = *request_.mutable_calibration();
  calibration.clear_text();
  calibration.add_sources()->mutable_text()->set_uri(text_);
  calibration.mutable_sources(0)->set_weight(0.25);
  calibration.add_sources()->set_model_samples(true);
  v1::ReportEvaluation& evaluation = *request_.mutable_evaluation();
  evaluation.mutable_text()->set_uri(text_);
  evaluation.add_texts()->mutable_text()->set_uri(other);
  evaluation.mutable_texts(0)->set_seq_len(16);
  evaluation.mutable_texts(0)->set_limit(2);
  evaluation.add_texts()->mutable_text()->set_uri(text_);
  evaluation.mutable_texts(1)->set_name("c4");
  ASSERT_TRUE(Resolve().ok()) << Resolve();
  EXPECT_EQ(calibration.sources(0).text().uri(), "file://" + text_);
  EXPECT_EQ(calibration.sources(0).text().packing(), v1::PACKING_CONCATENATED);
  EXPECT_EQ(calibration.sources(1).weight(), 1);
  EXPECT_EQ(evaluation.texts(0).name(), "other.text");
  const std::string once = request_.SerializeAsString();
  request_.clear_output_uri();
  ASSERT_TRUE(Resolve().ok());
  EXPECT_EQ(request_.SerializeAsString(), once);

  const auto spec = ToSpec(request_, *store_, "");
  ASSERT_TRUE(spec.ok()) << spec.status();
  ASSERT_EQ(spec->calibration.sources.size(), 2u);
  EXPECT_EQ(spec->calibration.sources[0].weight, 0.25);
  EXPECT_EQ(spec->calibration.sources[0].text.path, text_);
  EXPECT_FALSE(spec->calibration.sources[0].model_samples);
  EXPECT_TRUE(spec->calibration.sources[1].model_samples);
  ASSERT_EQ(spec->measure.texts.size(), 3u);
  EXPECT_EQ(spec->measure.texts[0].name, "perplexity");
  EXPECT_EQ(spec->measure.texts[1].text.path, other);
  EXPECT_EQ(spec->measure.texts[1].seq_len, 16);
  EXPECT_EQ(spec->measure.texts[1].limit, 2);
  EXPECT_EQ(spec->measure.texts[2].name, "c4");

  std::remove(other.c_str());
  EXPECT_THAT(std::string(ToSpec(request_, *store_, "").status().message()),
              HasSubstr("evaluation.texts[0].text: "));
  std::remove(text_.c_str());
  const absl::Status lost = ToSpec(request_, *store_, "").status();
  EXPECT_THAT(std::string(lost.message()), HasSubstr("calibration.sources[0].text: "));
  EXPECT_EQ(ErrorReason(lost), kCalibrationInvalid);
}

TEST_F(SpecProtoTest, WhatIsWrongIsNamed) {
  const v1::CompressModelRequest good = request_;
  const auto refused = [&](auto change, const std::string& words) {
    request_ = good;
    change(request_);
    EXPECT_THAT(std::string(Resolve().message()), HasSubstr(words));
  };
  using Request = v1::CompressModelRequest;
  refused([](Request& r) { r.set_encoding(static_cast<v1::Encoding>(9)); }, "encoding: ");
  refused([](Request& r) { r.set_anchor_blend(1.1); }, "anchor_blend: must be 0 to 1");
  refused([](Request& r) { r.set_anchor_blend(std::nan("")); }, "anchor_blend: must be 0 to 1");
  refused([](Request& r) { r.set_anchor_ridge(-1e-9); }, "anchor_ridge: must be 0 to 1");
  refused([](Request& r) { r.set_rank_multiple(-1); }, "rank_multiple: must be 1 to 1024");
  refused([](Request& r) { r.set_rank_multiple(1025); }, "rank_multiple: must be 1 to 1024");
  refused([](Request& r) { r.set_min_keep_ratio(1); }, "min_keep_ratio: must be at least 0");
  refused([](Request& r) { r.set_min_keep_ratio(0.6); }, "min_keep_ratio: is above a keep ratio");
  refused([](Request& r) { r.mutable_calibration()->clear_text(); },
          "calibration.text: is required");
  refused([](Request& r) { r.mutable_calibration()->add_sources()->set_model_samples(true); },
          "calibration.sources: excludes calibration.text");
  const auto source = [&](auto change, const std::string& words) {
    refused(
        [&](Request& r) {
          r.mutable_calibration()->clear_text();
          change(*r.mutable_calibration()->add_sources());
        },
        words);
  };
  source([](v1::CalibrationSource&) {}, "calibration.sources[0]: needs text");
  source([](v1::CalibrationSource& s) { s.set_model_samples(false); },
         "calibration.sources[0]: needs text");
  source([](v1::CalibrationSource& s) { s.mutable_text(); },
         "calibration.sources[0].text.uri: is required");
  for (const double weight : {0.0, -1.0, 1e7, std::nan("")}) {
    source([weight](v1::CalibrationSource& s) { s.set_weight(weight); },
           "calibration.sources[0].weight: must be above 0");
  }
  const auto text = [&](const std::string& name, const std::string& words) {
    refused(
        [&](Request& r) {
          r.mutable_evaluation()->mutable_text()->set_uri(text_);
          v1::EvaluationText& added = *r.mutable_evaluation()->add_texts();
          added.mutable_text()->set_uri(text_);
          added.set_name(name);
          added.set_limit(-1);
          added.set_seq_len(1);
        },
        words);
  };
  text("perplexity", "evaluation.texts[0].name: \"perplexity\" is another");
  text("held_out_perplexity", "evaluation.texts[0].name: must not begin");
  text("c4", "evaluation.texts[0].limit: ");
  text("c4", "evaluation.texts[0].seq_len: ");
}

TEST_F(SpecProtoTest, SpeedIsMeasuredWhereAskedFor) {
  ASSERT_TRUE(Resolve().ok());
  EXPECT_FALSE(request_.evaluation().has_throughput());
  EXPECT_FALSE(ToSpec(request_, *store_, "")->measure.throughput.any());
  v1::Throughput& throughput = *request_.mutable_evaluation()->mutable_throughput();
  ASSERT_TRUE(Resolve().ok());
  EXPECT_THAT(throughput.batch_sizes(), ElementsAre(1, 8));
  EXPECT_EQ(throughput.prompt_tokens(), 0) << "depends on the model";
  EXPECT_EQ(throughput.new_tokens(), 32);
  EXPECT_EQ(throughput.repetitions(), 3);
  throughput.add_batch_sizes(4);
  throughput.set_prompt_tokens(100);
  throughput.set_new_tokens(9);
  throughput.set_repetitions(2);
  ASSERT_TRUE(Resolve().ok());
  const ThroughputSpec spec = ToSpec(request_, *store_, "")->measure.throughput;
  EXPECT_THAT(spec.batch_sizes, ElementsAre(1, 4, 8));
  EXPECT_EQ(spec.prompt_tokens, 100);
  EXPECT_EQ(spec.new_tokens, 9);
  EXPECT_EQ(spec.repetitions, 2);
  request_.mutable_evaluation()->set_disabled(true);
  EXPECT_FALSE(ToSpec(request_, *store_, "")->measure.throughput.any());
  request_.mutable_evaluation()->set_disabled(false);

  const v1::Throughput good = throughput;
  const auto refused = [&](auto change, const std::string& words) {
    throughput = good;
    change(throughput);
    EXPECT_THAT(std::string(Resolve().message()), HasSubstr("evaluation.throughput." + words));
  };
  refused([](auto& t) { t.set_batch_sizes(1, 0); }, "batch_sizes[1]: must be 1 to 256");
  refused([](auto& t) { t.set_batch_sizes(2, 257); }, "batch_sizes[2]: must be 1 to 256");
  refused([](auto& t) { t.add_batch_sizes(4); }, "batch_sizes: no two may be equal");
  refused(
      [](auto& t) {
        for (int size = 10; size < 16; ++size) t.add_batch_sizes(size);
      },
      "batch_sizes: at most 8");
  refused([](auto& t) { t.set_prompt_tokens(-1); }, "prompt_tokens: must be 1 to");
  refused([](auto& t) { t.set_new_tokens(1); }, "new_tokens: must be 2 to");
  refused([](auto& t) { t.set_repetitions(101); }, "repetitions: must be 1 to 100");
}

TEST_F(SpecProtoTest, AnEvaluationMayBeOfSpeedAlone) {
  v1::EvaluateRequest request;
  request.set_model(model_);
  EXPECT_THAT(std::string(ResolveRequest(*store_, "default", request).message()),
              HasSubstr("tasks: at least one is required, or throughput"));
  request.mutable_throughput()->add_batch_sizes(2);
  ASSERT_TRUE(ResolveRequest(*store_, "default", request).ok());
  const auto spec = ToSpec(request, *store_, "");
  ASSERT_TRUE(spec.ok()) << spec.status();
  EXPECT_THAT(spec->measure.throughput.batch_sizes, ElementsAre(2));
  EXPECT_EQ(spec->measure.throughput.new_tokens, 32);
  request.mutable_throughput()->set_batch_sizes(0, -1);
  EXPECT_THAT(std::string(ResolveRequest(*store_, "default", request).message()),
              HasSubstr("throughput.batch_sizes[0]"));
}

TEST_F(SpecProtoTest, TheFloorFollowsSmallKeepRatios) {
  request_.add_keep_ratios(0.125);
  ASSERT_TRUE(Resolve().ok());
  EXPECT_EQ(request_.min_keep_ratio(), 0.0625);
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

TEST(JobProtoTest, NamesAreParsedStrictly) {
  EXPECT_EQ(*ParseJobName(JobName("abc123")), "abc123");
  for (const char* bad : {"", "abc", "jobs/", "jobs/A", "jobs/a/b", "jobs/..", "jobs/a b"}) {
    EXPECT_EQ(ParseJobName(bad).status().code(), absl::StatusCode::kInvalidArgument) << bad;
  }
}

// Bytes as a server wrote them before evaluations had baselines: fields 1, 2 and 5.
TEST(JobProtoTest, EvaluationsOfEarlierServersAreStillRead) {
  Job job;
  job.id = "a";
  job.kind = JobKind::kEvaluate;
  job.state = JobState::kSucceeded;
  job.result = std::string("\x08\x07\x10\x09\x2a\x03", 6) + "cpu";
  const v1::EvaluateResult result = ToProto(job).evaluate_result();
  EXPECT_EQ(result.model().parameters(), 7);
  EXPECT_EQ(result.model().weight_bytes(), 9);
  EXPECT_EQ(result.device(), "cpu");
  EXPECT_FALSE(result.has_verdict());
}

TEST_F(SpecProtoTest, AGateNeedsSomethingToLookAt) {
  v1::EvaluateRequest request;
  request.set_model(model_);
  request.set_baseline(model_);
  v1::EvaluationTask& task = *request.add_tasks();
  task.set_name("wikitext2");
  task.mutable_dataset()->set_uri(text_);
  request.mutable_threshold()->set_max_perplexity_increase(0.1);
  EXPECT_TRUE(ResolveRequest(*store_, "default", request).ok());
  request.mutable_threshold()->set_max_accuracy_drop(0.1);
  EXPECT_THAT(std::string(ResolveRequest(*store_, "default", request).message()),
              HasSubstr("threshold.max_accuracy_drop"));
  request.mutable_threshold()->clear_max_accuracy_drop();
  task.set_name("openbookqa");
  EXPECT_THAT(std::string(ResolveRequest(*store_, "default", request).message()),
              HasSubstr("threshold.max_perplexity_increase"));
}

TEST(JobProtoTest, SpeedIsTold) {
  EvaluateResult result;
  result.peak_device_bytes = 77;
  result.model.figures.throughputs = {{8, 512, 32, 3, {1000, 900, 1100}, {50, 45, 55}, 123, 1.5}};
  const v1::EvaluateResult message = ToProto(result);
  EXPECT_EQ(message.peak_device_bytes(), 77);
  ASSERT_EQ(message.model().throughputs_size(), 1);
  EXPECT_EQ(message.model().throughputs(0).ShortDebugString(),
            "batch_size: 8 prompt_tokens: 512 new_tokens: 32 repetitions: 3 "
            "prefill_tokens_per_second: 1000 least_prefill_tokens_per_second: 900 "
            "largest_prefill_tokens_per_second: 1100 decode_tokens_per_second: 50 "
            "least_decode_tokens_per_second: 45 largest_decode_tokens_per_second: 55 "
            "peak_memory_bytes: 123 seconds: 1.5");
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
