// Tests of RadosReader: parts of objects, and what is damaged.
#include "cached/origin/rados_reader.h"

#include <gtest/gtest.h>

#include "tests/unit/io/reactor_fixture.h"
#include "tests/unit/origin/captured_log.h"
#include "tests/unit/origin/ceph_fixture.h"

namespace cached::origin {
namespace {

class RadosReaderTest : public testing::Test {
 protected:
  void SetUp() override {
    store_ = ready_store(options_for_test());
    reactor_ = io::make_reactor({.name = "test"});
    reactor_->start();
  }
  void TearDown() override { reactor_->stop(); }

  Outcome read(RadosReader& reader, uint64_t offset, uint64_t length, std::vector<iovec> iovecs) {
    auto body = [&]() -> io::Task<Outcome> {
      co_return co_await reader.read(*reactor_, offset, length, std::move(iovecs));
    };
    return io::run_on(*reactor_, body);
  }
  RadosReader reader_of(const std::string& name, uint64_t base, uint64_t size) {
    return RadosReader(store_, damage_, {Pool::kData, name}, base, size);
  }

  CapturedLog log_;
  std::shared_ptr<RadosStore> store_;
  std::shared_ptr<FailureLog> damage_ = std::make_shared<FailureLog>("volume v");
  std::unique_ptr<io::Reactor> reactor_;
};

TEST_F(RadosReaderTest, ReadsItsPartAndNoByteMore) {
  const std::string content = pattern(1 << 20, 6);
  ASSERT_TRUE(store_->write_full({Pool::kData, "o"}, bytes_of(content)).wait().ok());
  RadosReader reader = reader_of("o", 1000, 10'000);
  std::string first(4096, '#');
  std::string second(8192, '#');
  ASSERT_TRUE(read(reader, 4096, 5904, {{first.data(), first.size()}, {second.data(), second.size()}}).ok());
  EXPECT_EQ(first, content.substr(1000 + 4096, 4096));
  EXPECT_EQ(second, content.substr(1000 + 8192, 5904 - 4096) + std::string(8192 - (5904 - 4096), '#'));
}

TEST_F(RadosReaderTest, ReadsFourMiBIntoBlocks) {
  const std::string content = pattern(4 << 20, 7);
  ASSERT_TRUE(store_->write_full({Pool::kData, "o"}, bytes_of(content)).wait().ok());
  RadosReader reader = reader_of("o", 0, content.size());
  std::vector<std::string> blocks(32, std::string(128 << 10, '#'));
  std::vector<iovec> iovecs;
  for (std::string& block : blocks) iovecs.push_back({block.data(), block.size()});
  ASSERT_TRUE(read(reader, 0, content.size(), iovecs).ok());
  std::string joined;
  for (const std::string& block : blocks) joined += block;
  EXPECT_TRUE(joined == content);
  EXPECT_EQ(store_->counters().reads, 1U);
}

TEST_F(RadosReaderTest, ReadOutsideOfItsPartIsRefused) {
  RadosReader reader = reader_of("o", 1000, 10'000);
  std::string buffer(8192, '#');
  EXPECT_EQ(read(reader, 8192, 4096, {{buffer.data(), buffer.size()}}).error, EINVAL);
  EXPECT_EQ(read(reader, UINT64_MAX - 4095, 4096, {{buffer.data(), buffer.size()}}).error, EINVAL);
}

TEST_F(RadosReaderTest, MissingObjectIsEIOAndNamedOnceInTheLog) {
  RadosReader reader = reader_of("gone", 0, 10'000);
  std::string buffer(4096, '#');
  for (int i = 0; i < 5; ++i) EXPECT_EQ(read(reader, 0, 4096, {{buffer.data(), buffer.size()}}).error, EIO);
  EXPECT_EQ(log_.count("volume v: object `gone`: it is missing"), 1U);
}

TEST_F(RadosReaderTest, ShortObjectIsEIOAndNamedInTheLog) {
  ASSERT_TRUE(store_->write_full({Pool::kData, "o"}, bytes_of("0123456789")).wait().ok());
  RadosReader reader = reader_of("o", 4, 100);
  std::string buffer(4096, '#');
  EXPECT_EQ(read(reader, 0, 100, {{buffer.data(), buffer.size()}}).error, EIO);
  EXPECT_EQ(log_.count("object `o`: it ends before a file does whose bytes it holds"), 1U);
}

}  // namespace
}  // namespace cached::origin
