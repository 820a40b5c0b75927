#include "tests/support/source_dir.h"

namespace svdllm {

std::string SourceDir() { return SVDLLM_SOURCE_DIR; }

}  // namespace svdllm
