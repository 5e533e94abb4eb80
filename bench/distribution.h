// Distribution: which block a random job takes: all alike, or some much more often than others.
//
// zipf:THETA  Item i of n has the weight 1 / i^THETA. Drawn as fio does, by the approximation of Gray et al.,
// "Quickly
//             Generating Billion-Record Synthetic Databases", SIGMOD 1994, section 3.2: with zeta(n) = sum of
//             1 / i^THETA, eta = (1 - (2/n)^(1-THETA)) / (1 - zeta(2)/zeta(n)) and u uniform in [0, 1): 1 if
//             u zeta(n) < 1; 2 if u zeta(n) < 1 + 0.5^THETA; else 1 + n (eta u - eta + 1)^(1/(1-THETA)).
// pareto:H    (n - 1) u^(log H / log(1-H)): the self-similar distribution of the same paper, section 3.1. A
// share H of the
//             blocks gets 1 - H of the accesses, again and again within that share.
//
// What is drawn is a rank; IoSource spreads the ranks over the file, so that hot blocks are not neighbours.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>

#include "base/status.h"

namespace cached::bench {

struct DistributionKind {
  enum class Shape { kUniform, kZipf, kPareto };
  Shape shape = Shape::kUniform;
  double parameter = 0;
};

// fio's random_distribution: random, zipf[:theta] (1.1; above 0 and not 1) or pareto[:h] (0.2; between 0 and
// 1).
Result<DistributionKind> parse_distribution(std::string_view text);

class Distribution {
 public:
  // Over `count` items, at least one.
  Distribution(DistributionKind kind, uint64_t count);
  // The rank, from 0 (the most frequent), that belongs to `uniform` in [0, 1). Any thread.
  uint64_t rank(double uniform) const;

 private:
  uint64_t zipf_rank(double uniform) const;

  const DistributionKind kind_;
  const uint64_t count_;
  double zeta_count_ = 0;    // zipf
  double eta_ = 0;           // zipf
  double pareto_power_ = 0;  // pareto
};

}  // namespace cached::bench
