// Many reads in flight: order, batches, views, limits, and the daemon's death among them.
#include "shm/async_reader.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <chrono>
#include <fstream>
#include <numeric>
#include <set>

#include "base/clock.h"
#include "scripted_daemon.h"

namespace cached::shm::test {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;

constexpr ObjectId kObject{0xA, 0xB};
constexpr Handle kFile{5, 5};
constexpr uint64_t kLength = 5000;
constexpr uint64_t kStride = 2 * kBlockBytes;  // reads that have nothing to do with each other

FileReference file() {
  FileReference reference;
  reference.handle = kFile;
  reference.object = kObject;
  return reference;
}

constexpr uint64_t offset_of(uint64_t tag) {
  return tag * kStride + 77;
}

class AsyncRead : public ::testing::Test {
 protected:
  AsyncRead() { daemon_.start(); }

  void connect(unsigned depth, uint64_t timeout_ms = 10'000) {
    limits_ = {.depth = depth, .maximum_read_bytes = kBlockBytes};
    ClientOptions options = daemon_.client_options();
    options.daemon_timeout_ms = timeout_ms;
    ASSERT_TRUE(fit_options(limits_, &options).ok());
    connect(options);
  }
  void connect(const ClientOptions& options) {
    auto client = Client::connect(options);
    ASSERT_TRUE(client.ok()) << client.status().message();
    client_ = std::move(*client);
    auto reader = AsyncReader::open(client_.get(), limits_);
    ASSERT_TRUE(reader.ok()) << reader.status().message();
    reader_ = std::move(*reader);
    destinations_.assign(limits_.depth, std::vector<std::byte>(kBlockBytes));
  }

  // Bytes of a read lie at a place of the arena that its offset decides.
  Completion answer_to(const Submission& read) {
    const uint64_t place = read.offset / kStride % 32 * kBlockBytes;
    daemon_.fill_arena(place, kObject, read.offset, read.length);
    Completion completion = pinned(place, read.length);
    completion.request_number = read.request_number;
    return completion;
  }
  void answer_pinned() {
    daemon_.answer_with([this](const Question& question) { return answer_to(question.submission); });
  }
  void answer_in_buffer() {
    daemon_.answer_with([](const Question& question) { return in_buffer(question, kObject); });
  }
  void answer_nothing() {
    daemon_.answer_with([](const Question&) { return std::optional<Completion>(); });
  }

  Status submit_copy(uint64_t tag) {
    return reader_->submit(tag, file(), offset_of(tag), kLength, destinations_[tag].data());
  }
  Status submit_view(uint64_t tag) { return reader_->submit(tag, file(), offset_of(tag), kLength, nullptr); }
  // Submits reads 0 to count-1, sends them and waits until the daemon has them.
  void submit_and_send(unsigned count) {
    const size_t before = daemon_.submissions(Opcode::kRead).size();
    for (uint64_t tag = 0; tag < count; ++tag) ASSERT_TRUE(submit_copy(tag).ok());
    EXPECT_EQ(reap_now().size(), 0U);
    ASSERT_TRUE(daemon_.await_submissions(Opcode::kRead, before + count));
  }
  std::vector<FinishedRead> reap(bool wait) {
    std::vector<FinishedRead> finished(limits_.depth);
    finished.resize(reader_->reap(finished.data(), limits_.depth, wait));
    return finished;
  }
  std::vector<FinishedRead> reap_now() { return reap(false); }
  std::vector<FinishedRead> reap(size_t count) {
    std::vector<FinishedRead> all;
    while (all.size() < count) {
      std::vector<FinishedRead> some = reap(true);
      if (some.empty()) break;
      std::move(some.begin(), some.end(), std::back_inserter(all));
    }
    return all;
  }
  static std::vector<uint64_t> tags(const std::vector<FinishedRead>& reads) {
    std::vector<uint64_t> tags;
    for (const FinishedRead& read : reads) tags.push_back(read.tag);
    return tags;
  }
  bool copied(const FinishedRead& read) const {
    return read.status.ok() && read.bytes == kLength &&
           equals(destinations_[read.tag].data(), kObject, offset_of(read.tag), kLength);
  }
  bool all_copied(const std::vector<FinishedRead>& reads) const {
    return std::all_of(reads.begin(), reads.end(), [this](const FinishedRead& read) { return copied(read); });
  }
  static bool shown(const FinishedRead& read) {
    return read.status.ok() && holds(read.view, kObject, offset_of(read.tag), kLength);
  }
  uint64_t counter(Counter counter) const { return client_->counter(counter); }
  std::multiset<uint64_t> released() const {
    std::multiset<uint64_t> numbers;
    for (const Submission& release : daemon_.submissions(Opcode::kRelease))
      numbers.insert(release.pinned_request);
    return numbers;
  }
  std::vector<uint64_t> read_numbers() const {
    std::vector<uint64_t> numbers;
    for (const Submission& read : daemon_.submissions(Opcode::kRead)) numbers.push_back(read.request_number);
    return numbers;
  }
  template <typename Condition>
  static bool eventually(Condition condition) {
    for (int i = 0; i < 10'000; ++i) {
      if (condition()) return true;
      std::this_thread::sleep_for(std::chrono::milliseconds(1));
    }
    return false;
  }
  static size_t arenas_mapped() {
    std::ifstream maps("/proc/self/maps");
    size_t count = 0;
    for (std::string line; std::getline(maps, line);)
      count += line.find("memfd:arena") != std::string::npos ? 1 : 0;
    return count;
  }

