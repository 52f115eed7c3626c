#!/usr/bin/env python3
"""What an administrator does to a volume that is in use: trims it, sets quotas, makes it larger, freezes it. Three mounts of one
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
        corral("quota", "set", node.root, "user", "nobody-of-that-name", "-l", "1M", code=2)
        corral("quota", "set", node.root, "user", "1", code=2)
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


class Quota(OperatorTest):
    options = "quota=on"

    def used(self, target, kind, number):
        report = corral("quota", "report", "--json", target)
        for record in report["records"]:
            if (record["kind"], record["id"]) == (kind, number):
                return record["used_blocks"] * report["block_size"]
        return 0

    def test_limits_hold_on_every_node(self):
        one, two, three = self.mount_all()
        corral("quota", "set", one.root, "user", str(USER), "--limit", "8M", "--warn", "4M")
        report = corral("quota", "report", "--json", two.root)
        self.assertEqual(report["quota"], "on")
        record = next(r for r in report["records"] if (r["kind"], r["id"]) == ("user", USER))
        self.assertEqual(record["limit_blocks"] * report["block_size"], 8 * MIB)
        self.assertEqual(record["warn_blocks"] * report["block_size"], 4 * MIB)
        self.assertIn("8.0 MiB", corral("quota", "report", three.root))
        self.assertIn("root", corral("quota", "report", three.root))
        self.assertEqual(self.write_as(two, USER, "fits", 5), 0)
        self.assertEqual(self.write_as(three, USER, "does-not", 9), errno.EDQUOT)
        # Raised on one node, it is at once on the others; warn stays.
        corral("quota", "set", two.root, "user", str(USER), "--limit", "100M")
        self.assertEqual(self.write_as(three, USER, "does", 9), 0)
        corral("quota", "set", three.root, "user", str(USER), "--limit", "1M")
        self.assertEqual(self.write_as(one, USER, "no-more", 2), errno.EDQUOT)
        record = next(r for r in corral("quota", "report", "--json", one.root)["records"]
                      if (r["kind"], r["id"]) == ("user", USER))
        self.assertEqual(record["warn_blocks"] * report["block_size"], 4 * MIB)
        corral("quota", "set", one.root, "user", str(USER), "--limit", "0")
        self.assertEqual(self.write_as(one, USER, "again", 2), 0)
        # Groups the same way.
        corral("quota", "set", one.root, "group", str(USER), "--limit", "1M")
        self.assertEqual(self.write_as(two, USER, "group", 2), errno.EDQUOT)
        self.assertIn("is mounted", corral("quota", "check", one.root, code=8))
        self.umount_all()
        self.assertEqual(corral("quota", "check", "--json", self.image)["differences"], [])
        self.assertGreater(self.used(self.image, "user", USER), 14 * MIB)

    def test_usage_after_a_death(self):
        one, two, three = self.mount_all()
        self.assertEqual(self.write_as(one, USER, "by-one", 6), 0)
        self.assertEqual(self.write_as(two, USER, "by-two", 3), 0)
        one.kill()
        self.wait_for_recovery(two, three)
        two.umount()
        three.umount()
        # What the dead node had charged stands in its own file, which its journal's next user moves along.
        self.assertEqual(corral("quota", "check", "--json", self.image)["differences"], [])
        corral("quota", "check", "-y", self.image)
        self.assertEqual(corral("quota", "check", "--json", self.image)["differences"], [])
        run("fsck.gfs2", "-n", self.image)


class UncountedQuota(OperatorTest):
    def test_check_mends(self):
        """What was written without quotas is counted when the volume stands still."""
        one, two, three = self.mount_all()
        self.assertEqual(self.write_as(one, USER, "file", 7), 0)
        self.assertIn("quota=off", corral("quota", "report", two.root))
        self.assertIn("node node-1", corral("quota", "check", self.image, code=8))
        self.umount_all()
        found = corral("quota", "check", "--json", self.image, code=1)
        user = next(d for d in found["differences"] if (d["kind"], d["id"]) == ("user", USER))
        self.assertEqual(user["recorded_blocks"], 0)
        self.assertGreaterEqual(user["used_blocks"] * found["block_size"], 7 * MIB)
        self.assertFalse(found["mended"])
        corral("quota", "check", self.image, code=1)
        self.assertTrue(corral("quota", "check", "-y", "--json", self.image)["mended"])
        self.assertEqual(corral("quota", "check", "--json", self.image)["differences"], [])
        corral("quota", "set", self.image, "user", str(USER), "--limit", "9M")
        self.assertIn("9.0 MiB", corral("quota", "report", self.image))
        run("fsck.gfs2", "-n", self.image)


class Grow(OperatorTest):
    def lengthen(self, mebibytes):
        with open(self.image, "r+b") as image:
            image.truncate(mebibytes * MIB)

    def test_grow_while_nodes_work(self):
        nodes = self.mount_all()
        one, two, three = nodes
        before = total_bytes(one.root)
        self.assertIn("nothing to add", corral("grow", one.root))
        self.lengthen(cluster.SIZE_MIB * 2)
        planned = corral("grow", "-T", "--json", two.root)
        self.assertGreater(planned["groups"], 0)
        self.assertEqual(total_bytes(two.root), before)

        def work(node):
            if node is two:
                corral("grow", node.root)
                return
            for number in range(20):
                contents = os.urandom(300_000)
                write(node.path(f"{node.name}-{number}"), contents)
                assert read(node.path(f"{node.name}-{number}")) == contents
        together(work, nodes)
        added = planned["blocks"] * planned["block_size"]
        for node in nodes:
            self.assertEqual(total_bytes(node.root), before + added)
        # All of it is used, by a node that did not grow it, and read and removed by another.
        size = cluster.SIZE_MIB * MIB * 5 // 4
        with open(three.path("large"), "wb") as large:
            for number in range(size // MIB):
                large.write(number.to_bytes(4, "big") * (MIB // 4))
        with open(one.path("large"), "rb") as large:
            for number in range(size // MIB):
                self.assertEqual(large.read(MIB), number.to_bytes(4, "big") * (MIB // 4))
        os.unlink(two.path("large"))
        self.assertIn("nothing to add", corral("grow", three.root))
        # And once more, from another node.
        self.lengthen(cluster.SIZE_MIB * 2 + 200)
        corral("grow", three.root)
        self.assertEqual(len({total_bytes(node.root) for node in nodes}), 1)
        self.assertGreater(total_bytes(one.root), before + added + 190 * MIB)
        self.assertIn("node node-1", corral("grow", self.image, code=8))
        self.umount_all()
        run(tool("fsck.corral"), "-n", self.image)
        # A mount that comes later knows it from the volume.
        one.start()
        wait_until(one.ready, "mounted", 90)
        self.assertGreater(total_bytes(one.root), before + added + 190 * MIB)
        self.umount_all()

    def test_a_block_device(self):
        """One that grows under a mount; its size is the kernel's word."""
        volume = os.path.join(self.folder, "lone.img")
        with open(volume, "wb") as file:
            file.truncate(100 * MIB)
        run(tool("mkfs.corral"), "-q", "-O", "-p", "lock_nolock", "-j", "1", "-J", "8", volume)
        device = run("losetup", "--find", "--show", volume).stdout.strip()
        self.addCleanup(run, "losetup", "-d", device)
        root = os.path.join(self.folder, "lone")
        os.mkdir(root)
        run(tool("mount.corral"), device, root)
        try:
            before = total_bytes(root)
            with open(volume, "r+b") as file:
                file.truncate(300 * MIB)
            self.assertIn("nothing to add", corral("grow", root))
            run("losetup", "--set-capacity", device)
            corral("grow", root)
            self.assertGreater(total_bytes(root), before + 190 * MIB)
            write(os.path.join(root, "large"), bytes(200 * MIB), sync=True)
            self.assertGreater(corral("trim", "--json", root)["bytes_trimmed"], 0)
        finally:
            run("umount", root)
        run("fsck.gfs2", "-n", volume)

    def test_a_node_that_dies_meanwhile(self):
        one, two, three = self.mount_all()
        before = total_bytes(two.root)
        self.lengthen(cluster.SIZE_MIB * 4)
        command = subprocess.Popen([tool("corral"), "grow", one.root], stdout=subprocess.DEVNULL,
                                   stderr=subprocess.DEVNULL)
        one.kill()
        command.wait(timeout=60)
        corral("grow", two.root)
        self.wait_for_recovery(two, three)
        self.assertGreater(total_bytes(three.root), before + cluster.SIZE_MIB * 2 * MIB)
        self.umount_all()

    def test_offline(self):
        self.new_node().start()
        node = self.nodes[0]
        wait_until(node.ready, "mounted", 90)
        before = total_bytes(node.root)
        write(node.path("file"), b"stays", sync=True)
        self.umount_all()
        self.lengthen(cluster.SIZE_MIB + 20)
        self.assertIn("32 MiB are the least", corral("grow", self.image))
        self.lengthen(cluster.SIZE_MIB + 300)
        self.assertIn("would be added", corral("grow", "-T", self.image))
        self.assertIn("added", corral("grow", self.image))
        run("fsck.gfs2", "-n", self.image)
        node.start()
        wait_until(node.ready, "mounted", 90)
        self.assertGreater(total_bytes(node.root), before + 290 * MIB)
        self.assertEqual(read(node.path("file")), b"stays")
        self.umount_all()


