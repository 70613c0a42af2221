// The operations of the native library, as the module calls them for one instruction set.
//
// Tensors are contiguous float32 unless a stride is given.
#pragma once

namespace rmbpo {

// Runs task(context, share, threads) of each share once, on up to `threads` threads, this one included.
void run_parallel(int threads, void (*task)(void*, int, int), void* context);

// Memory of this thread: at least `floats` floats, aligned to 64 bytes. It stays valid until the
// thread asks for the same slot again. Throws std::bad_alloc, and std::length_error where there is
// no such slot.
constexpr int SCRATCH_SLOTS = 128;
float* scratch(long floats, int slot = 0);

// E stacked networks; layer l has sizes[l] inputs and sizes[l + 1] outputs.
struct Networks {
  long ensemble, rows, layers;
  const long* sizes;
  const float* x;  // [E, rows, sizes[0]]
  long stride_xe, stride_xm;
  const float* const* weights;  // per layer [networks, inputs, outputs]
  const long* members;          // [E], or null: all
  bool swish;                   // else relu
  bool bf16;                    // products of bf16 numbers (ensemble_mlp/formats.h)
  int threads;
};

struct MlpForward {
  Networks net;
  const float* const* biases;  // per layer [networks, 1, outputs]
  float* const* outputs;       // per layer [E, rows, outputs]; the last one only without `save`
  float* const* slopes;        // per hidden layer, with `save` and swish: d output / d its input
  // Hidden ones are rows of ceil(outputs / 2) places with `bf16`, two numbers in each; where tiles
  // multiply, of a multiple of 16 places.
  bool save;
};

struct MlpBackward {
  Networks net;
  const float* d_out;
  const float* const* outputs;
  const float* const* slopes;
  float* const* dz;  // per hidden layer, as `outputs`; null without need_weights
  float* d_x;        // null: not needed
  float* const* d_weights;
  float* const* d_biases;
  bool need_weights;
};

struct GaussianNll {
  long ensemble, rows, size;
  const float *head, *target, *low, *high;
  float *loss, *d_head, *d_low, *d_high;
  int threads;
};

struct GaussianKlScore {
  long ensemble, rows, size;
  const float *mean_g, *logvar_g, *mean_p, *logvar_p, *sample, *advantage, *eta;
  float *loss, *d_mean, *d_logvar;
  int threads;
};

struct SquashedGaussian {
  long rows, size;
  float log_std_min, log_std_max;
  const float *head, *noise, *d_action, *d_log_prob;
  float *action, *log_prob, *d_head;
  int threads;
};

struct SampleTransition {
  long count, obs_size, action_size;
  const float *obs, *action, *mean, *logvar, *noise, *low, *high;
  float* rows;
  bool* finite;
  int threads;
};

struct AdamParameter {
  long size;
  float *parameter, *first, *second;  // first, second: running means of gradient and its square
  const float* gradient;
  float step_size, root_correction2, weight_decay;  // lr / (1 - beta1^t), 1 / sqrt(1 - beta2^t)
};

struct Adam {
  long count;
  const AdamParameter* parameters;
  float new1, beta2, new2, eps;  // new1, new2: 1 - beta, which loses digits in float32
  int threads;
};

// A network of relus, or twins, by addresses as in `Networks`.
struct SacNetwork {
  long layers;
  const long* sizes;
  const float* const* weights;
  const float* const* biases;
};

// One gradient step of the dynamics ensemble: `MlpForward`, `GaussianNll`, `MlpBackward`, `Adam`.
struct NominalStep {
  Networks net;  // all members, the same x and weights as in `adam`
  const float* const* biases;
  const float* target;  // [E, rows, size]
  const float *low, *high;
  long size;
  float bound_pull;  // weight of sum(high) - sum(low) in the loss
  Adam adam;         // per layer its weights, per layer its biases, high, low; no gradients
  float* loss;
};

// g around p in the residual parametrisation. With eps also a draw of g, and the states that the
// draw and g's mean lead to; without eps only mean_g and logvar_g are written.
struct AdversaryDraw {
  long count, size, obs_stride;  // count: E * rows; size: D = S + 1
  const float *head_p, *head_g;  // [count, 2 D]
  const float *low, *high;       // [D]
  const float* mask;             // [D], 1 where g may differ from p, else 0
  const float* eps;              // [count, D]
  const float *obs, *obs_low, *obs_high;
  float *mean_p, *logvar_p, *mean_g, *logvar_g, *sample;  // [count, D]
  float* next_obs;                                        // [2, count, S], of the draw and the mean
  int threads;
};

// The adversary's loss at such a draw and its advantage, the gradient to g's networks, and the step
// of their optimiser.
struct AdversaryStep {
  Networks net;  // all members; x as in the forward that `outputs` and `slopes` are from
  const float* const* outputs;
  const float* const* slopes;
  const float *mean_p, *logvar_p, *mean_g, *logvar_g, *sample;  // [count, D]
  const float *advantage, *mask, *eta;                          // [count], [D], []
  long size;
  Adam adam;  // per layer its weights, then per layer its biases; no gradients
  float* loss;
};

// SAC's update. obs, action, reward and the like are columns of packed rows.
struct SacStep {
  long rows, obs_size, action_size, stride;  // stride: between rows
  const float *obs, *action, *reward, *next_obs, *terminated, *critic_noise, *actor_noise;
  const float *entropy_obs, *entropy_noise;  // contiguous; null: the temperature's entropy at obs
  SacNetwork actor, critic, target;
  float log_std_min, log_std_max, gamma, tau, target_entropy;
  float* log_temperature;
  // per layer its weights, then per layer its biases; of the temperature, itself; no gradients
  Adam actor_adam, critic_adam, temperature_adam;
  float* metrics;  // [5]: critic's loss, actor's loss, mean Q, entropy, new log-temperature
  bool bf16;
  int threads;
};

// X(name, argument) of every operation.
#define RMBPO_OPERATIONS(X)                  \
  X(adam, Adam)                              \
  X(adversary_draw, AdversaryDraw)           \
  X(adversary_step, AdversaryStep)           \
  X(ensemble_mlp_fwd, MlpForward)            \
  X(ensemble_mlp_bwd, MlpBackward)           \
  X(gaussian_nll, GaussianNll)               \
  X(gaussian_kl_score, GaussianKlScore)      \
  X(nominal_step, NominalStep)               \
  X(sac_step, SacStep)                       \
  X(sample_transition, SampleTransition)     \
  X(squashed_gaussian_fwd, SquashedGaussian) \
  X(squashed_gaussian_bwd, SquashedGaussian)

#define RMBPO_DECLARE(name, Argument) void name(const Argument&);
#define RMBPO_LEVEL(isa) \
  namespace isa {        \
  RMBPO_OPERATIONS(RMBPO_DECLARE) }
RMBPO_LEVEL(generic)
RMBPO_LEVEL(avx2)
RMBPO_LEVEL(avx512)
RMBPO_LEVEL(avx512bf16)
RMBPO_LEVEL(amx)
RMBPO_LEVEL(amx_emulated)
#undef RMBPO_LEVEL
#undef RMBPO_DECLARE

}  // namespace rmbpo
