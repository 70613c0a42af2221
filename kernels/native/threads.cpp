// A pool of threads whose work is claimed, and scratch memory of each thread.
//
// A region's shares are taken by whoever is there, the caller included: it never waits for a share
// that nobody has begun. With a barrier, as OpenMP has, each of the regions of a gradient step would
// wait for a thread that the kernel has put aside for somebody else.
#include <sched.h>

#include <atomic>
#include <chrono>
#include <condition_variable>
#include <cstdint>
#include <cstdlib>
#include <memory>
#include <mutex>
#include <new>
#include <stdexcept>
#include <thread>

#if defined(__x86_64__)
#include <immintrin.h>
#endif

#include "operations.h"

namespace {

// Takes numbers below 1e-38 as zero while it lives: each one costs a processor 100 cycles and more,
// and the means of a dead unit's gradients end there (0.9 times the smallest is the smallest).
class NoDenormals {
#if defined(__x86_64__)
 public:
  NoDenormals() : before_(_mm_getcsr()) {
    constexpr unsigned flush_to_zero = 1u << 15, denormals_are_zeros = 1u << 6;
    _mm_setcsr(before_ | flush_to_zero | denormals_are_zeros);
  }
  ~NoDenormals() { _mm_setcsr(before_); }

 private:
  unsigned before_;
#endif
};

void pause() {
#if defined(__x86_64__)
  _mm_pause();
#endif
}

using Clock = std::chrono::steady_clock;
// How long a thread without work stays awake: some times the gap between two regions of a step.
constexpr std::chrono::microseconds AWAKE{50};
constexpr int LOOKS = 64;  // between two looks at the clock, or two offers of the core to others

class Pool {
 public:
  // Task of shares 0 to `shares` - 1, each once; returns when all have ended.
  void run(int shares, void (*task)(void*, int, int), void* context) {
    if (running_.exchange(true)) {
      // a region inside a region, or of another thread of Python's: this one does all of its own
      for (int share = 0; share < shares; ++share) task(context, share, shares);
      return;
    }
    for (; workers_ < shares - 1; ++workers_) std::thread([this] { work(); }).detach();
    task_ = task;
    context_ = context;
    ended_.store(0);
    const std::uint64_t generation = (claims_.load() >> 32) + 1;
    claims_.store(generation << 32 | (std::uint64_t)shares << 16);
    // not under the lock: whoever misses it finds its share done, or comes to the next region
    if (asleep_.load() > 0) wake_.notify_all();
    while (take_share()) {
    }
    for (int looks = 1; ended_.load() < shares; ++looks)
      if (looks % LOOKS)
        pause();
      else
        sched_yield();  // whoever has the last share may be waiting for this very core
    running_.store(false);
  }

 private:
  // Runs the next share; false where all have been begun. A claim that succeeds is of the region at
  // hand, which can't end before this share has: so task and context are its own.
  bool take_share() {
    std::uint64_t claims = claims_.load();
    for (;;) {
      const int shares = (int)(claims >> 16 & 0xffff), next = (int)(claims & 0xffff);
      if (next >= shares) return false;
      if (!claims_.compare_exchange_weak(claims, claims + 1)) continue;
      task_(context_, next, shares);
      ended_.fetch_add(1);
      return true;
    }
  }

  void work() {
    std::uint64_t seen = 0;
    const auto is_new = [&] { return claims_.load() >> 32 != seen; };
    for (;;) {
      const Clock::time_point sleepy = Clock::now() + AWAKE;
      for (int looks = 1; !is_new(); ++looks) {
        pause();
        if (looks % LOOKS || Clock::now() < sleepy) continue;
        std::unique_lock<std::mutex> lock(sleep_);
        asleep_.fetch_add(1);
        wake_.wait(lock, is_new);
        asleep_.fetch_sub(1);
      }
      seen = claims_.load() >> 32;
      while (take_share()) {
      }
    }
  }

  std::atomic<bool> running_{false};
  std::mutex sleep_;
  std::condition_variable wake_;
  std::atomic<int> asleep_{0}, ended_{0};
  // the region's number, how many shares it has, how many have been claimed: 32, 16 and 16 bits
  std::atomic<std::uint64_t> claims_{0};
  void (*task_)(void*, int, int) = nullptr;
  void* context_ = nullptr;
  int workers_ = 0;
};

struct Region {
  void (*task)(void*, int, int);
  void* context;

  static void run(void* region, int share, int shares) {
    const NoDenormals no_denormals;
    const Region& self = *static_cast<const Region*>(region);
    self.task(self.context, share, shares);
  }
};

}  // namespace

namespace rmbpo {

void run_parallel(int threads, void (*task)(void*, int, int), void* context) {
  Region region{task, context};
  if (threads <= 1) return Region::run(&region, 0, 1);
  // never destroyed: its threads live as long as the process, and longer than what is static
  static Pool& pool = *new Pool;
  pool.run(threads, Region::run, &region);
}

float* scratch(long floats, int slot) {
  struct Free {
    void operator()(void* memory) const { std::free(memory); }
  };
  struct Buffer {
    std::unique_ptr<float, Free> memory;
    long floats = 0;
  };
  thread_local Buffer buffers[SCRATCH_SLOTS];
  if (slot < 0 || slot >= SCRATCH_SLOTS) throw std::length_error("no such slot of scratch memory");
  Buffer& buffer = buffers[slot];
  if (floats > buffer.floats) {
    const std::size_t bytes = ((std::size_t)floats * sizeof(float) + 63) / 64 * 64;
    buffer.floats = 0;
    buffer.memory.reset(static_cast<float*>(std::aligned_alloc(64, bytes)));
    if (!buffer.memory) throw std::bad_alloc();
    buffer.floats = floats;
  }
  return buffer.memory.get();
}

}  // namespace rmbpo
