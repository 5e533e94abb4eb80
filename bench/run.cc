// Runs the jobs of a list: see run.h.
#include "bench/run.h"

#include <spdlog/fmt/fmt.h>

#include <algorithm>
#include <thread>

#include "base/clock.h"
#include "base/units.h"
#include "bench/layout.h"
#include "bench/manifest.h"
#include "bench/report_numbers.h"
#include "bench/shm_engines.h"

namespace cached::bench {
namespace {

// The files of workload smallfiles.
Result<std::vector<std::string>> listed_paths(const BenchOptions& options) {
  if (!options.filenames.empty()) return paths_of(options, 0);
  if (options.file_list.empty()) {
    Result<std::vector<std::filesystem::path>> walked = walk_files(options.directory, Links::kFollow);
    if (!walked.ok()) return walked.status();
    return std::vector<std::string>(walked->begin(), walked->end());
  }
  std::vector<std::string> paths;
  Result<std::vector<ManifestEntry>> entries = read_manifest(options.file_list);
  if (!entries.ok()) return entries.status();
  const std::string directory = options.directory.empty() ? "" : options.directory + "/";
  for (const ManifestEntry& entry : *entries) paths.push_back(directory + entry.path);
  return paths;
}

// One job of the list with all its clones, from its engine to its reports.
class Section {
 public:
  Section(const BenchOptions& options, unsigned group)
      : options_(options), group_(group), engine_name_(options.engine_name) {}
  // The same job once more, on engine memcpy over the same client.
  Section(const Section& first, const BenchOptions& memcpy_options)
      : options_(memcpy_options),
        group_(first.group_),
        engine_name_("memcpy"),
        name_suffix_("-memcpy"),
        client_(first.client_) {}

  const BenchOptions& options() const { return options_; }

  Status lay_out_files(const RunHooks& hooks) const;
  // Opens the engine and the files, and makes the jobs. Nothing runs yet.
  Status open();
  unsigned thread_count() const { return options_.jobs * threads_per_job_; }
  void start(std::barrier<>* begin, std::vector<std::thread>* running);
  void add_running(std::vector<RunningJob>* jobs) const;
  // Adds the reports; one with the last of them if they report as one group.
  void report(uint64_t elapsed_s, std::vector<JobReport>* reports) const;

 private:
  struct Clone {
    IoSource* source;
    std::unique_ptr<JobContext> context;
    std::deque<JobThread> threads;
  };

  Status open_engine();
  Status open_small_files();
  Status open_blocks();
  Result<std::vector<IoSource::Region>> regions_of(const std::vector<uint32_t>& files,
                                                   const std::vector<uint64_t>& sizes) const;
  IoSource::Plan plan_of(std::vector<IoSource::Region> regions, unsigned clone) const;
  void add_clone(IoSource* source, unsigned clone, std::vector<uint32_t> files);

