"""A cluster on one machine, for showing: an iSCSI target with one disk, and hosts with a network and a name of their own.

Everything is made in one folder and in network namespaces of the lab's own; nothing of the machine is changed. What is
made is first noted in the folder (lab.json), so that another process can take it down, whatever happened to the first.

    storage     a network namespace with a bridge and tgtd, at 10.77.0.1
    my-vm1 ...  one network namespace (10.77.0.11 ...) and one UTS namespace (for the host's name) each
"""

import json
import os
import shutil
import signal
import subprocess
import time
import zlib

TARGET = "iqn.2026-11.corral.quickstart:disk"
STORAGE = "10.77.0.1"
DISK_BYTES = 2 << 30


class LabError(Exception):
    """Something could not be made; the text says what, and what to do."""


def run(*command, check=True, timeout=120):
    """Runs a program that says little; its output is the error's text if it fails."""
    done = subprocess.run(command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
                          timeout=timeout)
    if check and done.returncode != 0:
        raise LabError(f"{' '.join(command)}: exit {done.returncode}\n{done.stdout.strip()}")
    return done


def wait_until(condition, what, seconds):
    """For what other programs do, which tell of it in no other way."""
    end = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > end:
            raise LabError(f"waited {seconds} s in vain: {what}")
        time.sleep(0.01)


def mount_points():
    """From the kernel's list: asking a mount point itself fails where its process has died."""
    with open("/proc/self/mountinfo") as mounts:
        return {line.split()[4] for line in mounts}


class Host:
    """One machine of the lab, as far as a kernel can pretend it."""

    def __init__(self, lab, name):
        self.lab = lab
        self.name = name
        self.folder = os.path.join(lab.folder, name)
        self.mount_point = os.path.join(self.folder, "mydata")
        self.name_file = os.path.join(self.folder, "hostname")  # keeps the UTS namespace
        self.log = os.path.join(self.folder, "mount.log")

    def inside(self):
        """What runs a program on the host. Its mounts are seen on the whole machine."""
        return ["nsenter", f"--net=/run/netns/{self.lab.space(self.name)}", f"--uts={self.name_file}", "--"]

    def environment(self):
        return {**os.environ, "PATH": f"{self.lab.tools}:{os.environ['PATH']}"}

    def make(self, address):
        os.mkdir(self.folder)
        os.mkdir(self.mount_point)
        space = self.lab.space(self.name)
        run("ip", "netns", "add", space)
        storage = self.lab.space("storage")
        run("ip", "-n", storage, "link", "add", self.name, "type", "veth", "peer", "name", "eth0", "netns", space)
        run("ip", "-n", storage, "link", "set", self.name, "master", "bridge", "up")
        run("ip", "-n", space, "addr", "add", f"{address}/24", "dev", "eth0")
        for device in ("lo", "eth0"):
            run("ip", "-n", space, "link", "set", device, "up")
        with open(self.name_file, "x"):
            pass
        run("unshare", f"--uts={self.name_file}", "hostname", self.name)

    def mounted(self):
        return self.mount_point in mount_points()

    def start_mount(self):
        """mount.corral in the foreground of the host; wait for mounted()."""
        command = [*self.inside(), os.path.join(self.lab.tools, "mount.corral"), "-f", self.lab.url, self.mount_point]
        with open(self.log, "ab") as log:
            process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=log, stderr=log, start_new_session=True)
        self.lab.note(process.pid)
        return process

    def said(self):
        with open(self.log) as log:
            return log.read()

    def unmount(self):
        """In order if that is possible; else the mount point is taken away, and end_processes() does the rest."""
        if not self.mounted():
            return
        try:
            run("umount", self.mount_point, timeout=30)
        except (LabError, subprocess.TimeoutExpired):
            run("umount", "-l", self.mount_point, check=False)

    def forget(self):
        """After the host's processes have ended."""
        if self.mounted():
            run("umount", "-l", self.mount_point, check=False)
        run("umount", self.name_file, check=False)
        if os.path.exists(f"/run/netns/{self.lab.space(self.name)}"):
            run("ip", "netns", "del", self.lab.space(self.name), check=False)


