// Products of small matrices, with what follows a product done while its tile is in the L1 cache.
//
// The right-hand matrix is copied into panels of PANEL columns first. A panel is contiguous, so it
// stays in L1 while all row blocks pass over it; the matrix itself would fall into few cache sets
// (a row of 256 floats is 1,024 bytes). A panel begins with one row that the sums start from.
#pragma once

#include "../native.h"

namespace rmbpo::RMBPO_ISA {

inline long vectors_of(long columns) { return (columns + VL - 1) / VL; }

// Floats that `inner` rows of `columns` take as panels; a panel of one vector's columns is half as
// wide, so the panel of column c begins at c * (inner + 1).
inline long packed_size(long inner, long columns) { return vectors_of(columns) * VL * (inner + 1); }

// One panel of from [inner, columns]: `width` <= PANEL columns; sums start from zero.
inline void pack_panel(const float* from, long stride, long inner, long width, float* to) {
  const long left = smaller(width, VL), right = width - left;
  if (right == 0) {
    store(to, V{});
    for (long k = 0; k < inner; ++k) store(to + (k + 1) * VL, load(from + k * stride, left));
    return;
  }
  store(to, V{});
  store(to + VL, V{});
  for (long k = 0; k < inner; ++k) {
    store(to + (k + 1) * PANEL, load(from + k * stride));
    store(to + (k + 1) * PANEL + VL, load(from + k * stride + VL, right));
  }
}

// All panels of from [inner, columns]; each begins with its part of first [columns]. Row by row,
// because the weights come from L3 or memory, which are fast in sequence only.
inline void pack(const float* from, long inner, long columns, const float* first, float* to) {
  for (long k = -1; k < inner; ++k) {
    const float* row = k < 0 ? first : from + k * columns;
    long j = 0;
    for (; j + VL < columns; j += PANEL) {
      float* at = to + j * (inner + 1) + (k + 1) * PANEL;
      store(at, load(row + j));
      store(at + VL, load(row + j + VL, smaller(VL, columns - j - VL)));
    }
    if (j < columns) store(to + j * (inner + 1) + (k + 1) * VL, load(row + j, columns - j));
  }
}

// The panel of the transposed matrix: from [width, inner], its rows become columns.
inline void pack_panel_transposed(const float* from, long stride, long inner, long width,
                                  float* to) {
  const long panel = vectors_of(width) * VL;
  for (long j = 0; j < panel; ++j) to[j] = 0.0f;
  to += panel;
  for (long j0 = 0; j0 < width; j0 += VL) {
    const long count = smaller(VL, width - j0);
    long k = 0;
    for (; count == VL && k + VL <= inner; k += VL) {
      V rows[VL];
      for (long j = 0; j < VL; ++j) rows[j] = load(from + (j0 + j) * stride + k);
      transpose(rows);
      for (long j = 0; j < VL; ++j) store(to + (k + j) * panel + j0, rows[j]);
    }
    for (; k < inner; ++k)
      for (long j = 0; j < VL; ++j)
        to[k * panel + j0 + j] = j < count ? from[(j0 + j) * stride + k] : 0.0f;
  }
}

// How a(row, k) lies in memory: a[row * stride + k], or a[k * stride + row].
enum class Left { rows, columns };

constexpr long PREFETCH = 16;  // steps ahead, some 200 cycles

// tile[ROWS][VECTORS * VL] = panel's first row + a [ROWS, inner] times the panel.
template <long ROWS, long VECTORS, Left LAYOUT>
void multiply_tile(long inner, const float* a, long stride, const float* panel, float* tile) {
  V sums[ROWS][VECTORS];
#pragma GCC unroll 16
  for (long i = 0; i < ROWS; ++i)
#pragma GCC unroll 2
    for (long v = 0; v < VECTORS; ++v) sums[i][v] = load(panel + v * VL);
  panel += VECTORS * VL;
  for (long k = 0; k < inner; ++k, panel += VECTORS * VL) {
    if constexpr (LAYOUT == Left::columns) {  // a cache line or two a step, far apart
      __builtin_prefetch(a + (k + PREFETCH) * stride);
      __builtin_prefetch(a + (k + PREFETCH) * stride + ROWS - 1);
    }
    V b[VECTORS];
#pragma GCC unroll 2
    for (long v = 0; v < VECTORS; ++v) b[v] = load(panel + v * VL);
#pragma GCC unroll 16
    for (long i = 0; i < ROWS; ++i) {
      const V value = fill(LAYOUT == Left::rows ? a[i * stride + k] : a[k * stride + i]);
#pragma GCC unroll 2
      for (long v = 0; v < VECTORS; ++v) sums[i][v] += value * b[v];
    }
  }
#pragma GCC unroll 16
  for (long i = 0; i < ROWS; ++i)
#pragma GCC unroll 2
    for (long v = 0; v < VECTORS; ++v) store(tile + (i * VECTORS + v) * VL, sums[i][v]);
}

typedef void (*MultiplyTile)(long, const float*, long, const float*, float*);

template <Left LAYOUT, long ROWS = MAX_ROWS>
MultiplyTile tile_of(long rows, long vectors) {
  if constexpr (ROWS > 1) {
    if (rows < ROWS) return tile_of<LAYOUT, ROWS - 1>(rows, vectors);
  }
  return vectors == 1 ? multiply_tile<ROWS, 1, LAYOUT> : multiply_tile<ROWS, 2, LAYOUT>;
}

// a [rows, inner] times one panel of `width` columns. finish(row, column, values, count) takes each
// vector of the result; columns count from the panel's first.
template <Left LAYOUT, typename Finish>
void multiply_panel(const float* a, long stride, long rows, long inner, const float* panel,
                    long width, const Finish& finish) {
  alignas(64) float tile[MAX_ROWS * PANEL];
  const long vectors = vectors_of(width), blocks = (rows + MAX_ROWS - 1) / MAX_ROWS;
  for (long block = 0; block < blocks; ++block) {  // of even size, none has a few rows only
    const long begin = share(rows, block, blocks), count = share(rows, block + 1, blocks) - begin;
    const float* first = a + begin * (LAYOUT == Left::rows ? stride : 1);
    tile_of<LAYOUT>(count, vectors)(inner, first, stride, panel, tile);
    for (long i = 0; i < count; ++i)
      for (long v = 0; v < vectors; ++v)
        finish(begin + i, v * VL, load(tile + (i * vectors + v) * VL),
               smaller(VL, width - v * VL));
  }
}

// a [rows, inner] times all panels of a packed matrix of `columns` columns.
template <typename Finish>
void multiply(const float* a, long stride, long rows, long inner, const float* packed, long columns,
              const Finish& finish) {
  for (long column = 0; column < columns; column += PANEL)
    multiply_panel<Left::rows>(
        a, stride, rows, inner, packed + column * (inner + 1), smaller(PANEL, columns - column),
        [&](long i, long j, V value, long count) { finish(i, column + j, value, count); });
}

}  // namespace rmbpo::RMBPO_ISA
