// The native module: the operations by address. Whole gradient steps are in native_steps.cpp.
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

void bind_steps(nb::module_& m);  // native_steps.cpp

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
  m.attr("__version__") = RMBPO_FAST_VERSION;
  m.def("cpu_isa", &rmbpo::cpu_isa, "Widest usable instruction set, one of `levels()`.");
  m.def("levels", &level_names, "Instruction sets that the operations can run with, widest first.");
  m.def("level", [] { return rmbpo::level().name; }, "The instruction set that they do run with.");
  m.def("use_level", &rmbpo::use_level,
        "Makes them run with another one of `levels()`; for tests.");
  m.def("keep_freed_memory", &keep_freed_memory,
        "Keeps up to so many bytes of freed memory; False where the C library can't.");
  const nb::call_guard<nb::gil_scoped_release> unlocked;
  m.def("ensemble_mlp_fwd", &ensemble_mlp_fwd, unlocked);
  m.def("ensemble_mlp_bwd", &ensemble_mlp_bwd, unlocked);
  m.def("gaussian_nll", &gaussian_nll, unlocked);
  m.def("gaussian_kl_score", &gaussian_kl_score, unlocked);
  m.def("sample_transition", &sample_transition, unlocked);
  m.def("squashed_gaussian_fwd", &squashed_gaussian_fwd, unlocked);
  m.def("squashed_gaussian_bwd", &squashed_gaussian_bwd, unlocked);
  bind_steps(m);
}
