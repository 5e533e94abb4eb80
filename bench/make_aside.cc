// Making what is there whole or not at all: see make_aside.h.
#include "bench/make_aside.h"

#include <filesystem>

namespace cached::bench {

Status make_aside(const std::string& target, const std::function<Status(const std::string&)>& make) {
  std::error_code error;
  if (std::filesystem::exists(target, error))
    return Status(EEXIST, target + " is there already; remove it, or leave --make out to read it");
  const std::string partial = target + ".partial";
  std::filesystem::remove_all(partial, error);  // of a run that was interrupted
  if (error) return Status(error.value(), "cannot remove " + partial + ": " + error.message());
  CACHED_RETURN_IF_ERROR(make(partial));
  std::filesystem::rename(partial, target, error);
  if (error) return Status(error.value(), "cannot rename " + partial + ": " + error.message());
  return Status();
}

}  // namespace cached::bench
