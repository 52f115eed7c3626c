#!/usr/bin/env python3
"""What an administrator does to a volume that is in use: trims it, sets quotas, makes it larger. Three mounts of one
image file, and volumes that nobody has mounted."""

import errno
import json
import os
import signal
import subprocess
import threading

import cluster
import support
from cluster import ClusterTest, read, together, write
from operations import as_user
from support import run, tool, wait_until

MIB = 1 << 20
USER, GROUP = 4000, 4001


def corral(*words, code=0):
    """Exit code 0, or the one that is expected; the report, or what it said of the failure."""
    done = run(tool("corral"), *words, check=False)
    if done.returncode != code:
        raise AssertionError(f"corral {' '.join(words)}: exit {done.returncode}\n{done.stdout}{done.stderr}")
    return json.loads(done.stdout) if "--json" in words and code < 2 else done.stdout + done.stderr


def total_bytes(root):
    figures = os.statvfs(root)
    return figures.f_blocks * figures.f_frsize


class OperatorTest(ClusterTest):
    options = ""

    def new_node(self):
        node = super().new_node()
        if self.options:
            place = node.command.index("-o") + 1
            node.command[place] += "," + self.options
        return node

    def folder_for(self, node, user):
        """A folder of that user's, which users that have given up their rights reach."""
        os.chmod(self.folder, 0o755)
        os.chmod(node.root, 0o755)
        path = node.path(f"of-{user}")
        if not os.path.isdir(path):
            os.mkdir(path)
            os.chown(path, user, GROUP)
            os.chmod(path, 0o755)
        return path

    def write_as(self, node, user, name, mebibytes):
        """Returns 0 or the errno."""
        path = os.path.join(self.folder_for(node, user), name)

        def work():
            with open(path, "wb") as file:
                for _ in range(mebibytes):
                    file.write(os.urandom(MIB))
                file.flush()
                os.fsync(file.fileno())
        os.chmod(os.path.dirname(path), 0o777)
        return as_user(user, work)


class Trim(OperatorTest):
    def image_blocks(self):
        return os.stat(self.image).st_blocks * 512

    def test_trim_while_nodes_work(self):
        one, two, three = self.mount_all()
        write(one.path("large"), os.urandom(60 * MIB), sync=True)
        write(two.path("kept"), os.urandom(5 * MIB), sync=True)
        kept = read(two.path("kept"))
        before = self.image_blocks()
        os.unlink(one.path("large"))
        os.sync()
        # What was freed is given back, whoever asks, while others write.
        stop = threading.Event()
        failures = []

        def busy():
            number = 0
            while not stop.is_set():
                try:
                    contents = os.urandom(200_000)
                    write(three.path(f"busy-{number % 10}"), contents, sync=number % 3 == 0)
                    if read(one.path(f"busy-{number % 10}")) != contents:
                        failures.append(number)
                except OSError as error:
                    failures.append(error)
                number += 1
        worker = threading.Thread(target=busy)
        worker.start()
        try:
            trimmed = corral("trim", "--json", two.root)["bytes_trimmed"]
        finally:
            stop.set()
            worker.join()
        self.assertEqual(failures, [])
        self.assertGreater(trimmed, 100 * MIB)
        wait_until(lambda: self.image_blocks() < before - 40 * MIB, "the image has lost what was freed")
        self.assertEqual(read(one.path("kept")), kept)
        self.assertIn("trimmed", corral("trim", "-m", "1M", one.root))
        self.assertIn("no block of the volume", corral("trim", "-o", "1T", one.root, code=8))
        self.assertIn("node node-1", corral("trim", self.image, code=8))
        os.unlink(one.path("kept"))
        self.umount_all()
        self.assertGreater(corral("trim", "--json", self.image)["bytes_trimmed"], 0)
        run("fsck.gfs2", "-n", self.image)

    def test_requests_that_make_no_sense(self):
        self.new_node().start()
        node = self.nodes[0]
        wait_until(node.ready, "mounted", 90)
        self.assertIn("no Corral mount", corral("trim", self.folder, code=8))
        corral("trim", "-m", "much", node.root, code=2)
        self.umount_all()

    def test_a_device_that_cannot_discard(self):
        """A filesystem without holes in files, as the one below the image."""
        below = os.path.join(self.folder, "below")
        os.mkdir(below)
        run("mount", "-t", "ramfs", "none", below)
        self.addCleanup(run, "umount", "-l", below)
        volume = os.path.join(below, "volume.img")
        with open(volume, "wb") as file:
            file.truncate(64 * MIB)
        run(tool("mkfs.corral"), "-q", "-O", "-p", "lock_nolock", "-j", "1", "-J", "8", volume)
        self.assertIn("the device cannot discard", corral("trim", volume, code=8))
        root = os.path.join(self.folder, "mnt")
        os.mkdir(root)
        run(tool("mount.corral"), volume, root)
        try:
            self.assertIn("the device cannot discard", corral("trim", root, code=8))
            write(os.path.join(root, "file"), b"x", sync=True)
        finally:
            run("umount", root)
        run("fsck.gfs2", "-n", volume)

    def test_a_mount_that_ends_answers(self):
        one, two, three = self.mount_all()
        for number in range(200):
            write(one.path(f"file-{number}"), b"x" * 20_000)
        for number in range(0, 200, 2):
            os.unlink(one.path(f"file-{number}"))
        os.sync()
        commands = [subprocess.Popen([tool("corral"), "trim", "--json", one.root], stdout=subprocess.PIPE,
                                     stderr=subprocess.STDOUT, text=True) for _ in range(4)]
        one.umount()
        for command in commands:
            said, _ = command.communicate(timeout=60)
            self.assertIn(command.returncode, (0, 8), said)
        # One that is interrupted leaves a mount that goes on.
        command = subprocess.Popen([tool("corral"), "trim", two.root], stdout=subprocess.DEVNULL,
                                   stderr=subprocess.DEVNULL)
        command.send_signal(signal.SIGINT)
        command.wait(timeout=60)
        corral("trim", three.root)
        self.assertEqual(read(two.path("file-1")), b"x" * 20_000)
        self.umount_all()


if __name__ == "__main__":
    support.main()
