"""The data sets that cases read: each is made once and kept."""

import os
import pathlib
import random
import shutil
import time

MIB = 1 << 20
GIB = 1 << 30
SETTLE_S = 3  # cached does not keep blocks of files that changed just now


def big_plan(_):
    yield "big", 768 * MIB


def small_plan(generator):
    for i in range(20_000):
        yield f"d{i // 100:03}/f{i:05}", generator.randint(20_000, 100_000)


def cold_plan(generator):
    for i in range(4):
        yield f"big{i}", 64 * MIB
    for i in range(1000):
        yield f"d{i // 100}/f{i:04}", generator.randint(20_000, 100_000)


def many_plan(_):
    for i in range(100_000):
        yield f"d{i // 1000:03}/f{i:06}", 0


def ssd_plan(_):
    yield "ssd", 2 * GIB


def epochs_plan(_):
    yield "epochs", 3 * GIB // 2


def rados_large_plan(_):
    yield "large", 2 * GIB


def rados_small_plan(generator):
    for i in range(50_000):
        yield f"d{i // 100:03}/f{i:05}", generator.randint(32 << 10, 96 << 10)


def rados_many_plan(generator):
    for i in range(100_000):
        yield f"speaker-{i // 1000:03}/utterance-{i:06}.flac", generator.randint(500, 1500)


def rados_import_plan(_):
    yield "large", 3 * GIB // 2


PLANS = {"big": big_plan, "small": small_plan, "cold": cold_plan, "many": many_plan, "ssd": ssd_plan,
         "epochs-a": epochs_plan, "epochs-b": epochs_plan, "rados-large": rados_large_plan, "rados-small": rados_small_plan,
         "rados-many": rados_many_plan, "rados-import": rados_import_plan}


def settle():
    """What was written just now gets old enough to be cached, and leaves the kernel's list of what is to be written."""
    os.sync()
    time.sleep(SETTLE_S)


def write_file(path, size, noise):
    with open(path, "wb") as file:
        for start in range(0, size, MIB):
            length = min(MIB, size - start)
            shift = (start // 7 + size) % (len(noise) - length)
            file.write(noise[shift:shift + length])


def prepare_data(directory, name):
    """Makes a data set once. Returns (directory, list): the list has a line 'SIZE PATH' for each file."""
    target, file_list = directory / name, directory / f"{name}.list"
    if target.is_dir() and file_list.is_file():
        return target, file_list
    print(f"  making data set {name} in {target} (once)", flush=True)
    generator = random.Random(name)
    plan = list(PLANS[name](generator))
    noise = generator.randbytes(4 * MIB)
    partial = directory / f"{name}.partial"
    for leftover in (partial, target):
        shutil.rmtree(leftover, ignore_errors=True)
    for parent in sorted({(partial / path).parent for path, _ in plan} | {partial}):
        parent.mkdir(parents=True, exist_ok=True)
    for path, size in plan:
        write_file(partial / path, size, noise)
    settle()
    file_list.write_text("".join(f"{size} {path}\n" for path, size in plan))
    partial.rename(target)
    return target, file_list


def files_of(file_list):
    """[(size, path)] of a list."""
    lines = pathlib.Path(file_list).read_text().splitlines()
    return [(int(size), path) for size, path in (line.split(" ", 1) for line in lines)]