class Freeze(OperatorTest):
    def frozen_by(self, node):
        return corral("status", "--json", node.root)["mount"]["frozen"]

    def writer(self, node, name, stop, counts, failures):
        """Writes parts of a page and whole files, renames these, and counts what it has done."""
        counts[name] = 0
        os.mkdir(node.path(name))

        def work():
            number = 0
            try:
                with open(node.path(name, "parts"), "wb", buffering=0) as parts:
                    while not stop.is_set():
                        parts.write(b"%07d\n" % number)
                        write(node.path(name, "new"), os.urandom(50_000), sync=number % 2 == 0)
                        os.rename(node.path(name, "new"), node.path(name, f"{number}"))
                        number += 1
                        counts[name] = number
            except OSError as error:
                failures.append(error)
        thread = threading.Thread(target=work)
        thread.start()
        return thread

    def check_copy(self, expected):
        """A copy of the image is a volume with nothing to be replayed, on which nobody finds anything."""
        copy = os.path.join(self.folder, "copy.img")
        run("cp", "--sparse=always", self.image, copy)
        run("fsck.gfs2", "-n", copy)
        run(tool("fsck.corral"), "-n", copy)
        root = os.path.join(self.folder, "copy")
        os.makedirs(root, exist_ok=True)
        mounted = run(tool("mount.corral"), "-o", "lockproto=lock_nolock", copy, root)
        try:
            self.assertNotIn("Replay", mounted.stdout + mounted.stderr)
            for name, contents in expected.items():
                self.assertEqual(read(os.path.join(root, name)), contents)
        finally:
            run("umount", root)
        run("fsck.gfs2", "-n", copy)
        os.unlink(copy)

    def test_freeze_copy_thaw(self):
        nodes = self.mount_all()
        one, two, three = nodes
        kept = os.urandom(3 * MIB)
        write(two.path("kept"), kept)
        stop, counts, failures = threading.Event(), {}, []
        writers = [self.writer(node, node.name, stop, counts, failures) for node in nodes]
        wait_until(lambda: all(counts.get(node.name, 0) > 3 for node in nodes), "all nodes write")
        try:
            self.assertIn("not frozen", corral("thaw", one.root, code=1))
            self.assertIsNone(self.frozen_by(one))
            self.assertIn("frozen", corral("freeze", one.root))
            before = dict(counts)
            self.check_copy({"kept": kept})
            # Reading goes on, of what other nodes are in the middle of writing, too. (On the same one the kernel keeps
            # the pages locked that are being written, and the directory in which a name is being made.)
            for node in nodes:
                self.assertEqual(read(node.path("kept")), kept)
                for other in nodes:
                    if other is not node:
                        self.assertTrue(read(node.path(other.name, "parts")).endswith(b"\n"))
                self.assertIn("kept", os.listdir(node.root))
            self.check_copy({"kept": kept})
            for node in nodes:
                # What was under way may have been answered when it was counted.
                self.assertLessEqual(counts[node.name], before[node.name] + 1)
            self.assertEqual(self.frozen_by(one)["here"], True)
            for node in (two, three):
                self.assertEqual(self.frozen_by(node)["node"], one.name)
                self.assertIn(f"by node {one.name}", corral("status", node.root))
                self.assertIn("by the node with journal", corral("freeze", node.root, code=1))
            self.assertIn("by this node", corral("freeze", one.root, code=1))
            self.assertTrue(corral("thaw", "--json", three.root)["changed"])
            frozen = dict(counts)
            wait_until(lambda: all(counts[node.name] > frozen[node.name] + 2 for node in nodes), "all go on")
            for node in nodes:
                self.assertIsNone(self.frozen_by(node))
            # Whoever comes next.
            self.assertTrue(corral("freeze", "--json", "-t", "30", two.root)["changed"])
            self.check_copy({"kept": kept})
            corral("thaw", two.root)
        finally:
            stop.set()
            run(tool("corral"), "thaw", one.root, check=False)  # where the test has failed
            for writer in writers:
                writer.join()
        self.assertEqual(failures, [])
        self.umount_all()
        run("fsck.gfs2", "-n", self.image)

    def test_deaths_while_frozen(self):
        one, two, three = self.mount_all()
        write(two.path("kept"), b"kept")
        # Another one dies: it is recovered, and the volume stays frozen.
        corral("freeze", one.root)
        three.kill()
        self.wait_for_recovery(one, two)
        self.check_copy({"kept": b"kept"})
        self.assertEqual(self.frozen_by(two)["node"], one.name)
        made = threading.Thread(target=lambda: write(two.path("new"), b"new"))
        made.start()
        made.join(timeout=1)
        self.assertTrue(made.is_alive())
        # Who has frozen it dies: it is thawed.
        one.kill()
        made.join(timeout=60)
        self.assertFalse(made.is_alive())
        wait_until(lambda: self.frozen_by(two) is None, "thawed")
        self.assertEqual(read(two.path("new")), b"new")
        self.umount_all()
        run("fsck.gfs2", "-n", self.image)

    def test_mounting_and_unmounting(self):
        one, two, three = self.mount_all()
        write(one.path("kept"), b"kept")
        corral("freeze", one.root)
        # Nothing is left to be written.
        three.umount()
        self.check_copy({"kept": b"kept"})
        three.start()
        wait_until(lambda: "mounting waits until it is thawed" in three.said(), "it says what it waits for")
        self.assertFalse(three.ready())
        # The end of the mount that froze the volume is the end of that.
        one.umount()
        wait_until(three.ready, "mounted", 90)
        write(three.path("new"), b"new")
        self.assertEqual(read(two.path("new")), b"new")
        self.umount_all()
        run("fsck.gfs2", "-n", self.image)

    def test_one_node_and_wrong_words(self):
        volume = os.path.join(self.folder, "lone.img")
        with open(volume, "wb") as file:
            file.truncate(100 * MIB)
        run(tool("mkfs.corral"), "-q", "-O", "-p", "lock_nolock", "-j", "1", "-J", "8", volume)
        root = os.path.join(self.folder, "lone")
        os.mkdir(root)
        run(tool("mount.corral"), volume, root)
        try:
            write(os.path.join(root, "file"), b"text")
            corral("freeze", root)
            self.assertIn("by this mount", corral("status", root))
            run("fsck.gfs2", "-n", volume)
            self.assertEqual(read(os.path.join(root, "file")), b"text")
            corral("thaw", root)
            write(os.path.join(root, "file"), b"more")
        finally:
            run("umount", root)
        self.assertIn("no Corral mount", corral("freeze", volume, code=8))
        corral("freeze", "-t", "0", root, code=2)
        run("fsck.gfs2", "-n", volume)


if __name__ == "__main__":
    support.main()
