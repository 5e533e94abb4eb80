// Engine shm: reads through the client library and copies the bytes out, as an application would get them, or
// takes views of them where they lie (in_place).
//
// Pieces of files are read as engine io_uring reads them: one thread for each job, with iodepth reads in
// flight on one channel. Whole files (smallfiles) are opened by names, which is one step after the other: as
// with engine posix a job has iodepth threads for them.
#include <sys/mman.h>

#include <cstring>
#include <deque>

#include "bench/aligned_buffer.h"
#include "bench/shm_engines.h"
#include "shm/async_reader.h"

namespace cached::bench {
namespace {

// The benchmark reads trees that nobody changes; what the name table knows is always fresh enough.
constexpr shm::Freshness kAnyAge{.maximum_age_ns = UINT64_MAX};

// Walks `path`, names joined by '/', from the volume's root.
Result<shm::InodeInfo> walk(shm::Channel* channel, const shm::InodeInfo& root, std::string_view path) {
  shm::InodeInfo inode = root;
  for (std::string_view rest = path; !rest.empty();) {
    const size_t slash = rest.find('/');
    const std::string_view name = rest.substr(0, slash);
    rest = slash == std::string_view::npos ? std::string_view() : rest.substr(slash + 1);
    if (name.empty()) continue;
    Result<shm::LookupResult> found = channel->lookup(inode.handle, name, kAnyAge);
    if (!found.ok()) return found.status().with_context(std::string(path));
    if (!found->exists) return Status::from_errno(ENOENT, std::string(path));
    inode = found->info;
  }
  return inode;
}

// The path of the directory that `path` lies in; empty: the root.
std::string_view directory_of(std::string_view path) {
  const size_t slash = path.rfind('/');
  return path.substr(0, slash == std::string_view::npos ? 0 : slash);
}

// Lists a directory with attributes, as walking a tree does: afterwards the name table knows its files.
Status list_directory(shm::Channel* channel, const shm::InodeInfo& directory) {
  uint64_t cookie = 0;
  for (bool end = false; !end;) {
    const auto visit = [&cookie](const shm::DirectoryEntry& entry) {
      cookie = entry.next_cookie;
      return true;
    };
    CACHED_RETURN_IF_ERROR(channel->read_directory(directory.handle, cookie, true, 0, visit, &end));
  }
  return Status();
}

shm::FileReference reference_to(const shm::InodeInfo& inode) {
  return {.handle = inode.handle,
          .object = inode.object,
          .layout_base = inode.layout_base,
          .layout = inode.layout,
          .data_set = inode.data_set};
}

bool reads_whole_files(const BenchOptions& options) {
  return options.workload == Workload::kSmallFiles;
}

shm::AsyncLimits async_limits(const BenchOptions& options) {
  return {.depth = options.depth, .maximum_read_bytes = options.block_bytes};
}

class ShmEngine : public Engine {
 public:
  ShmEngine(const BenchOptions& options, std::shared_ptr<shm::Client> client)
      : limits_(async_limits(options)),
        whole_files_(reads_whole_files(options)),
        in_place_(options.in_place),
        in_order_(options.in_order),
        client_(std::move(client)) {}

  Result<std::vector<uint64_t>> open_files(const std::vector<std::string>& paths) override {
    paths_ = paths;
    Result<std::unique_ptr<shm::Channel>> channel = client_->open_channel();
    if (!channel.ok()) return channel.status();
    std::vector<uint64_t> sizes;
    for (const std::string& path : paths) {
      Result<shm::InodeInfo> inode = walk(channel->get(), client_->root(), path);
      if (!inode.ok()) return inode.status();
      files_.push_back(reference_to(*inode));
      sizes.push_back(inode->size);
    }
    return sizes;
  }
  Status remember_paths(const std::vector<std::string>& paths) override {
    paths_ = paths;
    return Status();
  }
  Result<std::unique_ptr<Worker>> new_worker() override;
  unsigned in_flight_per_worker() const override { return whole_files_ ? 1 : limits_.depth; }

 private:
  friend class ShmWorker;
  friend class ShmFileWorker;
  const shm::AsyncLimits limits_;
  const bool whole_files_;
  const bool in_place_;
  const bool in_order_;
  std::shared_ptr<shm::Client> client_;
  std::vector<std::string> paths_;
  std::vector<shm::FileReference> files_;
};

// Reads pieces of files, many at a time.
class ShmWorker : public Worker {
 public:
  ShmWorker(const ShmEngine& engine, std::unique_ptr<shm::AsyncReader> reader)
      : engine_(engine),
        files_(engine.limits_.depth),
        reader_(std::move(reader)),
        reads_(engine.limits_.depth) {
    for (unsigned slot = 0; slot < engine.limits_.depth && !engine.in_place_; ++slot)
      buffers_.emplace_back(engine.limits_.maximum_read_bytes);
  }

  Status submit(unsigned slot, const Io& io) override {
    files_[slot] = io.file;
    std::byte* const destination = engine_.in_place_ ? nullptr : buffers_[slot].data();
    return reader_->submit(slot, engine_.files_[io.file], io.offset, io.length, destination);
  }

  std::byte* buffer(unsigned slot) override { return engine_.in_place_ ? nullptr : buffers_[slot].data(); }

