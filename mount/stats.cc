#include "mount/stats.h"

#include <spdlog/fmt/fmt.h>

namespace cached::mount {

namespace {

struct CounterText {
  shm::Counter counter;
  const char* name;
  const char* help;
};

constexpr CounterText kCounterTexts[] = {
    {shm::Counter::kReads, "reads_total", "Reads asked of the client library."},
    {shm::Counter::kReadBytes, "read_bytes_total", "Bytes asked of the client library."},
    {shm::Counter::kHits, "hits_total", "Pieces found in shared memory."},
    {shm::Counter::kHitBytes, "hit_bytes_total", "Bytes found in shared memory."},
    {shm::Counter::kMisses, "misses_total", "Pieces asked of the daemon."},
    {shm::Counter::kMissBytes, "miss_bytes_total", "Bytes asked of the daemon."},
    {shm::Counter::kLookups, "lookups_total", "Names looked up."},
    {shm::Counter::kLookupHits, "lookup_hits_total", "Names answered from the name table."},
    {shm::Counter::kAttributeReads, "attribute_reads_total", "Inodes whose attributes were asked for."},
    {shm::Counter::kAttributeHits, "attribute_hits_total", "Attributes answered from the name table."},
    {shm::Counter::kRequests, "daemon_requests_total", "Requests that waited for the daemon."},
    {shm::Counter::kWakeups, "daemon_wakeups_total", "Wake-ups sent to the daemon."},
    {shm::Counter::kReattachments, "reattachments_total", "Times the session was attached again."},
};
static_assert(std::size(kCounterTexts) == static_cast<unsigned>(shm::Counter::kCount));

constexpr const char* kOperationNames[] = {"lookup",   "forget",    "getattr",       "readlink",    "open",
                                           "read",     "release",   "readdir",       "readdirplus", "statfs",
                                           "getxattr", "listxattr", "refused_change"};
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
  void header(std::string_view name, std::string_view type, std::string_view help) {
    text_ += fmt::format("# HELP cached_mount_{0} {2}\n# TYPE cached_mount_{0} {1}\n", name, type, help);
  }
  void value(std::string_view name, uint64_t value) {
    text_ += fmt::format("cached_mount_{}{{volume=\"{}\"}} {}\n", name, volume_, value);
  }
  void value(std::string_view name, std::string_view operation, uint64_t value) {
    text_ += fmt::format("cached_mount_{}{{volume=\"{}\",operation=\"{}\"}} {}\n", name, volume_, operation,
                         value);
  }
  void metric(std::string_view name, std::string_view type, std::string_view help, uint64_t number) {
    header(name, type, help);
    value(name, number);
  }
  std::string take() { return std::move(text_); }

 private:
  std::string volume_;
  std::string text_;
};

}  // namespace

std::string render_stats(const StatsSnapshot& snapshot) {
  Writer writer(snapshot.volume);
  writer.metric("attached", "gauge", "1 while the daemon answers, 0 while it is away.",
                snapshot.attached ? 1 : 0);
  writer.metric("inodes", "gauge", "Inodes that the kernel holds.", snapshot.inodes);
  writer.metric("workers", "gauge", "Threads that serve requests.", snapshot.workers);
  writer.metric("page_invalidations_total", "counter",
                "Times a changed file's pages were taken from the kernel.", snapshot.page_invalidations);
  writer.metric("refused_reads_total", "counter",
                "READs refused because the file changed in the middle of a read.", snapshot.refused_reads);
  writer.header("requests_total", "counter", "Requests of the kernel by operation.");
  for (unsigned i = 0; i < kOperations; ++i) {
    writer.value("requests_total", kOperationNames[i], snapshot.operations[i]);
  }
  for (const CounterText& text : kCounterTexts) {
    writer.metric(text.name, "counter", text.help, snapshot.counters[static_cast<unsigned>(text.counter)]);
  }
  return writer.take();
}

}  // namespace cached::mount
