#!/usr/bin/env python3
"""mount.corral itself: options and errors, the daemon, every way in which a mount ends, what the kernel answers alone."""

import errno
import json
import mmap
import os
import random
import shutil
import signal
import stat
import subprocess
import tempfile
import unittest
import urllib.parse
import urllib.request

import support
from iscsi import free_port
from support import MountedTest, Volume, run, wait_until


class Errors(unittest.TestCase):
    """What mount.corral refuses: said on standard error before it returns, and nothing is left behind."""

    def setUp(self):
        self.volume = Volume()
        self.addCleanup(self.volume.remove)

    def refuses(self, code, message, *arguments, device=None, volume=None):
        volume = volume or self.volume
        done = run(*volume.mount_command(*arguments, device=device), check=False)
        self.assertEqual(done.returncode, code, done.stderr)
        self.assertIn(message, done.stderr)
        self.assertFalse(volume.mounted())
        self.assertIsNone(volume.server())
        self.assertEqual(volume.loop_devices(), [])

    def test_options(self):
        self.refuses(1, 'unknown mount option "frobnicate"', "-o", "rw,frobnicate")
        self.refuses(1, "must be one of ordered, writeback", "-o", "data=journal")
        self.refuses(1, "must be a number from 1 to 3600", "-o", "commit=soon")
        done = run(support.tool("mount.corral"), check=False)
        self.assertEqual(done.returncode, 1)

    def test_places(self):
        self.refuses(32, "No such file or directory", device="/nowhere/volume.img")
        self.refuses(32, "not a block device or image file", device="/dev/null")
        os.rmdir(self.volume.root)
        self.refuses(32, "No such file or directory")
        with open(self.volume.root, "w"):
            pass
        self.refuses(32, "not a directory")
        os.unlink(self.volume.root)
        os.mkdir(self.volume.root)

    def test_what_is_no_volume(self):
        with open(self.volume.image, "r+b") as image:
            image.seek(65536)
            image.write(bytes(4096))
        self.refuses(32, self.volume.image)

    def test_cluster_volumes(self):
        for protocol, table in (("lock_dlm", "my-cluster:storage"),):
            volume = Volume(protocol=protocol, table=table)
            self.addCleanup(volume.remove)
            self.refuses(32, "-o lockproto=lock_nolock mounts it on this node alone", volume=volume)
            volume.mount("-o", "lockproto=lock_nolock")
            volume.umount()
            volume.fsck()

    def test_in_use(self):
        self.volume.mount()
        other = os.path.join(self.volume.folder, "other")
        os.mkdir(other)
        program = support.tool("mount.corral")
        done = run(program, self.volume.image, other, check=False)
        self.assertEqual(done.returncode, 32)
        self.assertIn("in use", done.stderr)
        loop = self.volume.loop_devices()[0]
        done = run(program, loop, other, check=False)
        self.assertEqual(done.returncode, 32)
        self.assertIn("in use", done.stderr)
        self.volume.umount()
        self.volume.fsck()


