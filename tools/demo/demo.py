#!/usr/bin/env python3
"""The story that tools/quickstart tells: a disk, three nodes, two commands; then one node dies."""

import argparse
import os
import shutil
import signal
import subprocess
import sys
import time

from lab import Lab, LabError, wait_until
from teller import Teller
from work import Writer, torn_lines

FOLDER = "/var/tmp/corral-quickstart"
TABLE = "my-cluster:storage"
RECOVERY_SECONDS = 60

# What setting such a cluster up with RHCS and GFS2 takes by hand, and what stood for it in this story. The whole list,
# with the counting: docs/from-rhcs.md.
BY_HAND = (
    ("cluster.conf, ricci, luci, a browser", "the disk itself: mkfs.corral wrote it there"),
    ("cman, modclusterd, rgmanager, their start and status", "the mount is the node"),
    ("the quorum disk: fdisk, mkqdisk, votes", "heartbeats on the same disk; the votes above"),
    ("fence_scsi, a fence method for each node", "each mount registered a key; the keys above"),
    ("clvmd, pvcreate, vgcreate, lvcreate", "nothing: the whole disk is the volume"),
    ("mkfs.gfs2 -p lock_dlm -t ... -j ...", "the first command"),
    ("mount -t gfs2 on every node", "the second command"),
    ("clustat, cman_tool status", "corral status"),
    ("sg_persist -i -k, sg_persist -i -r", "corral fence status"),
    ("reboot of a fenced node", "it was mounted again; its host stayed up"),
)


