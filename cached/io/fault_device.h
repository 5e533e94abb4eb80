// FaultDevice: a Device that does to another one what bad disks do, for tests.
//
// Each operation suffers one fault or none. What decides, in this order: the switches (all reads fail, all
// writes fail, everything hangs), the script ("the next 3 reads of this range are short"), then chance at the
// given odds. Chance is seeded and each operation takes the same number of draws, so the same seed and the
// same order of operations give the same faults with the same details. The order is that in which operations
// begin; tests that replay begin them in one thread.
//
// Any thread. Faults act on blocking operations too (a hang blocks the thread, a short write is an error).
// Stop a reactor only when its slow operations have ended; hung ones end with it.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <mutex>
#include <random>
#include <string>
#include <vector>

#include "cached/io/device.h"

namespace cached::io {

enum class Fault : uint8_t {
  kNone,
  kIoError,       // -EIO; nothing is moved
  kTimeout,       // -ETIMEDOUT; nothing is moved
  kShort,         // fewer bytes are moved, in whole blocks, and that is the result; 0 for a single block
  kTorn,          // writes: a prefix of the blocks lands, the result is -EIO
  kTornSilently,  // writes: a prefix of the blocks lands, the result is success
  kMisdirected,   // the transfer happens at another offset, the result is success
  kBitFlip,       // one bit differs in what was read, or in what lands; the writer's memory is not touched
  kSlow,          // happens as asked, Options::slow_ms later
  kHang,          // does nothing and does not end: see release() and carry_out()
};
inline constexpr size_t kFaultKinds = 10;

enum class FaultTarget : uint8_t { kRead, kWrite, kSync };
inline constexpr size_t kFaultTargets = 3;

// The probability of each kind of fault, by its number; their sum is at most 1. Odds of torn faults count for
// writes only; syncs meet scripts and switches only.
struct FaultOdds {
  std::array<double, kFaultKinds> of{};
  double& operator[](Fault fault) { return of[static_cast<size_t>(fault)]; }
};

class FaultDevice : public Device {
 public:
  struct Options {
    uint64_t seed = 1;
    FaultOdds reads{};
    FaultOdds writes{};
    uint64_t slow_ms = 50;  // on the reactor's clock; for blocking operations on the machine's
  };

  FaultDevice(std::unique_ptr<Device> inner, const Options& options);
  // Hung operations end with -ECANCELED (their tasks may outlive the device; others may not).
  ~FaultDevice() override;

  // The next `count` operations of kind `target` that touch [begin_bytes, end_bytes) suffer `fault`; of
  // scripts that fit, the oldest counts. A sync touches all ranges.
  struct Script {
    FaultTarget target = FaultTarget::kRead;
    Fault fault = Fault::kIoError;
    uint64_t count = 1;
    uint64_t begin_bytes = 0;
    uint64_t end_bytes = UINT64_MAX;
  };
  void script(const Script& script);

  // Switches, until recover(): reads fail with -EIO; writes and syncs fail with -EIO; everything hangs.
  void fail_reads();
  void fail_writes();
  void hang_all();
  // Healthy from now on: switches off, scripts forgotten, odds 0; what hangs is carried out.
  void recover();
  // Ends all that hangs now, with -ECANCELED; nothing is moved.
  void release();
  // Lets all that hangs now happen late, as asked: what bytes a hung read brings arrive now.
  void carry_out();

  // How many operations began, and how many suffered a fault, since the device was made.
  uint64_t begun(FaultTarget target) const;
  uint64_t injected(FaultTarget target, Fault fault) const;
  // Operations that hang now.
  uint64_t hanging() const;

  const std::string& path() const override;
  DeviceGeometry geometry() const override;
  Task<int> readv(Reactor& reactor, std::span<const iovec> iovecs, uint64_t offset_bytes) override;
  Task<int> writev(Reactor& reactor, std::span<const iovec> iovecs, uint64_t offset_bytes) override;
  Task<int> sync(Reactor& reactor) override;
  Result<size_t> read_blocking(void* buffer, size_t length_bytes, uint64_t offset_bytes) override;
  Status write_blocking(const void* buffer, size_t length_bytes, uint64_t offset_bytes) override;
  Status sync_blocking() override;
  void attach(Reactor& reactor) override;
  void detach(Reactor& reactor) override;

 private:
  class Gate;
  struct Plan;
  struct Transfer;
  Plan begin(FaultTarget target, uint64_t offset_bytes, uint64_t length_bytes);
  Fault choose(FaultTarget target, uint64_t offset_bytes, uint64_t length_bytes, double chance);
  Fault scripted(FaultTarget target, uint64_t offset_bytes, uint64_t length_bytes);
  Fault by_chance(FaultTarget target, double chance) const;
  bool possible(Fault fault, FaultTarget target, uint64_t length_bytes) const;
  static Task<int> suffer(Reactor& reactor, Plan plan, uint64_t slow_ms);
  static int suffer_blocking(const Plan& plan, uint64_t slow_ms);
  Transfer altered(const Plan& plan, FaultTarget target, std::span<const iovec> iovecs,
                   uint64_t offset_bytes) const;
  uint64_t other_offset(uint64_t offset_bytes, uint64_t length_bytes, uint64_t detail) const;
  void open_gate(bool carried_out);

  const std::unique_ptr<Device> inner_;
  const uint64_t slow_ms_;
  mutable std::mutex mutex_;  // guards all below
  std::mt19937_64 random_;
  FaultOdds reads_;
  FaultOdds writes_;
  std::vector<Script> scripts_;
  bool reads_fail_ = false;
  bool writes_fail_ = false;
  bool all_hang_ = false;
  std::array<uint64_t, kFaultTargets> begun_{};
  std::array<std::array<uint64_t, kFaultKinds>, kFaultTargets> injected_{};
  std::shared_ptr<Gate> gate_;  // what hung operations wait at; a new one after each opening
};

}  // namespace cached::io
