// Reader threads: the ways of reading, timing of every call, and the SIGBUS that a mapped read may meet.
#include "tests/verify/reader.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <setjmp.h>
#include <signal.h>
#include <sys/mman.h>
#include <sys/stat.h>

#include <algorithm>
#include <bit>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <memory>
#include <mutex>
#include <numeric>
#include <optional>
#include <thread>

#include "base/clock.h"
#include "base/unique_fd.h"
#include "base/units.h"
#include "tests/verify/random.h"

namespace cached::verify {
namespace {

constexpr uint64_t kDirectAlignmentBytes = 4096;
constexpr unsigned kPiecesOfOneOpen = 16;

// Where the signal handler jumps to while mapped pages are touched. Volatile: only the handler reads it.
thread_local sigjmp_buf* volatile bus_error_target = nullptr;

void on_bus_error(int signal_number) {
  if (bus_error_target != nullptr) siglongjmp(*bus_error_target, 1);
  // Not from a mapped read: die of it as usual.
  ::signal(signal_number, SIG_DFL);
  ::raise(signal_number);
}

void catch_bus_errors() {
  struct sigaction action = {};
  action.sa_handler = on_bus_error;
  action.sa_flags = SA_NODEFER;
  ::sigaction(SIGBUS, &action, nullptr);
}

// Copies from mapped pages. False if that raised SIGBUS, which is how a mapping reports an error or a shrunk
// file.
bool copy_mapped(void* to, const void* from, size_t length) {
  sigjmp_buf target;
  if (sigsetjmp(target, 1) != 0) {
    bus_error_target = nullptr;
    return false;
  }
  bus_error_target = &target;
  std::atomic_signal_fence(std::memory_order_seq_cst);
  std::memcpy(to, from, length);
  std::atomic_signal_fence(std::memory_order_seq_cst);
  bus_error_target = nullptr;
  return true;
}

struct FreeDeleter {
  void operator()(uint8_t* memory) const { std::free(memory); }
};

class Mapping {
 public:
  Mapping(int fd, uint64_t size)
      : address_(::mmap(nullptr, size, PROT_READ, MAP_SHARED, fd, 0)), size_(size) {}
  Mapping(const Mapping&) = delete;
  Mapping& operator=(const Mapping&) = delete;
  ~Mapping() {
    if (valid()) ::munmap(address_, size_);
  }
  bool valid() const { return address_ != MAP_FAILED; }
  const uint8_t* data() const { return static_cast<const uint8_t*>(address_); }

 private:
  void* address_;
  uint64_t size_;
};

const char* access_name(Access access) {
  switch (access) {
    case Access::kBuffered:
      return "pread";
    case Access::kDirect:
      return "direct";
    case Access::kMapped:
      return "mmap";
  }
  return "?";
}

const char* pattern_name(Pattern pattern) {
  switch (pattern) {
    case Pattern::kWhole:
      return "whole";
    case Pattern::kRandom:
      return "random";
    case Pattern::kReopen:
      return "reopen";
  }
  return "?";
}

// What all threads of a run share.
struct Shared {
  const ReaderOptions& options;
  const Manifest& manifest;
  const std::vector<FileHistory>& histories;
  const Judge& judge;
  std::atomic<bool>* stop;
  std::vector<std::atomic<uint64_t>> next_item;  // of a pass, for each directory
  std::atomic<uint64_t> errors = 0;
  std::atomic<uint64_t> bytes = 0;
  std::atomic<uint64_t> files = 0;
  std::mutex output;
};

class ReaderThread {
 public:
  ReaderThread(Shared* shared, unsigned number)
      : shared_(*shared),
        options_(shared->options),
        directory_index_(number % options_.directories.size()),
        random_(options_.seed * 1'000'003 + number),
        buffer_(static_cast<uint8_t*>(std::aligned_alloc(
            kDirectAlignmentBytes, align_up(options_.maximum_read_bytes, kDirectAlignmentBytes)))) {}

