"""The case of the exporter: how long Prometheus waits."""

import socket
import statistics
import time
import urllib.request

from harness import BenchError, case, result_of

SESSIONS = 64
LIMIT_MS = 50


def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


@case("metrics", "<= 1")
def metrics(bench):
    """A scrape of /metrics with 64 mounts attached, while one of them reads: against 50 ms."""
    source, files = bench.data("big")
    port = free_port()
    daemon = bench.daemon(source, "1GiB", sections=f'[metrics]\nlisten = "127.0.0.1:{port}"\n')
    mounts = [bench.mount(daemon, threads=4) for _ in range(SESSIONS)]
    load = bench.start_load("--engine=posix", f"--directory={mounts[0].path}", "--filename=big", "--bs=128k",
                            "--rw=randread", "--direct=1", "--runtime=30s", "--time_based")
    time.sleep(0.5)

    def scrape():
        begin = time.monotonic()
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics", timeout=10) as answer:
            text = answer.read().decode()
        elapsed_ms = 1000 * (time.monotonic() - begin)
        if text.count("\ncached_session_pins{") != SESSIONS:
            raise BenchError(f"the scrape shows {text.count(chr(10) + 'cached_session_pins{')} sessions")
        return elapsed_ms

    runs = bench.runs(50)
    samples = [scrape() for _ in range(runs)]
    if load.poll() is not None:
        raise BenchError("the load ended before the scrapes did")
    print(f"  slowest scrape {max(samples):.1f} ms, fastest {min(samples):.1f} ms, "
          f"median {statistics.median(samples):.1f} ms")
    return result_of(bench.case, "ms", samples, [LIMIT_MS] * runs)
