// What bad disks do: see fault_device.h.
//
// An operation begins by drawing its Plan. suffer() then is the part that moves no bytes: errors, waiting.
// What is left happens on the inner device, as asked or altered: a Transfer is what the inner device is told
// instead, and what the caller is told afterwards.
//
// A hung operation waits in the kernel, in a poll of an eventfd that nobody signals: so it is cancelled when
// its reactor stops, like a real one, and needs nothing of the device when it is let go.
#include "cached/io/fault_device.h"

#include <poll.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <chrono>
#include <climits>
#include <cmath>
#include <cstring>
#include <new>
#include <thread>
#include <utility>

#include "base/unique_fd.h"

namespace cached::io {
namespace {

constexpr size_t kCopyAlignment = 4096;  // enough for any device

size_t number(Fault fault) {
  return static_cast<size_t>(fault);
}
size_t number(FaultTarget target) {
  return static_cast<size_t>(target);
}

// The first `length_bytes` of `iovecs`.
std::vector<iovec> prefix_of(std::span<const iovec> iovecs, uint64_t length_bytes) {
  std::vector<iovec> prefix;
  for (const iovec& piece : iovecs) {
    const size_t taken_bytes = std::min<uint64_t>(piece.iov_len, length_bytes);
    if (taken_bytes == 0) break;
    prefix.push_back(iovec{piece.iov_base, taken_bytes});
    length_bytes -= taken_bytes;
  }
  return prefix;
}

// Flips one of the first `length_bytes` * 8 bits of `iovecs`.
void flip_bit(std::span<const iovec> iovecs, uint64_t length_bytes, uint64_t detail) {
  if (length_bytes == 0) return;
  const uint64_t bit = detail % (length_bytes * CHAR_BIT);
  uint64_t byte = bit / CHAR_BIT;
  for (const iovec& piece : iovecs) {
    if (byte < piece.iov_len) {
      static_cast<uint8_t*>(piece.iov_base)[byte] ^= static_cast<uint8_t>(1U << (bit % CHAR_BIT));
      return;
    }
    byte -= piece.iov_len;
  }
}

struct AlignedFree {
  void operator()(std::byte* bytes) const { ::operator delete[](bytes, std::align_val_t(kCopyAlignment)); }
};
using AlignedBytes = std::unique_ptr<std::byte[], AlignedFree>;

AlignedBytes copy_of(std::span<const iovec> iovecs) {
  AlignedBytes copy(new (std::align_val_t(kCopyAlignment)) std::byte[length_of(iovecs)]);
  size_t done_bytes = 0;
  for (const iovec& piece : iovecs) {
    std::memcpy(copy.get() + done_bytes, piece.iov_base, piece.iov_len);
    done_bytes += piece.iov_len;
  }
  return copy;
}

}  // namespace

// What hung operations wait at. Opened once; who waits is told whether to happen or to be cancelled.
class FaultDevice::Gate {
 public:
  int fd() const { return fd_.get(); }
  void open(bool carried_out) {
    carried_out_ = carried_out;
    const uint64_t one = 1;
    [[maybe_unused]] const ssize_t written = ::write(fd_.get(), &one, sizeof one);
  }
  bool carried_out() const { return carried_out_; }
  std::atomic<uint64_t> waiting = 0;