class Endings(MountedTest):
    def test_umount_returns_when_everything_is_written(self):
        for number in range(5):
            for i in range(50):
                self.write(f"file-{number}-{i}", random.Random(i).randbytes(20_000))
            self.volume.umount()
            self.volume.fsck()
            self.volume.mount()
            self.assertEqual(len(os.listdir(self.root)), (number + 1) * 50)
        self.volume.umount()
        self.assertEqual(self.volume.loop_devices(), [])
        wait_until(lambda: self.volume.server() is None, "the daemon ends")

    def test_signals_unmount(self):
        for number in (signal.SIGTERM, signal.SIGINT):
            self.write("file", b"written before the signal")
            os.kill(self.volume.server(), number)
            wait_until(lambda: self.volume.server() is None, "the daemon ends")
            self.assertFalse(self.volume.mounted())
            self.volume.fsck()
            self.volume.mount()
            self.assertEqual(self.read("file"), b"written before the signal")

    def test_signal_with_open_files(self):
        file = open(self.path("file"), "wb", buffering=0)
        file.write(b"kept")
        os.kill(self.volume.server(), signal.SIGTERM)
        wait_until(lambda: self.volume.server() is None, "the daemon ends")
        self.assertFalse(self.volume.mounted())
        self.volume.fsck()
        with self.assertRaises(OSError):
            file.write(b"lost")
        file.close()
        self.volume.mount()
        self.assertEqual(self.read("file"), b"kept")

    def test_hangup_is_survived(self):
        os.kill(self.volume.server(), signal.SIGHUP)
        self.write("file", b"still there")
        self.assertEqual(self.read("file"), b"still there")
        self.assertIsNotNone(self.volume.server())

    def test_kill_and_replay(self):
        for round_number in range(3):
            synced = {}
            for i in range(40):
                name = f"file-{round_number}-{i}"
                data = random.Random(i).randbytes(5000 * (i % 7))
                with open(self.path(name), "wb") as file:
                    file.write(data)
                    file.flush()
                    os.fsync(file.fileno())
                synced[name] = data
            for i in range(200):
                self.write(f"unsynced-{round_number}-{i}", b"x" * i * 100)
            os.kill(self.volume.server(), signal.SIGKILL)
            wait_until(lambda: self.volume.server() is None, "the daemon is dead")
            support.wait_until(self.dead, "the mount gives errors")
            self.volume.umount()
            self.volume.mount()
            for name, data in synced.items():
                self.assertEqual(self.read(name), data)
            self.volume.umount()
            self.volume.fsck()
            self.volume.mount()

    def dead(self):
        try:
            os.listdir(self.root)
            return False
        except OSError as error:
            return error.errno in (errno.ENOTCONN, errno.ECONNABORTED)

    def test_forced_umount(self):
        self.write("file", b"x" * 100_000)
        run("umount", "-f", self.root)
        wait_until(lambda: self.volume.server() is None, "the daemon writes everything and ends")
        self.volume.fsck()
        self.volume.mount()
        self.assertEqual(self.read("file"), b"x" * 100_000)

    def test_foreground(self):
        self.volume.umount()
        process = subprocess.Popen(self.volume.mount_command("-f"), stderr=subprocess.PIPE, text=True)
        wait_until(self.volume.mounted, "it is mounted")
        self.write("file", b"x")
        self.volume.umount()
        _, messages = process.communicate(timeout=60)
        self.assertEqual(process.returncode, 0, messages)
        self.assertIn("jid=0: Looking at journal", messages)


