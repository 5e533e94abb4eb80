// Distributions: how often each block is drawn.
#include "bench/distribution.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>
#include <random>
#include <vector>

namespace cached::bench {
namespace {

using ::testing::HasSubstr;
using Shape = DistributionKind::Shape;

constexpr unsigned kDraws = 400000;

// The share of the draws that each of `count` ranks gets.
std::vector<double> shares_of(DistributionKind kind, uint64_t count) {
  const Distribution distribution(kind, count);
  std::mt19937_64 random(7);
  std::uniform_real_distribution<double> uniform(0, 1);
  std::vector<double> shares(count);
  for (unsigned i = 0; i < kDraws; ++i) shares.at(distribution.rank(uniform(random))) += 1.0 / kDraws;
  return shares;
}

double sum_of_first(const std::vector<double>& shares, size_t count) {
  double sum = 0;
  for (size_t i = 0; i < count; ++i) sum += shares[i];
  return sum;
}

TEST(DistributionTest, UniformGivesAllTheSame) {
  for (double share : shares_of({}, 100)) EXPECT_NEAR(share, 0.01, 0.001);
}

TEST(DistributionTest, ZipfFollowsItsWeights) {
  constexpr uint64_t kCount = 1000;
  for (double theta : {0.5, 0.9, 1.2}) {
    double zeta = 0;
    for (uint64_t i = 1; i <= kCount; ++i) zeta += std::pow(static_cast<double>(i), -theta);
    const std::vector<double> shares = shares_of({Shape::kZipf, theta}, kCount);
    // Exact for the first two; the others follow an approximation.
    EXPECT_NEAR(shares[0], 1 / zeta, 0.003) << theta;
    EXPECT_NEAR(shares[1], std::pow(2, -theta) / zeta, 0.003) << theta;
    double wanted = 0;
    for (uint64_t i = 1; i <= 100; ++i) wanted += std::pow(static_cast<double>(i), -theta) / zeta;
    EXPECT_NEAR(sum_of_first(shares, 100), wanted, 0.04) << theta;
  }
}

TEST(DistributionTest, ZipfOfManyIsSetUpQuicklyAndStaysInside) {
  const Distribution distribution({Shape::kZipf, 1.1}, uint64_t{1} << 40);
  EXPECT_EQ(distribution.rank(0), 0U);
  EXPECT_LT(distribution.rank(std::nextafter(1.0, 0.0)), uint64_t{1} << 40);
}

TEST(DistributionTest, ParetoGivesAShareTheRest) {
  constexpr uint64_t kCount = 10000;
  for (double h : {0.1, 0.2, 0.4}) {
    const std::vector<double> shares = shares_of({Shape::kPareto, h}, kCount);
    const auto hot = static_cast<size_t>(h * kCount);
    EXPECT_NEAR(sum_of_first(shares, hot), 1 - h, 0.01) << h;
    EXPECT_NEAR(sum_of_first(shares, static_cast<size_t>(h * h * kCount)), (1 - h) * (1 - h), 0.01) << h;
  }
}

TEST(DistributionTest, OneOrTwoItemsAreEnough) {
  for (const DistributionKind kind :
       {DistributionKind{Shape::kZipf, 1.1}, DistributionKind{Shape::kZipf, 0.5},
        DistributionKind{Shape::kPareto, 0.2}, DistributionKind{}}) {
    for (uint64_t count : {1U, 2U, 3U}) {
      for (double uniform : {0.0, 0.4, 0.999999}) EXPECT_LT(Distribution(kind, count).rank(uniform), count);
    }
  }
}

TEST(DistributionTest, ParsesFiosNames) {
  EXPECT_EQ(parse_distribution("random")->shape, Shape::kUniform);
  EXPECT_EQ(parse_distribution("zipf:1.2")->parameter, 1.2);
  EXPECT_EQ(parse_distribution("zipf")->parameter, 1.1);
  EXPECT_EQ(parse_distribution("pareto:0.3")->parameter, 0.3);
  EXPECT_EQ(parse_distribution("pareto")->parameter, 0.2);
  for (const char* text : {"zipf:1", "zipf:0", "zipf:x", "pareto:1", "pareto:", "random:1", "normal:50", ""})
    EXPECT_EQ(parse_distribution(text).error_number(), EINVAL) << text;
  EXPECT_THAT(parse_distribution("normal:50").status().message(), HasSubstr("random, zipf:theta, pareto:h"));
}

}  // namespace
}  // namespace cached::bench
