// gaussian_nll on a processor: the likelihood loss and all its gradients in one pass.
#include "../../native/vectors.h"

namespace rmbpo::RMBPO_ISA {
namespace {

// One member. A vector holds up to VL of a row's D numbers; the sums over rows of each number's
// loss and of the gradients to the two bounds stay in registers.
void member(const GaussianNll& op, long e) {
  const float scale = 1.0f / ((float)op.rows * (float)op.size);
  float loss = 0;
  for (long j = 0; j < op.size; j += VL) {
    const long count = smaller(VL, op.size - j);
    const V low = load(op.low + j, count), high = load(op.high + j, count);
    V losses{}, d_lows{}, d_highs{};
    for (long row = e * op.rows; row < (e + 1) * op.rows; ++row) {
      const float* head = op.head + row * 2 * op.size + j;
      float* d_head = op.d_head + row * 2 * op.size + j;
      const V below = high - load(head + op.size, count);
      const V upper = high - softplus(below);
      const V logvar = low + softplus(upper - low);
      const V d_upper = sigmoid(below);        // d upper / d raw; 1 - that: d upper / d high
      const V d_logvar = sigmoid(upper - low);  // d logvar / d upper; 1 - that: d logvar / d low
      const V err = load(op.target + row * op.size + j, count) - load(head, count);
      const V precision = exp(-logvar), surprise = err * err * precision;
      const V g = (1.0f - surprise) * scale;  // d loss / d logvar
      store(d_head, -2.0f * err * precision * scale, count);
      store(d_head + op.size, g * d_logvar * d_upper, count);
      losses += surprise + logvar;
      d_lows += g * (1.0f - d_logvar);
      d_highs += g * d_logvar * (1.0f - d_upper);
    }
    loss += sum(losses, count);
    store(op.d_low + e * op.size + j, d_lows, count);
    store(op.d_high + e * op.size + j, d_highs, count);
  }
  op.loss[e] = loss * scale;
}

}  // namespace

void gaussian_nll(const GaussianNll& op) {
  run_parallel(
      op.threads,
      [](void* context, int thread, int threads) {
        const GaussianNll& op = *static_cast<const GaussianNll*>(context);
        const long end = share(op.ensemble, thread + 1, threads);
        for (long e = share(op.ensemble, thread, threads); e < end; ++e) member(op, e);
      },
      const_cast<GaussianNll*>(&op));
}

}  // namespace rmbpo::RMBPO_ISA
