// cached-bench lmdb: reads records by key from an LMDB file through its memory map, as a data loader does
// that keeps samples in LMDB, and makes such a file first when asked.
#include <lmdb.h>

#include <algorithm>
#include <atomic>
#include <cstring>
#include <memory>
#include <numeric>
#include <random>
#include <thread>

#include "base/clock.h"
#include "base/units.h"
#include "bench/make_aside.h"
#include "bench/workload_main.h"
#include "bench/workload_options.h"
#include "bench/workload_pass.h"

namespace cached::bench {
namespace {

constexpr const char* kDescription =
    "Reads every record of the LMDB file --filename once in each pass, by key, in random order, from its "
    "memory map,\n"
    "and copies it out. --make writes a file of --nrrecords records of --bs bytes; with --make alone nothing "
    "is read.\n"
    "Opened as data loaders do: read-only, without locks, without read-ahead unless --readahead is given.";

constexpr mdb_mode_t kFileMode = 0644;
constexpr uint64_t kRecordsOfTransaction = 10'000;
constexpr size_t kKeyBytes = 10;

struct LmdbOptions {
  CommonOptions common;
  std::string filename;
  std::string make_filename;
  uint64_t records = 100'000;
  uint64_t record_bytes = 8 << 10;
  bool read_ahead = false;
};

Status lmdb_error(int code, const std::string& what) {
  // LMDB's own codes are negative; what is not is an errno.
  return Status(code > 0 ? code : EIO, what + ": " + mdb_strerror(code));
}

struct CloseEnvironment {
  void operator()(MDB_env* environment) const { mdb_env_close(environment); }
};
using Environment = std::unique_ptr<MDB_env, CloseEnvironment>;

struct AbortTransaction {
  void operator()(MDB_txn* transaction) const { mdb_txn_abort(transaction); }
};
using Transaction = std::unique_ptr<MDB_txn, AbortTransaction>;

Result<Environment> open_environment(const std::string& path, unsigned flags, uint64_t map_bytes) {
  MDB_env* raw = nullptr;
  if (int code = mdb_env_create(&raw); code != 0) return lmdb_error(code, "cannot start LMDB");
  Environment environment(raw);
  if (map_bytes != 0) mdb_env_set_mapsize(raw, map_bytes);
  if (int code = mdb_env_open(raw, path.c_str(), flags | MDB_NOSUBDIR, kFileMode); code != 0) {
    return lmdb_error(code, "cannot open the LMDB file " + path);
  }
  return environment;
}

Result<Transaction> begin(MDB_env* environment, unsigned flags) {
  MDB_txn* raw = nullptr;
  if (int code = mdb_txn_begin(environment, nullptr, flags, &raw); code != 0) {
    return lmdb_error(code, "cannot begin a transaction");
  }
  return Transaction(raw);
}

Status commit(Transaction transaction) {
  const int code = mdb_txn_commit(transaction.release());
  return code == 0 ? Status() : lmdb_error(code, "cannot commit");
}

// The file's only database, for all transactions that begin later.
Result<MDB_dbi> open_database(MDB_env* environment) {
  Result<Transaction> transaction = begin(environment, MDB_RDONLY);
  if (!transaction.ok()) return transaction.status();
  MDB_dbi database = 0;
  if (int code = mdb_dbi_open(transaction->get(), nullptr, 0, &database); code != 0) {
    return lmdb_error(code, "cannot open the database in the file");
  }
  CACHED_RETURN_IF_ERROR(commit(std::move(*transaction)));
  return database;
}

// Decimal with leading zeros, as loaders name their samples.
std::string key_of(uint64_t record) {
  std::string digits = std::to_string(record);
  return std::string(kKeyBytes - std::min(kKeyBytes, digits.size()), '0') + digits;
}

// Making the file -------------------------------------------------------------------------------------------

// Puts records [first, end): a number in front, by which a reader knows the record, and bytes that differ.
Status put_records(MDB_env* environment, MDB_dbi database, uint64_t first, uint64_t end, std::string* value) {
  Result<Transaction> transaction = begin(environment, 0);
  if (!transaction.ok()) return transaction.status();
  for (uint64_t record = first; record < end; ++record) {
    std::string key = key_of(record);
    std::memcpy(value->data(), &record, sizeof record);
    MDB_val lmdb_key{key.size(), key.data()};
    MDB_val lmdb_value{value->size(), value->data()};
    if (int code = mdb_put(transaction->get(), database, &lmdb_key, &lmdb_value, MDB_APPEND); code != 0) {
      return lmdb_error(code, "cannot put record " + key);
    }
  }
  return commit(std::move(*transaction));
}

Status write_records(const std::string& path, const LmdbOptions& options) {
  // Values over a quarter of a page get pages of their own; a tenth and 64 MiB are enough for the tree.
  const uint64_t value_bytes = align_up(options.record_bytes + 2 * kKiB, 4 * kKiB);
  const uint64_t map_bytes = options.records * value_bytes / 10 * 11 + 64 * kMiB;
  Result<Environment> environment = open_environment(path, MDB_NOLOCK, map_bytes);
  if (!environment.ok()) return environment.status();
  Result<MDB_dbi> database = open_database(environment->get());
  if (!database.ok()) return database.status();
  std::string value(options.record_bytes, '\0');
  for (size_t i = 0; i < value.size(); ++i) value[i] = static_cast<char>(i * 2654435761U >> 13);
  for (uint64_t first = 0; first < options.records; first += kRecordsOfTransaction) {
    const uint64_t end = std::min(first + kRecordsOfTransaction, options.records);
    CACHED_RETURN_IF_ERROR(put_records(environment->get(), *database, first, end, &value));
  }
  return Status();
}

Result<PassReport> make_file(const LmdbOptions& options) {
  CACHED_RETURN_IF_ERROR(make_aside(options.make_filename, [&options](const std::string& partial) {
    return write_records(partial, options);
  }));
  return PassReport{.name = {},
                    .unit = "records",
                    .ios = options.records,
                    .bytes = options.records * options.record_bytes,
                    .latency_ns = {},
                    .cache = std::nullopt};
}

// Reading it ------------------------------------------------------------------------------------------------

// The order of the records of a pass, which its workers share.
class RecordOrder {
 public:
  RecordOrder(uint64_t records, uint64_t seed) : records_(records) {
    std::iota(records_.begin(), records_.end(), uint64_t{0});
    std::shuffle(records_.begin(), records_.end(), std::mt19937_64(seed));
  }
  // Writes the next record's number; false when all were handed out. Any thread.
  bool next(uint64_t* record) {
    const uint64_t place = cursor_.fetch_add(1, std::memory_order_relaxed);
    if (place >= records_.size()) return false;
    *record = records_[place];
    return true;
  }

