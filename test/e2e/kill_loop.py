#!/usr/bin/env python3
"""Five nodes on one LUN under mixed load (kill_loop_user.py), of which every few seconds something fails at random. Judges:
nothing that was synced is lost, no byte is wrong, nothing waits longer than recovery explains, every node comes back by
itself, and the volume is sound, for fsck.gfs2, fsck.corral and the kernel's GFS2.

  CORRAL_KILL_SECONDS  how long (default 600)
  CORRAL_SEED          what fails when (default: at random; it is printed)
  CORRAL_KILL_KINDS    only these failures, separated by commas
"""

import collections
import json
import os
import random
import shutil
import signal
import subprocess
import sys
import threading
import time

import cluster
import kill_loop_user
import support
from iscsi import TARGET
from kill_loop_user import KINDS, NODES, Board
from support import run, tool, wait_until

HERE = os.path.dirname(os.path.realpath(__file__))
# While a node has no way to the disk its requests wait for that long (recovery= in its device name).
DISK_RECOVERY_SECONDS = 30
# The longest that a call may take: the way to the disk, then another node's recovery, on a busy machine.
LONGEST_CALL_SECONDS = DISK_RECOVERY_SECONDS + 60
# From the mending of all failures to every node's having got further.
RETURN_SECONDS = 120
ROUNDS_PER_CHECK = 12


