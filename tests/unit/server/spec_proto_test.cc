// Requests as they are sent, resolved and run.
#include <gmock/gmock.h>

#include <cmath>
#include <cstdio>

#include "absl/strings/ascii.h"
#include "absl/strings/strip.h"
#include "spec_proto_fixture.h"

namespace svdllm {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;

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
  request_.set_anchor_blend(0);
  request_.set_anchor_ridge(0);
  request_.set_min_keep_ratio(0);
  ASSERT_TRUE(Resolve().ok());
  EXPECT_EQ(request_.anchor_blend(), 0);
  EXPECT_EQ(request_.anchor_ridge(), 0);
  EXPECT_EQ(request_.min_keep_ratio(), 0);
  EXPECT_EQ(request_.calibration().seed(), 0u);
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
  v1::Calibration& calibration = *request_.mutable_calibration();
  calibration.mutable_text()->set_packing(v1::PACKING_DOCUMENTS);
  calibration.mutable_text()->set_text_field("body");
  calibration.set_samples(7);
  calibration.set_seq_len(64);
  calibration.set_seed(9);
  calibration.set_first_document(5);
  v1::EvaluationTask& task = *request_.mutable_evaluation()->add_tasks();
  task.set_name("perplexity");
  task.mutable_dataset()->set_uri(text_);
  task.set_limit(3);
  task.set_seq_len(32);
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
  const v1::CompressModelRequest good = request_;
  for (const v1::Method method :
       {v1::METHOD_SVD, v1::METHOD_ASVD, v1::METHOD_SVD_LLM, v1::METHOD_SVD_LLM_UPDATE}) {
    request_ = good;
    request_.set_method(method);
    ASSERT_TRUE(Resolve().ok());
    EXPECT_EQ(request_.encoding(), v1::ENCODING_PLAIN);
    EXPECT_EQ(request_.allocation(), v1::ALLOCATION_UNIFORM);
  }
}

TEST_F(SpecProtoTest, SeveralSources) {
  v1::Calibration& calibration = *request_.mutable_calibration();
  calibration.clear_text();
  calibration.add_sources()->mutable_text()->set_uri(text_);
  calibration.mutable_sources(0)->set_weight(0.25);
  calibration.add_sources()->set_model_samples(true);
  ASSERT_TRUE(Resolve().ok()) << Resolve();
  EXPECT_EQ(calibration.sources(0).text().uri(), "file://" + text_);
  EXPECT_EQ(calibration.sources(0).text().packing(), v1::PACKING_CONCATENATED);
  EXPECT_EQ(calibration.sources(1).weight(), 1);
  const auto spec = ToSpec(request_, *store_, "");
  ASSERT_TRUE(spec.ok()) << spec.status();
  ASSERT_EQ(spec->calibration.sources.size(), 2u);
  EXPECT_EQ(spec->calibration.sources[0].weight, 0.25);
  EXPECT_EQ(spec->calibration.sources[0].text.path, text_);
  EXPECT_FALSE(spec->calibration.sources[0].model_samples);
  EXPECT_TRUE(spec->calibration.sources[1].model_samples);
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
  refused([](Request& r) { r.set_anchor_blend(1.1); }, "anchor_blend: must be 0 to 1");
  refused([](Request& r) { r.set_anchor_blend(std::nan("")); }, "anchor_blend: must be 0 to 1");
  refused([](Request& r) { r.set_anchor_ridge(-1e-9); }, "anchor_ridge: must be 0 to 1");
  refused([](Request& r) { r.set_rank_multiple(-1); }, "rank_multiple: must be 1 to 1024");
  refused([](Request& r) { r.set_rank_multiple(1025); }, "rank_multiple: must be 1 to 1024");
  refused([](Request& r) { r.set_min_keep_ratio(1); }, "min_keep_ratio: must be at least 0");
  refused([](Request& r) { r.set_min_keep_ratio(0.6); }, "min_keep_ratio: is above a keep ratio");
  refused([](Request& r) { r.clear_calibration(); },
          "calibration.text: is required by METHOD_ANCHORED, or calibration.sources instead");
  refused(
      [](Request& r) {
        r.set_method(v1::METHOD_SVD);
        r.set_allocation(v1::ALLOCATION_KL_PROBE);
        r.clear_calibration();
      },
      "calibration.text: is required by ALLOCATION_KL_PROBE");
  refused(
      [](Request& r) {
        r.set_method(v1::METHOD_SVD);
        r.mutable_calibration()->clear_text();
        r.mutable_calibration()->set_samples(3);
      },
      "calibration.text: is absent, and then nothing else");
  refused(
      [](Request& r) {
        r.mutable_calibration()->mutable_text()->set_packing(v1::PACKING_DOCUMENTS);
        r.mutable_calibration()->set_window_start(v1::WINDOW_START_TEXT);
      },
      "calibration.window_start: belongs to texts of PACKING_CONCATENATED");
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
  const std::string long_text(5000, 'x');
  refused([&](Request& r) { r.set_model(long_text); }, "model: has 5000 bytes, and at most 4096");
  refused([&](Request& r) { r.set_output_uri(long_text); }, "output_uri: has 5000 bytes");
  refused([&](Request& r) { r.mutable_calibration()->mutable_text()->set_text_field(long_text); },
          "calibration.text.text_field: has 5000 bytes, and at most 256");
  refused(
      [&](Request& r) {
        for (int i = 0; i < 17; ++i) r.add_keep_ratios(2);
      },
      "keep_ratios: at most 16");
}

