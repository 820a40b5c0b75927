// A device that is emulated on the CPU: what its parts share. README.md says what it is for.
#pragma once

#include <cuda_runtime_api.h>

#include <cstddef>
#include <functional>
#include <string>

namespace svdllm::emulation {

// Ends the process: what a real device would answer with garbage, now and then, is found at once.
[[noreturn]] void Fault(const std::string& what);

// --- streams.cc

// Has the operation run after those that the stream has already, at any time, by any thread;
// operations never run two at a time. What it reads is read then, not now.
void Enqueue(cudaStream_t stream, std::function<void()> operation);

// --- grid.cc

struct Index {
  unsigned x = 0, y = 0;
};

// Of the thread of the kernel that is running.
extern Index thread_index, block_index, block_size, grid_size;
extern void* dynamic_shared;

// Calls thread() once for every thread of the grid, a block after another. Within an operation.
void RunGrid(dim3 grid, dim3 block, size_t shared_bytes, const std::function<void()>& thread);

// What a thread may call: the block's barrier; bytes (at most 16) of the lane whose number differs
// by the mask.
void SyncBlock();
void ExchangeXor(const void* mine, void* theirs, size_t bytes, int lane_mask);

}  // namespace svdllm::emulation
