"""What the kernel says about processes and the machine, and what it is told to forget."""

import contextlib
import os
import pathlib
import platform


def drop_kernel_caches():
    """Pages, dentries and inodes. Memory files, the arena among them, stay."""
    os.sync()
    pathlib.Path("/proc/sys/vm/drop_caches").write_text("3\n")


def forget_pages(path):
    """Drops the kernel's pages of one file."""
    fd = os.open(path, os.O_RDONLY)
    try:
        os.posix_fadvise(fd, 0, 0, os.POSIX_FADV_DONTNEED)
    finally:
        os.close(fd)


def proc_value(path, *names):
    """Sum of the numbers that stand behind `names` in a file of 'Name: number' lines."""
    values = {}
    for line in pathlib.Path(path).read_text().splitlines():
        key, _, value = line.partition(":")
        values[key] = value.split()
    return sum(int(values[name][0]) for name in names)


def context_switches(pid):
    """Of all threads, voluntary and not."""
    total = 0
    for task in pathlib.Path(f"/proc/{pid}/task").iterdir():
        with contextlib.suppress(FileNotFoundError, ProcessLookupError):
            total += proc_value(task / "status", "voluntary_ctxt_switches", "nonvoluntary_ctxt_switches")
    return total


def cpu_ticks(pid):
    """User and system time in ticks (1/100 s)."""
    fields = pathlib.Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return int(fields[11]) + int(fields[12])


def cpu_ns(pid):
    """Time on a CPU of all threads, exact."""
    total = 0
    for task in pathlib.Path(f"/proc/{pid}/task").iterdir():
        with contextlib.suppress(FileNotFoundError, ProcessLookupError):
            total += int((task / "schedstat").read_text().split()[0])
    return total


def private_bytes(pid):
    """Memory that only this process has mapped."""
    return 1024 * proc_value(f"/proc/{pid}/smaps_rollup", "Private_Clean", "Private_Dirty")


def private_bytes_of_memfds(pid):
    """The part of private_bytes() that lies in memory files: shared memory, of which others mapped no page yet."""
    total_kib, in_memfd = 0, False
    for line in pathlib.Path(f"/proc/{pid}/smaps").read_text().splitlines():
        words = line.split()
        if not words[0].endswith(":"):
            in_memfd = "/memfd:" in line
        elif in_memfd and words[0] in ("Private_Clean:", "Private_Dirty:"):
            total_kib += int(words[1])
    return 1024 * total_kib


def machine():
    model = "unknown CPU"
    for line in pathlib.Path("/proc/cpuinfo").read_text().splitlines():
        if line.startswith("model name"):
            model = line.partition(":")[2].strip()
            break
    ram_gib = proc_value("/proc/meminfo", "MemTotal") / (1 << 20)  # from KiB
    return f"{model}, {os.cpu_count()} cores, {ram_gib:.0f} GiB, Linux {platform.release()}"
