// The trees of small files: see workload_corpus.h.
#include "bench/workload_corpus.h"

#include <spdlog/fmt/fmt.h>

#include <algorithm>
#include <cmath>
#include <filesystem>
#include <fstream>
#include <random>

#include "base/units.h"
#include "bench/make_aside.h"

namespace cached::bench {
namespace {

constexpr uint64_t kSpeechFiles = 50'000;
constexpr uint64_t kSpeechSmallestBytes = 32 * kKiB;
constexpr uint64_t kSpeechLargestBytes = 96 * kKiB;
constexpr uint64_t kSpeechFilesOfDirectory = 100;
constexpr uint64_t kPythonFiles = 20'000;
constexpr double kPythonMeanBytes = 4096;
constexpr uint64_t kPythonSmallestBytes = 64;
constexpr uint64_t kPythonLargestBytes = 64 * kKiB;
constexpr uint64_t kPythonFilesOfDirectory = 20;
constexpr uint64_t kNoiseBytes = 4 * kMiB;

// 0 <= value < 1. Not a standard distribution: those differ between libraries, and a corpus must not.
double uniform(std::mt19937_64* generator) {
  return static_cast<double>((*generator)() >> 11) * 0x1.0p-53;
}

CorpusFile speech_file(uint64_t number, std::mt19937_64* generator) {
  const double range = static_cast<double>(kSpeechLargestBytes - kSpeechSmallestBytes);
  return {fmt::format("speaker-{:04}/utterance-{:06}.flac", number / kSpeechFilesOfDirectory, number),
          kSpeechSmallestBytes + static_cast<uint64_t>(range * uniform(generator))};
}

CorpusFile python_file(uint64_t number, std::mt19937_64* generator) {
  const auto size_bytes = static_cast<uint64_t>(-kPythonMeanBytes * std::log(1 - uniform(generator)));
  return {fmt::format("package_{:04}/module_{:05}.py", number / kPythonFilesOfDirectory, number),
          std::clamp(size_bytes, kPythonSmallestBytes, kPythonLargestBytes)};
}

std::string make_noise(uint64_t seed) {
  std::mt19937_64 generator(seed);
  std::string noise(kNoiseBytes, '\0');
  for (char& byte : noise) byte = static_cast<char>(generator() >> 56);
  return noise;
}

Status write_file(const std::filesystem::path& path, const char* content, uint64_t size_bytes) {
  std::ofstream file(path, std::ios::binary);
  file.write(content, static_cast<std::streamsize>(size_bytes));
  file.close();
  return file ? Status() : Status::from_errno("cannot write " + path.string());
}

Status write_files(const std::filesystem::path& directory, const std::vector<CorpusFile>& files,
                   uint64_t seed) {
  const std::string noise = make_noise(seed);
  std::mt19937_64 generator(seed);
  std::filesystem::path made;
  for (const CorpusFile& file : files) {
    const std::filesystem::path path = directory / file.path;
    if (path.parent_path() != made) {
      made = path.parent_path();
      std::error_code error;
      std::filesystem::create_directories(made, error);
      if (error) return Status(error.value(), "cannot make " + made.string() + ": " + error.message());
    }
    const uint64_t begin = generator() % (noise.size() - file.size_bytes);
    CACHED_RETURN_IF_ERROR(write_file(path, noise.data() + begin, file.size_bytes));
  }
  return Status();
}

}  // namespace

uint64_t default_corpus_files(CorpusKind kind) {
  return kind == CorpusKind::kSpeech ? kSpeechFiles : kPythonFiles;
}

std::vector<CorpusFile> plan_corpus(CorpusKind kind, uint64_t files, uint64_t seed) {
  std::mt19937_64 generator(seed);
  std::vector<CorpusFile> plan;
  for (uint64_t number = 0; number < files; ++number) {
    plan.push_back(kind == CorpusKind::kSpeech ? speech_file(number, &generator)
                                               : python_file(number, &generator));
  }
  return plan;
}

Status write_corpus(const std::string& directory, const std::vector<CorpusFile>& files, uint64_t seed) {
  return make_aside(directory, [&](const std::string& partial) {
    std::error_code error;
    std::filesystem::create_directories(partial, error);
    if (error) return Status(error.value(), "cannot make " + partial + ": " + error.message());
    return write_files(partial, files, seed);
  });
}

}  // namespace cached::bench
