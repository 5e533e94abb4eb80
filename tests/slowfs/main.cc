// cached-slowfs BACKING MOUNTPOINT CONTROL: shows the directory BACKING, read-only, as slowly as the file
// CONTROL says at the moment: "go" at once, "delay N" every operation N ms late, "hang" not before CONTROL
// says something else.
//
// What it plays is a source on a network that has trouble: the daemon under test meets it through real system
// calls that do not return. An interrupted caller (a process that is killed) gets EINTR, so that nothing is
// left of a test.
#define FUSE_USE_VERSION 35
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <fuse.h>
#include <signal.h>
#include <sys/stat.h>
#include <sys/types.h>
#include <unistd.h>

#include <chrono>
#include <cstdio>
#include <fstream>
#include <sstream>
#include <string>
#include <thread>

namespace {

std::string backing;
std::string control;

std::string order() {
  std::ostringstream text;
  text << std::ifstream(control).rdbuf();
  return text.str();
}

// 0 when the operation may go on.
int wait_turn() {
  const std::string first = order();
  if (first.starts_with("delay ")) {
    std::this_thread::sleep_for(std::chrono::milliseconds(std::stoi(first.substr(6))));
    return 0;
  }
  while (order().starts_with("hang")) {
    if (fuse_interrupted() != 0) return -EINTR;
    std::this_thread::sleep_for(std::chrono::milliseconds(10));
  }
  return 0;
}

int get_attributes(const char* path, struct stat* status, fuse_file_info* /*info*/) {
  if (const int error = wait_turn(); error != 0) return error;
  return ::lstat((backing + path).c_str(), status) == 0 ? 0 : -errno;
}

int read_link(const char* path, char* target, size_t size) {
  if (const int error = wait_turn(); error != 0) return error;
  const ssize_t length = ::readlink((backing + path).c_str(), target, size - 1);
  if (length < 0) return -errno;
  target[length] = '\0';
  return 0;
}

int open_file(const char* path, fuse_file_info* info) {
  if (const int error = wait_turn(); error != 0) return error;
  const int fd = ::open((backing + path).c_str(), O_RDONLY | O_CLOEXEC);
  if (fd < 0) return -errno;
  info->fh = static_cast<uint64_t>(fd);
  return 0;
}

int read_file(const char* /*path*/, char* data, size_t size, off_t offset, fuse_file_info* info) {
  if (const int error = wait_turn(); error != 0) return error;
  const ssize_t length = ::pread(static_cast<int>(info->fh), data, size, offset);
  return length < 0 ? -errno : static_cast<int>(length);
}

int release_file(const char* /*path*/, fuse_file_info* info) {
  ::close(static_cast<int>(info->fh));
  return 0;
}

int read_directory(const char* path, void* buffer, fuse_fill_dir_t fill, off_t /*offset*/,
                   fuse_file_info* /*info*/, fuse_readdir_flags /*flags*/) {
  if (const int error = wait_turn(); error != 0) return error;
  DIR* const directory = ::opendir((backing + path).c_str());
  if (directory == nullptr) return -errno;
  while (const dirent* const entry = ::readdir(directory)) {
    fill(buffer, entry->d_name, nullptr, 0, static_cast<fuse_fill_dir_flags>(0));
  }
  ::closedir(directory);
  return 0;
}

// Nothing may be remembered by the kernel: every operation of the daemon must come here and wait.
void* begin(fuse_conn_info* /*connection*/, fuse_config* config) {
  config->attr_timeout = 0;
  config->entry_timeout = 0;
  config->negative_timeout = 0;
  config->use_ino = 1;
  config->intr = 1;
  return nullptr;
}

}  // namespace

int main(int argc, char** argv) {
  if (argc != 4) {
    std::fprintf(stderr, "usage: cached-slowfs BACKING MOUNTPOINT CONTROL\n");
    return 2;
  }
  backing = argv[1];
  control = argv[3];
  fuse_operations operations{};
  operations.init = begin;
  operations.getattr = get_attributes;
  operations.readlink = read_link;
  operations.open = open_file;
  operations.read = read_file;
  operations.release = release_file;
  operations.readdir = read_directory;
  // With `intr` libfuse tells a thread by this signal that its request was interrupted, and installs a handler
  // only if it knew that before begin(): without one every interrupted request would end the process.
  ::signal(SIGUSR1, [](int) {});
  char foreground[] = "-f";
  char option[] = "-oallow_other";
  char* arguments[] = {argv[0], argv[2], foreground, option, nullptr};
  return ::fuse_main(4, arguments, &operations, nullptr);
}
