// Judge of reads: the rules, and the diagnosis of bytes that break them.
#include "tests/verify/judge.h"

#include <fmt/format.h>

#include <algorithm>
#include <cstring>

#include "tests/verify/content.h"

namespace cached::verify {
namespace {

// Files are smaller than this; an offset beyond it means that a word is none of this content.
constexpr uint64_t kMaximumFileBytes = uint64_t{1} << 44;
constexpr unsigned kMaximumRunsShown = 12;
constexpr const char* kUnknownBytes = "bytes of no known file or version";

uint64_t minus(uint64_t time_ns, uint64_t earlier_by_ns) {
  return time_ns > earlier_by_ns ? time_ns - earlier_by_ns : 0;
}

bool overlap(uint64_t begin_a, uint64_t end_a, uint64_t begin_b, uint64_t end_b) {
  return begin_a <= end_b && begin_b <= end_a;
}

// How many bytes a read gets from a file of this size.
uint64_t expected_count(uint64_t size, uint64_t offset, uint64_t length) {
  return offset >= size ? 0 : std::min(length, size - offset);
}

uint64_t newest_version(const FileEntry& file, const std::vector<FileState>& states) {
  uint64_t newest = file.version;
  for (const FileState& state : states) newest = std::max(newest, state.version);
  return newest;
}

std::string errno_text(int error_number) {
  const char* name = strerrorname_np(error_number);
  return fmt::format("{} ({})", name == nullptr ? "?" : name, error_number);
}

}  // namespace

// A state together with its end as seen by a descriptor: an inode that lost its name keeps its last state.
struct Judge::Acceptable {
  FileState state;
  uint64_t end_ns;
};

// A search through all files costs; garbage of a megabyte would cost it for each word. A few words tell
// enough.
struct Judge::Search {
  unsigned words_left = 32;
  const FileEntry* last_other = nullptr;
};

Judge::Judge(const JudgeOptions& options, const Manifest& manifest, uint64_t origin_ns)
    : options_(options), manifest_(manifest), origin_ns_(origin_ns) {}

std::vector<Judge::Acceptable> Judge::acceptable_states(const std::vector<FileState>& states,
                                                        const OpenWindow& open, uint64_t from_ns,
                                                        uint64_t to_ns) const {
  std::set<uint64_t> inodes;
  for (const FileState& state : states) {
    if (state.present &&
        overlap(state.begin_ns, state.end_ns, minus(open.call_ns, options_.staleness_ns), open.return_ns)) {
      inodes.insert(state.inode);
    }
  }
  std::vector<Acceptable> result;
  for (size_t i = 0; i < states.size(); i++) {
    const FileState& state = states[i];
    if (!state.present || !inodes.contains(state.inode)) continue;
    const bool last_of_inode =
        i + 1 == states.size() || !states[i + 1].present || states[i + 1].inode != state.inode;
    const uint64_t end_ns = last_of_inode ? kForever : state.end_ns;
    if (overlap(state.begin_ns, end_ns, from_ns, to_ns)) result.push_back({state, end_ns});
  }
  return result;
}

bool Judge::change_in_window(const std::vector<FileState>& states, uint64_t from_ns, uint64_t to_ns) const {
  return std::any_of(states.begin(), states.end(), [&](const FileState& state) {
    if (state.made_by != ChangeKind::kInitial && overlap(state.begin_ns, state.made_ns, from_ns, to_ns))
      return true;
    return !state.present && overlap(state.begin_ns, state.end_ns, from_ns, to_ns);
  });
}

bool Judge::right_byte_by_byte(const FileEntry& file, const std::vector<Acceptable>& candidates,
                               const ReadEvent& event) const {
  constexpr uint64_t kPieceBytes = 4096;
  std::vector<uint8_t> expected(kPieceBytes);
  std::vector<bool> right(kPieceBytes);
  for (uint64_t done = 0; done < event.count; done += kPieceBytes) {
    const uint64_t piece = std::min(kPieceBytes, event.count - done);
    const uint64_t offset = event.offset + done;
    right.assign(piece, false);
    for (const Acceptable& candidate : candidates) {
      const uint64_t of_content = expected_count(candidate.state.size, offset, piece);
      Content(manifest_.seed, file.id, candidate.state.version).fill(offset, expected.data(), of_content);
      // Behind the end there is nothing, but a mapping shows the rest of the last page as zeros.
      const uint64_t comparable = event.access == Access::kMapped ? piece : of_content;
      std::fill(expected.begin() + static_cast<ptrdiff_t>(of_content), expected.end(), uint8_t{0});
      for (uint64_t i = 0; i < comparable; i++) {
        if (event.data[done + i] == expected[i]) right[i] = true;
      }
    }
    if (!std::all_of(right.begin(), right.end(), [](bool one) { return one; })) return false;
  }
  return true;
}

Verdict Judge::judge_read(const FileEntry& file, const std::vector<FileState>& states, const ReadEvent& event,
                          const std::string& label) const {
  const bool mapped = event.access == Access::kMapped;
  // Nothing asks the file system when mapped pages are touched again, so a mapping is as old as its open.
  const uint64_t from_ns = minus(mapped ? event.open.call_ns : event.call_ns, options_.staleness_ns);
  const std::vector<Acceptable> acceptable = acceptable_states(states, event.open, from_ns, event.return_ns);
  Verdict verdict;

  uint64_t least = UINT64_MAX;
  uint64_t most = 0;
  for (const Acceptable& candidate : acceptable) {
    const uint64_t count = expected_count(candidate.state.size, event.offset, event.length);
    least = std::min(least, count);
    most = std::max(most, count);
  }
  bool is_short = false;
  if (!mapped && (acceptable.empty() || event.count > most || event.count < least)) {
    is_short = options_.allow_short_on_change && event.count > 0 && event.count < least &&
               change_in_window(states, from_ns, event.return_ns);
    if (!is_short) {
      verdict.outcome = Outcome::kWrong;
      verdict.message = (event.count < least ? "SHORT READ: " : "LONG READ: ") +
                        describe_event(file, acceptable, event, label) + describe_bytes(file, states, event);
      return verdict;
    }
  }

  // Nothing at or behind the end: the length was all there is to judge.
  if (event.count == 0) return verdict;
  for (auto candidate = acceptable.rbegin(); candidate != acceptable.rend(); ++candidate) {
    const FileState& state = candidate->state;
    if (state.size < event.offset + event.count) continue;
    const Content content(manifest_.seed, file.id, state.version);
    if (content.first_mismatch(event.offset, event.data, event.count) != event.count) continue;
    if (is_short) {
      verdict.outcome = Outcome::kShort;
    } else if (!mapped && event.count != expected_count(state.size, event.offset, event.length)) {
      verdict.outcome = Outcome::kLaggingSize;
    }
    if (candidate->end_ns < event.call_ns) verdict.staleness_ns = event.call_ns - candidate->end_ns;
    return verdict;
  }

  const uint64_t torn_from_ns = event.access == Access::kDirect ? event.call_ns : from_ns;
  for (const Acceptable& inode_of : acceptable) {
    std::vector<Acceptable> candidates;
    for (const Acceptable& candidate : acceptable) {
      if (candidate.state.inode == inode_of.state.inode &&
          overlap(candidate.state.begin_ns, candidate.end_ns, torn_from_ns, event.return_ns)) {
        candidates.push_back(candidate);
      }
    }
    if ((mapped || candidates.size() > 1) && right_byte_by_byte(file, candidates, event)) {
      verdict.outcome = Outcome::kTorn;
      return verdict;
    }
  }

  verdict.outcome = Outcome::kWrong;
  verdict.message =
      "WRONG BYTES: " + describe_event(file, acceptable, event, label) + describe_bytes(file, states, event);
  return verdict;
}

Verdict Judge::judge_error(const FileEntry& file, const std::vector<FileState>& states,
                           const std::string& what, int error_number, uint64_t call_ns,
                           uint64_t return_ns) const {
  Verdict verdict;
  if (options_.tolerated_errnos.contains(error_number) &&
      (options_.tolerate_everywhere ||
       change_in_window(states, minus(call_ns, options_.staleness_ns), return_ns))) {
    verdict.outcome = Outcome::kToleratedError;
    return verdict;
  }
  verdict.outcome = Outcome::kWrong;
  verdict.message =
      fmt::format("ERROR: file {} (id {}): {} failed with {}, called {}, returned {}", file.path, file.id,
                  what, errno_text(error_number), at(call_ns), at(return_ns));
  return verdict;
}

Verdict Judge::judge_size(const FileEntry& file, const std::vector<FileState>& states, const OpenWindow& open,
                          uint64_t call_ns, uint64_t return_ns, uint64_t size) const {
  const std::vector<Acceptable> acceptable =
      acceptable_states(states, open, minus(call_ns, options_.staleness_ns), return_ns);
  uint64_t least = UINT64_MAX;
  uint64_t most = 0;
  std::string sizes;
  for (const Acceptable& candidate : acceptable) {
    least = std::min(least, candidate.state.size);
    most = std::max(most, candidate.state.size);
    sizes += fmt::format(" {}", candidate.state.size);
  }
  Verdict verdict;
  if (size >= least && size <= most) return verdict;
  verdict.outcome = Outcome::kWrong;
  verdict.message =
      fmt::format("WRONG SIZE: file {} (id {}): fstat says {}, acceptable:{}; called {}, returned {}",
                  file.path, file.id, size, sizes.empty() ? " none" : sizes, at(call_ns), at(return_ns));
  return verdict;
}

std::string Judge::at(uint64_t time_ns) const {
  if (time_ns == kForever) return "now";
  const double seconds = (static_cast<double>(time_ns) - static_cast<double>(origin_ns_)) / 1e9;
  return time_ns == 0 ? "start" : fmt::format("T+{:.6f}s", seconds);
}

std::string Judge::describe_event(const FileEntry& file, const std::vector<Acceptable>& acceptable,
                                  const ReadEvent& event, const std::string& label) const {
  std::string text = fmt::format(
      "file {} (id {}): {} of {} bytes at {} returned {}\n  opened {} to {}, called {}, returned {}, "
      "staleness bound {} "
      "ms\n",
      file.path, file.id, label, event.length, event.offset, event.count, at(event.open.call_ns),
      at(event.open.return_ns), at(event.call_ns), at(event.return_ns), options_.staleness_ns / 1'000'000);
  if (acceptable.empty()) text += "  expected: no state of the file was acceptable\n";
  for (const Acceptable& candidate : acceptable) {
    text +=
        fmt::format("  expected: version {} of {} bytes (inode {}, by {}, current {} to {})\n",
                    candidate.state.version, candidate.state.size, candidate.state.inode,
                    change_name(candidate.state.made_by), at(candidate.state.begin_ns), at(candidate.end_ns));
  }
  return text;
}

// Runs of words of the same kind: "[0, 131072) version 3 (replaced 12.5 ms before the call)".
std::string Judge::describe_bytes(const FileEntry& file, const std::vector<FileState>& states,
                                  const ReadEvent& event) const {
  std::string text;
  std::string kind;
  uint64_t run_begin = event.offset;
  unsigned runs = 0;
  Search search;
  const auto flush = [&](uint64_t end) {
    if (!kind.empty() && end > run_begin && ++runs <= kMaximumRunsShown) {
      text += fmt::format("  found: [{}, {}) {}\n", run_begin, end, kind);
    }
    run_begin = end;
  };
  for (uint64_t done = 0; done < event.count;) {
    const uint64_t offset = event.offset + done;
    const uint64_t part = std::min(kWordBytes - offset % kWordBytes, event.count - done);
    const uint8_t* const data = event.data + done;
    std::string now = part == kWordBytes
                          ? describe_word(file, states, offset, data, event.count - done, &search)
                          : describe_part(file, states, offset, data, part);
    if (now != kind) {
      flush(offset);
      kind = std::move(now);
    }
    done += part;
  }
  flush(event.offset + event.count);
  if (runs > kMaximumRunsShown) text += fmt::format("  found: {} more runs\n", runs - kMaximumRunsShown);
  return text;
}

std::string Judge::describe_version(uint64_t version, const std::vector<FileState>& states) const {
  std::string text = fmt::format("version {}", version);
  for (const FileState& state : states) {
    if (state.version != version || state.end_ns == kForever) continue;
    text = fmt::format("version {} (replaced {})", version, at(state.end_ns));
  }
  return text;
}

// Less than a word at the edge of a read: compared, because it cannot be inverted.
std::string Judge::describe_part(const FileEntry& file, const std::vector<FileState>& states, uint64_t offset,
                                 const uint8_t* data, uint64_t length) const {
  if (std::all_of(data, data + length, [](uint8_t byte) { return byte == 0; })) return "zeros";
  for (uint64_t version = 0; version <= newest_version(file, states); version++) {
    const Content content(manifest_.seed, file.id, version);
    if (content.first_mismatch(offset, data, length) == length) return describe_version(version, states);
  }
  return kUnknownBytes;
}

std::string Judge::describe_word(const FileEntry& file, const std::vector<FileState>& states, uint64_t offset,
                                 const uint8_t* data, uint64_t available, Search* search) const {
  const uint64_t newest = newest_version(file, states);
  uint64_t word;
  std::memcpy(&word, data, sizeof word);
  if (word == 0) return "zeros";
  for (uint64_t version = 0; version <= newest; version++) {
    const uint64_t index = Content(manifest_.seed, file.id, version).index_of(word);
    if (index * kWordBytes == offset) return describe_version(version, states);
  }
  return describe_foreign(file, newest, offset, data, available, search);
}

// Bytes of another place. A shift that is no multiple of a word is found by trying all eight alignments.
std::string Judge::describe_foreign(const FileEntry& file, uint64_t newest_version, uint64_t offset,
                                    const uint8_t* data, uint64_t available, Search* search) const {
  const auto matches = [&](const FileEntry& candidate, uint64_t version, uint64_t shift, uint64_t limit_bytes,
                           int64_t* distance) {
    uint64_t word;
    std::memcpy(&word, data + shift, sizeof word);
    const uint64_t index = Content(manifest_.seed, candidate.id, version).index_of(word);
    *distance = static_cast<int64_t>(index * kWordBytes - shift - offset);
    return index < limit_bytes / kWordBytes + 1;
  };
  int64_t distance = 0;
  for (uint64_t shift = 0; shift < kWordBytes && shift + kWordBytes <= available; shift++) {
    for (uint64_t version = 0; version <= newest_version; version++) {
      if (matches(file, version, shift, kMaximumFileBytes, &distance)) {
        return fmt::format("version {} from another offset ({:+} bytes away)", version, distance);
      }
    }
    const auto describe_other = [&](const FileEntry& other) {
      return fmt::format("bytes of another file, {} (id {}), {:+} bytes away", other.path, other.id,
                         distance);
    };
    const FileEntry* hint = search->last_other;
    if (hint != nullptr && matches(*hint, hint->version, shift, hint->size, &distance))
      return describe_other(*hint);
    if (search->words_left == 0) continue;
    for (const FileEntry& other : manifest_.files) {
      if (other.id == file.id || !matches(other, other.version, shift, other.size, &distance)) continue;
      search->last_other = &other;
      return describe_other(other);
    }
  }
  if (search->words_left > 0) search->words_left--;
  return kUnknownBytes;
}

}  // namespace cached::verify
