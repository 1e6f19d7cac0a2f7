// Exponential and logarithm that compilers turn into vector code by themselves (libm's they do not),
// and the choice of the widest vectors that this machine has.
#pragma once

#include <cmath>
#include <cstdint>
#include <cstring>

// A function's body compiled again for these vectors; the best that the machine has is taken when the
// program runs, so that one build is fast everywhere.
#if defined(__x86_64__) && defined(__GNUC__)
#define DYNAMIC_ATSS_X86 1
#define FOR_AVX2 __attribute__((target("avx2,fma")))
#if defined(__clang__)
#define FOR_AVX512 __attribute__((target("avx512f,avx512bw,avx512dq,avx512vl,fma")))
#else
#define FOR_AVX512 \
  __attribute__((target("avx512f,avx512bw,avx512dq,avx512vl,fma,prefer-vector-width=512")))
#endif
#endif

#define ALWAYS_INLINE inline __attribute__((always_inline))

namespace dynamic_atss {

template <typename Function>
Function widest(Function plain, Function avx2, Function avx512) {
#ifdef DYNAMIC_ATSS_X86
  if (__builtin_cpu_supports("avx512bw") && __builtin_cpu_supports("avx512dq") &&
      __builtin_cpu_supports("avx512vl")) {
    return avx512;
  }
  if (__builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma")) return avx2;
#endif
  return plain;
}

template <typename T>
struct CpuMath {  // double, for gradcheck
  static ALWAYS_INLINE T exp(T x) { return std::exp(x); }
  static ALWAYS_INLINE T log1p_of_ratio(T e, T) { return std::log1p(e); }
};

template <>
struct CpuMath<float> {
  // e^x for x <= 0, to 1.5 units in the last place; 1e-38 below -87. NaN stays NaN.
  static ALWAYS_INLINE float exp(float x) {
    const float bounded = x < -87.0f ? -87.0f : x;
    // Adding 1.5 * 2^23 rounds to whole numbers, in the low bits of the sum.
    const float magic = 12582912.0f;
    const float shifted = bounded * 1.44269504f + magic;
    const float n = shifted - magic;
    // What remains beyond n ln 2, with ln 2 in two parts: within [-0.35, 0.35].
    const float r = (bounded - n * 0.693359375f) + n * 2.12194440e-4f;
    float series = 1.0f / 5040;
    series = series * r + 1.0f / 720;
    series = series * r + 1.0f / 120;
    series = series * r + 1.0f / 24;
    series = series * r + 1.0f / 6;
    series = series * r + 0.5f;
    series = series * r + 1.0f;
    series = series * r + 1.0f;
    uint32_t bits;
    std::memcpy(&bits, &shifted, sizeof(bits));
    bits = (bits + 127u) << 23;  // 2^n; the magic number's own bits are shifted out
    float power;
    std::memcpy(&power, &bits, sizeof(power));
    return series * power;
  }

  // log(1 + e) for e in [0, 1] by s = e / (2 + e): 2 artanh(s), whose series ends below 1e-8.
  static ALWAYS_INLINE float log1p_of_ratio(float, float s) {
    const float z = s * s;
    float series = 1.0f / 15;
    series = series * z + 1.0f / 13;
    series = series * z + 1.0f / 11;
    series = series * z + 1.0f / 9;
    series = series * z + 1.0f / 7;
    series = series * z + 1.0f / 5;
    series = series * z + 1.0f / 3;
    series = series * z + 1.0f;
    return 2.0f * s * series;
  }
};

}  // namespace dynamic_atss
