#!/usr/bin/env python3
"""The story of a cluster of five nodes on one LUN, as operators try one out: who is registered on the disk, a node that is
paused, one that loses its network, and one that loses only its way to the others."""

import contextlib
import ctypes
import errno
import json
import os
import shutil
import signal
import sys
import threading

import cluster
import support
from iscsi import TARGET
from support import run, tool, wait_until

NODES = 5
RECOVERY_SECONDS = 60
WRITE_EXCLUSIVE_REGISTRANTS_ONLY = 5


class Registrations:
    """What the disk says of its reservation, asked with libiscsi alone (scsi-lowlevel.h), from this machine."""

    class Keys(ctypes.Structure):
        _fields_ = [("generation", ctypes.c_uint32), ("bytes", ctypes.c_uint32), ("count", ctypes.c_int)]

    class Reservation(ctypes.Structure):
        _fields_ = [("generation", ctypes.c_uint32), ("bytes", ctypes.c_uint32), ("reserved", ctypes.c_uint8),
                    ("holder", ctypes.c_uint64), ("scope", ctypes.c_uint8), ("type", ctypes.c_uint8)]

    def __init__(self, address, port):
        self.library = ctypes.CDLL(support_library())
        for name in ("iscsi_create_context", "iscsi_persistent_reserve_in_sync", "scsi_datain_unmarshall"):
            getattr(self.library, name).restype = ctypes.c_void_p
        self.context = ctypes.c_void_p(self.library.iscsi_create_context(b"iqn.2026-11.corral.test:onlooker"))
        self.library.iscsi_set_targetname(self.context, TARGET.encode())
        self.library.iscsi_set_session_type(self.context, 2)  # normal
        if self.library.iscsi_full_connect_sync(self.context, f"{address}:{port}".encode(), 1) != 0:
            raise AssertionError("the onlooker cannot connect to the target")

    def ask(self, action, structure):
        """PERSISTENT RESERVE IN; the decoded answer."""
        for _ in range(100):
            task = ctypes.c_void_p(self.library.iscsi_persistent_reserve_in_sync(self.context, 1, action, 4096))
            # What comes with another status, the first field, is no answer: that reservations were released, say.
            if task and ctypes.c_int.from_address(task.value).value == 0:
                break
        else:
            raise AssertionError("PERSISTENT RESERVE IN is not answered")
        try:
            decoded = self.library.scsi_datain_unmarshall(task)
            if not decoded:
                raise AssertionError("PERSISTENT RESERVE IN failed")
            return decoded, structure.from_address(decoded)
        finally:
            self.kept = task  # the answer lives in it

    def keys(self):
        address, head = self.ask(0, self.Keys)
        begin = address + 16  # 64-bit keys are aligned
        return set((ctypes.c_uint64 * head.count).from_address(begin))

    def type(self):
        return self.ask(1, self.Reservation)[1].type

    def end(self):
        self.library.iscsi_destroy_context(self.context)


def support_library():
    names = ("libiscsi.so.10", "libiscsi.so.9", "libiscsi.so.8", "libiscsi.so.7", "libiscsi.so")
    for name in names:
        with contextlib.suppress(OSError):
            ctypes.CDLL(name)
            return name
    raise AssertionError("there is no libiscsi")


