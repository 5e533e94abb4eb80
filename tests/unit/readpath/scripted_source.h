// An origin for tests of the read path: its bytes are a function of object and offset, and the test decides
// when each read ends and how.
#pragma once

#include <cstring>
#include <deque>

#include "cached/origin/source.h"

namespace cached::readpath {

inline std::byte expected_byte(const shm::ObjectId& object, uint64_t offset) {
  const uint64_t mixed = (offset + object.low * 0x9E3779B97F4A7C15ULL) * 0xBF58476D1CE4E5B9ULL;
  return static_cast<std::byte>(mixed >> 56);
}

// All on one reactor's thread.
class ScriptedSource : public origin::Source {
 public:
  struct Read {
    uint64_t offset;
    uint64_t length;
    io::Event proceed;
    origin::Outcome outcome;
  };

  uint64_t object_bytes = 64 * 1024 * 1024;
  uint64_t opens = 0;
  origin::Outcome open_outcome;             // of opens that start from now on
  bool hold = false;                        // reads wait for release_one()
  origin::Outcome next_outcome;             // of reads that start from now on
  std::deque<std::shared_ptr<Read>> reads;  // all, in order of their start
  size_t released = 0;

  void release_one() { reads[released++]->proceed.set(); }

  // What files_ahead() answers, one after another; readers are told that files follow while there is any.
  std::deque<std::vector<origin::FollowingFile>> following_files;

  io::Task<origin::OpenedObject> open(io::Reactor&, shm::Handle, shm::ObjectId object,
                                      origin::Opener opener) override {
    ++opens;
    const bool follow = opener == origin::Opener::kReader && !following_files.empty();
    if (!open_outcome.ok()) co_return origin::OpenedObject{.outcome = open_outcome, .files_follow = follow};
    co_return origin::OpenedObject{
        .outcome = {}, .reader = std::make_shared<Reader>(*this, object), .files_follow = follow};
  }
  io::Task<std::vector<origin::FollowingFile>> files_ahead(io::Reactor&, shm::Handle) override {
    std::vector<origin::FollowingFile> files;
    if (!following_files.empty()) {
      files = std::move(following_files.front());
      following_files.pop_front();
    }
    co_return files;
  }

 private:
  class Reader : public origin::ObjectReader {
   public:
    Reader(ScriptedSource& source, shm::ObjectId object) : source_(source), object_(object) {}
    uint64_t size() const override { return source_.object_bytes; }
    io::Task<origin::Outcome> read(io::Reactor&, uint64_t offset, uint64_t length,
                                   std::vector<iovec> iovecs) override {
      auto read = std::make_shared<Read>();
      read->offset = offset;
      read->length = length;
      read->outcome = source_.next_outcome;
      source_.reads.push_back(read);
      if (source_.hold) {
        co_await read->proceed;
      } else {
        ++source_.released;
      }
      if (read->outcome.ok()) fill(offset, length, iovecs);
      co_return read->outcome;
    }

   private:
    void fill(uint64_t offset, uint64_t length, const std::vector<iovec>& iovecs) const {
      uint64_t done = 0;
      for (const iovec& piece : iovecs) {
        auto* const bytes = static_cast<std::byte*>(piece.iov_base);
        for (size_t i = 0; i < piece.iov_len && done < length; ++i, ++done) {
          bytes[i] = expected_byte(object_, offset + done);
        }
      }
    }
    ScriptedSource& source_;
    shm::ObjectId object_;
  };
};

}  // namespace cached::readpath
