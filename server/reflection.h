// gRPC's reflection, version 1: what tools ask a server for its services and their messages. The
// library has v1alpha only. It includes generated gRPC code, so only api_server.cc and the .cc of
// this header include it.
#pragma once

#include <string>
#include <vector>

#include "grpc/reflection/v1/reflection.grpc.pb.h"

namespace svdllm {

class ReflectionService final : public grpc::reflection::v1::ServerReflection::Service {
 public:
  // services: what a list of them answers, "svdllm.v1.CompressionService".
  explicit ReflectionService(std::vector<std::string> services) : services_(std::move(services)) {}

  grpc::Status ServerReflectionInfo(
      grpc::ServerContext* context,
      grpc::ServerReaderWriter<grpc::reflection::v1::ServerReflectionResponse,
                               grpc::reflection::v1::ServerReflectionRequest>* stream) override;

 private:
  const std::vector<std::string> services_;
};

}  // namespace svdllm
