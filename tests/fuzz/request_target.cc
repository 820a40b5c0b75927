// Requests as a client may send them: checked, resolved, planned against a tiny model, and asked
// for once more; and requests for lists.
#include <google/protobuf/io/tokenizer.h>
#include <google/protobuf/text_format.h>

#include "client/cli/request_inputs.h"
#include "pipeline/pipeline.h"
#include "server/check_submission.h"
#include "server/job_api.h"
#include "server/spec_proto.h"
#include "server/status_proto.h"
#include "tests/fuzz/targets.h"
#include "tests/support/run_job.h"
#include "tests/support/tiny_checkpoint.h"

namespace svdllm::testing {
namespace {

// A status carries no more than a client reads of it (status_proto.h).
constexpr size_t kMaxDetailBytes = 7 << 10;

void CheckAnswer(const absl::Status& status) {
  CheckRefusal(status);
  FUZZ_CHECK(ErrorMessage(status).size() <= kMaxMessageBytes, status.ToString());
  FUZZ_CHECK(ErrorDetails(status).size() <= kMaxDetailBytes, status.ToString());
}

class Silent : public google::protobuf::io::ErrorCollector {
 public:
  void AddError(int, google::protobuf::io::ColumnNumber, const std::string&) override {}
};

// The bytes as they go over the line, or as text.
bool Parse(bool text, std::string_view bytes, google::protobuf::Message& message) {
  if (!text) return message.ParseFromArray(bytes.data(), static_cast<int>(bytes.size()));
  google::protobuf::TextFormat::Parser parser;
  Silent silent;
  parser.RecordErrorsTo(&silent);
  parser.SetRecursionLimit(100);
  return parser.ParseFromString(std::string(bytes), &message);
}

// Where a request finds a model ("MODEL") and a text ("TEXT"), and what plans it.
struct World {
  TempDir dir;
  std::string model = dir.File("model");
  std::string text = dir.Write("text.txt", std::string(4000, 'a') + " b\n");
  std::unique_ptr<ArtifactStore> store = std::move(*NewFileStore({{}, dir.File("artifacts")}));
  Engine engine;
  SubmissionChecker checker;
  World() {
    TinyCheckpointOptions options;
    options.num_layers = 1;
    WriteTinyCheckpoint(model, options);
    engine.devices.emplace_back().name = "cpu";
    engine.plan_compress = [](const CompressSpec& spec) { return PlanCompress(spec); };
    engine.plan_evaluate = [](const EvaluateSpec& spec) { return PlanEvaluate(spec); };
    checker = CheckHere(engine, *store);
  }
};

absl::Status Check(const SubmissionChecker& checker, v1::CompressModelRequest& request,
                   CheckedSubmission& checked) {
  return checker.compress("a", request, checked);
}
absl::Status Check(const SubmissionChecker& checker, v1::EvaluateRequest& request,
                   CheckedSubmission& checked) {
  return checker.evaluate("a", request, checked);
}

template <typename Request>
void Submit(bool text, std::string_view bytes) {
  static const World world;
  Request request;
  if (!Parse(text, bytes, request)) return;
  for (std::string* input : cli::InputsOf(request)) {
    if (*input == "MODEL") *input = world.model;
    if (*input == "TEXT") *input = world.text;
  }
  const std::string output = world.store->DefaultOutput("a");
  Request resolved = request;
  const absl::Status status = ResolveRequest(*world.store, output, resolved);
  if (!status.ok()) return CheckAnswer(status);
  Request again = resolved;
  FUZZ_CHECK(ResolveRequest(*world.store, output, again).ok(), resolved.ShortDebugString());
  FUZZ_CHECK(again.SerializeAsString() == resolved.SerializeAsString(), again.ShortDebugString());
  const auto spec = ToSpec(resolved, *world.store, world.dir.path());
  if (!spec.ok()) return CheckAnswer(spec.status());
  CheckedSubmission checked;
  if (const absl::Status plan = Check(world.checker, request, checked); !plan.ok()) {
    return CheckAnswer(plan);
  }
  FUZZ_CHECK(!checked.outputs.empty() || request.output_uri().empty(), "outputs");
}

// The first byte says which message follows, and whether as text.
void RunRequest(std::string_view bytes) {
  if (bytes.empty()) return;
  const bool text = (bytes[0] & 2) == 0;
  if ((bytes[0] & 1) == 0) {
    Submit<v1::CompressModelRequest>(text, bytes.substr(1));
  } else {
    Submit<v1::EvaluateRequest>(text, bytes.substr(1));
  }
}

struct Lists {
  TempDir dir;
  std::unique_ptr<JobStore> store = [this] {
    SqliteStoreOptions options;
    options.path = dir.File("jobs.db");
    return std::move(*OpenSqliteJobStore(options));
  }();
  Engine engine;
  JobApi api{*store, engine, {}, {}};
  std::string token;
  Lists() {
    for (const char* id : {"a", "b", "c"}) {
      NewJob job;
      job.id = id;
      job.labels = {{"k", id}};
      FUZZ_CHECK(store->Create(job, 10).ok(), id);
    }
    v1::ListJobsRequest request;
    request.set_page_size(1);
    token = api.ListJobs(request)->next_page_token();
  }
};

void RunList(std::string_view bytes) {
  static Lists lists;
  if (bytes.empty()) return;
  const bool text = (bytes[0] & 2) == 0;
  v1::ListJobsRequest request;
  if (Parse(text, bytes.substr(1), request)) {
    if (request.page_token() == "TOKEN") request.set_page_token(lists.token);
    const auto answer = lists.api.ListJobs(request);
    if (!answer.ok()) CheckAnswer(answer.status());
    FUZZ_CHECK(!answer.ok() || answer->jobs_size() <= 3, "jobs");
  }
  v1::GetJobRequest get;
  if (Parse(text, bytes.substr(1), get)) {
    const auto answer = lists.api.GetJob(get);
    if (!answer.ok()) CheckAnswer(answer.status());
  }
}

std::string Binary(char kind, const google::protobuf::Message& message) {
  return std::string(1, kind) + message.SerializeAsString();
}

}  // namespace

FuzzTarget RequestTarget() {
  const std::string compress =
      "model: 'MODEL' keep_ratios: 0.5 calibration { text { uri: 'TEXT' } samples: 2 seq_len: 16 }";
  v1::CompressModelRequest binary;
  binary.set_model("MODEL");
  binary.add_keep_ratios(0.5);
  binary.mutable_calibration()->mutable_text()->set_uri("TEXT");
  return {
      "request",
      RunRequest,
      {"0" + compress,
       "0" + compress +
           " method: METHOD_SVD allocation: ALLOCATION_UNIFORM labels { key: 'a' value: 'b' }"
           " timeout { seconds: 60 } output_uri: 'x' encoding: ENCODING_PLAIN validate_only: true"
           " request_id: '6f1c1f0e-0b6e-4b8e-9d0e-0123456789ab' rank_multiple: 2"
           " evaluation { tasks { name: 'perplexity' dataset { uri: 'TEXT' } seq_len: 8 } }",
       "1model: 'MODEL' baseline: 'MODEL' tasks { name: 'perplexity' dataset { uri: 'TEXT' }"
       " seq_len: 16 limit: 2 }",
       "1model: 'MODEL' speed { } tasks { name: 'piqa' dataset { uri: 'TEXT' } num_fewshot: 1 }",
       Binary('2', binary)},
      {"model:",
       "'MODEL'",
       "'TEXT'",
       "keep_ratios:",
       "calibration {",
       "sources {",
       "text {",
       "}",
       "uri:",
       "samples:",
       "seq_len:",
       "method: METHOD_",
       "SVD_LLM",
       "ANCHORED",
       "ASVD",
       "DRONE",
       "allocation: ALLOCATION_",
       "KL_PROBE",
       "UNIFORM",
       "RELATIVE_TAILS",
       "encoding: ",
       "output_format: OUTPUT_FORMAT_DENSE",
       "evaluation {",
       "tasks {",
       "name:",
       "'perplexity'",
       "'piqa'",
       "'gsm8k'",
       "dataset {",
       "threshold {",
       "labels {",
       "key:",
       "value:",
       "timeout {",
       "seconds:",
       "artifact_ttl {",
       "nanos:",
       "-1",
       "0",
       "1e400",
       "nan",
       "9223372036854775807",
       "window_start:",
       "num_fewshot:",
       "self_text {",
       "output_uri:",
       "'..'",
       "'\\377'",
       "\x0a\x05MODEL",
       "\xff"},
      2048,
      kProtobufFloor};
}

FuzzTarget ListTarget() {
  return {"list",
          RunList,
          {"0page_token: 'TOKEN' page_size: 1",
           "0states: JOB_STATE_QUEUED labels { key: 'k' value: 'a' }",
           "0order_by: 'create_time' kinds: JOB_KIND_EVALUATE", "0name: 'jobs/a'",
           "0page_token: '2-0'", "0page_size: -1 states: 77"},
          {"page_token:",
           "'TOKEN'",
           "page_size:",
           "states:",
           "JOB_STATE_",
           "kinds:",
           "labels {",
           "key:",
           "value:",
           "}",
           "order_by:",
           "'create_time desc'",
           "name:",
           "'jobs/",
           "'",
           "-1",
           "0",
           "2147483647",
           "'9223372036854775808-'",
           "\\000",
           "\\377"},
          512,
          kProtobufFloor};
}

}  // namespace svdllm::testing
