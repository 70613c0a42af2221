// The adversary's gradient step in two calls, between which the caller says what the states that the
// first one drew are worth.
#include "../../native/member.h"

namespace rmbpo::RMBPO_ISA {
namespace {

// p's distribution from its head and g's around it; with eps a draw from g, and where the draw and
// g's mean lead. For rows of E * rows.
void draw_rows(const AdversaryDraw& op, long begin, long end) {
  const long size = op.size, states = size - 1;
  for (long row = begin; row < end; ++row)
    for (long j = 0; j < size; j += VL) {
      const long count = smaller(VL, size - j), state_count = smaller(count, states - j);
      const long at = row * size + j;
      const float *head_p = op.head_p + 2 * row * size + j, *head_g = op.head_g + 2 * row * size + j;
      const V low = load(op.low + j, count), high = load(op.high + j, count);
      const V upper = high - softplus(high - load(head_p + size, count));
      const V logvar_p = low + softplus(upper - low), mean_p = load(head_p, count);
      const V mask = load(op.mask + j, count);  // 0 or 1
      const V mean_g = mean_p + mask * load(head_g, count) * exp(0.5f * logvar_p);
      const V logvar_g = logvar_p + mask * 2.0f * tanh(0.5f * load(head_g + size, count));
      store(op.mean_g + at, mean_g, count);
      store(op.logvar_g + at, logvar_g, count);
      if (!op.eps) continue;
      const V sample = mean_g + exp(0.5f * logvar_g) * load(op.eps + at, count);
      store(op.mean_p + at, mean_p, count);
      store(op.logvar_p + at, logvar_p, count);
      store(op.sample + at, sample, count);
      if (state_count <= 0) continue;
      const V obs = load(op.obs + row * op.obs_stride + j, state_count);
      const V least = load(op.obs_low + j, state_count), most = load(op.obs_high + j, state_count);
      const V draws[2] = {sample, mean_g};
      for (long k = 0; k < 2; ++k) {
        const V next = obs + draws[k], raised = next < least ? least : next;
        store(op.next_obs + (k * op.count + row) * states + j, raised > most ? most : raised,
              state_count);
      }
    }
}

// Returns the member's loss.
float step_member(const AdversaryStep& op, long e, int threads) {
  const long rows = op.net.rows, size = op.size, layers = op.net.layers, first = e * rows * size;
  Workspace space;
  float loss = 0;
  GaussianKlScore score{};
  score.ensemble = 1;
  score.rows = rows;
  score.size = size;
  score.mean_g = op.mean_g + first;
  score.logvar_g = op.logvar_g + first;
  score.mean_p = op.mean_p + first;
  score.logvar_p = op.logvar_p + first;
  score.sample = op.sample + first;
  score.advantage = op.advantage + e * rows;
  score.eta = op.eta;
  score.loss = &loss;
  score.d_mean = space.take(rows * size);
  score.d_logvar = space.take(rows * size);
  score.threads = 1;
  gaussian_kl_score(score);
  // through mean_g = mean_p + first * std_p and logvar_g = logvar_p + 2 tanh(second / 2)
  float* d_head = space.take(2 * rows * size);
  for (long row = 0; row < rows; ++row)
    for (long j = 0; j < size; j += VL) {
      const long count = smaller(VL, size - j), at = row * size + j;
      const V mask = load(op.mask + j, count);
      const V logvar_p = load(score.logvar_p + at, count);
      const V tanh = 0.5f * (load(score.logvar_g + at, count) - logvar_p);
      const V d_mean = load(score.d_mean + at, count), d_logvar = load(score.d_logvar + at, count);
      float* to = d_head + 2 * row * size + j;
      store(to, mask * d_mean * exp(0.5f * logvar_p), count);
      store(to + size, mask * d_logvar * (1.0f - tanh * tanh), count);
    }
  const float *outputs[MOST_LAYERS], *slopes[MOST_LAYERS];
  for (long l = 0; l < layers; ++l) {
    const long columns = op.net.sizes[l + 1];
    const long places = rows * (l + 1 < layers && op.net.bf16 ? steps<Bf16>(columns) : columns);
    outputs[l] = op.outputs[l] + e * places;
    slopes[l] = l + 1 < layers ? op.slopes[l] + e * places : nullptr;
  }
  Member member(op.net, e, threads);
  member.learn(e, op.net.ensemble, d_head, outputs, slopes, op.adam, space);
  return loss;
}

}  // namespace

void adversary_draw(const AdversaryDraw& op) {
  constexpr long worth_a_thread = 256;  // rows, some 30 us
  run_parallel(
      (int)larger(1, smaller(op.threads, op.count / worth_a_thread)),
      [](void* context, int thread, int threads) {
        const AdversaryDraw& op = *static_cast<const AdversaryDraw*>(context);
        draw_rows(op, share(op.count, thread, threads), share(op.count, thread + 1, threads));
      },
      const_cast<AdversaryDraw*>(&op));
}

void adversary_step(const AdversaryStep& op) {
  const long members = op.net.ensemble;
  float* losses = scratch(members, SCRATCH_SLOTS - 1);
  for_members(members, op.net.threads,
              [&](long e, int threads) { losses[e] = step_member(op, e, threads); });
  float loss = 0;
  for (long e = 0; e < members; ++e) loss += losses[e];
  *op.loss = loss;
}

}  // namespace rmbpo::RMBPO_ISA
