// Computes the focal losses and their derivatives at one logit, for every device.
#pragma once

#include <cmath>
#include <cstdint>

#include "series.h"

namespace dynamic_atss {

constexpr int64_t kIgnore = -2;  // as in dynamic_atss/types.py

enum Kind : int64_t { kSigmoid = 0, kQuality = 1, kVarifocal = 2 };  // as in ops/focal_terms.py

template <typename T>
struct Focal {
  int64_t kind;
  T alpha;
  T gamma;

  // Gives the factor of all terms except those of a positive's class.
  HOST_DEVICE T negative_weight() const {
    return kind == kSigmoid ? T(1) - alpha : kind == kQuality ? T(1) : alpha;
  }
};

template <typename T>
struct Term {
  T loss;
  T gradient;  // with respect to the logit
};

// Sigmoid and its logarithms, computed from one exponential that cannot overflow.
template <typename T>
struct Sigmoid {
  T p;                     // sigmoid(x)
  T complement;            // 1 - p, without cancellation
  T log_p;                 // log p
  T minus_log_complement;  // -log(1 - p) = softplus(x)
};

template <typename T>
HOST_DEVICE Sigmoid<T> sigmoid(T x) {
  const T e = Math<T>::exp(x < T(0) ? x : -x);
  // Uses one division for 1 / (1 + e) and for e / (2 + e), which log1p needs.
  const T inverse = Math<T>::inverse((T(1) + e) * (T(2) + e));
  const T large = inverse * (T(2) + e);
  const T small = e * large;
  const T log1p = Math<T>::log1p_of_ratio(e, e * inverse * (T(1) + e));
  const bool negative = x < T(0);
  return {negative ? small : large, negative ? large : small, (negative ? x : T(0)) - log1p,
          (negative ? T(0) : x) + log1p};
}

// Bounds a factor where infinity would be multiplied by 0. So an infinite logit has the gradient of
// a large one, and a loss of 0 or infinity.
template <typename T>
HOST_DEVICE T at_most_large(T x) {
  return x > T(1e30) ? T(1e30) : x;  // NaN stays NaN
}

// Computes weight * p^gamma * softplus(x), the term of a class that the prior should not have.
template <typename T, bool kSquare>
HOST_DEVICE Term<T> negative_term(T x, T weight, T gamma) {
  const Sigmoid<T> s = sigmoid<T>(x);
  const T power = kSquare ? s.p * s.p : Math<T>::exp(-gamma * at_most_large(-s.log_p));
  const T weighted = weight * power;
  const T slope = gamma * s.complement * at_most_large(s.minus_log_complement);
  return {weighted * s.minus_log_complement, weighted * (slope + s.p)};
}

// Computes BCE(p, quality). softplus(x) - quality * x would lose digits. Leaves out parts of weight
// 0, which may be infinite.
template <typename T>
HOST_DEVICE T cross_entropy(const Sigmoid<T>& s, T quality) {
  const T wrong = quality == T(1) ? T(0) : (T(1) - quality) * s.minus_log_complement;
  return quality == T(0) ? wrong : wrong - quality * s.log_p;
}

// |quality - p|^gamma BCE(p, quality)
template <typename T>
HOST_DEVICE Term<T> quality_term(T x, T quality, T gamma) {
  const Sigmoid<T> s = sigmoid<T>(x);
  const T entropy = cross_entropy(s, quality);
  const T difference = s.p - quality;
  const T size = difference < T(0) ? -difference : difference;
  const T power = std::pow(size, gamma);
  const T slope = size > T(0) ? gamma * power / difference : T(0);
  return {power * entropy,
          slope * s.p * s.complement * at_most_large(entropy) + power * difference};
}

// quality * BCE(p, quality)
template <typename T>
HOST_DEVICE Term<T> weighted_term(T x, T quality) {
  const Sigmoid<T> s = sigmoid<T>(x);
  return {quality * cross_entropy(s, quality), quality * (s.p - quality)};
}

// Computes the term of a positive's class.
template <typename T, bool kSquare>
HOST_DEVICE Term<T> positive_term(const Focal<T>& focal, T x, T quality) {
  if (focal.kind == kQuality) return quality_term<T>(x, quality, focal.gamma);
  if (focal.kind == kVarifocal && quality > T(0)) return weighted_term<T>(x, quality);
  if (focal.kind == kVarifocal) return negative_term<T, kSquare>(x, focal.alpha, focal.gamma);
  // alpha (1 - p)^gamma softplus(-x) is the negative term of -x.
  const Term<T> mirrored = negative_term<T, kSquare>(-x, focal.alpha, focal.gamma);
  return {mirrored.loss, -mirrored.gradient};
}

}  // namespace dynamic_atss
