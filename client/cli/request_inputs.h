// What the server is to read for a request.
#pragma once

#include <string>
#include <vector>

#include "svdllm/v1/compression.pb.h"

namespace svdllm::cli {

// The paths and URIs of models, texts and datasets in the request; those that are not empty.
std::vector<std::string*> InputsOf(v1::CompressModelRequest& request);
std::vector<std::string*> InputsOf(v1::EvaluateRequest& request);

}  // namespace svdllm::cli
