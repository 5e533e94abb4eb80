// RadosCluster: the node's client of one Ceph cluster, shared by all stores of the same user.
//
// A client has a dozen threads, a connection to each OSD and the cluster's maps; one is enough for a node.
#pragma once

#include <cstdint>
#include <memory>
#include <mutex>
#include <rados/librados.hpp>
#include <string>

#include "base/status.h"

namespace cached::origin {

class RadosCluster {
 public:
  struct Identity {
    std::string conf_file;
    std::string user;                 // without "client."
    std::string keyring;              // empty: where ceph.conf says
    uint32_t attempt_timeout_s = 15;  // of one operation at an OSD or a monitor
    auto operator<=>(const Identity&) const = default;
  };
  // The client of that identity, which exists while somebody holds it. Connects to nothing.
  static std::shared_ptr<RadosCluster> acquire(const Identity& identity);
  // Blocks while librados ends its threads. Not from one of its callbacks; close all IoCtx before.
  ~RadosCluster() = default;
  RadosCluster(const RadosCluster&) = delete;
  RadosCluster& operator=(const RadosCluster&) = delete;

  // Connects, unless that was done. Blocks, a few seconds if no monitor answers. The error is one line that
  // says what is missing: EINVAL, ENOENT, EACCES and the like for what only a person can mend, ETIMEDOUT if
  // no monitor answers. Each attempt reads configuration and keyring again. Any thread.
  Status connect();

  // Opens a pool: ENOENT if there is none of that name. Blocks. Only after connect(). The IoCtx is valid as
  // long as this object.
  Result<librados::IoCtx> open_pool(const std::string& pool, const std::string& rados_namespace);

 private:
  explicit RadosCluster(Identity identity) : identity_(std::move(identity)) {}
  Status configure(librados::Rados& rados) const;
  Status check_keyring() const;
  Status connect_error(int error) const;

  const Identity identity_;
  std::mutex mutex_;                        // guards all below; held while connecting
  std::unique_ptr<librados::Rados> rados_;  // set once connected
};

}  // namespace cached::origin
