// Writes the seeds of the fuzzers into folders of DIR: what the encoders make of segments of different
// entries, and what honest clients send.
#include <cstdio>
#include <filesystem>
#include <fstream>
#include <string>

#include "cached/ssd_tier/superblock.h"
#include "shm/handshake.h"
#include "shm/session_layout.h"
#include "tests/fuzz/fuzz_support.h"

namespace {

using namespace cached::ssd_tier;

bool write_seed(const std::filesystem::path& directory, const std::string& name,
                std::span<const std::byte> bytes) {
  std::filesystem::create_directories(directory);
  std::ofstream file(directory / name, std::ios::binary);
  for (const std::byte byte : bytes) file.put(static_cast<char>(byte));
  file.close();
  return !file.fail();
}

bool write_segment_seeds(const std::filesystem::path& directory, const std::string& name, uint32_t entries,
                         uint32_t length_bytes) {
  SegmentBuilder builder(fuzz::layout(), {fuzz::device(), fuzz::kSegment, make_sequence(1, 1)});
  for (uint32_t i = 0; i < entries; ++i) {
    if (!builder.add({{i, length_bytes}, i, 1, 2}, length_bytes + i, Checksums{})) break;
  }
  const Batch batch = builder.finish_batch();
  std::vector<std::byte> batch_seed(2);  // at offset 0
  batch_seed.insert(batch_seed.end(), batch.header.begin(), batch.header.end());

  const Footer footer = builder.finish();
  const std::span<const std::byte> bytes(footer.bytes);
  const auto trailer = bytes.last<kTrailerBytes>();
  const auto table = bytes.first(fuzz::get<uint32_t>(trailer, 28));
  std::vector<std::byte> footer_seed(trailer.begin(), trailer.begin() + 64);
  footer_seed.insert(footer_seed.end(), table.begin(), table.end());
  return write_seed(directory / "batch", name, batch_seed) &&
         write_seed(directory / "footer", name, footer_seed);
}

template <typename T>
std::span<const std::byte> bytes_of(const T& value) {
  return std::as_bytes(std::span<const T, 1>(&value, 1));
}

bool write_client_seeds(const std::filesystem::path& directory) {
  cached::shm::Hello hello;
  hello.queue_count = 4;
  hello.queue_depth = 64;
  hello.buffer_bytes = 2 * cached::kMiB;
  std::strcpy(hello.volume, "data");
  std::strcpy(hello.label, "/mnt/data");
  cached::shm::Submission read;
  read.request_number = 7;
  read.opcode = cached::shm::Opcode::kRead;
  read.offset = 3 * cached::kMiB;
  read.length = 128 * 1024;
  read.buffer_length = 256 * 1024;
  std::vector<std::byte> entry(4, std::byte{0x40});
  entry.insert(entry.end(), bytes_of(read).begin(), bytes_of(read).end());
  return write_seed(directory / "hello", "mount", bytes_of(hello)) &&
         write_seed(directory / "ring_entry", "read", entry);
}

// One record of each kind, behind the byte that says which.
bool write_juicefs_seeds(const std::filesystem::path& directory) {
  const std::string slice("\0\0\0\0\0\0\0\0\0\0\0\x07\0\0\x10\0\0\0\0\0\0\0\x10\0", 24);
  std::string attributes(73, '\0');
  attributes[1] = '\x11';
  attributes[57] = '\x10';
  const std::string acl("\0\6\0\4\0\4\0\4\0\0\0\1\0\0\4\xd2\0\4\0\0\0\0", 22);
  const std::string seeds[] = {
      std::string(1, '\0') + slice + slice,
      "\1" + attributes + slice,
      std::string("\2\x1f"
                  "a\1\0\x50"
                  "aaaaa",
                  10),
      "\3"
      R"({"Name":"n","UUID":"u","Storage":"file","Bucket":"/b/","BlockSize":4096,"Compression":"lz4","MetaVersion":1})",
      "\3"
      R"({"Name":"n","UUID":"u","Storage":"file","Bucket":"/b/","BlockSize":4e50,"Shards":-1.5})",
      "\4" + std::string("\2\0\0\0\0\0\0\0\x4d", 9),
      "\5" + acl,
      "\6c17_3"};
  for (size_t i = 0; i < std::size(seeds); ++i) {
    const auto bytes = std::as_bytes(std::span<const char>(seeds[i].data(), seeds[i].size()));
    if (!write_seed(directory, std::to_string(i), bytes)) return false;
  }
  return true;
}

bool write_control_seeds(const std::filesystem::path& directory) {
  const char* const requests[] = {
      R"({"command":"status"})",
      R"({"command":"drain","device":"/dev/nvme7n1"})",
      R"({"command":"du","data_set":"speech"})",
      R"({"command":"warm","path":"data:/a/b","rate_bytes_per_s":1048576,"parallel":16,"verify":true})",
      R"({"command":"evict","path":"data:/","older_than_s":3600,"dry_run":false})",
      R"({"command":"cancel","job":18446744073709551615})",
      R"({"command":"pin","path":"\u00e4\ud83d\ude00\n","x":[[{"y":[null,1e300,-0.5]}]]})",
  };
  bool good = true;
  size_t number = 0;
  for (const std::string request : requests) {
    good = good &&
           write_seed(directory / "control", std::to_string(number++), std::as_bytes(std::span(request)));
  }
  return good;
}

}  // namespace

int main(int argc, char** argv) {
  if (argc != 2) {
    std::fprintf(stderr, "usage: fuzz_seeds DIR\n");
    return 2;
  }
  const std::filesystem::path directory = argv[1];
  bool good =
      write_juicefs_seeds(directory / "juicefs") && write_segment_seeds(directory, "small", 50, 700) &&
      write_segment_seeds(directory, "pages", 4, 16'384) &&
      write_segment_seeds(directory, "blocks", 6, 131'000) && write_segment_seeds(directory, "one", 1, 1);
  for (const uint64_t capacity : {cached::kGiB, 3 * cached::kTiB}) {
    const SuperblockOnDevice encoded =
        encode_superblock({fuzz::device(), layout_for(capacity, 512).value(), 3, 1'700'000'000});
    good = good && write_seed(directory / "superblock", std::to_string(capacity),
                              std::as_bytes(std::span<const SuperblockOnDevice, 1>(&encoded, 1)));
  }
  std::vector<std::byte> entries(401);
  for (size_t i = 0; i < entries.size(); ++i) entries[i] = static_cast<std::byte>(i * 37 + 1);
  good = good && write_seed(directory / "round_trip", "entries", entries);
  good = good && write_client_seeds(directory) && write_control_seeds(directory);
  if (!good) std::fprintf(stderr, "cannot write seeds into %s\n", argv[1]);
  return good ? 0 : 1;
}