  void run() {
    if (options_.seconds > 0) {
      while (!*shared_.stop) visit(random_.below(shared_.manifest.files.size()));
    } else {
      for (unsigned pass = 0; pass < options_.passes && !*shared_.stop; pass++) run_pass(pass);
    }
  }

  const Report& report() const { return report_; }

 private:
  // Threads of one directory share a pass: each takes the next file of the same order.
  void run_pass(unsigned pass) {
    const uint64_t files = shared_.manifest.files.size();
    std::vector<uint32_t> order(files);
    std::iota(order.begin(), order.end(), 0);
    if (options_.random_order) {
      Random shuffle(options_.seed + pass * 7919 + directory_index_);
      for (uint64_t i = files; i > 1; i--) std::swap(order[i - 1], order[shuffle.below(i)]);
    }
    std::atomic<uint64_t>& next = shared_.next_item[directory_index_];
    const uint64_t end = (pass + 1) * files;
    for (uint64_t item = next.load(); !*shared_.stop && item < end;) {
      if (!next.compare_exchange_weak(item, item + 1)) continue;
      visit(order[item - pass * files]);
      item = next.load();
    }
  }

  void visit(uint64_t file_index) {
    file_ = &shared_.manifest.files[file_index];
    history_ = &shared_.histories[file_index];
    access_ = options_.accesses[random_.below(options_.accesses.size())];
    const Pattern pattern = options_.patterns[random_.below(options_.patterns.size())];
    label_ = fmt::format("{}.{}", access_name(access_), pattern_name(pattern));
    const unsigned opens = pattern == Pattern::kReopen ? kPiecesOfOneOpen / 4 : 1;
    for (unsigned i = 0; i < opens && !*shared_.stop; i++) visit_once(pattern);
    report_.files += opens;
    shared_.files += opens;
  }

  void visit_once(Pattern pattern) {
    const std::string path = options_.directories[directory_index_] + "/" + file_->path;
    const int flags = O_RDONLY | O_CLOEXEC | (access_ == Access::kDirect ? O_DIRECT : 0);
    open_.call_ns = now_ns();
    const UniqueFd fd(::open(path.c_str(), flags));
    const int open_errno = errno;
    open_.return_ns = now_ns();
    report_.latency_ns["open"].record(open_.return_ns - open_.call_ns);
    if (!fd.valid()) {
      note(shared_.judge.judge_error(*file_, history_->states(), "open", open_errno, open_.call_ns,
                                     open_.return_ns),
           open_errno);
      return;
    }
    struct stat status = {};
    const uint64_t call_ns = now_ns();
    const int failed = ::fstat(fd.get(), &status);
    const int stat_errno = errno;
    const uint64_t return_ns = now_ns();
    if (failed != 0) {
      note(shared_.judge.judge_error(*file_, history_->states(), "fstat", stat_errno, open_.call_ns,
                                     return_ns),
           stat_errno);
      return;
    }
    const auto size = static_cast<uint64_t>(status.st_size);
    note(shared_.judge.judge_size(*file_, history_->states(), open_, call_ns, return_ns, size), 0);
    if (access_ == Access::kMapped) {
      read_mapped(fd.get(), size, pattern);
    } else if (pattern == Pattern::kWhole) {
      read_whole(fd.get());
    } else {
      const unsigned pieces = pattern == Pattern::kRandom ? kPiecesOfOneOpen : 1;
      for (unsigned i = 0; i < pieces && !*shared_.stop; i++) {
        const Piece piece = random_piece(size);
        if (!read_piece(fd.get(), piece.offset, piece.length).has_value()) return;
      }
    }
  }

  struct Piece {
    uint64_t offset;
    uint64_t length;
  };

  // Every power of two is as likely as the others, so that small reads and large ones both happen; the end of
  // the file and what lies behind it are met now and then.
  Piece random_piece(uint64_t size) {
    const uint64_t unit = access_ == Access::kDirect ? kDirectAlignmentBytes : 1;
    const unsigned powers = static_cast<unsigned>(std::bit_width(options_.maximum_read_bytes / unit));
    uint64_t length = random_.between(1, uint64_t{1} << random_.below(powers)) * unit;
    length = std::min(std::max(length, unit), options_.maximum_read_bytes);
    uint64_t offset = random_.below(size + 1);
    if (random_.below(16) == 0) offset = size > length / 2 ? size - length / 2 : 0;
    return {align_down(offset, unit), length};
  }

