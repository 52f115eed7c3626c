#!/usr/bin/env python3
"""Volumes that the kernel's GFS2 made, through our mount: every path of their lists is as the kernel showed it, dirty
journals and pending quota changes included, and damaged volumes give errors, never a crash, a hang or more damage.

CORRAL_GOLDEN names the folder of golden volumes. CORRAL_GOLDEN_DAMAGES=all tries every damage (default: a sample, chosen
by CORRAL_SEED, which is printed).
"""

import errno
import fcntl
import hashlib
import json
import lzma
import os
import random
import re
import signal
import stat
import struct
import subprocess
import sys
import unittest

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "interop"))

import support  # noqa: E402
from support import GoldenVolume, run, wait_until  # noqa: E402
from tree import data_map  # noqa: E402

GOLDEN = os.environ.get("CORRAL_GOLDEN", "")
ALL_DAMAGES = os.environ.get("CORRAL_GOLDEN_DAMAGES") == "all"
SEED = int(os.environ.get("CORRAL_SEED", "0")) or random.SystemRandom().randrange(1, 1 << 32)
SAMPLE = 12
# Long enough for the slowest machine; what takes longer hangs.
PATIENCE_SECONDS = 120
FS_IOC_GETFLAGS = 0x80086601
KINDS = {"file": stat.S_IFREG, "dir": stat.S_IFDIR, "symlink": stat.S_IFLNK, "fifo": stat.S_IFIFO,
         "socket": stat.S_IFSOCK, "char": stat.S_IFCHR, "block": stat.S_IFBLK}
ACL_NAMES = ("system.posix_acl_access", "system.posix_acl_default")


def manifest(name):
    """Path in bytes to its line; the volume's figures under None."""
    lines = {}
    with lzma.open(os.path.join(GOLDEN, name + ".xz"), "rt") as file:
        for text in file:
            line = json.loads(text)
            if "statvfs" in line:
                lines[None] = line["statvfs"]
            elif "case" not in line:
                lines[os.fsencode(line["path"])] = line
    return lines


def cases(name):
    with open(os.path.join(GOLDEN, "corrupt", name)) as file:
        return [json.loads(line) for line in file]


def digest(fd, stretches):
    """Hash over these stretches of the file."""
    sha = hashlib.sha256()
    for start, length in stretches:
        end = start + length
        while start < end:
            part = os.pread(fd, min(1 << 20, end - start), start)
            if not part:
                raise OSError(errno.EIO, "the file ends early")
            sha.update(part)
            start += len(part)
    return sha.hexdigest()


def open_contents(path):
    return os.open(path, os.O_RDONLY | os.O_NOFOLLOW)


def flags_of(fd):
    buffer = bytearray(8)
    fcntl.ioctl(fd, FS_IOC_GETFLAGS, buffer)
    return hex(struct.unpack_from("<I", buffer)[0])


def describe_file(path, info, line):
    fd = open_contents(path)
    try:
        found = data_map(fd, info.st_size)
        line["flags"] = flags_of(fd)
        if found != ([[0, info.st_size]] if info.st_size else []):
            line["data"] = found
        # Both hashes, whichever the list has; nobody reads terabytes of holes.
        if info.st_size <= 64 << 20:
            line["sha256"] = digest(fd, [[0, info.st_size]])
        line["sha256_data"] = digest(fd, found)
    finally:
        os.close(fd)


def describe_directory(path, info, line):
    fd = open_contents(path)
    try:
        line["flags"] = flags_of(fd)
        with os.scandir(fd) as entries:
            listed = sorted([entry.name, entry.inode(), entry_kind(entry)] for entry in entries)
    finally:
        os.close(fd)
    line["entries"] = len(listed) + 2
    line["dirents"] = listed


def entry_kind(entry):
    """d_type, which costs no lookup."""
    if entry.is_symlink():
        return "symlink"
    if entry.is_dir(follow_symlinks=False):
        return "dir"
    return "file" if entry.is_file(follow_symlinks=False) else "other"


def describe(path):
    """A path in the words of the lists."""
    info = os.lstat(path)
    kind = {mode: name for name, mode in KINDS.items()}[stat.S_IFMT(info.st_mode)]
    line = {"type": kind, "ino": info.st_ino, "mode": "%06o" % info.st_mode, "uid": info.st_uid, "gid": info.st_gid,
            "nlink": info.st_nlink, "size": info.st_size, "blocks": info.st_blocks, "mtime_ns": info.st_mtime_ns,
            "ctime_ns": info.st_ctime_ns, "atime_ns": info.st_atime_ns}
    xattrs = {name: os.getxattr(path, name, follow_symlinks=False).hex()
              for name in os.listxattr(path, follow_symlinks=False)}
    if xattrs:
        line["xattrs"] = xattrs
    if kind in ("char", "block"):
        line["rdev"] = [os.major(info.st_rdev), os.minor(info.st_rdev)]
    elif kind == "symlink":
        line["target"] = os.fsdecode(os.readlink(path))
    elif kind == "file":
        describe_file(path, info, line)
    elif kind == "dir":
        describe_directory(path, info, line)
    return line


