// main() of the tests that need a cluster: brings it up before the first test, takes it down after the last.
#include <gtest/gtest.h>

#include "tests/unit/origin/ceph_fixture.h"

// Debian's Ceph libraries are not instrumented, so ThreadSanitizer does not see that their reference counts
// order what they do, and reports races inside of them.
extern "C" const char* __tsan_default_suppressions();
extern "C" const char* __tsan_default_suppressions() {
  return "race:libceph-common.so\nrace:librados.so\n";
}

int main(int argc, char** argv) {
  testing::InitGoogleTest(&argc, argv);
  if (!testing::GTEST_FLAG(list_tests))
    testing::AddGlobalTestEnvironment(&cached::origin::CephCluster::instance());
  return RUN_ALL_TESTS();
}
