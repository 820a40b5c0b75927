// Checks submissions in processes of their own. A model is files of somebody else: they can hang
// (a mount that is gone), shrink while they are read, or want gigabytes. Then a planner is killed,
// or dies, and the submission that it was asked about hears of it; nobody else does.
#pragma once

#include <sys/types.h>

#include <chrono>
#include <condition_variable>
#include <cstdint>
#include <mutex>
#include <string>
#include <vector>

#include "base/status.h"
#include "server/check_submission.h"

namespace svdllm {

// What became of a message to or from a planner.
enum class Transfer { kDone, kClosed, kLate };

struct PlannerOptions {
  int processes = 16;           // at most; started when they are needed, then kept
  int64_t deadline_ms = 30000;  // of one check, the wait for a free planner included
  // A check that has used more of the processor goes on when it has a turn, and is stopped until
  // then: models that take seconds leave processors and memory to those that take milliseconds. The
  // start of a planner counts, and takes about half of it.
  int64_t quick_ms = 200;
  int turns = 4;
};

// Thread-safe.
class PlannerPool {
 public:
  // `arguments` are this program's own, without argv[0]. A planner gets them, --role=planner and
  // the number of the descriptor that it is asked through.
  PlannerPool(std::vector<std::string> arguments, PlannerOptions options);
  ~PlannerPool();
  PlannerPool(const PlannerPool&) = delete;
  PlannerPool& operator=(const PlannerPool&) = delete;

  // Beside the errors of the check itself: DEADLINE_EXCEEDED with PLAN_TIMEOUT, INTERNAL with
  // PLANNER_DIED, and UNAVAILABLE with SERVER_BUSY where no planner can be had. The pool outlives
  // the checker.
  SubmissionChecker checker();
  // Ends the checks that are under way, with UNAVAILABLE, and lets no other begin.
  void Stop();

 private:
  using Deadline = std::chrono::steady_clock::time_point;
  struct Planner {
    pid_t pid = 0;  // 0: not started
    int socket = -1;
    bool busy = false;
  };

  absl::StatusOr<std::string> Ask(const std::string& message);
  absl::StatusOr<Planner*> Acquire(Deadline deadline);
  void Release(Planner& planner);
  // Waits for the answer to what the planner was sent.
  Transfer Receive(const Planner& planner, std::string& answer, Deadline deadline);
  // Waits, the planner stopped meanwhile, until a long check more may go on. False where the
  // deadline has passed or the pool stops.
  bool TakeTurn(const Planner& planner, Deadline deadline);
  void GiveTurnBack();
  absl::Status Start(Planner& planner);
  // Ends a planner that hangs or has died, and returns what became of it, in words.
  std::string End(Planner& planner);
  // Forgets processes that were killed and have ended by now. With the lock.
  void Reap();

  const std::vector<std::string> arguments_;
  const PlannerOptions options_;
  std::mutex mutex_;
  std::condition_variable freed_;
  std::vector<Planner> planners_;
  int turns_taken_ = 0;
  std::vector<pid_t> killed_;  // not waited for yet: what hangs in the system cannot even be killed
  bool stopping_ = false;
};

// A planner's life: answers what comes through the socket until its other end is closed.
absl::Status ServeChecks(int socket, const SubmissionChecker& checker);

}  // namespace svdllm
