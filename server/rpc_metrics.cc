#include "server/rpc_metrics.h"

#include <google/protobuf/descriptor.h>

#include "metrics/metrics.h"
#include "queue/job.h"
#include "svdllm/v1/compression.pb.h"

namespace svdllm {
namespace {

const prometheus::Histogram::BucketBoundaries kBuckets = {0.001, 0.005, 0.01, 0.05, 0.1, 0.5,
                                                          1,     5,     30,   300,  3600};

// The codes that this server answers with, and those of calls that end early.
constexpr const char* kCodes[] = {"OK",
                                  "CANCELLED",
                                  "UNKNOWN",
                                  "INVALID_ARGUMENT",
                                  "DEADLINE_EXCEEDED",
                                  "NOT_FOUND",
                                  "PERMISSION_DENIED",
                                  "UNAUTHENTICATED",
                                  "RESOURCE_EXHAUSTED",
                                  "FAILED_PRECONDITION",
                                  "ABORTED",
                                  "INTERNAL",
                                  "UNAVAILABLE"};

prometheus::Labels LabelsOf(const std::string& type, const std::string& method) {
  return {{"grpc_type", type},
          {"grpc_service", "svdllm.v1.CompressionService"},
          {"grpc_method", method}};
}

}  // namespace

RpcMetrics::RpcMetrics(prometheus::Registry& registry)
    : started_(
          prometheus::BuildCounter().Name(kGrpcStarted).Help("RPCs started.").Register(registry)),
      handled_(prometheus::BuildCounter()
                   .Name(kGrpcHandled)
                   .Help("RPCs completed, by status code.")
                   .Register(registry)),
      seconds_(prometheus::BuildHistogram()
                   .Name(kGrpcHandlingSeconds)
                   .Help("Time from an RPC's start to its end.")
                   .Register(registry)),
      refused_(prometheus::BuildCounter()
                   .Name(kRefused)
                   .Help("Submissions that became no job, by the error's reason.")
                   .Register(registry)) {
  const google::protobuf::ServiceDescriptor& service =
      *v1::Job::descriptor()->file()->FindServiceByName("CompressionService");
  for (int i = 0; i < service.method_count(); ++i) {
    const google::protobuf::MethodDescriptor& method = *service.method(i);
    prometheus::Labels labels =
        LabelsOf(method.server_streaming() ? "server_stream" : "unary", method.name());
    started_.Add(labels);
    seconds_.Add(labels, kBuckets);
    for (const char* code : kCodes) {
      labels["grpc_code"] = code;
      handled_.Add(labels);
    }
  }
  for (const std::string_view reason : kReasons) refused_.Add({{"reason", std::string(reason)}});
}

RpcMetrics::Call RpcMetrics::Start(const std::string& type, const std::string& method) {
  started_.Add(LabelsOf(type, method)).Increment();
  Call call;
  call.metrics_ = this;
  call.type_ = type;
  call.method_ = method;
  call.start_ = std::chrono::steady_clock::now();
  return call;
}

void RpcMetrics::Call::Finish(const std::string& code) {
  prometheus::Labels labels = LabelsOf(type_, method_);
  const std::chrono::duration<double> elapsed = std::chrono::steady_clock::now() - start_;
  metrics_->seconds_.Add(labels, kBuckets).Observe(elapsed.count());
  labels["grpc_code"] = code;
  metrics_->handled_.Add(labels).Increment();
}

void RpcMetrics::CountRefusal(const absl::Status& why) {
  refused_.Add({{"reason", ToJobError(why).reason}}).Increment();
}

}  // namespace svdllm
