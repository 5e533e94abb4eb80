// Judge: whether a read returned what it may return, given the file's history, and if not, what exactly it
// returned.
//
// The rules (tests/README.md has them in words):
//  1. A read is judged against the states of the inode that its open may have met, that were current at some
//     time between its call (minus the staleness bound) and its return. Its bytes are all of one such state.
//  2. Its length is what the size of such a state allows, or between the smallest and the largest such length
//     while sizes change.
//  3. Torn: if the inode's content itself was being replaced in place during the read, the source is torn
//     too; then each byte is judged for itself. The window for this is the read's own for O_DIRECT; it
//     includes the staleness bound for reads through the kernel's page cache, and starts at the open for
//     mmap.
//  4. Through mmap, zeros are right behind the end of a state that is acceptable (the rest of its last page).
//  5. An errno is tolerated if it is on the list and a change of that file falls into the window.
#pragma once

#include <cstddef>
#include <cstdint>
#include <set>
#include <string>
#include <vector>

#include "tests/verify/history.h"
#include "tests/verify/manifest.h"

namespace cached::verify {

enum class Access : uint8_t { kBuffered, kDirect, kMapped };

// When a descriptor was opened: between these two times its path was resolved.
struct OpenWindow {
  uint64_t call_ns = 0;
  uint64_t return_ns = 0;
};

struct ReadEvent {
  Access access = Access::kBuffered;
  OpenWindow open;
  uint64_t call_ns = 0;
  uint64_t return_ns = 0;
  uint64_t offset = 0;
  uint64_t length = 0;  // asked for
  const uint8_t* data = nullptr;
  uint64_t count = 0;  // returned
};

enum class Outcome : uint8_t {
  kRight,
  kLaggingSize,  // right bytes; the length is that of another acceptable state, or between two of them
  kTorn,         // right byte by byte while the content was being replaced in place
  kShort,        // right bytes, fewer than any state has, during a change (only if allowed)
  kToleratedError,
  kWrong,
};

struct Verdict {
  Outcome outcome = Outcome::kRight;
  uint64_t staleness_ns = 0;  // how long before the call the returned state had ended; 0 if it was current
  std::string message;        // of kWrong
};

struct JudgeOptions {
  uint64_t staleness_ns = 0;
  std::set<int> tolerated_errnos;    // when a change of the file falls into the window
  bool tolerate_everywhere = false;  // the same without any change known: sources that others change
  bool allow_short_on_change =
      false;  // a read may stop early (but not at nothing) when a change falls into its window
};

class Judge {
 public:
  // `manifest` must outlive the judge. `origin_ns` is the time that messages count from.
  Judge(const JudgeOptions& options, const Manifest& manifest, uint64_t origin_ns);

  // Any thread. `label` names the mode in messages.
  Verdict judge_read(const FileEntry& file, const std::vector<FileState>& states, const ReadEvent& event,
                     const std::string& label) const;
  // A call on the file failed. `call_ns` is that of the open if a descriptor was used.
  Verdict judge_error(const FileEntry& file, const std::vector<FileState>& states, const std::string& what,
                      int error_number, uint64_t call_ns, uint64_t return_ns) const;
  // fstat() of an open descriptor said `size`.
  Verdict judge_size(const FileEntry& file, const std::vector<FileState>& states, const OpenWindow& open,
                     uint64_t call_ns, uint64_t return_ns, uint64_t size) const;

 private:
  struct Acceptable;
  std::vector<Acceptable> acceptable_states(const std::vector<FileState>& states, const OpenWindow& open,
                                            uint64_t from_ns, uint64_t to_ns) const;
  bool change_in_window(const std::vector<FileState>& states, uint64_t from_ns, uint64_t to_ns) const;
  bool right_byte_by_byte(const FileEntry& file, const std::vector<Acceptable>& candidates,
                          const ReadEvent& event) const;
  std::string describe_event(const FileEntry& file, const std::vector<Acceptable>& acceptable,
                             const ReadEvent& event, const std::string& label) const;
  std::string describe_bytes(const FileEntry& file, const std::vector<FileState>& states,
                             const ReadEvent& event) const;
  std::string describe_version(uint64_t version, const std::vector<FileState>& states) const;
  std::string describe_part(const FileEntry& file, const std::vector<FileState>& states, uint64_t offset,
                            const uint8_t* data, uint64_t length) const;
  struct Search;
  std::string describe_word(const FileEntry& file, const std::vector<FileState>& states, uint64_t offset,
                            const uint8_t* data, uint64_t available, Search* search) const;
  std::string describe_foreign(const FileEntry& file, uint64_t newest_version, uint64_t offset,
                               const uint8_t* data, uint64_t available, Search* search) const;
  std::string at(uint64_t time_ns) const;

  JudgeOptions options_;
  const Manifest& manifest_;
  uint64_t origin_ns_;
};

}  // namespace cached::verify
