// Names, attributes and listings through a channel.
#include <dirent.h>
#include <gtest/gtest.h>

#include <cstring>

#include "base/clock.h"
#include "scripted_daemon.h"

namespace cached::shm::test {
namespace {

constexpr Handle kChild{9, 9};
constexpr Freshness kOneSecond{kNanosecondsPerSecond};

InodeInfo inode(const Handle& handle, uint64_t size, uint64_t validated_at_ns) {
  InodeInfo info;
  info.handle = handle;
  info.size = size;
  info.validated_at_ns = validated_at_ns;
  return info;
}

// An answer with `output` in the request's buffer.
Completion bytes(const Question& question, std::string_view output) {
  std::memcpy(question.buffer + question.submission.buffer_offset, output.data(), output.size());
  Completion completion;
  completion.result = output.size();
  return completion;
}
Completion bytes(const Question& question, const InodeInfo& info) {
  return bytes(question, std::string_view(reinterpret_cast<const char*>(&info), sizeof info));
}

class ChannelMetadata : public ::testing::Test {
 protected:
  ChannelMetadata() {
    daemon_.start();
    client_ = std::move(Client::connect(daemon_.client_options()).value());
    channel_ = std::move(client_->open_channel().value());
  }
  static uint64_t now() { return system_clock().monotonic_ns(); }
  static uint64_t long_ago() { return now() - 100 * kNanosecondsPerSecond; }
  void answer_inode(const InodeInfo& info) {
    daemon_.answer_with([info](const Question& question) { return bytes(question, info); });
  }
  ScriptedDaemon daemon_;
  std::unique_ptr<Client> client_;
  std::unique_ptr<Channel> channel_;
};

TEST_F(ChannelMetadata, FreshNameAndInodeAskNobody) {
  const uint64_t validated_at_ns = now();
  daemon_.publish_name(kRoot, "a", &kChild, validated_at_ns);
  daemon_.publish_inode(inode(kChild, 123, now()));
  auto found = channel_->lookup(kRoot, "a", kOneSecond);
  ASSERT_TRUE(found.ok()) << found.status().message();
  EXPECT_TRUE(found->exists);
  EXPECT_EQ(found->info.size, 123U);
  EXPECT_EQ(found->name_validated_at_ns, validated_at_ns);
  EXPECT_TRUE(daemon_.submissions().empty());
  EXPECT_EQ(client_->counter(Counter::kLookupHits), 1U);
}

TEST_F(ChannelMetadata, FreshAbsenceAsksNobody) {
  daemon_.publish_name(kRoot, "a", nullptr, now());
  auto found = channel_->lookup(kRoot, "a", kOneSecond);
  ASSERT_TRUE(found.ok());
  EXPECT_FALSE(found->exists);
  EXPECT_TRUE(daemon_.submissions().empty());
}

TEST_F(ChannelMetadata, StaleNameIsAskedFor) {
  daemon_.publish_name(kRoot, "a", &kChild, long_ago());
  daemon_.publish_inode(inode(kChild, 123, now()));
  answer_inode(inode(kChild, 456, now()));
  auto found = channel_->lookup(kRoot, "a", kOneSecond);
  ASSERT_TRUE(found.ok());
  EXPECT_EQ(found->info.size, 456U);
  EXPECT_EQ(daemon_.submissions(Opcode::kLookup).size(), 1U);
}

TEST_F(ChannelMetadata, StaleInodeIsAskedFor) {
  daemon_.publish_name(kRoot, "a", &kChild, now());
  daemon_.publish_inode(inode(kChild, 123, long_ago()));
  answer_inode(inode(kChild, 456, now()));
  EXPECT_EQ(channel_->lookup(kRoot, "a", kOneSecond)->info.size, 456U);
}

TEST_F(ChannelMetadata, StaleAbsenceIsAskedFor) {
  daemon_.publish_name(kRoot, "a", nullptr, long_ago());
  answer_inode(inode(kChild, 456, now()));
  EXPECT_TRUE(channel_->lookup(kRoot, "a", kOneSecond)->exists);
}

TEST_F(ChannelMetadata, ImmutableInodeNeverAges) {
  InodeInfo info = inode(kChild, 123, long_ago());
  info.flags = kInodeImmutable;
  daemon_.publish_inode(info);
  EXPECT_EQ(channel_->attributes(kChild, kOneSecond)->size, 123U);
  EXPECT_TRUE(daemon_.submissions().empty());
}

TEST_F(ChannelMetadata, LookupSendsParentAndName) {
  daemon_.answer_with([](const Question&) { return failure(ENOENT); });
  auto found = channel_->lookup(kChild, "name", kOneSecond);
  ASSERT_TRUE(found.ok());
  EXPECT_FALSE(found->exists);
  EXPECT_EQ(daemon_.last_input(), "name");
  EXPECT_EQ(daemon_.submissions().at(0).handle, kChild);
}

TEST_F(ChannelMetadata, ImpossibleNamesAreRefused) {
  EXPECT_EQ(channel_->lookup(kRoot, "", kOneSecond).error_number(), EINVAL);
  EXPECT_EQ(channel_->lookup(kRoot, std::string(256, 'x'), kOneSecond).error_number(), ENAMETOOLONG);
}

TEST_F(ChannelMetadata, UnknownHandleIsTrouble) {
  daemon_.answer_with([](const Question&) { return failure(ESTALE, kCompletionHandleUnknown); });
  EXPECT_EQ(channel_->attributes(kChild, kOneSecond).error_number(), ESTALE);
  EXPECT_EQ(channel_->trouble(), Trouble::kHandleUnknown);
}

TEST_F(ChannelMetadata, AttributesOfAnotherLengthAreAnError) {
  daemon_.answer_with([](const Question& question) { return bytes(question, "short"); });
  EXPECT_EQ(channel_->attributes(kChild, kOneSecond).error_number(), EIO);
  daemon_.answer_with([](const Question&) {
    Completion completion;
    completion.result = UINT64_MAX;
    return completion;
  });
  EXPECT_EQ(channel_->attributes(kChild, kOneSecond).error_number(), EIO);
}

TEST_F(ChannelMetadata, CachedAttributesNeverAsk) {
  InodeInfo info;
  EXPECT_FALSE(channel_->cached_attributes(kChild, &info));
  daemon_.publish_inode(inode(kChild, 5, long_ago()));
  EXPECT_TRUE(channel_->cached_attributes(kChild, &info));
  EXPECT_EQ(info.size, 5U);
  EXPECT_TRUE(daemon_.submissions().empty());
}

TEST_F(ChannelMetadata, StaleRecordsCountWhileTheDaemonIsAway) {
  daemon_.publish_name(kRoot, "a", &kChild, long_ago());
  daemon_.publish_inode(inode(kChild, 123, long_ago()));
  daemon_.kill();
  EXPECT_EQ(channel_->attributes(kChild, kOneSecond)->size, 123U);
  auto found = channel_->lookup(kRoot, "a", kOneSecond);
  ASSERT_TRUE(found.ok());
  EXPECT_EQ(found->info.size, 123U);
}

TEST_F(ChannelMetadata, ResolveSendsTheExpectedHandleAndThePath) {
  daemon_.answer_with([](const Question& question) { return bytes(question, inode(kChild, 1, 1)); });
  auto info = channel_->resolve(kChild, "a/b/c");
  ASSERT_TRUE(info.ok());
  EXPECT_EQ(daemon_.last_input(), "a/b/c");
  EXPECT_EQ(daemon_.submissions(Opcode::kResolve).at(0).handle, kChild);
}

TEST_F(ChannelMetadata, LinksXattrsAndStatisticsAreCopiedOut) {
  daemon_.answer_with([](const Question& question) { return bytes(question, "target " + question.input); });
  EXPECT_EQ(channel_->read_link(kChild).value(), "target ");
  EXPECT_EQ(channel_->get_xattr(kChild, "user.x").value(), "target user.x");
  EXPECT_EQ(channel_->list_xattrs(kChild).value(), "target ");
  EXPECT_EQ(channel_->statistics().error_number(), EIO);
  const VolumeStatistics expected{10, 20, 1, 0};
  daemon_.answer_with([expected](const Question& question) {
    return bytes(question, std::string_view(reinterpret_cast<const char*>(&expected), sizeof expected));
  });
  EXPECT_EQ(channel_->statistics()->files, 20U);
}

TEST_F(ChannelMetadata, ErrorsOfTheOriginArePassedOn) {
  daemon_.answer_with([](const Question&) { return failure(ENODATA); });
  EXPECT_EQ(channel_->get_xattr(kChild, "user.x").error_number(), ENODATA);
}

// A listing's records one after another.
std::string record(std::string_view name, uint64_t cookie, bool has_info) {
  DirectoryRecord record;
  record.name_length = static_cast<uint16_t>(name.size());
  record.record_bytes = static_cast<uint32_t>((sizeof record + name.size() + 7) / 8 * 8);
  record.type = DT_REG;
  record.has_info = has_info ? 1 : 0;
  record.next_cookie = cookie;
  record.info.size = cookie * 100;
  std::string bytes(record.record_bytes, '\0');
  std::memcpy(bytes.data(), &record, sizeof record);
  name.copy(bytes.data() + sizeof record, name.size());
  return bytes;
}

TEST_F(ChannelMetadata, ListingIsVisitedEntryByEntry) {
  daemon_.answer_with([](const Question& question) {
    Completion completion = bytes(question, record("one", 1, true) + record("twenty-two", 2, false));
    completion.flags = kCompletionEndOfDirectory;
    return completion;
  });
  std::vector<std::string> names;
  std::vector<uint64_t> sizes;
  bool end = false;
  const auto visit = [&](const DirectoryEntry& entry) {
    names.emplace_back(entry.name);
    sizes.push_back(entry.info != nullptr ? entry.info->size : 0);
    return true;
  };
  ASSERT_TRUE(channel_->read_directory(kRoot, 42, true, 0, visit, &end).ok());
  EXPECT_EQ(names, (std::vector<std::string>{"one", "twenty-two"}));
  EXPECT_EQ(sizes, (std::vector<uint64_t>{100, 0}));
  EXPECT_TRUE(end);
  const Submission asked = daemon_.submissions(Opcode::kReadDirectory).at(0);
  EXPECT_EQ(asked.offset, 42U);
  EXPECT_EQ(asked.flags, kSubmissionWithAttributes);
}

TEST_F(ChannelMetadata, ListingThatIsStoppedIsNotComplete) {
  daemon_.answer_with([](const Question& question) {
    Completion completion = bytes(question, record("one", 1, true) + record("two", 2, true));
    completion.flags = kCompletionEndOfDirectory;
    return completion;
  });
  bool end = true;
  unsigned visited = 0;
  const auto visit = [&](const DirectoryEntry&) { return ++visited < 1; };
  ASSERT_TRUE(channel_->read_directory(kRoot, 0, false, 0, visit, &end).ok());
  EXPECT_EQ(visited, 1U);
  EXPECT_FALSE(end);
}

TEST_F(ChannelMetadata, ListingsThatCannotBeAreErrors) {
  const std::string good = record("name", 1, true);
  std::vector<std::string> bad;
  bad.push_back(good.substr(0, good.size() - 1));
  bad.push_back(good.substr(0, 10));
  for (const uint32_t record_bytes : {0U, 8U, 181U, 1U << 31}) {
    bad.push_back(good);
    std::memcpy(bad.back().data(), &record_bytes, sizeof record_bytes);
  }
  const uint16_t long_name = 60'000;
  bad.push_back(good);
  std::memcpy(bad.back().data() + offsetof(DirectoryRecord, name_length), &long_name, sizeof long_name);
  for (const std::string& listing : bad) {
    daemon_.answer_with([listing](const Question& question) { return bytes(question, listing); });
    bool end = false;
    const Status status = channel_->read_directory(
        kRoot, 0, true, 0, [](const DirectoryEntry&) { return true; }, &end);
    EXPECT_EQ(status.error_number(), EIO);
  }
}

}  // namespace
}  // namespace cached::shm::test
