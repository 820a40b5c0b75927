// Counts and times RPCs, under the names that gRPC dashboards know.
#pragma once

#include <prometheus/counter.h>
#include <prometheus/family.h>
#include <prometheus/histogram.h>
#include <prometheus/registry.h>

#include <chrono>
#include <string>

#include "base/status.h"

namespace svdllm {

// Thread-safe.
class RpcMetrics {
 public:
  // Every method's series are there from the start, with the codes that are common.
  explicit RpcMetrics(prometheus::Registry& registry);

  // One RPC, from its start to Finish.
  class Call {
   public:
    // `code` is "OK", "NOT_FOUND" and so on.
    void Finish(const std::string& code);

   private:
    friend class RpcMetrics;
    RpcMetrics* metrics_ = nullptr;
    std::string type_, method_;
    std::chrono::steady_clock::time_point start_;
  };
  // `type` is "unary" or "server_stream".
  Call Start(const std::string& type, const std::string& method);

  // A submission that became no job.
  void CountRefusal(const absl::Status& why);

 private:
  prometheus::Family<prometheus::Counter>& started_;
  prometheus::Family<prometheus::Counter>& handled_;
  prometheus::Family<prometheus::Histogram>& seconds_;
  prometheus::Family<prometheus::Counter>& refused_;
};

}  // namespace svdllm
