// gaussian_kl_score on a processor: the adversary's loss and its gradients in one pass.
#include "../../native/vectors.h"

namespace rmbpo::RMBPO_ISA {
namespace {

// exp(c) - 1 - c, which loses all digits where the adversary starts, at c = 0: a series there.
V excess(V change, V growth) {
  V p = fill(1.0f / 362880);
  p = p * change + 1.0f / 40320;
  p = p * change + 1.0f / 5040;
  p = p * change + 1.0f / 720;
  p = p * change + 1.0f / 120;
  p = p * change + 1.0f / 24;
  p = p * change + 1.0f / 6;
  p = p * change + 0.5f;
  return magnitude(change) < 0.5f ? change * change * p : growth - change;
}

// One member's share of the loss.
float member(const GaussianKlScore& op, long e) {
  const float scale = 1.0f / (float)op.rows;
  float loss = 0;
  for (long j = 0; j < op.size; j += VL) {
    const long count = smaller(VL, op.size - j);
    V losses{};
    for (long row = e * op.rows; row < (e + 1) * op.rows; ++row) {
      const long at = row * op.size + j;
      const V mean_g = load(op.mean_g + at, count), logvar_g = load(op.logvar_g + at, count);
      const V logvar_p = load(op.logvar_p + at, count);
      const V shift = mean_g - load(op.mean_p + at, count);
      const V err = load(op.sample + at, count) - mean_g;
      const float weight = op.advantage[row] * *op.eta;
      const V change = logvar_g - logvar_p, growth = expm1(change);
      const V precision_p = exp(-logvar_p), precision_g = exp(-logvar_g);
      const V surprise = err * err * precision_g;
      const V kl = 0.5f * (excess(change, growth) + shift * shift * precision_p);
      const V log_prob = -0.5f * (surprise + logvar_g + 1.83787707f);  // log(2 pi)
      store(op.d_mean + at, (shift * precision_p + weight * err * precision_g) * scale, count);
      store(op.d_logvar + at, (0.5f * growth + weight * 0.5f * (surprise - 1.0f)) * scale, count);
      losses += kl + weight * log_prob;
    }
    loss += sum(losses, count);
  }
  return loss * scale;
}

}  // namespace

void gaussian_kl_score(const GaussianKlScore& op) {
  struct Run {
    const GaussianKlScore& op;
    float* losses;  // [E]: summed in a fixed order, whatever the threads
  } run{op, scratch(op.ensemble)};
  run_parallel(
      op.threads,
      [](void* context, int thread, int threads) {
        const Run& run = *static_cast<const Run*>(context);
        const long end = share(run.op.ensemble, thread + 1, threads);
        for (long e = share(run.op.ensemble, thread, threads); e < end; ++e)
          run.losses[e] = member(run.op, e);
      },
      &run);
  float loss = 0;
  for (long e = 0; e < op.ensemble; ++e) loss += run.losses[e];
  *op.loss = loss;
}

}  // namespace rmbpo::RMBPO_ISA
