// A model is opened once in a job, whatever plans, runs and reports want of it. Counted where the
// kernel sees it: every open of its config.json.
#include <sys/inotify.h>
#include <unistd.h>

#include "tests/support/job_fixture.h"

namespace svdllm {
namespace {

// Counts how often a file is opened from its making on.
class OpenCounter {
 public:
  explicit OpenCounter(const std::string& path) : fd_(inotify_init1(IN_NONBLOCK)) {
    EXPECT_GE(inotify_add_watch(fd_, path.c_str(), IN_OPEN | IN_CLOSE), 0) << path;
  }
  OpenCounter(const OpenCounter&) = delete;
  OpenCounter& operator=(const OpenCounter&) = delete;
  ~OpenCounter() { close(fd_); }

  // Since the last call.
  int Count() {
    int count = 0;
    alignas(inotify_event) char buffer[4096];
    for (ssize_t length; (length = read(fd_, buffer, sizeof(buffer))) > 0;) {
      for (ssize_t at = 0; at < length;) {
        const auto* const event = reinterpret_cast<const inotify_event*>(buffer + at);
        count += (event->mask & IN_OPEN) != 0;
        at += static_cast<ssize_t>(sizeof(inotify_event) + event->len);
      }
    }
    return count;
  }

 private:
  const int fd_;
};

class OpensTest : public JobFixture {};

TEST_F(OpensTest, ACompressionOpensItsModelOnce) {
  OpenCounter model(model_ + "/config.json");
  CompressSpec spec = Spec("once");
  spec.method = Method::kAnchored;
  spec.encoding = Encoding::kPivoted;
  spec.allocation = Allocation::kKlProbe;
  spec.measure.texts = {{"text", {text_}, 64, 2}};
  spec.measure.throughput.batch_sizes = {1};
  // With a limit, so that placements are tried on a backend that counts.
  backend_ = NewCpuBackend(1, int64_t{1} << 30);
  auto job = Resolve(spec);
  ASSERT_OK(job);
  ASSERT_OK(Plan(*job, BudgetOf(*backend_)));
  ASSERT_OK(svdllm::Run(*std::move(job), *backend_, *store_, {}));
  EXPECT_EQ(model.Count(), 1);
  ASSERT_TRUE(Checkpoint::Open(model_).ok());
  EXPECT_EQ(model.Count(), 1) << "the counter sees an open";
}

TEST_F(OpensTest, AnEvaluationOpensEachModelOnce) {
  ASSERT_OK(JobFixture::Run(Spec("artifact")));
  OpenCounter model(Artifact("artifact") + "/config.json"), baseline(model_ + "/config.json");
  EvaluateSpec spec;
  spec.job_id = "evaluation";
  spec.model_dir = Artifact("artifact");
  spec.baseline_dir = model_;
  spec.measure.texts = {{"text", {text_}, 64, 2}};
  spec.measure.throughput.batch_sizes = {1};
  spec.output_uri = *store_->ResolveOutput(Artifact("report"));
  spec.work_dir = dir_.File("work");
  backend_ = NewCpuBackend(1, int64_t{1} << 30);
  auto job = Resolve(spec);
  ASSERT_OK(job);
  ASSERT_OK(Plan(*job, BudgetOf(*backend_)));
  ASSERT_OK(svdllm::Run(*std::move(job), *backend_, *store_, {}));
  EXPECT_EQ(model.Count(), 1);
  EXPECT_EQ(baseline.Count(), 1);
}

}  // namespace
}  // namespace svdllm
