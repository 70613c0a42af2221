// sample_transition on a processor: prediction to packed row in one pass.
#include "../../native/vectors.h"

namespace rmbpo::RMBPO_ISA {
namespace {

bool sample_row(const SampleTransition& op, long row) {
  const long size = op.obs_size, at = row * (size + 1);
  const float* obs = op.obs + row * size;
  float* out = op.rows + row * (2 * size + op.action_size + 2);
  float *action = out + size, *reward = action + op.action_size, *next = reward + 1;
  std::memcpy(out, obs, size * sizeof(float));
  std::memcpy(action, op.action + row * op.action_size, op.action_size * sizeof(float));
  bool finite = true;
  for (long j = 0; j <= size; j += VL) {
    const long count = smaller(VL, size + 1 - j), states = smaller(VL, size - j);
    const V std = exp(0.5f * load(op.logvar + at + j, count));
    const V sample = load(op.mean + at + j, count) + std * load(op.noise + at + j, count);
    const I fits = magnitude(sample) <= 3.402823466e38f;  // false for NaN
    for (long i = 0; i < count; ++i) finite &= fits[i] != 0;
    if (states > 0) {
      const V low = load(op.low + j, states), high = load(op.high + j, states);
      const V state = load(obs + j, states) + sample;
      const V raised = state < low ? low : state;
      store(next + j, raised > high ? high : raised, states);
    }
    if (size < j + VL) *reward = sample[size - j];
  }
  next[size] = 0.0f;  // terminated
  if (!finite)
    for (long i = 0; i <= size; ++i) reward[i] = 0.0f;  // next_obs lies behind it
  return finite;
}

}  // namespace

void sample_transition(const SampleTransition& op) {
  constexpr long worth_a_thread = 1024;  // rows
  const long threads = larger(1, smaller(op.threads, op.count / worth_a_thread));
  run_parallel(
      (int)threads,
      [](void* context, int thread, int threads) {
        const SampleTransition& op = *static_cast<const SampleTransition*>(context);
        const long end = share(op.count, thread + 1, threads);
        for (long row = share(op.count, thread, threads); row < end; ++row)
          op.finite[row] = sample_row(op, row);
      },
      const_cast<SampleTransition*>(&op));
}

}  // namespace rmbpo::RMBPO_ISA
