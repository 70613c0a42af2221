// ensemble_mlp on a processor: bias and activation inside the product, no copies of activations.
//
// Forward, and the backward to inputs: rows are independent, so each thread takes a share of all
// E * rows and goes through all layers with a chunk of them, which stays in its L2 cache. Threads
// meet only once, before the weights' gradients, which need every row of a member.
//
// F is the format of hidden numbers and of products (formats.h). The first layer's product is
// float32 in any: it is thin, and its inputs are all that the networks know. So are results.
#include "../../native/gemm.h"

namespace rmbpo::RMBPO_ISA {
namespace {

constexpr long CHUNK_ROWS = 192;  // twice 192 * 256 floats are 0.4 MB of L2, beside the weights

long widest_hidden(const Networks& net) {
  long widest = 0;
  for (long l = 1; l < net.layers; ++l) widest = larger(widest, net.sizes[l]);
  return widest;
}

// Calls visit(member's place e, first row, rows) for this thread's share of all rows, in chunks of
// one member; load_member(e) before the first chunk of each.
template <typename LoadMember, typename Visit>
void for_chunks(const Networks& net, long thread, long threads, const LoadMember& load_member,
                const Visit& visit) {
  const long all = net.ensemble * net.rows;
  long row = share(all, thread, threads);
  const long end = share(all, thread + 1, threads);
  while (row < end) {
    const long e = row / net.rows, member_end = smaller(end, (e + 1) * net.rows);
    load_member(e);
    const long count = member_end - row, chunks = (count + CHUNK_ROWS - 1) / CHUNK_ROWS;
    for (long c = 0; c < chunks; ++c) {
      const long begin = row + share(count, c, chunks);
      visit(e, begin - e * net.rows, row + share(count, c + 1, chunks) - begin);
    }
    row = member_end;
  }
}

const float* input_of(const Networks& net, long e, long row) {
  return net.x + e * net.stride_xe + row * net.stride_xm;
}

// One layer of a chunk. in: rows in the format PRODUCT; out, slopes: in F, but for the last layer's
// out, which is float32.
template <typename PRODUCT, typename F>
void forward_layer(const MlpForward& op, long l, const float* in, long in_stride, long rows,
                   const float* packed, float* out, float* slopes) {
  const Networks& net = op.net;
  const long inner = net.sizes[l], columns = net.sizes[l + 1], stride = steps<F>(columns);
  const auto run = [&](const auto& finish) {
    multiply<PRODUCT>(in, in_stride, rows, inner, packed, columns, finish);
  };
  if (l + 1 == net.layers)
    run([=](long i, long j, V z, long count) { store(out + i * columns + j, z, count); });
  else if (!net.swish)
    run([=](long i, long j, V z, long count) { F::put(out + i * stride, j, relu(z), count); });
  else if (!op.save)
    run([=](long i, long j, V z, long count) {
      F::put(out + i * stride, j, z * F::sigmoid(z), count);
    });
  else
    run([=](long i, long j, V z, long count) {
      const V gate = F::sigmoid(z), swish = z * gate;
      F::put(out + i * stride, j, swish, count);
      F::put(slopes + i * stride, j, gate + swish * (1.0f - gate), count);
    });
  if (l + 1 < net.layers) fill_rows<F>(out, rows, columns);
}

template <typename F>
void forward_chunk(const MlpForward& op, const float* packed, float* two, long e, long row,
                   long rows) {
  const Networks& net = op.net;
  const long last = net.layers - 1, widest = steps<F>(widest_hidden(net));
  const float* in = input_of(net, e, row);
  for (long l = 0; l <= last; ++l) {
    const long inner = net.sizes[l], columns = net.sizes[l + 1];
    const long place = (e * net.rows + row) * (l == last ? columns : steps<F>(columns));
    float* out = op.save || l == last ? op.outputs[op.save ? l : 0] + place
                                      : two + (l % 2) * CHUNK_ROWS * widest;
    float* slopes = op.save && net.swish && l < last ? op.slopes[l] + place : nullptr;
    if (l == 0) {
      forward_layer<Fp32, F>(op, l, in, net.stride_xm, rows, packed, out, slopes);
      packed += packed_size<Fp32>(inner, columns);
    } else {
      forward_layer<F, F>(op, l, in, steps<F>(inner), rows, packed, out, slopes);
      packed += packed_size<F>(inner, columns);
    }
    in = out;
  }
}

template <typename F>
void forward_share(const MlpForward& op, long thread, long threads) {
  [[maybe_unused]] OwnTiles<F> tiles{};
  const Networks& net = op.net;
  long packed_places = 0;
  for (long l = 0; l < net.layers; ++l)
    packed_places += l == 0 ? packed_size<Fp32>(net.sizes[l], net.sizes[l + 1])
                            : packed_size<F>(net.sizes[l], net.sizes[l + 1]);
  float* packed = scratch(packed_places + 2 * CHUNK_ROWS * steps<F>(widest_hidden(net)));
  for_chunks(
      net, thread, threads,
      [&](long e) {
        const long member = net.members ? net.members[e] : e;
        float* to = packed;
        for (long l = 0; l < net.layers; ++l) {
          const long inner = net.sizes[l], columns = net.sizes[l + 1];
          const float* weight = net.weights[l] + member * inner * columns;
          const float* bias = op.biases[l] + member * columns;
          if (l == 0) {
            pack<Fp32>(weight, inner, columns, bias, to);
            to += packed_size<Fp32>(inner, columns);
          } else {
            pack<F>(weight, inner, columns, bias, to);
            to += packed_size<F>(inner, columns);
          }
        }
      },
      [&](long e, long row, long rows) {
        forward_chunk<F>(op, packed, packed + packed_places, e, row, rows);
      });
}

// d_out back through the layers: into dz of each hidden layer, and d_x.
template <typename F>
void backward_chunk(const MlpBackward& op, const float* packed, float* two, long e, long row,
                    long rows) {
  const Networks& net = op.net;
  const long outputs = net.sizes[net.layers];
  const long widest = steps<F>(larger(outputs, widest_hidden(net)));
  const long row0 = e * net.rows + row;
  const float* dz = op.d_out + row0 * outputs;
  if (F::STEP > 1 && net.layers > (op.d_x ? 0 : 1)) {  // float32 to F
    float* to = two + (net.layers % 2) * CHUNK_ROWS * widest;
    for (long i = 0; i < rows; ++i)
      for (long j = 0; j < outputs; j += VL) {
        const long count = smaller(VL, outputs - j);
        F::put(to + i * steps<F>(outputs), j, load(dz + i * outputs + j, count), count);
      }
    fill_rows<F>(to, rows, outputs);
    dz = to;
  }
  for (long l = net.layers - 1; l >= (op.d_x ? 0 : 1); --l) {
    const long inner = net.sizes[l + 1], columns = net.sizes[l], stride = steps<F>(columns);
    const auto run = [&](const auto& finish) {
      multiply<F>(dz, steps<F>(inner), rows, inner, packed, columns, finish);
    };
    if (l == 0) {
      float* to = op.d_x + row0 * columns;
      run([=](long i, long j, V d, long count) { store(to + i * columns + j, d, count); });
      return;
    }
    float* to = op.dz ? op.dz[l - 1] + row0 * stride : two + (l % 2) * CHUNK_ROWS * widest;
    const float* saved = (net.swish ? op.slopes : op.outputs)[l - 1] + row0 * stride;
    if (net.swish)
      run([=](long i, long j, V d, long count) {
        F::put(to + i * stride, j, d * F::get(saved + i * stride, j, count), count);
      });
    else
      run([=](long i, long j, V d, long count) {
        // a NaN output lets the gradient through, as PyTorch's relu does
        const V h = F::get(saved + i * stride, j, count);
        F::put(to + i * stride, j, h <= 0.0f ? V{} : d, count);
      });
    fill_rows<F>(to, rows, columns);
    packed += packed_size<F>(inner, columns);
    dz = to;
  }
}

template <typename F>
void backward_share(const MlpBackward& op, long thread, long threads) {
  [[maybe_unused]] OwnTiles<F> tiles{};
  const Networks& net = op.net;
  const long first = op.d_x ? 0 : 1;
  long packed_places = 0;
  for (long l = first; l < net.layers; ++l)
    packed_places += packed_size<F>(net.sizes[l + 1], net.sizes[l]);
  const long widest = steps<F>(larger(net.sizes[net.layers], widest_hidden(net)));
  float* packed = scratch(packed_places + 2 * CHUNK_ROWS * widest);
  for_chunks(
      net, thread, threads,
      [&](long e) {
        float* to = packed;
        for (long l = net.layers - 1; l >= first; --l) {
          const long inner = net.sizes[l + 1], columns = net.sizes[l];
          pack_transposed<F>(net.weights[l] + e * inner * columns, inner, columns, to);
          to += packed_size<F>(inner, columns);
        }
      },
      [&](long e, long row, long rows) {
        backward_chunk<F>(op, packed, packed + packed_places, e, row, rows);
      });
}

// The gradients of one layer of one member: h^T dz, and the sum of dz.
template <typename F>
class LayerGradient {
  using Number = typename F::Number;

