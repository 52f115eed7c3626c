"""What processes on several nodes may expect of locks on files: fcntl, open file descriptions, flock, and what is built
on them."""

import json
import os
import select
import signal
import sqlite3
import subprocess
import sys

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "posix"))

import suite  # noqa: E402
from support import run, tool, wait_until  # noqa: E402

HERE = os.path.dirname(os.path.abspath(__file__))
KINDS = ("process", "open-file", "flock")


class User:
    """A process of its own with the file open; see lock_user.py."""

    def __init__(self, test, path):
        self.process = subprocess.Popen([sys.executable, os.path.join(HERE, "lock_user.py"), path],
                                        stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        test.addCleanup(self.end)

    @property
    def pid(self):
        return self.process.pid

    def begin(self, command):
        self.process.stdin.write(command + "\n")
        self.process.stdin.flush()

    def answer(self, timeout=60):
        ready, _, _ = select.select([self.process.stdout], [], [], timeout)
        if not ready:
            raise AssertionError(f"no answer within {timeout} s")
        return self.process.stdout.readline().strip()

    def ask(self, command):
        self.begin(command)
        return self.answer()

    def waits(self):
        """Once it stands in the call: has it no answer?"""
        def in_call():
            with open(f"/proc/{self.pid}/wchan") as place:
                return place.read() == "request_wait_answer"

        def answered():
            return bool(select.select([self.process.stdout], [], [], 0)[0])

        wait_until(lambda: in_call() or answered(), "a call", 60)
        return not answered()

    def signal(self):
        os.kill(self.pid, signal.SIGUSR1)

    def end(self):
        if self.process.poll() is None:
            self.process.kill()
        self.process.wait()
        self.process.stdin.close()
        self.process.stdout.close()


class Locking:
    """For a ClusterTest of three nodes."""

    def users(self, name, nodes):
        with open(nodes[0].path(name), "ab"):
            pass
        users = [User(self, node.path(name)) for node in nodes]
        # A call that one of them stands in later is one that it was asked for, not the opening.
        for user in users:
            self.assertEqual(user.answer(), "ready")
        self.lock_users = getattr(self, "lock_users", []) + users
        return users

    def posix(self):
        """What a single node may expect."""
        root = self.nodes[0].root
        # For users who are not root, as which the suite checks too.
        for folder in (self.folder, root):
            os.chmod(folder, 0o755)
        for tests in ("lock", "death_lets_go"):
            result = suite.check_directory(root, set(), tests)
            self.assertEqual(result.errors + result.failures, [])
            self.assertGreater(result.passed, 0)

    def counters(self):
        for kind in KINDS:
            users = self.users(kind, self.nodes)
            for user in users:
                user.begin(f"count {kind} 100")
            for user in users:
                self.assertEqual(user.answer(), "ok")
            for node in self.nodes:
                with open(node.path(kind), "rb") as file:
                    self.assertEqual(file.read(), b"300")

    def conflicts(self):
        one, two, three = self.nodes
        holder, neighbour, away = self.users("conflicts", (one, one, two))
        self.assertEqual(holder.ask("set process write 100 50"), "ok")
        self.assertEqual(away.ask("set process read 149 1"), "EAGAIN")
        self.assertEqual(away.ask("set process write 150 0"), "ok")
        # Processes are of a node; of another node's the kernel can say no more than that.
        self.assertEqual(neighbour.ask("test process read 0 120"), f"write 100 50 {holder.pid}")
        self.assertEqual(away.ask("test process read 0 120"), "write 100 50 0")
        self.assertEqual(away.ask("test process read 0 100"), "free")
        self.assertEqual(holder.ask("set process unlock 120 10"), "ok")
        self.assertEqual(away.ask("set process write 120 10"), "ok")
        self.assertEqual(away.ask("set process write 119 1"), "EAGAIN")
        # flocks are another kind; in another mode they may be lost.
        self.assertEqual(holder.ask("flock shared"), "ok")
        self.assertEqual(away.ask("flock shared"), "ok")
        self.assertEqual(holder.ask("flock exclusive now"), "EAGAIN")
        self.assertEqual(away.ask("flock exclusive now"), "ok")
        self.assertEqual(holder.ask("flock shared now"), "EAGAIN")

    def shown(self):
        """Who waits for whom is told by the node that masters the file's locks: the first that used them."""
        one, two, _ = self.nodes
        holder, waiter = self.users("shown", (one, two))
        self.assertEqual(holder.ask("set process write 10 5"), "ok")
        waiter.begin("wait process write 12 1")
        self.assertTrue(waiter.waits())

        def ranges():
            answer = json.loads(run(tool("corral"), "locks", "--json", one.root).stdout)
            return [(answer["names"][str(lock["slot"])], lock) for resource in answer["resources"]
                    for lock in resource["ranges"] if resource.get("number") == os.stat(one.path("shown")).st_ino]

        wait_until(lambda: len(ranges()) == 2, "the lock that waits is shown", 30)
        (held_by, held), (waits_at, waiting) = sorted(ranges(), key=lambda one: one[1]["waiting"])
        self.assertEqual((held_by, held["process"], held["first"], held["last"]), (one.name, holder.pid, 10, 14))
        self.assertEqual((waits_at, waiting["process"], waiting["waits_for"][0]["slot"]),
                         (two.name, waiter.pid, held["slot"]))
        self.assertIn(f"process {waiter.pid} wants write lock on bytes 12 to 12",
                      run(tool("corral"), "locks", one.root).stdout)
        # Two nodes have the folder, so it is on the disk.
        self.assertIn(" /shown (fcntl)", run(tool("corral"), "locks", "--paths", one.root).stdout)
        self.assertEqual(holder.ask("set process unlock 0 0"), "ok")
        self.assertEqual(waiter.answer(), "ok")

    def ends(self):
        """All that lets go of locks besides unlocking them."""
        one, two, _ = self.nodes
        for kind in KINDS:
            for how in ("close another", "kill"):
                holder, waiter = self.users(f"ends-{kind}", (one, two))
                everything = "write 0 0"
                self.assertEqual(holder.ask("flock exclusive" if kind == "flock" else f"set {kind} {everything}"), "ok")
                waiter.begin("flock exclusive" if kind == "flock" else f"wait {kind} {everything}")
                self.assertTrue(waiter.waits())
                if how == "kill":
                    holder.end()
                else:
                    holder.ask("open")
                    holder.ask("close")
                if how == "close another" and kind != "process":
                    self.assertTrue(waiter.waits())
                    holder.ask("flock unlock" if kind == "flock" else f"set {kind} unlock 0 0")
                self.assertEqual(waiter.answer(), "ok")
                waiter.end()

    def interruption(self):
        for hold, wait, free in (("set process write 0 10", "wait process read 5 1", "set process unlock 0 0"),
                                 ("flock exclusive", "flock shared", "flock unlock")):
            holder, waiter, other = self.users("interruption", self.nodes)
            self.assertEqual(holder.ask(hold), "ok")
            waiter.begin(wait)
            self.assertTrue(waiter.waits())
            waiter.signal()
            self.assertEqual(waiter.answer(), "EINTR")
            waiter.begin(wait)
            self.assertTrue(waiter.waits())
            waiter.end()
            # Nothing is left of either.
            self.assertEqual(holder.ask(free), "ok")
            self.assertEqual(other.ask(hold if hold.startswith("set") else hold + " now"), "ok")
            self.assertEqual(other.ask(free), "ok")

    def deadlock(self):
        one, two, _ = self.nodes
        # The file's locks are mastered by another node than the one on which there is a deadlock.
        away, first, second = self.users("deadlock", (two, one, one))
        self.assertEqual(away.ask("set process read 100 1"), "ok")
        for kind in ("process", "open-file"):
            self.assertEqual(first.ask(f"set {kind} write 0 1"), "ok")
            self.assertEqual(second.ask(f"set {kind} write 1 1"), "ok")
            first.begin(f"wait {kind} write 1 1")
            self.assertTrue(first.waits())
            second.begin(f"wait {kind} write 0 1")
            if kind == "open-file":
                # Another process might have the same file open and unlock it.
                self.assertTrue(second.waits())
                second.signal()
                self.assertEqual(second.answer(), "EINTR")
            else:
                self.assertEqual(second.answer(), "EDEADLK")
            self.assertEqual(second.ask(f"set {kind} unlock 0 0"), "ok")
            self.assertEqual(first.answer(), "ok")
            self.assertEqual(first.ask(f"set {kind} unlock 0 0"), "ok")

    def database(self, together):
        rows = 20
        name = "database"

        def connect(node):
            # Rollback journal; whoever finds it locked tries again.
            return sqlite3.connect(node.path(name), timeout=60, isolation_level=None)

        with connect(self.nodes[0]) as begun:
            begun.execute("CREATE TABLE entries (node TEXT, number INTEGER)")
        begun.close()

        def insert(node):
            connection = connect(node)
            for number in range(rows):
                connection.execute("BEGIN IMMEDIATE")
                count, = connection.execute("SELECT count(*) FROM entries WHERE node = ?", (node.name,)).fetchone()
                connection.execute("INSERT INTO entries VALUES (?, ?)", (node.name, count))
                connection.execute("COMMIT")
            connection.close()

        together(insert, self.nodes)
        for node in self.nodes:
            connection = connect(node)
            self.assertEqual(connection.execute("PRAGMA integrity_check").fetchall(), [("ok",)])
            found = connection.execute("SELECT node, number FROM entries ORDER BY node, number").fetchall()
            self.assertEqual(found, [(n.name, number) for n in self.nodes for number in range(rows)])
            connection.close()

    def holders_node_dies(self):
        """The last story of a set-up: the third node is gone afterwards."""
        one, two, three = self.nodes
        users = [(self.users(f"death-{kind}", (three, two, one)), kind) for kind in KINDS]
        for (holder, waiter, _), kind in users:
            self.assertEqual(holder.ask("flock exclusive" if kind == "flock" else f"set {kind} write 0 0"), "ok")
            waiter.begin("flock exclusive" if kind == "flock" else f"wait {kind} write 0 0")
            self.assertTrue(waiter.waits())
        three.kill()
        for (_, waiter, other), kind in users:
            self.assertEqual(waiter.answer(120), "ok")
            self.assertEqual(other.ask("flock shared now" if kind == "flock" else f"set {kind} read 0 1"), "EAGAIN")
        for user in self.lock_users:
            user.end()
