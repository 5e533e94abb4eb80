#!/usr/bin/env python3
"""Makes the data set of quickstart.sh: many small files and a few large ones, of random bytes.

    quickstart_data.py DIRECTORY          makes the files below DIRECTORY, which must not exist
    quickstart_data.py --size             prints how many bytes that will take
"""
import os
import random
import sys

SMALL_FILES = 5000
SMALL_BYTES = (20 * 1024, 100 * 1024)
SMALL_FILES_PER_DIRECTORY = 250
LARGE_FILES = 2
LARGE_BYTES = 512 * 1024 * 1024
PIECE_BYTES = 4 * 1024 * 1024


def write_file(path, size_bytes):
    with open(path, "wb", buffering=0) as file:
        left = size_bytes
        while left > 0:
            piece = os.urandom(min(left, PIECE_BYTES))
            left -= file.write(piece)


def make_data_set(directory):
    sizes = random.Random(1)
    os.makedirs(os.path.join(directory, "large"))
    for number in range(SMALL_FILES):
        folder = os.path.join(directory, "small", f"{number // SMALL_FILES_PER_DIRECTORY:03d}")
        if number % SMALL_FILES_PER_DIRECTORY == 0:
            os.makedirs(folder)
        write_file(os.path.join(folder, f"sample-{number:05d}.bin"), sizes.randint(*SMALL_BYTES))
    for number in range(LARGE_FILES):
        write_file(os.path.join(directory, "large", f"archive-{number}.bin"), LARGE_BYTES)


def main():
    if sys.argv[1:] == ["--size"]:
        print(SMALL_FILES * sum(SMALL_BYTES) // 2 + LARGE_FILES * LARGE_BYTES)
    elif len(sys.argv) == 2:
        make_data_set(sys.argv[1])
    else:
        sys.exit(__doc__)


if __name__ == "__main__":
    main()
