// The workloads of cached-bench: see workload_main.h.
#include "bench/workload_main.h"

#include <algorithm>

namespace cached::bench {
namespace {

struct NamedWorkload {
  std::string_view name;
  int (*run)(int argc, char** argv);
};
constexpr NamedWorkload kWorkloads[] = {{"epochs", run_epochs},
                                        {"smallfiles", run_small_files},
                                        {"lmdb", run_lmdb},
                                        {"import", run_import},
                                        {"shared", run_shared}};

const NamedWorkload* find(std::string_view name) {
  const auto* const end = std::end(kWorkloads);
  const auto* const found =
      std::find_if(kWorkloads, end, [name](const NamedWorkload& workload) { return workload.name == name; });
  return found == end ? nullptr : found;
}

}  // namespace

bool is_workload(std::string_view name) {
  return find(name) != nullptr;
}

int run_workload(int argc, char** argv) {
  return find(argv[0])->run(argc, argv);
}

}  // namespace cached::bench
