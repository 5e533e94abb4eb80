// What commands on data sets share: finding a volume's settings, connecting, and showing progress.
#pragma once

#include <condition_variable>
#include <functional>
#include <memory>
#include <mutex>
#include <string>
#include <thread>
#include <vector>

#include "base/status.h"
#include "cached/config/config.h"
#include "cached/origin/object_store.h"

namespace cached::ctl {

// A data set and the store that it is in.
struct DatasetAccess {
  std::shared_ptr<origin::ObjectStore> store;
  std::string dataset;  // NAME of "rados:POOL/NAME"
  std::string place;    // "rados:POOL/NAME"
};

// Connects to the store of `volume`: the name of a [[volume]] of the configuration, or "rados:POOL/NAME",
// which takes the settings of the configured volume of that source, else of one in the same pool, else
// defaults. EINVAL for what the configuration says wrong or does not say; otherwise what the cluster says.
Result<DatasetAccess> open_dataset(const std::string& config_file, const std::string& volume);

// Connects to each store that a rados: volume of the configuration is in.
Result<std::vector<DatasetAccess>> open_all_stores(const std::string& config_file);

// How far something is.
struct Advance {
  uint64_t items = 0;
  uint64_t bytes = 0;
  uint64_t total_items = 0;  // 0: not known
  uint64_t total_bytes = 0;
  bool total_known = false;
};
// "import: 1200 of 50000 files, 1.2 GiB of 4.0 GiB, 230 MiB/s, 12 s left". `seconds` since the start.
std::string format_advance(const std::string& what, const Advance& advance, double seconds);

// Shows progress on stderr while it exists: one line that is rewritten on a terminal, else one every ten
// seconds.
class ProgressDisplay {
 public:
  ProgressDisplay(std::string what, std::function<Advance()> ask);
  // Ends the line.
  ~ProgressDisplay();
  ProgressDisplay(const ProgressDisplay&) = delete;
  ProgressDisplay& operator=(const ProgressDisplay&) = delete;

 private:
  void show();

  const std::string what_;
  const std::function<Advance()> ask_;
  std::mutex mutex_;  // guards ended_
  std::condition_variable changed_;
  bool ended_ = false;
  std::thread thread_;
};

// SIGINT and SIGTERM call what then() was given, once, on a thread of its own, instead of ending the process.
// Made before anything that starts threads, whose signals they would otherwise be.
class StopOnSignal {
 public:
  StopOnSignal();
  ~StopOnSignal();
  StopOnSignal(const StopOnSignal&) = delete;
  StopOnSignal& operator=(const StopOnSignal&) = delete;
  // From now on `stop` is what a signal calls; at once if there was one. It must stay callable until then()
  // is called with nothing.
  void then(std::function<void()> stop);

 private:
  std::mutex mutex_;  // guards all below
  std::function<void()> stop_;
  bool signalled_ = false;
  std::thread thread_;
};

}  // namespace cached::ctl
