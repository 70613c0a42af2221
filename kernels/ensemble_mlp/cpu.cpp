// ensemble_mlp on a processor: bias and activation inside the product, no copies of weights.
//
// Forward, and the backward to inputs: rows are independent, so each thread takes a share of all
// E * rows and goes through all layers with a chunk of them, which stays in its L2 cache. Threads
// meet only once, before the weights' gradients, which need every row of a member.
#include "gemm.h"

namespace rmbpo::RMBPO_ISA {
namespace {

constexpr long CHUNK_ROWS = 196;  // twice 196 * 256 floats are 0.4 MB of L2, beside the weights

long total_packed(const Networks& net, bool transposed, long first_layer) {
  long total = 0;
  for (long l = first_layer; l < net.layers; ++l)
    total += transposed ? packed_size(net.sizes[l + 1], net.sizes[l])
                        : packed_size(net.sizes[l], net.sizes[l + 1]);
  return total;
}

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

void forward_chunk(const MlpForward& op, const float* packed, float* two, long e, long row,
                   long rows) {
  const Networks& net = op.net;
  const long last = net.layers - 1, widest = widest_hidden(net);
  const float* in = input_of(net, e, row);
  long in_stride = net.stride_xm;
  for (long l = 0; l <= last; ++l) {
    const long inner = net.sizes[l], columns = net.sizes[l + 1];
    const long place = (e * net.rows + row) * columns;
    float* out = op.save || l == last ? op.outputs[op.save ? l : 0] + place
                                      : two + (l % 2) * CHUNK_ROWS * widest;
    if (l == last) {
      multiply(in, in_stride, rows, inner, packed, columns,
               [=](long i, long j, V z, long count) { store(out + i * columns + j, z, count); });
    } else if (!net.swish) {
      multiply(in, in_stride, rows, inner, packed, columns, [=](long i, long j, V z, long count) {
        store(out + i * columns + j, relu(z), count);
      });
    } else if (!op.save) {
      multiply(in, in_stride, rows, inner, packed, columns, [=](long i, long j, V z, long count) {
        store(out + i * columns + j, z * sigmoid(z), count);
      });
    } else {
      float* slopes = op.slopes[l] + place;
      multiply(in, in_stride, rows, inner, packed, columns, [=](long i, long j, V z, long count) {
        const V gate = sigmoid(z), swish = z * gate;
        store(out + i * columns + j, swish, count);
        store(slopes + i * columns + j, gate + swish * (1.0f - gate), count);
      });
    }
    packed += packed_size(inner, columns);
    in = out;
    in_stride = columns;
  }
}

void forward_share(const MlpForward& op, long thread, long threads) {
  const Networks& net = op.net;
  const long packed_floats = total_packed(net, false, 0);
  float* packed = scratch(packed_floats + 2 * CHUNK_ROWS * widest_hidden(net));
  for_chunks(
      net, thread, threads,
      [&](long e) {
        const long member = net.members ? net.members[e] : e;
        float* to = packed;
        for (long l = 0; l < net.layers; ++l) {
          const long inner = net.sizes[l], columns = net.sizes[l + 1];
          pack(net.weights[l] + member * inner * columns, inner, columns,
               op.biases[l] + member * columns, to);
          to += packed_size(inner, columns);
        }
      },
      [&](long e, long row, long rows) {
        forward_chunk(op, packed, packed + packed_floats, e, row, rows);
      });
}

// d_out back through the layers: into dz of each hidden layer, and d_x.
void backward_chunk(const MlpBackward& op, const float* packed, float* two, long e, long row,
                    long rows) {
  const Networks& net = op.net;
  const long widest = widest_hidden(net);
  const long row0 = e * net.rows + row;
  const float* dz = op.d_out + row0 * net.sizes[net.layers];
  for (long l = net.layers - 1; l >= (op.d_x ? 0 : 1); --l) {
    const long inner = net.sizes[l + 1], columns = net.sizes[l];
    if (l == 0) {
      float* to = op.d_x + row0 * columns;
      multiply(dz, inner, rows, inner, packed, columns,
               [=](long i, long j, V d, long count) { store(to + i * columns + j, d, count); });
      return;
    }
    float* to = op.dz ? op.dz[l - 1] + row0 * columns : two + (l % 2) * CHUNK_ROWS * widest;
    const float* saved = (net.swish ? op.slopes : op.outputs)[l - 1] + row0 * columns;
    if (net.swish) {
      multiply(dz, inner, rows, inner, packed, columns, [=](long i, long j, V d, long count) {
        const long at = i * columns + j;
        store(to + at, d * load(saved + at, count), count);
      });
    } else {
      multiply(dz, inner, rows, inner, packed, columns, [=](long i, long j, V d, long count) {
        const long at = i * columns + j;
        // a NaN output lets the gradient through, as PyTorch's relu does
        store(to + at, load(saved + at, count) <= 0.0f ? V{} : d, count);
      });
    }
    packed += packed_size(inner, columns);
    dz = to;
  }
}

void backward_share(const MlpBackward& op, long thread, long threads) {
  const Networks& net = op.net;
  const long first = op.d_x ? 0 : 1;
  const long packed_floats = total_packed(net, true, first);
  float* packed = scratch(packed_floats + 2 * CHUNK_ROWS * widest_hidden(net));
  for_chunks(
      net, thread, threads,
      [&](long e) {
        float* to = packed;
        for (long l = net.layers - 1; l >= first; --l) {
          const long inner = net.sizes[l + 1], columns = net.sizes[l];
          const float* weight = net.weights[l] + e * inner * columns;  // [columns, inner]
          for (long j = 0; j < columns; j += PANEL)
            pack_panel_transposed(weight + j * inner, inner, inner, smaller(PANEL, columns - j),
                                  to + j * (inner + 1));
          to += packed_size(inner, columns);
        }
      },
      [&](long e, long row, long rows) {
        backward_chunk(op, packed, packed + packed_floats, e, row, rows);
      });
}

// One panel of columns of one layer's weight gradient, h^T dz, and of its bias gradient.
void weight_panel(const MlpBackward& op, long e, long l, long column, float* packed) {
  const Networks& net = op.net;
  const long inputs = net.sizes[l], outputs = net.sizes[l + 1];
  const long width = smaller(PANEL, outputs - column), vectors = vectors_of(width);
  const float* dz = (l == net.layers - 1 ? op.d_out : op.dz[l]) + e * net.rows * outputs + column;
  pack_panel(dz, outputs, net.rows, width, packed);
  for (long v = 0; v < vectors; ++v) {
    V sum{};
    for (long row = 0; row < net.rows; ++row) sum += load(packed + ((row + 1) * vectors + v) * VL);
    store(op.d_biases[l] + e * outputs + column + v * VL, sum, smaller(VL, width - v * VL));
  }
  const float* in = l == 0 ? input_of(net, e, 0) : op.outputs[l - 1] + e * net.rows * inputs;
  const long stride = l == 0 ? net.stride_xm : inputs;
  float* to = op.d_weights[l] + e * inputs * outputs + column;
  multiply_panel<Left::columns>(
      in, stride, inputs, net.rows, packed, width,
      [=](long i, long j, V d, long count) { store(to + i * outputs + j, d, count); });
}

void weights_share(const MlpBackward& op, long thread, long threads) {
  const Networks& net = op.net;
  // a panel's work is its inputs times its vectors; + 1 for what a panel costs of itself
  auto work = [&](long l, long column) {
    return (net.sizes[l] + 1) * vectors_of(smaller(PANEL, net.sizes[l + 1] - column));
  };
  long all = 0;
  for (long l = 0; l < net.layers; ++l)
    for (long column = 0; column < net.sizes[l + 1]; column += PANEL) all += work(l, column);
  all *= net.ensemble;
  const long begin = share(all, thread, threads), end = share(all, thread + 1, threads);
  float* packed = scratch(packed_size(net.rows, PANEL));
  long done = 0;
  for (long e = 0; e < net.ensemble; ++e)
    for (long l = 0; l < net.layers; ++l)
      for (long column = 0; column < net.sizes[l + 1]; column += PANEL) {
        if (begin <= done && done < end) weight_panel(op, e, l, column, packed);
        done += work(l, column);
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

}  // namespace

void ensemble_mlp_fwd(const MlpForward& op) { in_parallel<MlpForward, forward_share>(op); }

void ensemble_mlp_bwd(const MlpBackward& op) {
  in_parallel<MlpBackward, backward_share>(op);
  if (op.need_weights) in_parallel<MlpBackward, weights_share>(op);
}

}  // namespace rmbpo::RMBPO_ISA