  void read_whole(int fd) {
    for (uint64_t offset = 0; !*shared_.stop;) {
      const std::optional<uint64_t> count = read_piece(fd, offset, options_.maximum_read_bytes);
      // The end is where a read returns nothing; an O_DIRECT read cannot go on from an odd offset to see
      // that.
      if (!count.has_value() || *count == 0) return;
      if (access_ == Access::kDirect && *count < options_.maximum_read_bytes) return;
      offset += *count;
    }
  }

  // The number of bytes read; nothing after an error.
  std::optional<uint64_t> read_piece(int fd, uint64_t offset, uint64_t length) {
    ReadEvent event = new_event(offset, length);
    const ssize_t count = ::pread(fd, buffer_.get(), length, static_cast<off_t>(offset));
    const int read_errno = errno;
    event.return_ns = now_ns();
    report_.latency_ns[label_].record(event.return_ns - event.call_ns);
    if (count < 0) {
      const std::string what = fmt::format("{} of {} bytes at {}", label_, length, offset);
      note(shared_.judge.judge_error(*file_, history_->states(), what, read_errno, open_.call_ns,
                                     event.return_ns),
           read_errno);
      return std::nullopt;
    }
    event.count = static_cast<uint64_t>(count);
    finish(event);
    return event.count;
  }

  void read_mapped(int fd, uint64_t size, Pattern pattern) {
    if (size == 0) return;
    const Mapping mapping(fd, size);
    if (!mapping.valid()) {
      const int map_errno = errno;
      note(shared_.judge.judge_error(*file_, history_->states(), "mmap", map_errno, open_.call_ns, now_ns()),
           map_errno);
      return;
    }
    if (pattern == Pattern::kWhole) {
      for (uint64_t offset = 0; offset < size && !*shared_.stop; offset += options_.maximum_read_bytes) {
        if (!read_mapped_piece(mapping, offset, std::min(options_.maximum_read_bytes, size - offset))) return;
      }
      return;
    }
    const unsigned pieces = pattern == Pattern::kRandom ? kPiecesOfOneOpen : 1;
    for (unsigned i = 0; i < pieces && !*shared_.stop; i++) {
      const Piece piece = random_piece(size - 1);
      if (!read_mapped_piece(mapping, piece.offset, std::min(piece.length, size - piece.offset))) return;
    }
  }

  bool read_mapped_piece(const Mapping& mapping, uint64_t offset, uint64_t length) {
    ReadEvent event = new_event(offset, length);
    const bool copied = copy_mapped(buffer_.get(), mapping.data() + offset, length);
    event.return_ns = now_ns();
    report_.latency_ns[label_].record(event.return_ns - event.call_ns);
    if (!copied) {
      const std::string what = fmt::format("{} of {} bytes at {} (SIGBUS)", label_, length, offset);
      note(
          shared_.judge.judge_error(*file_, history_->states(), what, EFAULT, open_.call_ns, event.return_ns),
          EFAULT);
      return false;
    }
    event.count = length;
    finish(event);
    return true;
  }

  ReadEvent new_event(uint64_t offset, uint64_t length) {
    ReadEvent event;
    event.access = access_;
    event.open = open_;
    event.offset = offset;
    event.length = length;
    event.data = buffer_.get();
    event.call_ns = now_ns();
    return event;
  }

  void finish(const ReadEvent& event) {
    report_.reads++;
    report_.bytes += event.count;
    shared_.bytes.fetch_add(event.count, std::memory_order_relaxed);
    note(shared_.judge.judge_read(*file_, history_->states(), event, label_), 0);
  }

