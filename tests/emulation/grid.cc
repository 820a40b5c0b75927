// Threads of a block are fibers: each runs until it waits for others. So every statement between
// two barriers runs in an order that the hardware might have too, and reads what it would read.
#include <setjmp.h>
#include <ucontext.h>

#include <algorithm>
#include <cstdlib>
#include <cstring>
#include <memory>
#include <vector>

#include "tests/emulation/emulation.h"

namespace svdllm::emulation {

Index thread_index, block_index, block_size, grid_size;
void* dynamic_shared = nullptr;

namespace {

constexpr size_t kWarp = 32;
constexpr size_t kMaxThreads = 1024;
constexpr size_t kStackBytes = 64 << 10;
constexpr size_t kMaxSharedBytes = 64 << 10;  // of the smallest architecture
constexpr size_t kExchangeBytes = 16;

enum class State { kReady, kAtBarrier, kInExchange, kDone };

struct Fiber {
  State state = State::kReady;
  Index index;
  unsigned exchanges = 0;
  jmp_buf at;
  std::vector<char> stack = std::vector<char>(kStackBytes);
};

// Kept from launch to launch. Engine run one at a time, so one set is enough.
std::vector<std::unique_ptr<Fiber>> fibers;
size_t current = 0;
const std::function<void()>* kernel_thread = nullptr;
jmp_buf scheduler;
ucontext_t creator;
// What a lane shows the others; two sets, so that a fast lane's next exchange does not overwrite
// what a slow one has yet to read.
unsigned char shown[2][kMaxThreads][kExchangeBytes];

// swapcontext() would do, with a system call each time.
void Switch(jmp_buf& from, jmp_buf& to) {
  if (_setjmp(from) == 0) _longjmp(to, 1);
}

void Wait(State state) {
  fibers[current]->state = state;
  Switch(fibers[current]->at, scheduler);
}

void FiberMain() {
  if (_setjmp(fibers[current]->at) == 0) setcontext(&creator);
  for (;;) {
    (*kernel_thread)();
    Wait(State::kDone);
  }
}

void MakeFibers(size_t count) {
  while (fibers.size() < count) {
    current = fibers.size();
    Fiber& fiber = *fibers.emplace_back(std::make_unique<Fiber>());
    ucontext_t context;
    getcontext(&context);
    context.uc_stack.ss_sp = fiber.stack.data();
    context.uc_stack.ss_size = fiber.stack.size();
    context.uc_link = nullptr;
    makecontext(&context, FiberMain, 0);
    swapcontext(&creator, &context);
  }
}

// Lets every ready thread run up to where it waits; false where none was ready.
bool RunReady(size_t threads) {
  static bool backwards = false;
  backwards = !backwards;  // who comes first must not matter
  bool ran = false;
  for (size_t k = 0; k < threads; ++k) {
    current = backwards ? threads - 1 - k : k;
    if (fibers[current]->state != State::kReady) continue;
    ran = true;
    thread_index = fibers[current]->index;
    Switch(scheduler, fibers[current]->at);
  }
  return ran;
}

// Lets warps go on whose every lane is in an exchange.
bool FinishExchanges(size_t threads) {
  bool any = false;
  for (size_t begin = 0; begin < threads; begin += kWarp) {
    const size_t end = std::min(threads, begin + kWarp);
    size_t exchanging = 0;
    for (size_t i = begin; i < end; ++i) exchanging += fibers[i]->state == State::kInExchange;
    if (exchanging == 0) continue;
    if (exchanging < kWarp) Fault("a shuffle that not every lane of the warp takes part in");
    for (size_t i = begin; i < end; ++i) fibers[i]->state = State::kReady;
    any = true;
  }
  return any;
}

// Lets the block go on from its barrier; false where all threads are done.
bool FinishBarrier(size_t threads) {
  size_t done = 0;
  for (size_t i = 0; i < threads; ++i) done += fibers[i]->state == State::kDone;
  if (done == threads) return false;
  if (done > 0) Fault("a barrier that some threads of the block never reach");
  for (size_t i = 0; i < threads; ++i) fibers[i]->state = State::kReady;
  return true;
}

void RunBlock(size_t threads) {
  for (size_t i = 0; i < threads; ++i) {
    fibers[i]->state = State::kReady;
    fibers[i]->index = {static_cast<unsigned>(i % block_size.x),
                        static_cast<unsigned>(i / block_size.x)};
  }
  while (RunReady(threads) || FinishExchanges(threads) || FinishBarrier(threads)) {
  }
}

}  // namespace

void SyncBlock() { Wait(State::kAtBarrier); }

void ExchangeXor(const void* mine, void* theirs, size_t bytes, int lane_mask) {
  const size_t lane = current;
  auto& set = shown[fibers[lane]->exchanges++ % 2];
  std::memcpy(set[lane], mine, bytes);
  Wait(State::kInExchange);
  std::memcpy(theirs, set[lane ^ static_cast<size_t>(lane_mask)], bytes);
}

void RunGrid(dim3 grid, dim3 block, size_t shared_bytes, const std::function<void()>& thread) {
  const size_t threads = size_t{block.x} * block.y;
  if (grid.x == 0 || grid.x > INT32_MAX || grid.y == 0 || grid.y > 65535 || grid.z != 1 ||
      threads == 0 || threads > kMaxThreads || block.z != 1 || shared_bytes > kMaxSharedBytes) {
    Fault("a launch beyond the limits of a device");
  }
  MakeFibers(threads);
  kernel_thread = &thread;
  block_size = {block.x, block.y};
  grid_size = {grid.x, grid.y};
  alignas(64) static unsigned char shared[kMaxSharedBytes];
  dynamic_shared = shared;
  for (block_index.y = 0; block_index.y < grid.y; ++block_index.y) {
    for (block_index.x = 0; block_index.x < grid.x; ++block_index.x) {
      std::memset(shared, 0xff, shared_bytes);  // NaNs: nothing is there before it is written
      RunBlock(threads);
    }
  }
}

}  // namespace svdllm::emulation
