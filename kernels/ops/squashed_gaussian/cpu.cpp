// squashed_gaussian on a processor: the policy's head in one pass each way.
#include "../../native/vectors.h"

namespace rmbpo::RMBPO_ISA {
namespace {

// What both directions need of u = mean + exp(log_std) * noise.
struct Drawn {
  V noise, raw, log_std, spread, u, tanh_u;
};

Drawn draw(const SquashedGaussian& op, long row, long j, long count) {
  const float* head = op.head + row * 2 * op.size + j;
  Drawn d;
  d.noise = load(op.noise + row * op.size + j, count);
  d.raw = load(head + op.size, count);
  d.log_std = at_most(at_least(d.raw, op.log_std_min), op.log_std_max);
  d.spread = exp(d.log_std) * d.noise;
  d.u = load(head, count) + d.spread;
  d.tanh_u = tanh(d.u);
  return d;
}

void forward_rows(const SquashedGaussian& op, long begin, long end) {
  for (long row = begin; row < end; ++row) {
    float log_prob = 0;
    for (long j = 0; j < op.size; j += VL) {
      const long count = smaller(VL, op.size - j);
      const Drawn d = draw(op, row, j, count);
      // log(1 - tanh(u)^2), exact for large |u| where the plain form gives log(0)
      const V log_slope = 2.0f * (0.693147181f - d.u - softplus(-2.0f * d.u));
      const V log_normal = -0.5f * d.noise * d.noise - d.log_std - 0.918938533f;
      store(op.action + row * op.size + j, d.tanh_u, count);
      log_prob += sum(log_normal - log_slope, count);
    }
    op.log_prob[row] = log_prob;
  }
}

void backward_rows(const SquashedGaussian& op, long begin, long end) {
  for (long row = begin; row < end; ++row) {
    const float d_log_prob = op.d_log_prob[row];
    for (long j = 0; j < op.size; j += VL) {
      const long count = smaller(VL, op.size - j);
      const Drawn d = draw(op, row, j, count);
      const V decay = exp(-2.0f * magnitude(d.u));
      const V slope = 4.0f * decay / ((1.0f + decay) * (1.0f + decay));  // d tanh(u) / du
      const V d_action = load(op.d_action + row * op.size + j, count);
      const V d_u = d_action * slope + d_log_prob * 2.0f * d.tanh_u;  // d log_prob / du = 2 tanh(u)
      const V d_log_std = d_u * d.spread - d_log_prob;
      const I inside = (d.raw >= op.log_std_min) & (d.raw <= op.log_std_max);
      float* d_head = op.d_head + row * 2 * op.size + j;
      store(d_head, d_u, count);
      store(d_head + op.size, inside ? d_log_std : V{}, count);
    }
  }
}

template <void (*ROWS)(const SquashedGaussian&, long, long)>
void in_parallel(const SquashedGaussian& op) {
  constexpr long worth_a_thread = 1024;  // rows, some 50 us
  const long threads = larger(1, smaller(op.threads, op.rows / worth_a_thread));
  run_parallel(
      (int)threads,
      [](void* context, int thread, int threads) {
        const SquashedGaussian& op = *static_cast<const SquashedGaussian*>(context);
        ROWS(op, share(op.rows, thread, threads), share(op.rows, thread + 1, threads));
      },
      const_cast<SquashedGaussian*>(&op));
}

}  // namespace

void squashed_gaussian_fwd(const SquashedGaussian& op) { in_parallel<forward_rows>(op); }

void squashed_gaussian_bwd(const SquashedGaussian& op) { in_parallel<backward_rows>(op); }

}  // namespace rmbpo::RMBPO_ISA