class Options(MountedTest):
    def test_read_only(self):
        self.write("file", b"x")
        self.remount("-o", "ro")
        self.assertEqual(self.read("file"), b"x")
        self.refuses(errno.EROFS, self.write, "other")
        self.refuses(errno.EROFS, os.unlink, self.path("file"))
        self.refuses(errno.EROFS, os.open, self.path("file"), os.O_WRONLY)
        done = run(support.tool("mount.corral"), self.volume.image, self.root, "-o", "remount,rw",
                   check=False)
        self.assertEqual(done.returncode, 32)
        self.assertIn("mounted read-only", done.stderr)

    def test_spectator(self):
        self.write("file", b"x")
        self.remount("-o", "spectator")
        self.assertEqual(self.read("file"), b"x")
        self.refuses(errno.EROFS, self.write, "other")

    def test_remount(self):
        self.write("file", b"x")
        program = support.tool("mount.corral")
        run(program, self.volume.image, self.root, "-o", "remount,ro")
        self.refuses(errno.EROFS, self.write, "other")
        run(program, self.volume.image, self.root, "-o", "remount,rw,noexec")
        self.write("other")
        self.assertIn("noexec", run("findmnt", "-no", "OPTIONS", self.root).stdout)

    def test_generic_flags_reach_the_kernel(self):
        os.mknod(self.path("null"), stat.S_IFCHR | 0o666, os.makedev(1, 3))
        self.write("program", b"#!/bin/sh\nexit 0\n")
        os.chmod(self.path("program"), 0o755)
        run(self.path("program"))
        self.remount("-o", "nodev,noexec,nosuid,_netdev,nofail,x-systemd.automount")
        self.refuses(errno.EACCES, os.open, self.path("null"), os.O_RDONLY)
        self.refuses(errno.EACCES, run, self.path("program"))
        shown = run("findmnt", "-no", "FSTYPE,OPTIONS", self.root).stdout
        self.assertIn("corral", shown)
        for flag in ("nodev", "noexec", "nosuid"):
            self.assertIn(flag, shown)

    def test_without_acl(self):
        path = self.write("file")
        self.remount("-o", "noacl")
        self.refuses(errno.EOPNOTSUPP, os.getxattr, path, "system.posix_acl_access")
        self.assertNotEqual(run("setfacl", "-m", "u:4000:r", path, check=False).returncode, 0)

    def test_every_change_at_once_on_the_disk(self):
        for option in ("sync", "dirsync"):
            self.remount("-o", option)
            os.mkdir(self.path(f"d-{option}"))
            os.kill(self.volume.server(), signal.SIGKILL)
            wait_until(lambda: self.volume.server() is None, "the daemon is dead")
            self.volume.umount()
            self.volume.mount()
            self.assertTrue(os.path.isdir(self.path(f"d-{option}")))

    def test_options_that_work_together(self):
        self.remount("-o", "noatime,data=writeback,commit=1,quota=account,statfs_percent=5,cache=16M,debug,discard,"
                     "errors=withdraw,spin=20,writeback_cache")
        for i in range(100):
            self.write(f"file-{i}", os.urandom(3000))
        self.remount()
        self.assertEqual(len(os.listdir(self.root)), 100)

    def test_a_loop_device(self):
        self.write("file", b"x")
        self.volume.umount()
        loop = run("losetup", "--find", "--show", self.volume.image).stdout.strip()
        try:
            self.volume.mount(device=loop)
            self.assertEqual(self.read("file"), b"x")
            # The kernel's mount holds the device exclusively.
            self.refuses(errno.EBUSY, os.open, loop, os.O_RDONLY | os.O_EXCL)
            self.volume.umount()
        finally:
            run("losetup", "-d", loop)