class Story:
    def __init__(self, lab, tell):
        self.lab = lab
        self.tell = tell
        self.hosts = lab.hosts
        self.processes = {}
        self.figures = []

    def whole(self):
        self.storage()
        self.format()
        self.mount_all()
        self.share()
        self.look()
        self.death()

    def storage(self):
        self.tell.chapter("A disk that several machines see, and the machines")
        self.lab.make_storage()
        self.tell.say("An iSCSI target (tgtd) with one 2 GiB disk: what a storage array, a shared VHDX or a cloud's\n"
                      f"shared disk is elsewhere. Its name on every node: {self.lab.url}")
        self.lab.make_hosts()
        self.tell.say(f"{len(self.hosts)} nodes, each with a network, a name and an initiator of its own: "
                      f"{', '.join(host.name for host in self.hosts)}")

    def format(self):
        self.tell.chapter("First command, once, on any node")
        self.tell.show(self.hosts[0], "mkfs.corral", "-q", "-t", TABLE, "-j", str(max(5, len(self.hosts))), self.lab.url)

    def mount(self, hosts):
        begin = time.monotonic()
        for host in hosts:
            self.tell.write(f"{host.name}# mount.corral -f {self.lab.url} {host.mount_point} &", "1")
            self.processes[host.name] = host.start_mount()
        for host in hosts:
            wait_until(lambda: host.mounted() or self.processes[host.name].poll() is not None, f"{host.name} mounts", 60)
            if not host.mounted():
                raise LabError(f"{host.name} did not mount:\n{host.said()}")
        return time.monotonic() - begin

    def mount_all(self):
        self.tell.chapter("Second command, on every node")
        seconds = self.mount(self.hosts)
        self.tell.good(f"Mounted on all {len(self.hosts)} nodes after {seconds:.1f} s. No daemon, no configuration file, no "
                       "reboot.")
        self.figures.append(("mount on all nodes", seconds))

    def share(self):
        self.tell.chapter("One filesystem")
        first, last = self.hosts[0], self.hosts[-1]
        self.tell.say(f"{first.name} writes, {last.name} reads; {last.name} appends, all see it at once.")
        file = "a.txt"
        self.shell(first, f"echo 'written on {first.name}' > {first.mount_point}/{file}")
        self.tell.show(last, "cat", f"{last.mount_point}/{file}")
        self.shell(last, f"echo 'appended on {last.name}' >> {last.mount_point}/{file}")
        for host in self.hosts:
            self.tell.show(host, "cat", f"{host.mount_point}/{file}")
            with open(f"{host.mount_point}/{file}") as seen:
                if seen.read() != f"written on {first.name}\nappended on {last.name}\n":
                    raise LabError(f"{host.name} does not see what was written")

    def shell(self, host, line):
        """A line with redirections, shown as typed."""
        self.tell.write(f"{host.name}# {line}", "1")
        subprocess.run([*host.inside(), "sh", "-c", line], check=True, timeout=60)

    def look(self):
        self.tell.chapter("Who is in, and who may write to the disk")
        self.tell.show(self.hosts[0], "corral", "status", self.lab.url)
        self.tell.show(self.hosts[0], "corral", "fence", "status", self.lab.url)

    def death(self):
        victim, living = self.hosts[-1], self.hosts[:-1]
        self.tell.chapter(f"{victim.name} dies while all are at work")
        writers = [Writer(host) for host in self.hosts]
        for writer in writers:
            writer.start()
        wait_until(lambda: all(writer.done > 100 or writer.error for writer in writers), "the nodes work", 60)
        self.tell.say("Every node writes files, syncs them, and appends to a log that all share.")
        marks = {host.name: len(host.said()) for host in living}
        killed = time.monotonic()
        self.tell.write(f"{victim.name}# kill -9 {self.processes[victim.name].pid}    (mount.corral)", "1;31")
        self.processes[victim.name].kill()

        def news(host):
            return host.said()[marks[host.name]:]

        wait_until(lambda: any("recovered node" in news(host) for host in living), "recovery", RECOVERY_SECONDS)
        recovered = time.monotonic() - killed
        counts = [writer.done for writer in writers[:-1]]
        wait_until(lambda: all(writer.done > count + 20 or writer.error
                               for writer, count in zip(writers, counts)), "the others go on", 60)
        for writer in writers:
            writer.stop()
        for host in living:
            self.tell.say(f"What {host.name} has to say about it:")
            self.tell.quote(news(host).splitlines())
        self.judge(writers, killed, recovered)
        self.come_back(victim)

    def judge(self, writers, killed, recovered):
        living = writers[:-1]
        for writer in living:
            if writer.error is not None:
                raise LabError(f"{writer.host.name} should have gone on, but: {writer.error}")
        pause = max(writer.longest_pause(killed) for writer in living)
        reader = living[0].host
        for writer in writers:
            lost = writer.lost(reader.mount_point)
            if lost:
                raise LabError(f"{len(lost)} of the files that {writer.host.name} had synced are lost")
        if torn_lines(os.path.join(reader.mount_point, "log-of-all"), {host.name for host in self.hosts}):
            raise LabError("the common log has torn lines")
        total = sum(writer.done for writer in writers)
        self.tell.good(f"Fenced and recovered after {recovered:.1f} s; the longest that another node had to wait was "
                       f"{pause:.1f} s.\nAll {total} files that fsync had promised are there, those of the dead node too; "
                       "the common log is whole.")
        self.figures += [("kill to recovered", recovered), ("longest wait of another node", pause)]

    def come_back(self, victim):
        self.tell.chapter(f"{victim.name} comes back")
        self.tell.show(victim, "umount", "-l", victim.mount_point)
        self.processes[victim.name].wait()
        seconds = self.mount([victim])
        self.tell.show(victim, "tail", "-n", "2", f"{victim.mount_point}/log-of-all")
        self.tell.good(f"Back after {seconds:.1f} s, without a reboot, as a new life of the same node.")
        self.figures.append(("coming back", seconds))

    def end(self):
        self.tell.chapter("Unmounting everywhere, and what the checkers say")
        for host in self.hosts:
            self.tell.show(host, "umount", host.mount_point)
            self.processes[host.name].wait(timeout=60)
        self.tell.show(self.hosts[0], "fsck.corral", "-n", self.lab.url)
        self.tell.say("fsck.gfs2, which is not ours, on the target's image of the disk:")
        self.tell.show(self.hosts[0], "fsck.gfs2", "-n", self.lab.disk)
        self.tell.good("Both find nothing wrong.")

    def replaced(self):
        self.tell.chapter("What took the place of what is done by hand with RHCS and GFS2")
        for there, here in BY_HAND:
            self.tell.say(f"  {there:54} {here}")
        self.tell.good(f"To set up five nodes: 100 commands and 5 reboots there (docs/from-rhcs.md). Here, for "
                       f"{len(self.hosts)} nodes: {1 + len(self.hosts)} commands, no reboot.")

    def summary(self):
        self.tell.chapter("Figures")
        for name, seconds in self.figures:
            self.tell.say(f"  {name:32} {seconds:6.1f} s")