class Walkthrough(cluster.ClusterTest):
    nodes_count = NODES

    def prepare(self):
        self.network = cluster.Network(NODES)
        self.addCleanup(self.network.end)
        self.target = cluster.Target(self.image, f"{self.network.subnet}.1")
        self.addCleanup(self.target.stop)
        self.events = os.path.join(self.folder, "events.d")
        self.told = os.path.join(self.folder, "told")
        os.mkdir(self.events)
        hook = os.path.join(self.events, "note")
        with open(hook, "w") as script:
            script.write(f"#!/bin/sh\nexec cat >> {self.told}\n")
        os.chmod(hook, 0o755)

    def new_node(self):
        number = len(self.nodes) + 1
        options = f"port=7007,events={self.events}"
        return self.keep(cluster.Node(self.folder, number, self.url(f"node-{number}"), options,
                                      self.network.inside(number)))

    @staticmethod
    def told_by(node, event):
        """The events of that name in a node's log."""
        lines = [line.split("event {", 1)[1] for line in node.said().splitlines() if "event {" in line]
        events = [json.loads("{" + line) for line in lines]
        return [one for one in events if one["event"] == event]

    def journal_of(self, node):
        return self.told_by(node, "join")[-1]["journal"]

    def key_of(self, node):
        """Its lowest byte tells the slot."""
        slot = self.journal_of(node)
        # Its session may be registering again, after the disk was reset to abort what a fenced node had sent.
        wait_until(lambda: any(key & 0xFF == slot + 1 for key in self.disk.keys()), f"{node.name} is registered", 10)
        key, = (key for key in self.disk.keys() if key & 0xFF == slot + 1)
        return key

    def work(self, node, failed, stop):
        for number in range(1_000_000):
            if stop.is_set():
                return
            try:
                cluster.write(node.path(f"{node.name}-{number % 50}"), os.urandom(3000), sync=number % 10 == 0)
            except OSError as error:
                failed.setdefault(node.name, error.errno)
                return

    def check_recovery(self, victim, journal, life, living):
        """Exactly one of the living has replayed the journal, in all phases; the others have waited for it."""
        def recoveries():
            return [event for node in living for event in self.told_by(node, "recovered") if event["id"] == life]

        wait_until(recoveries, f"recovery of {victim.name}", RECOVERY_SECONDS)
        event, = recoveries()
        self.assertEqual((event["node"], event["journal"]), (victim.name, journal))
        phases = ["suspicion", "decision", "fence", "verify", "lock_recovery", "replay", "release"]
        self.assertEqual(list(event["phases_ms"]), phases)
        self.assertTrue(all(took >= 0 for took in event["phases_ms"].values()), event)
        replayer = next(node for node in living if node.name == event["by"])
        for line in (f"closing connection to node {victim.name}", f"jid={journal}: Trying to acquire journal lock...",
                     f"jid={journal}: Looking at journal...", f"jid={journal}: Done"):
            self.assertIn(line, replayer.said())
        for node in living:
            if node is not replayer:
                wait_until(lambda: f"jid={journal}: Done, replayed by another node" in node.said(), "release", 30)
                self.assertIn(f"jid={journal}: Busy, waiting", node.said())

    def lose(self, victim, cut, mend):
        """A node is cut off while all work; the others go on without it, and it comes back by itself."""
        living = [node for node in self.nodes if node is not victim]
        stop, failed = threading.Event(), {}
        threads = [threading.Thread(target=self.work, args=(node, failed, stop)) for node in self.nodes]
        cluster.write(victim.path(f"held-by-{victim.name}"), b"x", sync=True)
        held = os.open(victim.path(f"held-by-{victim.name}"), os.O_RDWR)
        for thread in threads:
            thread.start()
        journal, key = self.journal_of(victim), self.key_of(victim)
        lives = self.told_by(victim, "join")
        cut()
        wait_until(lambda: key not in self.disk.keys(), "the key is removed", 30)
        self.check_recovery(victim, journal, lives[-1]["id"], living)
        cluster.write(living[0].path("after"), victim.name.encode(), sync=True)
        self.assertEqual(cluster.read(living[1].path("after")), victim.name.encode())
        mend()
        wait_until(lambda: victim.said().count("rejoined the cluster") == len(lives), f"{victim.name} comes back", 90)
        stop.set()
        for thread in threads:
            thread.join()
        # Whoever was cut off has been told; nobody else has noticed.
        self.assertLessEqual(set(failed.items()), {(victim.name, errno.EIO)})
        with self.assertRaises(OSError) as refused:
            os.pwrite(held, b"late", 0)
        self.assertEqual(refused.exception.errno, errno.EIO)
        with contextlib.suppress(OSError):  # closed all the same
            os.close(held)
        self.assertEqual(cluster.read(victim.path("after")), victim.name.encode())
        self.assertNotEqual(self.key_of(victim), key)
        wait_until(lambda: len(self.disk.keys()) == NODES, "all are registered", 10)

    def url(self, initiator):
        return (f"iscsi://{self.target.address}:{self.target.port}/{TARGET}/1?timeout=2&recovery=60&"
                f"initiator=iqn.2026-11.corral.test:{initiator}")

    def fence_status(self, exit_status=0):
        """As corral fence says, from this machine, which is no node."""
        done = run(tool("corral"), "fence", "status", "--json", self.url("administrator"), check=False)
        self.assertEqual(done.returncode, exit_status, done.stderr)
        return json.loads(done.stdout)

    def check_commands(self):
        status = self.fence_status()
        self.assertEqual({int(key["key"], 16) for key in status["keys"]}, self.disk.keys())
        self.assertEqual(sorted(key["node"] for key in status["keys"]), sorted(node.name for node in self.nodes))
        self.assertEqual(status["reservation"]["type"], WRITE_EXCLUSIVE_REGISTRANTS_ONLY)
        self.assertIn("no node", run(tool("corral"), "fence", "node", "nobody", self.url("administrator"),
                                     check=False).stderr)
        # A node that holds the reservation leaves that to the others; a fenced one comes back.
        two = self.nodes[1]
        key, lives = self.key_of(two), two.said().count("rejoined the cluster")
        run(tool("corral"), "fence", "node", two.name, self.url("administrator"))
        self.assertNotIn(key, self.disk.keys())
        wait_until(lambda: two.said().count("rejoined the cluster") > lives, f"{two.name} comes back", 60)
        wait_until(lambda: len(self.disk.keys()) == NODES, "all are registered, and nobody else", 30)
        self.fence_status()

    def test_story(self):
        self.mount_all()
        self.disk = Registrations(self.target.address, self.target.port)
        self.addCleanup(self.disk.end)
        self.assertEqual(len({self.key_of(node) for node in self.nodes}), NODES)
        self.assertEqual(len(self.disk.keys()), NODES)
        self.assertEqual(self.disk.type(), WRITE_EXCLUSIVE_REGISTRANTS_ONLY)
        five, three = self.nodes[4], self.nodes[2]

        self.lose(five, lambda: os.kill(five.process.pid, signal.SIGSTOP),
                  lambda: os.kill(five.process.pid, signal.SIGCONT))

        wire = ("ip", "-n", self.network.names[2], "link", "set", "eth0")
        self.lose(three, lambda: run(*wire, "down"), lambda: run(*wire, "up"))

        others = [f"{self.network.subnet}.{number + 1}/32" for number in range(1, NODES + 1) if number != 3]
        route = ("ip", "-n", self.network.names[2], "route")
        self.lose(three, lambda: [run(*route, "add", "blackhole", other) for other in others],
                  lambda: [run(*route, "del", "blackhole", other) for other in others])

        self.check_commands()
        self.umount_all()
        # tgt keeps a registration for each session that a node has had.
        run(tool("corral"), "fence", "clear", "--stale", self.url("administrator"))
        self.assertEqual(self.fence_status()["keys"], [])
        self.assertEqual(self.disk.keys(), set())
        with open(self.told) as told:
            events = [json.loads(line) for line in told]
        kinds = [event["event"] for event in events]
        self.assertEqual(kinds.count("recovered"), 4)
        self.assertEqual(kinds.count("fenced"), 4)
        self.assertEqual(kinds.count("withdrawn"), 4)
        self.assertEqual(kinds.count("join"), NODES + 4)
        self.assertEqual(kinds.count("leave"), NODES)


if __name__ == "__main__":
    if shutil.which("tgtd") is None:
        print("SKIPPED: there is no tgtd (package tgt)")
        sys.exit(support.SKIPPED)
    support.main()
