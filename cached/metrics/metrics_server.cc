// The exporter: see metrics_server.h.
#include "cached/metrics/metrics_server.h"

#include <prometheus/collectable.h>
#include <prometheus/exposer.h>

#include <exception>

namespace cached::metrics {
namespace {

constexpr size_t kThreads = 2;

}  // namespace

class MetricsServer::Adapter : public prometheus::Collectable {
 public:
  explicit Adapter(Sources sources) : collector_(std::move(sources)) {}
  std::vector<prometheus::MetricFamily> Collect() const override { return collector_.collect(); }
  Collector& collector() { return collector_; }

 private:
  Collector collector_;
};

Result<std::unique_ptr<MetricsServer>> MetricsServer::create(const std::string& address, Sources sources) {
  std::unique_ptr<MetricsServer> server(new MetricsServer);
  server->adapter_ = std::make_shared<Adapter>(std::move(sources));
  try {
    server->exposer_ = std::make_unique<prometheus::Exposer>(address, kThreads);
  } catch (const std::exception&) {  // it says no more than that it failed
    return Status(EADDRINUSE, "key `metrics.listen`: cannot listen on " + address +
                                  "; is the port in use, and the address this machine's?");
  }
  server->exposer_->RegisterCollectable(server->adapter_);
  return server;
}

MetricsServer::~MetricsServer() = default;

void MetricsServer::reconfigure(std::vector<volume::Volume*> volumes, unsigned max_sessions) {
  adapter_->collector().reconfigure(std::move(volumes), max_sessions);
}

}  // namespace cached::metrics
