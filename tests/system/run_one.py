"""Runs one system test for ctest, or all of a module: run_one.py MODULE [METHOD].

Exit status 0 passed, 1 failed, 77 skipped."""

import importlib
import sys
import unittest

SKIPPED = 77


def main():
    module = importlib.import_module(sys.argv[1])
    if len(sys.argv) == 2:
        return run(unittest.defaultTestLoader.loadTestsFromModule(module))
    cases = [value for value in vars(module).values()
             if isinstance(value, type) and issubclass(value, unittest.TestCase) and hasattr(value, sys.argv[2])]
    if len(cases) != 1:
        print(f"{sys.argv[1]} has {len(cases)} test cases with {sys.argv[2]}", file=sys.stderr)
        return 1
    return run(unittest.defaultTestLoader.loadTestsFromName(sys.argv[2], cases[0]))


def run(suite):
    result = unittest.TextTestRunner(verbosity=2).run(suite)
    if not result.wasSuccessful():
        return 1
    return SKIPPED if result.skipped else 0


if __name__ == "__main__":
    sys.exit(main())
