// Products of small matrices, with what follows a product done while its tile is in the L1 cache.
//
// The right-hand matrix is copied into panels of up to PANEL_VECTORS vectors of columns first. A
// panel is contiguous, so it stays in L1 while all row blocks pass over it; the matrix itself would
// fall into few cache sets (a row of 256 floats is 1,024 bytes). A panel begins with one row that
// the sums start from. F is the format of both operands (formats.h).
#pragma once

#include "formats.h"

namespace rmbpo::RMBPO_ISA {

inline long vectors_of(long columns) { return (columns + VL - 1) / VL; }

// Columns dealt out to panels of even width: a narrow last one would wait for its own sums.
struct Panels {
  long columns, count;

  explicit Panels(long columns)
      : columns(columns),
        count((vectors_of(columns) + PANEL_VECTORS - 1) / PANEL_VECTORS),
        least_(vectors_of(columns) / count),
        wider_(vectors_of(columns) % count) {}

  // A panel's first column; of the last one's successor, `columns` up to whole vectors.
  long begin(long panel) const { return (panel * least_ + smaller(panel, wider_)) * VL; }
  long width(long panel) const { return smaller(columns, begin(panel + 1)) - begin(panel); }

 private:
  long least_, wider_;  // vectors of each panel; the first `wider_` have one more
};

// Places that the panels of an [inner, columns] matrix take. The panel whose first column is c
// begins at c * (steps + 1).
template <typename F>
long packed_size(long inner, long columns) {
  return vectors_of(columns) * VL * (steps<F>(inner) + 1);
}

// One panel: step by step of from [inner, width] along its rows; sums start from zero.
template <typename F, typename T>
void pack_panel(const T* from, long stride, long inner, long width, float* to) {
  const long vectors = vectors_of(width);
  for (long v = 0; v < vectors; ++v) store(to + v * VL, V{});
  to += vectors * VL;
  for (long k = 0; k < inner; k += F::STEP, to += vectors * VL) {
    const T* row = from + k * stride;
    const T* next = k + 1 < inner ? row + stride : nullptr;
    for (long v = 0; v < vectors; ++v)
      store(to + v * VL, F::step_of_rows(row + v * VL, next ? next + v * VL : nullptr,
                                         smaller(VL, width - v * VL)));
  }
}

constexpr long PREFETCH_ROWS = 16;  // ahead: some 200 cycles

// All panels of from [inner, columns]; each begins with its part of first [columns]. Row by row,
// because the weights come from L3 or memory, which are fast in sequence only.
template <typename F>
void pack(const float* from, long inner, long columns, const float* first, float* to) {
  const Panels panels(columns);
  const long rows = steps<F>(inner) + 1;
  for (long row = 0; row < rows; ++row) {
    const long k = (row - 1) * F::STEP;
    const float* at = from + k * columns;
    const float* next = k + 1 < inner ? at + columns : nullptr;
    for (long p = 0; p < panels.count; ++p) {
      const long begin = panels.begin(p), end = panels.begin(p + 1);
      float* place = to + begin * rows + row * (end - begin);
      for (long j = begin; j < end; j += VL) {
        const long count = smaller(VL, columns - j);
        __builtin_prefetch(at + PREFETCH_ROWS * columns + j);
        store(place + j - begin, row == 0 ? load(first + j, count)
                                          : F::step_of_rows(at + j, next ? next + j : nullptr,
                                                            count));
      }
    }
  }
}

// VL columns of the transposed matrix, from a row of its panel on: rows of `from`, `rows` of which
// are there, become columns; of each, the steps from k on.
template <typename F>
void transpose_block(const float* from, long stride, long rows, long k, long inner, long width,
                     float* to) {
  V block[VL];
  const long left = (inner - k + F::STEP - 1) / F::STEP;
  if (rows >= VL && inner - k >= VL * F::STEP) {
#pragma GCC unroll 16
    for (long j = 0; j < VL; ++j) block[j] = F::steps_of_row(from + j * stride + k, VL * F::STEP);
  } else {
    for (long j = 0; j < VL; ++j)
      block[j] = j < rows ? F::steps_of_row(from + j * stride + k, inner - k) : V{};
  }
  transpose(block);
  if (left >= VL) {
#pragma GCC unroll 16
    for (long i = 0; i < VL; ++i) store(to + i * width, block[i]);
  } else {
    for (long i = 0; i < left; ++i) store(to + i * width, block[i]);
  }
}

// All panels of the transposed matrix: from [columns, inner], its rows become columns.
template <typename F>
void pack_transposed(const float* from, long inner, long columns, float* to) {
  const Panels panels(columns);
  const long rows = steps<F>(inner) + 1;
  for (long p = 0; p < panels.count; ++p) {
    const long begin = panels.begin(p), width = panels.begin(p + 1) - begin;
    float* panel = to + begin * rows;
    for (long v = 0; v < width; v += VL) {
      store(panel + v, V{});
      for (long k = 0; k < inner; k += VL * F::STEP)
        transpose_block<F>(from + (begin + v) * inner, inner, columns - begin - v, k, inner, width,
                           panel + (k / F::STEP + 1) * width + v);
    }
  }
}

// A left-hand matrix whose steps go along the rows of from [inner, columns], i.e. the transposed
// one: in blocks of MAX_ROWS columns, each of which lies step by step.
template <typename F, typename T>
void pack_blocks(const T* from, long stride, long inner, long columns, float* to) {
  const long count = steps<F>(inner);
  for (long j = 0; j < columns; j += VL)  // a block at a time: they may lie 4,096 bytes apart
    for (long step = 0; step < count; ++step) {
      const T* row = from + step * F::STEP * stride + j;
      const T* next = step * F::STEP + 1 < inner ? row + stride : nullptr;
      alignas(64) float places[VL];
      store(places, F::step_of_rows(row, next, smaller(VL, columns - j)));
      for (long b = 0; b < VL && j + b < columns; b += MAX_ROWS)
        std::memcpy(to + ((j + b) * count + step * MAX_ROWS), places + b,
                    MAX_ROWS * sizeof(float));
    }
}

// Places that `pack_blocks` fills.
template <typename F>
long blocks_size(long inner, long columns) {
  return (columns + MAX_ROWS - 1) / MAX_ROWS * MAX_ROWS * steps<F>(inner);
}

// Where the step k of row i of a block lies: a[i * stride + k], or a[k * MAX_ROWS + i].
enum class Left { rows, blocks };

// tile[ROWS][VECTORS * VL] = panel's first row + a [ROWS, inner] times the panel.
template <typename F, long ROWS, long VECTORS, Left LAYOUT>
void multiply_tile(long count, const float* a, long stride, const float* panel, float* tile) {
  V sums[ROWS][VECTORS];
#pragma GCC unroll 16
  for (long i = 0; i < ROWS; ++i)
#pragma GCC unroll 4
    for (long v = 0; v < VECTORS; ++v) sums[i][v] = load(panel + v * VL);
  panel += VECTORS * VL;
  for (long k = 0; k < count; ++k, panel += VECTORS * VL) {
    V b[VECTORS];
#pragma GCC unroll 4
    for (long v = 0; v < VECTORS; ++v) b[v] = load(panel + v * VL);
#pragma GCC unroll 16
    for (long i = 0; i < ROWS; ++i) {
      const V value = broadcast(LAYOUT == Left::rows ? a + i * stride + k : a + k * MAX_ROWS + i);
#pragma GCC unroll 4
      for (long v = 0; v < VECTORS; ++v) sums[i][v] = F::multiply_add(sums[i][v], value, b[v]);
    }
  }
#pragma GCC unroll 16
  for (long i = 0; i < ROWS; ++i)
#pragma GCC unroll 4
    for (long v = 0; v < VECTORS; ++v) store(tile + (i * VECTORS + v) * VL, sums[i][v]);
}

typedef void (*MultiplyTile)(long, const float*, long, const float*, float*);

template <typename F, Left LAYOUT, long ROWS = MAX_ROWS>
MultiplyTile tile_of(long rows, long vectors) {
  if constexpr (ROWS > 1) {
    if (rows < ROWS) return tile_of<F, LAYOUT, ROWS - 1>(rows, vectors);
  }
  static_assert(PANEL_VECTORS == 3);
  return vectors == 1   ? multiply_tile<F, ROWS, 1, LAYOUT>
         : vectors == 2 ? multiply_tile<F, ROWS, 2, LAYOUT>
                        : multiply_tile<F, ROWS, 3, LAYOUT>;
}

// a [rows, inner] times one panel of `width` columns. finish(row, column, values, count) takes each
// vector of the result; columns count from the panel's first.
template <typename F, Left LAYOUT, typename Finish>
void multiply_panel(const float* a, long stride, long rows, long inner, const float* panel,
                    long width, const Finish& finish) {
  alignas(64) float tile[MAX_ROWS * PANEL_VECTORS * VL];
  const long vectors = vectors_of(width), count = steps<F>(inner);
  for (long begin = 0; begin < rows; begin += MAX_ROWS) {
    const long height = smaller(MAX_ROWS, rows - begin);
    const float* first = a + begin * (LAYOUT == Left::rows ? stride : count);
    tile_of<F, LAYOUT>(height, vectors)(count, first, stride, panel, tile);
    for (long i = 0; i < height; ++i)
      for (long v = 0; v < vectors; ++v)
        finish(begin + i, v * VL, load(tile + (i * vectors + v) * VL),
               smaller(VL, width - v * VL));
  }
}

// a [rows, inner] times all panels of a packed matrix of `columns` columns. stride: of a, in places.
template <typename F, typename Finish>
void multiply(const float* a, long stride, long rows, long inner, const float* packed, long columns,
              const Finish& finish) {
  const Panels panels(columns);
  for (long p = 0; p < panels.count; ++p) {
    const long column = panels.begin(p);
    multiply_panel<F, Left::rows>(
        a, stride, rows, inner, packed + column * (steps<F>(inner) + 1), panels.width(p),
        [&](long i, long j, V value, long count) { finish(i, column + j, value, count); });
  }
}

}  // namespace rmbpo::RMBPO_ISA
