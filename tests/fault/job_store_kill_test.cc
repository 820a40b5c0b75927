// Durable accept: what was answered with OK is there after SIGKILL at any instant.
#include <gtest/gtest.h>
#include <signal.h>
#include <sys/wait.h>
#include <unistd.h>

#include <filesystem>
#include <string>

#include "queue/job_store.h"

namespace svdllm {
namespace {

constexpr size_t kIdBytes = 21;

// Creates, claims, reports and finishes jobs until it is killed; writes the id of each after its
// OK.
[[noreturn]] void CreateForEver(const std::string& path, int pipe) {
  SqliteStoreOptions options;
  options.path = path;
  auto store = OpenSqliteJobStore(options);
  while (store.ok()) {
    NewJob job;
    job.id = NewJobId();
    job.request_id = job.id;
    job.request = std::string(3000, 'r');
    if (!(*store)->Create(job, 1 << 30).ok()) break;
    if (write(pipe, job.id.data(), kIdBytes) != kIdBytes) break;
    auto claimed = (*store)->Claim("w", 30000);
    if (!claimed.ok()) break;
    const NewEvent event{EventKind::kProgress, "p"};
    (*store)->Append((*claimed)->lease, {&event, 1}).IgnoreError();
    (*store)->Finish((*claimed)->lease, Outcome()).IgnoreError();
  }
  _exit(1);
}

TEST(JobStoreKillTest, EveryAcceptedJobSurvivesSigkill) {
  const std::string directory = ::testing::TempDir() + "job_store_kill_" + NewJobId();
  std::filesystem::create_directories(directory);
  const std::string path = directory + "/jobs.db";
  size_t accepted = 0;
  for (int round = 0; round < 8; ++round) {
    int ends[2];
    ASSERT_EQ(pipe(ends), 0);
    const pid_t child = fork();
    ASSERT_GE(child, 0);
    if (child == 0) {
      close(ends[0]);
      CreateForEver(path, ends[1]);
    }
    close(ends[1]);
    // Killed after a different number of jobs each time, wherever it then is.
    std::string ids;
    char buffer[4096];
    while (ids.size() < kIdBytes * static_cast<size_t>(3 + 5 * round)) {
      const ssize_t size = read(ends[0], buffer, sizeof(buffer));
      if (size <= 0) break;
      ids.append(buffer, static_cast<size_t>(size));
    }
    usleep(static_cast<useconds_t>(700 * round));
    kill(child, SIGKILL);
    int status = 0;
    waitpid(child, &status, 0);
    EXPECT_TRUE(WIFSIGNALED(status)) << "the child failed by itself";
    ssize_t size;
    while ((size = read(ends[0], buffer, sizeof(buffer))) > 0) {
      ids.append(buffer, static_cast<size_t>(size));
    }
    close(ends[0]);

    SqliteStoreOptions options;
    options.path = path;
    auto store = OpenSqliteJobStore(options);
    ASSERT_TRUE(store.ok()) << store.status();
    for (size_t at = 0; at + kIdBytes <= ids.size(); at += kIdBytes) {
      const std::string id = ids.substr(at, kIdBytes);
      const auto job = (*store)->Get(id);
      ASSERT_TRUE(job.ok()) << id << " was accepted and is lost: " << job.status();
      const auto events = (*store)->Events(id, 0, 100);
      ASSERT_TRUE(events.ok());
      ASSERT_EQ(events->size(), static_cast<size_t>(job->last_sequence));
      for (size_t i = 0; i < events->size(); ++i) {
        EXPECT_EQ((*events)[i].sequence, static_cast<int64_t>(i) + 1);
      }
      ++accepted;
    }
    // What the dead one was at runs again.
    ASSERT_TRUE((*store)->ReleaseWorkers("w", "killed").ok());
  }
  EXPECT_GT(accepted, 100u);
  std::filesystem::remove_all(directory);
}

}  // namespace
}  // namespace svdllm
