// The two number formats of a product's operands: float32, and pairs of bf16 in the place of one.
//
// The inner dimension of a product goes in steps: what a multiply-add takes of it for each of its
// VL sums. A step is one number in Fp32 and two in Bf16, and takes 4 bytes in either, so that
// packing, tiles and strides are the same for both; an odd last number is paired with zero. Sums
// are float32. A row of numbers in a format is `steps<F>(count)` places of 4 bytes.
//
// Where tiles multiply (tiles.h), a row of bf16 numbers goes on to whole tiles, with zeros.
#pragma once

#include "vectors.h"

namespace rmbpo::RMBPO_ISA {

typedef unsigned short Half;  // a bf16 number: the upper half of a float
typedef Half Halves __attribute__((vector_size(VL * 2)));
typedef Half UnalignedHalves __attribute__((vector_size(VL * 2), aligned(2), may_alias));

// The bits at a place in every lane. As an integer: a pair may look like a denormal or a NaN.
inline V broadcast(const float* place) {
  int bits;
  std::memcpy(&bits, place, sizeof bits);
  return (V)(bits - I{});
}

// Rounds to the nearest bf16, ties to even; NaN stays NaN. A denormal may become zero.
inline Halves round_to_halves(V x) {
#if defined(__AVX512BF16__)
  return (Halves)_mm512_cvtneps_pbh((__m512)x);
#else
  const I bits = (I)x, rounded = bits + 0x7fff + ((bits >> 16) & 1);
  return __builtin_convertvector((x == x ? rounded : bits | 0x400000) >> 16, Halves);
#endif
}

inline I widen(Halves x) { return __builtin_convertvector(x, I); }

inline Halves load_halves(const Half* from, long count) {
  if (count == VL) return *reinterpret_cast<const UnalignedHalves*>(from);
#if defined(__AVX512F__)
  return (Halves)_mm256_maskz_loadu_epi16((__mmask16)((1u << count) - 1), from);
#else
  Halves x{};
  std::memcpy(&x, from, count * sizeof(Half));
  return x;
#endif
}

inline void store_halves(Half* to, Halves x, long count) {
  if (count == VL) {
    *reinterpret_cast<UnalignedHalves*>(to) = x;
    return;
  }
#if defined(__AVX512F__)
  _mm256_mask_storeu_epi16(to, (__mmask16)((1u << count) - 1), (__m256i)x);
#else
  std::memcpy(to, &x, count * sizeof(Half));
#endif
}

struct Fp32 {
  static constexpr long STEP = 1;
  static constexpr bool TILED = false;
  static constexpr long PANEL_VECTORS = 3;  // columns of a block of sums, in vectors
  typedef float Number;

  static V multiply_add(V sum, V a, V b) { return sum + a * b; }
  static V one() { return fill(1.0f); }
  static V sigmoid(V x) { return RMBPO_ISA::sigmoid(x); }

  // `count` numbers of a row, as floats
  static V get(const float* row, long column, long count) { return load(row + column, count); }
  static void put(float* row, long column, V x, long count) { store(row + column, x, count); }

  // One step of the inner dimension along the rows of a matrix: `count` columns.
  static V step_of_rows(const float* row, const float*, long count) { return load(row, count); }
  // VL steps of it along one row, `count` of whose numbers are there.
  static V steps_of_row(const float* row, long count) { return load(row, smaller(VL, count)); }
};

struct Bf16 {
  static constexpr long STEP = 2;
#if defined(RMBPO_TILES)
  static constexpr bool TILED = true;
  static constexpr long PANEL_VECTORS = 2;
#else
  static constexpr bool TILED = false;
  static constexpr long PANEL_VECTORS = 3;
#endif
  typedef Half Number;

  static V multiply_add(V sum, V a, V b) {
#if defined(__AVX512BF16__)
    return (V)_mm512_dpbf16_ps((__m512)sum, (__m512bh)a, (__m512bh)b);
#else
    const int upper = (int)0xffff0000;
    sum += (V)((I)a & upper) * (V)((I)b & upper);
    return sum + (V)((I)a << 16) * (V)((I)b << 16);
#endif
  }
  static V one() { return (V)(0x3f803f80 - I{}); }

  // To 1e-4, a thirtieth of what rounding to bf16 does. 2^f: a least-squares cubic on [-1/2, 1/2].
  static V sigmoid(V x) {
#if defined(__AVX512F__)
    const V power = x * -1.44269504f;
    const V whole = (V)_mm512_maskz_roundscale_ps(0xffff, (__m512)power, _MM_FROUND_TO_NEAREST_INT);
    const V f = power - whole;
    V p = fill(0.055088684f);
    p = p * f + 0.242604051f;
    p = p * f + 0.693276242f;
    p = p * f + 0.999928940f;
    const V decay = (V)_mm512_maskz_scalef_ps(0xffff, (__m512)p, (__m512)whole);
    return (V)_mm512_maskz_rcp14_ps(0xffff, (__m512)(1.0f + decay));
#else
    return RMBPO_ISA::sigmoid(x);
#endif
  }

  static V get(const float* row, long column, long count) {
    const Half* halves = reinterpret_cast<const Half*>(row);
    return (V)(widen(load_halves(halves + column, count)) << 16);
  }
  // An odd count writes one number more, which must be zero: it completes the last pair.
  static void put(float* row, long column, V x, long count) {
    store_halves(reinterpret_cast<Half*>(row) + column, round_to_halves(x), (count + 1) / 2 * 2);
  }

  // row and next: of float32 or of bf16 numbers; next is null behind the last row
  static V step_of_rows(const float* row, const float* next, long count) {
    return pair(round_to_halves(load(row, count)),
                next ? round_to_halves(load(next, count)) : Halves{});
  }
  static V step_of_rows(const Half* row, const Half* next, long count) {
    return pair(load_halves(row, count), next ? load_halves(next, count) : Halves{});
  }
  static V steps_of_row(const float* row, long count) {
    const V first = load(row, smaller(VL, count));
    const V second = count > VL ? load(row + VL, smaller(VL, count - VL)) : V{};
#if defined(__AVX512BF16__)
    return (V)_mm512_cvtne2ps_pbh((__m512)second, (__m512)first);
#else
    Halves both[2] = {round_to_halves(first), round_to_halves(second)};
    V steps;
    std::memcpy(&steps, both, sizeof steps);
    return steps;
#endif
  }

 private:
  static V pair(Halves even, Halves odd) { return (V)(widen(even) | (widen(odd) << 16)); }
};

// Steps that `count` numbers take.
template <typename F>
constexpr long numbered_steps(long count) {
  return (count + F::STEP - 1) / F::STEP;
}

// The same with the zeros that fill the last tile.
template <typename F>
constexpr long steps(long count) {
  const long numbered = numbered_steps<F>(count);
  return F::TILED ? (numbered + VL - 1) / VL * VL : numbered;
}

// Zeros behind the numbers of each row [columns], where tiles read on.
template <typename F>
void fill_rows(float* to, long rows, long columns) {
  if constexpr (F::TILED) {
    const long first = numbered_steps<F>(columns), stride = steps<F>(columns);
    for (long i = 0; i < rows && first < stride; ++i)
      store(to + i * stride + first, V{}, stride - first);
  }
}

}  // namespace rmbpo::RMBPO_ISA
