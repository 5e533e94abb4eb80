// Watchdog: tells systemd that the daemon lives as long as every reactor turns.
//
// Runs only where systemd asks for it (WatchdogSec= in the unit, WATCHDOG_USEC in the environment): then a
// thread sends each reactor a message three times in that interval, and WATCHDOG=1 to systemd only if all
// have run the one before. A reactor that hangs is so noticed within the interval, whatever the others do;
// systemd ends the daemon and starts another. The log says which one it was.
#pragma once

#include <atomic>
#include <condition_variable>
#include <memory>
#include <mutex>
#include <thread>
#include <vector>

#include "cached/io/reactor.h"

namespace cached::server {

class Watchdog {
 public:
  // Starts the thread if systemd asks for it. The reactors run, and outlive this.
  explicit Watchdog(std::vector<io::Reactor*> reactors);
  ~Watchdog();
  Watchdog(const Watchdog&) = delete;
  Watchdog& operator=(const Watchdog&) = delete;

 private:
  struct Beat {
    io::Reactor* reactor = nullptr;
    std::shared_ptr<std::atomic<bool>> answered;  // shared: a message may be run after our end
  };
  void run(uint64_t interval_us);
  void send_beats();
  bool all_answered() const;

  std::vector<Beat> beats_;
  std::mutex mutex_;  // guards ending_
  std::condition_variable wake_;
  bool ending_ = false;
  std::thread thread_;
};

}  // namespace cached::server
