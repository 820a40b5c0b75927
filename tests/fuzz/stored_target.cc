// What the job store hands out: rows whose bytes another version, or a damaged disk, has written.
#include "server/job_proto.h"
#include "server/known_parts.h"
#include "server/spec_proto.h"
#include "tests/fuzz/targets.h"

namespace svdllm::testing {
namespace {

template <typename Request>
void RunStored(const std::string& bytes, const ArtifactStore& store, const std::string& scratch) {
  Request request;
  if (!request.ParseFromString(bytes)) return;
  (void)UnknownParts(request);
  const auto spec = ToSpec(request, store, scratch);
  if (!spec.ok()) CheckRefusal(spec.status());
}

// The first byte says the kind and the state, the second where the rest is stored.
void Run(std::string_view bytes) {
  if (bytes.size() < 2) return;
  Job job;
  job.id = "a";
  job.kind = static_cast<JobKind>(bytes[0] & 3);
  job.state = static_cast<JobState>(bytes[0] >> 2 & 7);
  job.create_ms = job.update_ms = 1;
  const std::string stored(bytes.substr(2));
  const int where = bytes[1] & 7;
  (where == 0 ? job.request : where == 1 ? job.result : job.progress) = stored;
  if (where == 3) job.error = JobError{absl::StatusCode::kUnknown, stored, stored};
  for (const JobView view : {JobView::kFull, JobView::kListed}) {
    const v1::Job message = ToProto(job, view);
    v1::Job again;
    FUZZ_CHECK(again.ParseFromString(message.SerializeAsString()), "cannot be sent");
  }
  Event event;
  event.kind = static_cast<EventKind>(bytes[1] & 7);
  event.payload = stored;
  v1::JobEvent told;
  FUZZ_CHECK(told.ParseFromString(ToProto(event).SerializeAsString()), "cannot be sent");
  static const TempDir dir;
  static const std::unique_ptr<ArtifactStore> store = std::move(*NewFileStore({{}, dir.File("a")}));
  if (where == 0) {
    RunStored<v1::CompressModelRequest>(stored, *store, dir.path());
    RunStored<v1::EvaluateRequest>(stored, *store, dir.path());
  }
}

}  // namespace

FuzzTarget StoredJobTarget() {
  v1::CompressModelRequest request;
  request.set_model("file:///m");
  request.add_keep_ratios(0.5);
  request.mutable_calibration()->mutable_text()->set_uri("file:///t");
  request.set_method(v1::METHOD_ANCHORED);
  v1::EvaluateRequest evaluate;
  evaluate.set_model("file:///m");
  evaluate.add_tasks()->set_name("piqa");
  v1::CompressModelResult result;
  result.add_artifacts()->add_matrices()->set_name("m");
  v1::Progress progress;
  progress.set_stage("calibrate");
  const auto row = [](char kind, char where, const google::protobuf::Message& message) {
    return std::string{kind, where} + message.SerializeAsString();
  };
  return {"stored_job",
          Run,
          {row(1 | 4, 0, request), row(2 | 4, 0, evaluate), row(1 | 16, 1, result),
           row(1 | 8, 2, progress), std::string{1 | 20, 3} + "MODEL_CORRUPT"},
          {"file:///", "piqa", "perplexity", "\x0a", "\x12", "\x1a", "\x08\x63",
           std::string(4, '\xff'), "\xf8\x07\x01"},
          1024,
          kProtobufFloor};
}

}  // namespace svdllm::testing
