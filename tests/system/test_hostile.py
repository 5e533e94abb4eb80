"""Clients that break the protocol while honest readers verify every byte: only their own sessions suffer."""

import json
import resource
import subprocess
import sys

import hostile
from harness import SystemTest, wait_until

SECONDS = 4


class HostileTest(SystemTest):
    def hurt_nobody(self, behaviour, memory="96MiB", **tree):
        """Plays `behaviour` beside a mount that reads an arena's double; returns how often it was played."""
        self.make_tree(**({"small": 100, "large": 2, "large_size": "64MiB"} | tree))
        self.start_daemon(memory=memory)
        mount = self.mount()
        self.verify_read(mount, passes=1)
        client = subprocess.Popen([sys.executable, hostile.__file__, str(self.daemon.socket), "data", behaviour,
                                   str(SECONDS)], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        try:
            report = self.verify_read(mount, seconds=SECONDS, threads=4)
            output, errors = client.communicate(timeout=120)
        finally:
            client.kill()
        self.assertEqual(client.returncode, 0, errors)
        played = json.loads(output)
        self.assertGreater(played["played"], 0, played)
        self.assertGreater(report["reads"], 0)
        # Nothing of it is left, and everybody is served as before.
        wait_until(lambda: len(self.sessions()) == 1, 10, "the hostile sessions are gone")
        self.verify_read(mount, passes=1)
        return played

    def test_random_entries_hurt_nobody(self):
        self.hurt_nobody("random_entries")

    def test_malformed_hellos_hurt_nobody(self):
        self.hurt_nobody("malformed_hello")

    def test_rings_that_run_wild_hurt_nobody(self):
        self.hurt_nobody("rings_that_run_wild")

    def test_entries_that_change_while_they_are_read_hurt_nobody(self):
        self.hurt_nobody("entries_that_change")

    def test_hazards_on_everything_hurt_nobody(self):
        self.hurt_nobody("hazards_on_everything")

    def test_completions_that_are_never_taken_hurt_nobody(self):
        self.hurt_nobody("completions_never_taken")

    def test_pins_that_are_never_released_hurt_nobody(self):
        self.hurt_nobody("pins_never_released")

    def test_connections_by_the_thousand_hurt_nobody(self):
        self.hurt_nobody("connections_by_the_thousand")

    def test_descriptors_that_are_not_his_give_nothing(self):
        self.hurt_nobody("descriptors_that_are_not_his")

    def test_a_daemon_with_few_descriptors_serves_those_that_it_has(self):
        self.make_tree(small=200)
        self.start_daemon()
        mount = self.mount()
        # What it has open now and a handful more: too few for its open files and for more sessions.
        resource.prlimit(self.daemon.process.pid, resource.RLIMIT_NOFILE, (80, 80))
        subprocess.run([sys.executable, hostile.__file__, str(self.daemon.socket), "data", "connections_by_the_thousand", "2"],
                       check=False, capture_output=True, timeout=60)
        self.verify_read(mount, passes=2, threads=8)
