#!/usr/bin/env python3
"""Volumes mounted by several nodes at once: three mounts on this machine over one image file, and three in network
namespaces of their own over one LUN of a tgtd of the test's own."""

import contextlib
import errno
import json
import mmap
import os
import shutil
import signal
import struct
import subprocess
import sys
import tempfile
import threading
import unittest

import support
from iscsi import TARGET, Target, free_port
from lock_stories import Locking
from support import run, tool, wait_until

NODES = 3
SIZE_MIB = 512
# Deaths are noticed quickly, even on a busy machine.
FAILURE_TIMEOUT_SECONDS = 2
# From a death to the end of its recovery, with room for a slow machine.
RECOVERY_SECONDS = 60


class Node:
    """One mount."""

    def __init__(self, folder, number, device, options, prefix=()):
        self.name = f"node-{number}"
        self.root = os.path.join(folder, f"mnt{number}")
        self.log = os.path.join(folder, f"log{number}")
        self.command = [*prefix, tool("mount.corral"), "-f", "-o", f"node={self.name},{options}", device, self.root]
        self.process = None
        os.mkdir(self.root)

    def start(self):
        with open(self.log, "ab") as log:
            self.process = subprocess.Popen(self.command, stdin=subprocess.DEVNULL, stdout=log, stderr=log)

    def ready(self):
        if self.process.poll() is not None:
            raise AssertionError(f"{self.name} ended: {self.said()}")
        return os.path.ismount(self.root)

    def said(self):
        with open(self.log) as log:
            return log.read()

    def path(self, *names):
        return os.path.join(self.root, *names)

    def umount(self):
        run("umount", self.root)
        self.process.wait(timeout=60)

    def kill(self):
        self.process.kill()
        self.process.wait()
        run("umount", "-l", self.root)

    def remove(self):
        if self.process is not None and self.process.poll() is None:
            self.process.kill()
            self.process.wait()
        # Whether a dead mount is one cannot be asked.
        run("umount", "-l", self.root, check=False)


def together(work, nodes):
    """Runs work(node) for all nodes at the same time; the first exception of any is raised."""
    failures = []

    def guarded(node):
        try:
            work(node)
        except BaseException as failure:  # shown by the main thread
            failures.append(failure)

    threads = [threading.Thread(target=guarded, args=(node,)) for node in nodes]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    if failures:
        raise failures[0]


def read(path):
    with open(path, "rb") as file:
        return file.read()


def write(path, contents, sync=False):
    with open(path, "wb") as file:
        file.write(contents)
        if sync:
            file.flush()
            os.fsync(file.fileno())


def status(target):
    """Exit code and report of corral status."""
    done = run(tool("corral"), "status", "--json", target, check=False)
    return done.returncode, json.loads(done.stdout)


def crc32c(data):
    value = 0xFFFFFFFF
    for byte in data:
        value ^= byte
        for _ in range(8):
            value = value >> 1 ^ (0x82F63B78 if value & 1 else 0)
    return value ^ 0xFFFFFFFF


class AreaHeader:
    """Both copies of the cluster area's header, to be changed behind the nodes' backs."""

    RECORD = 4096
    VERSION, CRC, SECRET = 8, 12, 40

    def __init__(self, image):
        self.image = image
        self.offset = json.loads(run(tool("corral"), "dump", "--json", "area", image).stdout)["offset_bytes"]
        with open(image, "rb") as file:
            file.seek(self.offset)
            self.copies = [file.read(self.RECORD) for _ in range(2)]

    def write(self, copies):
        with open(self.image, "r+b") as file:
            file.seek(self.offset)
            for copy in copies:
                file.write(copy)
            os.fsync(file.fileno())

    def change(self, place, contents):
        """Writes the bytes at that place of both copies, with the checksum that belongs to them."""
        changed = []
        for copy in self.copies:
            copy = bytearray(copy)
            copy[place:place + len(contents)] = contents
            copy[self.CRC:self.CRC + 4] = bytes(4)
            copy[self.CRC:self.CRC + 4] = struct.pack(">I", crc32c(copy))
            changed.append(copy)
        self.write(changed)

    def restore(self):
        self.write(self.copies)


