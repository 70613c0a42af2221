// PyTorch's threads, and scratch memory of each.
#include <dlfcn.h>

#include <cstdlib>
#include <memory>
#include <new>
#include <stdexcept>

#if defined(__x86_64__)
#include <immintrin.h>
#endif

#include "operations.h"

namespace {

// PyTorch's own OpenMP runtime, found among the libraries that it loaded: a second pool on the same
// cores would fight with it. GOMP_parallel is what GCC compiles `#pragma omp parallel` to; other
// runtimes (LLVM's) have it too.
struct OpenMP {
  void (*parallel)(void (*)(void*), void*, unsigned, unsigned);
  int (*thread_num)();
  int (*num_threads)();
};

OpenMP find_openmp() {
  OpenMP found{};
  found.parallel = reinterpret_cast<decltype(found.parallel)>(dlsym(RTLD_DEFAULT, "GOMP_parallel"));
  found.thread_num =
      reinterpret_cast<decltype(found.thread_num)>(dlsym(RTLD_DEFAULT, "omp_get_thread_num"));
  found.num_threads =
      reinterpret_cast<decltype(found.num_threads)>(dlsym(RTLD_DEFAULT, "omp_get_num_threads"));
  if (!found.parallel || !found.thread_num || !found.num_threads)
    throw std::runtime_error("found no OpenMP runtime (GOMP_parallel): import torch first");
  return found;
}

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

struct Region {
  void (*task)(void*, int, int);
  void* context;
  const OpenMP* openmp;

  void run(int thread, int threads) const {
    const NoDenormals no_denormals;
    task(context, thread, threads);
  }
};

}  // namespace

namespace rmbpo {

void run_parallel(int threads, void (*task)(void*, int, int), void* context) {
  Region region{task, context, nullptr};
  if (threads <= 1) return region.run(0, 1);
  static const OpenMP openmp = find_openmp();
  region.openmp = &openmp;
  openmp.parallel(
      [](void* data) {
        const Region& region = *static_cast<const Region*>(data);
        region.run(region.openmp->thread_num(), region.openmp->num_threads());
      },
      &region, (unsigned)threads, 0);
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