  void note(const Verdict& verdict, int error_number) {
    switch (verdict.outcome) {
      case Outcome::kRight:
        break;
      case Outcome::kLaggingSize:
        report_.lagging_sizes++;
        break;
      case Outcome::kTorn:
        report_.torn_reads++;
        break;
      case Outcome::kShort:
        report_.short_reads++;
        break;
      case Outcome::kToleratedError:
        report_.tolerated[strerrorname_np(error_number)]++;
        break;
      case Outcome::kWrong:
        fail(verdict.message);
        break;
    }
    if (verdict.staleness_ns > 0) report_.stale_reads++;
    report_.maximum_staleness_ns = std::max(report_.maximum_staleness_ns, verdict.staleness_ns);
  }

  void fail(const std::string& message) {
    report_.errors++;
    const uint64_t errors = ++shared_.errors;
    if (errors <= options_.maximum_errors) {
      const std::lock_guard lock(shared_.output);
      std::fprintf(stderr, "%s\n", message.c_str());
    }
    if (errors >= options_.maximum_errors) *shared_.stop = true;
  }

  static uint64_t now_ns() { return system_clock().monotonic_ns(); }

  Shared& shared_;
  const ReaderOptions& options_;
  const size_t directory_index_;
  Random random_;
  std::unique_ptr<uint8_t, FreeDeleter> buffer_;
  Report report_;
  // The visit under way.
  const FileEntry* file_ = nullptr;
  const FileHistory* history_ = nullptr;
  Access access_ = Access::kBuffered;
  std::string label_;
  OpenWindow open_;
};

void print_progress(Shared* shared, double seconds, uint64_t total_bytes) {
  const uint64_t bytes = shared->bytes;
  std::string line = fmt::format("{:6.1f} s  {:>9}", seconds, format_size(bytes));
  if (total_bytes > 0)
    line +=
        fmt::format(" ({:3.0f} %)", 100.0 * static_cast<double>(bytes) / static_cast<double>(total_bytes));
  line += fmt::format("  {} files  {:.0f} MB/s  {} errors", shared->files.load(),
                      static_cast<double>(bytes) / 1e6 / std::max(seconds, 1e-3), shared->errors.load());
  const std::lock_guard lock(shared->output);
  std::fprintf(stderr, "%s\n", line.c_str());
}

}  // namespace

Report run_readers(const ReaderOptions& options, const Manifest& manifest,
                   const std::vector<FileHistory>& histories, const Judge& judge, std::atomic<bool>* stop) {
  catch_bus_errors();
  Shared shared{.options = options,
                .manifest = manifest,
                .histories = histories,
                .judge = judge,
                .stop = stop,
                .next_item = std::vector<std::atomic<uint64_t>>(options.directories.size()),
                .output = {}};
  const unsigned threads =
      std::max<unsigned>(options.threads, static_cast<unsigned>(options.directories.size()));
  std::vector<std::unique_ptr<ReaderThread>> readers;
  std::atomic<unsigned> running = threads;
  std::vector<std::thread> running_threads;
  for (unsigned i = 0; i < threads; i++) {
    readers.push_back(std::make_unique<ReaderThread>(&shared, i));
    running_threads.emplace_back([reader = readers.back().get(), &running] {
      reader->run();
      running--;
    });
  }
  uint64_t total_bytes = 0;
  if (options.seconds == 0) {
    for (const FileEntry& file : manifest.files) total_bytes += file.size;
    total_bytes *= uint64_t{options.passes} * options.directories.size();
  }
  const uint64_t begin_ns = system_clock().monotonic_ns();
  for (uint64_t ticks = 1; running > 0; ticks++) {
    std::this_thread::sleep_for(std::chrono::milliseconds(10));
    const double seconds = static_cast<double>(system_clock().monotonic_ns() - begin_ns) / 1e9;
    if (options.seconds > 0 && seconds >= options.seconds) *stop = true;
    if (options.progress && ticks % 100 == 0) print_progress(&shared, seconds, total_bytes);
  }
  for (std::thread& thread : running_threads) thread.join();
  Report report;
  for (const auto& reader : readers) report.merge(reader->report());
  return report;
}

}  // namespace cached::verify
