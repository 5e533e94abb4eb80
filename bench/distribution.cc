// Distribution: see distribution.h.
#include "bench/distribution.h"

#include <algorithm>
#include <charconv>
#include <cmath>

namespace cached::bench {
namespace {

constexpr double kDefaultTheta = 1.1;
constexpr double kDefaultParetoShare = 0.2;
constexpr uint64_t kExactTerms = 10000;

// Sum of 1 / i^theta for i from 1 to count: the first terms one by one, the rest by the integral from half a
// step before the first of them to half a step behind the last (midpoint rule; the error is below 1e-9 of the
// sum).
double zeta(uint64_t count, double theta) {
  const uint64_t exact = std::min(count, kExactTerms);
  double sum = 0;
  for (uint64_t i = exact; i >= 1; --i) sum += std::pow(static_cast<double>(i), -theta);
  if (count == exact) return sum;
  const double from = static_cast<double>(exact) + 0.5;
  const double to = static_cast<double>(count) + 0.5;
  return sum + (std::pow(to, 1 - theta) - std::pow(from, 1 - theta)) / (1 - theta);
}

}  // namespace

Result<DistributionKind> parse_distribution(std::string_view text) {
  using Shape = DistributionKind::Shape;
  const size_t colon = text.find(':');
  const std::string_view name = text.substr(0, colon);
  const bool has_parameter = colon != std::string_view::npos;
  if (name == "random" && !has_parameter) return DistributionKind{};
  if (name != "zipf" && name != "pareto")
    return Status(EINVAL, "'" + std::string(text) + "' is not one of random, zipf:theta, pareto:h");
  DistributionKind kind{name == "zipf" ? Shape::kZipf : Shape::kPareto,
                        name == "zipf" ? kDefaultTheta : kDefaultParetoShare};
  if (has_parameter) {
    const char* const end = text.data() + text.size();
    const auto [rest, error] = std::from_chars(text.data() + colon + 1, end, kind.parameter);
    if (error != std::errc() || rest != end) kind.parameter = 0;
  }
  if (kind.shape == Shape::kZipf && (!(kind.parameter > 0) || kind.parameter == 1))
    return Status(EINVAL, "'" + std::string(text) + "': theta of zipf is a number above 0 and not 1");
  if (kind.shape == Shape::kPareto && !(kind.parameter > 0 && kind.parameter < 1))
    return Status(EINVAL, "'" + std::string(text) + "': h of pareto is a number between 0 and 1");
  return kind;
}

Distribution::Distribution(DistributionKind kind, uint64_t count) : kind_(kind), count_(count) {
  const double theta = kind.parameter;
  if (kind.shape == DistributionKind::Shape::kZipf) {
    zeta_count_ = zeta(count, theta);
    eta_ = (1 - std::pow(2.0 / static_cast<double>(count), 1 - theta)) / (1 - zeta(2, theta) / zeta_count_);
  } else if (kind.shape == DistributionKind::Shape::kPareto) {
    pareto_power_ = std::log(theta) / std::log(1 - theta);
  }
}

uint64_t Distribution::zipf_rank(double uniform) const {
  const double theta = kind_.parameter;
  const double scaled = uniform * zeta_count_;
  if (scaled < 1 || count_ == 1) return 0;
  if (scaled < 1 + std::pow(0.5, theta) || count_ == 2) return 1;
  return static_cast<uint64_t>(static_cast<double>(count_) *
                               std::pow(eta_ * uniform - eta_ + 1, 1 / (1 - theta)));
}

uint64_t Distribution::rank(double uniform) const {
  uint64_t rank = 0;
  switch (kind_.shape) {
    case DistributionKind::Shape::kUniform:
      rank = static_cast<uint64_t>(uniform * static_cast<double>(count_));
      break;
    case DistributionKind::Shape::kZipf:
      rank = zipf_rank(uniform);
      break;
    case DistributionKind::Shape::kPareto:
      rank = static_cast<uint64_t>(static_cast<double>(count_ - 1) * std::pow(uniform, pareto_power_));
      break;
  }
  return std::min(rank, count_ - 1);
}

}  // namespace cached::bench