def differences(expected, found):
    """What the list says and the mount does not, or the other way round, as texts."""
    wrong = []
    keys = set(expected) - {"path", "path_hex", "rdev_shown", "order_sha256", "dirents", "case"}
    for key in sorted(keys):
        if found.get(key) != expected[key]:
            wrong.append(f"{key}: {found.get(key)!r}, expected {expected[key]!r}")
    for key in ("xattrs", "data"):
        if key in found and key not in expected:
            wrong.append(f"{key}: {found[key]!r}, expected none")
    return wrong


def expected_entry(name, line):
    kind = line.get("type")
    return [name, line.get("ino"), kind if kind in ("symlink", "dir", "file") else "other"]


class Checker:
    """Compares a mounted tree with a list, path by path."""

    def __init__(self, root, lines):
        self.root = os.fsencode(root)
        self.lines = lines
        self.children = {}
        for path in lines:
            if path not in (None, b"."):
                parent, name = os.path.split(path)
                self.children.setdefault(parent or b".", []).append(name)

    def check(self, path):
        """Texts of what differs."""
        expected = self.lines[path]
        try:
            found = describe(os.path.join(self.root, path) if path != b"." else self.root)
        except OSError as error:
            if "error" in expected:
                return [] if errno.errorcode[error.errno] == expected["error"] else [f"{error}, expected {expected}"]
            return [str(error)]
        if "error" in expected:
            return [f"no error, expected {expected['error']}"]
        wrong = differences(expected, found)
        if found["type"] == "dir":
            names = self.children.get(path, [])
            join = lambda name: name if path == b"." else path + b"/" + name
            wanted = sorted(expected_entry(os.fsdecode(name), self.lines[join(name)]) for name in names)
            if sorted(found["dirents"]) != wanted:
                strange = [entry for entry in found["dirents"] if entry not in wanted][:3]
                absent = [entry for entry in wanted if entry not in found["dirents"]][:3]
                wrong.append(f"entries: {strange} unexpected, {absent} missing")
        return wrong

    def check_all(self):
        wrong = []
        for path in self.lines:
            if path is not None:
                wrong += [f"{os.fsdecode(path)}: {text}" for text in self.check(path)]
        return wrong