class ClusterTest(unittest.TestCase):
    """A volume in an image file; each test mounts its nodes, and leaves a volume that fsck.gfs2 finds clean."""

    nodes_count = NODES
    spare_journals = 0

    def setUp(self):
        self.folder = tempfile.mkdtemp(prefix="corral-e2e-cluster-")
        self.addCleanup(shutil.rmtree, self.folder)
        self.image = os.path.join(self.folder, "volume.img")
        with open(self.image, "wb") as image:
            image.truncate(SIZE_MIB << 20)
        run(tool("mkfs.corral"), "-q", "-O", "-t", "test:cluster", "-j",
            str(self.nodes_count + self.spare_journals), "-J", "8", self.image)
        run(tool("corral"), "config", "set", self.image, "failure-timeout", f"{FAILURE_TIMEOUT_SECONDS}s")
        self.nodes = []
        self.prepare()

    def prepare(self):
        pass

    def bystander(self):
        """The device as somebody sees it who is no node."""
        return self.image

    def new_node(self):
        number = len(self.nodes) + 1
        node = Node(self.folder, number, self.image, f"addr=127.0.0.1,port={free_port()}")
        return self.keep(node)

    def keep(self, node):
        self.nodes.append(node)
        self.addCleanup(node.remove)
        return node

    def mount_all(self):
        for _ in range(self.nodes_count):
            self.new_node().start()
        for node in self.nodes:
            wait_until(node.ready, f"{node.name} mounts", 90)
        return self.nodes

    def umount_all(self):
        for node in self.nodes:
            if node.process is not None and node.process.poll() is None:
                node.umount()
        run("fsck.gfs2", "-n", self.image)

    def wait_for_recovery(self, *living):
        wait_until(lambda: any("recovered node" in node.said() for node in living), "recovery", RECOVERY_SECONDS)


