// Computes exponential and logarithm without calls and branches. Compilers turn this into vector
// code, unlike libm's functions, and a GPU needs half the instructions. The formulas are the same
// on every device. The last digit depends on which multiplications are contracted with additions.
#pragma once

#include <cmath>
#include <cstdint>
#include <cstring>

#ifdef __CUDACC__
#define HOST_DEVICE __host__ __device__ __forceinline__
#else
#define HOST_DEVICE inline __attribute__((always_inline))
#endif

namespace dynamic_atss {

template <typename T>
struct Math {  // double, for gradcheck
  static HOST_DEVICE T exp(T x) { return ::exp(x); }
  static HOST_DEVICE T log1p_of_ratio(T e, T) { return ::log1p(e); }
  static HOST_DEVICE T log(T x) { return ::log(x); }
  static HOST_DEVICE T inverse(T x) { return T(1) / x; }
};

template <>
struct Math<float> {
  // Gives e^x for x <= 0, to 1.5 units in the last place. Below -87 it is 1e-38. NaN stays NaN.
  static HOST_DEVICE float exp(float x) {
    const float bounded = x < -87.0f ? -87.0f : x;
    // Adding 1.5 * 2^23 rounds to an integer, which is in the low bits of the sum.
    const float magic = 12582912.0f;
    const float shifted = bounded * 1.44269504f + magic;
    const float n = shifted - magic;
    // The remainder x - n ln 2, with ln 2 in two parts, lies in [-0.35, 0.35].
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
    memcpy(&bits, &shifted, sizeof(bits));
    bits = (bits + 127u) << 23;  // 2^n; the bits of the magic number are shifted out
    float power;
    memcpy(&power, &bits, sizeof(power));
    return series * power;
  }

  // Gives log(1 + e) = 2 artanh(s) for e in [0, 1] and s = e / (2 + e). The series is exact to
  // 1e-8.
  static HOST_DEVICE float log1p_of_ratio(float, float s) {
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

  // Gives log x for normal x > 0, by x = 2^n m with m in [0.7, 1.42] and m = (1 + s) / (1 - s).
  static HOST_DEVICE float log(float x) {
    uint32_t bits;
    memcpy(&bits, &x, sizeof(bits));
    const int32_t n = static_cast<int32_t>(bits - 0x3f3504f3u) >> 23;
    bits -= static_cast<uint32_t>(n) << 23;
    float m;
    memcpy(&m, &bits, sizeof(m));
    return static_cast<float>(n) * 0.69314718f + log1p_of_ratio(m - 1.0f, (m - 1.0f) / (m + 1.0f));
  }

  // Gives 1 / x for x in [2, 6], to 1 unit in the last place.
  static HOST_DEVICE float inverse(float x) {
#ifdef __CUDA_ARCH__
    return __fdividef(1.0f, x);
#else
    return 1.0f / x;
#endif
  }
};

}  // namespace dynamic_atss
