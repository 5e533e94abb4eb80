// cached-bench smallfiles: opens, reads and closes every file of a tree, in random or directory order, and
// makes such a tree first when asked.
#include "bench/workload_corpus.h"
#include "bench/workload_main.h"
#include "bench/workload_options.h"
#include "bench/workload_pass.h"

namespace cached::bench {
namespace {

constexpr const char* kDescription =
    "Opens, reads and closes every file below --directory. --make writes a corpus into a new directory: of "
    "speech\n"
    "(50,000 files around 64 KiB) or of python sources (20,000 around 4 KiB). With --make alone nothing is "
    "read;\n"
    "with both, --make names the place at the source and --directory what is read, for example a mount of "
    "it.";

struct SmallFilesOptions {
  CommonOptions common;
  std::string directory;
  std::string make_directory;
  std::string corpus = "speech";
  std::string order = "random";
  uint64_t files = 0;  // 0: as the corpus has
  uint64_t block_bytes = 128 << 10;
};

std::string contradiction(const SmallFilesOptions& options) {
  if (options.directory.empty() && options.make_directory.empty())
    return "name what to read by --directory, or what to make by --make";
  if (options.make_directory.empty() && options.files != 0) return "--nrfiles: only with --make";
  return "";
}

std::vector<CorpusFile> corpus_of(const SmallFilesOptions& options) {
  const CorpusKind kind = options.corpus == "speech" ? CorpusKind::kSpeech : CorpusKind::kPython;
  const uint64_t count = options.files != 0 ? options.files : default_corpus_files(kind);
  return plan_corpus(kind, count, options.common.seed);
}

Result<PassReport> make_corpus(const SmallFilesOptions& options, const std::vector<CorpusFile>& files) {
  CACHED_RETURN_IF_ERROR(write_corpus(options.make_directory, files, options.common.seed));
  PassReport made{.name = {}, .unit = "files", .ios = files.size(), .latency_ns = {}, .cache = std::nullopt};
  for (const CorpusFile& file : files) made.bytes += file.size_bytes;
  return made;
}

void add_options(CLI::App* app, SmallFilesOptions* options) {
  add_common_options(app, "--loops", &options->common);
  app->add_option("--directory", options->directory, "tree to read");
  app->add_option("--make", options->make_directory,
                  "directory to write a corpus into; must not be there yet");
  app->add_option("--corpus", options->corpus, "what --make writes: speech or python")
      ->check(CLI::IsMember({"speech", "python"}))
      ->capture_default_str();
  app->add_option("--nrfiles", options->files, "files that --make writes (default: as the corpus has)");
  app->add_option("--order", options->order, "random or directory")
      ->check(CLI::IsMember({"random", "directory"}))
      ->capture_default_str();
  add_size_option(app, "--bs", "bytes of each read of a file", &options->block_bytes);
}

int read_tree(const SmallFilesOptions& options) {
  // Listed once, before any caches are dropped: what is timed are open, read and close on names that are
  // known.
  Result<std::vector<std::string>> paths = files_below(options.directory);
  if (!paths.ok()) return fail_workload("smallfiles", paths.status());
  PassPlan plan{.paths = std::move(*paths),
                .in_order = options.order == "directory",
                .block_bytes = options.block_bytes,
                .workers = options.common.workers};
  return run_single_passes(options.common, "smallfiles", [&options, &plan](unsigned number) {
    plan.seed = options.common.seed + number;
    return read_pass(plan, "pass " + std::to_string(number + 1));
  });
}

}  // namespace

int run_small_files(int argc, char** argv) {
  SmallFilesOptions options;
  CLI::App app(kDescription, "cached-bench smallfiles");
  add_options(&app, &options);
  if (std::optional<int> exit_status =
          parse_workload(&app, argc, argv, [&options] { return contradiction(options); })) {
    return *exit_status;
  }
  if (!options.make_directory.empty()) {
    const bool reads_too = !options.directory.empty();
    if (std::optional<int> exit_status =
            make_first(options.common, "smallfiles", reads_too,
                       [&options, files = corpus_of(options)] { return make_corpus(options, files); })) {
      return *exit_status;
    }
  }
  return read_tree(options);
}

}  // namespace cached::bench
