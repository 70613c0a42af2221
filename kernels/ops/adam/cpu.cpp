// Adam on a processor: all of an optimiser's parameters in one pass, one call.
#include "../../native/vectors.h"

namespace rmbpo::RMBPO_ISA {
namespace {

// x must not be negative; 0 becomes 1e-18, far below Adam's eps.
V square_root(V x) {
#if defined(__AVX512F__)
  x = at_least(x, 1e-36f);  // not 0, whose guess is infinite
  const V guess = (V)_mm512_maskz_rsqrt14_ps(0xffff, (__m512)x);
  return x * (guess * (1.5f - 0.5f * x * guess * guess));
#else
  V root;
  for (long i = 0; i < VL; ++i) root[i] = __builtin_sqrtf(x[i]);
  return root;
#endif
}

void update(const AdamParameter& one, const Adam& op, long begin, long end) {
  const float lr = one.step_size, root2 = one.root_correction2, decay = one.weight_decay;
  for (long i = begin; i < end; i += VL) {
    const long count = smaller(VL, end - i);
    const V parameter = load(one.parameter + i, count);
    const V gradient = load(one.gradient + i, count) + decay * parameter;
    const V first = load(one.first + i, count), second = load(one.second + i, count);
    const V mean = first + (gradient - first) * op.new1;
    const V square = op.beta2 * second + op.new2 * gradient * gradient;
    store(one.first + i, mean, count);
    store(one.second + i, square, count);
    const V size = square_root(square) * root2 + op.eps;
    store(one.parameter + i, parameter - lr * mean * reciprocal(size), count);
  }
}

void update_share(const Adam& op, long thread, long threads) {
  long all = 0;
  for (long p = 0; p < op.count; ++p) all += op.parameters[p].size;
  const long begin = share(all, thread, threads), end = share(all, thread + 1, threads);
  long before = 0;
  for (long p = 0; p < op.count; ++p) {
    const AdamParameter& one = op.parameters[p];
    const long from = larger(0, begin - before), to = smaller(one.size, end - before);
    if (from < to) update(one, op, from, to);
    before += one.size;
  }
}

}  // namespace

void adam(const Adam& op) {
  long all = 0;
  for (long p = 0; p < op.count; ++p) all += op.parameters[p].size;
  constexpr long worth_a_thread = 20'000;  // numbers, some 10 us
  const long threads = larger(1, smaller(op.threads, all / worth_a_thread));
  run_parallel(
      (int)threads,
      [](void* context, int thread, int threads) {
        update_share(*static_cast<const Adam*>(context), thread, threads);
      },
      const_cast<Adam*>(&op));
}

}  // namespace rmbpo::RMBPO_ISA
