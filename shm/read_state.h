// ReadState: one read on its way from the index through the ring to a view; private to the library.
//
// Channel has one, since it does one call at a time; AsyncReader has as many as it may have in flight. What
// is done with it is channel_read.cc, for both.
#pragma once

#include <sys/uio.h>

#include <array>
#include <cstdint>
#include <memory>
#include <string_view>

#include "shm/client.h"
#include "shm/session_layout.h"

namespace cached::shm {

class Attachment;

// A read crosses at most one edge of an extent.
inline constexpr unsigned kMaximumRequestsPerCall = 2;

// One request with its answer. The input is kept here because it is written anew for each attachment.
struct Request {
  Submission submission;
  std::string_view input;
  Completion completion;
  bool answered = false;
};

// Who lent a ReadState to a view and takes it back when the view is released.
class ReadHolder {
 public:
  // Gives back what the read holds. The view is out; afterwards it is not.
  virtual void take_back(ReadState* read) = 0;

 protected:
  ~ReadHolder() = default;
};

// Bytes [begin, end) of an object.
struct ObjectRange {
  uint64_t begin = 0;
  uint64_t end = 0;
  bool empty() const { return begin >= end; }
};

struct ReadState {
  // A part that was found in memory.
  struct Piece {
    uint64_t position = 0;  // in the object
    uint32_t length = 0;
    uint32_t page = 0;  // where its record starts, in the arena
    uint32_t offset_in_record = 0;
    uint32_t hazard = 0;  // which of the queue's protects it
  };

  // Makes what was assembled a view and returns its serial number.
  uint64_t hand_out() {
    out = true;
    return serial;
  }
  bool is_out(uint64_t view_serial) const { return out && serial == view_serial; }

  ReadHolder* holder = nullptr;
  uint32_t buffer_begin = 0;  // the part of the queue's buffer that its requests may use
  uint32_t buffer_end = 0;
  bool out = false;     // a view shows it
  uint64_t serial = 0;  // which of the views that it served: a view of an earlier read is over

  FileReference file;
  ObjectRange range;
  ObjectRange missing;  // what the daemon has to be asked for
  unsigned piece_count = 0;
  unsigned request_count = 0;
  std::array<Piece, kHazardsPerQueue> pieces;
  std::array<Request, kMaximumRequestsPerCall> requests;

  // Assembled once all is there.
  unsigned pin_count = 0;
  unsigned iovec_count = 0;
  uint64_t bytes = 0;
  std::array<uint64_t, kMaximumRequestsPerCall> pins;
  std::array<iovec, kHazardsPerQueue + kMaximumRequestsPerCall * kExtentsPerCompletion> iovecs;
  // The attachment that the view points into, if its channel has left that one; else null.
  std::shared_ptr<Attachment> left;
};

}  // namespace cached::shm
