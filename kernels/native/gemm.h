// Products of small matrices, with what follows a product done while its tile is in the L1 cache.
//
// The right-hand matrix is copied into panels of up to F::PANEL_VECTORS vectors of columns first. A
// panel is contiguous, so it stays in L1 while all row blocks pass over it; the matrix itself would
// fall into few cache sets (a row of 256 floats is 1,024 bytes). A panel begins with one row that
// the sums start from. F is the format of both operands (formats.h).
#pragma once

#include "tiles.h"

namespace rmbpo::RMBPO_ISA {

inline long vectors_of(long columns) { return (columns + VL - 1) / VL; }

// Columns dealt out to panels of even width: a narrow last one would wait for its own sums.
template <typename F>
struct Panels {
  long columns, count;

  explicit Panels(long columns)
      : columns(columns),
        count((vectors_of(columns) + F::PANEL_VECTORS - 1) / F::PANEL_VECTORS),
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

// Zeros in the rows of a panel's or a matrix's last tile that have no numbers.
template <typename F>
void fill_panel(float* end_of_numbers, long inner, long width) {
  for (long place = 0; place < (steps<F>(inner) - numbered_steps<F>(inner)) * width; place += VL)
    store(end_of_numbers + place, V{});
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
  fill_panel<F>(to, inner, vectors * VL);
}

constexpr long PREFETCH_ROWS = 16;  // ahead: some 200 cycles

// All panels of from [inner, columns]; each begins with its part of first [columns]. Row by row,
// because the weights come from L3 or memory, which are fast in sequence only.
template <typename F>
void pack(const float* from, long inner, long columns, const float* first, float* to) {
  const Panels<F> panels(columns);
  const long rows = steps<F>(inner) + 1, numbered = numbered_steps<F>(inner) + 1;
  for (long row = 0; row < numbered; ++row) {
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
  for (long p = 0; p < panels.count; ++p) {
    const long begin = panels.begin(p), width = panels.begin(p + 1) - begin;
    fill_panel<F>(to + begin * rows + numbered * width, inner, width);
  }
}

// VL columns of the transposed matrix, from a row of its panel on: rows of `from`, `rows` of which
// are there, become columns; of each, the steps from k on.
template <typename F>
void transpose_block(const float* from, long stride, long rows, long k, long inner, long width,
                     float* to) {
  V block[VL];
  const long left = F::TILED ? VL : numbered_steps<F>(inner - k);
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
  const Panels<F> panels(columns);
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
// one: in blocks of MAX_ROWS columns, each of which lies step by step; for tiles, row by row.
template <typename F, typename T>
void pack_blocks(const T* from, long stride, long inner, long columns, float* to) {
  const long count = steps<F>(inner);
  if constexpr (F::TILED) {
    for (long j = 0; j < columns; j += VL)
      for (long step = 0; step < count; step += VL) {
        V block[VL];
        for (long s = 0; s < VL; ++s) {
          const long k = (step + s) * F::STEP;
          const T* row = from + k * stride + j;
          block[s] = k >= inner ? V{}
                                : F::step_of_rows(row, k + 1 < inner ? row + stride : nullptr,
                                                  smaller(VL, columns - j));
        }
        transpose(block);
        for (long i = 0; i < VL; ++i) store(to + (j + i) * count + step, block[i]);
      }
    return;
  }
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
  constexpr long rows = F::TILED ? TILE : MAX_ROWS;
  return (columns + rows - 1) / rows * rows * steps<F>(inner);
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
  static_assert(F::PANEL_VECTORS <= 3);
  return vectors == 1   ? multiply_tile<F, ROWS, 1, LAYOUT>
         : vectors == 2 ? multiply_tile<F, ROWS, 2, LAYOUT>
                        : multiply_tile<F, ROWS, 3, LAYOUT>;
}

// The rows that fill tiles, times one panel; returns how many they are. Blocks have rows beyond the
// matrix's own (`pack_blocks`), so of them it takes all.
template <Left LAYOUT, typename Finish>
long multiply_tiles(const float* a, long stride, long rows, long count, const float* panel,
                    long width, const Finish& finish) {
  alignas(64) float block[2 * TILE * 2 * TILE];
  const long vectors = vectors_of(width);
  if (LAYOUT == Left::blocks) stride = count;
  const long end = LAYOUT == Left::blocks ? (rows + TILE - 1) / TILE * TILE : rows / TILE * TILE;
  for (long begin = 0; begin < end;) {
    const bool high = begin + 2 * TILE <= end;
    const auto multiply = high ? (vectors > 1 ? Tiles::multiply<2, 2> : Tiles::multiply<2, 1>)
                               : (vectors > 1 ? Tiles::multiply<1, 2> : Tiles::multiply<1, 1>);
    multiply(a + begin * stride, stride, panel + vectors * VL, count / TILE, block);
    const long next = begin + (high ? 2 : 1) * TILE;
    for (long i = begin; i < smaller(rows, next); ++i)
      for (long v = 0; v < vectors; ++v)
        finish(i, v * VL, load(panel + v * VL) + load(block + ((i - begin) * vectors + v) * VL),
               smaller(VL, width - v * VL));
    begin = next;
  }
  return end;
}

// a [rows, inner] times one panel of `width` columns. finish(row, column, values, count) takes each
// vector of the result; columns count from the panel's first.
template <typename F, Left LAYOUT, typename Finish>
void multiply_panel(const float* a, long stride, long rows, long inner, const float* panel,
                    long width, const Finish& finish) {
  const long vectors = vectors_of(width), count = steps<F>(inner);
  long tiled = 0;
  if constexpr (F::TILED)
    tiled = multiply_tiles<LAYOUT>(a, stride, rows, count, panel, width, finish);
  alignas(64) float tile[MAX_ROWS * F::PANEL_VECTORS * VL];
  for (long begin = tiled; begin < rows; begin += MAX_ROWS) {
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
  const Panels<F> panels(columns);
  for (long p = 0; p < panels.count; ++p) {
    const long column = panels.begin(p);
    multiply_panel<F, Left::rows>(
        a, stride, rows, inner, packed + column * (steps<F>(inner) + 1), panels.width(p),
        [&](long i, long j, V value, long count) { finish(i, column + j, value, count); });
  }
}

}  // namespace rmbpo::RMBPO_ISA
