// What operators see: server info, health, readiness, metrics, reflection, shutdown.
#include <gmock/gmock.h>
#include <google/protobuf/descriptor.h>
#include <google/protobuf/descriptor.pb.h>
#include <grpcpp/impl/client_unary_call.h>

#include <filesystem>
#include <nlohmann/json.hpp>
#include <sstream>
#include <thread>

#include "grpc/reflection/v1/reflection.grpc.pb.h"
#include "server_fixture.h"

namespace svdllm {
namespace {

using std::chrono::milliseconds;
using ::testing::ElementsAre;
using ::testing::HasSubstr;

// gRPC's own health service, called with hand-made bytes: no package has its messages. The serving
// status, or the negative code of an error.
int Health(const std::shared_ptr<grpc::Channel>& channel, const std::string& service) {
  // HealthCheckRequest{service = 1}; HealthCheckResponse{status = 1}: google.rpc.Status begins
  // alike (code = 1), BadRequest.FieldViolation too (field = 1).
  google::rpc::BadRequest::FieldViolation request;
  request.set_field(service);
  google::rpc::Status response;
  grpc::ClientContext context;
  context.set_deadline(std::chrono::system_clock::now() + std::chrono::seconds(5));
  const grpc::internal::RpcMethod method("/grpc.health.v1.Health/Check",
                                         grpc::internal::RpcMethod::NORMAL_RPC, channel);
  const grpc::Status status =
      grpc::internal::BlockingUnaryCall(channel.get(), method, &context, request, &response);
  return status.ok() ? response.code() : -static_cast<int>(status.error_code());
}

TEST_F(ServerTest, ServerInfoSaysWhatThereIs) {
  v1::ServerInfo info;
  ASSERT_TRUE(
      Call(&v1::CompressionService::Stub::GetServerInfo, v1::GetServerInfoRequest(), info).ok());
  EXPECT_EQ(info.version(), SVDLLM_VERSION);
  EXPECT_EQ(info.devices(0).name(), "cpu");
  EXPECT_THAT(info.families(), testing::IsSupersetOf({"llama", "mistral", "opt"}));
  EXPECT_THAT(info.methods(), ElementsAre(v1::METHOD_SVD, v1::METHOD_ASVD, v1::METHOD_SVD_LLM,
                                          v1::METHOD_SVD_LLM_UPDATE, v1::METHOD_ANCHORED));
  EXPECT_THAT(info.allocations(),
              ElementsAre(v1::ALLOCATION_UNIFORM, v1::ALLOCATION_V2, v1::ALLOCATION_D_RANK,
                          v1::ALLOCATION_RELATIVE_TAILS, v1::ALLOCATION_KL_PROBE));
  EXPECT_THAT(info.encodings(), ElementsAre(v1::ENCODING_PLAIN, v1::ENCODING_PIVOTED));
  EXPECT_THAT(info.output_formats(),
              ElementsAre(v1::OUTPUT_FORMAT_FACTORED, v1::OUTPUT_FORMAT_DENSE));
  EXPECT_THAT(info.tasks(),
              testing::IsSupersetOf({"perplexity", "wikitext2", "openbookqa", "gsm8k"}));
  EXPECT_EQ(info.limits().max_queued_jobs(), 1000);
  EXPECT_EQ(info.limits().lease_duration().seconds(), 30);
}

TEST_F(ServerTest, HealthAsksForNoToken) {
  tokens_ = directory_ + "/tokens";
  std::ofstream(tokens_) << "root admin " << std::string(64, '0') << "\n";
  StartServer();
  EXPECT_EQ(Health(channel_, "liveness"), 1);
  EXPECT_EQ(Health(channel_, "readiness"), 1);
  v1::ServerInfo info;
  EXPECT_EQ(Call(&v1::CompressionService::Stub::GetServerInfo, v1::GetServerInfoRequest(), info)
                .error_code(),
            grpc::StatusCode::UNAUTHENTICATED);
}

TEST_F(ServerTest, HealthFollowsReadiness) {
  constexpr int kServing = 1, kNotServing = 2;
  EXPECT_EQ(Health(channel_, ""), kServing);
  EXPECT_EQ(Health(channel_, "liveness"), kServing);
  EXPECT_EQ(Health(channel_, "readiness"), kServing);
  EXPECT_EQ(Health(channel_, "svdllm.v1.CompressionService"), kServing);
  EXPECT_EQ(Health(channel_, "other"), -static_cast<int>(grpc::StatusCode::NOT_FOUND));
  EXPECT_THAT(Http("/readyz"), HasSubstr("200 OK"));
  server_->SetNotReady();
  EXPECT_EQ(Health(channel_, ""), kNotServing);
  EXPECT_EQ(Health(channel_, "svdllm.v1.CompressionService"), kNotServing);
  EXPECT_EQ(Health(channel_, "liveness"), kServing);
  EXPECT_EQ(Health(channel_, "readiness"), kNotServing);
  EXPECT_THAT(Http("/readyz"), HasSubstr("503"));
  EXPECT_THAT(Http("/livez"), HasSubstr("200 OK"));
  EXPECT_NE(Submit(Compression()).name(), "") << "still served";
}

TEST_F(ServerTest, UnwritableArtifactRootIsNotReady) {
  std::filesystem::rename(directory_ + "/artifacts", directory_ + "/moved");
  EXPECT_THAT(Http("/readyz"), HasSubstr("artifact root"));
}

TEST_F(ServerTest, ReflectionListsTheServices) {
  // ServerReflectionRequest{list_services = 7}; the answer's strings are searched as bytes.
  const std::string request("\x3a\x01*", 3);
  grpc::ClientContext context;
  context.set_deadline(std::chrono::system_clock::now() + std::chrono::seconds(5));
  const grpc::internal::RpcMethod method(
      "/grpc.reflection.v1alpha.ServerReflection/ServerReflectionInfo",
      grpc::internal::RpcMethod::BIDI_STREAMING, channel_);
  const std::unique_ptr<grpc::ClientReaderWriter<grpc::ByteBuffer, grpc::ByteBuffer>> stream(
      grpc::internal::ClientReaderWriterFactory<grpc::ByteBuffer, grpc::ByteBuffer>::Create(
          channel_.get(), method, &context));
  const grpc::Slice slice(request);
  ASSERT_TRUE(stream->Write(grpc::ByteBuffer(&slice, 1)));
  grpc::ByteBuffer reply;
  ASSERT_TRUE(stream->Read(&reply));
  grpc::Slice bytes;
  ASSERT_TRUE(reply.DumpToSingleSlice(&bytes).ok());
  const std::string text(reinterpret_cast<const char*>(bytes.begin()), bytes.size());
  EXPECT_THAT(text, HasSubstr("svdllm.v1.CompressionService"));
  EXPECT_THAT(text, HasSubstr("grpc.health.v1.Health"));
  stream->WritesDone();
  EXPECT_TRUE(stream->Finish().ok());
}

TEST_F(ServerTest, ReflectionOfVersion1GivesServicesAndTheirFiles) {
  namespace v1r = grpc::reflection::v1;
  const auto stub = v1r::ServerReflection::NewStub(channel_);
  grpc::ClientContext context;
  context.set_deadline(std::chrono::system_clock::now() + std::chrono::seconds(5));
  const auto stream = stub->ServerReflectionInfo(&context);
  v1r::ServerReflectionRequest request;
  v1r::ServerReflectionResponse response;
  const auto ask = [&] {
    EXPECT_TRUE(stream->Write(request));
    EXPECT_TRUE(stream->Read(&response));
  };
  request.set_list_services("*");
  ask();
  std::vector<std::string> services;
  for (const auto& service : response.list_services_response().service()) {
    services.push_back(service.name());
  }
  EXPECT_THAT(services,
              testing::UnorderedElementsAre("svdllm.v1.CompressionService", "grpc.health.v1.Health",
                                            "grpc.reflection.v1.ServerReflection",
                                            "grpc.reflection.v1alpha.ServerReflection"));
  EXPECT_EQ(response.original_request().list_services(), "*");

  // From the files alone a tool makes the service's messages.
  request.set_file_containing_symbol("svdllm.v1.CompressionService");
  ask();
  google::protobuf::DescriptorPool pool;
  for (const std::string& bytes : response.file_descriptor_response().file_descriptor_proto()) {
    google::protobuf::FileDescriptorProto file;
    ASSERT_TRUE(file.ParseFromString(bytes));
    ASSERT_NE(pool.BuildFile(file), nullptr) << file.name();
  }
  const auto* const service = pool.FindServiceByName("svdllm.v1.CompressionService");
  ASSERT_NE(service, nullptr);
  EXPECT_NE(service->FindMethodByName("WaitJob"), nullptr);

  request.set_file_by_filename("grpc/reflection/v1/reflection.proto");
  ask();
  EXPECT_EQ(response.file_descriptor_response().file_descriptor_proto_size(), 1);
  request.set_file_containing_symbol("no.such.Thing");
  ask();
  EXPECT_EQ(response.error_response().error_code(), grpc::StatusCode::NOT_FOUND);
  request.set_all_extension_numbers_of_type("svdllm.v1.Job");
  ask();
  EXPECT_EQ(response.all_extension_numbers_response().base_type_name(), "svdllm.v1.Job");
  request.mutable_file_containing_extension()->set_containing_type("svdllm.v1.Job");
  ask();
  EXPECT_EQ(response.error_response().error_code(), grpc::StatusCode::NOT_FOUND);
  request.clear_message_request();
  ask();
  EXPECT_EQ(response.error_response().error_code(), grpc::StatusCode::INVALID_ARGUMENT);
  stream->WritesDone();
  EXPECT_TRUE(stream->Finish().ok());
}

// Who did what: a line for every job that is accepted, cancelled and deleted, and every refusal.
TEST_F(ServerTest, TheLogTellsWhatWasAskedAndByWhom) {
  v1::CompressModelRequest request = Compression();
  request.set_request_id(Uuid(1));
  v1::CompressModelRequest bad = request;
  bad.set_request_id(Uuid(2));
  bad.clear_keep_ratios();
  google::protobuf::Empty empty;
  v1::DeleteJobRequest deletion;
  v1::Job job;
  testing::internal::CaptureStderr();
  const std::string name = Submit(request).name();
  Submit(request);  // the same job: accepted once
  Compress(bad, job);
  bad.set_validate_only(true);
  Compress(bad, job);  // asks, and changes nothing
  Cancel(name, job);
  deletion.set_name(name);
  Call(&v1::CompressionService::Stub::DeleteJob, deletion, empty);
  const std::string log = testing::internal::GetCapturedStderr();
  std::vector<nlohmann::json> lines;
  std::istringstream text(log);
  for (std::string line; std::getline(text, line);) lines.push_back(nlohmann::json::parse(line));
  ASSERT_EQ(lines.size(), 4u) << log;
  for (const nlohmann::json& line : lines) {
    EXPECT_EQ(line["level"], "info");
    EXPECT_THAT(std::string(line["peer"]), testing::StartsWith("ipv4:127.0.0.1:"));
  }
  EXPECT_EQ(lines[0]["message"], "job accepted");
  EXPECT_EQ("jobs/" + std::string(lines[0]["job"]), name);
  EXPECT_EQ(lines[0]["kind"], "JOB_KIND_COMPRESS_MODEL");
  EXPECT_EQ(lines[0]["request_id"], Uuid(1));
  EXPECT_EQ(lines[0]["queue_position"], 1);
  EXPECT_EQ(lines[1]["message"], "submission refused");
  EXPECT_EQ(lines[1]["reason"], "INVALID_FIELD");
  EXPECT_THAT(std::string(lines[1]["error"]), HasSubstr("keep_ratios"));
  EXPECT_EQ(lines[2]["message"], "job cancelled");
  EXPECT_EQ(lines[2]["state"], "CANCELLED");
  EXPECT_EQ(lines[3]["message"], "job deleted");
  EXPECT_EQ(lines[3]["job"], lines[0]["job"]);
}

TEST_F(ServerTest, MetricsTellWhatHappened) {
  StartWorker();
  AwaitEnd(Submit(Compression()).name());
  StopWorker();
  Submit(Compression());
  v1::Job job;
  v1::GetJobRequest absent;
  absent.set_name("jobs/nope");
  Call(&v1::CompressionService::Stub::GetJob, absent, job);
  v1::CompressModelRequest refused = Compression();
  refused.clear_keep_ratios();
  Compress(refused, job);
  refused.set_validate_only(true);
  Compress(refused, job);
  const std::string text = Http("/metrics");
  EXPECT_THAT(text, HasSubstr("text/plain; version=0.0.4"));
  for (const char* line :
       {"grpc_server_handled_total{grpc_code=\"OK\",grpc_method=\"CompressModel\",grpc_service="
        "\"svdllm.v1.CompressionService\",grpc_type=\"unary\"} 2",
        "grpc_server_handled_total{grpc_code=\"NOT_FOUND\",grpc_method=\"GetJob\"",
        "grpc_server_started_total{grpc_method=\"WatchJob\",grpc_service="
        "\"svdllm.v1.CompressionService\",grpc_type=\"server_stream\"} 1",
        "grpc_server_handling_seconds_count{grpc_method=\"CompressModel\"",
        "svdllm_jobs{state=\"SUCCEEDED\"} 1",
        "svdllm_jobs{state=\"QUEUED\"} 1",
        "svdllm_queue_depth 1",
        "svdllm_queue_oldest_age_seconds 0.",
        "svdllm_job_attempts_total{outcome=\"succeeded\"} 1",
        "svdllm_leases_lost_total 0",
        "svdllm_fenced_writes_total 0",
        "svdllm_artifact_bytes_total 1800",
        "svdllm_jobs_finished_total{kind=\"COMPRESS_MODEL\",state=\"SUCCEEDED\",reason=\"\"} 1",
        "svdllm_queue_wait_seconds_count{kind=\"COMPRESS_MODEL\"} 1",
        "svdllm_job_duration_seconds_count{kind=\"COMPRESS_MODEL\",state=\"SUCCEEDED\"} 1",
        "svdllm_stage_duration_seconds_count{kind=\"COMPRESS_MODEL\",stage=\"calibrate\"} 1",
        "svdllm_submissions_refused_total{reason=\"INVALID_FIELD\"} 1\n",
        "svdllm_volume_free_bytes{volume=\"artifact_root\"} ",
        "process_open_fds ",
        "svdllm_host_memory_bytes{process=\"api\"}",
        "svdllm_build_info{",
        "version=\"" SVDLLM_VERSION "\"} 1"}) {
    EXPECT_THAT(text, HasSubstr(line));
  }
}

// An increase from no series to one is none to Prometheus.
TEST_F(ServerTest, SeriesAreThereBeforeAnythingHasHappened) {
  const std::string text = Http("/metrics");
  const std::string handled = "grpc_server_handled_total{grpc_code=\"";
  const std::string service = "grpc_service=\"svdllm.v1.CompressionService\"";
  for (const std::string& line :
       {handled + "OK\",grpc_method=\"WatchJob\"," + service + ",grpc_type=\"server_stream\"} 0\n",
        handled + "INTERNAL\",grpc_method=\"DeleteJob\"," + service + ",grpc_type=\"unary\"} 0\n",
        "grpc_server_started_total{grpc_method=\"Evaluate\"," + service +
            ",grpc_type=\"unary\"} 0\n",
        std::string("svdllm_submissions_refused_total{reason=\"QUEUE_FULL\"} 0\n"),
        std::string("svdllm_jobs_finished_total{kind=\"EVALUATE\",state=\"FAILED\",reason="
                    "\"SCRATCH_FULL\"} 0\n"),
        std::string("svdllm_queue_wait_seconds_count{kind=\"EVALUATE\"} 0\n"),
        std::string("svdllm_job_duration_seconds_count{kind=\"EVALUATE\",state=\"FAILED\"} 0\n")}) {
    EXPECT_THAT(text, HasSubstr(line));
  }
}

TEST_F(ServerTest, TheRootOfTheHttpServerNamesItsPaths) {
  const std::string text = Http("/");
  for (const char* path : {"200 OK", "\n/metrics ", "\n/livez ", "\n/readyz "}) {
    EXPECT_THAT(text, HasSubstr(path));
  }
}

TEST_F(ServerTest, HttpRefusesWhatItDoesNotServe) {
  EXPECT_THAT(Http("/other"), HasSubstr("404"));
  const int port = server_->http_port();
  EXPECT_THAT(HttpGet(port, "POST /livez HTTP/1.1\r\n\r\n"), HasSubstr("405"));
  EXPECT_THAT(HttpGet(port, "nonsense\r\n\r\n"), ::testing::Not(HasSubstr("200")));
  EXPECT_THAT(HttpGet(port, std::string(20000, 'x')), ::testing::Not(HasSubstr("200")));
  EXPECT_THAT(Http("/livez?x=1"), HasSubstr("200 OK"));
  EXPECT_THAT(HttpGet(port, "HEAD /livez HTTP/1.1\r\n\r\n"), ::testing::Not(HasSubstr("ok\n")));
}

TEST_F(ServerTest, ShutdownEndsStreamsWithUnavailable) {
  const std::string name = Submit(Compression()).name();
  std::vector<v1::JobEvent> events;
  grpc::Status status;
  std::thread watcher([&] { status = Watch(name, 0, events); });
  while (Http("/metrics").find("svdllm_watch_streams 1") == std::string::npos) {
    std::this_thread::sleep_for(milliseconds(5));
  }
  std::this_thread::sleep_for(milliseconds(50));
  server_->Shutdown();
  watcher.join();
  EXPECT_EQ(status.error_code(), grpc::StatusCode::UNAVAILABLE);
  EXPECT_EQ(events.size(), 1u);
}

TEST_F(ServerTest, TakenPortIsAnError) {
  ApiServerOptions options;
  options.listen = "127.0.0.1:" + std::to_string(server_->port());
  const auto second = ApiServer::Start(options, *store_, *artifacts_, engine_);
  ASSERT_FALSE(second.ok());
  EXPECT_THAT(std::string(second.status().message()), HasSubstr(options.listen));
  options.listen = "127.0.0.1:0";
  options.http_listen = "127.0.0.1:" + std::to_string(server_->http_port());
  EXPECT_FALSE(ApiServer::Start(options, *store_, *artifacts_, engine_).ok());
}

}  // namespace
}  // namespace svdllm
