// The options of cached-bench: see options.h.
#include "bench/options.h"

#include <spdlog/fmt/fmt.h>

#include <algorithm>
#include <charconv>
#include <random>

#include "base/units.h"
#include "shm/client.h"

namespace cached::bench {
namespace {

constexpr uint64_t kMaximumThreads = 1024;
constexpr uint64_t kMaximumFiles = 1ULL << 20;

constexpr std::string_view kDescription =
    "cached-bench [options] [job file ...]\n"
    "\n"
    "Reads and writes like fio and reports like fio: options, job files and both reports have fio's names "
    "and\n"
    "meanings. Options before the first --name hold for all jobs; each --name begins a job; without any, "
    "they are\n"
    "the one job. Sizes are fio's: 4k is 4096 bytes, and 4KiB is 4000.\n"
    "\n"
    "Engines io_uring, device and shm keep iodepth I/Os in flight from one thread for each job; the others, "
    "and shm\n"
    "with workload smallfiles, start iodepth threads for each.\n"
    "Engine shm reads through the client library, without FUSE: paths are names in the volume, and the bytes "
    "of each\n"
    "read are copied into a private buffer, as an application would get them, unless --in-place says to take "
    "them\n"
    "where they lie. Engine memcpy copies pieces of bs bytes from random places of the same arena: the floor "
    "of shm.\n"
    "Engine device reads a block device or a file that is there, with O_DIRECT; it writes only with "
    "--allow-writes.\n"
    "Workload smallfiles opens, reads and closes every file of the list once, in random order unless "
    "--in-order says\n"
    "as listed, shared by all jobs; engine shm lists a directory when it meets it in order, as a program "
    "that walks\n"
    "a tree does.\n";

using Job = BenchOptions;

template <auto Member, typename Value, typename Options>
Status store(Result<Value> value, Options* options) {
  if (!value.ok()) return value.status();
  options->*Member = static_cast<std::remove_reference_t<decltype(options->*Member)>>(*value);
  return Status();
}

template <auto Member>
Status set_size(std::string_view text, Job* job) {
  return store<Member>(parse_fio_size(text), job);
}
template <auto Member>
Status set_time(std::string_view text, Job* job) {
  return store<Member>(parse_fio_time(text), job);
}
template <auto Member, uint64_t Lowest, uint64_t Highest>
Status set_number(std::string_view text, Job* job) {
  return store<Member>(parse_number(text, Lowest, Highest), job);
}
template <auto Member>
Status set_flag(std::string_view text, Job* job) {
  return store<Member>(parse_flag(text), job);
}
template <auto Member, typename Options>
Status set_text(std::string_view text, Options* options) {
  options->*Member = text;
  return text.empty() ? Status(EINVAL, "is empty") : Status();
}

// One of a few words, each with what it means.
template <typename Value, size_t Count>
Status choose(std::string_view text, const std::pair<std::string_view, Value> (&choices)[Count],
              Value* chosen) {
  std::string known;
  for (const auto& [name, value] : choices) {
    if (text == name) {
      *chosen = value;
      return Status();
    }
    known += (known.empty() ? "" : ", ") + std::string(name);
  }
  return Status(EINVAL, "'" + std::string(text) + "' is not one of " + known);
}

Status set_engine(std::string_view text, Job* job) {
  constexpr std::pair<std::string_view, EngineKind> kEngines[] = {
      {"shm", EngineKind::kShm},          {"posix", EngineKind::kPosix},   {"psync", EngineKind::kPosix},
      {"io_uring", EngineKind::kIoUring}, {"device", EngineKind::kDevice}, {"memcpy", EngineKind::kMemcpy}};
  job->engine_name = text;
  return choose(text, kEngines, &job->engine);
}

Status set_workload(std::string_view text, Job* job) {
  constexpr std::pair<std::string_view, Workload> kWorkloads[] = {{"blocks", Workload::kBlocks},
                                                                  {"smallfiles", Workload::kSmallFiles}};
  return choose(text, kWorkloads, &job->workload);
}

Status set_verify(std::string_view text, Job* job) {
  constexpr std::pair<std::string_view, VerifyKind> kVerifications[] = {{"0", VerifyKind::kNone},
                                                                        {"crc32c", VerifyKind::kCrc32c},
                                                                        {"crc32c-intel", VerifyKind::kCrc32c},
                                                                        {"xxhash", VerifyKind::kXxhash},
                                                                        {"pattern", VerifyKind::kPattern}};
  return choose(text, kVerifications, &job->verify);
}

// fio's patterns that are honoured: 0x and an even number of hexadecimal digits, or a text in double quotes.
Status set_verify_pattern(std::string_view text, Job* job) {
  job->verify_pattern.clear();
  if (text.size() > 2 && text.front() == '"' && text.back() == '"') {
    job->verify_pattern = text.substr(1, text.size() - 2);
    return Status();
  }
  const std::string_view digits = text.starts_with("0x") ? text.substr(2) : "";
  for (size_t i = 0; i + 1 < digits.size() && digits.size() % 2 == 0; i += 2) {
    unsigned char byte = 0;
    const char* const end = digits.data() + i + 2;
    const auto [rest, error] = std::from_chars(digits.data() + i, end, byte, 16);
    if (error != std::errc() || rest != end)
      return Status(EINVAL, "'" + std::string(text) + "' has what is not a hexadecimal digit");
    job->verify_pattern += static_cast<char>(byte);
  }
  if (!job->verify_pattern.empty()) return Status();
  return Status(EINVAL, "'" + std::string(text) + "' is neither 0x with pairs of digits nor a \"text\"");
}

Status set_file_order(std::string_view text, Job* job) {
  constexpr std::pair<std::string_view, FileOrder> kOrders[] = {{"roundrobin", FileOrder::kRoundRobin},
                                                                {"sequential", FileOrder::kSequential},
                                                                {"random", FileOrder::kRandom}};
  return choose(text, kOrders, &job->file_order);
}

Status set_baseline(std::string_view text, Job* job) {
  constexpr std::pair<std::string_view, bool> kBaselines[] = {{"memcpy", true}};
  return choose(text, kBaselines, &job->memcpy_baseline);
}

Status set_filenames(std::string_view text, Job* job) {
  job->filenames = split(text, ':');
  return job->filenames.empty() ? Status(EINVAL, "names no file") : Status();
}

// RATE for both directions, or READ,WRITE, of which one may be empty.
Status set_rate(std::string_view text, Job* job) {
  const size_t comma = text.find(',');
  const std::string_view parts[kDirections] = {
      text.substr(0, comma), comma == std::string_view::npos ? text : text.substr(comma + 1)};
  for (unsigned direction = 0; direction < kDirections; ++direction) {
    job->rate_bytes[direction] = 0;
    if (parts[direction].empty()) continue;
    Result<uint64_t> rate = parse_fio_size(parts[direction]);
    if (!rate.ok()) return rate.status();
    job->rate_bytes[direction] = *rate;
  }
  return Status();
}

// fio's name for the opposite of what it means here.
Status set_no_random_map(std::string_view text, Job* job) {
  Result<bool> without = parse_flag(text);
  if (!without.ok()) return without.status();
  job->every_block_once = !*without;
  return Status();
}

Status set_random_repeat(std::string_view text, Job* job) {
  Result<bool> repeat = parse_flag(text);
  if (!repeat.ok()) return repeat.status();
  if (!*repeat) job->seed = std::random_device()();
  return Status();
}

Status set_write_percent(std::string_view text, Job* job) {
  Result<uint64_t> percent = parse_number(text, 0, 100);
  if (!percent.ok()) return percent.status();
  job->read_percent_of_mix = 100 - static_cast<unsigned>(*percent);
  return Status();
}

// Jobs are always threads: fio's other choice is refused.
Status only_true(std::string_view text, Job*) {
  Result<bool> flag = parse_flag(text);
  if (!flag.ok()) return flag.status();
  return *flag ? Status() : Status(EINVAL, "jobs are always threads");
}

constexpr OptionSpec<Job> kJobOptions[] = {
    {"name", "", false, "name of the job; begins another one", set_text<&Job::name>},
    {"description", "", false, "text for the reports' options",
     [](std::string_view, Job*) { return Status(); }},
    {"ioengine", "engine", false, "shm, posix (psync is the same), io_uring, device or memcpy (posix)",
     set_engine},
    {"rw", "readwrite", false, "read, write, rw, randread, randwrite or randrw (read)",
     [](std::string_view text, Job* job) { return store<&Job::load>(parse_load_kind(text), job); }},
    {"rwmixread", "", false, "percent of reads in rw and randrw (50)",
     set_number<&Job::read_percent_of_mix, 0, 100>},
    {"rwmixwrite", "", false, "percent of writes in rw and randrw (50)", set_write_percent},
    {"bs", "blocksize", false, "bytes of one I/O; of each read of a file in smallfiles (4k)",
     set_size<&Job::block_bytes>},
    {"size", "", false, "bytes of all files of a job together, shared out evenly (all there is)",
     set_size<&Job::size_bytes>},
    {"filesize", "", false, "bytes of each file", set_size<&Job::file_bytes>},
    {"io_size", "", false, "bytes to read and write before the job ends (size)", set_size<&Job::io_bytes>},
    {"offset", "", false, "where in each file the job begins (0)", set_size<&Job::offset_bytes>},
    {"loops", "", false, "how often to do it all (1)", set_number<&Job::loops, 1, UINT32_MAX>},
    {"filename", "", false, "files, separated by ':' (NAME.JOB.FILE)", set_filenames},
    {"directory", "", false, "directory of the files", set_text<&Job::directory>},
    {"nrfiles", "", false, "files of each job, without filename (1)",
     set_number<&Job::files, 1, kMaximumFiles>},
    {"file_service_type", "", false,
     "files by turns (roundrobin), one after the other (sequential) or at random (roundrobin)",
     set_file_order},
    {"iodepth", "", false, "I/Os in flight for each job (1)", set_number<&Job::depth, 1, kMaximumThreads>},
    {"numjobs", "", false, "so many of this job at one time (1)", set_number<&Job::jobs, 1, kMaximumThreads>},
    {"thread", "", true, "jobs are threads: always", only_true},
    {"runtime", "", false, "end after this time, for example 10, 500ms or 2m", set_time<&Job::runtime_ns>},
    {"time_based", "", true, "start over until runtime is over", set_flag<&Job::time_based>},
    {"ramp_time", "", false, "run this long before anything is counted", set_time<&Job::ramp_ns>},
    {"randseed", "", false, "seed of all random orders (1)", set_number<&Job::seed, 0, UINT64_MAX>},
    {"randrepeat", "", true, "0: another seed in each run", set_random_repeat},
    {"random_distribution", "", false, "random, zipf:theta or pareto:h (random)",
     [](std::string_view text, Job* job) {
       return store<&Job::distribution>(parse_distribution(text), job);
     }},
    {"norandommap", "", true, "at random, blocks may come again before all had their turn",
     set_no_random_map},
    {"direct", "", true, "O_DIRECT (posix and io_uring; device always has it)", set_flag<&Job::direct>},
    {"invalidate", "", true, "drop the files from the kernel's page cache before the job (0; in fio 1)",
     set_flag<&Job::drops_page_cache>},
    {"end_fsync", "", true, "fsync the files at the end of a job that writes", set_flag<&Job::sync_at_end>},
    {"verify", "", false, "0, crc32c, crc32c-intel, xxhash or pattern: in the headers that fio writes",
     set_verify},
    {"verify_pattern", "", false, "bytes for verify=pattern: 0xabcd or a \"text\"", set_verify_pattern},
    {"do_verify", "", true, "read back and check what was written (1)", set_flag<&Job::verify_after_writing>},
    {"rate", "", false, "bytes in a second, at most, for each job: one number, or READ,WRITE", set_rate},
    {"slat_percentiles", "", true, "percentiles of submission latencies (0)",
     set_flag<&Job::submission_percentiles>},
    {"clat_percentiles", "", true, "percentiles of completion latencies (1)",
     set_flag<&Job::completion_percentiles>},
    {"lat_percentiles", "", true, "percentiles of latencies from submission to completion (0)",
     set_flag<&Job::total_percentiles>},
    {"group_reporting", "", true, "one report for all jobs of a group", set_flag<&Job::group_reporting>},
    {"stonewall", "wait_for_previous", true, "begin when all jobs before have ended, as a group of its own",
     set_flag<&Job::after_previous>},
    {"new_group", "", true, "begin another group of reports", set_flag<&Job::new_group>},
    {"allow_writes", "", true, "engine device: the job may overwrite the device",
     set_flag<&Job::allow_device_writes>},
    {"socket", "", false, "socket of the daemon (shm and memcpy)", set_text<&Job::socket>},
    {"volume", "", false, "volume that engine shm reads and whose client maps the arena",
     set_text<&Job::volume>},
    {"uncounted", "", true, "shm: leave out the counters of users and data sets, to see what they cost",
     set_flag<&Job::uncounted>},
    {"in_place", "", true,
     "shm: take views of the bytes in the arena and give them back without touching them",
     set_flag<&Job::in_place>},
    {"baseline", "", false, "memcpy: after the job, run the same with engine memcpy over the same client",
     set_baseline},
    {"workload", "", false, "blocks or smallfiles (blocks)", set_workload},
    {"in_order", "", true, "smallfiles: files in the order of the list", set_flag<&Job::in_order>},
    {"filelist", "", false,
     "smallfiles: a line 'SIZE PATH' for each file, below directory (the directory is walked; shm needs a "
     "list)",
     set_text<&Job::file_list>},
};

Status set_formats(std::string_view text, ProgramOptions* options) {
  options->print_normal = options->print_json = false;
  for (const std::string& format : split(text, ',')) {
    if (format != "normal" && format != "json")
      return Status(EINVAL, "'" + format + "' is neither normal nor json");
    (format == "json" ? options->print_json : options->print_normal) = true;
  }
  return options->print_normal || options->print_json ? Status() : Status(EINVAL, "names no format");
}

Status set_progress(std::string_view text, ProgramOptions* options) {
  constexpr std::pair<std::string_view, Progress> kChoices[] = {
      {"auto", Progress::kIfTerminal}, {"always", Progress::kAlways}, {"never", Progress::kNever}};
  return choose(text, kChoices, &options->progress);
}

constexpr OptionSpec<ProgramOptions> kProgramOptions[] = {
    {"output-format", "", false, "normal, json or both, separated by ',' (normal)", set_formats},
    {"output", "", false, "file for the reports (standard output)",
     set_text<&ProgramOptions::output, ProgramOptions>},
    {"eta", "", false, "a line of progress on standard error: auto (on a terminal), always or never",
     set_progress},
    {"readonly", "", true, "refuse jobs that write",
     [](std::string_view text, ProgramOptions* options) {
       return store<&ProgramOptions::read_only>(parse_flag(text), options);
     }},
};

bool is_in_memory(const Job& job) {
  return job.engine == EngineKind::kShm || job.engine == EngineKind::kMemcpy;
}

Status wrong(const std::string& message) {
  return Status(EINVAL, message);
}

Status check_engine(const Job& job) {
  const bool shm = job.engine == EngineKind::kShm;
  if (is_in_memory(job) && job.volume.empty())
    return wrong("volume: engine " + job.engine_name + " needs one");
  if (is_in_memory(job) && job.direct) return wrong("direct: not with engine " + job.engine_name);
  if (is_in_memory(job) && job.load.writes)
    return wrong("rw: engine " + job.engine_name + " reads only; posix, io_uring and device write");
  if (shm && job.block_bytes > shm::kMaximumReadBytes)
    return wrong("bs: at most " + format_size(shm::kMaximumReadBytes) + " with engine shm");
  if (!is_in_memory(job) && !job.volume.empty()) return wrong("volume: only with engine shm or memcpy");
  if (job.memcpy_baseline && !shm) return wrong("baseline: only with engine shm");
  if (job.in_place && (!shm || job.workload == Workload::kSmallFiles))
    return wrong("in_place: only with engine shm and workload blocks");
  if (job.engine == EngineKind::kDevice && job.filenames.empty())
    return wrong("filename: engine device needs the device or a file that is there");
  if (job.engine == EngineKind::kDevice && job.load.writes && !job.allow_device_writes)
    return wrong("rw: engine device would overwrite the device; allow_writes says that this is meant");
  return Status();
}

Status check_small_files(const Job& job) {
  if (job.engine != EngineKind::kPosix && job.engine != EngineKind::kShm)
    return wrong("workload: engine " + job.engine_name + " has no smallfiles; posix and shm have");
  if (job.load.writes) return wrong("rw: smallfiles reads only");
  if (job.verify != VerifyKind::kNone) return wrong("verify: not with workload smallfiles");
  if (job.rate_bytes[kRead] != 0) return wrong("rate: not with workload smallfiles");
  if (!job.filenames.empty() || !job.file_list.empty()) return Status();
  if (job.engine == EngineKind::kShm) return wrong("filelist: engine shm needs one, or filename");
  if (job.directory.empty()) return wrong("directory: smallfiles needs one, or filelist or filename");
  return Status();
}

Status check_verification(const Job& job) {
  if (job.verify == VerifyKind::kNone) return Status();
  if (is_in_memory(job) && job.in_place) return wrong("verify: not with in_place, which touches no bytes");
  if (job.engine == EngineKind::kMemcpy) return wrong("verify: not with engine memcpy");
  if (job.block_bytes < kSmallestVerifiedBlock || job.block_bytes > UINT32_MAX)
    return wrong("bs: verify needs at least " + std::to_string(kSmallestVerifiedBlock) +
                 " bytes and less than 4g");
  if (job.verify == VerifyKind::kPattern && job.verify_pattern.empty())
    return wrong("verify_pattern: verify=pattern needs one");
  return Status();
}

}  // namespace

std::span<const OptionSpec<BenchOptions>> job_options() {
  return kJobOptions;
}
std::span<const OptionSpec<ProgramOptions>> program_options() {
  return kProgramOptions;
}

Status set_job_option(std::string_view name, std::optional<std::string_view> value, BenchOptions* options) {
  const OptionSpec<BenchOptions>* row = find_option(job_options(), name);
  if (row == nullptr)
    return Status(EINVAL, std::string(name) + ": no such option; cached-bench --help lists them all");
  CACHED_RETURN_IF_ERROR(set_option(*row, value, options));
  options->given.push_back({std::string(row->name), std::string(value.value_or(""))});
  return Status();
}

Status check_job(const BenchOptions& options) {
  if (options.block_bytes == 0 || options.block_bytes > kMaximumBlockBytes)
    return wrong("bs: must be between 1 and " + format_size(kMaximumBlockBytes));
  if (options.size_bytes != 0 && options.size_bytes < options.block_bytes)
    return wrong("size: smaller than bs, one block");
  CACHED_RETURN_IF_ERROR(check_engine(options));
  CACHED_RETURN_IF_ERROR(check_verification(options));
  if (options.time_based && options.runtime_ns == 0) return wrong("time_based: needs runtime");
  if (options.in_order && options.workload != Workload::kSmallFiles)
    return wrong("in_order: only with workload smallfiles");
  if (options.workload == Workload::kSmallFiles) return check_small_files(options);
  if (!options.file_list.empty()) return wrong("filelist: only with workload smallfiles");
  if (options.file_order == FileOrder::kRandom && !options.load.random)
    return wrong("file_service_type: random needs a random rw");
  if (options.engine == EngineKind::kShm && options.filenames.empty() && options.directory.empty())
    return wrong("filename: nothing to read is named");
  return Status();
}

std::string help_text() {
  std::string text(kDescription);
  text += "\nOptions of the program:\n";
  for (const auto& row : program_options()) text += fmt::format("  --{:20} {}\n", row.name, row.help);
  text += "\nOptions of a job, also the keys of job files:\n";
  for (const auto& row : job_options()) {
    text += fmt::format("  --{:20} {}\n", row.name, row.help);
  }
  text +=
      "\nWorkloads, with options of their own (cached-bench WORKLOAD --help):\n"
      "  epochs, smallfiles, lmdb, import, shared\n";
  return text;
}

}  // namespace cached::bench
