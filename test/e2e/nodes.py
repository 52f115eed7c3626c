#!/usr/bin/env python3
"""corral node: who is in, leaving in order, and nodes that an operator puts out and lets in again."""

import json
import os
import shutil
import signal
import sys

import cluster
import support
from cluster import Node, read, write
from iscsi import free_port
from support import run, tool, wait_until

NODES = 3


def corral(*arguments, check=True):
    return run(tool("corral"), *arguments, check=check)


class Story:
    """On every kind of disk."""

    spare_journals = 1

    def nodes_on_disk(self):
        return {node["name"]: node for node in self.listed()["nodes"]}

    def listed(self):
        return json.loads(corral("node", "list", "--json", self.bystander()).stdout)

    def rejoined(self, node, before):
        wait_until(lambda: "rejoined the cluster" in node.said()[before:], f"{node.name} comes back", 60)

    def goes_on(self, *nodes):
        for node in nodes:
            write(node.path("turn"), node.name.encode())
            for other in nodes:
                self.assertEqual(read(other.path("turn")), node.name.encode())

    def test_list(self):
        one, two, three = self.mount_all()
        for target in (self.bystander(), one.root):
            listed = json.loads(corral("node", "list", "--json", target).stdout)
            self.assertEqual(listed["votes"], {"node": NODES, "disk": NODES - 1, "expected": 2 * NODES - 1,
                                               "quorum": NODES, "quorate": True})
            self.assertEqual(sorted(node["name"] for node in listed["nodes"]), [node.name for node in self.nodes])
            for node in listed["nodes"]:
                self.assertEqual((node["state"], node["votes"], node["may_write"], node["fencing"], node["expelled"]),
                                 ("online", 1, True, self.FENCING, False))
                self.assertTrue(node["addresses"])
        self.assertIn(one.name, corral("node", "list", self.bystander()).stdout)
        self.umount_all()
        self.assertEqual({node["state"] for node in self.listed()["nodes"]}, {"offline"})

    def test_leave(self):
        one, two, three = self.mount_all()
        with open(three.path("held"), "wb") as held:
            done = corral("node", "leave", three.root, check=False)
            self.assertEqual(done.returncode, 8)
            self.assertIn("in use by process", done.stderr)
            self.assertIn(f"{os.getpid()} (python", done.stderr)
            held.write(b"kept")
        self.goes_on(one, two, three)
        # Of several mounts one must be named.
        self.assertIn("name the one", corral("node", "leave", check=False).stderr)
        self.assertIn("has left the cluster", corral("node", "leave", three.root).stdout)
        three.process.wait(timeout=60)
        self.assertEqual(self.nodes_on_disk()[three.name]["state"], "offline")
        self.assertEqual(read(one.path("held")), b"kept")
        self.assertNotIn("fenced", one.said() + two.said())
        self.assertIn("no Corral mount", corral("node", "leave", three.root, check=False).stderr)
        # A mount whose process stands still is not waited for without end.
        os.kill(two.process.pid, signal.SIGSTOP)
        try:
            done = corral("node", "leave", "--timeout", "1", two.root, check=False)
        finally:
            os.kill(two.process.pid, signal.SIGCONT)
        self.assertEqual(done.returncode, 5)
        self.assertIn("still unmounting", done.stderr)
        two.process.wait(timeout=60)
        self.umount_all()

    def test_expelled(self):
        one, two, three = self.mount_all()
        write(three.path("left behind"), b"synced", sync=True)
        self.assertIn("has ever used", corral("node", "expel", "-y", self.bystander(), "nobody", check=False).stderr)
        done = run("sh", "-c", f"echo no | {tool('corral')} node expel '{self.bystander()}' {three.name}", check=False)
        self.assertEqual(done.returncode, 8)
        self.assertIn("nothing was done", done.stderr)
        self.goes_on(one, two, three)
        self.put_out(three, one)
        wait_until(lambda: "cannot rejoin yet" in three.said(), f"{three.name} is told", 60)
        self.assertIn(f"an operator has expelled node {three.name}", three.said())
        self.goes_on(one, two)
        self.assertEqual(read(one.path("left behind")), b"synced")
        self.assertEqual(self.listed()["expelled"], [three.name])
        self.assertIn("is expelled already",
                      corral("node", "expel", "-y", self.bystander(), three.name, check=False).stderr)
        self.assertIn(three.name, corral("status", self.bystander()).stdout)
        # Another process under the name is refused at once.
        run("umount", three.root)
        three.process.wait(timeout=60)
        three.start()
        self.assertNotEqual(three.process.wait(timeout=60), 0)
        # Let in again it does not wait to be told.
        corral("node", "admit", self.bystander(), three.name)
        self.assertIn("is not expelled", corral("node", "admit", self.bystander(), three.name, check=False).stderr)
        three.start()
        wait_until(three.ready, "mounting again", 90)
        self.goes_on(one, two, three)
        # The one that leads, too; and it comes back by itself.
        before = len(one.said())
        self.put_out(one, two)
        self.goes_on(two, three)
        corral("node", "admit", self.bystander(), one.name)
        self.rejoined(one, before)
        self.goes_on(one, two, three)
        self.umount_all()

    def put_out(self, node, other):
        done = corral("node", "expel", "-y", other.root if self.MOUNT_NAMES_DEVICE else self.bystander(), node.name)
        self.assertIn(f"node {node.name} is out of the cluster", done.stdout)
        self.assertEqual(self.nodes_on_disk()[node.name]["state"], "offline")


class OnFile(Story, cluster.ClusterTest):
    FENCING = "locks"
    MOUNT_NAMES_DEVICE = True


class OnLun(Story, cluster.ClusterTest):
    """Through the disk's reservation, as one more registrant."""

    FENCING = "reservations"
    MOUNT_NAMES_DEVICE = False
    prepare = cluster.OnLun.prepare
    bystander = cluster.OnLun.bystander
    new_node = cluster.OnLun.new_node


class ByHand(cluster.ClusterTest):
    def prepare(self):
        self.loops = []
        for _ in range(NODES + 1):
            self.loops.append(run("losetup", "--find", "--show", self.image).stdout.strip())
            self.addCleanup(run, "losetup", "--detach", self.loops[-1])
        corral("config", "set", self.loops[NODES], "fence", "manual")

    def new_node(self):
        number = len(self.nodes) + 1
        return self.keep(Node(self.folder, number, self.loops[number - 1], f"addr=127.0.0.1,port={free_port()}"))

    def test_expelled(self):
        """The disk lets it write until an operator says otherwise; the command says so and does not wait for that."""
        one, two, three = self.mount_all()
        disk = self.loops[NODES]
        done = corral("node", "expel", "-y", disk, three.name, check=False)
        self.assertEqual(done.returncode, 1, done.stderr)
        self.assertIn(f"corral fence ack {disk} {three.name}", done.stdout)
        self.assertNotIn("recovered node", one.said() + two.said())
        run("umount", three.root)
        three.process.wait(timeout=60)
        corral("fence", "ack", "-y", disk, three.name)
        self.wait_for_recovery(one, two)
        self.umount_all()


if __name__ == "__main__":
    if shutil.which("tgtd") is None:
        print("SKIPPED: there is no tgtd (package tgt)")
        sys.exit(support.SKIPPED)
    support.main()
