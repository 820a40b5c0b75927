#include "job/spec.h"

namespace svdllm {

std::string OutputFormatName(OutputFormat format) {
  return format == OutputFormat::kDense ? "dense" : "factored";
}

}  // namespace svdllm
