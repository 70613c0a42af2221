// The native module's gradient steps, and the parts of them that are called alone: Adam and the
// adversary's draw.
#include <cmath>

#include "arguments.h"

namespace bindings {
namespace {

// Stacked networks: sizes of the layers, then addresses per layer.
struct Network {
  std::vector<long> sizes;
  Addresses weights, biases;
};

// An optimiser as Python has it. For each tensor: its size, the addresses of the tensor, of both
// running means and of the step counter, and the weight decay. Then the settings.
struct Optimizer {
  std::vector<long> sizes;
  Addresses params, exp_avgs, exp_avg_sqs, steps;
  std::vector<double> weight_decays;
  double lr, beta1, beta2, eps;
};

// One step of an optimiser. Making it advances the step counters.
struct AdamStep {
  std::vector<rmbpo::AdamParameter> parameters;
  rmbpo::Adam op{};

  AdamStep(const Optimizer& from, int threads) {
    for (std::size_t p = 0; p < from.sizes.size(); ++p) {
      float& step = *at<float*>(from.steps.at(p));
      step += 1.0f;
      rmbpo::AdamParameter one{};
      one.size = from.sizes[p];
      one.parameter = at<float*>(from.params.at(p));
      one.first = at<float*>(from.exp_avgs.at(p));
      one.second = at<float*>(from.exp_avg_sqs.at(p));
      one.step_size = (float)(from.lr / (1.0 - std::pow(from.beta1, step)));
      one.root_correction2 = (float)(1.0 / std::sqrt(1.0 - std::pow(from.beta2, step)));
      one.weight_decay = (float)from.weight_decays.at(p);
      parameters.push_back(one);
    }
    op.count = (long)parameters.size();
    op.parameters = parameters.data();
    op.new1 = (float)(1.0 - from.beta1);
    op.beta2 = (float)from.beta2;
    op.new2 = (float)(1.0 - from.beta2);
    op.eps = (float)from.eps;
    op.threads = threads;
  }
};

rmbpo::SacNetwork sac_network(const Network& network) {
  return {(long)network.sizes.size() - 1, network.sizes.data(), list<const float*>(network.weights),
          list<const float*>(network.biases)};
}

// Networks of swish, all of which see rows of their own.
rmbpo::Networks dynamics(const Network& network, long members, long rows, Address inputs, bool bf16,
                         int threads) {
  const long width = network.sizes.front();
  return networks(members, rows, network.sizes, inputs, rows * width, width, network.weights, true,
                  bf16, threads);
}

void adam(const Optimizer& adam, const Addresses& gradients, int threads) {
  AdamStep step(adam, threads);
  for (std::size_t p = 0; p < step.parameters.size(); ++p)
    step.parameters[p].gradient = at<const float*>(gradients.at(p));
  rmbpo::level().adam(step.op);
}

void nominal_step(long members, long rows, Address inputs, Address targets, const Network& layers,
                  Address min_logvar, Address max_logvar, float bound_pull, const Optimizer& adam,
                  Address loss, bool bf16, int threads) {
  const AdamStep step(adam, threads);
  rmbpo::NominalStep op{};
  op.net = dynamics(layers, members, rows, inputs, bf16, threads);
  op.biases = list<const float*>(layers.biases);
  op.target = at<const float*>(targets);
  op.low = at<const float*>(min_logvar);
  op.high = at<const float*>(max_logvar);
  op.size = layers.sizes.back() / 2;
  op.bound_pull = bound_pull;
  op.adam = step.op;
  op.loss = at<float*>(loss);
  rmbpo::level().nominal_step(op);
}

void adversary_draw(long count, long size, long obs_stride, Address head_p, Address head_g,
                    Address min_logvar, Address max_logvar, Address mask, Address eps, Address obs,
                    Address obs_low, Address obs_high, Address mean_p, Address logvar_p,
                    Address mean_g, Address logvar_g, Address sample, Address next_obs,
                    int threads) {
  rmbpo::AdversaryDraw op{};
  op.count = count;
  op.size = size;
  op.obs_stride = obs_stride;
  op.head_p = at<const float*>(head_p);
  op.head_g = at<const float*>(head_g);
  op.low = at<const float*>(min_logvar);
  op.high = at<const float*>(max_logvar);
  op.mask = at<const float*>(mask);
  op.eps = at<const float*>(eps);
  op.obs = at<const float*>(obs);
  op.obs_low = at<const float*>(obs_low);
  op.obs_high = at<const float*>(obs_high);
  op.mean_p = at<float*>(mean_p);
  op.logvar_p = at<float*>(logvar_p);
  op.mean_g = at<float*>(mean_g);
  op.logvar_g = at<float*>(logvar_g);
  op.sample = at<float*>(sample);
  op.next_obs = at<float*>(next_obs);
  op.threads = threads;
  rmbpo::level().adversary_draw(op);
}

void adversary_step(long members, long rows, Address inputs, const Network& layers,
                    const Addresses& outputs, const Addresses& slopes, Address mean_p,
                    Address logvar_p, Address mean_g, Address logvar_g, Address sample,
                    Address advantage, Address mask, Address eta, const Optimizer& adam,
                    Address loss, bool bf16, int threads) {
  const AdamStep step(adam, threads);
  rmbpo::AdversaryStep op{};
  op.net = dynamics(layers, members, rows, inputs, bf16, threads);
  op.outputs = list<const float*>(outputs);
  op.slopes = list<const float*>(slopes);
  op.mean_p = at<const float*>(mean_p);
  op.logvar_p = at<const float*>(logvar_p);
  op.mean_g = at<const float*>(mean_g);
  op.logvar_g = at<const float*>(logvar_g);
  op.sample = at<const float*>(sample);
  op.advantage = at<const float*>(advantage);
  op.mask = at<const float*>(mask);
  op.eta = at<const float*>(eta);
  op.size = layers.sizes.back() / 2;
  op.adam = step.op;
  op.loss = at<float*>(loss);
  rmbpo::level().adversary_step(op);
}

void sac_step(long rows, long obs_size, long action_size, long stride, Address obs, Address action,
              Address reward, Address next_obs, Address terminated, Address critic_noise,
              Address actor_noise, Address entropy_obs, Address entropy_noise, float log_std_min,
              float log_std_max, float gamma, float tau, float target_entropy, const Network& actor,
              const Network& critic, const Network& target, Address log_temperature,
              const Optimizer& actor_adam, const Optimizer& critic_adam,
              const Optimizer& temperature_adam, Address metrics, bool bf16, int threads) {
  const AdamStep of_actor(actor_adam, threads), of_critic(critic_adam, threads),
      of_temperature(temperature_adam, threads);
  rmbpo::SacStep op{};
  op.rows = rows;
  op.obs_size = obs_size;
  op.action_size = action_size;
  op.stride = stride;
  op.obs = at<const float*>(obs);
  op.action = at<const float*>(action);
  op.reward = at<const float*>(reward);
  op.next_obs = at<const float*>(next_obs);
  op.terminated = at<const float*>(terminated);
  op.critic_noise = at<const float*>(critic_noise);
  op.actor_noise = at<const float*>(actor_noise);
  op.entropy_obs = at<const float*>(entropy_obs);
  op.entropy_noise = at<const float*>(entropy_noise);
  op.log_std_min = log_std_min;
  op.log_std_max = log_std_max;
  op.gamma = gamma;
  op.tau = tau;
  op.target_entropy = target_entropy;
  op.actor = sac_network(actor);
  op.critic = sac_network(critic);
  op.target = sac_network(target);
  op.log_temperature = at<float*>(log_temperature);
  op.actor_adam = of_actor.op;
  op.critic_adam = of_critic.op;
  op.temperature_adam = of_temperature.op;
  op.metrics = at<float*>(metrics);
  op.bf16 = bf16;
  op.threads = threads;
  rmbpo::level().sac_step(op);
}

}  // namespace

void bind_steps(nb::module_& m) {
  using namespace nb::literals;
  nb::class_<Network>(m, "Network")
      .def(
          "__init__",
          [](Network* self, std::vector<long> sizes, Addresses weights, Addresses biases) {
            new (self) Network{std::move(sizes), std::move(weights), std::move(biases)};
          },
          nb::kw_only(), "sizes"_a, "weights"_a, "biases"_a);
  nb::class_<Optimizer>(m, "Optimizer")
      .def(
          "__init__",
          [](Optimizer* self, std::vector<long> sizes, Addresses params, Addresses exp_avgs,
             Addresses exp_avg_sqs, Addresses steps, std::vector<double> weight_decays, double lr,
             double beta1, double beta2, double eps) {
            new (self) Optimizer{std::move(sizes),       std::move(params), std::move(exp_avgs),
                                 std::move(exp_avg_sqs), std::move(steps),  std::move(weight_decays),
                                 lr,                     beta1,             beta2,
                                 eps};
          },
          nb::kw_only(), "sizes"_a, "params"_a, "exp_avgs"_a, "exp_avg_sqs"_a, "steps"_a,
          "weight_decays"_a, "lr"_a, "beta1"_a, "beta2"_a, "eps"_a);
  RMBPO_BIND(m, adam, "adam"_a, "gradients"_a, "threads"_a);
  RMBPO_BIND(m, nominal_step, "members"_a, "rows"_a, "inputs"_a, "targets"_a, "layers"_a,
             "min_logvar"_a, "max_logvar"_a, "bound_pull"_a, "adam"_a, "loss"_a, "bf16"_a,
             "threads"_a);
  // without eps only mean_g and logvar_g are written
  RMBPO_BIND(m, adversary_draw, "count"_a, "size"_a, "obs_stride"_a = 0, "head_p"_a, "head_g"_a,
             "min_logvar"_a, "max_logvar"_a, "mask"_a, "eps"_a = 0, "obs"_a = 0, "obs_low"_a = 0,
             "obs_high"_a = 0, "mean_p"_a = 0, "logvar_p"_a = 0, "mean_g"_a, "logvar_g"_a,
             "sample"_a = 0, "next_obs"_a = 0, "threads"_a);
  RMBPO_BIND(m, adversary_step, "members"_a, "rows"_a, "inputs"_a, "layers"_a, "outputs"_a,
             "slopes"_a, "mean_p"_a, "logvar_p"_a, "mean_g"_a, "logvar_g"_a, "sample"_a,
             "advantage"_a, "mask"_a, "eta"_a, "adam"_a, "loss"_a, "bf16"_a, "threads"_a);
  RMBPO_BIND(m, sac_step, "rows"_a, "obs_size"_a, "action_size"_a, "stride"_a, "obs"_a, "action"_a,
             "reward"_a, "next_obs"_a, "terminated"_a, "critic_noise"_a, "actor_noise"_a,
             "entropy_obs"_a, "entropy_noise"_a, "log_std_min"_a, "log_std_max"_a, "gamma"_a,
             "tau"_a, "target_entropy"_a, "actor"_a, "critic"_a, "target"_a, "log_temperature"_a,
             "actor_adam"_a, "critic_adam"_a, "temperature_adam"_a, "metrics"_a, "bf16"_a,
             "threads"_a);
}

}  // namespace bindings
