// compress and evaluate: from flags to the request.
#include <gmock/gmock.h>

#include <thread>

#include "tests/support/source_dir.h"
#include "tests/unit/client/cli/submit_fixture.h"

namespace svdllm::cli {
namespace {

using testing::HasSubstr;
using testing::IsEmpty;
using testing::Not;

TEST_F(SubmitTest, LeavesToTheServerWhatIsNotGiven) {
  EXPECT_EQ(Run(kCompress).exit_status, kExitOk);
  EXPECT_EQ(script().compress_requests.at(0).request_id().size(), 36u);
  ExpectRequest(script().compress_requests.at(0),
                "model: '/m' keep_ratios: 0.8 calibration { text { uri: '/c' } }");
}

TEST_F(SubmitTest, EveryFlagOfCompressArrives) {
  const Ran ran = Run({"compress",
                       "--model",
                       "m/../model/",
                       "--method=anchored",
                       "--encoding=ENCODING_PIVOTED",
                       "--keep_ratio=0.8,0.6",
                       "--allocation=RELATIVE_TAILS",
                       "--min_keep_ratio=0.2",
                       "--rank_multiple=16",
                       "--anchor_blend=0.75",
                       "--anchor_ridge=1e-3",
                       "--asvd_alpha=0.25",
                       "--calibration=0.75:c.jsonl",
                       "--calibration=file:///d",
                       "--calibration=2:MODEL_SAMPLES",
                       "--calibration_samples=8",
                       "--calibration_seq_len=64",
                       "--seed=0",
                       "--packing=documents",
                       "--text_field=body",
                       "--first_document=5",
                       "--evaluation=file:///e.txt",
                       "--evaluation=wiki=w.txt",
                       "--evaluation_seq_len=32",
                       "--evaluation_limit=4",
                       "--evaluation_packing=CONCATENATED",
                       "--output=out/x",
                       "--output_format=DENSE",
                       "--request_id=9",
                       "--label=a=1",
                       "--timeout=1500ms",
                       "--artifact_ttl=720h",
                       "--validate_only"});
  ASSERT_EQ(ran.exit_status, kExitOk) << ran.err;
  ExpectRequest(script().compress_requests.at(0), R"(
      request_id: '9' validate_only: true labels { key: 'a' value: '1' }
      timeout { seconds: 1 nanos: 500000000 } artifact_ttl { seconds: 2592000 }
      model: '/here/model' method: METHOD_ANCHORED keep_ratios: 0.8 keep_ratios: 0.6
      encoding: ENCODING_PIVOTED allocation: ALLOCATION_RELATIVE_TAILS min_keep_ratio: 0.2 rank_multiple: 16
      anchor_blend: 0.75 anchor_ridge: 1e-3
      calibration {
        sources { text { uri: '/here/c.jsonl' text_field: 'body' packing: PACKING_DOCUMENTS } weight: 0.75 }
        sources { text { uri: 'file:///d' text_field: 'body' packing: PACKING_DOCUMENTS } }
        sources { model_samples: true weight: 2 }
        samples: 8 seq_len: 64 seed: 0 first_document: 5
      }
      output_uri: 'out/x' output_format: OUTPUT_FORMAT_DENSE asvd_alpha: 0.25
      evaluation {
        tasks { name: 'perplexity' label: 'e' seq_len: 32 limit: 4
                dataset { uri: 'file:///e.txt' text_field: 'body' packing: PACKING_CONCATENATED } }
        tasks { name: 'perplexity' label: 'wiki' seq_len: 32 limit: 4
                dataset { uri: '/here/w.txt' text_field: 'body' packing: PACKING_CONCATENATED } }
      })");
}

TEST_F(SubmitTest, CalibrationSourcesAreTold) {
  const auto calibration = [this](const std::vector<std::string>& flags) {
    EXPECT_EQ(Run(With({"compress", "--model=/m", "--keep_ratio=0.8"}, flags)).exit_status,
              kExitOk);
    return script().compress_requests.back().calibration().ShortDebugString();
  };
  EXPECT_EQ(calibration({"--calibration=3:a"}), "text { uri: \"/here/a\" }") << "all of it anyway";
  EXPECT_EQ(calibration({"--calibration=./3:a"}), "text { uri: \"/here/3:a\" }");
  EXPECT_EQ(calibration({"--calibration=a:b"}), "text { uri: \"/here/a:b\" }");
  EXPECT_EQ(calibration({"--calibration=./MODEL_SAMPLES"}),
            "text { uri: \"/here/MODEL_SAMPLES\" }");
  EXPECT_EQ(calibration({"--calibration=MODEL_SAMPLES"}), "sources { model_samples: true }");
  EXPECT_EQ(calibration({"--calibration=a", "--calibration=0:b"}),
            "sources { text { uri: \"/here/a\" } } "
            "sources { text { uri: \"/here/b\" } weight: 0 }")
      << "the server says what it thinks of that";
}

TEST_F(SubmitTest, WhetherThereMustBeATextIsTheServersToSay) {
  ASSERT_EQ(Run({"compress", "--model=/m", "--keep_ratio=0.8", "--method=svd"}).exit_status,
            kExitOk);
  ExpectRequest(script().compress_requests.at(0),
                "model: '/m' keep_ratios: 0.8 method: METHOD_SVD");
}

TEST_F(SubmitTest, HowWindowsBeginIsTold) {
  ASSERT_EQ(Run(With(kCompress, {"--calibration_window_start=text", "--dataset=/w.txt",
                                 "--window_start=WINDOW"}))
                .exit_status,
            kExitOk);
  ExpectRequest(script().compress_requests.at(0), R"(
      model: '/m' keep_ratios: 0.8
      calibration { text { uri: '/c' } window_start: WINDOW_START_TEXT }
      evaluation { tasks { name: 'perplexity' dataset { uri: '/w.txt' }
                           window_start: WINDOW_START_WINDOW } })");
  ASSERT_EQ(Run({"evaluate", "--model=/m", "--tasks=wikitext2,piqa", "--dataset=wikitext2=/w",
                 "--dataset=piqa=/p", "--window_start=window"})
                .exit_status,
            kExitOk);
  const v1::EvaluateRequest& request = script().evaluate_requests.at(0);
  EXPECT_EQ(request.tasks(0).window_start(), v1::WINDOW_START_WINDOW);
  EXPECT_EQ(request.tasks(1).window_start(), v1::WINDOW_START_UNSPECIFIED) << "reads no text";
  EXPECT_EQ(Run(With(kCompress, {"--window_start=text"})).exit_status, kExitUsage);
}

TEST_F(SubmitTest, LengthsMayBeLeftToTheModel) {
  const Ran ran = Run(With(kCompress, {"--calibration_seq_len=0"}));
  ASSERT_EQ(ran.exit_status, kExitOk) << ran.err;
  EXPECT_EQ(script().compress_requests.at(0).calibration().seq_len(), 0);
}

TEST_F(SubmitTest, EveryFlagOfEvaluateArrives) {
  ASSERT_EQ(
      Run({"evaluate", "--model=file:///m", "--tasks=perplexity", "--dataset=wiki=w.txt",
           "--dataset=perplexity=p.jsonl", "--seq_len=128", "--limit=2", "--packing=DOCUMENTS",
           "--text_field=t", "--label=k=v", "--timeout=1h", "--request_id=r"})
          .exit_status,
      kExitOk);
  ExpectRequest(script().evaluate_requests.at(0), R"(
      request_id: 'r' labels { key: 'k' value: 'v' } timeout { seconds: 3600 } model: 'file:///m'
      tasks { name: 'perplexity' label: 'wiki' seq_len: 128 limit: 2
              dataset { uri: '/here/w.txt' text_field: 't' packing: PACKING_DOCUMENTS } }
      tasks { name: 'perplexity' seq_len: 128 limit: 2
              dataset { uri: '/here/p.jsonl' text_field: 't' packing: PACKING_DOCUMENTS } })");
}

TEST_F(SubmitTest, EvaluateAgainstABaseline) {
  ASSERT_EQ(Run({"evaluate", "--model=/m", "--dataset=/w", "--baseline=dense", "--output=out",
                 "--max_accuracy_drop=0.02", "--max_perplexity_increase=0.1"})
                .exit_status,
            kExitOk);
  ExpectRequest(script().evaluate_requests.at(0), R"(
      model: '/m' tasks { name: 'perplexity' dataset { uri: '/w' } } baseline: '/here/dense'
      threshold { max_accuracy_drop: 0.02 max_perplexity_increase: 0.1 } output_uri: 'out')");
}

TEST_F(SubmitTest, CompressMayHaveAGate) {
  ASSERT_EQ(Run(With(kCompress, {"--max_accuracy_drop=0.02", "--max_perplexity_increase=0.1",
                                 "--keep_rejected"}))
                .exit_status,
            kExitOk);
  const v1::CompressModelRequest& request = script().compress_requests.at(0);
  EXPECT_EQ(request.threshold().max_accuracy_drop(), 0.02);
  EXPECT_EQ(request.threshold().max_perplexity_increase(), 0.1);
  EXPECT_TRUE(request.keep_rejected());
  ASSERT_EQ(Run(kCompress).exit_status, kExitOk);
  EXPECT_FALSE(script().compress_requests.at(1).has_threshold());
  EXPECT_EQ(Run(With(kCompress, {"--no_evaluation", "--max_perplexity_increase=0.1"})).exit_status,
            kExitUsage);
}

TEST_F(SubmitTest, ARejectedCompressionExitsAsARejectedEvaluation) {
  script().submitted.set_state(v1::JOB_STATE_FAILED);
  script().submitted.mutable_error()->set_reason("REGRESSED");
  script().submitted.mutable_error()->set_message("keep ratio 0.2: perplexity");
  v1::CompressModelResult& result = *script().submitted.mutable_compress_model_result();
  v1::ArtifactResult& artifact = *result.add_artifacts();
  artifact.set_keep_ratio(0.2);
  artifact.mutable_verdict()->add_regressions("wiki: perplexity 5 → 500");
  const Ran ran = Run(With(kCompress, {"--watch"}));
  EXPECT_EQ(ran.exit_status, kExitRegressed);
  EXPECT_THAT(ran.out, HasSubstr("failed: keep ratio 0.2: perplexity (REGRESSED)\n"));
  EXPECT_THAT(ran.out, HasSubstr("keep 0.2: REJECTED\n  wiki: perplexity 5 → 500\n"));
}

TEST_F(SubmitTest, MissingAndContradictingFlagsAreUsageErrors) {
  const std::vector<std::pair<std::vector<std::string>, std::string>> cases = {
      {{"compress", "--keep_ratio=0.8", "--calibration=/c"}, "--model"},
      {{"compress", "--model=/m", "--calibration=/c"}, "--keep_ratio"},
      {With(kCompress, {"--watch", "--detach"}), "--detach"},
      {With(kCompress, {"--asvd_alpha=0.1,0.2"}), "--asvd_alpha"},
      {With(kCompress, {"--anchor_ridge=x"}), "--anchor_ridge=x is not a number"},
      {With(kCompress, {"--rank_multiple=0"}), "--rank_multiple"},
      {With(kCompress, {"--calibration=2:"}), "--calibration=2: names no file"},
      {With(kCompress, {"--evaluation=x="}), "--evaluation=x= names no file"},
      {With(kCompress, {"--encoding=pivot"}), "did you mean pivoted?"},
      {With(kCompress, {"--packing=DOCUMENTS", "--calibration_packing=DOCUMENTS"}), "--packing"},
      {With(kCompress, {"--method=svd_lm"}), "did you mean svd_llm?"},
      {With(kCompress, {"extra"}), "'extra'"},
      {{"evaluate", "--model=/m"}, "--dataset"},
      {{"evaluate", "--model=/m", "--dataset=x="}, "--dataset=x="},
      {{"evaluate", "--model=/m", "--tasks=a,b", "--dataset=/f"}, "for which task"},
      {{"evaluate", "--model=/m", "--tasks=a,b", "--dataset=a=/f"}, "--dataset=b=FILE is missing"},
      {{"evaluate", "--model=/m", "--dataset=/f", "--answers=piqa=/f"}, "a task that is asked for"},
      {{"evaluate", "--model=/m", "--tasks=a", "--dataset=a=/f", "--fewshot=a=/f"}, "TASK=N:FILE"},
      {With(kCompress, {"--task=/f"}), "TASK=FILE"},
      {With(kCompress, {"--no_evaluation", "--task=a=/f"}), "--no_evaluation"},
      {With(kCompress, {"--tasks=a,b", "--dataset=a=/f"}), "--dataset=b=FILE is missing"},
      {With(kCompress, {"--tasks=wikitext2"}), "--dataset=wikitext2=FILE is missing"},
      {With(kCompress, {"--dataset=x="}), "--dataset=x="},
      {With(kCompress, {"--answers=piqa=/f"}), "a task that is asked for"},
  };
  for (const auto& [arguments, word] : cases) {
    const Ran ran = Run(arguments);
    EXPECT_EQ(ran.exit_status, kExitUsage) << ran.err;
    EXPECT_THAT(ran.err, HasSubstr(word));
    EXPECT_THAT(ran.err, HasSubstr("--help"));
    EXPECT_THAT(ran.out, IsEmpty());
  }
  EXPECT_EQ(script().calls, 0);
}

TEST_F(SubmitTest, DetachedPrintsTheNameAlone) {
  const Ran ran = Run(kCompress);  // the default where there is no terminal
  EXPECT_EQ(ran.out, "jobs/0a\n");
  EXPECT_THAT(ran.err, IsEmpty());
  EXPECT_THAT(script().watched_after, IsEmpty());
  EXPECT_EQ(Run(With(kCompress, {"--detach", "--format=json"})).Json()["name"], kName);
}

TEST_F(SubmitTest, WatchesByDefaultOnATerminalOnly) {
  terminal_ = true;
  EXPECT_THAT(Run(kCompress).out, HasSubstr("succeeded"));
  EXPECT_EQ(script().watched_after.size(), 1u);
  EXPECT_EQ(Run(With(kCompress, {"--detach"})).out, "jobs/0a\n");
  terminal_ = false;
  const Ran ran = Run(With(kCompress, {"--watch"}));
  EXPECT_THAT(ran.err, HasSubstr("layer 1/5"));
  EXPECT_THAT(ran.out, HasSubstr("jobs/0a succeeded"));
}

TEST_F(SubmitTest, JsonIsTheFinalJobAndNothingElse) {
  const Ran ran = Run(With(kCompress, {"--watch", "--format=json"}));
  EXPECT_EQ(ran.Json()["state"], "JOB_STATE_SUCCEEDED");
  EXPECT_TRUE(ran.Json().contains("lastSequence"));  // though it is zero
  EXPECT_THAT(ran.err, HasSubstr("RUNNING"));
}

TEST_F(SubmitTest, FailedAndCancelledJobsExitWithOne) {
  script().submitted.set_state(v1::JOB_STATE_FAILED);
  script().submitted.mutable_error()->set_reason("NUMERICAL_FAILURE");
  script().submitted.mutable_error()->set_message("model.layers.3: not finite");
  Ran ran = Run(With(kCompress, {"--watch"}));
  EXPECT_EQ(ran.exit_status, kExitJobFailed);
  EXPECT_THAT(ran.out, HasSubstr("failed: model.layers.3: not finite (NUMERICAL_FAILURE)"));
  ran = Run(With(kCompress, {"--watch", "--format=json"}));
  EXPECT_EQ(ran.exit_status, kExitJobFailed);
  EXPECT_EQ(ran.Json()["error"]["reason"], "NUMERICAL_FAILURE");
  script().submitted.set_state(v1::JOB_STATE_CANCELLED);
  EXPECT_EQ(Run(With(kCompress, {"--watch"})).exit_status, kExitJobFailed);
}

TEST_F(SubmitTest, InterruptedWatchSaysThatTheJobGoesOn) {
  script().streams_hang = true;
  std::jthread interrupt([&] {
    for (bool watching = false; !watching;) {
      std::this_thread::sleep_for(std::chrono::milliseconds(20));
      std::lock_guard lock(script().mutex);
      watching = !script().watched_after.empty();
    }
    stop_.request_stop();
  });
  const Ran ran = Run(With(kCompress, {"--watch"}));
  EXPECT_EQ(ran.exit_status, kExitInterrupted);
  EXPECT_THAT(ran.err, HasSubstr("goes on"));
  EXPECT_THAT(ran.err, Not(HasSubstr("no connection")));
  EXPECT_THAT(ran.err, HasSubstr("svdllm jobs watch jobs/0a --server=" + server_.address()));
  EXPECT_THAT(ran.err, HasSubstr("svdllm jobs cancel jobs/0a"));
  EXPECT_THAT(ran.out, IsEmpty());
}

TEST_F(SubmitTest, AnInterruptedSubmissionTellsItsRequestId) {
  script().delay_ms = 500;
  std::jthread interrupt([&] {
    std::this_thread::sleep_for(std::chrono::milliseconds(100));
    stop_.request_stop();
  });
  const Ran ran = Run(With(kCompress, {"--request_id=abc"}));
  EXPECT_EQ(ran.exit_status, kExitInterrupted);
  EXPECT_THAT(ran.err, HasSubstr("--request_id=abc"));
}

TEST_F(SubmitTest, UnknownPathsSayWhoseTheyAre) {
  directory_ = SourceDir();
  const std::string model = SourceDir() + "/client", text = SourceDir() + "/README.md";
  script().refusal = Refusal(5, "MODEL_NOT_FOUND", model + ": no such directory");
  // It exists here, so the server must be looking elsewhere.
  const std::vector<std::string> asked = {"compress", "--model=client", "--keep_ratio=0.8",
                                          "--calibration=README.md"};
  Ran ran = Run(asked);
  EXPECT_EQ(ran.exit_status, kExitRefused);
  EXPECT_THAT(ran.err, HasSubstr("no such directory (MODEL_NOT_FOUND)"));
  EXPECT_THAT(ran.err, HasSubstr("looked up by the server"));
  EXPECT_THAT(ran.err, HasSubstr("readable: " + model + "\n"));
  script().refusal = Refusal(5, "CALIBRATION_INVALID", "open " + text + ": No such file");
  EXPECT_THAT(Run(asked).err, HasSubstr("readable: " + text + "\n"));
  script().refusal = Refusal(5, "CALIBRATION_INVALID", "file://" + model + "/x.txt: no such file");
  EXPECT_THAT(Run(asked).err, Not(HasSubstr("looked up")))
      << "another path begins with the model's";
  // What is wrong is not where it lies.
  script().refusal = Refusal(3, "CALIBRATION_INVALID", text + ": line 1: no field 'text'");
  EXPECT_THAT(Run(asked).err, Not(HasSubstr("looked up")));
  script().refusal = Refusal(3, "INVALID_FIELD", "calibration.text.uri: " + text);
  EXPECT_THAT(Run(asked).err, Not(HasSubstr("looked up")));
  // It exists nowhere: the server's word is enough.
  script().refusal = Refusal(5, "MODEL_NOT_FOUND", "/m: no such directory");
  EXPECT_THAT(Run(kCompress).err, Not(HasSubstr("looked up")));
}

TEST_F(SubmitTest, ValidateOnlyPrintsThePlan) {
  v1::CompressionPlan* plan = script().submitted.mutable_plan();
  plan->set_parameters(134'515'008);
  plan->set_weight_bytes(269'030'016);
  plan->set_ranks_are_final(true);
  plan->add_warnings("calibration: few.txt: it is short");
  v1::ArtifactPlan* artifact = plan->add_artifacts();
  artifact->set_keep_ratio(0.8);
  artifact->set_parameters(113'000'000);
  for (int i = 0; i < 30; ++i) {
    v1::MatrixPlan* matrix = artifact->add_matrices();
    matrix->set_name("model.layers." + std::to_string(i) + ".self_attn.q_proj");
    matrix->set_rows(576);
    matrix->set_cols(576);
    matrix->set_rank(230);
  }
  const Ran ran = Run(With(kCompress, {"--validate_only"}));
  EXPECT_EQ(ran.exit_status, kExitOk);
  EXPECT_THAT(ran.out, HasSubstr("134,515,008"));
  EXPECT_THAT(ran.out, HasSubstr("self_attn.q_proj      30    576 × 576          230\n"));
  EXPECT_THAT(ran.out, HasSubstr("nothing was started"));
  EXPECT_THAT(ran.out, HasSubstr("\nwarning: calibration: few.txt: it is short\n"));
  EXPECT_THAT(script().watched_after, IsEmpty());
  const nlohmann::json json = Run(With(kCompress, {"--validate_only", "--format=json"})).Json();
  EXPECT_EQ(json["plan"]["artifacts"][0]["matrices"].size(), 30u);
}

}  // namespace
}  // namespace svdllm::cli
