// A model whose files get shorter while a job reads them.
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <unistd.h>

#include "base/map_guard.h"
#include "tests/support/job_fixture.h"

namespace svdllm {
namespace {

using ::testing::HasSubstr;

TEST_F(JobFixture, AModelThatGetsShorterFailsTheJobByItsName) {
  InstallMapGuard();
  ResetMapGuard();
  const std::string weights = model_ + "/model.safetensors";
  RunHooks hooks;
  hooks.check = [] { return CheckMaps(); };
  hooks.on_progress = [&weights](const ProgressEvent& event) {
    if (event.stage != "calibrate") return;
    EXPECT_EQ(truncate(weights.c_str(), 3000), 0);
  };
  const absl::Status status = Run(Spec("o"), hooks).status();
  EXPECT_FALSE(status.ok());
  const absl::Status why = CheckMaps();
  EXPECT_EQ(ErrorReason(why), kModelCorrupt);
  EXPECT_THAT(std::string(why.message()), HasSubstr("model.safetensors: became shorter"));
  EXPECT_FALSE(testing::FileExists(Artifact("o")));
  ResetMapGuard();
}

}  // namespace
}  // namespace svdllm
