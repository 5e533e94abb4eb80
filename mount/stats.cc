#include "mount/stats.h"

#include <fmt/format.h>

#include "base/metric_table.h"

namespace cached::mount {

namespace {

// The metrics of the client library's counters, in the order of the counters.
constexpr Metric kCounterMetrics[] = {
    Metric::kMountReads,         Metric::kMountReadBytes,      Metric::kMountHits,
    Metric::kMountHitBytes,      Metric::kMountMisses,         Metric::kMountMissBytes,
    Metric::kMountLookups,       Metric::kMountLookupHits,     Metric::kMountAttributeReads,
    Metric::kMountAttributeHits, Metric::kMountDaemonRequests, Metric::kMountDaemonWakeups,
    Metric::kMountReattachments};
static_assert(std::size(kCounterMetrics) == static_cast<unsigned>(shm::Counter::kCount));

constexpr const char* kOperationNames[] = {"lookup", "forget",   "getattr",   "readlink",      "open",
                                           "read",   "release",  "opendir",   "readdir",       "readdirplus",
                                           "statfs", "getxattr", "listxattr", "refused_change"};
static_assert(std::size(kOperationNames) == kOperations);

std::string escape_label(std::string_view text) {
  std::string escaped;
  for (const char c : text) {
    if (c == '\\' || c == '"') escaped += '\\';
    if (c == '\n') {
      escaped += "\\n";
    } else {
      escaped += c;
    }
  }
  return escaped;
}

class Writer {
 public:
  explicit Writer(std::string_view volume) : volume_(escape_label(volume)) {}
  void header(Metric metric) {
    const MetricInfo& info = info_of(metric);
    text_ +=
        fmt::format("# HELP {0} {2}\n# TYPE {0} {1}\n", info.name, cached::name_of(info.type), info.help);
  }
  void value(Metric metric, uint64_t value) {
    text_ += fmt::format("{}{{volume=\"{}\"}} {}\n", info_of(metric).name, volume_, value);
  }
  void value(Metric metric, std::string_view operation, uint64_t value) {
    text_ += fmt::format("{}{{volume=\"{}\",operation=\"{}\"}} {}\n", info_of(metric).name, volume_,
                         operation, value);
  }
  void add(Metric metric, uint64_t number) {
    header(metric);
    value(metric, number);
  }
  std::string take() { return std::move(text_); }

 private:
  std::string volume_;
  std::string text_;
};

}  // namespace

const char* name_of(Operation operation) {
  return kOperationNames[static_cast<unsigned>(operation)];
}

std::string render_stats(const StatsSnapshot& snapshot) {
  Writer writer(snapshot.volume);
  writer.add(Metric::kMountAttached, snapshot.attached ? 1 : 0);
  writer.add(Metric::kMountInodes, snapshot.inodes);
  writer.add(Metric::kMountWorkers, snapshot.workers);
  writer.add(Metric::kMountPageInvalidations, snapshot.page_invalidations);
  writer.add(Metric::kMountRefusedReads, snapshot.refused_reads);
  writer.header(Metric::kMountKernelRequests);
  for (unsigned i = 0; i < kOperations; ++i) {
    writer.value(Metric::kMountKernelRequests, kOperationNames[i], snapshot.operations[i]);
  }
  for (unsigned i = 0; i < std::size(kCounterMetrics); ++i)
    writer.add(kCounterMetrics[i], snapshot.counters[i]);
  writer.add(Metric::kMountAccessLogDropped, snapshot.access_log_dropped);
  return writer.take();
}

}  // namespace cached::mount
