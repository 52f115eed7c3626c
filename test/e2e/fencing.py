#!/usr/bin/env python3
"""Several nodes on a disk that cannot fence: loop devices of one file, without reservations. An operator, or a fence agent
of the test's own that really ends the node's process, says that a node can write nothing more."""

import os
import signal
import subprocess

import cluster
import support
from cluster import Node, read, status, write
from iscsi import free_port
from support import run, tool, wait_until

NODES = 3


class FencingTest(cluster.ClusterTest):
    """Each node has a loop device of its own; they are one disk, as the kernel keeps one cache of their file."""

    def prepare(self):
        self.loops = [self.attach() for _ in range(NODES + 1)]

    def attach(self):
        device = run("losetup", "--find", "--show", self.image).stdout.strip()
        self.addCleanup(run, "losetup", "--detach", device)
        return device

    def bystander(self):
        return self.loops[NODES]

    def new_node(self):
        number = len(self.nodes) + 1
        return self.keep(Node(self.folder, number, self.loops[number - 1], f"addr=127.0.0.1,port={free_port()}"))

    def configure(self, setting, value, check=True):
        return run(tool("corral"), "config", "set", self.bystander(), setting, value, check=check)

    def ack(self, node, *arguments, answer=None):
        return subprocess.run([tool("corral"), "fence", "ack", *arguments, self.bystander(), node.name], input=answer,
                              capture_output=True, text=True, timeout=60)

    def refused(self, *command):
        done = run(*command, check=False)
        self.assertEqual(done.returncode, 8, done.stdout + done.stderr)
        return done.stderr

    def node_on_disk(self, node):
        return next(one for one in status(self.bystander())[1]["cluster"]["nodes"] if one["name"] == node.name)

    def goes_on(self, *nodes):
        """Each can write, and the others see it."""
        for node in nodes:
            write(node.path("turn"), node.name.encode())
            for other in nodes:
                self.assertEqual(read(other.path("turn")), node.name.encode())

    def waits_for_operator(self, victim, *living):
        wait_until(lambda: any("waiting for an operator" in node.said() for node in living), "an operator is asked for",
                   cluster.RECOVERY_SECONDS)
        said = "".join(node.said() for node in living)
        self.assertIn(f"{victim.name}", said)
        self.assertNotIn("recovered node", said)


class WithoutAWay(FencingTest):
    def test_refused(self):
        node = self.new_node()
        node.start()
        node.process.wait(timeout=60)
        self.assertIn("could not be kept from writing to this disk", node.said())
        self.assertIn("fence manual", node.said())
        # One node alone needs none.
        run(tool("mount.corral"), "-o", "lockproto=lock_nolock", self.loops[0], node.root)
        run("umount", node.root)

    def test_settings(self):
        self.assertIn("must be scsi-pr, manual or agent:NAME", self.refused(
            tool("corral"), "config", "set", self.bystander(), "fence", "nobody"))
        for agent in ("agent:../../bin/sh", "agent:sh", "agent:/usr/sbin/fence_x"):
            self.refused(tool("corral"), "config", "set", self.bystander(), "fence", agent)
        self.configure("fence", "agent:fence_of_nobody")
        node = self.new_node()
        node.start()
        node.process.wait(timeout=60)
        self.assertIn("there is no program fence_of_nobody", node.said())
        self.configure("fence", "scsi-pr")


