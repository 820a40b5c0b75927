// The gRPC face of JobApi: adapters and nothing else. It includes generated gRPC code, so only
// api_server.cc and the .cc of this header include it.
#pragma once

#include "server/call_pool.h"
#include "server/identity.h"
#include "server/job_api.h"
#include "server/rpc_metrics.h"
#include "server/watch_hub.h"
#include "svdllm/v1/compression.grpc.pb.h"

namespace svdllm {

class CompressionService final : public v1::CompressionService::CallbackService {
 public:
  // All of them outlive the service.
  CompressionService(JobApi& api, JobStore& store, WatchHub& hub, RpcMetrics& metrics,
                     const Identities& identities)
      : api_(api), store_(store), hub_(hub), metrics_(metrics), identities_(identities) {}

  grpc::ServerUnaryReactor* CompressModel(grpc::CallbackServerContext* context,
                                          const v1::CompressModelRequest* request,
                                          v1::Job* response) override;
  grpc::ServerUnaryReactor* Evaluate(grpc::CallbackServerContext* context,
                                     const v1::EvaluateRequest* request,
                                     v1::Job* response) override;
  grpc::ServerUnaryReactor* GetJob(grpc::CallbackServerContext* context,
                                   const v1::GetJobRequest* request, v1::Job* response) override;
  grpc::ServerUnaryReactor* ListJobs(grpc::CallbackServerContext* context,
                                     const v1::ListJobsRequest* request,
                                     v1::ListJobsResponse* response) override;
  grpc::ServerUnaryReactor* CancelJob(grpc::CallbackServerContext* context,
                                      const v1::CancelJobRequest* request,
                                      v1::Job* response) override;
  grpc::ServerUnaryReactor* DeleteJob(grpc::CallbackServerContext* context,
                                      const v1::DeleteJobRequest* request,
                                      google::protobuf::Empty* response) override;
  grpc::ServerUnaryReactor* GetServerInfo(grpc::CallbackServerContext* context,
                                          const v1::GetServerInfoRequest* request,
                                          v1::ServerInfo* response) override;
  grpc::ServerUnaryReactor* WaitJob(grpc::CallbackServerContext* context,
                                    const v1::WaitJobRequest* request, v1::Job* response) override;
  grpc::ServerWriteReactor<v1::JobEvent>* WatchJob(grpc::CallbackServerContext* context,
                                                   const v1::WatchJobRequest* request) override;

 private:
  // The answer to a submission; one that is refused is counted.
  template <typename Request>
  absl::Status Submitted(const Request& request, absl::StatusOr<v1::Job> job, v1::Job* response);
  absl::StatusOr<Caller> Identify(const grpc::CallbackServerContext& context) const;
  // Answers with run(caller), which returns a status, on a thread of the pool.
  template <typename Function>
  grpc::ServerUnaryReactor* Unary(CallPool& pool, const char* method,
                                  grpc::CallbackServerContext* context, Function run);

  JobApi& api_;
  JobStore& store_;
  WatchHub& hub_;
  RpcMetrics& metrics_;
  const Identities& identities_;
  // Reads of the store take milliseconds; changes wait for its lock, and submissions for a check of
  // the model besides: they must not keep the others waiting.
  CallPool reads_{4, 1000};
  CallPool changes_{8, 1000};
  CallPool submissions_{16, 1000};
};

}  // namespace svdllm
