// MetricsServer: answers GET /metrics for Prometheus on the address of `metrics.listen`.
//
// prometheus-cpp's exporter with two threads of its own; nothing of it runs unless the address is configured.
// No authentication: what is shown (names of volumes and mount points, figures) may be read by whoever
// reaches the address, which is why the documented one is the loopback's.
#pragma once

#include <memory>
#include <string>
#include <vector>

#include "base/status.h"
#include "cached/metrics/collector.h"

namespace prometheus {
class Exposer;
}

namespace cached::metrics {

class MetricsServer {
 public:
  // Listens on `address` ("127.0.0.1:9477", "[::1]:9477"). EADDRINUSE if it cannot; the message names the
  // key.
  static Result<std::unique_ptr<MetricsServer>> create(const std::string& address, Sources sources);
  ~MetricsServer();
  // See Collector.
  void reconfigure(std::vector<volume::Volume*> volumes, unsigned max_sessions);

 private:
  class Adapter;
  MetricsServer() = default;
  std::shared_ptr<Adapter> adapter_;
  std::unique_ptr<prometheus::Exposer> exposer_;
};

}  // namespace cached::metrics
