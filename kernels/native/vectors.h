// What the operations' cpu.cpp files share: vectors of one instruction set, and exp, expm1, log1p.
//
// Every cpu.cpp is compiled once per instruction set (CMakeLists.txt), in a namespace RMBPO_ISA of
// its own. Nothing here may come from an inline function of the standard library: the linker keeps
// one copy of such a function, and it could be the one with AVX-512 in it.
#pragma once

#include <cstring>
#if defined(__AVX2__)
#include <immintrin.h>
#endif

#include "operations.h"

namespace rmbpo::RMBPO_ISA {

// RMBPO_TILES: products of bf16 numbers take AMX's tiles, or a model of them (tiles.h)
#if defined(__AVX512F__) || defined(RMBPO_TILES)
constexpr long VL = 16;       // floats per vector
constexpr long MAX_ROWS = 8;  // rows of a tile: 8 x 3 of 32 registers hold sums
#elif defined(__AVX2__)
constexpr long VL = 8;
constexpr long MAX_ROWS = 4;  // 4 x 3 of 16
#else
constexpr long VL = 4;
constexpr long MAX_ROWS = 4;
#endif

typedef float V __attribute__((vector_size(VL * 4)));
typedef int I __attribute__((vector_size(VL * 4)));
typedef float Unaligned __attribute__((vector_size(VL * 4), aligned(4), may_alias));

inline long smaller(long a, long b) { return a < b ? a : b; }
inline long larger(long a, long b) { return a > b ? a : b; }

inline V fill(float value) { return value - V{}; }  // + would turn -0 into 0: an instruction
inline V load(const float* from) { return *reinterpret_cast<const Unaligned*>(from); }
inline void store(float* to, V value) { *reinterpret_cast<Unaligned*>(to) = value; }

// The first `count` <= VL floats; the rest is zero and is not read.
inline V load(const float* from, long count) {
  if (count == VL) return load(from);
#if defined(__AVX512F__)
  return (V)_mm512_maskz_loadu_ps((__mmask16)((1u << count) - 1), from);
#else
  V value{};
  std::memcpy(&value, from, count * sizeof(float));
  return value;
#endif
}

inline void store(float* to, V value, long count) {
  if (count == VL) return store(to, value);
#if defined(__AVX512F__)
  _mm512_mask_storeu_ps(to, (__mmask16)((1u << count) - 1), (__m512)value);
#else
  std::memcpy(to, &value, count * sizeof(float));
#endif
}

inline float sum(V value, long count) {
  float total = 0;
  for (long i = 0; i < count; ++i) total += value[i];
  return total;
}

// Comparisons with NaN are false, and max and min return their second operand then, so NaN comes
// through all of these. (maskz: GCC 12 warns about the plain forms, whose source is undefined.)
#if defined(__AVX512F__)
inline V at_least(V x, float low) {
  return (V)_mm512_maskz_max_ps(0xffff, (__m512)fill(low), (__m512)x);
}
inline V at_most(V x, float high) {
  return (V)_mm512_maskz_min_ps(0xffff, (__m512)fill(high), (__m512)x);
}
#else
inline V at_least(V x, float low) { return x < low ? fill(low) : x; }
inline V at_most(V x, float high) { return x > high ? fill(high) : x; }
#endif
inline V relu(V x) { return at_least(x, 0.0f); }
inline V magnitude(V x) { return (V)((I)x & 0x7fffffff); }

// x = n ln 2 + rest, |rest| <= ln 2 / 2. Adding 1.5 * 2^23 rounds to an integer in the low bits; a
// NaN gives some n and a NaN rest.
struct Split {
  I n;
  V whole, rest;  // n as a float; x - n ln 2
};

inline Split split(V x) {
  const V magic = fill(12582912.0f);
  const V shifted = x * 1.44269504f + magic;
  const V n = shifted - magic;
  const V rest = (x - n * 0.693359375f) - n * -2.12194440e-4f;
  return {(I)shifted - (I)magic, n, rest};
}

// exp(rest) - 1; coefficients: Cephes, expf.
inline V expm1_near_zero(V rest) {
  V p = fill(1.9875691500e-4f);
  p = p * rest + 1.3981999507e-3f;
  p = p * rest + 8.3334519073e-3f;
  p = p * rest + 4.1665795894e-2f;
  p = p * rest + 1.6666665459e-1f;
  p = p * rest + 5.0000001201e-1f;
  return (p * rest) * rest + rest;
}

inline V power_of_two(I n) { return (V)((n + 127) << 23); }

// x * 2^n; the result may be denormal, zero or infinite.
inline V scale(V x, const Split& s) {
#if defined(__AVX512F__)
  return (V)_mm512_maskz_scalef_ps(0xffff, (__m512)x, (__m512)s.whole);
#else
  const I half = s.n >> 1;
  return x * power_of_two(half) * power_of_two(s.n - half);
#endif
}

inline V exp(V x) {
  const Split s = split(at_least(at_most(x, 89.0f), -104.0f));
  return scale(expm1_near_zero(s.rest) + 1.0f, s);
}

// exact to some units in the last place near zero too; exp(x) - 1 isn't
inline V expm1(V x) {
  const Split s = split(at_least(at_most(x, 89.0f), -20.0f));
  const I half = s.n >> 1;
  const V first = power_of_two(half), second = power_of_two(s.n - half);
  const V one = power_of_two(half - s.n);  // what 1 is before the second factor
  return (expm1_near_zero(s.rest) * first + (first - one)) * second;
}

// log(1 + x) for x in [0, 1]: 2 atanh(x / (2 + x)), whose argument is at most 1/3.
inline V log1p_of_fraction(V x) {
  const V s = x / (2.0f + x), square = s * s;
  V p = fill(2.0f / 15);
  p = p * square + 2.0f / 13;
  p = p * square + 2.0f / 11;
  p = p * square + 2.0f / 9;
  p = p * square + 2.0f / 7;
  p = p * square + 2.0f / 5;
  p = p * square + 2.0f / 3;
  return (p * square) * s + 2.0f * s;
}

inline V softplus(V x) { return relu(x) + log1p_of_fraction(exp(-magnitude(x))); }

// 1 / x of a finite, normal x. A division takes as long as an exp.
inline V reciprocal(V x) {
#if defined(__AVX512F__)
  const V guess = (V)_mm512_maskz_rcp14_ps(0xffff, (__m512)x);
  return guess + guess * (1.0f - x * guess);
#else
  return 1.0f / x;
#endif
}

// 1.6e-38 at least, which keeps 1 + exp(-x) finite.
inline V sigmoid(V x) {
  const Split s = split(at_most(at_least(-x, -104.0f), 87.0f));
  return reciprocal(1.0f + scale(expm1_near_zero(s.rest) + 1.0f, s));
}

inline V tanh(V x) {
  const V fall = expm1(-2.0f * magnitude(x));  // in (-1, 0]
  const V size = -fall / (2.0f + fall);
  return x < 0.0f ? -size : size;
}

// Transposes VL x VL numbers: at each stage, blocks of HALF columns change places between rows that
// are HALF apart. Unrolled, so that the rows stay in registers.
template <long HALF = 1>
inline __attribute__((always_inline)) void transpose(V (&rows)[VL]) {
  I low, high;  // which of the 2 VL numbers of two rows go to the first, and to the second
#pragma GCC unroll 16
  for (long c = 0; c < VL; ++c) {
    low[c] = (int)((c & HALF) ? VL + c - HALF : c);
    high[c] = (int)((c & HALF) ? VL + c : c + HALF);
  }
#pragma GCC unroll 16
  for (long r = 0; r < VL; ++r) {
    if (r & HALF) continue;
    const V a = rows[r], b = rows[r + HALF];
    rows[r] = __builtin_shuffle(a, b, low);
    rows[r + HALF] = __builtin_shuffle(a, b, high);
  }
  if constexpr (2 * HALF < VL) transpose<2 * HALF>(rows);
}

// Where `part` of `parts` begins, of `count` things dealt out evenly.
inline long share(long count, long part, long parts) { return count * part / parts; }

}  // namespace rmbpo::RMBPO_ISA