def quota_file(image):
    """(byte offset, contents) of each block of the quota file of a volume that is not mounted; gfs2_edit finds it."""
    number = int(re.search(r"Block #(\d+)", run("gfs2_edit", "-p", "quota", image).stdout)[1])
    with open(image, "rb") as volume:
        volume.seek(65536 + 36)
        block_size = struct.unpack(">I", volume.read(4))[0]

        def block(number):
            volume.seek(number * block_size)
            return volume.read(block_size)

        def below(contents, header_bytes, offset, height):
            if height == 0:
                yield offset, contents[header_bytes:]
                return
            span = block_size * ((block_size - 24) // 8) ** (height - 1)
            for slot, (pointer,) in enumerate(struct.iter_unpack(">Q", contents[header_bytes:])):
                if pointer != 0:
                    yield from below(block(pointer), 24 if height > 1 else 0, offset + slot * span, height - 1)

        dinode = block(number)
        yield from below(dinode, 232, 0, struct.unpack_from(">H", dinode, 138)[0])


def quota_records(image):
    """(kind, id) to (limit, warn, value) in blocks, as the quota file has them."""
    contents = dict(quota_file(image))
    records = {}
    for offset, block in contents.items():
        for number in range(-(-offset // 88), (offset + len(block) - 1) // 88 + 1):
            data = block[number * 88 - offset:][:24]
            data += contents.get(offset + len(block), bytes(24))[:24 - len(data)]
            figures = struct.unpack(">QQq", data)
            if any(figures):
                records["group" if number % 2 else "user", number // 2] = figures
    return records


class Sound(unittest.TestCase):
    def open(self, name, *options):
        volume = GoldenVolume(os.path.join(GOLDEN, name + ".xz"))
        self.addCleanup(volume.remove)
        volume.mount("-o", ",".join(("lockproto=lock_nolock", "noatime") + options))
        return volume

    def same(self, volume, lines):
        wrong = Checker(volume.root, lines).check_all()
        self.assertEqual(wrong[:20], [], f"{len(wrong)} differences")

    def test_clean(self):
        for name in ("basic-4k", "basic-1k", "quota"):
            for options in (("ro",), ()):
                with self.subTest(volume=name, options=options):
                    volume = self.open(name + "/volume.img", *options)
                    lines = manifest(name + "/manifest.jsonl")
                    figures = os.statvfs(volume.root)
                    self.assertEqual({key: getattr(figures, "f_" + key) for key in lines[None]}, lines[None])
                    self.same(volume, lines)
                    volume.umount()
                    volume.fsck()

    def test_corrupt_base(self):
        volume = self.open("corrupt/base.img")
        self.same(volume, manifest("corrupt/base.manifest.jsonl"))
        volume.umount()
        volume.fsck()

    def test_dirty_journals(self):
        for name in ("create", "revoke", "jdata", "wrap", "killed", "cluster"):
            with self.subTest(volume=name):
                folder = "dirty-journal-" + name
                volume = self.open(folder + "/dirty.img")
                self.same(volume, manifest(folder + "/after-replay.manifest.jsonl"))
                volume.umount()
                volume.fsck()

    def test_quota_changes(self):
        for name, lines, image in (("quota", "quota.jsonl", "volume.img"),
                                   ("quota-pending", "after-replay.quota.jsonl", "dirty.img")):
            with self.subTest(volume=name):
                expected = {}
                with open(os.path.join(GOLDEN, name, lines)) as file:
                    for line in map(json.loads, file):
                        if line["from"] == "quota file" and "id" in line:
                            expected[line["kind"], line["id"]] = (line["limit_blocks"], line["warn_blocks"],
                                                                  line["value_blocks"])
                volume = self.open(name + "/" + image, "quota=on")
                if name == "quota-pending":
                    self.same(volume, manifest(name + "/after-replay.manifest.jsonl"))
                run("sync", "-f", volume.root)
                volume.umount()
                self.assertEqual(quota_records(volume.image), expected)
                volume.fsck()


def walk_everything(root):
    """Reads all there is below a directory; prints a line per path: the hash of a file's contents, or the error."""
    pending = [os.fsencode(root)]
    while pending:
        path = pending.pop()
        try:
            line = describe(path)
        except OSError as error:
            print(json.dumps({"path": os.fsdecode(os.path.relpath(path, os.fsencode(root))),
                              "error": errno.errorcode[error.errno]}))
            continue
        print(json.dumps({"path": os.fsdecode(os.path.relpath(path, os.fsencode(root))), "sha256": line.get("sha256")}))
        if line["type"] == "dir" and path.count(b"/") < 200:
            pending += [os.path.join(path, os.fsencode(entry[0])) for entry in line["dirents"]]


def use_everything(root):
    """Changes a little everywhere: errors are as good as success, as long as they come."""
    trouble = set()

    def attempt(function, *arguments):
        try:
            return function(*arguments)
        except OSError as error:
            trouble.add(errno.errorcode[error.errno])

    def change(path):
        info = attempt(os.lstat, path)
        if info is None:
            return
        if stat.S_ISREG(info.st_mode):
            fd = attempt(os.open, path, os.O_RDWR)
            if fd is not None:
                attempt(os.pwrite, fd, b"changed", min(info.st_size, 1 << 20))
                attempt(os.fsync, fd)
                attempt(os.close, fd)
        attempt(os.setxattr, path, "user.changed", b"x" * 100) if not stat.S_ISLNK(info.st_mode) else None
        attempt(os.chmod, path, 0o700) if not stat.S_ISLNK(info.st_mode) else None

    def write(path):
        with open(path, "wb") as file:
            file.write(b"new" * 5000)

    root = os.fsencode(root)
    folders = [os.path.join(root, entry) for entry in attempt(os.listdir, root) or []] + [root]
    for folder in folders:
        change(folder)
        for entry in (attempt(os.listdir, folder) or [])[:60] if os.path.isdir(folder) else []:
            change(os.path.join(folder, entry))
        attempt(write, os.path.join(folder, b"new file"))
        attempt(os.mkdir, os.path.join(folder, b"new folder"))
        attempt(os.unlink, os.path.join(folder, b"new file"))
    for folder in folders[:-1:2]:
        subprocess.run(["rm", "-rf", folder], stderr=subprocess.DEVNULL, check=False)
    print(json.dumps(sorted(trouble)))


class Damaged(unittest.TestCase):
    """Each damage of the lists: refused with a reason, or mounted with errors where the damage is."""

    def damages(self, name):
        every = cases(name)
        if ALL_DAMAGES:
            return every
        return random.Random(SEED).sample(every, min(SAMPLE, len(every)))

    def damaged(self, damage):
        volume = GoldenVolume(os.path.join(GOLDEN, "corrupt", damage["base"]))
        self.addCleanup(volume.remove)
        with open(volume.image, "r+b") as image:
            image.seek(65536 + 36)
            block_size = struct.unpack(">I", image.read(4))[0]
            for patch in damage["patches"]:
                for start, count in patch.get("zero_blocks", []):
                    image.seek(start * block_size)
                    image.write(bytes(count * block_size))
                if "offset" in patch:
                    image.seek(patch["offset"])
                    self.assertEqual(image.read(len(patch["old"]) // 2).hex(), patch["old"])
                    image.seek(patch["offset"])
                    image.write(bytes.fromhex(patch["new"]))
        return volume

    def session(self, volume, function, *options):
        """Mounts in the foreground, has `function` work in a process of its own, unmounts. The mount's messages, and
        what the function printed (None: not mounted)."""
        log = os.path.join(volume.folder, "messages")
        with open(log, "w") as messages:
            server = subprocess.Popen(volume.mount_command("-f", "-o", ",".join(("lockproto=lock_nolock",) + options)),
                                      stderr=messages)
        printed = None
        try:
            wait_until(lambda: volume.mounted() or server.poll() is not None, "mounted or refused", PATIENCE_SECONDS)
            if server.poll() is None:
                worker = run(sys.executable, os.path.abspath(__file__), function.__name__, volume.root,
                             timeout=PATIENCE_SECONDS)
                printed = [json.loads(line) for line in worker.stdout.splitlines()]
                run("umount", volume.root, timeout=PATIENCE_SECONDS)
            server.wait(timeout=PATIENCE_SECONDS)
        finally:
            server.kill()
            server.wait()
        with open(log, errors="replace") as file:
            messages = file.read()
        self.assertGreaterEqual(server.returncode, 0, f"ended by signal {-server.returncode}\n{messages}")
        if printed is None:
            self.assertNotEqual(server.returncode, 0)
            self.assertIn(os.path.basename(volume.image), messages)
        return printed, messages

    def look(self, damage):
        """Read only: nothing at all may change on the volume."""
        volume = self.damaged(damage)
        before = volume.digest()
        printed, messages = self.session(volume, walk_everything, "ro")
        # Only a dirty journal is replayed even then.
        if "Replayed" not in messages:
            self.assertEqual(volume.digest(), before, "a read-only mount changed the volume")
        for line in printed or []:
            self.assertIn(line.get("error"), (None, "EIO"), line)
        self.check_contents(damage, printed or [])
        if any("error" in line for line in printed or []):
            self.assertRegex(messages, r"(inode|block) \d+", "an error that nothing explains")
        return printed, messages

    def check_contents(self, damage, printed):
        """What can be read is what was there before the damage, but for files that the damage itself changed."""
        if damage["base"] != "base.img.xz":
            return
        sound = manifest("corrupt/base.manifest.jsonl")
        others = [line["path"] for line in printed if "sha256" in line
                  and line["sha256"] != sound.get(os.fsencode(line["path"]), {}).get("sha256")]
        self.assertLessEqual(len(others), len(damage["patches"]), others)

    def use(self, damage):
        volume = self.damaged(damage)
        printed, messages = self.session(volume, walk_everything, "noatime")
        printed, messages = self.session(volume, use_everything)
        for code in (printed or [[]])[0]:
            self.assertIn(code, ("EIO", "ENOENT", "ENOTEMPTY", "EEXIST", "EPERM", "EOPNOTSUPP", "EACCES", "ENOTDIR",
                                 "EISDIR", "ENXIO"))

    def test_damaged_structures(self):
        for damage in self.damages("cases.jsonl"):
            with self.subTest(damage=damage["name"], seed=SEED):
                self.look(damage)
                self.use(damage)

    def test_damaged_journals(self):
        for damage in self.damages("journal-cases.jsonl"):
            with self.subTest(damage=damage["name"], seed=SEED):
                self.look(damage)
                self.use(damage)


def main():
    if len(sys.argv) == 3 and sys.argv[1] in ("walk_everything", "use_everything"):
        globals()[sys.argv[1]](sys.argv[2])
        return
    if not os.path.isdir(GOLDEN):
        print("SKIPPED: CORRAL_GOLDEN does not name a folder of golden volumes")
        sys.exit(support.SKIPPED)
    print(f"CORRAL_SEED={SEED}")
    support.main()


if __name__ == "__main__":
    main()