 public:
  LayerGradient(const MlpBackward& op, long e, long l)
      : op_(op),
        l_(l),
        rows_(op.net.rows),
        inputs_(op.net.sizes[l]),
        outputs_(op.net.sizes[l + 1]),
        e_(e) {}

  // h^T in blocks; before `panel`.
  void pack_inputs(float* blocks) const {
    const Networks& net = op_.net;
    if (l_ == 0)
      pack_blocks<F>(input_of(net, e_, 0), net.stride_xm, rows_, inputs_, blocks);
    else
      pack_blocks<F>(numbers(op_.outputs[l_ - 1], inputs_), stride(inputs_), rows_, inputs_, blocks);
  }

  void panel(long column, long width, const float* blocks, float* packed) const {
    if (l_ + 1 == op_.net.layers)
      pack_panel<F>(op_.d_out + e_ * rows_ * outputs_ + column, outputs_, rows_, width, packed);
    else
      pack_panel<F>(numbers(op_.dz[l_], outputs_) + column, stride(outputs_), rows_, width, packed);
    const long vectors = vectors_of(width), count = steps<F>(rows_);
    for (long v = 0; v < vectors; ++v) {
      V sum{};
      for (long k = 1; k <= count; ++k)
        sum = F::multiply_add(sum, load(packed + (k * vectors + v) * VL), F::one());
      store(op_.d_biases[l_] + e_ * outputs_ + column + v * VL, sum, smaller(VL, width - v * VL));
    }
    const long outputs = outputs_;
    float* to = op_.d_weights[l_] + e_ * inputs_ * outputs + column;
    multiply_panel<F, Left::blocks>(
        blocks, 0, inputs_, rows_, packed, width,
        [=](long i, long j, V d, long count) { store(to + i * outputs + j, d, count); });
  }