  ScriptedDaemon daemon_;
  AsyncLimits limits_;
  std::unique_ptr<Client> client_;
  std::vector<std::vector<std::byte>> destinations_;
  std::unique_ptr<AsyncReader> reader_;
};

TEST_F(AsyncRead, HitIsCompleteAtOnceAndAsksNobody) {
  daemon_.publish_block(kObject, 0, 0, kBlockBytes, 10);
  connect(4);
  ASSERT_TRUE(submit_copy(0).ok());
  EXPECT_EQ(reader_->in_flight(), 0U);
  EXPECT_EQ(daemon_.published_hazards(), 0U);
  const auto reads = reap_now();
  ASSERT_EQ(reads.size(), 1U);
  EXPECT_TRUE(copied(reads[0]));
  EXPECT_TRUE(daemon_.submissions().empty());
  EXPECT_EQ(counter(Counter::kHits), 1U);
}

TEST_F(AsyncRead, ReapWithNothingInFlightDoesNotWait) {
  connect(4);
  EXPECT_TRUE(reap(true).empty());
}

TEST_F(AsyncRead, BatchOfMissesTakesOneWakeUp) {
  answer_nothing();
  connect(16);
  for (uint64_t tag = 0; tag < 16; ++tag) ASSERT_TRUE(submit_copy(tag).ok());
  EXPECT_EQ(counter(Counter::kRequests), 0U);
  EXPECT_TRUE(reap_now().empty());
  ASSERT_TRUE(daemon_.await_submissions(Opcode::kRead, 16));
  EXPECT_EQ(reader_->in_flight(), 16U);
  EXPECT_EQ(counter(Counter::kRequests), 16U);
  EXPECT_LE(counter(Counter::kWakeups), 1U);
  daemon_.kill();
}

TEST_F(AsyncRead, BatchOfAnswersIsReapedTogether) {
  answer_nothing();
  connect(16);
  submit_and_send(16);
  std::vector<Completion> answers;
  for (const Submission& read : daemon_.submissions(Opcode::kRead)) answers.push_back(answer_to(read));
  daemon_.send(answers);
  const auto reads = reap(true);
  EXPECT_EQ(reads.size(), 16U);
  EXPECT_TRUE(all_copied(reads));
  EXPECT_EQ(reader_->in_flight(), 0U);
  const auto numbers = read_numbers();
  ASSERT_TRUE(daemon_.await_submissions(Opcode::kRelease, 16));
  EXPECT_EQ(released(), std::multiset<uint64_t>(numbers.begin(), numbers.end()));
}

TEST_F(AsyncRead, OrderIsThatOfTheAnswers) {
  answer_nothing();
  connect(4);
  submit_and_send(4);
  const auto asked = daemon_.submissions(Opcode::kRead);
  daemon_.send({answer_to(asked[2]), answer_to(asked[0]), answer_to(asked[3]), answer_to(asked[1])});
  const auto reads = reap(size_t{4});
  EXPECT_THAT(tags(reads), ElementsAre(2, 0, 3, 1));
  EXPECT_TRUE(all_copied(reads));
}

TEST_F(AsyncRead, HitOvertakesAMiss) {
  daemon_.publish_block(kObject, 2, 0, kBlockBytes, 1500);
  answer_nothing();
  connect(4);
  ASSERT_TRUE(submit_copy(0).ok());
  ASSERT_TRUE(submit_copy(1).ok());
  EXPECT_THAT(tags(reap(true)), ElementsAre(1));
  ASSERT_TRUE(daemon_.await_submissions(Opcode::kRead, 1));
  daemon_.send({answer_to(daemon_.submissions(Opcode::kRead)[0])});
  EXPECT_TRUE(all_copied(reap(size_t{1})));
}

TEST_F(AsyncRead, NothingMoreIsTakenAtTheDepth) {
  answer_pinned();
  connect(4);
  for (uint64_t tag = 0; tag < 4; ++tag) ASSERT_TRUE(submit_view(tag).ok());
  EXPECT_EQ(submit_view(4).error_number(), EAGAIN);
  auto reads = reap(size_t{4});
  EXPECT_EQ(submit_view(4).error_number(), EAGAIN);
  reads[2].view.release();
  EXPECT_TRUE(submit_view(4).ok());
  EXPECT_TRUE(shown(reap(size_t{1}).at(0)));
}

TEST_F(AsyncRead, ViewsAreReleasedInAnyOrder) {
  for (uint32_t tag = 0; tag < 4; ++tag)
    daemon_.publish_block(kObject, 2 * tag, 0, kBlockBytes, 1100 + 40 * tag);
  std::atomic<unsigned> asked{0};
  daemon_.answer_with([&](const Question& question) {
    return asked++ % 2 == 0 ? answer_to(question.submission) : in_buffer(question, kObject);
  });
  connect(12);
  for (unsigned round = 0; round < 4; ++round) {
    for (uint64_t tag = 0; tag < 12; ++tag) ASSERT_TRUE(submit_view(tag).ok());
    auto reads = reap(size_t{12});
    EXPECT_TRUE(std::all_of(reads.begin(), reads.end(), shown));
    EXPECT_EQ(daemon_.published_hazards(), 4U);
    // 5 has no factor in common with 12: every view, in an order that is neither forth nor back.
    for (unsigned i = 0; i < 12; ++i) {
      reads[i * 5 % 12].view.release();
      for (unsigned later = i + 1; later < 12; ++later) ASSERT_TRUE(shown(reads[later * 5 % 12]));
    }
    EXPECT_EQ(daemon_.published_hazards(), 0U);
  }
  EXPECT_TRUE(daemon_.await_submissions(Opcode::kRelease, 4 * 4));
}

TEST_F(AsyncRead, ReadsInFlightHavePartsOfTheBufferOfTheirOwn) {
  answer_in_buffer();
  connect(8);
  for (uint64_t tag = 0; tag < 8; ++tag) ASSERT_TRUE(submit_view(tag).ok());
  const auto reads = reap(size_t{8});
  EXPECT_TRUE(std::all_of(reads.begin(), reads.end(), shown));
  auto asked = daemon_.submissions(Opcode::kRead);
  std::sort(asked.begin(), asked.end(),
            [](const Submission& a, const Submission& b) { return a.buffer_offset < b.buffer_offset; });
  for (size_t i = 0; i < asked.size(); ++i) {
    EXPECT_GE(asked[i].buffer_length, kLength + kReadBufferSlackBytes);
    if (i == 0) continue;
    EXPECT_GE(asked[i].buffer_offset, asked[i - 1].buffer_offset + asked[i - 1].buffer_length);
  }
}

TEST_F(AsyncRead, LongestReadAcrossAnExtentFitsItsPartOfTheBuffer) {
  answer_in_buffer();
  connect(4);
  const uint64_t offset = kExtentBytes - 4097;
  ASSERT_TRUE(reader_->submit(9, file(), offset, kBlockBytes, nullptr).ok());
  const auto reads = reap(size_t{1});
  EXPECT_TRUE(holds(reads.at(0).view, kObject, offset, kBlockBytes));
  EXPECT_EQ(daemon_.submissions(Opcode::kRead).size(), 2U);
}

TEST_F(AsyncRead, ReadIsCompleteWhenBothOfItsRequestsAre) {
  answer_nothing();
  connect(4);
  ASSERT_TRUE(reader_->submit(9, file(), kExtentBytes - 1000, 3000, nullptr).ok());
  ASSERT_TRUE(submit_copy(1).ok());
  reap_now();
  ASSERT_TRUE(daemon_.await_submissions(Opcode::kRead, 3));
  const auto asked = daemon_.submissions(Opcode::kRead);
  daemon_.send({answer_to(asked[1]), answer_to(asked[2])});
  EXPECT_THAT(tags(reap(size_t{1})), ElementsAre(1));
  daemon_.send({answer_to(asked[0])});
  const auto reads = reap(size_t{1});
  EXPECT_THAT(tags(reads), ElementsAre(9));
  EXPECT_TRUE(holds(reads[0].view, kObject, kExtentBytes - 1000, 3000));
}

TEST_F(AsyncRead, RequestsBeyondTheRingWaitForAnswers) {
  limits_ = {.depth = 8, .maximum_read_bytes = kBlockBytes};
  ClientOptions options = daemon_.client_options();
  ASSERT_TRUE(fit_options(limits_, &options).ok());
  options.queue_depth = 4;
  answer_nothing();
  connect(options);
  for (uint64_t tag = 0; tag < 8; ++tag) ASSERT_TRUE(submit_copy(tag).ok());
  reap_now();
  ASSERT_TRUE(daemon_.await_submissions(Opcode::kRead, 4));
  reap_now();
  EXPECT_EQ(counter(Counter::kRequests), 4U);
  for (unsigned answered = 0; answered < 8; ++answered) {
    ASSERT_TRUE(daemon_.await_submissions(Opcode::kRead, answered + 1));
    daemon_.send({answer_to(daemon_.submissions(Opcode::kRead)[answered])});
    const auto reads = reap(size_t{1});
    EXPECT_THAT(tags(reads), ElementsAre(answered));
    EXPECT_TRUE(all_copied(reads));
    reap_now();
  }
}

TEST_F(AsyncRead, HitsBeyondTheHazardsComeByPins) {
  daemon_.publish_block(kObject, 0, 0, kBlockBytes, 1500);
  answer_pinned();
  connect(kHazardsPerQueue + 8);
  for (uint64_t i = 0; i < limits_.depth; ++i) {
    ASSERT_TRUE(reader_->submit(0, file(), offset_of(0), kLength, nullptr).ok());
  }
  const auto reads = reap(size_t{limits_.depth});
  EXPECT_EQ(reads.size(), limits_.depth);
  EXPECT_TRUE(std::all_of(reads.begin(), reads.end(), shown));
  EXPECT_EQ(daemon_.submissions(Opcode::kRead).size(), 8U);
}

TEST_F(AsyncRead, FailureTellsItsTroubleAndSparesTheOthers) {
  daemon_.answer_with([this](const Question& question) {
    return question.submission.offset == offset_of(1) ? failure(ESTALE, kCompletionObjectChanged)
                                                      : answer_to(question.submission);
  });
  connect(4);
  for (uint64_t tag = 0; tag < 3; ++tag) ASSERT_TRUE(submit_copy(tag).ok());
  for (const FinishedRead& read : reap(size_t{3})) {
    EXPECT_EQ(read.status.error_number(), read.tag == 1 ? ESTALE : 0);
    EXPECT_EQ(read.trouble, read.tag == 1 ? Trouble::kObjectChanged : Trouble::kNone);
    EXPECT_EQ(read.bytes, read.tag == 1 ? 0 : kLength);
  }
}

TEST_F(AsyncRead, LimitsAreChecked) {
  connect(4);
  EXPECT_EQ(reader_->submit(0, file(), 0, kBlockBytes + 1, nullptr).error_number(), EINVAL);
  EXPECT_EQ(reader_->submit(0, file(), UINT64_MAX - 5, 10, nullptr).error_number(), EINVAL);
  EXPECT_EQ(reader_->in_flight(), 0U);
  EXPECT_TRUE(reap(true).empty());
}

TEST_F(AsyncRead, DepthAndLengthThatNoBufferHasAreRefused) {
  ClientOptions options;
  const Status status = fit_options({.depth = 64, .maximum_read_bytes = kMaximumReadBytes}, &options);
  EXPECT_EQ(status.error_number(), EINVAL);
  EXPECT_THAT(status.message(), HasSubstr("15 do"));
  EXPECT_TRUE(fit_options({.depth = 15, .maximum_read_bytes = kMaximumReadBytes}, &options).ok());
  EXPECT_EQ(fit_options({.depth = 0, .maximum_read_bytes = 4096}, &options).error_number(), EINVAL);
  EXPECT_EQ(fit_options({.depth = 257, .maximum_read_bytes = 4096}, &options).error_number(), EINVAL);
  EXPECT_EQ(fit_options({.depth = 1, .maximum_read_bytes = 0}, &options).error_number(), EINVAL);
}

TEST_F(AsyncRead, ClientThatAskedForTooLittleIsToldAtOnce) {
  connect(4);
  reader_.reset();
  EXPECT_EQ(AsyncReader::open(client_.get(), {.depth = 5, .maximum_read_bytes = kBlockBytes}).error_number(),
            EINVAL);
  EXPECT_TRUE(AsyncReader::open(client_.get(), limits_).ok());
}

TEST_F(AsyncRead, QueueOfADestroyedReaderIsClean) {
  answer_nothing();
  connect(4);
  submit_and_send(4);
  std::vector<Completion> answers;
  for (const Submission& read : daemon_.submissions(Opcode::kRead)) answers.push_back(answer_to(read));
  daemon_.send(answers);
  reader_.reset();
  ASSERT_TRUE(daemon_.await_submissions(Opcode::kRelease, 4));
  answer_pinned();
  auto channel = client_->open_channel();
  ASSERT_TRUE(channel.ok());
  auto view = (*channel)->read(file(), 0, 1000);
  ASSERT_TRUE(view.ok());
  EXPECT_TRUE(holds(*view, kObject, 0, 1000));
  EXPECT_EQ(daemon_.hellos().size(), 1U);
}

class ImpossibleAsyncAnswer : public AsyncRead, public ::testing::WithParamInterface<int> {};

TEST_P(ImpossibleAsyncAnswer, IsAnErrorOfItsReadAlone) {
  const int kind = GetParam();
  daemon_.answer_with([this, kind](const Question& question) {
    return question.submission.offset == offset_of(0) ? impossible(kind, question.submission)
                                                      : answer_to(question.submission);
  });
  connect(4);
  for (uint64_t tag = 0; tag < 4; ++tag) ASSERT_TRUE(submit_copy(tag).ok());
  for (const FinishedRead& read : reap(size_t{4})) {
    EXPECT_EQ(read.status.error_number(), read.tag == 0 ? EIO : 0);
  }
  EXPECT_EQ(daemon_.hellos().size(), 1U);
}

INSTANTIATE_TEST_SUITE_P(Kinds, ImpossibleAsyncAnswer, ::testing::Range(0, kImpossibleKinds));

// What no daemon says: answers to nobody, and indices that cannot be.
class AnswerToNobody : public AsyncRead, public ::testing::WithParamInterface<int> {
 protected:
  static std::vector<Completion> nonsense(int kind, const Completion& answer, unsigned ring_depth) {
    Completion other = answer;
    switch (kind) {
      case 0:
        other.request_number = 999'999;
        return {other};
      case 1:
        other.request_number = 0;
        return {other};
      case 2:
        return {answer, answer};
      default:
        return std::vector<Completion>(ring_depth + 1, answer);
    }
  }
};

TEST_P(AnswerToNobody, EndsTheAttachmentAndTheReadsGoOutAgain) {
  daemon_.answer_with([this](const Question& question) -> std::optional<Completion> {
    if (daemon_.hellos().size() == 1) return std::nullopt;
    return answer_to(question.submission);
  });
  connect(4);
  submit_and_send(4);
  const Completion answer = answer_to(daemon_.submissions(Opcode::kRead)[1]);
  daemon_.send(nonsense(GetParam(), answer, daemon_.hellos()[0].queue_depth));
  const auto reads = reap(size_t{4});
  EXPECT_EQ(reads.size(), 4U);
  EXPECT_TRUE(all_copied(reads));
  EXPECT_EQ(daemon_.hellos().size(), 2U);
}

INSTANTIATE_TEST_SUITE_P(Kinds, AnswerToNobody, ::testing::Range(0, 4));

TEST_F(AsyncRead, SixteenInFlightGoOutAgainUnderTheirNumbers) {
  answer_nothing();
  connect(16);
  submit_and_send(16);
  daemon_.kill();
  answer_pinned();
  daemon_.start();
  const auto reads = reap(size_t{16});
  EXPECT_EQ(reads.size(), 16U);
  EXPECT_TRUE(all_copied(reads));
  const auto asked = daemon_.submissions(Opcode::kRead);
  ASSERT_EQ(asked.size(), 32U);
  for (unsigned i = 0; i < 16; ++i) {
    EXPECT_EQ(asked[i].request_number, asked[16 + i].request_number);
    EXPECT_EQ(asked[i].offset, asked[16 + i].offset);
  }
  EXPECT_EQ(counter(Counter::kReattachments), 1U);
}

TEST_F(AsyncRead, HelloNamesTheOldestNumberWithoutAnAnswer) {
  answer_nothing();
  connect(4);
  submit_and_send(4);
  const auto asked = daemon_.submissions(Opcode::kRead);
  daemon_.send({answer_to(asked[0]), answer_to(asked[1]), answer_to(asked[3])});
  EXPECT_EQ(reap(size_t{3}).size(), 3U);
  daemon_.kill();
  answer_pinned();
  daemon_.start();
  EXPECT_TRUE(all_copied(reap(size_t{1})));
  EXPECT_EQ(daemon_.hellos().at(1).next_request_number, asked[2].request_number);
}

TEST_F(AsyncRead, WhatTheNewDaemonHasInMemoryIsNotAskedAgain) {
  answer_nothing();
  connect(4);
  submit_and_send(2);
  daemon_.kill();
  daemon_.spoil_with([this](Offer*) { daemon_.publish_block(kObject, 0, 0, kBlockBytes, 1500); });
  answer_pinned();
  daemon_.start();
  EXPECT_TRUE(all_copied(reap(size_t{2})));
  const auto asked = daemon_.submissions(Opcode::kRead);
  ASSERT_EQ(asked.size(), 3U);
  EXPECT_EQ(asked[2].offset, offset_of(1));
}

TEST_F(AsyncRead, ViewsOutliveTheAttachmentUnderReadsThatMoveOn) {
  daemon_.publish_block(kObject, 0, 0, kBlockBytes, 1500);
  answer_nothing();
  connect(4);
  ASSERT_TRUE(submit_view(0).ok());
  auto hit = reap(size_t{1});
  ASSERT_TRUE(submit_view(1).ok());
  reap_now();
  ASSERT_TRUE(daemon_.await_submissions(Opcode::kRead, 1));
  daemon_.kill();
  answer_pinned();
  daemon_.start();
  auto miss = reap(size_t{1});
  EXPECT_TRUE(shown(miss.at(0)));
  EXPECT_TRUE(shown(hit.at(0)));
  EXPECT_EQ(arenas_mapped(), 3U);  // the daemon's, and of the client the old and the new
  hit[0].view.release();
  EXPECT_TRUE(eventually([] { return arenas_mapped() == 2; }));  // the keeper may still hold it for a moment
  EXPECT_TRUE(shown(miss[0]));
  miss[0].view.release();
  EXPECT_TRUE(daemon_.await_submissions(Opcode::kRelease, 1));
}

TEST_F(AsyncRead, IdleReaderLetsTheOldMemoryGo) {
  answer_pinned();
  connect(4);
  ASSERT_TRUE(submit_copy(0).ok());
  ASSERT_EQ(reap(size_t{1}).size(), 1U);
  daemon_.kill();
  daemon_.start();
  ASSERT_TRUE(eventually([&] { return counter(Counter::kReattachments) == 1; }));
  EXPECT_TRUE(eventually([] { return arenas_mapped() == 2; }));
}

TEST_F(AsyncRead, DaemonThatStaysAwayIsAnErrorOfAllReads) {
  answer_nothing();
  connect(4, 300);
  submit_and_send(4);
  daemon_.kill();
  const auto reads = reap(size_t{4});
  ASSERT_EQ(reads.size(), 4U);
  for (const FinishedRead& read : reads) {
    EXPECT_EQ(read.status.error_number(), EIO);
    EXPECT_THAT(read.status.message(), HasSubstr("does not answer since 300 ms"));
  }
  EXPECT_EQ(reader_->in_flight(), 0U);
}

TEST_F(AsyncRead, SilentDaemonFailsTheOverdueReadAndTheYoungerGoesOutAgain) {
  constexpr uint64_t kTimeoutMs = 2000;
  daemon_.answer_with([this](const Question& question) -> std::optional<Completion> {
    if (daemon_.hellos().size() == 1) return std::nullopt;
    return answer_to(question.submission);
  });
  connect(4, kTimeoutMs);
  ASSERT_TRUE(submit_copy(0).ok());
  reap_now();
  std::this_thread::sleep_for(std::chrono::milliseconds(kTimeoutMs / 2));
  ASSERT_TRUE(submit_copy(1).ok());
  const auto first = reap(size_t{1});
  EXPECT_THAT(tags(first), ElementsAre(0));
  EXPECT_EQ(first.at(0).status.error_number(), EIO);
  const auto second = reap(size_t{1});
  EXPECT_THAT(tags(second), ElementsAre(1));
  EXPECT_TRUE(all_copied(second));
}

TEST_F(AsyncRead, ManyDeathsUnderLoadLoseNoRead) {
  answer_pinned();
  connect(8);
  std::atomic<bool> stop{false};
  std::atomic<unsigned> wrong{0};
  std::atomic<unsigned> right{0};
  std::thread thread([&] {
    for (uint64_t tag = 0; tag < 8; ++tag) (void)submit_copy(tag);
    while (reader_->in_flight() != 0 || !stop.load()) {
      for (const FinishedRead& read : reap(true)) {
        ++(copied(read) ? right : wrong);
        if (!stop.load()) (void)submit_copy(read.tag);
      }
    }
  });
  for (int i = 0; i < 8; ++i) {
    std::this_thread::sleep_for(std::chrono::milliseconds(60));
    daemon_.kill();
    daemon_.start();
  }
  stop.store(true);
  thread.join();
  EXPECT_EQ(wrong.load(), 0U);
  EXPECT_GT(right.load(), 0U);
}

}  // namespace
}  // namespace cached::shm::test
