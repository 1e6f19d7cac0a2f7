// Chooses the widest vectors of this machine. Compiles a function several times and selects the
// best version when the program runs, so that one build is fast everywhere.
#pragma once

#include <cstdlib>
#include <cstring>

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

#define INLINED __attribute__((always_inline))  // for lambdas
#define ALWAYS_INLINE inline INLINED

namespace dynamic_atss {

#ifdef DYNAMIC_ATSS_X86
template <typename Run, typename... Arguments>
auto run_plain(const Run& run, Arguments... arguments) {
  return run(arguments...);
}
template <typename Run, typename... Arguments>
FOR_AVX2 auto run_avx2(const Run& run, Arguments... arguments) {
  return run(arguments...);
}
template <typename Run, typename... Arguments>
FOR_AVX512 auto run_avx512(const Run& run, Arguments... arguments) {
  return run(arguments...);
}

// Tests whether DYNAMIC_ATSS_CPU_CAPABILITY allows these vectors. With it one can run the code of
// other processors. ops/library.py checks its value.
inline bool allowed(const char* vectors) {
  const char* limit = std::getenv("DYNAMIC_ATSS_CPU_CAPABILITY");
  if (limit == nullptr || *limit == 0 || std::strcmp(limit, "avx512") == 0) return true;
  return std::strcmp(limit, vectors) == 0;
}

template <typename Function>
Function widest(Function plain, Function avx2, Function avx512) {
  if (allowed("avx512") && __builtin_cpu_supports("avx512bw") &&
      __builtin_cpu_supports("avx512dq") && __builtin_cpu_supports("avx512vl")) {
    return avx512;
  }
  if (allowed("avx2") && __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma")) {
    return avx2;
  }
  return plain;
}
#endif

// Calls a lambda that is compiled for the widest vectors. The lambda and all functions that it
// calls must be INLINED or ALWAYS_INLINE. Otherwise they are compiled for plain vectors and slow it
// down.
template <typename Run, typename... Arguments>
auto with_widest(const Run& run, Arguments... arguments) {
#ifdef DYNAMIC_ATSS_X86
  static const auto best = widest(run_plain<Run, Arguments...>, run_avx2<Run, Arguments...>,
                                  run_avx512<Run, Arguments...>);
  return best(run, arguments...);
#else
  return run(arguments...);
#endif
}

}  // namespace dynamic_atss
