// cached-rados-loop: the floor of the rados cases: as plain a loop over librados as can be written, with so
// many operations in flight.
//
// The bytes of a read stay where librados received them and are dropped: nothing is copied, checked or kept.
// One thread begins operations, librados's own threads end them. Prints JSON: what was moved, in which time,
// and what CPU time the process took for it, librados's threads included.
#include <sys/resource.h>

#include <CLI/CLI.hpp>
#include <algorithm>
#include <atomic>
#include <iostream>
#include <nlohmann/json.hpp>
#include <rados/librados.hpp>
#include <random>
#include <semaphore>
#include <string>
#include <vector>

#include "base/clock.h"
#include "base/units.h"
#include "bench/manifest.h"

namespace cached::bench {
namespace {

struct LoopOptions {
  std::string conf;
  std::string pool;
  std::string list;
  std::string block = "4MiB";
  unsigned depth = 16;
  bool random = false;
  uint64_t seed = 1;
  double runtime_s = 0;  // 0: until everything was moved once
};

// One operation: a whole object, or a part of one.
struct Piece {
  const std::string* object;
  uint64_t offset;
  uint64_t length;
};

struct Loop {
  std::counting_semaphore<> room;
  std::atomic<int> error{0};  // the first one, as librados gives it
  std::atomic<uint64_t> bytes{0};
  std::atomic<uint64_t> operations{0};
};

// An operation in flight; freed when it ended.
struct Flight {
  Loop* loop;
  uint64_t length;
  bool reading;
  librados::AioCompletion* completion = nullptr;
  librados::bufferlist bytes = {};
};

void end(rados_completion_t, void* argument) {
  auto* const flight = static_cast<Flight*>(argument);
  Loop& loop = *flight->loop;
  const int result = flight->completion->get_return_value();
  const bool whole = !flight->reading || flight->bytes.length() == flight->length;
  if (result < 0 || !whole) {
    int none = 0;
    loop.error.compare_exchange_strong(none, result < 0 ? result : -EIO);
  } else {
    loop.bytes.fetch_add(flight->length, std::memory_order_relaxed);
    loop.operations.fetch_add(1, std::memory_order_relaxed);
  }
  flight->completion->release();
  delete flight;
  loop.room.release();
}

std::vector<Piece> pieces_of(const std::vector<ManifestEntry>& objects, uint64_t block_bytes) {
  std::vector<Piece> pieces;
  for (const ManifestEntry& object : objects) {
    for (uint64_t at = 0; at < object.size_bytes; at += block_bytes)
      pieces.push_back({&object.path, at, std::min(block_bytes, object.size_bytes - at)});
  }
  return pieces;
}

double cpu_seconds() {
  rusage usage{};
  getrusage(RUSAGE_SELF, &usage);
  const auto seconds = [](const timeval& time) {
    return static_cast<double>(time.tv_sec) + static_cast<double>(time.tv_usec) / 1e6;
  };
  return seconds(usage.ru_utime) + seconds(usage.ru_stime);
}

double now_s() {
  return static_cast<double>(system_clock().monotonic_ns()) / static_cast<double>(kNanosecondsPerSecond);
}

// Moves pieces in order until all were moved or time is over.
int run(librados::IoCtx& pool, const LoopOptions& options, const std::vector<Piece>& pieces, bool reading) {
  librados::bufferlist content;
  if (!reading) {
    const auto longest = std::max_element(pieces.begin(), pieces.end(),
                                          [](const Piece& a, const Piece& b) { return a.length < b.length; });
    std::string noise(longest->length, '\0');
    std::mt19937_64 generator(options.seed);
    for (char& byte : noise) byte = static_cast<char>(generator());
    content.append(noise);
  }
  Loop loop{std::counting_semaphore<>(options.depth)};
  const double cpu_before_s = cpu_seconds();
  const double begin_s = now_s();
  for (const Piece& piece : pieces) {
    loop.room.acquire();
    if (loop.error != 0 || (options.runtime_s > 0 && now_s() - begin_s >= options.runtime_s)) {
      loop.room.release();
      break;
    }
    auto* const flight = new Flight{&loop, piece.length, reading};
    flight->completion = librados::Rados::aio_create_completion(flight, end);
    int begun = 0;
    if (reading) {
      begun = pool.aio_read(*piece.object, flight->completion, &flight->bytes, piece.length, piece.offset);
    } else {
      librados::bufferlist part;
      part.substr_of(content, 0, static_cast<unsigned>(piece.length));
      begun = pool.aio_write_full(*piece.object, flight->completion, part);
    }
    if (begun < 0) {
      std::cerr << "cached-rados-loop: " << *piece.object << ": " << std::strerror(-begun) << '\n';
      return 1;
    }
  }
  for (unsigned i = 0; i < options.depth; ++i) loop.room.acquire();
  const double seconds = now_s() - begin_s;
  if (loop.error != 0) {
    std::cerr << "cached-rados-loop: an operation failed: " << std::strerror(-loop.error) << '\n';
    return 1;
  }
  const nlohmann::ordered_json report = {{"seconds", seconds},
                                         {"bytes", loop.bytes.load()},
                                         {"operations", loop.operations.load()},
                                         {"cpu_seconds", cpu_seconds() - cpu_before_s}};
  std::cout << report.dump() << '\n';
  return 0;
}

int connect_and_run(const LoopOptions& options, bool reading) {
  const Result<std::vector<ManifestEntry>> objects = read_manifest(options.list);
  const Result<uint64_t> block_bytes = parse_size(options.block);
  for (const Status& status : {objects.status(), block_bytes.status()}) {
    if (status.ok()) continue;
    std::cerr << "cached-rados-loop: " << status.message() << '\n';
    return 2;
  }
  // An object is written as a whole.
  std::vector<Piece> pieces = pieces_of(*objects, reading ? *block_bytes : UINT64_MAX);
  if (pieces.empty() || *block_bytes == 0) {
    std::cerr << "cached-rados-loop: there is nothing to do in " << options.list << '\n';
    return 2;
  }
  if (options.random) std::shuffle(pieces.begin(), pieces.end(), std::mt19937_64(options.seed));
  librados::Rados rados;
  librados::IoCtx pool;
  int result = rados.init("admin");
  if (result >= 0) result = rados.conf_read_file(options.conf.c_str());
  if (result >= 0) result = rados.connect();
  if (result >= 0) result = rados.ioctx_create(options.pool.c_str(), pool);
  if (result < 0) {
    std::cerr << "cached-rados-loop: cannot open pool " << options.pool << " of " << options.conf << ": "
              << std::strerror(-result) << '\n';
    return 1;
  }
  return run(pool, options, pieces, reading);
}

void add_common_options(CLI::App* app, LoopOptions* options) {
  app->add_option("--conf", options->conf, "ceph.conf of the cluster; the user is client.admin")->required();
  app->add_option("--pool", options->pool, "pool of the objects")->required();
  app->add_option("--list", options->list, "list with a line 'SIZE NAME' for each object")->required();
  app->add_option("--iodepth", options->depth, "operations in flight")->check(CLI::Range(1U, 4096U));
  app->add_option("--randseed", options->seed, "seed of order and content");
}

}  // namespace
}  // namespace cached::bench

int main(int argc, char** argv) {
  using namespace cached::bench;
  LoopOptions options;
  CLI::App app("Reads or writes objects with librados alone, so many at a time, and prints how fast.",
               "cached-rados-loop");
  CLI::App* const read = app.add_subcommand("read", "Reads the objects, each in pieces of bs.");
  CLI::App* const write = app.add_subcommand("write", "Writes the objects, each as a whole.");
  add_common_options(read, &options);
  add_common_options(write, &options);
  read->add_option("--bs", options.block, "bytes of one read")->capture_default_str();
  read->add_flag("--random", options.random, "in random order instead of the list's");
  read->add_option("--runtime", options.runtime_s, "end after so many seconds");
  app.require_subcommand(1);
  CLI11_PARSE(app, argc, argv);
  return connect_and_run(options, read->parsed());
}