  const BenchOptions& options_;
  const unsigned group_;
  const std::string engine_name_;
  const std::string name_suffix_;
  std::shared_ptr<shm::Client> client_;
  std::unique_ptr<Engine> engine_;
  std::vector<std::string> paths_;
  std::deque<IoSource> sources_;
  std::deque<Clone> clones_;
  unsigned threads_per_job_ = 1;
};

Status Section::lay_out_files(const RunHooks& hooks) const {
  const bool on_files = options_.engine == EngineKind::kPosix || options_.engine == EngineKind::kIoUring;
  if (!on_files || options_.workload == Workload::kSmallFiles) return Status();
  for (unsigned clone = 0; clone < options_.jobs; ++clone) {
    std::vector<NeededFile> files;
    const std::vector<std::string> paths = paths_of(options_, clone);
    for (const std::string& path : paths) files.push_back({path, needed_bytes(options_, paths.size())});
    Result<LayoutResult> result = lay_out(options_, files);
    if (!result.ok()) return result.status().with_context("job " + options_.name);
    if (result->files == 0) continue;
    const uint64_t bytes = result->bytes * result->files;
    const std::string total = bytes < kMiB ? fio_bytes(bytes) : std::to_string(bytes / kMiB) + "MiB";
    const bool one = result->files == 1;
    hooks.say(fmt::format("{}: Laying out IO file{} ({} file{} / {}{})", options_.name, one ? "" : "s",
                          result->files, one ? "" : "s", one ? "" : "total ", total));
  }
  return Status();
}

Status Section::open() {
  CACHED_RETURN_IF_ERROR(open_engine());
  threads_per_job_ = std::max(1U, options_.depth / engine_->in_flight_per_worker());
  CACHED_RETURN_IF_ERROR(options_.workload == Workload::kSmallFiles ? open_small_files() : open_blocks());
  for (const IoSource& source : sources_) {
    if (source.limit() == 0)
      return Status(EINVAL, "nothing to read or write: the files, or size, are smaller than bs");
  }
  return Status();
}

Status Section::open_engine() {
  if (engine_name_ == "memcpy" || options_.engine == EngineKind::kShm) {
    if (client_ == nullptr) {
      Result<std::shared_ptr<shm::Client>> client = connect_client(options_);
      if (!client.ok()) return client.status();
      client_ = std::move(*client);
    }
    engine_ =
        engine_name_ == "memcpy" ? make_memcpy_engine(options_, client_) : make_shm_engine(options_, client_);
  } else if (options_.engine == EngineKind::kIoUring) {
    engine_ = make_io_uring_engine(options_);
  } else {
    engine_ =
        options_.engine == EngineKind::kDevice ? make_device_engine(options_) : make_posix_engine(options_);
  }
  return Status();
}

// One list for all clones together.
Status Section::open_small_files() {
  Result<std::vector<std::string>> paths = listed_paths(options_);
  if (!paths.ok()) return paths.status();
  paths_ = std::move(*paths);
  CACHED_RETURN_IF_ERROR(engine_->remember_paths(paths_));
  std::vector<IoSource::Region> regions;
  for (uint32_t file = 0; file < paths_.size(); ++file) regions.push_back({.file = file});
  IoSource::Plan plan = plan_of(std::move(regions), 0);
  plan.whole_files = true;
  plan.random = !options_.in_order;
  plan.io_bytes = 0;
  sources_.emplace_back(plan);
  for (unsigned clone = 0; clone < options_.jobs; ++clone) add_clone(&sources_.front(), clone, {});
  return Status();
}

// Clones with names of their own have files of their own; else all have the same.
Status Section::open_blocks() {
  const bool shared = !options_.filenames.empty() || engine_name_ == "memcpy";
  std::vector<std::vector<uint32_t>> files_of_clone(options_.jobs);
  for (unsigned clone = 0; clone < options_.jobs; ++clone) {
    if (shared && clone > 0) {
      files_of_clone[clone] = files_of_clone[0];
      continue;
    }
    for (std::string& path : paths_of(options_, clone)) {
      files_of_clone[clone].push_back(static_cast<uint32_t>(paths_.size()));
      paths_.push_back(std::move(path));
    }
  }
  Result<std::vector<uint64_t>> sizes = engine_->open_files(paths_);
  if (!sizes.ok()) return sizes.status();
  for (unsigned clone = 0; clone < options_.jobs; ++clone) {
    // Engine memcpy has one file, the arena.
    if (sizes->size() < paths_.size()) files_of_clone[clone] = {0};
    Result<std::vector<IoSource::Region>> regions = regions_of(files_of_clone[clone], *sizes);
    if (!regions.ok()) return regions.status();
    add_clone(&sources_.emplace_back(plan_of(std::move(*regions), clone)), clone, files_of_clone[clone]);
  }
  return Status();
}

Result<std::vector<IoSource::Region>> Section::regions_of(const std::vector<uint32_t>& files,
                                                          const std::vector<uint64_t>& sizes) const {
  std::vector<IoSource::Region> regions;
  const uint64_t needed = needed_bytes(options_, files.size());
  for (uint32_t file : files) {
    uint64_t end = sizes[file];
    if (needed > end && engine_name_ != "memcpy") {
      return Status(EINVAL, paths_[file] + " has " + fio_bytes(end) +
                                ", and size, filesize and offset ask for " + fio_bytes(needed));
    }
    if (needed != 0) end = std::min(end, needed);
    const uint64_t begin = std::min(end, options_.offset_bytes);
    regions.push_back({.file = file, .offset = begin, .bytes = end - begin});
  }
  return regions;
}

IoSource::Plan Section::plan_of(std::vector<IoSource::Region> regions, unsigned clone) const {
  IoSource::Plan plan;
  plan.regions = std::move(regions);
  plan.block_bytes = options_.block_bytes;
  plan.io_bytes = options_.io_bytes;
  if (plan.io_bytes == 0 && options_.file_bytes != 0) plan.io_bytes = options_.size_bytes;
  plan.loops = options_.loops;
  plan.random = options_.load.random;
  plan.every_block_once = options_.every_block_once;
  plan.endless = options_.time_based;
  plan.file_order = options_.file_order;
  plan.distribution = options_.distribution;
  plan.read_percent = !options_.load.writes ? 100 : options_.load.reads ? options_.read_percent_of_mix : 0;
  plan.remembers_writes = options_.verify != VerifyKind::kNone && options_.load.writes;
  plan.seed = options_.seed + clone;
  return plan;
}

void Section::add_clone(IoSource* source, unsigned clone, std::vector<uint32_t> files) {
  Clone& added = clones_.emplace_back();
  added.source = source;
  added.context = std::make_unique<JobContext>(options_, engine_.get(), source, options_.seed + clone, paths_,
                                               std::move(files), threads_per_job_);
  for (unsigned number = 0; number < threads_per_job_; ++number)
    added.threads.emplace_back(added.context.get(), number);
}

void Section::start(std::barrier<>* begin, std::vector<std::thread>* running) {
  for (Clone& clone : clones_) {
    for (JobThread& thread : clone.threads) running->emplace_back([&thread, begin] { thread.run(begin); });
  }
}

void Section::add_running(std::vector<RunningJob>* jobs) const {
  for (const Clone& clone : clones_)
    jobs->push_back({.options = &options_, .source = clone.source, .threads = &clone.threads});
}

void Section::report(uint64_t elapsed_s, std::vector<JobReport>* reports) const {
  for (const Clone& clone : clones_) {
    const bool joins = options_.group_reporting && name_suffix_.empty() && !reports->empty() &&
                       reports->back().options->group_reporting && reports->back().group == group_;
    if (joins) {
      ++reports->back().jobs;
    } else {
      JobReport report;
      report.name = options_.name + name_suffix_;
      report.options = &options_;
      report.group = group_;
      reports->push_back(std::move(report));
    }
    JobReport& report = reports->back();
    report.elapsed_s = elapsed_s;
    if (report.error.ok()) report.error = clone.context->first_error;
    for (const JobThread& thread : clone.threads) report.stats.merge(thread.stats());
  }
}

// Starts all sections together and waits for their ends.
Status run_together(std::deque<Section>* sections, const RunHooks& hooks) {
  unsigned thread_count = 0;
  std::vector<RunningJob> jobs;
  for (Section& section : *sections) {
    CACHED_RETURN_IF_ERROR(section.open().with_context("job " + section.options().name));
    thread_count += section.thread_count();
    section.add_running(&jobs);
  }
  std::barrier<> begin(thread_count);
  std::vector<std::thread> running;
  hooks.watch(jobs);
  for (Section& section : *sections) section.start(&begin, &running);
  for (std::thread& thread : running) thread.join();
  hooks.watch({});
  return Status();
}

// The baselines that sections of this turn asked for, one after the other.
Status run_baselines(const std::deque<Section>& sections, const RunHooks& hooks,
                     const std::function<uint64_t()>& elapsed_s, std::vector<JobReport>* reports) {
  for (const Section& section : sections) {
    if (!section.options().memcpy_baseline) continue;
    std::deque<Section> baseline;
    baseline.emplace_back(section, section.options());
    CACHED_RETURN_IF_ERROR(run_together(&baseline, hooks));
    baseline.front().report(elapsed_s(), reports);
  }
  return Status();
}

}  // namespace

std::vector<unsigned> groups_of(const std::vector<BenchOptions>& jobs) {
  std::vector<unsigned> groups;
  for (const BenchOptions& job : jobs) {
    const bool begins = !groups.empty() && (job.after_previous || job.new_group);
    groups.push_back(groups.empty() ? 0 : groups.back() + (begins ? 1 : 0));
  }
  return groups;
}

Result<std::vector<JobReport>> run_jobs(const std::vector<BenchOptions>& jobs, const RunHooks& hooks) {
  const uint64_t begin_ns = system_clock().monotonic_ns();
  const auto elapsed_s = [begin_ns] {
    return (system_clock().monotonic_ns() - begin_ns) / kNanosecondsPerSecond + 1;  // as fio, begun seconds
  };
  const std::vector<unsigned> groups = groups_of(jobs);
  for (size_t i = 0; i < jobs.size(); ++i)
    CACHED_RETURN_IF_ERROR(Section(jobs[i], groups[i]).lay_out_files(hooks));
  std::vector<JobReport> reports;
  for (size_t first = 0; first < jobs.size();) {
    std::deque<Section> sections;
    do {
      sections.emplace_back(jobs[first], groups[first]);
      ++first;
    } while (first < jobs.size() && !jobs[first].after_previous);
    CACHED_RETURN_IF_ERROR(run_together(&sections, hooks));
    for (const Section& section : sections) section.report(elapsed_s(), &reports);
    CACHED_RETURN_IF_ERROR(run_baselines(sections, hooks, elapsed_s, &reports));
  }
  return reports;
}

}  // namespace cached::bench
