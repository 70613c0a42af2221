// The native module: which instruction set runs, PyTorch's threads, and the operations by address.
//
// One build runs on every x86-64 (or other) machine: each operation is compiled once per
// instruction set, and the widest that the processor has is chosen when the module is imported.
// Tensors come as addresses and sizes, so nothing depends on torch's C++ ABI; op.py checks them.
#include <dlfcn.h>
#include <nanobind/nanobind.h>
#include <nanobind/stl/string.h>
#include <nanobind/stl/vector.h>

#include <cmath>
#include <cstdint>
#include <cstdlib>
#include <memory>
#include <new>
#include <stdexcept>
#include <string>
#include <vector>

#if defined(__x86_64__)
#include <cpuid.h>
#include <immintrin.h>
#include <sys/syscall.h>
#include <unistd.h>
#endif

#include "native_ops.h"

namespace nb = nanobind;

namespace {

// The widest instruction set that both the processor and the operating system allow.
const char* cpu_isa() {
#if defined(__x86_64__)
  __builtin_cpu_init();
  // GCC 12 knows no name for AMX: CPUID leaf 7, sub-leaf 0, EDX bit 22 is AMX-BF16, bit 24 AMX-TILE.
  unsigned eax = 0, ebx = 0, ecx = 0, edx = 0;
  if (__get_cpuid_count(7, 0, &eax, &ebx, &ecx, &edx)) {
    constexpr unsigned amx_bf16 = 1u << 22, amx_tile = 1u << 24;
    constexpr long arch_get_xcomp_supp = 0x1021;  // Linux >= 5.16
    unsigned long allowed = 0;
    const bool asked = syscall(SYS_arch_prctl, arch_get_xcomp_supp, &allowed) == 0;
    constexpr unsigned long tile_data = 1ul << 18;
    if ((edx & amx_bf16) && (edx & amx_tile) && asked && (allowed & tile_data)) return "amx-bf16";
  }
  if (__builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512vl")) return "avx512";
  if (__builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma")) return "avx2";
#endif
  return "generic";
}

// The operations for one instruction set. A new one (AMX) is another `Level` in `usable_levels`,
// whose entries may be another level's.
struct Level {
  const char* name;
  void (*adam)(const rmbpo::Adam&);
  void (*ensemble_mlp_fwd)(const rmbpo::MlpForward&);
  void (*ensemble_mlp_bwd)(const rmbpo::MlpBackward&);
  void (*gaussian_nll)(const rmbpo::GaussianNll&);
  void (*gaussian_kl_score)(const rmbpo::GaussianKlScore&);
  void (*sac_actor_gradients)(const rmbpo::SacActor&);
  void (*sac_critic_gradients)(const rmbpo::SacCritic&);
  void (*sample_transition)(const rmbpo::SampleTransition&);
  void (*squashed_gaussian_fwd)(const rmbpo::SquashedGaussian&);
  void (*squashed_gaussian_bwd)(const rmbpo::SquashedGaussian&);
};

#define RMBPO_LEVEL(isa)                                                                         \
  Level {                                                                                        \
    #isa, rmbpo::isa::adam, rmbpo::isa::ensemble_mlp_fwd, rmbpo::isa::ensemble_mlp_bwd,          \
        rmbpo::isa::gaussian_nll, rmbpo::isa::gaussian_kl_score,                                 \
        rmbpo::isa::sac_actor_gradients, rmbpo::isa::sac_critic_gradients,                       \
        rmbpo::isa::sample_transition,                                                           \
        rmbpo::isa::squashed_gaussian_fwd, rmbpo::isa::squashed_gaussian_bwd                     \
  }

// Those that this processor can run, widest first.
std::vector<Level> usable_levels() {
  std::vector<Level> levels;
#if defined(__x86_64__)
  const std::string widest = cpu_isa();
  if (widest == "avx512" || widest == "amx-bf16") levels.push_back(RMBPO_LEVEL(avx512));
  if (widest != "generic") levels.push_back(RMBPO_LEVEL(avx2));
#endif
  levels.push_back(RMBPO_LEVEL(generic));
  return levels;
}

const std::vector<Level> levels = usable_levels();
const Level* level = &levels.front();

std::vector<std::string> level_names() {
  std::vector<std::string> names;
  for (const Level& one : levels) names.push_back(one.name);
  return names;
}

void use_level(const std::string& name) {
  for (const Level& one : levels)
    if (name == one.name) {
      level = &one;
      return;
    }
  std::string usable;
  for (const Level& one : levels) usable += std::string(usable.empty() ? "" : ", ") + one.name;
  throw nb::value_error(("level: expected one of " + usable + ", found " + name).c_str());
}

// PyTorch's own OpenMP runtime, found among the libraries that it loaded: a second pool on the same
// cores would fight with it. GOMP_parallel is what GCC compiles `#pragma omp parallel` to; other
// runtimes (LLVM's) have it too.
struct OpenMP {
  void (*parallel)(void (*)(void*), void*, unsigned, unsigned);
  int (*thread_num)();
  int (*num_threads)();
};

OpenMP find_openmp() {
  OpenMP found{};
  found.parallel = reinterpret_cast<decltype(found.parallel)>(dlsym(RTLD_DEFAULT, "GOMP_parallel"));
  found.thread_num =
      reinterpret_cast<decltype(found.thread_num)>(dlsym(RTLD_DEFAULT, "omp_get_thread_num"));
  found.num_threads =
      reinterpret_cast<decltype(found.num_threads)>(dlsym(RTLD_DEFAULT, "omp_get_num_threads"));
  if (!found.parallel || !found.thread_num || !found.num_threads)
    throw std::runtime_error("found no OpenMP runtime (GOMP_parallel): import torch first");
  return found;
}

// Takes numbers below 1e-38 as zero while it lives: each one costs a processor 100 cycles and more,
// and the means of a dead unit's gradients end there (0.9 times the smallest is the smallest).
class NoDenormals {
#if defined(__x86_64__)
 public:
  NoDenormals() : before_(_mm_getcsr()) {
    constexpr unsigned flush_to_zero = 1u << 15, denormals_are_zeros = 1u << 6;
    _mm_setcsr(before_ | flush_to_zero | denormals_are_zeros);
  }
  ~NoDenormals() { _mm_setcsr(before_); }

 private:
  unsigned before_;
#endif
};

struct Region {
  void (*task)(void*, int, int);
  void* context;
  const OpenMP* openmp;

  void run(int thread, int threads) const {
    const NoDenormals no_denormals;
    task(context, thread, threads);
  }
};

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
                         int threads) {
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
  net.threads = threads;
  return net;
}

void ensemble_mlp_fwd(long ensemble, long rows, const std::vector<long>& sizes, Address x,
                      long stride_xe, long stride_xm, const Addresses& weights,
                      const Addresses& biases, Address members, long num_networks,
                      const Addresses& outputs, const Addresses& slopes, bool swish, bool save,
                      int threads) {
  rmbpo::MlpForward op{};
  op.net =
      networks(ensemble, rows, sizes, x, stride_xe, stride_xm, weights, swish, threads);
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
  level->ensemble_mlp_fwd(op);
}

void ensemble_mlp_bwd(long ensemble, long rows, const std::vector<long>& sizes, Address d_out,
                      Address x, long stride_xe, long stride_xm, const Addresses& weights,
                      const Addresses& outputs, const Addresses& slopes, const Addresses& dz,
                      Address d_x, const Addresses& d_weights, const Addresses& d_biases,
                      bool swish, int threads) {
  rmbpo::MlpBackward op{};
  op.net =
      networks(ensemble, rows, sizes, x, stride_xe, stride_xm, weights, swish, threads);
  op.d_out = at<const float*>(d_out);
  op.outputs = list<const float*>(outputs);
  op.slopes = list<const float*>(slopes);
  op.need_weights = !d_weights.empty();
  op.dz = op.need_weights ? list<float*>(dz) : nullptr;
  op.d_x = at<float*>(d_x);
  op.d_weights = list<float*>(d_weights);
  op.d_biases = list<float*>(d_biases);
  level->ensemble_mlp_bwd(op);
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
  level->gaussian_nll(op);
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
  level->gaussian_kl_score(op);
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
  level->sample_transition(op);
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
  level->squashed_gaussian_fwd(op);
}

void squashed_gaussian_bwd(long rows, long size, float log_std_min, float log_std_max, Address head,
                           Address noise, Address d_action, Address d_log_prob, Address d_head,
                           int threads) {
  auto op = squashed(rows, size, log_std_min, log_std_max, head, noise, threads);
  op.d_action = at<const float*>(d_action);
  op.d_log_prob = at<const float*>(d_log_prob);
  op.d_head = at<float*>(d_head);
  level->squashed_gaussian_bwd(op);
}

void adam(const std::vector<long>& sizes, const Addresses& parameters, const Addresses& gradients,
          const Addresses& firsts, const Addresses& seconds, const Addresses& steps,
          const std::vector<double>& weight_decays, double lr, double beta1, double beta2,
          double eps, int threads) {
  std::vector<rmbpo::AdamParameter> all(sizes.size());
  for (std::size_t p = 0; p < all.size(); ++p) {
    float& step = *at<float*>(steps.at(p));
    step += 1.0f;
    rmbpo::AdamParameter& one = all[p];
    one.size = sizes[p];
    one.parameter = at<float*>(parameters.at(p));
    one.gradient = at<const float*>(gradients.at(p));
    one.first = at<float*>(firsts.at(p));
    one.second = at<float*>(seconds.at(p));
    one.step_size = (float)(lr / (1.0 - std::pow(beta1, step)));
    one.root_correction2 = (float)(1.0 / std::sqrt(1.0 - std::pow(beta2, step)));
    one.weight_decay = (float)weight_decays.at(p);
  }
  rmbpo::Adam op{};
  op.count = (long)all.size();
  op.parameters = all.data();
  op.new1 = (float)(1.0 - beta1);
  op.beta2 = (float)beta2;
  op.new2 = (float)(1.0 - beta2);
  op.eps = (float)eps;
  op.threads = threads;
  level->adam(op);
}

rmbpo::SacNetwork sac_network(const std::vector<long>& sizes, const Addresses& weights,
                              const Addresses& biases) {
  return {(long)sizes.size() - 1, sizes.data(), list<const float*>(weights),
          list<const float*>(biases)};
}

// shape: rows, obs_size, action_size, stride; numbers: temperature, log_std_min, log_std_max
rmbpo::SacBatch sac_batch(const std::vector<long>& shape, const std::vector<float>& numbers,
                          Address obs, Address noise, Address workspace, int threads) {
  rmbpo::SacBatch batch{};
  batch.rows = shape.at(0);
  batch.obs_size = shape.at(1);
  batch.action_size = shape.at(2);
  batch.stride = shape.at(3);
  batch.obs = at<const float*>(obs);
  batch.noise = at<const float*>(noise);
  batch.temperature = numbers.at(0);
  batch.log_std_min = numbers.at(1);
  batch.log_std_max = numbers.at(2);
  batch.workspace = at<float*>(workspace);
  batch.threads = threads;
  return batch;
}

// columns: obs, action, reward, next_obs, terminated, noise
void sac_critic_gradients(const std::vector<long>& shape, const std::vector<float>& numbers,
                          float gamma, const Addresses& columns,
                          const std::vector<long>& actor_sizes, const Addresses& actor_weights,
                          const Addresses& actor_biases, const std::vector<long>& critic_sizes,
                          const Addresses& critic_weights, const Addresses& critic_biases,
                          const Addresses& target_weights, const Addresses& target_biases,
                          Address workspace, Address loss, Address q_mean,
                          const Addresses& d_weights, const Addresses& d_biases, int threads) {
  rmbpo::SacCritic op{};
  op.batch = sac_batch(shape, numbers, columns.at(0), columns.at(5), workspace, threads);
  op.actor = sac_network(actor_sizes, actor_weights, actor_biases);
  op.critic = sac_network(critic_sizes, critic_weights, critic_biases);
  op.target = sac_network(critic_sizes, target_weights, target_biases);
  op.action = at<const float*>(columns.at(1));
  op.reward = at<const float*>(columns.at(2));
  op.next_obs = at<const float*>(columns.at(3));
  op.terminated = at<const float*>(columns.at(4));
  op.gamma = gamma;
  op.loss = at<float*>(loss);
  op.q_mean = at<float*>(q_mean);
  op.d_weights = list<float*>(d_weights);
  op.d_biases = list<float*>(d_biases);
  level->sac_critic_gradients(op);
}

// columns: obs, noise
void sac_actor_gradients(const std::vector<long>& shape, const std::vector<float>& numbers,
                         const Addresses& columns, const std::vector<long>& actor_sizes,
                         const Addresses& actor_weights, const Addresses& actor_biases,
                         const std::vector<long>& critic_sizes, const Addresses& critic_weights,
                         const Addresses& critic_biases, Address workspace, Address loss,
                         Address log_prob, const Addresses& d_weights, const Addresses& d_biases,
                         int threads) {
  rmbpo::SacActor op{};
  op.batch = sac_batch(shape, numbers, columns.at(0), columns.at(1), workspace, threads);
  op.actor = sac_network(actor_sizes, actor_weights, actor_biases);
  op.critic = sac_network(critic_sizes, critic_weights, critic_biases);
  op.loss = at<float*>(loss);
  op.log_prob = at<float*>(log_prob);
  op.d_weights = list<float*>(d_weights);
  op.d_biases = list<float*>(d_biases);
  level->sac_actor_gradients(op);
}

}  // namespace

namespace rmbpo {

void run_parallel(int threads, void (*task)(void*, int, int), void* context) {
  Region region{task, context, nullptr};
  if (threads <= 1) return region.run(0, 1);
  static const OpenMP openmp = find_openmp();
  region.openmp = &openmp;
  openmp.parallel(
      [](void* data) {
        const Region& region = *static_cast<const Region*>(data);
        region.run(region.openmp->thread_num(), region.openmp->num_threads());
      },
      &region, (unsigned)threads, 0);
}

float* scratch(long floats) {
  struct Free {
    void operator()(void* memory) const { std::free(memory); }
  };
  thread_local std::unique_ptr<float, Free> memory;
  thread_local long held = 0;
  if (floats > held) {
    const std::size_t bytes = ((std::size_t)floats * sizeof(float) + 63) / 64 * 64;
    held = 0;
    memory.reset(static_cast<float*>(std::aligned_alloc(64, bytes)));
    if (!memory) throw std::bad_alloc();
    held = floats;
  }
  return memory.get();
}

}  // namespace rmbpo

NB_MODULE(_rmbpo_fast_native, m) {
  m.attr("__version__") = RMBPO_FAST_VERSION;
  m.def("cpu_isa", &cpu_isa, "Widest usable instruction set: amx-bf16, avx512, avx2 or generic.");
  m.def("levels", &level_names, "Instruction sets that the operations can run with, widest first.");
  m.def("level", [] { return level->name; }, "The instruction set that they do run with.");
  m.def("use_level", &use_level, "Makes them run with another one of `levels()`; for tests.");
  const nb::call_guard<nb::gil_scoped_release> unlocked;
  m.def("adam", &adam, unlocked);
  m.def("ensemble_mlp_fwd", &ensemble_mlp_fwd, unlocked);
  m.def("ensemble_mlp_bwd", &ensemble_mlp_bwd, unlocked);
  m.def("gaussian_nll", &gaussian_nll, unlocked);
  m.def("gaussian_kl_score", &gaussian_kl_score, unlocked);
  m.def("sac_actor_gradients", &sac_actor_gradients, unlocked);
  m.def("sac_critic_gradients", &sac_critic_gradients, unlocked);
  m.def("sample_transition", &sample_transition, unlocked);
  m.def("squashed_gaussian_fwd", &squashed_gaussian_fwd, unlocked);
  m.def("squashed_gaussian_bwd", &squashed_gaussian_bwd, unlocked);
}