class Manual(FencingTest):
    spare_journals = 1  # for a node that comes back while its slot waits for recovery

    def prepare(self):
        super().prepare()
        self.configure("fence", "manual")

    def test_acknowledged(self):
        one, two, three = self.mount_all()
        self.goes_on(one, two, three)
        self.assertIn("config set", self.refused_while_mounted())
        write(three.path("left behind"), b"synced", sync=True)
        done = self.ack(three, "-y")
        self.assertEqual(done.returncode, 8)
        self.assertIn(f"node {three.name} lives", done.stderr)
        three.kill()
        self.waits_for_operator(three, one, two)
        wait_until(lambda: self.node_on_disk(three)["waits_for_operator"], "the wait shows", 60)
        self.assertIn(f"corral fence ack {self.bystander()} {three.name}",
                      run(tool("corral"), "status", self.bystander()).stdout)
        self.assertIn("Cannot fence", run(tool("corral"), "status", one.root, check=False).stdout +
                      run(tool("corral"), "status", two.root, check=False).stdout)
        # What the dead node did not have goes on.
        done = self.ack(three, answer="well\n")
        self.assertEqual(done.returncode, 8)
        self.assertIn("its host is off", done.stdout)
        self.assertIn("nothing was done", done.stderr)
        done = self.ack(three, answer="yes\n")
        self.assertEqual(done.returncode, 0, done.stderr)
        self.wait_for_recovery(one, two)
        self.assertIn("an operator has said", one.said() + two.said())
        self.assertEqual(read(one.path("left behind")), b"synced")
        self.goes_on(one, two)
        # That word does not count for the next life.
        three.start()
        wait_until(three.ready, "mounting again", 90)
        self.goes_on(one, two, three)
        before = len(one.said() + two.said())
        three.kill()
        wait_until(lambda: "waiting for an operator" in (one.said() + two.said())[before:] or
                   self.node_on_disk(three)["waits_for_operator"], "it is asked for anew", cluster.RECOVERY_SECONDS)
        self.assertEqual(self.ack(three, "-y").returncode, 0)
        wait_until(lambda: self.node_on_disk(three)["state"] == "offline", "recovery", cluster.RECOVERY_SECONDS)
        self.goes_on(one, two)
        self.umount_all()

    def refused_while_mounted(self):
        return "config set " + self.refused(tool("corral"), "config", "set", self.bystander(), "fence", "scsi-pr")

    def test_comes_back_by_itself(self):
        """A later life of the node is word enough about the one before."""
        one, two, three = self.mount_all()
        write(three.path("left behind"), b"synced", sync=True)
        three.kill()
        self.waits_for_operator(three, one, two)
        three.start()
        wait_until(three.ready, "mounting again", 90)
        self.assertIn("its node has come back", one.said() + two.said())
        self.goes_on(one, two, three)
        self.assertEqual(read(three.path("left behind")), b"synced")
        self.umount_all()

    def test_stands_still_for_a_while(self):
        """Nobody took over what it had, so it goes on where it was."""
        one, two, three = self.mount_all()
        write(three.path("held"), b"x" * 4096)
        os.kill(three.process.pid, signal.SIGSTOP)
        try:
            self.waits_for_operator(three, one, two)
        finally:
            os.kill(three.process.pid, signal.SIGCONT)
        self.assertEqual(read(one.path("held")), b"x" * 4096)
        self.goes_on(one, two, three)
        self.assertNotIn("recovered node", one.said() + two.said())
        self.assertNotIn("member of the cluster no more", three.said())
        self.umount_all()

    def test_setting_waits_for_the_dead(self):
        self.mount_all()
        for node in self.nodes:
            node.kill()
        wait_until(lambda: status(self.bystander())[0] == 1, "all are silent", 60)
        for command in (("corral", "config", "set", self.bystander(), "fence", "scsi-pr"),
                        ("corral", "replay", self.bystander()), ("fsck.corral", "-y", self.bystander())):
            self.refused(tool(command[0]), *command[1:])
        one, two, three = self.nodes
        one.start()
        self.waits_for_operator(two, one)
        for node in (two, three):
            self.assertEqual(self.ack(node, "-y").returncode, 0)
        wait_until(one.ready, "mounting", 90)
        self.goes_on(one)
        self.umount_all()
        self.configure("fence", "scsi-pr")


class Agent(cluster.Death, FencingTest):
    """The agent ends the process whose number stands in a file of the node's name."""

    SCRIPT = """#!/bin/sh
while read -r line; do
  case $line in action=*) action=${line#action=} ;; plug=*) plug=${line#plug=} ;; folder=*) folder=${line#folder=} ;; esac
done
echo "$action of $plug"
[ -e "$folder/broken" ] && exit 1
pid=$(cat "$folder/$plug.pid") || exit 1
case $action in
  off) grep -qs "$folder" "/proc/$pid/cmdline" && kill -KILL "$pid"; exit 0 ;;
  status) grep -qs '^State:.[^Z]' "/proc/$pid/status" && exit 0; exit 2 ;;
esac
exit 1
"""

    def prepare(self):
        super().prepare()
        self.agent = f"fence_corral_test_{os.getpid()}"
        path = os.path.join("/usr/sbin", self.agent)
        self.addCleanup(os.unlink, path)
        with open(path, "w") as script:
            script.write(self.SCRIPT)
        os.chmod(path, 0o755)
        self.configure("fence", f"agent:{self.agent}")
        self.configure("fence-agent-options", f"folder={self.folder} login=nobody")

    def mount_all(self):
        nodes = super().mount_all()
        for node in nodes:
            write(os.path.join(self.folder, f"{node.name}.pid"), str(node.process.pid).encode())
        return nodes

    def test_turned_off(self):
        def stop(node):
            os.kill(node.process.pid, signal.SIGSTOP)

        def recovered(one, two, three):
            self.wait_for_recovery(one, two)
            three.process.wait(timeout=60)
            said = one.said() + two.said()
            self.assertIn(f"off of {three.name}", said)
            self.assertIn(f"status of {three.name}", said)
            self.assertIn(f"has turned node {three.name} off", said)
            run("umount", "-l", three.root)

        one, two, three = self.run_load_and(stop, recovered)
        three.start()
        wait_until(three.ready, "mounting again", 90)
        self.goes_on(one, two, three)
        self.umount_all()

    def test_fails(self):
        one, two, three = self.mount_all()
        write(os.path.join(self.folder, "broken"), b"")
        three.kill()
        wait_until(lambda: "action=off failed with exit status 1" in one.said() + two.said(), "the failure is told",
                   cluster.RECOVERY_SECONDS)
        self.assertNotIn("recovered node", one.said() + two.said())
        # By hand, then.
        self.assertEqual(self.ack(three, "-y").returncode, 0)
        self.wait_for_recovery(one, two)
        self.goes_on(one, two)
        self.umount_all()



if __name__ == "__main__":
    support.main()