@unittest.skipIf(shutil.which("prometheus") is None, "there is no prometheus")
class Metrics(MountedTest):
    PORT = free_port()
    MOUNT_OPTIONS = ("-o", f"metrics=127.0.0.1:{PORT}")

    def test_prometheus_understands_them(self):
        """Scraped by a Prometheus of the test's own, which is then asked what it has understood."""
        os.mkdir(self.path("folder"))
        port, folder = free_port(), tempfile.mkdtemp(prefix="corral-e2e-")
        self.addCleanup(shutil.rmtree, folder)
        with open(os.path.join(folder, "prometheus.yml"), "w") as config:
            config.write("scrape_configs:\n- job_name: corral\n  scrape_interval: 200ms\n  scrape_timeout: 200ms\n"
                         f"  static_configs:\n  - targets: ['127.0.0.1:{self.PORT}']\n")
        prometheus = subprocess.Popen(["prometheus", f"--config.file={folder}/prometheus.yml",
                                       f"--storage.tsdb.path={folder}/data", f"--web.listen-address=127.0.0.1:{port}"],
                                      stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        self.addCleanup(prometheus.wait)
        self.addCleanup(prometheus.kill)

        def value(query):
            try:
                with urllib.request.urlopen(f"http://127.0.0.1:{port}/api/v1/query?"
                                            + urllib.parse.urlencode({"query": query}), timeout=5) as answer:
                    found = json.load(answer)["data"]["result"]
            except OSError:
                return None
            return float(found[0]["value"][1]) if found else None

        wait_until(lambda: value("up") == 1, "the first scrape", 60)
        self.assertEqual(value("corral_withdrawn"), 0)
        self.assertEqual(value('corral_mount_info{lock_protocol="lock_nolock"}'), 1)
        self.assertGreaterEqual(value('corral_request_seconds_count{kind="MKDIR"}'), 1)
        self.assertGreater(value('histogram_quantile(0.99, corral_request_seconds_bucket{kind="MKDIR"})'), 0)


class WritebackCache(MountedTest):
    MOUNT_OPTIONS = ("-o", "writeback_cache")

    def test_small_writes_are_collected(self):
        before = self.volume.statistics()["requests"].get("WRITE", 0)
        with open(self.path("file"), "wb", buffering=0) as file:
            for i in range(1000):
                file.write(b"%04d" % i * 100)
        requests = self.volume.statistics()["requests"]
        self.assertLess(requests["WRITE"] - before, 100)
        times = os.stat(self.path("file"))
        self.remount()
        again = os.stat(self.path("file"))
        self.assertEqual((again.st_size, again.st_mtime_ns), (times.st_size, times.st_mtime_ns))
        self.assertEqual(self.read("file"), b"".join(b"%04d" % i * 100 for i in range(1000)))


class AnsweredByTheKernel(MountedTest):
    """What is cached costs no request: the counters show it."""

    def requests_for(self, function):
        before = self.volume.statistics()["requests"]
        function()
        after = self.volume.statistics()["requests"]
        made = {kind: after[kind] - before.get(kind, 0) for kind in after}
        return {kind: count for kind, count in made.items() if count != 0}

    def setUp(self):
        super().setUp()
        os.mkdir(self.path("d"))
        for i in range(50):
            self.write(f"d/file-{i}", b"contents" * 1000)
        os.symlink("file-1", self.path("d/symlink"))

    def walk(self):
        for name in os.listdir(self.path("d")):
            os.lstat(self.path("d", name))
        os.readlink(self.path("d/symlink"))
        for i in range(50):
            self.assertRaises(OSError, os.stat, self.path("d", f"absent-{i}"))

    def test_names_and_attributes(self):
        self.remount()
        self.walk()
        self.walk()
        self.assertEqual(self.requests_for(self.walk), {})

    def test_contents(self):
        self.remount("-o", "noatime")
        fds = [os.open(self.path("d", f"file-{i}"), os.O_RDONLY) for i in range(50)]

        def read_all():
            for fd in fds:
                self.assertEqual(os.pread(fd, 8000, 0), b"contents" * 1000)

        read_all()
        self.assertEqual(self.requests_for(read_all), {})
        for fd in fds:
            os.close(fd)

    def test_opening_keeps_pages_and_closing_asks_nothing(self):
        self.remount("-o", "noatime")
        self.walk()

        def open_and_read():
            for i in range(50):
                fd = os.open(self.path("d", f"file-{i}"), os.O_RDONLY)
                self.assertEqual(os.read(fd, 8000), b"contents" * 1000)
                os.close(fd)

        open_and_read()
        made = self.requests_for(open_and_read)
        made.pop("RELEASE", None)  # nobody waits for it: some may come later
        self.assertEqual(made, {"OPEN": 50})

    def test_writing_asks_once_a_write(self):
        with open(self.path("file"), "wb", buffering=0) as file:
            file.write(b"x" * 4096)

            def write_some():
                for _ in range(100):
                    file.write(b"x" * 4096)

            self.assertEqual(self.requests_for(write_some), {"WRITE": 100})

    def test_mapped_reads(self):
        self.remount("-o", "noatime")
        run("cat", self.path("d/file-1"))

        def map_it():
            with open(self.path("d/file-1"), "rb") as file:
                with mmap.mmap(file.fileno(), 0, prot=mmap.PROT_READ) as mapped:
                    self.assertEqual(mapped[:], b"contents" * 1000)

        self.assertNotIn("READ", self.requests_for(map_it))


if __name__ == "__main__":
    support.main()
