// The trees of small files that `cached-bench smallfiles` makes and reads.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "base/status.h"

namespace cached::bench {

enum class CorpusKind { kSpeech, kPython };

struct CorpusFile {
  std::string path;  // below the corpus' directory
  uint64_t size_bytes = 0;
};

// How many files this kind has when nobody says otherwise.
uint64_t default_corpus_files(CorpusKind kind);

// The files of a corpus: the same for the same arguments.
// Speech: recordings of 32 to 96 KiB, a hundred to a speaker. Python: sources around 4 KiB, most of them
// smaller and few much larger, twenty to a package.
std::vector<CorpusFile> plan_corpus(CorpusKind kind, uint64_t files, uint64_t seed);

// Writes the files below `directory`, which must not be there yet: whole or not at all.
Status write_corpus(const std::string& directory, const std::vector<CorpusFile>& files, uint64_t seed);

}  // namespace cached::bench
