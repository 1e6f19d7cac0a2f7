// Fits mixtures of two Gaussians; see dynamic_atss/assigners/reference/mixture.py.
#include <algorithm>
#include <cmath>
#include <limits>

#include "assign.h"

namespace dynamic_atss {
namespace {

constexpr int64_t kGrain = 4;  // rows per task, about 50 us
constexpr int64_t kIterations = 100;
constexpr double kTolerance = 1e-3, kMinVariance = 1e-6;
constexpr double kHalfLogTwoPi = 0.918938533204672741780329736406;

struct Gaussian {
  double mean = 0, root = 1;         // root: square root of the precision
  double log_scale = std::log(0.5);  // log(weight * root)

  // Gives log(weight * density).
  double log_density(double x) const {
    const double z = (x - mean) * root;
    return -0.5 * z * z - kHalfLogTwoPi + log_scale;
  }
  void set(double weight, double center, double variance) {
    mean = center;
    root = 1 / std::sqrt(variance);
    log_scale = std::log(root) + std::log(weight);
  }
};

class Mixture {
 public:
  // Fits `count` increasing values. Starts with the smallest and the largest as the means.
  Mixture(const double* values, int64_t count)
      : values_(values), count_(count), low_share_(count), high_share_(count) {
    low_.mean = values[0];
    high_.mean = values[count - 1];
    double bound = -std::numeric_limits<double>::infinity();
    for (int64_t i = 0; i < kIterations; ++i) {
      const double before = bound;
      bound = expect();
      fit(low_, low_share_);
      fit(high_, high_share_);
      if (std::abs(bound - before) < kTolerance) break;
    }
  }

  // Counts the values up to the likeliest one of the low component. Counts all values if none
  // belongs to the low component.
  int64_t up_to_likeliest() const {
    int64_t found = count_;
    double most = -std::numeric_limits<double>::infinity();
    for (int64_t i = 0; i < count_; ++i) {
      const double low = low_.log_density(values_[i]), high = high_.log_density(values_[i]);
      const double likelihood = low + std::log1p(std::exp(high - low));
      if (low >= high && likelihood > most) {
        most = likelihood;
        found = i + 1;
      }
    }
    return found;
  }

 private:
  // Computes each component's shares of the values. Returns the mean log likelihood.
  double expect() {
    double sum = 0;
    for (int64_t i = 0; i < count_; ++i) {
      const double low = low_.log_density(values_[i]), high = high_.log_density(values_[i]);
      const double ratio = std::exp(-std::abs(high - low)), large = 1 / (1 + ratio);
      low_share_[i] = low >= high ? large : ratio * large;
      high_share_[i] = low >= high ? ratio * large : large;
      sum += std::max(low, high) + std::log1p(ratio);
    }
    return sum / static_cast<double>(count_);
  }

  void fit(Gaussian& gaussian, const std::vector<double>& share) const {
    double size = 10 * std::numeric_limits<double>::epsilon(), sum = 0, squares = 0;
    for (int64_t i = 0; i < count_; ++i) {
      size += share[i];
      sum += share[i] * values_[i];
    }
    const double mean = sum / size;
    for (int64_t i = 0; i < count_; ++i) {
      squares += share[i] * (values_[i] - mean) * (values_[i] - mean);
    }
    gaussian.set(size / static_cast<double>(count_), mean, squares / size + kMinVariance);
  }

  const double* values_;
  int64_t count_;
  std::vector<double> low_share_, high_share_;
  Gaussian low_, high_;
};

int64_t size_of_low(const double* values, int64_t count) {
  const bool finite =
      std::all_of(values, values + count, [](double x) { return std::isfinite(x); });
  if (count < 2 || !finite) return count;
  return Mixture(values, count).up_to_likeliest();
}

Tensor low_component(const Tensor& values, const Tensor& count) {
  require(values.dim() == 2, "values has shape " + shape_of(values) + ", not (rows, columns)");
  const int64_t rows = values.size(0), columns = values.size(1);
  require_rows(count, rows, ScalarType::Long, "count");
  const Values<double> value(values, "values");
  const Values<int64_t> size(count, "count");
  const auto valid = [=](int64_t x) { return x >= 0 && x <= columns; };
  require(std::all_of(size.data(), size.data() + rows, valid),
          "count must be from 0 to the number of columns");
  Tensor result = torch::stable::new_empty(count, {rows});
  int64_t* const out = mutable_values<int64_t>(result);
  torch::stable::parallel_for(0, rows, kGrain, [&](int64_t begin, int64_t end) {
    for (int64_t r = begin; r < end; ++r) out[r] = size_of_low(&value[r * columns], size[r]);
  });
  return result;
}

}  // namespace

STABLE_TORCH_LIBRARY_IMPL(dynamic_atss, CPU, m) {
  m.impl("low_component", TORCH_BOX(&low_component));
}

}  // namespace dynamic_atss