 private:
  std::vector<uint64_t> records_;
  std::atomic<uint64_t> cursor_{0};
};

// One worker of a pass, in a thread and a transaction of its own.
class Reader {
 public:
  Reader(MDB_env* environment, MDB_dbi database, RecordOrder* order)
      : environment_(environment), database_(database), order_(order) {}

  void run() { outcome_ = read_all(); }
  const Status& outcome() const { return outcome_; }
  const Histogram& latency_ns() const { return latency_ns_; }
  uint64_t bytes() const { return bytes_; }

 private:
  Status read_all() {
    Result<Transaction> transaction = begin(environment_, MDB_RDONLY);
    if (!transaction.ok()) return transaction.status();
    for (uint64_t record = 0; order_->next(&record);) {
      const uint64_t begin_ns = system_clock().monotonic_ns();
      CACHED_RETURN_IF_ERROR(read_record(transaction->get(), record));
      latency_ns_.record(system_clock().monotonic_ns() - begin_ns);
    }
    return Status();
  }

  Status read_record(MDB_txn* transaction, uint64_t record) {
    std::string key = key_of(record);
    MDB_val lmdb_key{key.size(), key.data()};
    MDB_val value{};
    if (int code = mdb_get(transaction, database_, &lmdb_key, &value); code != 0) {
      return lmdb_error(code, "cannot get record " + key);
    }
    // The copy is what touches the pages.
    sample_.assign(static_cast<const char*>(value.mv_data), value.mv_size);
    bytes_ += value.mv_size;
    uint64_t found = ~record;
    if (value.mv_size >= sizeof found) std::memcpy(&found, sample_.data(), sizeof found);
    return found == record ? Status() : Status(EIO, "record " + key + " has the bytes of another one");
  }

