// The choice of the widest vectors that this machine has: a function's body is compiled again for
// each, and the best is taken when the program runs, so that one build is fast everywhere.
#pragma once

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

}  // namespace dynamic_atss
