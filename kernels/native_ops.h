// The operations of the native library, as native.cpp calls them for one instruction set.
//
// Tensors are contiguous float32 unless a stride is given. A scratch buffer belongs to a thread and
// is valid until that thread asks for it again.
#pragma once

namespace rmbpo {

// Runs task(context, thread, threads) on up to `threads` threads of PyTorch's OpenMP pool.
void run_parallel(int threads, void (*task)(void*, int, int), void* context);

// At least `floats` floats of this thread, aligned to 64 bytes. Throws std::bad_alloc.
float* scratch(long floats);

// E stacked networks; layer l has sizes[l] inputs and sizes[l + 1] outputs.
struct Networks {
  long ensemble, rows, layers;
  const long* sizes;
  const float* x;  // [E, rows, sizes[0]]
  long stride_xe, stride_xm;
  const float* const* weights;  // per layer [networks, inputs, outputs]
  const long* members;          // [E], or null: all
  bool swish;                   // else relu
  int threads;
};

struct MlpForward {
  Networks net;
  const float* const* biases;  // per layer [networks, 1, outputs]
  float* const* outputs;       // per layer [E, rows, outputs]; the last one only without `save`
  float* const* slopes;        // per hidden layer, with `save` and swish: d output / d its input
  bool save;
};

struct MlpBackward {
  Networks net;
  const float* d_out;
  const float* const* outputs;
  const float* const* slopes;
  float* const* dz;  // per hidden layer; null without need_weights
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

// A network of relus by its addresses, as in `Networks`.
struct SacNetwork {
  long layers;
  const long* sizes;
  const float* const* weights;
  const float* const* biases;
};

// What both of SAC's losses need. obs, action, reward and the like are columns of packed rows.
struct SacBatch {
  long rows, obs_size, action_size, stride;  // stride: between rows
  const float *obs, *noise;
  float temperature, log_std_min, log_std_max;
  float* workspace;
  int threads;
};

struct SacCritic {
  SacBatch batch;
  SacNetwork actor, critic, target;
  const float *action, *reward, *next_obs, *terminated;
  float gamma;
  float *loss, *q_mean;
  float* const* d_weights;
  float* const* d_biases;
};

struct SacActor {
  SacBatch batch;
  SacNetwork actor, critic;
  float *loss, *log_prob;
  float* const* d_weights;
  float* const* d_biases;
};

#define RMBPO_DECLARE(isa)                                \
  namespace isa {                                         \
  void adam(const Adam&);                                 \
  void ensemble_mlp_fwd(const MlpForward&);               \
  void ensemble_mlp_bwd(const MlpBackward&);              \
  void gaussian_nll(const GaussianNll&);                  \
  void gaussian_kl_score(const GaussianKlScore&);         \
  void sac_actor_gradients(const SacActor&);              \
  void sac_critic_gradients(const SacCritic&);            \
  void sample_transition(const SampleTransition&);        \
  void squashed_gaussian_fwd(const SquashedGaussian&);    \
  void squashed_gaussian_bwd(const SquashedGaussian&);    \
  }
RMBPO_DECLARE(generic)
RMBPO_DECLARE(avx2)
RMBPO_DECLARE(avx512)
#undef RMBPO_DECLARE

}  // namespace rmbpo
