// The watchdog: see watchdog.h.
#include "cached/server/watchdog.h"

#include <pthread.h>
#include <systemd/sd-daemon.h>

#include <algorithm>
#include <chrono>

#include "base/log.h"

namespace cached::server {
namespace {

constexpr uint64_t kBeatsPerInterval = 3;

}  // namespace

Watchdog::Watchdog(std::vector<io::Reactor*> reactors) {
  uint64_t limit_us = 0;
  if (::sd_watchdog_enabled(0, &limit_us) <= 0) return;
  for (io::Reactor* const reactor : reactors) {
    beats_.push_back({reactor, std::make_shared<std::atomic<bool>>(true)});
  }
  thread_ = std::thread([this, limit_us] { run(std::max<uint64_t>(1, limit_us / kBeatsPerInterval)); });
}

Watchdog::~Watchdog() {
  {
    const std::lock_guard lock(mutex_);
    ending_ = true;
  }
  wake_.notify_all();
  if (thread_.joinable()) thread_.join();
}

void Watchdog::run(uint64_t interval_us) {
  ::pthread_setname_np(::pthread_self(), "watchdog");
  std::unique_lock lock(mutex_);
  send_beats();
  while (!wake_.wait_for(lock, std::chrono::microseconds(interval_us), [this] { return ending_; })) {
    if (!all_answered()) continue;
    ::sd_notify(0, "WATCHDOG=1");
    send_beats();
  }
}

void Watchdog::send_beats() {
  for (const Beat& beat : beats_) {
    beat.answered->store(false, std::memory_order_relaxed);
    beat.reactor->post([answered = beat.answered] { answered->store(true, std::memory_order_relaxed); });
  }
}

bool Watchdog::all_answered() const {
  bool all = true;
  for (const Beat& beat : beats_) {
    if (beat.answered->load(std::memory_order_relaxed)) continue;
    log_error("reactor {} does not turn; systemd will end the daemon unless it goes on",
              beat.reactor->name());
    all = false;
  }
  return all;
}

}  // namespace cached::server
