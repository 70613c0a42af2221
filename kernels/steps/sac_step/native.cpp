// SAC's update in one call: both losses with their gradients, three optimisers and the target
// networks. The other operations, without the Python, autograd and dispatch between them, which
// took longer than they do.
#include "../../native/member.h"

namespace rmbpo::RMBPO_ISA {
namespace {

// A network that has run, with its outputs: every layer's with `save`, for `backward`.
struct Pass {
  Networks net;
  float* outputs[MOST_LAYERS];
};

Pass forward(const SacStep& op, const SacNetwork& network, long ensemble, const float* x,
             long stride, bool save, Workspace& space) {
  Pass pass{};
  Networks& net = pass.net;
  net.ensemble = ensemble;
  net.rows = op.rows;
  net.layers = network.layers;
  net.sizes = network.sizes;
  net.x = x;
  net.stride_xm = stride;  // stride_xe is 0: the twins see the same rows
  net.weights = network.weights;
  net.bf16 = op.bf16;
  net.threads = op.threads;
  const long first = save ? 0 : net.layers - 1;
  for (long l = first; l < net.layers; ++l)
    pass.outputs[l - first] = space.take(ensemble * net.rows * most_places(net.sizes[l + 1]));
  MlpForward mlp{};
  mlp.net = net;
  mlp.biases = network.biases;
  mlp.outputs = pass.outputs;
  mlp.save = save;
  ensemble_mlp_fwd(mlp);
  return pass;
}

// d_out back to the input.
void backward(const Pass& pass, const float* d_out, float* d_x) {
  MlpBackward mlp{};
  mlp.net = pass.net;
  mlp.d_out = d_out;
  mlp.outputs = pass.outputs;
  mlp.d_x = d_x;
  ensemble_mlp_bwd(mlp);
}

// d_out back to the weights, and a step of their optimiser.
void learn(const Pass& pass, const float* d_out, const Adam& optimizer, Workspace& space) {
  AdamParameter parameters[2 * MOST_LAYERS];
  for (long p = 0; p < 2 * pass.net.layers; ++p) parameters[p] = optimizer.parameters[p];
  learn(pass.net, d_out, pass.outputs, nullptr, optimizer, parameters, space);
}

// [rows, obs_size + action_size]
float* concatenate(const SacStep& op, const float* obs, const float* action, long action_stride,
                   Workspace& space) {
  const long size = op.obs_size + op.action_size;
  float* to = space.take(op.rows * size);
  for (long i = 0; i < op.rows; ++i) {
    std::memcpy(to + i * size, obs + i * op.stride, op.obs_size * sizeof(float));
    std::memcpy(to + i * size + op.obs_size, action + i * action_stride,
                op.action_size * sizeof(float));
  }
  return to;
}

SquashedGaussian draw_action(const SacStep& op, const float* head, const float* noise,
                             Workspace& space) {
  SquashedGaussian draw{};
  draw.rows = op.rows;
  draw.size = op.action_size;
  draw.log_std_min = op.log_std_min;
  draw.log_std_max = op.log_std_max;
  draw.head = head;
  draw.noise = noise;
  draw.action = space.take(op.rows * op.action_size);
  draw.log_prob = space.take(op.rows);
  draw.threads = op.threads;
  squashed_gaussian_fwd(draw);
  return draw;
}

// loss = sum_j mean (Q_j - y)^2 / 2, y = r + gamma (1 - done) (min_j Q'_j - alpha log pi)
void critic_step(const SacStep& op, float temperature) {
  const long rows = op.rows, inputs = op.obs_size + op.action_size;
  Workspace space;
  const Pass policy = forward(op, op.actor, 1, op.next_obs, op.stride, false, space);
  const SquashedGaussian next = draw_action(op, policy.outputs[0], op.critic_noise, space);
  const float* next_x = concatenate(op, op.next_obs, next.action, op.action_size, space);
  const float* next_q = forward(op, op.target, 2, next_x, inputs, false, space).outputs[0];
  const float* x = concatenate(op, op.obs, op.action, op.stride, space);
  const Pass critic = forward(op, op.critic, 2, x, inputs, true, space);
  const float* q = critic.outputs[op.critic.layers - 1];
  float* d_q = space.take(2 * rows);
  float loss = 0, total = 0;
  for (long i = 0; i < rows; ++i) {
    const float a = next_q[i], b = next_q[rows + i];
    const float least = (a < b || a != a) ? a : b;  // NaN if one is
    const float value = least - temperature * next.log_prob[i];
    const float alive = 1.0f - op.terminated[i * op.stride];
    const float target = op.reward[i * op.stride] + op.gamma * alive * value;
    for (long j = 0; j < 2; ++j) {
      const float err = q[j * rows + i] - target;
      d_q[j * rows + i] = err / (float)rows;
      loss += err * err;
      total += q[j * rows + i];
    }
  }
  op.metrics[0] = 0.5f * loss / (float)rows;
  op.metrics[2] = total / (float)(2 * rows);
  learn(critic, d_q, op.critic_adam, space);
}

// loss = mean (alpha log pi - min_j Q_j) of actions drawn from the policy. Returns mean log pi.
float actor_step(const SacStep& op, float temperature) {
  const long rows = op.rows, actions = op.action_size, inputs = op.obs_size + actions;
  Workspace space;
  const Pass policy = forward(op, op.actor, 1, op.obs, op.stride, true, space);
  SquashedGaussian drawn =
      draw_action(op, policy.outputs[op.actor.layers - 1], op.actor_noise, space);
  const float* x = concatenate(op, op.obs, drawn.action, actions, space);
  const Pass critic = forward(op, op.critic, 2, x, inputs, true, space);
  const float* q = critic.outputs[op.critic.layers - 1];
  float *d_q = space.take(2 * rows), *d_log_prob = space.take(rows);
  const float share_of_row = 1.0f / (float)rows;
  float loss = 0, log_probs = 0;
  for (long i = 0; i < rows; ++i) {
    const float a = q[i], b = q[rows + i];
    const float least = (a < b || a != a) ? a : b;
    loss += temperature * drawn.log_prob[i] - least;
    log_probs += drawn.log_prob[i];
    // equals share, as PyTorch's amin has it
    const float first = a < b ? 1.0f : a == b ? 0.5f : 0.0f;
    d_q[i] = -share_of_row * first;
    d_q[rows + i] = -share_of_row * (1.0f - first);
    d_log_prob[i] = share_of_row * temperature;
  }
  op.metrics[1] = loss / (float)rows;
  float* d_x = space.take(2 * rows * inputs);
  backward(critic, d_q, d_x);
  float* d_action = space.take(rows * actions);
  for (long i = 0; i < rows; ++i)
    for (long k = 0; k < actions; ++k)
      d_action[i * actions + k] =
          d_x[i * inputs + op.obs_size + k] + d_x[(rows + i) * inputs + op.obs_size + k];
  drawn.d_action = d_action;
  drawn.d_log_prob = d_log_prob;
  drawn.d_head = space.take(rows * 2 * actions);
  squashed_gaussian_bwd(drawn);
  learn(policy, drawn.d_head, op.actor_adam, space);
  return log_probs / (float)rows;
}

// Mean log pi of the policy after its step, at the temperature's own states.
float entropy_log_prob(const SacStep& op) {
  Workspace space;
  const Pass policy = forward(op, op.actor, 1, op.entropy_obs, op.obs_size, false, space);
  const SquashedGaussian drawn = draw_action(op, policy.outputs[0], op.entropy_noise, space);
  float log_probs = 0;
  for (long i = 0; i < op.rows; ++i) log_probs += drawn.log_prob[i];
  return log_probs / (float)op.rows;
}

// loss = -log alpha (mean log pi + target entropy)
void temperature_step(const SacStep& op, float log_prob) {
  const float gradient = -(log_prob + op.target_entropy);
  AdamParameter parameter = op.temperature_adam.parameters[0];
  parameter.gradient = &gradient;
  Adam step = op.temperature_adam;
  step.parameters = &parameter;
  adam(step);
}

// target += tau (critic - target)
void follow(const SacStep& op) {
  for (long l = 0; l < op.critic.layers; ++l) {
    const long outputs = 2 * op.critic.sizes[l + 1];
    const struct {
      const float* const* from;
      const float* const* to;
      long count;
    } pairs[] = {{op.critic.weights, op.target.weights, outputs * op.critic.sizes[l]},
                 {op.critic.biases, op.target.biases, outputs}};
    for (const auto& pair : pairs) {
      const float* from = pair.from[l];
      float* to = const_cast<float*>(pair.to[l]);
      for (long i = 0; i < pair.count; i += VL) {
        const long count = smaller(VL, pair.count - i);
        const V now = load(to + i, count);
        store(to + i, now + op.tau * (load(from + i, count) - now), count);
      }
    }
  }
}

}  // namespace

void sac_step(const SacStep& op) {
  const float temperature = exp(fill(*op.log_temperature))[0];
  critic_step(op, temperature);
  float log_prob = actor_step(op, temperature);
  if (op.entropy_obs) log_prob = entropy_log_prob(op);
  temperature_step(op, log_prob);
  follow(op);
  op.metrics[3] = -log_prob;
  op.metrics[4] = *op.log_temperature;
}

}  // namespace rmbpo::RMBPO_ISA
