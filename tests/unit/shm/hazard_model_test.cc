// The protocol of hazards and sequences, explored exhaustively: one reader and one writer, every
// interleaving.
//
// The model has one record and two slots. The reader looks for key 1, as SeqTableReader::find() does:
// sequence, words, sequence, publish, sequence, use, clear. The writer evicts the record's key, waits until
// no hazard names the slot, fills the slot with another key and publishes that, back and forth; each arrow of
// the table below is one atomic step. What the headers give as seq_cst operations are steps in one order
// here; what hides behind release and acquire (a word read before the sequence that covers it) is the stress
// test's and thread sanitizer's part.
//
// The property: a reader that uses a slot finds key 1 in it at every step of the use. And since a proof that
// cannot fail proves nothing, each safeguard is taken out in turn and the exploration must find the reader
// that is misled.
#include <gtest/gtest.h>

#include <cstdint>
#include <cstring>
#include <set>
#include <vector>

namespace cached::shm {
namespace {

struct Protocol {
  bool recheck = true;               // reader looks at the sequence again after publishing
  bool scan = true;                  // writer waits for hazards before reuse
  bool publish_before_check = true;  // else the reader checks first and publishes then
  bool change_before_scan = true;    // else the writer scans first and changes the record then
};

constexpr uint8_t kWanted = 1;
constexpr uint8_t kOther = 2;
constexpr uint8_t kNoKey = 0;
constexpr uint8_t kReaderTries = 3;
constexpr uint8_t kWriterRounds = 3;

struct State {
  // shared memory
  uint8_t sequence = 2;
  uint8_t key = kWanted;
  uint8_t slot = 0;
  uint8_t content[2] = {kWanted, kNoKey};
  uint8_t hazard = 0;  // slot + 1
  // reader
  uint8_t reader_step = 0;
  uint8_t reader_tries = 0;
  uint8_t seen_sequence = 0;
  uint8_t seen_key = 0;
  uint8_t seen_slot = 0;
  // writer
  uint8_t writer_step = 0;
  uint8_t writer_round = 0;
  uint8_t evicted_slot = 0;
  bool misled = false;
  bool used = false;

