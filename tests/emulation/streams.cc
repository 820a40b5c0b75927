// Streams are queues whose operations run in no order but their own and that of events: mostly when
// the host waits, in between by chance. A wait for an event that somebody forgot shows.
#include <cuda_runtime_api.h>

#include <cstdio>
#include <cstdlib>
#include <deque>
#include <memory>
#include <mutex>
#include <random>
#include <set>
#include <vector>

#include "tests/emulation/emulation.h"

namespace svdllm::emulation {
namespace {

// A place in a stream: whether it has been reached.
struct Mark {
  bool reached = false;
};

struct Operation {
  std::function<void()> run;
  std::shared_ptr<const Mark> after;  // null: no wait for another stream
};

struct Stream {
  std::deque<Operation> operations;
};

struct Event {
  std::shared_ptr<Mark> recorded;  // null: never
};

// An operation enqueues nothing, but what calls Enqueue() may hold it.
std::recursive_mutex mutex;
std::set<Stream*> streams;

std::mt19937& Generator() {
  static std::mt19937 generator([] {
    const char* seed = std::getenv("EMULATION_SEED");
    return seed == nullptr ? 1u : static_cast<unsigned>(std::atoi(seed));
  }());
  return generator;
}

Stream& Of(cudaStream_t stream) {
  auto* const known = reinterpret_cast<Stream*>(stream);
  if (streams.count(known) == 0) Fault("the default stream, or one that is destroyed, is used");
  return *known;
}

Event& Of(cudaEvent_t event) { return *reinterpret_cast<Event*>(event); }

// The first operation of any stream that need not wait; false where there is none.
bool Step() {
  std::vector<Stream*> ready;
  for (Stream* stream : streams) {
    const auto& operations = stream->operations;
    if (operations.empty()) continue;
    const auto& after = operations.front().after;
    if (after == nullptr || after->reached) ready.push_back(stream);
  }
  if (ready.empty()) return false;
  Stream& stream = *ready[Generator()() % ready.size()];
  const Operation operation = std::move(stream.operations.front());
  stream.operations.pop_front();
  if (operation.run) operation.run();
  return true;
}

// Without the mutex between two steps, so that other threads come in between.
template <typename F>
void RunUntil(F done) {
  for (;;) {
    std::lock_guard lock(mutex);
    if (done()) return;
    if (!Step()) Fault("streams wait for each other");
  }
}

}  // namespace

void Fault(const std::string& what) {
  std::fprintf(stderr, "emulated device: %s\n", what.c_str());
  std::abort();
}

void Enqueue(cudaStream_t stream, std::function<void()> operation) {
  // So many wait for a real device at most: then the driver makes the caller wait, and others too.
  constexpr size_t kMostWaiting = 1000;
  std::lock_guard lock(mutex);
  auto& operations = Of(stream).operations;
  operations.push_back({std::move(operation), nullptr});
  if (operations.size() > kMostWaiting) Fault("a thousand operations wait in a stream");
  // Seldom, so that streams have something to be late with.
  if (Generator()() % 16 != 0) return;
  for (auto steps = Generator()() % 6; steps > 0 && Step(); --steps) {
  }
}

extern "C" {

cudaError_t cudaStreamCreateWithFlags(cudaStream_t* stream, unsigned) {
  std::lock_guard lock(mutex);
  auto* const made = new Stream;
  streams.insert(made);
  *stream = reinterpret_cast<cudaStream_t>(made);
  return cudaSuccess;
}

cudaError_t cudaStreamCreateWithPriority(cudaStream_t* stream, unsigned flags, int) {
  return cudaStreamCreateWithFlags(stream, flags);
}

cudaError_t cudaDeviceGetStreamPriorityRange(int* least, int* greatest) {
  *least = 0;
  *greatest = -5;
  return cudaSuccess;
}

cudaError_t cudaStreamSynchronize(cudaStream_t stream) {
  RunUntil([&] { return Of(stream).operations.empty(); });
  return cudaSuccess;
}

cudaError_t cudaStreamDestroy(cudaStream_t stream) {
  cudaStreamSynchronize(stream);
  std::lock_guard lock(mutex);
  Stream* const known = &Of(stream);
  streams.erase(known);
  delete known;
  return cudaSuccess;
}

cudaError_t cudaStreamWaitEvent(cudaStream_t stream, cudaEvent_t event, unsigned) {
  std::lock_guard lock(mutex);
  if (Of(event).recorded != nullptr) Of(stream).operations.push_back({nullptr, Of(event).recorded});
  return cudaSuccess;
}

cudaError_t cudaEventCreateWithFlags(cudaEvent_t* event, unsigned) {
  *event = reinterpret_cast<cudaEvent_t>(new Event);
  return cudaSuccess;
}

cudaError_t cudaEventDestroy(cudaEvent_t event) {
  delete &Of(event);
  return cudaSuccess;
}

cudaError_t cudaEventRecord(cudaEvent_t event, cudaStream_t stream) {
  std::lock_guard lock(mutex);
  const auto mark = std::make_shared<Mark>();
  Of(event).recorded = mark;
  Enqueue(stream, [mark] { mark->reached = true; });
  return cudaSuccess;
}

cudaError_t cudaEventSynchronize(cudaEvent_t event) {
  RunUntil([&] { return Of(event).recorded == nullptr || Of(event).recorded->reached; });
  return cudaSuccess;
}

}  // extern "C"
}  // namespace svdllm::emulation