class Lab:
    def __init__(self, folder, tools, names):
        self.folder = folder
        self.tools = tools
        self.disk = os.path.join(folder, "disk.img")
        self.url = f"iscsi://{STORAGE}/{TARGET}/1"
        self.mark = f"corral{zlib.crc32(folder.encode()) & 0xffff:04x}"
        self.control = str(1000 + (zlib.crc32(folder.encode()) >> 16) % 30000)  # tgtd's control socket
        self.hosts = [Host(self, name) for name in names]
        self.state = {"hosts": names, "tools": tools, "processes": [], "target": 0}

    @staticmethod
    def exists(folder):
        return os.path.exists(folder)

    @classmethod
    def load(cls, folder):
        """The lab that another process made."""
        try:
            with open(os.path.join(folder, "lab.json")) as file:
                state = json.load(file)
        except FileNotFoundError:
            raise LabError(f"there is no cluster in {folder}") from None
        lab = cls(folder, state["tools"], state["hosts"])
        lab.state = state
        return lab

    def space(self, name):
        return f"{self.mark}-{name}"

    def note(self, process):
        self.state["processes"].append(process)
        self.save()

    def save(self):
        temporary = os.path.join(self.folder, "lab.json.new")
        with open(temporary, "w") as file:
            json.dump(self.state, file)
        os.rename(temporary, os.path.join(self.folder, "lab.json"))

    def make_folder(self):
        try:
            os.mkdir(self.folder, 0o700)
        except FileExistsError:
            raise LabError(f"{self.folder} is there already, from a cluster that was kept or interrupted: "
                           "tools/quickstart --down takes it down") from None
        self.save()

    def make_storage(self):
        """The disk: an image file behind tgtd, in a network of its own."""
        with open(self.disk, "wb") as image:
            image.truncate(DISK_BYTES)
        space = self.space("storage")
        run("ip", "netns", "add", space)
        run("ip", "-n", space, "link", "set", "lo", "up")
        run("ip", "-n", space, "link", "add", "bridge", "type", "bridge")
        run("ip", "-n", space, "addr", "add", f"{STORAGE}/24", "dev", "bridge")
        run("ip", "-n", space, "link", "set", "bridge", "up")
        os.makedirs("/run/tgtd", exist_ok=True)
        with open(os.path.join(self.folder, "tgtd.log"), "ab") as log:
            process = subprocess.Popen(["nsenter", f"--net=/run/netns/{space}", "--", "tgtd", "-f", "-C", self.control,
                                        "--iscsi", f"portal={STORAGE}:3260"],
                                       stdin=subprocess.DEVNULL, stdout=log, stderr=log, start_new_session=True)
        self.state["target"] = process.pid
        self.note(process.pid)
        wait_until(lambda: self.administer("--op", "show", "--mode", "target", check=False), "tgtd starts", 20)
        self.administer("--op", "new", "--mode", "target", "--tid", "1", "-T", TARGET)
        self.administer("--op", "new", "--mode", "logicalunit", "--tid", "1", "--lun", "1", "-b", self.disk)
        self.administer("--op", "bind", "--mode", "target", "--tid", "1", "-I", "ALL")

    def administer(self, *words, check=True):
        return run("tgtadm", "-C", self.control, "--lld", "iscsi", *words, check=check).returncode == 0

    def make_hosts(self):
        for number, host in enumerate(self.hosts, 1):
            host.make(f"10.77.0.{10 + number}")

    def host(self, name):
        for host in self.hosts:
            if host.name == name:
                return host
        raise LabError(f"there is no node {name}; there are: {' '.join(host.name for host in self.hosts)}")

    def own_process(self, pid):
        """Whether the process is one that the lab started, and not one that got its number since."""
        try:
            with open(f"/proc/{pid}/cmdline", "rb") as file:
                words = file.read().split(b"\0")
        except OSError:
            return False
        return self.url.encode() in words or b"tgtd" in words[0] and self.control.encode() in words

    def end_processes(self):
        """Mounts in order where they are up to it, those that are still mounting included; then all, tgtd too."""
        own = [pid for pid in self.state["processes"] if self.own_process(pid)]
        mounts = [pid for pid in own if pid != self.state["target"]]
        for pid in mounts:
            os.kill(pid, signal.SIGTERM)
        end = time.monotonic() + 10
        while any(self.own_process(pid) for pid in mounts) and time.monotonic() < end:
            time.sleep(0.05)
        for pid in filter(self.own_process, own):
            os.kill(pid, signal.SIGKILL)
        wait_until(lambda: not any(self.own_process(pid) for pid in own), "processes end", 30)

    def take_down(self):
        """Unmounts everything and removes what was made, whatever of it there is."""
        for host in self.hosts:
            host.unmount()
        self.end_processes()
        for host in self.hosts:
            host.forget()
        if os.path.exists(f"/run/netns/{self.space('storage')}"):
            run("ip", "netns", "del", self.space("storage"), check=False)
        for left in (f"/run/tgtd/socket.{self.control}", f"/run/tgtd/socket.{self.control}.lock"):
            if os.path.exists(left):
                os.unlink(left)
        left = [place for place in mount_points() if place.startswith(self.folder + "/")]
        if left:
            raise LabError(f"still mounted, and so not removed: {' '.join(left)}")
        shutil.rmtree(self.folder)
