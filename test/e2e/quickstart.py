#!/usr/bin/env python3
"""The story that tools/quickstart tells, with the programs that are built already: told to its end, and interrupted."""

import os
import shutil
import signal
import subprocess
import sys
import tempfile
import unittest

import support
from support import TOOLS, run, wait_until

DEMO = os.path.join(os.path.dirname(os.path.realpath(__file__)), "../../tools/demo/demo.py")


class QuickstartTest(unittest.TestCase):
    def setUp(self):
        self.folder = tempfile.mkdtemp(prefix="corral-e2e-quickstart-")
        self.addCleanup(shutil.rmtree, self.folder)
        self.lab = os.path.join(self.folder, "lab")
        self.log = os.path.join(self.folder, "log")
        self.spaces = self.network_namespaces()
        self.addCleanup(self.demo, "--down", check=False)

    def network_namespaces(self):
        return set(run("ip", "netns").stdout.split())

    def command(self, *arguments):
        return [sys.executable, DEMO, "--folder", self.lab, "--tools", TOOLS, "--log", self.log, *arguments]

    def demo(self, *arguments, check=True):
        return run(*self.command(*arguments), check=check, timeout=300)

    def nothing_is_left(self):
        self.assertFalse(os.path.exists(self.lab))
        self.assertEqual(self.network_namespaces(), self.spaces)
        with open("/proc/self/mountinfo") as mounts:
            self.assertNotIn(self.lab, mounts.read())

    def test_to_its_end(self):
        told = self.demo("--nodes", "2").stdout
        self.assertIn("Both find nothing wrong.", told)
        self.assertIn("my-vm2 comes back", told)
        self.assertIn("for 2 nodes: 3 commands, no reboot", told)
        with open(self.log) as log:
            self.assertIn(log.read().splitlines()[-1], told)
        self.assertTrue(os.path.exists(os.path.join(self.folder, "my-vm1.log")))
        self.nothing_is_left()

    def test_interrupted_and_begun_again(self):
        with subprocess.Popen(self.command(), stdout=subprocess.DEVNULL) as demo:
            wait_until(lambda: os.path.exists(os.path.join(self.lab, "my-vm3/mount.log")), "mounting", 60)
            demo.send_signal(signal.SIGINT)
            self.assertEqual(demo.wait(timeout=120), 130)
        self.nothing_is_left()

    def test_kept_and_taken_down(self):
        self.assertIn("The cluster stays up", self.demo("--keep", "--nodes", "2").stdout)
        again = self.demo(check=False)
        self.assertEqual(again.returncode, 1)
        self.assertIn("tools/quickstart --down", again.stderr)
        shell = run(*self.command("--shell", "my-vm2"), input="hostname; cat mydata/a.txt; corral status mydata\n")
        self.assertIn("my-vm2\n", shell.stdout)
        self.assertIn("appended on my-vm2", shell.stdout)
        self.assertIn("Quorate", shell.stdout)
        self.demo("--down")
        self.nothing_is_left()


if __name__ == "__main__":
    if shutil.which("tgtd") is None:
        print("SKIPPED: there is no tgtd (package tgt)")
        sys.exit(support.SKIPPED)
    support.main()