 private:
  // in numbers of F, of which a row has an even count in Bf16
  static long stride(long columns) { return steps<F>(columns) * F::STEP; }
  const Number* numbers(const float* places, long columns) const {
    return reinterpret_cast<const Number*>(places) + e_ * rows_ * stride(columns);
  }

  const MlpBackward& op_;
  const long l_, rows_, inputs_, outputs_, e_;
};

template <typename F>
void weights_share(const MlpBackward& op, long thread, long threads) {
  [[maybe_unused]] OwnTiles<F> tiles{};
  const Networks& net = op.net;
  // a panel's work is its inputs times its vectors; + 1 for what a panel costs of itself
  auto work = [&](long l, const Panels<F>& panels, long p) {
    return (net.sizes[l] + 1) * vectors_of(panels.width(p));
  };
  long all = 0, widest = 0;
  for (long l = 0; l < net.layers; ++l) {
    const Panels<F> panels(net.sizes[l + 1]);
    for (long p = 0; p < panels.count; ++p) all += work(l, panels, p);
    widest = larger(widest, net.sizes[l]);
  }
  all *= net.ensemble;
  const long begin = share(all, thread, threads), end = share(all, thread + 1, threads);
  const long panel_places = packed_size<F>(net.rows, F::PANEL_VECTORS * VL);
  float* packed = scratch(panel_places + blocks_size<F>(net.rows, widest));
  float* blocks = packed + panel_places;
  long done = 0;
  for (long e = 0; e < net.ensemble; ++e)
    for (long l = 0; l < net.layers; ++l) {
      const Panels<F> panels(net.sizes[l + 1]);
      const LayerGradient<F> layer(op, e, l);
      bool ready = false;
      for (long p = 0; p < panels.count; ++p) {
        if (begin <= done && done < end) {
          if (!ready) layer.pack_inputs(blocks);
          ready = true;
          layer.panel(panels.begin(p), panels.width(p), blocks, packed);
        }
        done += work(l, panels, p);
      }
    }
}

// Below some 50 us of work a second thread costs more than it brings.
int threads_for(const Networks& net) {
  double products = 0;
  for (long l = 0; l < net.layers; ++l) products += net.sizes[l] * net.sizes[l + 1];
  const double worth = net.ensemble * net.rows * products / 1e6;
  return worth < 1 ? 1 : worth < net.threads ? (int)worth : net.threads;
}

template <typename Op, void (*SHARE)(const Op&, long, long)>
void in_parallel(const Op& op) {
  run_parallel(
      threads_for(op.net),
      [](void* context, int thread, int threads) {
        SHARE(*static_cast<const Op*>(context), thread, threads);
      },
      const_cast<Op*>(&op));
}

template <typename F>
void backward(const MlpBackward& op) {
  in_parallel<MlpBackward, backward_share<F>>(op);
  if (op.need_weights) in_parallel<MlpBackward, weights_share<F>>(op);
}

}  // namespace

void ensemble_mlp_fwd(const MlpForward& op) {
  if (op.net.bf16)
    in_parallel<MlpForward, forward_share<Bf16>>(op);
  else
    in_parallel<MlpForward, forward_share<Fp32>>(op);
}

void ensemble_mlp_bwd(const MlpBackward& op) {
  if (op.net.bf16)
    backward<Bf16>(op);
  else
    backward<Fp32>(op);
}

}  // namespace rmbpo::RMBPO_ISA
