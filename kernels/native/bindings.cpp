// The native module: the operations by address. Whole gradient steps are in bindings_steps.cpp.
//
// One build runs on every x86-64 (or other) machine: each operation is compiled once per
// instruction set (levels.h), and the widest that the processor has runs. Tensors come as addresses
// and sizes, so nothing depends on torch's C++ ABI; op.py checks them.
#include <nanobind/stl/string.h>

#include <string>

#include "arguments.h"

#if defined(__GLIBC__)
#include <malloc.h>
#endif

namespace bindings {

void bind_steps(nb::module_& m);  // bindings_steps.cpp

namespace {

void ensemble_mlp_fwd(long ensemble, long rows, const std::vector<long>& sizes, Address x,
                      long stride_xe, long stride_xm, const Addresses& weights,
                      const Addresses& biases, Address members, long num_networks,
                      const Addresses& outputs, const Addresses& slopes, bool swish, bool bf16,
                      bool save, int threads) {
  rmbpo::MlpForward op{};
  op.net = networks(ensemble, rows, sizes, x, stride_xe, stride_xm, weights, swish, bf16, threads);
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
  op.net = networks(ensemble, rows, sizes, x, stride_xe, stride_xm, weights, swish, bf16, threads);
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

void gaussian_nll(long ensemble, long rows, long size, Address head, Address target,
                  Address min_logvar, Address max_logvar, Address loss, Address d_head,
                  Address d_min, Address d_max, int threads) {
  rmbpo::GaussianNll op{};
  op.ensemble = ensemble;
  op.rows = rows;
  op.size = size;
  op.head = at<const float*>(head);
  op.target = at<const float*>(target);
  op.low = at<const float*>(min_logvar);
  op.high = at<const float*>(max_logvar);
  op.loss = at<float*>(loss);
  op.d_head = at<float*>(d_head);
  op.d_low = at<float*>(d_min);
  op.d_high = at<float*>(d_max);
  op.threads = threads;
  rmbpo::level().gaussian_nll(op);
}

void gaussian_kl_score(long ensemble, long rows, long size, Address mean_g, Address logvar_g,
                       Address mean_p, Address logvar_p, Address sample, Address advantage,
                       Address eta, Address loss, Address d_mean, Address d_logvar, int threads) {
  rmbpo::GaussianKlScore op{};
  op.ensemble = ensemble;
  op.rows = rows;
  op.size = size;
  op.mean_g = at<const float*>(mean_g);
  op.logvar_g = at<const float*>(logvar_g);
  op.mean_p = at<const float*>(mean_p);
  op.logvar_p = at<const float*>(logvar_p);
  op.sample = at<const float*>(sample);
  op.advantage = at<const float*>(advantage);
  op.eta = at<const float*>(eta);
  op.loss = at<float*>(loss);
  op.d_mean = at<float*>(d_mean);
  op.d_logvar = at<float*>(d_logvar);
  op.threads = threads;
  rmbpo::level().gaussian_kl_score(op);
}

void sample_transition(long count, long obs_size, long action_size, Address obs, Address action,
                       Address mean, Address logvar, Address noise, Address obs_low,
                       Address obs_high, Address rows, Address finite, int threads) {
  rmbpo::SampleTransition op{};
  op.count = count;
  op.obs_size = obs_size;
  op.action_size = action_size;
  op.obs = at<const float*>(obs);
  op.action = at<const float*>(action);
  op.mean = at<const float*>(mean);
  op.logvar = at<const float*>(logvar);
  op.noise = at<const float*>(noise);
  op.low = at<const float*>(obs_low);
  op.high = at<const float*>(obs_high);
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
}  // namespace bindings

NB_MODULE(_rmbpo_fast_native, m) {
  using namespace bindings;
  using namespace nb::literals;
  m.attr("__version__") = RMBPO_FAST_VERSION;
  m.def("cpu_isa", &rmbpo::cpu_isa, "Widest usable instruction set, one of `levels()`.");
  m.def("levels", &level_names, "Instruction sets that the operations can run with, widest first.");
  m.def("level", [] { return rmbpo::level().name; }, "The instruction set that they do run with.");
  m.def("use_level", &rmbpo::use_level,
        "Makes them run with another one of `levels()`; for tests.");
  m.def("keep_freed_memory", &keep_freed_memory,
        "Keeps up to so many bytes of freed memory; False where the C library can't.");
  RMBPO_BIND(m, ensemble_mlp_fwd, "ensemble"_a, "rows"_a, "sizes"_a, "x"_a, "stride_xe"_a,
             "stride_xm"_a, "weights"_a, "biases"_a, "members"_a, "num_networks"_a, "outputs"_a,
             "slopes"_a, "swish"_a, "bf16"_a, "save"_a, "threads"_a);
  RMBPO_BIND(m, ensemble_mlp_bwd, "ensemble"_a, "rows"_a, "sizes"_a, "d_out"_a, "x"_a,
             "stride_xe"_a, "stride_xm"_a, "weights"_a, "outputs"_a, "slopes"_a, "dz"_a, "d_x"_a,
             "d_weights"_a, "d_biases"_a, "swish"_a, "bf16"_a, "threads"_a);
  RMBPO_BIND(m, gaussian_nll, "ensemble"_a, "rows"_a, "size"_a, "head"_a, "target"_a,
             "min_logvar"_a, "max_logvar"_a, "loss"_a, "d_head"_a, "d_min"_a, "d_max"_a,
             "threads"_a);
  RMBPO_BIND(m, gaussian_kl_score, "ensemble"_a, "rows"_a, "size"_a, "mean_g"_a, "logvar_g"_a,
             "mean_p"_a, "logvar_p"_a, "sample"_a, "advantage"_a, "eta"_a, "loss"_a, "d_mean"_a,
             "d_logvar"_a, "threads"_a);
  RMBPO_BIND(m, sample_transition, "count"_a, "obs_size"_a, "action_size"_a, "obs"_a, "action"_a,
             "mean"_a, "logvar"_a, "noise"_a, "obs_low"_a, "obs_high"_a, "rows"_a, "finite"_a,
             "threads"_a);
  RMBPO_BIND(m, squashed_gaussian_fwd, "rows"_a, "size"_a, "log_std_min"_a, "log_std_max"_a,
             "head"_a, "noise"_a, "action"_a, "log_prob"_a, "threads"_a);
  RMBPO_BIND(m, squashed_gaussian_bwd, "rows"_a, "size"_a, "log_std_min"_a, "log_std_max"_a,
             "head"_a, "noise"_a, "d_action"_a, "d_log_prob"_a, "d_head"_a, "threads"_a);
  bind_steps(m);
}
