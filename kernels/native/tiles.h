// A block of up to 2 x 2 tiles of sums, in AMX's tile registers or, for tests, in C++.
//
// A tile is 16 rows of 64 bytes. Both bodies multiply bf16 numbers, add in float32 and read the same
// layouts, so that packing, borders and what follows a product are tested on any machine.
#pragma once

#include "formats.h"

namespace rmbpo::RMBPO_ISA {

constexpr long TILE = 16;  // rows of a tile, and places of 4 bytes in each

#if defined(__AMX_BF16__)

// The calling thread's tiles, configured while this lives. PyTorch's products configure those of the
// same thread, too, so no configuration is kept from one operation to the next.
class Tiles {
 public:
  Tiles() {
    struct __attribute__((packed)) {
      unsigned char palette, start_row, reserved[14];
      unsigned short row_bytes[16];
      unsigned char rows[16];
    } shape{};
    shape.palette = 1;
    for (long tile = 0; tile < 8; ++tile) {
      shape.row_bytes[tile] = TILE * sizeof(float);
      shape.rows[tile] = TILE;
    }
    stores_come_first();
    _tile_loadconfig(&shape);
  }
  ~Tiles() { _tile_release(); }
  Tiles(const Tiles&) = delete;
  Tiles& operator=(const Tiles&) = delete;

  // to [16 HIGH, 16 WIDE] = a [16 HIGH, 32 count] b [32 count, 16 WIDE]. a: rows of pairs of
  // numbers; b: rows of two numbers of each column, 16 WIDE places long; strides in places.
  template <long HIGH, long WIDE>
  static void multiply(const float* a, long stride, const float* b, long count, float* to) {
    constexpr long row = WIDE * TILE * sizeof(float);
    const long a_row = stride * sizeof(float);
    const float* lower = a + TILE * stride;
    stores_come_first();
    _tile_zero(0);
    if constexpr (WIDE > 1) _tile_zero(1);
    if constexpr (HIGH > 1) _tile_zero(2);
    if constexpr (HIGH > 1 && WIDE > 1) _tile_zero(3);
    for (long k = 0; k < count; ++k, a += TILE, lower += TILE, b += WIDE * TILE * TILE) {
      _tile_loadd(4, a, a_row);
      _tile_loadd(6, b, row);
      _tile_dpbf16ps(0, 4, 6);
      if constexpr (WIDE > 1) {
        _tile_loadd(7, b + TILE, row);
        _tile_dpbf16ps(1, 4, 7);
      }
      if constexpr (HIGH > 1) {
        _tile_loadd(5, lower, a_row);
        _tile_dpbf16ps(2, 5, 6);
      }
      if constexpr (HIGH > 1 && WIDE > 1) _tile_dpbf16ps(3, 5, 7);
    }
    _tile_stored(0, to, row);
    if constexpr (WIDE > 1) _tile_stored(1, to + TILE, row);
    to += TILE * WIDE * TILE;
    if constexpr (HIGH > 1) _tile_stored(2, to, row);
    if constexpr (HIGH > 1 && WIDE > 1) _tile_stored(3, to + TILE, row);
  }

 private:
  // GCC's intrinsics don't say what memory they read, so a store before them could move or go.
  static void stores_come_first() { asm volatile("" ::: "memory"); }
};

#elif defined(RMBPO_TILES)

class Tiles {
 public:
  template <long HIGH, long WIDE>
  static void multiply(const float* a, long stride, const float* b, long count, float* to) {
    static_assert(VL == TILE);
    for (long i = 0; i < HIGH * TILE; ++i)
      for (long v = 0; v < WIDE; ++v) {
        V sum{};
        for (long k = 0; k < count * TILE; ++k)
          sum = Bf16::multiply_add(sum, broadcast(a + i * stride + k),
                                   load(b + (k * WIDE + v) * VL));
        store(to + (i * WIDE + v) * VL, sum);
      }
  }
};

#else

class Tiles {  // of no use here, where no format is TILED
 public:
  template <long HIGH, long WIDE>
  static void multiply(const float* a, long stride, const float* b, long count, float* to);
};

#endif

// Made at the start of each thread's share of products in the format F.
template <typename F>
struct OwnTiles {};
#if defined(RMBPO_TILES)
template <>
struct OwnTiles<Bf16> : Tiles {};
#endif

}  // namespace rmbpo::RMBPO_ISA
