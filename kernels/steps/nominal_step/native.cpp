// A gradient step of the dynamics ensemble, member by member.
#include "../../native/member.h"

namespace rmbpo::RMBPO_ISA {
namespace {

// Writes the member's loss and its gradients to the bounds.
void step_member(const NominalStep& op, long e, int threads, float* loss, float* d_low,
                 float* d_high) {
  const long layers = op.net.layers, rows = op.net.rows;
  Member member(op.net, e, threads);
  const float* biases[MOST_LAYERS];
  float *outputs[MOST_LAYERS], *slopes[MOST_LAYERS];
  Workspace space;
  for (long l = 0; l < layers; ++l) {
    const long columns = op.net.sizes[l + 1];
    biases[l] = op.biases[l] + e * columns;
    outputs[l] = space.take(rows * most_places(columns));
    slopes[l] = l + 1 < layers ? space.take(rows * most_places(columns)) : nullptr;
  }
  MlpForward forward{};
  forward.net = member.net;
  forward.net.weights = member.weights;
  forward.biases = biases;
  forward.outputs = outputs;
  forward.slopes = slopes;
  forward.save = true;
  ensemble_mlp_fwd(forward);

  GaussianNll nll{};
  nll.ensemble = 1;
  nll.rows = rows;
  nll.size = op.size;
  nll.head = outputs[layers - 1];
  nll.target = op.target + e * rows * op.size;
  nll.low = op.low;
  nll.high = op.high;
  nll.loss = loss;
  nll.d_head = space.take(rows * 2 * op.size);
  nll.d_low = d_low;
  nll.d_high = d_high;
  nll.threads = 1;
  gaussian_nll(nll);

  member.learn(e, op.net.ensemble, nll.d_head, outputs, slopes, op.adam, space);
}

}  // namespace

void nominal_step(const NominalStep& op) {
  const long members = op.net.ensemble;
  // [E], [E, size]: summed in a fixed order, whatever the threads
  float* losses = scratch(members, SCRATCH_SLOTS - 1);
  float* d_low = scratch(members * op.size, SCRATCH_SLOTS - 2);
  float* d_high = scratch(members * op.size, SCRATCH_SLOTS - 3);
  for_members(members, op.net.threads, [&](long e, int threads) {
    step_member(op, e, threads, losses + e, d_low + e * op.size, d_high + e * op.size);
  });
  float loss = 0;
  for (long e = 0; e < members; ++e) loss += losses[e];
  for (long j = 0; j < op.size; ++j) {
    loss += op.bound_pull * (op.high[j] - op.low[j]);
    float low = -op.bound_pull, high = op.bound_pull;
    for (long e = 0; e < members; ++e) {
      low += d_low[e * op.size + j];
      high += d_high[e * op.size + j];
    }
    d_low[j] = low;  // in the place of the first member's, which isn't needed any more
    d_high[j] = high;
  }
  *op.loss = loss;
  const AdamParameter* parameters = op.adam.parameters + 2 * op.net.layers;
  AdamParameter bounds[2] = {parameters[0], parameters[1]};
  bounds[0].gradient = d_high;
  bounds[1].gradient = d_low;
  Adam step = op.adam;
  step.count = 2;
  step.parameters = bounds;
  adam(step);
}

}  // namespace rmbpo::RMBPO_ISA
