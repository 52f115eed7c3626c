#!/usr/bin/env python3
"""The Debian package on a clean root: installed, mounted from fstab, removed without leaving anything.

The root is this machine's, under an overlay that goes when the test ends. CORRAL_BUILD is the build folder."""

import glob
import os
import shutil
import subprocess
import sys
import tempfile
import unittest

import support
from iscsi import free_port
from support import run

BUILD = os.environ.get("CORRAL_BUILD", "")
PROGRAMS = ("corral", "mkfs.corral", "fsck.corral", "mount.corral")


class Root:
    """A copy of this machine's root folder: what is changed in it is in `upper` only."""

    def __init__(self):
        self.folder = tempfile.mkdtemp(prefix="corral-e2e-package-")
        # A filesystem that can be an overlay's upper one, which not every /tmp is.
        run("mount", "-t", "tmpfs", "tmpfs", self.folder)
        self.upper, work, self.path = (os.path.join(self.folder, name) for name in ("upper", "work", "root"))
        for folder in (self.upper, work, self.path):
            os.mkdir(folder)
        run("mount", "-t", "overlay", "overlay", "-o", f"lowerdir=/,upperdir={self.upper},workdir={work}", self.path)
        for name in ("dev", "proc", "sys"):
            run("mount", "--rbind", "--make-rslave", f"/{name}", os.path.join(self.path, name))
        run("mount", "-t", "tmpfs", "tmpfs", os.path.join(self.path, "run"))

    def run(self, *command, **how):
        return run("chroot", self.path, *command, **how)

    def remove(self):
        run("umount", "-R", "-l", self.path, check=False)
        run("umount", "-l", self.folder)
        os.rmdir(self.folder)

    def files(self):
        """All that was written since, package manager's own notes excepted."""
        found = set()
        for folder, _, names in os.walk(self.upper):
            found |= {os.path.relpath(os.path.join(folder, name), self.upper) for name in names}
        return {name for name in found if not name.startswith(("var/lib/dpkg/", "var/log/", "var/cache/"))}


class PackageTest(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.packed = tempfile.mkdtemp(prefix="corral-e2e-package-")
        run("cpack", "-G", "DEB", "-B", cls.packed, cwd=BUILD)
        [cls.package] = glob.glob(os.path.join(cls.packed, "*.deb"))

    @classmethod
    def tearDownClass(cls):
        shutil.rmtree(cls.packed)

    def setUp(self):
        self.root = Root()
        self.addCleanup(self.root.remove)
        inside = os.path.join(self.root.path, "corral.deb")
        shutil.copyfile(self.package, inside)
        self.root.run("dpkg", "-i", "/corral.deb")
        os.unlink(inside)

    def test_mounts_from_fstab_and_leaves_nothing(self):
        root = self.root
        for program in PROGRAMS:
            self.assertIn(program, root.run(f"/sbin/{program}", "--version").stdout)
            self.assertTrue(os.path.exists(os.path.join(root.path, f"usr/share/man/man8/{program}.8")))
        with open(os.path.join(root.path, "volume.img"), "wb") as image:
            image.truncate(256 << 20)
        root.run("mkfs.corral", "-q", "-t", "test:package", "-j", "2", "-J", "8", "/volume.img")
        os.mkdir(os.path.join(root.path, "mydata"))
        with open(os.path.join(root.path, "etc/fstab"), "w") as fstab:
            fstab.write(f"/volume.img /mydata corral _netdev,node=a,addr=127.0.0.1,port={free_port()} 0 0\n")
        root.run("mount", "-a")
        with open(os.path.join(root.path, "mydata/file"), "w") as file:
            file.write("kept")
        root.run("umount", "/mydata")
        root.run("mount", "/mydata")
        with open(os.path.join(root.path, "mydata/file")) as file:
            self.assertEqual(file.read(), "kept")
        root.run("umount", "/mydata")
        root.run("fsck", "-n", "-t", "corral", "/volume.img")
        root.run("dpkg", "-P", "corral")
        self.assertEqual({name for name in root.files() if os.path.exists(os.path.join(root.path, name))},
                         {"volume.img", "etc/fstab"})

    def test_completion_knows_what_help_says(self):
        def complete(*words):
            script = ("source /usr/share/bash-completion/completions/corral; "
                      f"COMP_WORDS=({' '.join(words)}); COMP_CWORD={len(words) - 1}; _corral; echo \"${{COMPREPLY[@]}}\"")
            return self.root.run("bash", "-c", script).stdout.split()

        self.assertEqual(complete("corral", "rel"), ["release"])
        self.assertEqual(complete("corral", "config", "''"), ["get", "set"])
        self.assertIn("--version", complete("corral", "--"))
        self.assertIn("-t", complete("mkfs.corral", "-"))

    @unittest.skipIf(shutil.which("systemd-analyze") is None, "there is no systemd-analyze")
    def test_unit_is_well_formed(self):
        self.root.run("systemd-analyze", "verify", "corral@mydata.service")


if __name__ == "__main__":
    if shutil.which("dpkg") is None or shutil.which("cpack") is None:
        print("SKIPPED: there is no dpkg or cpack")
        sys.exit(support.SKIPPED)
    support.main()