class KillLoop(cluster.ClusterTest):
    nodes_count = NODES

    def prepare(self):
        self.seconds = int(os.environ.get("CORRAL_KILL_SECONDS", "600"))
        self.seed = os.environ.get("CORRAL_SEED") or str(random.SystemRandom().randrange(1_000_000))
        self.random = random.Random(self.seed)
        self.network = cluster.Network(NODES)
        self.addCleanup(self.network.end)
        self.target = cluster.Target(self.image, f"{self.network.subnet}.1")
        self.addCleanup(lambda: self.target.stop())
        self.board = Board.make(os.path.join(self.folder, "board"))
        self.notes = os.path.join(self.folder, "notes")
        open(self.notes, "w").close()
        self.injected = collections.Counter()
        self.starts_refused = 0
        self.disturbed = []  # nodes, first and last second of each failure
        self.longest_call = 0
        self.users = []
        self.watching = threading.Event()
        self.addCleanup(self.end_users)
        self.began = time.monotonic()

    # What is mounted, and who uses it.

    def url(self, initiator):
        return (f"iscsi://{self.target.address}:{self.target.port}/{TARGET}/1?timeout=2&"
                f"recovery={DISK_RECOVERY_SECONDS}&initiator=iqn.2026-11.corral.test:{initiator}")

    def bystander(self):
        return self.url("bystander")

    def new_node(self):
        number = len(self.nodes) + 1
        return self.keep(cluster.Node(self.folder, number, self.url(f"node-{number}"), "port=7007",
                                      self.network.inside(number)))

    def say(self, text):
        now = time.monotonic()
        print(f"{now:.1f}, after {now - self.began:.1f} s: {text}", flush=True)

    def start_users(self):
        os.mkdir(self.nodes[0].path("work"))
        for number, node in enumerate(self.nodes):
            self.users.append(subprocess.Popen(
                [sys.executable, os.path.join(HERE, "kill_loop_user.py"), str(number), node.root,
                 os.path.join(self.folder, "board"), self.notes, self.seed]))
        threading.Thread(target=self.watch, daemon=True).start()

    def end_users(self):
        self.watching.set()
        for user in self.users:
            if user.poll() is None:
                user.kill()

    def watch(self):
        """Tells the users which nodes have lost a life, and looks how long calls take."""
        while not self.watching.wait(0.2):
            for number, node in enumerate(self.nodes):
                self.board.losses(number, node.said().count("member of the cluster no more"))
            now = time.monotonic()
            for number in range(NODES):
                for kind in KINDS:
                    began = self.board.began(number, kind)
                    if began:
                        self.longest_call = max(self.longest_call, now - began)

    # What fails. Each returns when it is mended.

    def fail_kill(self, number, seconds):
        node = self.nodes[number]
        node.kill()
        time.sleep(seconds)
        self.start_node(node)

    def start_node(self, node):
        """As often as it takes: a mount is refused where another node is cut off from it."""
        end = time.monotonic() + RETURN_SECONDS
        node.start()
        while not os.path.ismount(node.root):
            if node.process.poll() is not None:
                self.starts_refused += 1
                self.assertLess(time.monotonic(), end, f"{node.name} cannot be mounted: {node.said()[-3000:]}")
                time.sleep(0.5)
                node.start()
            self.assertLess(time.monotonic(), end, f"{node.name} does not mount: {node.said()[-3000:]}")
            time.sleep(0.05)

    def fail_stop(self, number, seconds):
        process = self.nodes[number].process
        os.kill(process.pid, signal.SIGSTOP)
        time.sleep(seconds)
        os.kill(process.pid, signal.SIGCONT)

    def fail_network(self, number, seconds):
        wire = ("ip", "-n", self.network.names[number], "link", "set", "eth0")
        run(*wire, "down")
        time.sleep(seconds)
        run(*wire, "up")

    def fail_link(self, number, seconds):
        """To one other node, and mostly from it."""
        other = (number + self.random.randrange(1, NODES)) % NODES
        routes = [(number, other)] + ([(other, number)] if self.random.random() < 0.7 else [])
        for near, far in routes:
            run("ip", "-n", self.network.names[near], "route", "add", "blackhole", f"{self.network.subnet}.{far + 2}/32")
        time.sleep(seconds)
        for near, far in routes:
            run("ip", "-n", self.network.names[near], "route", "del", "blackhole", f"{self.network.subnet}.{far + 2}/32")

    def fail_target(self, _, seconds):
        self.target.stop()
        time.sleep(min(seconds, DISK_RECOVERY_SECONDS / 2))
        self.target.start()

    def fail_leave(self, number, seconds):
        """In order, whatever else fails: then it takes longer."""
        node = self.nodes[number]
        self.rest([number])
        node.umount()
        self.assertEqual(node.process.returncode, 0, node.said()[-3000:])
        time.sleep(seconds)
        self.start_node(node)
        self.board.rest(number, 0)

    KINDS_OF_FAILURE = {"kill": fail_kill, "stop": fail_stop, "network": fail_network, "link": fail_link,
                        "target": fail_target, "leave": fail_leave}

    # Judges.

    def check_notes(self):
        with open(self.notes) as file:
            notes = [json.loads(line) for line in file]
        wrong = [note for note in notes if note["what"] == "wrong"]
        self.assertEqual(wrong, [])
        self.assertLessEqual(self.longest_call, LONGEST_CALL_SECONDS, self.calls_under_way())
        for number, user in enumerate(self.users):
            self.assertIsNone(user.poll(), f"the users of node {number} have ended")
        return [note for note in notes if note["what"] == "long"]

    def calls_under_way(self):
        now = time.monotonic()
        return [(number, kind, round(now - self.board.began(number, kind), 1)) for number in range(NODES)
                for kind in KINDS if self.board.began(number, kind)]

    def wait_for_progress(self):
        """Every kind of work of every node gets further."""
        before = {(number, kind): self.board.steps(number, kind) for number in range(NODES) for kind in KINDS}
        mended = time.monotonic()
        end = mended + RETURN_SECONDS
        while late := [place for place, steps in before.items() if self.board.steps(*place) <= steps]:
            self.check_notes()
            if time.monotonic() > end:
                self.fail(f"after {RETURN_SECONDS} s these have not got further: {late}\n{self.state()}")
            time.sleep(0.1)
        return time.monotonic() - mended

    def state(self):
        tails = "\n".join(f"---- {node.name}\n{node.said()[-2500:]}" for node in self.nodes)
        said = run(tool("corral"), "status", self.bystander(), check=False)
        return f"{self.calls_under_way()}\n{said.stdout}{said.stderr}\n{tails}"

    def wait_until_all_are_in(self):
        def all_in():
            code, report = cluster.status(self.bystander())
            return code == 0 and len(report["cluster"]["view"]["members"]) == NODES
        wait_until(all_in, "all nodes are members", RETURN_SECONDS)

    def rest(self, numbers):
        for number in numbers:
            self.board.rest(number, 1)
        for number in numbers:
            for kind in KINDS:
                wait_until(lambda: self.board.resting(number, kind), f"node {number}'s {kind} rests",
                           LONGEST_CALL_SECONDS + kill_loop_user.LOSS_KNOWN_SECONDS)

    def check_volume(self):
        """Unmounts everywhere."""
        self.rest(range(NODES))
        cluster.together(cluster.Node.umount, self.nodes)
        for node in self.nodes:
            self.assertEqual(node.process.returncode, 0, node.said()[-3000:])
        run("fsck.gfs2", "-n", self.image)
        run(tool("fsck.corral"), "-n", self.image)

    def mount_again(self):
        for node in self.nodes:
            node.start()
        for node in self.nodes:
            wait_until(node.ready, f"{node.name} mounts", 90)
        for number in range(NODES):
            self.board.rest(number, 0)

    def check_with_kernel(self, listed):
        """The kernel's GFS2 sees the tree that was seen through the mounts."""
        if shutil.which("linux.uml") is None:
            self.say("linux.uml is not installed: the kernel's GFS2 has not looked at the volume")
            return
        share = os.path.join(self.folder, "share")
        os.mkdir(share)
        interop = os.path.join(HERE, "..", "interop")
        shutil.copy(os.path.join(interop, "tree.py"), share)
        script = os.path.join(self.folder, "look")
        with open(script, "w") as file:
            file.write("set -e\nmount -t gfs2 -o noatime,lockproto=lock_nolock /dev/ubda /mnt/gfs2\n"
                       "python3 /mnt/share/tree.py list /mnt/gfs2 > /mnt/share/list\numount /mnt/gfs2\n")
        run(os.path.join(interop, "uml"), "-d", self.image, "-s", share, script, timeout=400)
        with open(os.path.join(share, "list")) as file:
            self.assertEqual(file.read(), listed)
        run("fsck.gfs2", "-n", self.image)

    # The loop.

    def one_failure(self, kind, number, seconds, failures):
        began = time.monotonic()
        try:
            self.KINDS_OF_FAILURE[kind](self, number, seconds)
        except BaseException as failure:  # shown by the loop
            failures.append(failure)
        self.disturbed.append((None if kind == "target" else number, began, time.monotonic()))

    def draw_failures(self):
        kinds = os.environ.get("CORRAL_KILL_KINDS", ",".join(self.KINDS_OF_FAILURE)).split(",")
        chosen = self.random.sample(kinds, 2) if len(kinds) > 1 and self.random.random() < 0.3 else \
            [self.random.choice(kinds)]
        numbers = self.random.sample(range(NODES), len(chosen))
        short, long = (0.1, cluster.FAILURE_TIMEOUT_SECONDS * 0.7), (cluster.FAILURE_TIMEOUT_SECONDS * 1.5, 12)
        return [(kind, number, self.random.uniform(*self.random.choice((short, long))))
                for kind, number in zip(chosen, numbers)]

    def round(self, number):
        failures, threads = [], []
        for kind, node, seconds in self.draw_failures():
            self.injected[kind] += 1
            on = "" if kind == "target" else f" of node-{node + 1}"
            self.say(f"round {number}: {kind}{on} for {seconds:.1f} s")
            threads.append(threading.Thread(target=self.one_failure, args=(kind, node, seconds, failures)))
            threads[-1].start()
            time.sleep(self.random.uniform(0, 2))
        for thread in threads:
            thread.join()
        if failures:
            self.say(self.state())
            raise failures[0]
        took = self.wait_for_progress()
        self.say(f"round {number}: all have got further after {took:.1f} s")
        time.sleep(self.random.uniform(0, 3))

    def test_loop(self):
        print(f"CORRAL_SEED={self.seed}", flush=True)
        self.mount_all()
        self.start_users()
        rounds = checks = 0
        self.wait_for_progress()
        while time.monotonic() - self.began < self.seconds:
            rounds += 1
            self.round(rounds)
            if rounds % ROUNDS_PER_CHECK == 0:
                self.wait_until_all_are_in()
                self.check_volume()
                checks += 1
                self.mount_again()
                self.say("unmounted everywhere, and sound")
        self.wait_until_all_are_in()
        long = self.check_notes()
        for number in range(NODES):
            self.board.end(number, 1)
        for user in self.users:
            user.wait(timeout=LONGEST_CALL_SECONDS)
        self.watching.set()
        self.users.clear()
        self.check_notes()
        listed = run(sys.executable, os.path.join(HERE, "..", "interop", "tree.py"), "list", self.nodes[0].root).stdout
        cluster.together(cluster.Node.umount, self.nodes)
        run("fsck.gfs2", "-n", self.image)
        run(tool("fsck.corral"), "-n", self.image)
        self.check_with_kernel(listed)
        self.tell_figures(rounds, checks + 1, long)

    def tell_figures(self, rounds, checks, long):
        said = [node.said() for node in self.nodes]
        print(f"seed {self.seed}: {rounds} rounds in {time.monotonic() - self.began:.0f} s, {checks} checks of the volume")
        print("failures: " + ", ".join(f"{kind} {count}" for kind, count in sorted(self.injected.items())))
        print(f"recoveries: {sum(text.count('recovered node') for text in said)}, lives lost: "
              f"{sum(text.count('member of the cluster no more') for text in said)}, rejoined: "
              f"{sum(text.count('rejoined the cluster') for text in said)}, mounts refused and tried again: "
              f"{self.starts_refused}")
        for name, of_failed in (("a node that failed, or while the disk was away", True), ("another node", False)):
            took = [note for note in long if self.was_disturbed(note) == of_failed]
            longest = max(took, key=lambda note: note["took"], default=None)
            what = f"{longest['took']:.1f} s ({longest['kind']} on node-{longest['node'] + 1})" if longest else "under 3 s"
            print(f"longest call on {name}: {what}; of more than 3 s there were {len(took)}")
        print("steps: " + ", ".join(f"{kind} {sum(int(self.board.steps(number, kind)) for number in range(NODES))}"
                                    for kind in KINDS))

    def was_disturbed(self, note):
        """Whether the call ran at a time when its own node, or the disk, was out of order."""
        return any(number in (None, note["node"]) and began <= note["began"] + note["took"] and note["began"] <= ended
                   for number, began, ended in self.disturbed)


if __name__ == "__main__":
    if shutil.which("tgtd") is None:
        print("SKIPPED: there is no tgtd (package tgt)")
        sys.exit(support.SKIPPED)
    support.main()
