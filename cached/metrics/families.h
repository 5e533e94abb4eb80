// Families: metrics of the table (base/metric_table.h) as prometheus-cpp's families, filled sample by sample.
#pragma once

#include <prometheus/metric_family.h>

#include <initializer_list>
#include <map>
#include <string>
#include <vector>

#include "base/histogram.h"
#include "base/metric_table.h"

namespace cached::metrics {

// Values of a metric's labels, in the table's order.
using LabelValues = std::vector<std::string>;

class Families {
 public:
  // Adds a sample of a counter or gauge; `labels` has one value for each label of the table.
  void add(Metric metric, const LabelValues& labels, double value);
  void add(Metric metric, double value) { add(metric, {}, value); }
  // Adds a histogram of durations that were recorded in microseconds.
  void add_histogram(Metric metric, const LabelValues& labels, const Histogram& durations_us);
  // All that was added, in the order of the table.
  std::vector<prometheus::MetricFamily> take();

 private:
  prometheus::ClientMetric& new_sample(Metric metric, const LabelValues& labels);
  std::map<Metric, prometheus::MetricFamily> families_;
};

}  // namespace cached::metrics
