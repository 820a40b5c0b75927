// Tests and tools lie where no installation has its programs: they are told where the build has its
// modules (src/base/module.h), unless their caller has told them.
#include <cstdlib>

namespace {

const int kTold = setenv("SVDLLM_MODULE_DIR", SVDLLM_BUILT_MODULES, /*overwrite=*/0);

}  // namespace