  Status reap(FinishedIo* finished, unsigned* count) override {
    *count = reader_->reap(reads_.data(), engine_.limits_.depth, true);
    for (unsigned i = 0; i < *count; ++i) {
      shm::FinishedRead& read = reads_[i];
      read.view.release();  // in place: until then it counts against the depth
      if (!read.status.ok()) return read.status.with_context(engine_.paths_[files_[read.tag]]);
      finished[i] = {.slot = static_cast<unsigned>(read.tag), .bytes = read.bytes};
    }
    return Status();
  }

 private:
  const ShmEngine& engine_;
  std::vector<uint32_t> files_;        // of each slot, for messages
  std::deque<AlignedBuffer> buffers_;  // none if in place
  std::unique_ptr<shm::AsyncReader> reader_;
  std::vector<shm::FinishedRead> reads_;  // their views go before the reader
};

// Opens and reads whole files, one at a time.
class ShmFileWorker : public SynchronousWorker {
 public:
  ShmFileWorker(const ShmEngine& engine, std::unique_ptr<shm::Channel> channel)
      : engine_(engine),
        channel_(std::move(channel)),
        root_(engine.client_->root()),
        buffer_(engine.limits_.maximum_read_bytes) {}
  std::byte* buffer(unsigned) override { return buffer_.data(); }

 protected:
  Status perform(const Io& io, uint64_t* bytes) override {
    const std::string& path = engine_.paths_[io.file];
    *bytes = 0;
    if (engine_.in_order_ && begins_directory(io.file)) CACHED_RETURN_IF_ERROR(list(directory_of(path)));
    Result<shm::InodeInfo> inode = walk(channel_.get(), root_, path);
    if (!inode.ok()) return inode.status();
    const shm::FileReference file = reference_to(*inode);
    while (*bytes < inode->size) {
      const uint64_t length = std::min(inode->size - *bytes, buffer_.size_bytes());
      CACHED_RETURN_IF_ERROR(copy_out(file, *bytes, length).with_context(path));
      *bytes += length;
    }
    return Status();
  }

 private:
  bool begins_directory(uint32_t file) const {
    return file == 0 || directory_of(engine_.paths_[file]) != directory_of(engine_.paths_[file - 1]);
  }

  Status list(std::string_view directory) {
    Result<shm::InodeInfo> inode = walk(channel_.get(), root_, directory);
    if (!inode.ok()) return inode.status();
    return list_directory(channel_.get(), *inode).with_context(std::string(directory));
  }

  Status copy_out(const shm::FileReference& file, uint64_t offset, uint64_t length) {
    Result<shm::ReadView> view = channel_->read(file, offset, length);
    if (!view.ok()) return view.status();
    std::byte* to = buffer_.data();
    for (unsigned i = 0; i < view->iovec_count(); ++i) {
      const iovec& piece = view->iovecs()[i];
      std::memcpy(to, piece.iov_base, piece.iov_len);
      to += piece.iov_len;
    }
    return Status();
  }

  const ShmEngine& engine_;
  std::unique_ptr<shm::Channel> channel_;
  const shm::InodeInfo root_;
  AlignedBuffer buffer_;
};

Result<std::unique_ptr<Worker>> ShmEngine::new_worker() {
  if (whole_files_) {
    Result<std::unique_ptr<shm::Channel>> channel = client_->open_channel();
    if (!channel.ok()) return channel.status();
    return std::unique_ptr<Worker>(std::make_unique<ShmFileWorker>(*this, std::move(*channel)));
  }
  Result<std::unique_ptr<shm::AsyncReader>> reader = shm::AsyncReader::open(client_.get(), limits_);
  if (!reader.ok()) return reader.status();
  return std::unique_ptr<Worker>(std::make_unique<ShmWorker>(*this, std::move(*reader)));
}

// A channel for each thread that will run, large enough for what it will have in flight.
Status choose_channels(const BenchOptions& options, shm::ClientOptions* client_options) {
  if (options.engine == EngineKind::kMemcpy) return Status();  // it reads nothing through its client
  const bool whole_files = reads_whole_files(options);
  client_options->channels = options.jobs * (whole_files ? options.depth : 1);
  if (client_options->channels > shm::kMaximumQueues) {
    return Status(EINVAL, std::string(whole_files ? "numjobs times iodepth" : "numjobs") + ": at most " +
                              std::to_string(shm::kMaximumQueues) +
                              " with engine shm, one queue for each thread");
  }
  if (whole_files) return Status();
  return shm::fit_options(async_limits(options), client_options).with_context("iodepth with bs, engine shm");
}

}  // namespace

Result<std::shared_ptr<shm::Client>> connect_client(const BenchOptions& options) {
  shm::ClientOptions client_options;
  client_options.count_uses = !options.uncounted;
  client_options.socket = options.socket;
  client_options.volume = options.volume;
  client_options.label = "cached-bench " + options.name;
  CACHED_RETURN_IF_ERROR(choose_channels(options, &client_options));
  Result<std::unique_ptr<shm::Client>> client = shm::Client::connect(client_options);
  if (!client.ok()) return client.status();
  // The first touch of a page costs a fault, whichever engine comes first: neither is to pay it while it is
  // measured.
  const shm::Client::ArenaView arena = (*client)->arena();
  if (::madvise(const_cast<std::byte*>(arena.data), arena.bytes, MADV_POPULATE_READ) != 0) {
    return Status::from_errno("cannot map the arena's pages beforehand");
  }
  return std::shared_ptr<shm::Client>(std::move(*client));
}

std::unique_ptr<Engine> make_shm_engine(const BenchOptions& options, std::shared_ptr<shm::Client> client) {
  return std::make_unique<ShmEngine>(options, std::move(client));
}

}  // namespace cached::bench