  auto operator<=>(const State&) const = default;
};

enum ReaderStep : uint8_t {
  kReadSequence,
  kReadKey,
  kReadSlot,
  kCopyCheck,
  kPublish,
  kRecheck,
  kUse,
  kUseMore,
  kClear,
  kReaderDone
};
enum WriterStep : uint8_t {
  kEarlyScan,
  kBeginRemoval,
  kRemoveKey,
  kRemoveSlot,
  kEndRemoval,
  kScan,
  kFill,
  kBeginPut,
  kPutKey,
  kPutSlot,
  kEndPut,
  kWriterDone
};

void try_again(State* s) {
  s->reader_step = ++s->reader_tries < kReaderTries ? kReadSequence : kReaderDone;
}

uint8_t after_copy(const Protocol& protocol) {
  return protocol.publish_before_check ? kPublish : kRecheck;
}

void use(State* s, uint8_t next) {
  s->used = true;
  if (s->content[s->seen_slot] != kWanted) s->misled = true;
  s->reader_step = next;
}

// One step of the reader.
void read_step(const Protocol& protocol, State* s) {
  switch (s->reader_step) {
    case kReadSequence:
      s->seen_sequence = s->sequence;
      if ((s->sequence & 1) != 0) return try_again(s);
      s->reader_step = kReadKey;
      return;
    case kReadKey:
      s->seen_key = s->key;
      s->reader_step = kReadSlot;
      return;
    case kReadSlot:
      s->seen_slot = s->slot;
      s->reader_step = kCopyCheck;
      return;
    case kCopyCheck:
      if (s->sequence != s->seen_sequence || s->seen_key != kWanted) return try_again(s);
      s->reader_step = after_copy(protocol);
      return;
    case kPublish:
      s->hazard = s->seen_slot + 1;
      s->reader_step = protocol.publish_before_check ? kRecheck : kUse;
      return;
    case kRecheck:
      if (protocol.recheck && s->sequence != s->seen_sequence) {
        s->hazard = 0;
        return try_again(s);
      }
      s->reader_step = protocol.publish_before_check ? kUse : kPublish;
      return;
    case kUse:
      return use(s, kUseMore);
    case kUseMore:
      return use(s, kClear);
    case kClear:
      s->hazard = 0;
      return try_again(s);
    default:
      return;
  }
}

// The key that a round publishes: another one, then the wanted one again.
uint8_t key_of_round(uint8_t round) {
  return round % 2 == 0 ? kOther : kWanted;
}

bool slot_is_protected(const State& s) {
  return s.hazard == s.slot + 1;
}

// One step of the writer; false: it waits.
bool write_step(const Protocol& protocol, State* s) {
  switch (s->writer_step) {
    case kEarlyScan:  // in the right protocol: nothing
      if (protocol.scan && !protocol.change_before_scan && slot_is_protected(*s)) return false;
      break;
    case kBeginRemoval:
      s->evicted_slot = s->slot;
      ++s->sequence;
      break;
    case kRemoveKey:
      s->key = kNoKey;
      break;
    case kRemoveSlot:
      s->slot = 0;
      break;
    case kEndRemoval:
      ++s->sequence;
      break;
    case kScan:
      if (protocol.scan && protocol.change_before_scan && s->hazard == s->evicted_slot + 1) return false;
      break;
    case kFill:
      s->content[s->evicted_slot] = key_of_round(s->writer_round);
      break;
    case kBeginPut:
      ++s->sequence;
      break;
    case kPutKey:
      s->key = key_of_round(s->writer_round);
      break;
    case kPutSlot:
      s->slot = s->evicted_slot;
      break;
    case kEndPut:
      ++s->sequence;
      if (++s->writer_round < kWriterRounds) {
        s->writer_step = kEarlyScan;
        return true;
      }
      break;
    default:
      return false;
  }
  ++s->writer_step;
  return true;
}

struct Exploration {
  size_t states = 0;
  bool misled = false;
  bool used = false;
  bool stuck = false;  // a state in which neither side can go on though the writer has work
};

Exploration explore(const Protocol& protocol) {
  Exploration result;
  std::set<State> seen;
  std::vector<State> open{State{}};
  while (!open.empty()) {
    const State state = open.back();
    open.pop_back();
    if (!seen.insert(state).second) continue;
    result.misled |= state.misled;
    result.used |= state.used;
    bool moved = false;
    if (state.reader_step != kReaderDone) {
      State next = state;
      read_step(protocol, &next);
      open.push_back(next);
      moved = true;
    }
    State next = state;
    if (write_step(protocol, &next)) {
      open.push_back(next);
      moved = true;
    }
    result.stuck |= !moved && state.writer_step != kWriterDone;
  }
  result.states = seen.size();
  return result;
}

TEST(HazardModel, NoInterleavingMisleadsTheReader) {
  const Exploration result = explore({});
  EXPECT_GT(result.states, 1000U);
  EXPECT_FALSE(result.misled);
}

TEST(HazardModel, ReaderReachesTheSlot) {
  EXPECT_TRUE(explore({}).used);
}

TEST(HazardModel, WriterIsNeverStuck) {
  EXPECT_FALSE(explore({}).stuck);
}

TEST(HazardModel, WithoutTheRecheckAReaderIsMisled) {
  EXPECT_TRUE(explore({.recheck = false}).misled);
}

TEST(HazardModel, WithoutTheScanAReaderIsMisled) {
  EXPECT_TRUE(explore({.scan = false}).misled);
}

TEST(HazardModel, CheckingBeforePublishingMisleads) {
  EXPECT_TRUE(explore({.publish_before_check = false}).misled);
}

TEST(HazardModel, ScanningBeforeChangingMisleads) {
  EXPECT_TRUE(explore({.change_before_scan = false}).misled);
}

}  // namespace
}  // namespace cached::shm