class Sharing:
    """What nodes may expect of each other while all live."""

    def test_what_one_writes_others_read(self):
        one, two, three = self.mount_all()
        write(one.path("file"), b"first")
        self.assertEqual(read(two.path("file")), b"first")
        with open(three.path("file"), "rb", buffering=0) as held:
            self.assertEqual(held.read(100), b"first")
            write(two.path("file"), b"second, and longer")
            # No cache of the open file, its size or its pages is in the way.
            self.assertEqual(os.fstat(held.fileno()).st_size, 18)
            held.seek(0)
            self.assertEqual(held.read(100), b"second, and longer")
        os.mkdir(two.path("folder"))
        self.assertEqual(os.listdir(three.path("folder")), [])
        for node in self.nodes:
            write(node.path("folder", node.name), node.name.encode())
            for other in self.nodes:
                self.assertIn(node.name, os.listdir(other.path("folder")))
                self.assertEqual(read(other.path("folder", node.name)), node.name.encode())
        os.chmod(one.path("file"), 0o600)
        self.assertEqual(os.stat(three.path("file")).st_mode & 0o7777, 0o600)
        os.rename(three.path("file"), three.path("folder", "renamed"))
        self.assertFalse(os.path.exists(one.path("file")))
        self.assertEqual(read(two.path("folder", "renamed")), b"second, and longer")
        os.unlink(one.path("folder", "renamed"))
        for node in self.nodes:
            self.assertEqual(sorted(os.listdir(node.path("folder"))), sorted(n.name for n in self.nodes))
        self.umount_all()

    def test_status(self):
        self.mount_all()
        names = [node.name for node in self.nodes]
        slots = {}
        for target in [node.root for node in self.nodes] + [self.bystander()]:
            code, report = status(target)
            self.assertEqual(code, 0, report)
            self.assertEqual(report["lock_table"], "test:cluster")
            cluster = report["cluster"]
            self.assertEqual(sorted(node["name"] for node in cluster["nodes"]), names)
            self.assertEqual({node["state"] for node in cluster["nodes"]}, {"online"})
            self.assertEqual({node["local"] for node in cluster["nodes"]}, {True})
            self.assertEqual(cluster["view"]["members"], list(range(NODES)))
            self.assertEqual(cluster["leader"], 0)
            self.assertEqual(cluster["votes"], {"node": NODES, "disk": NODES - 1, "expected": 2 * NODES - 1,
                                                "total": 2 * NODES - 1, "quorum": NODES, "quorate": True})
            self.assertEqual(report["journals"], ["in use"] * NODES)
            if target == self.bystander():
                continue
            own = next(node for node in cluster["nodes"] if node["slot"] == report["own_slot"])
            slots[target] = own["name"]
            self.assertFalse(report["mount"]["withdrawn"])
            self.assertEqual(report["mount"]["cluster"]["lock_manager"], "running")
        self.assertEqual(slots, {node.root: node.name for node in self.nodes})
        self.assertIn("Quorate", run(tool("corral"), "status", self.bystander()).stdout)
        self.not_alone()
        self.process_tells_of_itself()
        self.doctor_sees_all()
        self.image_beside_nodes()
        self.umount_all()

    def doctor_sees_all(self):
        """Run beside the nodes: each answers, each key is a node's, and nobody notices."""
        done = run(tool("corral"), "doctor", "--json", self.bystander(), check=False)
        findings = json.loads(done.stdout)["findings"]

        def severities(check):
            return {finding["found"]: finding["severity"] for finding in findings if finding["check"] == check}
        self.assertEqual(list(severities("peers").values()), ["good"] * NODES, findings)
        self.assertEqual(list(severities("members").values()), ["good"], findings)
        self.assertEqual(list(severities("cluster area").values()), ["good"], findings)
        self.assertEqual(set(severities("keys").values()) - {"good"}, set(), findings)
        # As many nodes as journals: one more could not mount.
        self.assertEqual(list(severities("journals").values()), ["warning"], findings)
        self.assertTrue(status(self.bystander())[1]["cluster"]["votes"]["quorate"])

    def image_beside_nodes(self):
        """The metadata of a volume in use, without its secret; the image says who used it."""
        image, copy = os.path.join(self.folder, "image"), os.path.join(self.folder, "copy")
        saved = json.loads(run(tool("corral"), "image", "save", "--json", self.bystander(), image).stdout)
        self.assertEqual(sorted(saved["living"]), sorted(node.name for node in self.nodes))
        self.assertIn("may not be consistent", run(tool("corral"), "image", "restore", image, copy).stderr)
        area = json.loads(run(tool("corral"), "dump", "--json", "area", copy).stdout)
        self.assertEqual(len(area["slots"]), NODES)

    def not_alone(self):
        """What wants the volume for itself names the nodes that have it."""
        for command in (("fsck.corral", "-n"), ("fsck.corral", "-y"), ("corral", "replay"), ("corral", "release"),
                        ("corral", "tune", "-U", "random")):
            done = run(tool(command[0]), *command[1:], self.bystander(), check=False)
            self.assertEqual(done.returncode, 8, command)
            for node in self.nodes:
                self.assertIn(f"node {node.name}", done.stderr)

    def process_tells_of_itself(self):
        one, two = self.nodes[:2]
        write(one.path("file"), b"held exclusively")
        locks = json.loads(run(tool("corral"), "locks", "--all", "--json", one.root).stdout)
        number = os.stat(one.path("file")).st_ino
        held = [lock for resource in locks["resources"] for lock in resource["locks"]
                if resource.get("type") == "inode" and resource["number"] == number]
        self.assertEqual([lock["granted"] for lock in held], ["EX"])
        self.assertEqual(locks["names"][str(held[0]["slot"])], one.name)
        run(tool("corral"), "locks", one.root)
        top = run(tool("corral"), "top", "--once", "-i", "0.1", two.root).stdout
        self.assertIn("Journal", top)

    def test_appends_lose_nothing(self):
        records = 200
        self.mount_all()
        write(self.nodes[0].path("log"), b"")

        def append(node):
            for number in range(records):
                descriptor = os.open(node.path("log"), os.O_WRONLY | os.O_APPEND)
                try:
                    os.write(descriptor, f"{node.name}:{number}\n".encode())
                finally:
                    os.close(descriptor)

        together(append, self.nodes)
        for reader in self.nodes:
            lines = read(reader.path("log")).decode().splitlines()
            self.assertEqual(len(lines), records * NODES)
            for node in self.nodes:
                own = [line for line in lines if line.startswith(node.name + ":")]
                self.assertEqual(own, [f"{node.name}:{number}" for number in range(records)])
        self.umount_all()

    def test_of_creators_one_wins(self):
        self.mount_all()
        names = [f"name{number}" for number in range(100)]
        won = {node.name: set() for node in self.nodes}

        def race(node):
            for name in names:
                try:
                    os.close(os.open(node.path(name), os.O_CREAT | os.O_EXCL | os.O_WRONLY))
                    won[node.name].add(name)
                except FileExistsError:
                    pass

        together(race, self.nodes)
        self.assertEqual(sum(len(winners) for winners in won.values()), len(names))
        self.assertEqual(set().union(*won.values()), set(names))
        self.umount_all()

    def test_unlinked_while_open_elsewhere(self):
        one, two, three = self.mount_all()
        contents = os.urandom(3 << 20)
        write(one.path("file"), contents)
        run("sync", "-f", one.root)
        before = os.statvfs(one.root).f_bfree
        with open(two.path("file"), "rb") as held:
            os.unlink(three.path("file"))
            self.assertFalse(os.path.exists(one.path("file")))
            self.assertEqual(held.read(), contents)
            self.assertEqual(os.fstat(held.fileno()).st_nlink, 0)
        self.umount_all()
        self.nodes[0].start()
        wait_until(self.nodes[0].ready, "mounting again", 60)
        self.assertGreaterEqual(os.statvfs(one.root).f_bfree, before + (3 << 20) // 4096)
        self.umount_all()


class Death:
    """What the others do when a node dies."""

    def load(self, node, failed, stop):
        """Makes files, some synced, until told to stop or the mount is gone; returns the names of those synced."""
        synced = []
        os.mkdir(node.path(node.name))
        for number in range(100_000):
            if stop.is_set():
                break
            name = f"{number}"
            try:
                write(node.path(node.name, name), name.encode() * 500, sync=number % 7 == 0)
                with open(node.path("log"), "ab", buffering=0) as log:
                    log.write(f"{node.name}:{name}\n".encode())
            except OSError as error:
                failed.append((node.name, error))
                break
            if number % 7 == 0:
                synced.append(name)
        return synced

    def run_load_and(self, end_third, after):
        """Load on all nodes; end_third() is called in the middle of it, after() while the load of the others goes on."""
        one, two, three = self.mount_all()
        stop, failed, synced = threading.Event(), [], {}

        def work(node):
            synced[node.name] = self.load(node, failed, stop)

        threads = [threading.Thread(target=work, args=(node,)) for node in self.nodes]
        for thread in threads:
            thread.start()
        wait_until(lambda: len(read(one.path("log")).splitlines()) > 150 if os.path.exists(one.path("log")) else False,
                   "load", 60)
        end_third(three)
        after(one, two, three)
        # Both get further than they were.
        for node in (one, two):
            count = len(os.listdir(node.path(node.name)))
            wait_until(lambda: len(os.listdir(node.path(node.name))) > count + 20, f"{node.name} goes on", 60)
        stop.set()
        for thread in threads:
            thread.join()
        self.assertEqual({name for name, _ in failed} - {three.name}, set())
        for node in self.nodes:
            for name in synced[node.name]:
                self.assertEqual(read(two.path(node.name, name)), name.encode() * 500)
        return one, two, three

    def test_killed(self):
        def recovered(one, two, three):
            self.wait_for_recovery(one, two)

        one, two, three = self.run_load_and(Node.kill, recovered)
        # It comes back as a new life of the same node.
        three.start()
        wait_until(three.ready, "mounting again", 90)
        self.assertEqual(sorted(os.listdir(three.path(three.name))), sorted(os.listdir(one.path(three.name))))
        write(three.path("back"), b"again")
        self.assertEqual(read(two.path("back")), b"again")
        self.umount_all()

    def test_all_killed(self):
        self.mount_all()
        for node in self.nodes:
            write(node.path(node.name), node.name.encode(), sync=True)
        for node in self.nodes:
            node.kill()
        code, report = status(self.bystander())
        self.assertEqual(code, 1)
        states = {node["name"]: node["state"] for node in report["cluster"]["nodes"]}
        self.assertEqual(states[self.nodes[-1].name], "not recovered")
        # The first may have been recovered before the last one died.
        self.assertLessEqual(set(states.values()), {"not recovered", "offline"})
        self.assertIn("dirty", report["journals"])
        for node in self.nodes:
            node.start()
        for node in self.nodes:
            wait_until(node.ready, f"{node.name} mounts again", 90)
        for node in self.nodes:
            self.assertEqual(read(self.nodes[0].path(node.name)), node.name.encode())
        self.umount_all()


class OnFile(Sharing, Death, Locking, ClusterTest):
    def test_locks_on_files(self):
        self.mount_all()
        for story in (self.posix, self.counters, self.conflicts, self.shown, self.ends, self.interruption,
                      self.deadlock):
            with self.subTest(story.__name__):
                story()
        with self.subTest("database"):
            self.database(together)
        self.holders_node_dies()
        self.umount_all()

    def refused(self, *command):
        done = run(*command, check=False)
        self.assertNotEqual(done.returncode, 0)
        return done.stderr

    def test_refusals(self):
        one = self.new_node()
        one.start()
        wait_until(one.ready, "mounting", 60)
        beside = os.path.join(self.folder, "beside")
        os.mkdir(beside)
        port = free_port()
        mount = [tool("mount.corral"), "-o"]
        self.assertIn("in use", self.refused(*mount, "lockproto=lock_nolock", self.image, beside))
        self.assertIn("in use", self.refused(tool("mkfs.corral"), "-q", "-O", "-t", "a:b", self.image))
        self.assertIn("of a living node",
                      self.refused(*mount, f"node={one.name},addr=127.0.0.1,port={port}", self.image, beside))
        self.assertIn("is no IPv4 or IPv6 address", self.refused(*mount, "addr=nowhere", self.image, beside))
        two, three = self.new_node(), self.new_node()
        two.start()
        three.start()
        wait_until(lambda: two.ready() and three.ready(), "mounting", 60)
        self.assertIn("all 3 journals are in use",
                      self.refused(*mount, f"node=one-too-many,addr=127.0.0.1,port={port}", self.image, beside))
        self.umount_all()

    def test_other_headers(self):
        """Who does not know the cluster's secret, or its format, is not let in, and is told why."""
        # A node that is not let in gives up after three failure timeouts.
        run(tool("corral"), "config", "set", self.image, "failure-timeout", "1s")
        one, two = self.new_node(), self.new_node()
        one.start()
        wait_until(one.ready, "mounting", 60)
        header = AreaHeader(self.image)
        header.change(AreaHeader.SECRET, b"another secret")
        two.start()
        two.process.wait(timeout=60)
        self.assertIn(f"node {one.name} lives", two.said())
        self.assertIn("there is no connection to it", two.said())
        header.change(AreaHeader.VERSION, struct.pack(">I", 77))
        two.start()
        two.process.wait(timeout=60)
        self.assertIn("format version 77", two.said())
        done = run(tool("corral"), "status", self.image, check=False)
        self.assertEqual(done.returncode, 8)
        self.assertIn("format version 77", done.stderr)
        header.restore()
        self.umount_all()

    def test_other_volumes(self):
        beside = os.path.join(self.folder, "beside")
        os.mkdir(beside)
        run(tool("mkfs.corral"), "-q", "-O", "-p", "lock_dlm", "-t", "a:b", "-j", "2", "-J", "8", self.image)
        self.assertIn("corral adopt", self.refused(tool("mount.corral"), self.image, beside))
        run(tool("corral"), "adopt", self.image)
        node = self.new_node()
        node.start()
        wait_until(node.ready, "mounting", 60)
        self.umount_all()


class Network:
    """A network namespace for each node, all on one bridge with this machine, which is 1 of the subnet."""

    def __init__(self, count):
        self.mark = f"corral{os.getpid() % 100000}"
        self.subnet = f"10.{200 + os.getpid() % 50}.{os.getpid() // 50 % 250}"
        self.names = [f"{self.mark}-{number}" for number in range(1, count + 1)]
        run("ip", "link", "add", self.bridge, "type", "bridge")
        run("ip", "addr", "add", f"{self.subnet}.1/24", "dev", self.bridge)
        run("ip", "link", "set", self.bridge, "up")
        for number, name in enumerate(self.names, 1):
            wire = f"c{number}x{os.getpid() % 100000}"
            run("ip", "netns", "add", name)
            run("ip", "link", "add", wire, "type", "veth", "peer", "name", "eth0", "netns", name)
            run("ip", "link", "set", wire, "master", self.bridge, "up")
            run("ip", "-n", name, "addr", "add", f"{self.subnet}.{number + 1}/24", "dev", "eth0")
            run("ip", "-n", name, "link", "set", "eth0", "up")
            run("ip", "-n", name, "link", "set", "lo", "up")

    @property
    def bridge(self):
        return f"cb{os.getpid() % 100000}"

    def inside(self, number):
        """What runs a program there. The mounts it makes are seen here too, unlike with ip netns exec."""
        return ("nsenter", f"--net=/run/netns/{self.names[number - 1]}")

    def end(self):
        for name in self.names:
            run("ip", "netns", "del", name, check=False)
        run("ip", "link", "del", self.bridge, check=False)


class OnLun(Sharing, Death, ClusterTest):
    """As separate hosts would: each node has its own network, its own initiator, and the LUN's reservations fence."""

    def prepare(self):
        self.network = Network(NODES)
        self.addCleanup(self.network.end)
        self.target = Target(self.image, f"{self.network.subnet}.1")
        self.addCleanup(self.target.stop)

    def bystander(self):
        return (f"iscsi://{self.target.address}:{self.target.port}/{TARGET}/1?"
                f"initiator=iqn.2026-11.corral.test:bystander")

    def new_node(self):
        number = len(self.nodes) + 1
        url = (f"iscsi://{self.target.address}:{self.target.port}/{TARGET}/1?timeout=5&recovery=30&"
               f"initiator=iqn.2026-11.corral.test:node-{number}")
        # Addresses and port are found out.
        return self.keep(Node(self.folder, number, url, "port=7007", self.network.inside(number)))

    def test_disk_without_answer(self):
        os.kill(self.target.process.pid, signal.SIGSTOP)
        try:
            done = run(tool("corral"), "status", "--timeout", "1", self.bystander(), check=False)
        finally:
            os.kill(self.target.process.pid, signal.SIGCONT)
        self.assertEqual(done.returncode, 5)
        self.assertIn("no answer within 1 s", done.stderr)

    def store(self, mapped):
        """Writes to a mapped file, in a process of its own; the signal that ended it, or 0."""
        child = os.fork()
        if child == 0:
            mapped[0] = 1
            os._exit(0)
        return os.WTERMSIG(os.waitpid(child, 0)[1])

    def check_void(self, held, mapped):
        """What was opened in a life that the node has lost gives errors, whatever the kernel had of it."""
        for use in (lambda: os.pread(held, 10, 0), lambda: os.pwrite(held, b"late", 0), lambda: os.fsync(held)):
            with self.assertRaises(OSError) as refused:
                use()
            self.assertEqual(refused.exception.errno, errno.EIO)
        self.assertEqual(self.store(mapped), signal.SIGBUS)

    def test_stopped(self):
        """A node that stands still is fenced; when it goes on it can write nothing, serves nothing of what it had, and
        comes back by itself under the same mount."""
        held, mapped, folder = [], [], []

        def stop(node):
            # Not only in memory: the name and the pages are the kernel's, too.
            write(node.path("held"), b"x" * 4096, sync=True)
            held.append(os.open(node.path("held"), os.O_RDWR))
            mapped.append(mmap.mmap(held[0], 4096))
            self.assertEqual(mapped[0][:4], b"xxxx")
            os.mkdir(node.path("below"))
            folder.append(os.open(node.path("below"), os.O_RDONLY | os.O_DIRECTORY))
            run("sync", "-f", node.root)
            os.kill(node.process.pid, signal.SIGSTOP)

        def recovered_then_go_on(one, two, three):
            self.wait_for_recovery(one, two)
            self.assertIn("removed, generation", one.said() + two.said())
            write(one.path("held"), b"y" * 4096)
            os.kill(three.process.pid, signal.SIGCONT)
            wait_until(lambda: "member of the cluster no more" in three.said(), "the fenced node notices", 30)
            wait_until(lambda: "rejoined the cluster" in three.said(), "the fenced node comes back", 60)
            self.check_void(held[0], mapped[0])

        one, two, three = self.run_load_and(stop, recovered_then_go_on)
        self.assertEqual(sorted(os.listdir(three.root)), sorted(os.listdir(one.root)))
        self.assertEqual(read(three.path("held")), b"y" * 4096)
        self.check_void(held[0], mapped[0])
        # A directory that the kernel knew before is found again, one that is gone meanwhile is not.
        write(f"/proc/self/fd/{folder[0]}/new", b"made")
        self.assertEqual(read(one.path("below", "new")), b"made")
        write(three.path("held"), b"z" * 4096, sync=True)
        self.assertEqual(read(two.path("held")), b"z" * 4096)
        mapped[0].close()
        with contextlib.suppress(OSError):  # closed all the same
            os.close(held[0])
        os.close(folder[0])
        self.umount_all()


if __name__ == "__main__":
    if shutil.which("tgtd") is None:
        print("SKIPPED: there is no tgtd (package tgt)")
        sys.exit(support.SKIPPED)
    support.main()
