// What both reports need: see report.h.
#include "bench/report.h"

#include <algorithm>
#include <ctime>

#include "base/clock.h"

namespace cached::bench {

std::string program_version() {
  return std::string("cached-bench-") + CACHED_VERSION;
}

double per_second(uint64_t count, const DirectionStats& stats) {
  const double seconds = static_cast<double>(stats.runtime_ns()) / static_cast<double>(kNanosecondsPerSecond);
  return count == 0 || seconds == 0 ? 0 : static_cast<double>(count) / seconds;
}

uint64_t runtime_ms(const DirectionStats& stats) {
  const uint64_t runtime = stats.runtime_ns() / kNanosecondsPerMillisecond;
  return stats.ios == 0 ? 0 : std::max<uint64_t>(runtime, 1);
}

double cpu_percent(uint64_t cpu_ns, const JobStats& stats) {
  return 100.0 * static_cast<double>(cpu_ns) /
         static_cast<double>(std::max<uint64_t>(stats.thread_runtime_ns, 1));
}

std::string local_time(int64_t realtime_ns) {
  const std::time_t seconds = realtime_ns / static_cast<int64_t>(kNanosecondsPerSecond);
  std::tm parts{};
  localtime_r(&seconds, &parts);
  char text[64];
  return std::string(text, std::strftime(text, sizeof text, "%a %b %e %H:%M:%S %Y", &parts));
}

}  // namespace cached::bench
