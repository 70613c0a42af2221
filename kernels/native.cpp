// The native module: the operations by address.
//
// One build runs on every x86-64 (or other) machine: each operation is compiled once per
// instruction set (levels.h), and the widest that the processor has runs. Tensors come as addresses
// and sizes, so nothing depends on torch's C++ ABI; op.py checks them.
#include <nanobind/nanobind.h>
#include <nanobind/stl/string.h>
#include <nanobind/stl/tuple.h>
#include <nanobind/stl/vector.h>

#if defined(__GLIBC__)
#include <malloc.h>
#endif

#include <cmath>
#include <cstdint>
#include <string>
#include <tuple>
#include <vector>

#include "levels.h"

namespace nb = nanobind;

namespace {

template <typename T>
T at(std::uintptr_t address) {
  return reinterpret_cast<T>(address);
}

using Address = std::uintptr_t;
using Addresses = std::vector<Address>;

template <typename T>
T const* list(const Addresses& addresses) {  // a vector of addresses, read as one of pointers
  static_assert(sizeof(T) == sizeof(Address));
  return reinterpret_cast<T const*>(addresses.data());
}

rmbpo::Networks networks(long ensemble, long rows, const std::vector<long>& sizes, Address x,
                         long stride_xe, long stride_xm, const Addresses& weights, bool swish,
                         bool bf16, int threads) {
  rmbpo::Networks net{};
  net.ensemble = ensemble;
  net.rows = rows;
  net.layers = (long)sizes.size() - 1;
  net.sizes = sizes.data();
  net.x = at<const float*>(x);
  net.stride_xe = stride_xe;
  net.stride_xm = stride_xm;
  net.weights = list<const float*>(weights);
  net.swish = swish;
  net.bf16 = bf16;
  net.threads = threads;
  return net;
}

void ensemble_mlp_fwd(long ensemble, long rows, const std::vector<long>& sizes, Address x,
                      long stride_xe, long stride_xm, const Addresses& weights,
                      const Addresses& biases, Address members, long num_networks,
                      const Addresses& outputs, const Addresses& slopes, bool swish, bool bf16,
                      bool save, int threads) {
  rmbpo::MlpForward op{};
  op.net =
      networks(ensemble, rows, sizes, x, stride_xe, stride_xm, weights, swish, bf16, threads);
  op.net.members = at<const long*>(members);
  for (long e = 0; op.net.members && e < ensemble; ++e)
    if (op.net.members[e] < 0 || op.net.members[e] >= num_networks)
      throw nb::value_error(("members: expected 0 to " + std::to_string(num_networks - 1) +
                             ", found " + std::to_string(op.net.members[e]))
                                .c_str());
  op.biases = list<const float*>(biases);
  op.outputs = list<float*>(outputs);
  op.slopes = list<float*>(slopes);
  op.save = save;
  rmbpo::level().ensemble_mlp_fwd(op);
}

void ensemble_mlp_bwd(long ensemble, long rows, const std::vector<long>& sizes, Address d_out,
                      Address x, long stride_xe, long stride_xm, const Addresses& weights,
                      const Addresses& outputs, const Addresses& slopes, const Addresses& dz,
                      Address d_x, const Addresses& d_weights, const Addresses& d_biases,
                      bool swish, bool bf16, int threads) {
  rmbpo::MlpBackward op{};
  op.net =
      networks(ensemble, rows, sizes, x, stride_xe, stride_xm, weights, swish, bf16, threads);
  op.d_out = at<const float*>(d_out);
  op.outputs = list<const float*>(outputs);
  op.slopes = list<const float*>(slopes);
  op.need_weights = !d_weights.empty();
  op.dz = op.need_weights ? list<float*>(dz) : nullptr;
  op.d_x = at<float*>(d_x);
  op.d_weights = list<float*>(d_weights);
  op.d_biases = list<float*>(d_biases);
  rmbpo::level().ensemble_mlp_bwd(op);
}

void gaussian_nll(long ensemble, long rows, long size, Address head, Address target, Address low,
                  Address high, Address loss, Address d_head, Address d_low, Address d_high,
                  int threads) {
  rmbpo::GaussianNll op{};
  op.ensemble = ensemble;
  op.rows = rows;
  op.size = size;
  op.head = at<const float*>(head);
  op.target = at<const float*>(target);
  op.low = at<const float*>(low);
  op.high = at<const float*>(high);
  op.loss = at<float*>(loss);
  op.d_head = at<float*>(d_head);
  op.d_low = at<float*>(d_low);
  op.d_high = at<float*>(d_high);
  op.threads = threads;
  rmbpo::level().gaussian_nll(op);
}

void gaussian_kl_score(long ensemble, long rows, long size, const Addresses& inputs, Address loss,
                       Address d_mean, Address d_logvar, int threads) {
  rmbpo::GaussianKlScore op{};
  op.ensemble = ensemble;
  op.rows = rows;
  op.size = size;
  const float** const fields[] = {&op.mean_g, &op.logvar_g,  &op.mean_p, &op.logvar_p,
                                  &op.sample, &op.advantage, &op.eta};
  for (std::size_t i = 0; i < 7; ++i) *fields[i] = at<const float*>(inputs.at(i));
  op.loss = at<float*>(loss);
  op.d_mean = at<float*>(d_mean);
  op.d_logvar = at<float*>(d_logvar);
  op.threads = threads;
  rmbpo::level().gaussian_kl_score(op);
}

void sample_transition(long count, long obs_size, long action_size, const Addresses& inputs,
                       Address rows, Address finite, int threads) {
  rmbpo::SampleTransition op{};
  op.count = count;
  op.obs_size = obs_size;
  op.action_size = action_size;
  const float** const fields[] = {&op.obs,   &op.action, &op.mean, &op.logvar,
                                  &op.noise, &op.low,    &op.high};
  for (std::size_t i = 0; i < 7; ++i) *fields[i] = at<const float*>(inputs.at(i));
  op.rows = at<float*>(rows);
  op.finite = at<bool*>(finite);
  op.threads = threads;
  rmbpo::level().sample_transition(op);
}

rmbpo::SquashedGaussian squashed(long rows, long size, float log_std_min, float log_std_max,
                                 Address head, Address noise, int threads) {
  rmbpo::SquashedGaussian op{};
  op.rows = rows;
  op.size = size;
  op.log_std_min = log_std_min;
  op.log_std_max = log_std_max;
  op.head = at<const float*>(head);
  op.noise = at<const float*>(noise);
  op.threads = threads;
  return op;
}

void squashed_gaussian_fwd(long rows, long size, float log_std_min, float log_std_max, Address head,
                           Address noise, Address action, Address log_prob, int threads) {
  auto op = squashed(rows, size, log_std_min, log_std_max, head, noise, threads);
  op.action = at<float*>(action);
  op.log_prob = at<float*>(log_prob);
  rmbpo::level().squashed_gaussian_fwd(op);
}

void squashed_gaussian_bwd(long rows, long size, float log_std_min, float log_std_max, Address head,
                           Address noise, Address d_action, Address d_log_prob, Address d_head,
                           int threads) {
  auto op = squashed(rows, size, log_std_min, log_std_max, head, noise, threads);
  op.d_action = at<const float*>(d_action);
  op.d_log_prob = at<const float*>(d_log_prob);
  op.d_head = at<float*>(d_head);
  rmbpo::level().squashed_gaussian_bwd(op);
}

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

// Sizes of the layers, then addresses per layer.
using Network = std::tuple<std::vector<long>, Addresses, Addresses>;

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

// drawn: as `adversary_draw`'s results, then touch; numbers: log_std_min, log_std_max, gamma
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
                                  &op.sample, &op.next_obs, &op.touch};
  for (std::size_t i = 0; i < 7; ++i) *fields[i] = at<const float*>(drawn.at(i));
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
// critic's noise, actor's noise. numbers: log_std_min, log_std_max, gamma, tau, target_entropy
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
  const float** const fields[] = {&op.obs,        &op.action,       &op.reward,     &op.next_obs,
                                  &op.terminated, &op.critic_noise, &op.actor_noise};
  for (std::size_t i = 0; i < 7; ++i) *fields[i] = at<const float*>(columns.at(i));
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

