// The workloads of cached-bench: what training does to a file system, a subcommand for each.
#pragma once

#include <string_view>

namespace cached::bench {

// Whether this is the name of a workload.
bool is_workload(std::string_view name);

// Runs the workload argv[0] with the options behind it. Returns the exit status: 1 for a workload that
// failed, 2 for a wrong command line.
int run_workload(int argc, char** argv);

// One function for each, in a file of its own.
int run_epochs(int argc, char** argv);
int run_small_files(int argc, char** argv);
int run_lmdb(int argc, char** argv);
int run_import(int argc, char** argv);
int run_shared(int argc, char** argv);

}  // namespace cached::bench
