// Laying out the files of a job: see layout.h.
#include "bench/layout.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>

#include "base/unique_fd.h"
#include "base/units.h"
#include "bench/aligned_buffer.h"
#include "bench/verify.h"

namespace cached::bench {
namespace {

constexpr uint64_t kPieceBytes = kMiB;

std::string below_directory(const BenchOptions& options, const std::string& path) {
  return options.directory.empty() ? path : options.directory + "/" + path;
}

// Space for a file that the job itself will write.
Status reserve(int fd, uint64_t bytes) {
  if (::fallocate(fd, 0, 0, static_cast<off_t>(bytes)) == 0) return Status();
  if (errno != EOPNOTSUPP) return Status::from_errno("cannot reserve " + format_size(bytes));
  return ::ftruncate(fd, static_cast<off_t>(bytes)) == 0 ? Status()
                                                         : Status::from_errno("cannot extend the file");
}

// Data from `begin` to `end`.
Status write_data(int fd, uint64_t begin, uint64_t end, uint64_t seed) {
  AlignedBuffer buffer(std::min(kPieceBytes, end - begin));
  while (begin < end) {
    const uint64_t length = std::min(buffer.size_bytes(), end - begin);
    fill_random(seed ^ begin, buffer.data(), length);
    const ssize_t written = ::pwrite(fd, buffer.data(), length, static_cast<off_t>(begin));
    if (written < 0) return Status::from_errno("cannot lay out " + format_size(end));
    begin += static_cast<uint64_t>(written);
  }
  // Else the job would meet the kernel writing it back.
  return ::fdatasync(fd) == 0 ? Status() : Status::from_errno("cannot sync");
}

// 0 if there is no such file. What is no file is not to be written by accident.
Result<uint64_t> present_bytes(const std::string& path) {
  struct stat status {};
  if (::stat(path.c_str(), &status) != 0) {
    if (errno != ENOENT) return Status::from_errno("stat " + path);
    return uint64_t{0};
  }
  if (!S_ISREG(status.st_mode))
    return Status(EINVAL, path + " is not a file; engine device reads and writes block devices");
  return static_cast<uint64_t>(status.st_size);
}

Status lay_out_one(const BenchOptions& options, const NeededFile& file, uint64_t present) {
  UniqueFd fd(::open(file.path.c_str(), O_WRONLY | O_CREAT | O_CLOEXEC, 0644));
  if (!fd.valid()) {
    return Status::from_errno("cannot lay out " + file.path + ", which is missing or shorter than " +
                              format_size(file.bytes));
  }
  Status status = options.load.reads ? write_data(fd.get(), present, file.bytes, options.seed)
                                     : reserve(fd.get(), file.bytes);
  return status.with_context(file.path);
}

}  // namespace

std::vector<std::string> paths_of(const BenchOptions& options, unsigned clone) {
  std::vector<std::string> paths;
  for (const std::string& name : options.filenames) paths.push_back(below_directory(options, name));
  for (unsigned file = 0; options.filenames.empty() && file < options.files; ++file) {
    const std::string name = options.name + "." + std::to_string(clone) + "." + std::to_string(file);
    paths.push_back(below_directory(options, name));
  }
  return paths;
}

uint64_t needed_bytes(const BenchOptions& options, size_t count) {
  const uint64_t bytes = options.file_bytes != 0 ? options.file_bytes : options.size_bytes / count;
  return bytes == 0 ? 0 : options.offset_bytes + bytes;
}

Result<LayoutResult> lay_out(const BenchOptions& options, const std::vector<NeededFile>& files) {
  LayoutResult result;
  for (const NeededFile& file : files) {
    Result<uint64_t> present = present_bytes(file.path);
    if (!present.ok()) return present.status();
    if (file.bytes == 0 && *present == 0 && options.load.writes)
      return Status(EINVAL,
                    file.path + " is missing or empty: size or filesize must say how long to make it");
    if (*present >= file.bytes) continue;
    if (options.verify != VerifyKind::kNone && !options.load.writes) {
      return Status(EINVAL,
                    file.path + " is missing or shorter than " + format_size(file.bytes) +
                        ": there is nothing to verify; write it first, with rw=write and the same verify");
    }
    CACHED_RETURN_IF_ERROR(lay_out_one(options, file, *present));
    ++result.files;
    result.bytes = file.bytes;
  }
  return result;
}

}  // namespace cached::bench
