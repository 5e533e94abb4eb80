// What the daemon's counters say about a pass: see workload_daemon.h.
#include "bench/workload_daemon.h"

#include <algorithm>

#include "cached/ctl/control_client.h"

namespace cached::bench {
namespace {

double share_of(uint64_t part, uint64_t whole) {
  return static_cast<double>(std::min(part, whole)) / static_cast<double>(whole);
}

}  // namespace

Result<CacheCounters> read_cache_counters(const std::string& control_socket) {
  const ctl::ControlReply reply = ctl::ask_daemon(control_socket, "status");
  if (reply.outcome != ctl::ControlReply::Outcome::kAnswered) return Status(EIO, "--socket: " + reply.error);
  const nlohmann::json clients = reply.result.value("clients", nlohmann::json::object());
  const nlohmann::json origin = reply.result.value("origin", nlohmann::json::object());
  return CacheCounters{.memory_bytes = clients.value("hit_bytes", uint64_t{0}),
                       .missed_bytes = clients.value("miss_bytes", uint64_t{0}),
                       .origin_bytes = origin.value("read_bytes", uint64_t{0})};
}

std::optional<CacheUse> cache_use_between(const CacheCounters& before, const CacheCounters& after) {
  // A session that ended between two readings takes counters along that the first one saw only in part.
  const auto grown = [](uint64_t from, uint64_t to) { return to - std::min(from, to); };
  const uint64_t memory_bytes = grown(before.memory_bytes, after.memory_bytes);
  const uint64_t asked_bytes = memory_bytes + grown(before.missed_bytes, after.missed_bytes);
  if (asked_bytes == 0) return std::nullopt;
  const uint64_t origin_bytes = grown(before.origin_bytes, after.origin_bytes);
  return CacheUse{.hit_ratio = 1 - share_of(origin_bytes, asked_bytes),
                  .memory_hit_ratio = share_of(memory_bytes, asked_bytes),
                  .asked_bytes = asked_bytes,
                  .origin_bytes = origin_bytes};
}

}  // namespace cached::bench