  MDB_env* environment_;
  MDB_dbi database_;
  RecordOrder* order_;
  std::string sample_;
  uint64_t bytes_ = 0;
  Histogram latency_ns_;
  Status outcome_;
};

Result<PassReport> report_of(const std::vector<std::unique_ptr<Reader>>& readers, const std::string& name) {
  PassReport report{.name = name, .unit = "records", .latency_ns = {}, .cache = std::nullopt};
  for (const std::unique_ptr<Reader>& reader : readers) {
    CACHED_RETURN_IF_ERROR(reader->outcome());
    report.latency_ns.merge(reader->latency_ns());
    report.bytes += reader->bytes();
  }
  report.ios = report.latency_ns.count();
  return report;
}

// A pass opens the file anew: a map that is open keeps the kernel's pages.
Result<PassReport> read_records(const LmdbOptions& options, unsigned number) {
  const unsigned flags = MDB_RDONLY | MDB_NOLOCK | MDB_NOTLS | (options.read_ahead ? 0U : MDB_NORDAHEAD);
  Result<Environment> environment = open_environment(options.filename, flags, 0);
  if (!environment.ok()) return environment.status();
  Result<MDB_dbi> database = open_database(environment->get());
  if (!database.ok()) return database.status();
  MDB_stat statistics{};
  mdb_env_stat(environment->get(), &statistics);
  RecordOrder order(statistics.ms_entries, options.common.seed + number);
  const uint64_t begin_ns = system_clock().monotonic_ns();
  std::vector<std::unique_ptr<Reader>> readers;
  std::vector<std::thread> threads;
  for (unsigned worker = 0; worker < options.common.workers; ++worker) {
    readers.push_back(std::make_unique<Reader>(environment->get(), *database, &order));
    threads.emplace_back([reader = readers.back().get()] { reader->run(); });
  }
  for (std::thread& thread : threads) thread.join();
  Result<PassReport> report = report_of(readers, "pass " + std::to_string(number + 1));
  if (report.ok()) report->runtime_ns = system_clock().monotonic_ns() - begin_ns;
  return report;
}

// The command -----------------------------------------------------------------------------------------------

std::string contradiction(const LmdbOptions& options) {
  if (options.filename.empty() && options.make_filename.empty())
    return "name what to read by --filename, or what to make by --make";
  if (options.record_bytes < sizeof(uint64_t)) return "--bs: a record takes at least 8 bytes, its number";
  return "";
}

void add_options(CLI::App* app, LmdbOptions* options) {
  add_common_options(app, "--loops", &options->common);
  app->add_option("--filename", options->filename, "LMDB file to read, which --make has made");
  app->add_option("--make", options->make_filename, "LMDB file to write; must not be there yet");
  app->add_option("--nrrecords", options->records, "records that --make writes")
      ->check(CLI::Range(uint64_t{1}, uint64_t{9'999'999'999}))
      ->capture_default_str();
  add_size_option(app, "--bs", "bytes of a record that --make writes", &options->record_bytes);
  app->add_flag("--readahead", options->read_ahead,
                "leave the kernel's read-ahead on, as LMDB does by default");
}

}  // namespace

int run_lmdb(int argc, char** argv) {
  LmdbOptions options;
  CLI::App app(kDescription, "cached-bench lmdb");
  add_options(&app, &options);
  if (std::optional<int> exit_status =
          parse_workload(&app, argc, argv, [&options] { return contradiction(options); })) {
    return *exit_status;
  }
  if (!options.make_filename.empty()) {
    const bool reads_too = !options.filename.empty();
    if (std::optional<int> exit_status =
            make_first(options.common, "lmdb", reads_too, [&options] { return make_file(options); })) {
      return *exit_status;
    }
  }
  return run_single_passes(options.common, "lmdb",
                           [&options](unsigned number) { return read_records(options, number); });
}

}  // namespace cached::bench
