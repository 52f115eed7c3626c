#!/usr/bin/env python3
"""A mount over iSCSI: mkfs.corral, mount.corral and corral replay on a tgtd of the test's own, with and without a network
that resets connections."""

import filecmp
import os
import random
import shutil
import socket
import subprocess
import sys
import tempfile
import threading
import unittest

import support
from support import run, tool, wait_until

TARGET = "iqn.2026-11.corral.test:disk"
SIZE_MIB = 256


def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


class Target:
    """tgtd with one disk in an image file."""

    def __init__(self, image, address="127.0.0.1"):
        self.image = image
        self.address = address
        self.port = free_port()
        self.control = str(1000 + os.getpid() * 8 % 30000)
        os.makedirs("/var/run/tgtd", exist_ok=True)
        self.start()

    def administer(self, *words, check=True):
        return run("tgtadm", "-C", self.control, "--lld", "iscsi", *words, check=check).returncode == 0

    def start(self):
        self.process = subprocess.Popen(["tgtd", "-f", "-C", self.control, "--iscsi", f"portal={self.address}:{self.port}"],
                                        stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        wait_until(lambda: self.administer("--op", "show", "--mode", "target", check=False), "tgtd")
        self.administer("--op", "new", "--mode", "target", "--tid", "1", "-T", TARGET)
        self.administer("--op", "new", "--mode", "logicalunit", "--tid", "1", "--lun", "1", "-b", self.image)
        self.administer("--op", "bind", "--mode", "target", "--tid", "1", "-I", "ALL")

    def stop(self):
        self.process.kill()
        self.process.wait()


class Network:
    """A TCP proxy to the target. Its connections are reset each time that they have carried `reset_after` bytes one way."""

    def __init__(self, to_port):
        self.to_port = to_port
        self.reset_after = 0
        self.resets = 0
        self.listener = socket.create_server(("127.0.0.1", 0))
        self.port = self.listener.getsockname()[1]
        threading.Thread(target=self.accept, daemon=True).start()

    def end(self):
        # Wakes the accepting thread, which close() would not.
        self.listener.shutdown(socket.SHUT_RDWR)

    def accept(self):
        with self.listener:
            while True:
                try:
                    client = self.listener.accept()[0]
                except OSError:
                    return
                try:
                    server = socket.create_connection(("127.0.0.1", self.to_port))
                except OSError:
                    client.close()
                    continue
                for end in (client, server):
                    end.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                    # Closing sends a reset.
                    end.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
                for ends in ((client, server), (server, client)):
                    threading.Thread(target=self.forward, args=ends, daemon=True).start()

    def forward(self, source, sink):
        """One direction; a thread for each, so that neither waits for the other."""
        carried = 0
        try:
            while data := source.recv(65536):
                sink.sendall(data)
                carried += len(data)
                if 0 < self.reset_after < carried:
                    self.resets += 1
                    break
        except OSError:
            pass
        # Lets go whoever waits in the other direction; the last one to close sends the reset.
        for end in (source, sink):
            try:
                end.shutdown(socket.SHUT_RDWR)
            except OSError:
                pass
        source.close()


class Iscsi(unittest.TestCase):
    def setUp(self):
        self.folder = tempfile.mkdtemp(prefix="corral-e2e-iscsi-")
        self.addCleanup(shutil.rmtree, self.folder)
        self.image = os.path.join(self.folder, "disk.img")
        with open(self.image, "wb") as image:
            image.truncate(SIZE_MIB << 20)
        self.target = Target(self.image)
        self.addCleanup(self.target.stop)
        self.network = Network(self.target.port)
        self.addCleanup(self.network.end)
        self.root = os.path.join(self.folder, "mnt")
        os.mkdir(self.root)
        self.addCleanup(self.leave)
        self.url = f"iscsi://127.0.0.1:{self.network.port}/{TARGET}/1"
        self.make("-O")

    def leave(self):
        if os.path.ismount(self.root):
            run("umount", "-l", self.root, check=False)

    def make(self, *options, check=True):
        return run(tool("mkfs.corral"), "-q", "-p", "lock_nolock", "-j", "1", "-J", "8", *options, self.url,
                   check=check)

    def mount(self, check=True):
        return run(tool("mount.corral"), self.url, self.root, check=check)

    def umount(self):
        run("umount", self.root)

    def fsck(self):
        run("fsck.gfs2", "-n", self.image)

    def grow_tree(self, name, files=200):
        """The same tree in the mount and beside it."""
        draw = random.Random(name)
        beside = os.path.join(self.folder, name)
        for number in range(files):
            path = os.path.join(beside, f"folder{number % 7}", f"file{number}")
            os.makedirs(os.path.dirname(path), exist_ok=True)
            with open(path, "wb") as file:
                file.write(draw.randbytes(draw.choice((0, 100, 4096, 70000, 500000))))
        shutil.copytree(beside, os.path.join(self.root, name))
        return beside

    def assert_same(self, beside):
        for folder, _, files in os.walk(beside):
            other = os.path.join(self.root, os.path.relpath(folder, self.folder))
            self.assertEqual(sorted(os.listdir(other)), sorted(os.listdir(folder)))
            _, different, missing = filecmp.cmpfiles(folder, other, files, shallow=False)
            self.assertEqual((different, missing), ([], []))

    def test_tree(self):
        self.mount()
        beside = self.grow_tree("tree")
        self.umount()
        self.fsck()
        self.assertIn("clean", run(tool("corral"), "replay", "-n", self.url).stdout)
        self.mount()
        self.assert_same(beside)
        self.umount()

    def test_connections_that_are_reset(self):
        self.mount()
        self.network.reset_after = 3 << 20
        beside = self.grow_tree("tree")
        run("sync", "-f", self.root)
        self.assertGreater(self.network.resets, 3)
        self.assert_same(beside)
        self.umount()
        self.network.reset_after = 0
        self.fsck()
        self.mount()
        self.assert_same(beside)
        self.umount()

    def test_target_restarts_between_writes(self):
        self.mount()
        beside = self.grow_tree("before", files=30)
        run("sync", "-f", self.root)
        self.umount()
        self.mount()
        self.target.stop()
        self.target.start()
        after = self.grow_tree("after", files=30)
        self.umount()
        self.fsck()
        self.mount()
        self.assert_same(beside)
        self.assert_same(after)
        self.umount()

    def test_in_use(self):
        self.mount()
        other = os.path.join(self.folder, "other")
        os.mkdir(other)
        done = run(tool("mount.corral"), self.url, other, check=False)
        self.assertEqual(done.returncode, 32)
        self.assertIn("in use", done.stderr)
        self.assertIn("in use", self.make("-O", check=False).stderr)
        self.umount()

    def test_old_contents(self):
        done = self.make(check=False)
        self.assertNotEqual(done.returncode, 0)
        self.assertIn("gfs2", done.stderr)

    def test_no_such_target(self):
        self.url = f"iscsi://127.0.0.1:{self.target.port}/{TARGET}-not/1"
        done = self.mount(check=False)
        self.assertEqual(done.returncode, 32)
        self.assertIn("there is no target", done.stderr)


if __name__ == "__main__":
    if shutil.which("tgtd") is None:
        print("SKIPPED: there is no tgtd (package tgt)")
        sys.exit(support.SKIPPED)
    support.main()
