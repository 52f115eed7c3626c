"""Real mounts for tests: a volume in an image file, mounted with mount.corral, checked with fsck.gfs2 after each test.

The environment names the programs: CORRAL_TOOLS is the folder of mount.corral and mkfs.corral. CORRAL_E2E_BLOCK_SIZE
chooses the volumes' block size (default 4096).
"""

import ctypes
import errno
import hashlib
import json
import lzma
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
import unittest

TOOLS = os.environ.get("CORRAL_TOOLS", "")
BLOCK_SIZE = int(os.environ.get("CORRAL_E2E_BLOCK_SIZE", "4096"))
SKIPPED = 77

LIBC = ctypes.CDLL(None, use_errno=True)


def system_call(name, *arguments):
    """A C library function that returns -1 and sets errno."""
    ctypes.set_errno(0)
    result = getattr(LIBC, name)(*arguments)
    if result < 0:
        code = ctypes.get_errno()
        raise OSError(code, os.strerror(code))
    return result


def tool(name):
    """The path of one of the programs."""
    return os.path.join(TOOLS, name)


def why_not_here():
    """The reason why real mounts cannot be tried on this machine, or None."""
    if os.geteuid() != 0:
        return "real mounts need root"
    if not os.path.exists("/dev/fuse"):
        return "there is no /dev/fuse"
    if not os.path.exists("/dev/loop-control"):
        return "there is no /dev/loop-control"
    if shutil.which("fsck.gfs2") is None:
        return "there is no fsck.gfs2 to check the volumes"
    if not os.access(tool("mount.corral"), os.X_OK):
        return "CORRAL_TOOLS does not name the folder of mount.corral"
    return None


def run(*command, check=True, timeout=120, **how):
    """Runs a program; its output is kept, and shown if it fails."""
    done = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, timeout=timeout, **how)
    if check and done.returncode != 0:
        raise AssertionError(f"{' '.join(command)}: exit {done.returncode}\n{done.stdout}{done.stderr}")
    return done


def wait_until(condition, what, seconds=30):
    """For what other processes do: looks again and again, for there is no event to wait for."""
    end = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > end:
            raise AssertionError(f"waited {seconds} s in vain: {what}")
        time.sleep(0.02)


class Volume:
    """An image file and its mount point in a folder of their own."""

    def __init__(self, size_mib=512, journals=1, protocol="lock_nolock", table=None, block_size=BLOCK_SIZE):
        self.make_folder()
        with open(self.image, "wb") as image:
            image.truncate(size_mib << 20)
        mkfs = [tool("mkfs.corral"), "-q", "-O", "-p", protocol, "-j", str(journals), "-J", "8"]
        mkfs += ["-b", str(block_size)] + (["-t", table] if table else [])
        run(*mkfs, self.image)

    def make_folder(self):
        self.folder = tempfile.mkdtemp(prefix="corral-e2e-")
        os.chmod(self.folder, 0o755)
        self.image = os.path.join(self.folder, "volume.img")
        self.root = os.path.join(self.folder, "mnt")
        os.mkdir(self.root)

    def mount_command(self, *arguments, device=None):
        return [tool("mount.corral"), *arguments, device or self.image, self.root]

    def mount(self, *arguments, device=None):
        return run(*self.mount_command(*arguments, device=device))

    def mounted(self):
        return os.path.ismount(self.root)

    def umount(self):
        run("umount", self.root)

    def server(self):
        """Process id of the daemon."""
        for pid in filter(str.isdigit, os.listdir("/proc")):
            try:
                with open(f"/proc/{pid}/cmdline", "rb") as file:
                    words = file.read().split(b"\0")
            except OSError:
                continue
            if words[0].endswith(b"mount.corral") and self.root.encode() in words:
                return int(pid)
        return None

    def loop_devices(self):
        return run("losetup", "--noheadings", "--output", "NAME", "-j", self.image).stdout.split()

    def statistics(self):
        return json.loads(os.getxattr(self.root, "corral.statistics"))

    def fsck(self):
        """Fails unless fsck.gfs2 finds the volume clean."""
        done = run("fsck.gfs2", "-n", self.image, check=False)
        if done.returncode != 0:
            raise AssertionError(f"fsck.gfs2 -n: exit {done.returncode}\n{done.stdout}{done.stderr}")

    def remove(self):
        if self.mounted():
            run("umount", "-l", self.root, check=False)
        pid = self.server()
        if pid is not None:
            os.kill(pid, signal.SIGKILL)
        shutil.rmtree(self.folder)


class GoldenVolume(Volume):
    """A volume that was made elsewhere: unpacked from a compressed image, mounted and checked like one of ours."""

    def __init__(self, packed):
        self.make_folder()
        with lzma.open(packed) as source, open(self.image, "wb") as image:
            while part := source.read(1 << 20):
                if any(part):
                    image.write(part)
                else:
                    image.seek(len(part), os.SEEK_CUR)
            image.truncate(image.tell())

    def digest(self):
        """Of all bytes of the image."""
        with open(self.image, "rb") as image:
            return hashlib.file_digest(image, "sha256").hexdigest()


class MountedTest(unittest.TestCase):
    """Each test gets a fresh volume; it must be clean for fsck.gfs2 afterwards."""

    MOUNT_OPTIONS = ()
    VOLUME = {}

    def setUp(self):
        self.volume = Volume(**self.VOLUME)
        self.addCleanup(self.volume.remove)
        self.root = self.volume.root
        self.volume.mount(*self.MOUNT_OPTIONS)

    def tearDown(self):
        if self.volume.mounted():
            self.volume.umount()
        self.volume.fsck()

    def path(self, *names):
        return os.path.join(self.root, *names)

    def remount(self, *arguments):
        """Unmounts and mounts again: what is seen then comes from the volume."""
        self.volume.umount()
        self.volume.fsck()
        self.volume.mount(*(arguments or self.MOUNT_OPTIONS))

    def write(self, name, contents=b""):
        with open(self.path(name), "wb") as file:
            file.write(contents)
        return self.path(name)

    def read(self, name):
        with open(self.path(name), "rb") as file:
            return file.read()

    def refuses(self, code, function, *arguments, **keywords):
        """The call fails with that errno."""
        with self.assertRaises(OSError) as caught:
            function(*arguments, **keywords)
        self.assertEqual(errno.errorcode[caught.exception.errno], errno.errorcode[code])


def main():
    reason = why_not_here()
    if reason is not None:
        print(f"SKIPPED: {reason}")
        sys.exit(SKIPPED)
    unittest.main(verbosity=2, buffer=False)
