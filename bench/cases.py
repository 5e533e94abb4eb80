"""The cases of bench/run.sh, in the order of --list: a module for each subject, which registers what it defines."""

import sys

import harness
import memory_cases  # noqa: F401
import juicefs_cases  # noqa: F401
import ssd_read_cases  # noqa: F401
import ssd_index_cases  # noqa: F401
import epoch_cases  # noqa: F401
import ssd_fill_case  # noqa: F401
import fire_cases  # noqa: F401
import rados_cases  # noqa: F401
import operator_cases  # noqa: F401
import metrics_case  # noqa: F401
import workload_cases  # noqa: F401
import peer_cases  # noqa: F401

if __name__ == "__main__":
    sys.exit(harness.main())