// Freed memory of up to `bytes` stays with the process, to be used again without the page faults
// that new memory costs: half a millisecond of a gradient step that allocates 3 MB.
bool keep_freed_memory(int bytes) {
#if defined(__GLIBC__)
  constexpr int largest = 32 << 20;  // what glibc accepts for one piece
  return mallopt(M_MMAP_THRESHOLD, bytes < largest ? bytes : largest) &&
         mallopt(M_TRIM_THRESHOLD, bytes);
#else
  (void)bytes;
  return false;
#endif
}

std::vector<std::string> level_names() {
  std::vector<std::string> names;
  for (const rmbpo::Level& one : rmbpo::usable_levels()) names.push_back(one.name);
  return names;
}

}  // namespace

NB_MODULE(_rmbpo_fast_native, m) {
  m.attr("__version__") = RMBPO_FAST_VERSION;
  m.def("cpu_isa", &rmbpo::cpu_isa, "Widest usable instruction set, one of `levels()`.");
  m.def("levels", &level_names, "Instruction sets that the operations can run with, widest first.");
  m.def("level", [] { return rmbpo::level().name; }, "The instruction set that they do run with.");
  m.def("use_level", &rmbpo::use_level,
        "Makes them run with another one of `levels()`; for tests.");
  m.def("keep_freed_memory", &keep_freed_memory,
        "Keeps up to so many bytes of freed memory; False where the C library can't.");
  const nb::call_guard<nb::gil_scoped_release> unlocked;
  m.def("adam", &adam, unlocked);
  m.def("adversary_draw", &adversary_draw, unlocked);
  m.def("adversary_step", &adversary_step, unlocked);
  m.def("ensemble_mlp_fwd", &ensemble_mlp_fwd, unlocked);
  m.def("ensemble_mlp_bwd", &ensemble_mlp_bwd, unlocked);
  m.def("gaussian_nll", &gaussian_nll, unlocked);
  m.def("gaussian_kl_score", &gaussian_kl_score, unlocked);
  m.def("nominal_step", &nominal_step, unlocked);
  m.def("sac_step", &sac_step, unlocked);
  m.def("sample_transition", &sample_transition, unlocked);
  m.def("squashed_gaussian_fwd", &squashed_gaussian_fwd, unlocked);
  m.def("squashed_gaussian_bwd", &squashed_gaussian_bwd, unlocked);
}
