// Connecting to a Ceph cluster: see rados_cluster.h.
#include "cached/origin/rados_cluster.h"

#include <unistd.h>

#include <array>
#include <cstring>
#include <map>
#include <utility>

#include "base/log.h"

namespace cached::origin {
namespace {

// How long one attempt to connect may take: whoever closes a store meanwhile waits for its end.
constexpr const char* kConnectTimeoutSeconds = "3";

}  // namespace

std::shared_ptr<RadosCluster> RadosCluster::acquire(const Identity& identity) {
  static std::mutex mutex;
  static std::map<Identity, std::weak_ptr<RadosCluster>> clusters;
  const std::lock_guard lock(mutex);
  std::weak_ptr<RadosCluster>& known = clusters[identity];
  std::shared_ptr<RadosCluster> cluster = known.lock();
  if (!cluster) {
    cluster.reset(new RadosCluster(identity));
    known = cluster;
  }
  return cluster;
}

Status RadosCluster::connect() {
  const std::lock_guard lock(mutex_);
  if (rados_) return {};
  auto rados = std::make_unique<librados::Rados>();
  CACHED_RETURN_IF_ERROR(configure(*rados));
  if (const int result = rados->connect(); result < 0) return connect_error(-result);
  rados_ = std::move(rados);
  return {};
}

Status RadosCluster::configure(librados::Rados& rados) const {
  const std::string name = "client." + identity_.user;
  if (const int result = rados.init2(name.c_str(), "ceph", 0); result < 0)
    return Status::from_errno(-result, "cannot make a Ceph client `" + name + "`");
  if (const int result = rados.conf_read_file(identity_.conf_file.c_str()); result < 0)
    return Status::from_errno(-result, "cannot read the Ceph configuration " + identity_.conf_file);
  const std::string seconds = std::to_string(identity_.attempt_timeout_s);
  const std::array<std::pair<const char*, const char*>, 7> settings{{
      {"rados_osd_op_timeout", seconds.c_str()},
      {"rados_mon_op_timeout", seconds.c_str()},
      {"client_mount_timeout", kConnectTimeoutSeconds},
      // At these limits librados would block the thread that begins an operation, a reactor's. What is in
      // flight is bounded by those who begin operations.
      {"objecter_inflight_ops", "0"},
      {"objecter_inflight_op_bytes", "0"},
      {"log_to_stderr", "false"},  // what matters comes back as an error, which we log
      {"err_to_stderr", "false"},
  }};
  for (const auto& [option, value] : settings) {
    if (const int result = rados.conf_set(option, value); result < 0)
      return Status::from_errno(-result, std::string("librados refuses ") + option + "=" + value);
  }
  if (!identity_.keyring.empty() && rados.conf_set("keyring", identity_.keyring.c_str()) < 0)
    return Status(EINVAL, "librados refuses the keyring's path " + identity_.keyring);
  return check_keyring();
}

// librados says the same for a keyring that is missing as for one that is wrong.
Status RadosCluster::check_keyring() const {
  if (identity_.keyring.empty() || ::access(identity_.keyring.c_str(), R_OK) == 0) return {};
  return Status::from_errno("cannot read the keyring " + identity_.keyring + " of client." + identity_.user);
}

Status RadosCluster::connect_error(int error) const {
  const std::string keyring =
      identity_.keyring.empty() ? "the keyring that " + identity_.conf_file + " names" : identity_.keyring;
  switch (error) {
    case ETIMEDOUT:
      return Status(
          error, "no monitor of " + identity_.conf_file + " answers: is the cluster running and reachable?");
    case EACCES:
    case EPERM:
    case EOPNOTSUPP:
      return Status(EACCES, "the monitors refuse client." + identity_.user + " with the key in " + keyring +
                                ", or it has none: compare it with `ceph auth get client." + identity_.user +
                                "`");
    case ENOENT:
      return Status(error, identity_.conf_file + " names no monitor, or there is no key of client." +
                               identity_.user + " in " + keyring);
    default:
      return Status::from_errno(error, "cannot connect to the cluster of " + identity_.conf_file);
  }
}

Result<librados::IoCtx> RadosCluster::open_pool(const std::string& pool, const std::string& rados_namespace) {
  const std::lock_guard lock(mutex_);
  librados::IoCtx context;
  const int result = rados_->ioctx_create(pool.c_str(), context);
  if (result == -ENOENT)
    return Status(ENOENT,
                  "pool `" + pool + "` does not exist: make it (ceph osd pool create) or correct the name");
  if (result < 0) return Status::from_errno(-result, "cannot look up pool `" + pool + "`");
  context.set_namespace(rados_namespace);
  return context;
}

}  // namespace cached::origin
