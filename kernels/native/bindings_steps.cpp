// The native module's gradient steps, and the parts of them that are called alone: Adam and the
// adversary's draw.
#include <nanobind/stl/tuple.h>

#include <cmath>
#include <tuple>

#include "arguments.h"

namespace bindings {
namespace {

// Sizes of the layers, then addresses per layer.
using Network = std::tuple<std::vector<long>, Addresses, Addresses>;

// An optimiser as Python has it: per tensor its size, addresses of it, of both running means and of
// its step counter, weight decay; then lr, beta1, beta2, eps.
using Optimizer = std::tuple<std::vector<long>, Addresses, Addresses, Addresses, Addresses,
                             std::vector<double>, std::vector<double>>;

// One step of it. The counters go on when this is made.
struct AdamStep {
  std::vector<rmbpo::AdamParameter> parameters;
  rmbpo::Adam op{};

  AdamStep(const Optimizer& optimizer, int threads) {
    const auto& [sizes, params, firsts, seconds, steps, decays, numbers] = optimizer;
    const double lr = numbers.at(0), beta1 = numbers.at(1), beta2 = numbers.at(2);
    for (std::size_t p = 0; p < sizes.size(); ++p) {
      float& step = *at<float*>(steps.at(p));
      step += 1.0f;
      rmbpo::AdamParameter one{};
      one.size = sizes[p];
      one.parameter = at<float*>(params.at(p));
      one.first = at<float*>(firsts.at(p));
      one.second = at<float*>(seconds.at(p));
      one.step_size = (float)(lr / (1.0 - std::pow(beta1, step)));
      one.root_correction2 = (float)(1.0 / std::sqrt(1.0 - std::pow(beta2, step)));
      one.weight_decay = (float)decays.at(p);
      parameters.push_back(one);
    }
    op.count = (long)parameters.size();
    op.parameters = parameters.data();
    op.new1 = (float)(1.0 - beta1);
    op.beta2 = (float)beta2;
    op.new2 = (float)(1.0 - beta2);
    op.eps = (float)numbers.at(3);
    op.threads = threads;
  }
};

void adam(const Optimizer& optimizer, const Addresses& gradients, int threads) {
  AdamStep step(optimizer, threads);
  for (std::size_t p = 0; p < step.parameters.size(); ++p)
    step.parameters[p].gradient = at<const float*>(gradients.at(p));
  rmbpo::level().adam(step.op);
}

void nominal_step(long ensemble, long rows, Address x, Address target, const Network& network,
                  Address low, Address high, float bound_pull, const Optimizer& optimizer,
                  Address loss, bool bf16, int threads) {
  const auto& [sizes, weights, biases] = network;
  const AdamStep adam(optimizer, threads);
  rmbpo::NominalStep op{};
  op.net = networks(ensemble, rows, sizes, x, rows * sizes.front(), sizes.front(), weights, true,
                    bf16, threads);
  op.biases = list<const float*>(biases);
  op.target = at<const float*>(target);
  op.low = at<const float*>(low);
  op.high = at<const float*>(high);
  op.size = sizes.back() / 2;
  op.bound_pull = bound_pull;
  op.adam = adam.op;
  op.loss = at<float*>(loss);
  rmbpo::level().nominal_step(op);
}

rmbpo::SacNetwork sac_network(const Network& network) {
  const auto& [sizes, weights, biases] = network;
  return {(long)sizes.size() - 1, sizes.data(), list<const float*>(weights),
          list<const float*>(biases)};
}

// inputs: head_p, head_g, low, high, touch, eps, obs, obs_low, obs_high; results: mean_p, logvar_p,
// mean_g, logvar_g, sample, next_obs
void adversary_draw(long count, long size, long obs_stride, const Addresses& inputs,
                    const Addresses& results, int threads) {
  rmbpo::AdversaryDraw op{};
  op.count = count;
  op.size = size;
  op.obs_stride = obs_stride;
  const float** const fields[] = {&op.head_p, &op.head_g, &op.low,     &op.high,    &op.touch,
                                  &op.eps,    &op.obs,    &op.obs_low, &op.obs_high};
  for (std::size_t i = 0; i < 9; ++i) *fields[i] = at<const float*>(inputs.at(i));
  float** const found[] = {&op.mean_p,   &op.logvar_p, &op.mean_g,
                           &op.logvar_g, &op.sample,   &op.next_obs};
  for (std::size_t i = 0; i < 6; ++i) *found[i] = at<float*>(results.at(i));
  op.threads = threads;
  rmbpo::level().adversary_draw(op);
}

// drawn: as `adversary_draw`'s results, then rewards and touch; numbers: log_std_min, log_std_max,
// gamma
void adversary_step(long ensemble, long rows, Address x, const Network& network,
                    const Addresses& outputs, const Addresses& slopes, const Addresses& drawn,
                    Address terminated, Address noise, const Network& actor, const Network& critic,
                    const std::vector<float>& numbers, Address log_temperature, Address eta,
                    bool baseline, const Optimizer& optimizer, Address loss, bool bf16,
                    int threads) {
  const auto& [sizes, weights, biases] = network;
  const AdamStep adam(optimizer, threads);
  rmbpo::AdversaryStep op{};
  op.net = networks(ensemble, rows, sizes, x, rows * sizes.front(), sizes.front(), weights, true,
                    bf16, threads);
  op.outputs = list<const float*>(outputs);
  op.slopes = list<const float*>(slopes);
  const float** const fields[] = {&op.mean_p, &op.logvar_p, &op.mean_g, &op.logvar_g,
                                  &op.sample, &op.next_obs, &op.reward, &op.touch};
  for (std::size_t i = 0; i < 8; ++i) *fields[i] = at<const float*>(drawn.at(i));
  op.terminated = at<const bool*>(terminated);
  op.noise = at<const float*>(noise);
  op.size = sizes.back() / 2;
  op.actor = sac_network(actor);
  op.critic = sac_network(critic);
  op.action_size = op.actor.sizes[op.actor.layers] / 2;
  op.log_std_min = numbers.at(0);
  op.log_std_max = numbers.at(1);
  op.gamma = numbers.at(2);
  op.log_temperature = at<const float*>(log_temperature);
  op.eta = at<const float*>(eta);
  op.baseline = baseline;
  op.adam = adam.op;
  op.loss = at<float*>(loss);
  rmbpo::level().adversary_step(op);
}

// shape: rows, obs_size, action_size, stride. columns: obs, action, reward, next_obs, terminated,
// critic's noise, actor's noise, entropy's obs and noise (or 0 twice).
// numbers: log_std_min, log_std_max, gamma, tau, target_entropy
void sac_step(const std::vector<long>& shape, const Addresses& columns,
              const std::vector<float>& numbers, const Network& actor, const Network& critic,
              const Network& target, Address log_temperature, const Optimizer& actor_optimizer,
              const Optimizer& critic_optimizer, const Optimizer& temperature_optimizer,
              Address metrics, bool bf16, int threads) {
  const AdamStep actor_adam(actor_optimizer, threads), critic_adam(critic_optimizer, threads),
      temperature_adam(temperature_optimizer, threads);
  rmbpo::SacStep op{};
  long* const sizes[] = {&op.rows, &op.obs_size, &op.action_size, &op.stride};
  for (std::size_t i = 0; i < 4; ++i) *sizes[i] = shape.at(i);
  const float** const fields[] = {&op.obs,         &op.action,      &op.reward,
                                  &op.next_obs,    &op.terminated,  &op.critic_noise,
                                  &op.actor_noise, &op.entropy_obs, &op.entropy_noise};
  for (std::size_t i = 0; i < 9; ++i) *fields[i] = at<const float*>(columns.at(i));
  float* const settings[] = {&op.log_std_min, &op.log_std_max, &op.gamma, &op.tau,
                             &op.target_entropy};
  for (std::size_t i = 0; i < 5; ++i) *settings[i] = numbers.at(i);
  op.actor = sac_network(actor);
  op.critic = sac_network(critic);
  op.target = sac_network(target);
  op.log_temperature = at<float*>(log_temperature);
  op.actor_adam = actor_adam.op;
  op.critic_adam = critic_adam.op;
  op.temperature_adam = temperature_adam.op;
  op.metrics = at<float*>(metrics);
  op.bf16 = bf16;
  op.threads = threads;
  rmbpo::level().sac_step(op);
}

}  // namespace

void bind_steps(nb::module_& m) {
  const nb::call_guard<nb::gil_scoped_release> unlocked;
  m.def("adam", &adam, unlocked);
  m.def("adversary_draw", &adversary_draw, unlocked);
  m.def("adversary_step", &adversary_step, unlocked);
  m.def("nominal_step", &nominal_step, unlocked);
  m.def("sac_step", &sac_step, unlocked);
}

}  // namespace bindings