 private:
  const UniqueFd fd_{::eventfd(0, EFD_CLOEXEC)};
  std::atomic<bool> carried_out_ = false;
};

struct FaultDevice::Plan {
  Fault fault = Fault::kNone;
  uint64_t detail = 0;         // random; says which bit, which offset, how many blocks
  std::shared_ptr<Gate> gate;  // if it hangs
};

struct FaultDevice::Transfer {
  std::vector<iovec> iovecs;  // may be empty: nothing is moved
  uint64_t offset_bytes = 0;
  AlignedBytes copy;  // what is written instead of the caller's memory
  // The caller is told this, if it is not 0, where the inner device succeeded.
  int result = 0;
};

FaultDevice::FaultDevice(std::unique_ptr<Device> inner, const Options& options)
    : inner_(std::move(inner)),
      slow_ms_(options.slow_ms),
      random_(options.seed),
      reads_(options.reads),
      writes_(options.writes),
      gate_(std::make_shared<Gate>()) {}

FaultDevice::~FaultDevice() {
  release();
}

// What the test sets.

void FaultDevice::script(const Script& script) {
  const std::lock_guard lock(mutex_);
  scripts_.push_back(script);
}

void FaultDevice::fail_reads() {
  const std::lock_guard lock(mutex_);
  reads_fail_ = true;
}

void FaultDevice::fail_writes() {
  const std::lock_guard lock(mutex_);
  writes_fail_ = true;
}

void FaultDevice::hang_all() {
  const std::lock_guard lock(mutex_);
  all_hang_ = true;
}

void FaultDevice::recover() {
  {
    const std::lock_guard lock(mutex_);
    reads_fail_ = writes_fail_ = all_hang_ = false;
    scripts_.clear();
    reads_ = writes_ = FaultOdds();
  }
  carry_out();
}

void FaultDevice::release() {
  open_gate(false);
}

void FaultDevice::carry_out() {
  open_gate(true);
}

void FaultDevice::open_gate(bool carried_out) {
  std::shared_ptr<Gate> opened = std::make_shared<Gate>();
  {
    const std::lock_guard lock(mutex_);
    opened.swap(gate_);
  }
  opened->open(carried_out);
}

uint64_t FaultDevice::begun(FaultTarget target) const {
  const std::lock_guard lock(mutex_);
  return begun_[number(target)];
}

uint64_t FaultDevice::injected(FaultTarget target, Fault fault) const {
  const std::lock_guard lock(mutex_);
  return injected_[number(target)][number(fault)];
}

uint64_t FaultDevice::hanging() const {
  const std::lock_guard lock(mutex_);
  return gate_->waiting;
}

// What an operation suffers.

FaultDevice::Plan FaultDevice::begin(FaultTarget target, uint64_t offset_bytes, uint64_t length_bytes) {
  const std::lock_guard lock(mutex_);
  ++begun_[number(target)];
  const double chance = std::ldexp(static_cast<double>(random_() >> 11), -53);  // [0, 1)
  Plan plan;
  plan.detail = random_();
  plan.fault = choose(target, offset_bytes, length_bytes, chance);
  if (!possible(plan.fault, target, length_bytes)) plan.fault = Fault::kNone;
  if (plan.fault == Fault::kNone) return plan;
  ++injected_[number(target)][number(plan.fault)];
  if (plan.fault == Fault::kHang) {
    plan.gate = gate_;
    ++gate_->waiting;
  }
  return plan;
}

Fault FaultDevice::choose(FaultTarget target, uint64_t offset_bytes, uint64_t length_bytes, double chance) {
  if (all_hang_) return Fault::kHang;
  if (target == FaultTarget::kRead ? reads_fail_ : writes_fail_) return Fault::kIoError;
  const Fault told = scripted(target, offset_bytes, length_bytes);
  return told != Fault::kNone ? told : by_chance(target, chance);
}

Fault FaultDevice::scripted(FaultTarget target, uint64_t offset_bytes, uint64_t length_bytes) {
  const auto fits = [&](const Script& script) {
    if (script.target != target || script.count == 0) return false;
    return target == FaultTarget::kSync ||
           (offset_bytes < script.end_bytes && script.begin_bytes < offset_bytes + length_bytes);
  };
  const auto script = std::find_if(scripts_.begin(), scripts_.end(), fits);
  if (script == scripts_.end()) return Fault::kNone;
  --script->count;
  return script->fault;
}

Fault FaultDevice::by_chance(FaultTarget target, double chance) const {
  if (target == FaultTarget::kSync) return Fault::kNone;
  const FaultOdds& odds = target == FaultTarget::kRead ? reads_ : writes_;
  for (size_t kind = 0; kind < kFaultKinds; ++kind) {
    if (chance < odds.of[kind]) return static_cast<Fault>(kind);
    chance -= odds.of[kind];
  }
  return Fault::kNone;
}

bool FaultDevice::possible(Fault fault, FaultTarget target, uint64_t length_bytes) const {
  switch (fault) {
    case Fault::kTorn:
    case Fault::kTornSilently:
      return target == FaultTarget::kWrite;
    case Fault::kMisdirected:
      return target != FaultTarget::kSync && length_bytes < geometry().capacity_bytes;
    case Fault::kShort:
    case Fault::kBitFlip:
      return target != FaultTarget::kSync;
    default:
      return true;
  }
}

// The part of an operation that moves no bytes: 0 if it goes on, else the result. Touches nothing of the
// device, which may be gone when a hang ends.
Task<int> FaultDevice::suffer(Reactor& reactor, Plan plan, uint64_t slow_ms) {
  if (plan.fault == Fault::kIoError || plan.fault == Fault::kTimeout) {
    const int ended = co_await reactor.nop();
    co_return ended < 0 ? ended : (plan.fault == Fault::kIoError ? -EIO : -ETIMEDOUT);
  }
  if (plan.fault == Fault::kSlow) {
    co_await reactor.sleep_until(reactor.clock().monotonic_ns() + slow_ms * kNanosecondsPerMillisecond);
  }
  if (plan.fault != Fault::kHang) co_return 0;
  const int polled = co_await reactor.poll_readable(plan.gate->fd());
  --plan.gate->waiting;
  co_return polled < 0 ? polled : (plan.gate->carried_out() ? 0 : -ECANCELED);
}

int FaultDevice::suffer_blocking(const Plan& plan, uint64_t slow_ms) {
  if (plan.fault == Fault::kIoError) return -EIO;
  if (plan.fault == Fault::kTimeout) return -ETIMEDOUT;
  if (plan.fault == Fault::kSlow) std::this_thread::sleep_for(std::chrono::milliseconds(slow_ms));
  if (plan.fault != Fault::kHang) return 0;
  pollfd waited{plan.gate->fd(), POLLIN, 0};
  while (::poll(&waited, 1, -1) < 0 && errno == EINTR) {
  }
  --plan.gate->waiting;
  return plan.gate->carried_out() ? 0 : -ECANCELED;
}

// How bytes move.

FaultDevice::Transfer FaultDevice::altered(const Plan& plan, FaultTarget target,
                                           std::span<const iovec> iovecs, uint64_t offset_bytes) const {
  const uint64_t length_bytes = length_of(iovecs);
  const uint32_t block_bytes = geometry().block_bytes;
  Transfer transfer;
  transfer.offset_bytes = offset_bytes;
  switch (plan.fault) {
    case Fault::kShort:
    case Fault::kTorn:
    case Fault::kTornSilently:
      transfer.iovecs = prefix_of(iovecs, plan.detail % (length_bytes / block_bytes) * block_bytes);
      if (plan.fault == Fault::kTorn) transfer.result = -EIO;
      if (plan.fault == Fault::kTornSilently) transfer.result = static_cast<int>(length_bytes);
      return transfer;
    case Fault::kMisdirected:
      transfer.offset_bytes = other_offset(offset_bytes, length_bytes, plan.detail);
      break;
    case Fault::kBitFlip:
      if (target == FaultTarget::kRead) break;
      transfer.copy = copy_of(iovecs);
      transfer.iovecs = {iovec{transfer.copy.get(), length_bytes}};
      flip_bit(transfer.iovecs, length_bytes, plan.detail);
      return transfer;
    default:
      break;
  }
  transfer.iovecs.assign(iovecs.begin(), iovecs.end());
  return transfer;
}

// Any whole block where the transfer fits, but its own.
uint64_t FaultDevice::other_offset(uint64_t offset_bytes, uint64_t length_bytes, uint64_t detail) const {
  const DeviceGeometry device = geometry();
  const uint64_t others = (device.capacity_bytes - length_bytes) / device.block_bytes;
  const uint64_t block = detail % others;
  return (block < offset_bytes / device.block_bytes ? block : block + 1) * device.block_bytes;
}

Task<int> FaultDevice::readv(Reactor& reactor, std::span<const iovec> iovecs, uint64_t offset_bytes) {
  if (const int refused = check_transfer(geometry(), iovecs, offset_bytes); refused != 0) co_return refused;
  const Plan plan = begin(FaultTarget::kRead, offset_bytes, length_of(iovecs));
  if (plan.fault == Fault::kNone) co_return co_await inner_->readv(reactor, iovecs, offset_bytes);
  if (const int ended = co_await suffer(reactor, plan, slow_ms_); ended < 0) co_return ended;
  const Transfer transfer = altered(plan, FaultTarget::kRead, iovecs, offset_bytes);
  if (transfer.iovecs.empty()) co_return co_await reactor.nop();
  const int result = co_await inner_->readv(reactor, transfer.iovecs, transfer.offset_bytes);
  if (plan.fault == Fault::kBitFlip && result > 0) {
    flip_bit(iovecs, static_cast<uint64_t>(result), plan.detail);
  }
  co_return result;
}

Task<int> FaultDevice::writev(Reactor& reactor, std::span<const iovec> iovecs, uint64_t offset_bytes) {
  if (const int refused = check_transfer(geometry(), iovecs, offset_bytes); refused != 0) co_return refused;
  const Plan plan = begin(FaultTarget::kWrite, offset_bytes, length_of(iovecs));
  if (plan.fault == Fault::kNone) co_return co_await inner_->writev(reactor, iovecs, offset_bytes);
  if (const int ended = co_await suffer(reactor, plan, slow_ms_); ended < 0) co_return ended;
  const Transfer transfer = altered(plan, FaultTarget::kWrite, iovecs, offset_bytes);
  int result = 0;
  if (transfer.iovecs.empty()) {
    result = co_await reactor.nop();
  } else {
    result = co_await inner_->writev(reactor, transfer.iovecs, transfer.offset_bytes);
  }
  co_return result >= 0 && transfer.result != 0 ? transfer.result : result;
}

Task<int> FaultDevice::sync(Reactor& reactor) {
  const Plan plan = begin(FaultTarget::kSync, 0, 0);
  if (const int ended = co_await suffer(reactor, plan, slow_ms_); ended < 0) co_return ended;
  co_return co_await inner_->sync(reactor);
}

Result<size_t> FaultDevice::read_blocking(void* buffer, size_t length_bytes, uint64_t offset_bytes) {
  const iovec whole{buffer, length_bytes};
  if (check_transfer(geometry(), {&whole, 1}, offset_bytes) != 0) {
    return inner_->read_blocking(buffer, length_bytes, offset_bytes);  // which refuses it in its own words
  }
  const Plan plan = begin(FaultTarget::kRead, offset_bytes, length_bytes);
  if (const int ended = suffer_blocking(plan, slow_ms_); ended < 0) {
    return Status::from_errno(-ended, "injected fault: cannot read " + path());
  }
  const Transfer transfer = altered(plan, FaultTarget::kRead, {&whole, 1}, offset_bytes);
  if (transfer.iovecs.empty()) return size_t{0};
  const iovec& told = transfer.iovecs.front();
  Result<size_t> result = inner_->read_blocking(told.iov_base, told.iov_len, transfer.offset_bytes);
  if (plan.fault == Fault::kBitFlip && result.ok()) flip_bit({&whole, 1}, result.value(), plan.detail);
  return result;
}

Status FaultDevice::write_blocking(const void* buffer, size_t length_bytes, uint64_t offset_bytes) {
  const iovec whole{const_cast<void*>(buffer), length_bytes};
  if (check_transfer(geometry(), {&whole, 1}, offset_bytes) != 0) {
    return inner_->write_blocking(buffer, length_bytes, offset_bytes);
  }
  const Plan plan = begin(FaultTarget::kWrite, offset_bytes, length_bytes);
  if (const int ended = suffer_blocking(plan, slow_ms_); ended < 0) {
    return Status::from_errno(-ended, "injected fault: cannot write " + path());
  }
  const Transfer transfer = altered(plan, FaultTarget::kWrite, {&whole, 1}, offset_bytes);
  if (!transfer.iovecs.empty()) {
    const iovec& told = transfer.iovecs.front();
    CACHED_RETURN_IF_ERROR(inner_->write_blocking(told.iov_base, told.iov_len, transfer.offset_bytes));
  }
  if (plan.fault != Fault::kShort && transfer.result >= 0) return Status();
  return Status::from_errno(EIO, "injected fault: cannot write all of " + path());
}

Status FaultDevice::sync_blocking() {
  const int ended = suffer_blocking(begin(FaultTarget::kSync, 0, 0), slow_ms_);
  if (ended < 0) return Status::from_errno(-ended, "injected fault: cannot sync " + path());
  return inner_->sync_blocking();
}

const std::string& FaultDevice::path() const {
  return inner_->path();
}

DeviceGeometry FaultDevice::geometry() const {
  return inner_->geometry();
}

void FaultDevice::attach(Reactor& reactor) {
  inner_->attach(reactor);
}

void FaultDevice::detach(Reactor& reactor) {
  inner_->detach(reactor);
}

}  // namespace cached::io