TEST_F(SpecProtoTest, SvdNeedsNoCalibration) {
  request_.set_method(v1::METHOD_SVD);
  request_.mutable_calibration()->Clear();
  ASSERT_TRUE(Resolve().ok()) << Resolve();
  EXPECT_FALSE(request_.has_calibration());
  const auto spec = ToSpec(request_, *store_, "");
  ASSERT_TRUE(spec.ok()) << spec.status();
  EXPECT_TRUE(spec->calibration.sources.empty());
}

TEST_F(SpecProtoTest, HowWindowsBeginIsTheModelsToSayOrTheCallers) {
  v1::EvaluateRequest evaluate;
  evaluate.set_model(model_);
  v1::EvaluationTask& task = *evaluate.add_tasks();
  task.set_name("wikitext2");
  task.mutable_dataset()->set_uri(text_);
  const auto resolve = [&] { return ResolveRequest(*store_, "default", evaluate); };
  ASSERT_TRUE(Resolve().ok() && resolve().ok());
  EXPECT_EQ(request_.calibration().window_start(), v1::WINDOW_START_UNSPECIFIED);
  EXPECT_FALSE(ToSpec(request_, *store_, "")->calibration.window_start.has_value());
  EXPECT_FALSE(ToSpec(evaluate, *store_, "")->measure.texts[0].window_start.has_value());
  request_.mutable_calibration()->set_window_start(v1::WINDOW_START_WINDOW);
  task.set_window_start(v1::WINDOW_START_TEXT);
  ASSERT_TRUE(Resolve().ok() && resolve().ok());
  EXPECT_EQ(ToSpec(request_, *store_, "")->calibration.window_start, WindowStart::kWindow);
  EXPECT_EQ(ToSpec(evaluate, *store_, "")->measure.texts[0].window_start, WindowStart::kText);
  task.mutable_dataset()->set_packing(v1::PACKING_DOCUMENTS);
  EXPECT_THAT(std::string(resolve().message()),
              HasSubstr("tasks[0].window_start: belongs to texts of PACKING_CONCATENATED"));
  task.set_name("piqa");
  EXPECT_THAT(std::string(resolve().message()),
              HasSubstr("tasks[0].window_start: belongs to tasks that read a text"));
  task.set_window_start(static_cast<v1::WindowStart>(9));
  EXPECT_THAT(std::string(resolve().message()), HasSubstr("tasks[0].window_start: 9 is no"));
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

TEST_F(SpecProtoTest, AGateOnACompressionNeedsSomethingToLookAt) {
  request_.set_keep_rejected(true);
  EXPECT_THAT(std::string(Resolve().message()), HasSubstr("keep_rejected: needs a threshold"));
  request_.mutable_threshold()->set_max_perplexity_increase(0.1);
  ASSERT_TRUE(Resolve().ok()) << "what calibration leaves is measured";
  const auto spec = ToSpec(request_, *store_, "");
  ASSERT_TRUE(spec.ok()) << spec.status();
  EXPECT_EQ(spec->threshold.max_perplexity_increase, 0.1);
  EXPECT_FALSE(spec->threshold.max_accuracy_drop.has_value());
  EXPECT_TRUE(spec->keep_rejected);
  request_.mutable_threshold()->set_max_accuracy_drop(0.1);
  EXPECT_THAT(std::string(Resolve().message()), HasSubstr("threshold.max_accuracy_drop"));
  request_.mutable_threshold()->clear_max_accuracy_drop();
  request_.mutable_threshold()->set_max_perplexity_increase(-1);
  EXPECT_THAT(std::string(Resolve().message()), HasSubstr("threshold.max_perplexity_increase"));
  request_.mutable_threshold()->set_max_perplexity_increase(0.1);
  request_.mutable_evaluation()->set_disabled(true);
  EXPECT_THAT(std::string(Resolve().message()), HasSubstr("threshold: needs an evaluation"));
  request_.mutable_evaluation()->clear_disabled();
  request_.mutable_calibration()->clear_text();
  request_.mutable_calibration()->add_sources()->set_model_samples(true);
  EXPECT_THAT(std::string(Resolve().message()), HasSubstr("there is no text to compare"));
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

}  // namespace
}  // namespace svdllm
