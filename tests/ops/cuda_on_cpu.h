// Runs CUDA kernels on the CPU, one block after the other, to test them where there is no GPU.
//
// Include this first, then the .cuh with the kernels, and call
//
//     cuda_on_cpu::launch(blocks, threads, kernel<float>, arguments...);
//
// The threads of a block are fibers, which change only at barriers and at the end: forwards in one
// block and backwards in the next, so that a barrier that is missing shows. A barrier that not all
// threads reach is an error (std::runtime_error). Of __shared__ only fixed sizes.
#pragma once

#include <ucontext.h>

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <cstring>
#include <functional>
#include <memory>
#include <stdexcept>
#include <vector>

#define __global__
#define __device__
#define __host__
#define __forceinline__ inline __attribute__((always_inline))
#define __shared__ static
#define __launch_bounds__(...)

struct dim3 {
  unsigned x, y, z;
  dim3(unsigned x = 1, unsigned y = 1, unsigned z = 1) : x(x), y(y), z(z) {}
  unsigned count() const { return x * y * z; }
};

inline dim3 threadIdx, blockIdx, blockDim, gridDim;
constexpr int warpSize = 32;

namespace cuda_on_cpu {

// What threads wait at until `size` of them are there.
struct Barrier {
  unsigned size = 0, waiting = 0, passed = 0;
};

constexpr size_t kStack = 64 * 1024;
constexpr size_t kExchange = 16;  // bytes that a thread can hand to the others of its warp

struct Fiber {
  ucontext_t context;
  std::unique_ptr<char[]> stack{new char[kStack]};
  bool done = false;
};

struct Block {
  std::vector<Fiber> fibers;
  std::vector<Barrier> warps;
  std::vector<char> exchange;
  Barrier all;
  ucontext_t scheduler;
  unsigned running = 0;
  uint64_t progress = 0;  // barriers passed and threads ended
};

inline Block* block = nullptr;
inline std::function<void()> body;

inline dim3 thread_at(unsigned i) {
  return {i % blockDim.x, i / blockDim.x % blockDim.y, i / (blockDim.x * blockDim.y)};
}

inline void wait(Barrier& barrier) {
  if (++barrier.waiting == barrier.size) {
    barrier.waiting = 0;
    ++barrier.passed;
    ++block->progress;
    return;
  }
  const unsigned before = barrier.passed;
  while (barrier.passed == before) {
    swapcontext(&block->fibers[block->running].context, &block->scheduler);
  }
}

inline Barrier& warp() { return block->warps[block->running / warpSize]; }

// What lane `lane` of this warp has for `value`.
template <typename T>
T from_lane(T value, unsigned lane) {
  static_assert(sizeof(T) <= kExchange, "too large for a shuffle");
  const unsigned first = block->running / warpSize * warpSize;
  std::memcpy(&block->exchange[block->running * kExchange], &value, sizeof value);
  wait(warp());
  if (lane < warp().size) {
    std::memcpy(&value, &block->exchange[(first + lane) * kExchange], sizeof value);
  }
  wait(warp());
  return value;
}

inline void run_thread() {
  body();
  block->fibers[block->running].done = true;
  ++block->progress;
}

inline void resume(unsigned i) {
  Fiber& fiber = block->fibers[i];
  if (fiber.done) return;
  block->running = i;
  threadIdx = thread_at(i);
  swapcontext(&block->scheduler, &fiber.context);
}

inline void run_block(bool backwards) {
  const unsigned threads = blockDim.count();
  Block own;
  block = &own;
  own.fibers = std::vector<Fiber>(threads);
  own.exchange.resize(threads * kExchange);
  own.all.size = threads;
  for (unsigned first = 0; first < threads; first += warpSize) {
    own.warps.push_back({std::min<unsigned>(warpSize, threads - first), 0, 0});
  }
  for (Fiber& fiber : own.fibers) {
    getcontext(&fiber.context);
    fiber.context.uc_stack.ss_sp = fiber.stack.get();
    fiber.context.uc_stack.ss_size = kStack;
    fiber.context.uc_link = &own.scheduler;
    makecontext(&fiber.context, run_thread, 0);
  }
  const auto left = [&] {
    return std::any_of(own.fibers.begin(), own.fibers.end(),
                       [](const Fiber& fiber) { return !fiber.done; });
  };
  while (left()) {
    const uint64_t before = own.progress;
    for (unsigned i = 0; i < threads; ++i) resume(backwards ? threads - 1 - i : i);
    if (own.progress == before) throw std::runtime_error("not all threads reach a barrier");
  }
}

template <typename... Parameters, typename... Arguments>
void launch(dim3 blocks, dim3 threads, void (*kernel)(Parameters...), Arguments... arguments) {
  gridDim = blocks;
  blockDim = threads;
  body = [=] { kernel(arguments...); };
  for (unsigned i = 0; i < blocks.count(); ++i) {
    blockIdx = {i % blocks.x, i / blocks.x % blocks.y, i / (blocks.x * blocks.y)};
    run_block(i % 2 == 1);
  }
}

}  // namespace cuda_on_cpu

inline void __syncthreads() { cuda_on_cpu::wait(cuda_on_cpu::block->all); }
inline void __syncwarp(unsigned = ~0u) { cuda_on_cpu::wait(cuda_on_cpu::warp()); }

inline unsigned lane_on_cpu() { return cuda_on_cpu::block->running % warpSize; }

template <typename T>
T __shfl_sync(unsigned, T value, int lane) {
  return cuda_on_cpu::from_lane(value, static_cast<unsigned>(lane));
}
template <typename T>
T __shfl_down_sync(unsigned, T value, unsigned by) {
  return cuda_on_cpu::from_lane(value, lane_on_cpu() + by);
}
template <typename T>
T __shfl_xor_sync(unsigned, T value, int mask) {
  return cuda_on_cpu::from_lane(value, lane_on_cpu() ^ static_cast<unsigned>(mask));
}

template <typename T>
T atomicAdd(T* at, T value) {
  const T before = *at;
  *at = before + value;
  return before;
}
template <typename T>
T atomicMax(T* at, T value) {
  const T before = *at;
  *at = std::max(before, value);
  return before;
}
template <typename T>
T __ldg(const T* at) {
  return *at;
}
