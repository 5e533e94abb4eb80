// A source directory, a store in memory and what tests of data sets do with them.
#pragma once

#include <gtest/gtest.h>

#include <filesystem>
#include <map>
#include <memory>
#include <string>
#include <vector>

#include "cached/import/importer.h"
#include "cached/import/volume_head.h"
#include "cached/volume/dataset_reader.h"
#include "cached/volume/rados_metadata.h"
#include "memory_store.h"

namespace cached::testing_dataset {

class DatasetTest : public testing::Test {
 protected:
  void SetUp() override;
  void TearDown() override;

  void write(const std::string& path, const std::string& content);
  // Bytes that differ for every seed and have no period.
  static std::string noise(size_t size, unsigned seed);

  import::ImportOptions import_options() const;
  // Imports source_ into `volume_`; the report is kept in report_.
  Status import_tree();
  // The current snapshot, or the one that is named.
  std::unique_ptr<volume::SnapshotReader> open_snapshot(uint64_t number = 0);
  // All entries by path ("" is the root), each with its inode's entry.
  std::map<std::string, volume::Entry> tree(volume::SnapshotReader& snapshot);
  // Content of a file by way of the tables and the store, checksums proved.
  std::string content(volume::SnapshotReader& snapshot, const volume::Entry& file);

  std::filesystem::path base_;
  std::filesystem::path source_;
  const std::string volume_ = "data";
  std::shared_ptr<MemoryStore> store_ = std::make_shared<MemoryStore>();
  std::unique_ptr<volume::StoreMetadataSource> metadata_;
  import::ImportReport report_;
};

}  // namespace cached::testing_dataset