def keep(lab, tell):
    first = lab.hosts[0]
    tell.chapter("The cluster stays up")
    tell.say(f"""  tools/quickstart --shell {first.name}      a shell on a node; the volume is mounted on its mydata
  ls {lab.folder}/*/mydata      what every node sees
  tools/quickstart --down               takes it down

On a node, for example:
  corral status {lab.url}
  corral fence status {lab.url}
  corral locks {first.mount_point}
  corral top {first.mount_point}
  kill -9 $(pgrep -f {first.mount_point})      and what the others say: {lab.folder}/*/mount.log""")


def shell(lab, name):
    host = lab.host(name)
    environment = {**host.environment(), "DEVICE": lab.url, "PS1": f"{host.name}# "}
    print(f"The disk is $DEVICE, the volume is mounted on {host.mount_point}. Leave with exit.")
    return subprocess.run([*host.inside(), "bash", "--norc", "-i"], env=environment,
                          cwd=host.folder).returncode


def keep_logs(lab, log):
    """The nodes' own words, beside the story's."""
    for host in lab.hosts:
        if os.path.exists(host.log):
            shutil.copyfile(host.log, os.path.join(os.path.dirname(log), f"{host.name}.log"))


def tell_story(arguments):
    lab = Lab(arguments.folder, os.path.abspath(arguments.tools),
              [f"my-vm{number}" for number in range(1, arguments.nodes + 1)])
    lab.make_folder()
    tell = Teller(arguments.log)
    story = Story(lab, tell)
    kept = False
    try:
        story.whole()
        if arguments.keep:
            story.replaced()
            story.summary()
            keep(lab, tell)
            kept = True
        else:
            story.end()
            story.replaced()
            story.summary()
    except KeyboardInterrupt:
        tell.bad("\nInterrupted; everything is taken down.")
        return 130
    except (LabError, OSError, subprocess.SubprocessError) as error:
        tell.bad(f"\nquickstart: {error}")
        return 1
    finally:
        keep_logs(lab, arguments.log)
        if not kept:
            lab.take_down()
        tell.say(f"\nThe whole story: {os.path.relpath(arguments.log)}; what each node said is beside it.")
    return 0


def main():
    parser = argparse.ArgumentParser(prog="tools/quickstart")
    parser.add_argument("--keep", action="store_true", help="leave the cluster up")
    parser.add_argument("--nodes", type=int, default=3, choices=range(2, 17), metavar="N")
    parser.add_argument("--shell", metavar="NODE", help="a shell on a node of the cluster that was kept")
    parser.add_argument("--down", action="store_true", help="take down the cluster that was kept or interrupted")
    parser.add_argument("--folder", default=FOLDER, help=argparse.SUPPRESS)
    parser.add_argument("--tools", help=argparse.SUPPRESS)
    parser.add_argument("--log", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    # However it is asked to end, what was made is taken down.
    for number in (signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.default_int_handler)
    try:
        if arguments.shell:
            return shell(Lab.load(arguments.folder), arguments.shell)
        if arguments.down:
            Lab.load(arguments.folder).take_down()
            return 0
        return tell_story(arguments)
    except LabError as error:
        print(f"quickstart: {error}", file=sys.stderr)
        return 1


if __name__ == "__main__":
    sys.exit(main())
