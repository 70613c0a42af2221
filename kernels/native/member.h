// One member of an ensemble at a time, from its loss to its optimiser's step: its activations,
// gradients and weights stay in one core's caches.
#pragma once

#include "formats.h"
#include "workspace.h"

namespace rmbpo::RMBPO_ISA {

constexpr long MOST_LAYERS = 16;

// Floats that a row of a layer's outputs takes in either format.
inline long most_places(long columns) { return larger(columns, steps<Bf16>(columns)); }

// Calls task(e, threads) for each member e. Each thread first takes the same number of members,
// alone (threads = 1). Then all threads share each member that is left.
template <typename Task>
void for_members(long members, int threads, const Task& task) {
  struct Run {
    const Task& task;
    long whole;
  } run{task, members / threads * threads};
  if (run.whole > 0)
    run_parallel(
        threads,
        [](void* context, int thread, int threads) {
          const Run& run = *static_cast<const Run*>(context);
          const long end = share(run.whole, thread + 1, threads);
          for (long e = share(run.whole, thread, threads); e < end; ++e) run.task(e, 1);
        },
        &run);
  for (long e = run.whole; e < members; ++e) task(e, threads);
}

// Propagates d_out back to the weights of some networks, and takes their optimiser's step.
// parameters: the weights of each layer, then the biases of each; their gradients are set here.
inline void learn(const Networks& net, const float* d_out, const float* const* outputs,
                  const float* const* slopes, const Adam& optimizer, AdamParameter* parameters,
                  Workspace& space) {
  float *dz[MOST_LAYERS], *d_weights[MOST_LAYERS], *d_biases[MOST_LAYERS];
  for (long l = 0; l < net.layers; ++l) {
    const long columns = net.ensemble * net.sizes[l + 1];
    d_weights[l] = space.take(net.sizes[l] * columns);
    d_biases[l] = space.take(columns);
    dz[l] = l + 1 < net.layers
                ? space.take(net.ensemble * net.rows * most_places(net.sizes[l + 1]))
                : nullptr;
    parameters[l].gradient = d_weights[l];
    parameters[net.layers + l].gradient = d_biases[l];
  }
  MlpBackward backward{};
  backward.net = net;
  backward.d_out = d_out;
  backward.outputs = outputs;
  backward.slopes = slopes;
  backward.dz = dz;
  backward.d_weights = d_weights;
  backward.d_biases = d_biases;
  backward.need_weights = true;
  ensemble_mlp_bwd(backward);
  Adam step = optimizer;
  step.count = 2 * net.layers;
  step.parameters = parameters;
  step.threads = net.threads;
  adam(step);
}

// A member's networks, of `all` members.
struct Member {
  Networks net;
  const float* weights[MOST_LAYERS];

  Member(const Networks& all, long e, int threads) : net(all) {
    for (long l = 0; l < all.layers; ++l)
      weights[l] = all.weights[l] + e * all.sizes[l] * all.sizes[l + 1];
    net.ensemble = 1;
    net.x = all.x + e * all.stride_xe;
    net.threads = threads;
  }

  // Propagates d_out back to the member's weights, and takes its part of the optimiser's step.
  void learn(long e, long members, const float* d_out, const float* const* outputs,
             const float* const* slopes, const Adam& optimizer, Workspace& space) {
    net.weights = weights;
    AdamParameter parameters[2 * MOST_LAYERS];
    for (long p = 0; p < 2 * net.layers; ++p) {
      AdamParameter& one = parameters[p] = optimizer.parameters[p];
      one.size /= members;
      one.parameter += e * one.size;
      one.first += e * one.size;
      one.second += e * one.size;
    }
    rmbpo::RMBPO_ISA::learn(net, d_out, outputs, slopes, optimizer, parameters, space);
  }
};

}  // namespace rmbpo::RMBPO_ISA
