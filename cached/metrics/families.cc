// Filling families: see families.h.
#include "cached/metrics/families.h"

#include <cstdlib>
#include <limits>
#include <string_view>
#include <utility>

#include "base/log.h"

namespace cached::metrics {
namespace {

// Buckets end at 16 us, 32 us, ... 33.6 s.
constexpr unsigned kFirstBoundBits = 4;
constexpr unsigned kLastBoundBits = 25;

prometheus::MetricType type_of(const MetricInfo& info) {
  switch (info.type) {
    case MetricType::kCounter:
      return prometheus::MetricType::Counter;
    case MetricType::kGauge:
      return prometheus::MetricType::Gauge;
    case MetricType::kHistogram:
      return prometheus::MetricType::Histogram;
  }
  return prometheus::MetricType::Untyped;
}

std::vector<prometheus::ClientMetric::Label> labels_of(const MetricInfo& info, const LabelValues& values) {
  std::vector<prometheus::ClientMetric::Label> labels;
  std::string_view names = info.labels;
  for (const std::string& value : values) {
    const size_t comma = std::min(names.find(','), names.size());
    if (comma == 0) std::abort();  // more values than the table has labels
    labels.push_back({std::string(names.substr(0, comma)), value});
    names.remove_prefix(std::min(comma + 1, names.size()));
  }
  if (!names.empty()) std::abort();  // fewer
  return labels;
}

}  // namespace

prometheus::ClientMetric& Families::new_sample(Metric metric, const LabelValues& labels) {
  const MetricInfo& info = info_of(metric);
  prometheus::MetricFamily& family = families_[metric];
  if (family.name.empty()) {
    family.name = info.name;
    family.help = info.help;
    family.type = type_of(info);
  }
  family.metric.emplace_back();
  family.metric.back().label = labels_of(info, labels);
  return family.metric.back();
}

void Families::add(Metric metric, const LabelValues& labels, double value) {
  prometheus::ClientMetric& sample = new_sample(metric, labels);
  if (info_of(metric).type == MetricType::kCounter) {
    sample.counter.value = value;
  } else {
    sample.gauge.value = value;
  }
}

void Families::add_histogram(Metric metric, const LabelValues& labels, const Histogram& durations_us) {
  prometheus::ClientMetric::Histogram& histogram = new_sample(metric, labels).histogram;
  histogram.sample_count = durations_us.count();
  histogram.sample_sum = static_cast<double>(durations_us.sum()) / 1e6;
  for (unsigned bits = kFirstBoundBits; bits <= kLastBoundBits; ++bits) {
    const uint64_t bound_us = uint64_t{1} << bits;
    histogram.bucket.push_back({durations_us.count_below(bound_us), static_cast<double>(bound_us) / 1e6});
  }
  histogram.bucket.push_back({durations_us.count(), std::numeric_limits<double>::infinity()});
}

std::vector<prometheus::MetricFamily> Families::take() {
  std::vector<prometheus::MetricFamily> all;
  for (auto& [metric, family] : families_) all.push_back(std::move(family));
  families_.clear();
  return all;
}

}  // namespace cached::metrics
