#!/usr/bin/env python3
"""A seeded random workload on a mounted filesystem, and a list of everything a tree holds.

tree.py work DIR SEED COUNT   COUNT random operations of every kind below DIR, but not below DIR/busy, reproducible from
                              SEED, and a syncfs
tree.py busy DIR SEED         the same without end and without syncfs; a line on stdout after each operation
tree.py list DIR              JSON, one line per path: all that another implementation must see alike; but not what is
                              below DIR/busy
"""
import ctypes
import errno
import fcntl
import hashlib
import itertools
import json
import mmap
import os
import random
import stat
import struct
import sys

FS_IOC_GETFLAGS = 0x80086601
FS_IOC_SETFLAGS = 0x40086602
SETTABLE_FLAGS = {"noatime": 0x80, "sync": 0x8, "journal": 0x4000}
KEEP_SIZE, PUNCH_HOLE, ZERO_RANGE = 1, 2, 16
libc = ctypes.CDLL(None, use_errno=True)


def fallocate(fd, mode, offset, length):
    if libc.fallocate(fd, mode, ctypes.c_long(offset), ctypes.c_long(length)) != 0:
        raise OSError(ctypes.get_errno(), "fallocate")


def renameat2(old, new, flags):
    if libc.renameat2(-100, os.fsencode(old), -100, os.fsencode(new), flags) != 0:
        raise OSError(ctypes.get_errno(), "renameat2")


def link_descriptor(fd, path):
    if libc.linkat(-100, b"/proc/self/fd/%d" % fd, -100, os.fsencode(path), 0x400) != 0:
        raise OSError(ctypes.get_errno(), "linkat")


def get_flags(path):
    fd = os.open(path, os.O_RDONLY | os.O_NONBLOCK)
    try:
        return struct.unpack("i", fcntl.ioctl(fd, FS_IOC_GETFLAGS, struct.pack("i", 0)))[0]
    finally:
        os.close(fd)


def without_busy(root, path, dirs):
    """Names in the folder busy of the root are nobody else's."""
    if path == root and "busy" in dirs:
        dirs.remove("busy")


class Workload:
    def __init__(self, root, seed):
        self.root = root
        self.random = random.Random(seed)
        self.files, self.dirs, self.others = [], [root], []
        for path, dirs, files in os.walk(root):
            without_busy(root, path, dirs)
            for name in sorted(dirs):
                full = os.path.join(path, name)
                (self.others if os.path.islink(full) else self.dirs).append(full)
            for name in sorted(files):
                full = os.path.join(path, name)
                (self.files if stat.S_ISREG(os.lstat(full).st_mode) else self.others).append(full)
        for names in (self.files, self.dirs, self.others):
            names.sort()

    def fresh(self, prefix):
        length = self.random.choice([3, 8, 20, 60, 200])
        name = prefix + "%x" % self.random.getrandbits(40)
        return os.path.join(self.random.choice(self.dirs), name.ljust(length, "y")[:250])

    def size(self):
        return self.random.choice([0, 1, 100, 300, 700, 2000, 3863, 3864, 3865, 4096, 9000, 70000, 600000])

    def contents(self, size):
        if self.random.random() < 0.1:
            return (b"\x01\x16\x19\x70" + b"m" * 508) * (size // 512 + 1)  # begins like a metadata block
        return self.random.randbytes(size)

    def create(self):
        path = self.fresh("f")
        with open(path, "xb") as file:
            file.write(self.contents(self.size()))
        self.files.append(path)

    def write(self):
        path = self.random.choice(self.files)
        with open(path, "r+b") as file:
            file.seek(self.random.choice([0, self.size(), self.random.randrange(3000000)]))
            file.write(self.contents(self.size()))

    def append(self):
        with open(self.random.choice(self.files), "ab") as file:
            file.write(self.contents(self.size()))

    def truncate(self):
        os.truncate(self.random.choice(self.files), self.random.choice([self.size(), self.random.randrange(5000000)]))

    def allocate(self):
        path = self.random.choice(self.files)
        fd = os.open(path, os.O_RDWR)
        try:
            mode = self.random.choice([0, KEEP_SIZE, KEEP_SIZE | PUNCH_HOLE, KEEP_SIZE | PUNCH_HOLE, ZERO_RANGE])
            fallocate(fd, mode, self.random.randrange(200000), self.random.randrange(1, 200000))
        except OSError as error:
            # The kernel's GFS2 knows no ZERO_RANGE, and allocates nothing in files with journaled data.
            refusable = mode == ZERO_RANGE or get_flags(path) & SETTABLE_FLAGS["journal"]
            if not refusable or error.errno != errno.EOPNOTSUPP:
                raise
        finally:
            os.close(fd)

    def mkdir(self):
        path = self.fresh("d")
        os.mkdir(path, self.random.choice([0o755, 0o700, 0o2775, 0o1777]))
        self.dirs.append(path)

    def many(self):
        path = self.fresh("many")
        os.mkdir(path)
        self.dirs.append(path)
        for i in range(self.random.choice([30, 300])):
            name = os.path.join(path, "entry-%d-%s" % (i, "z" * (i % 50)))
            os.close(os.open(name, os.O_CREAT | os.O_WRONLY, 0o644))
            self.files.append(name)

    def node(self):
        path = self.fresh("n")
        kind = self.random.randrange(4)
        if kind == 0:
            os.symlink("t" * self.random.choice([1, 60, 200]), path)
        elif kind == 1:
            os.mkfifo(path)
        elif kind == 2:
            os.mknod(path, stat.S_IFSOCK | 0o600)
        else:
            os.mknod(path, stat.S_IFCHR | 0o600, os.makedev(1, self.random.randrange(1, 9)))
        self.others.append(path)

    def link(self):
        path = self.fresh("l")
        os.link(self.random.choice(self.files), path)
        self.files.append(path)

    def unlink(self):
        names = self.random.choice([self.files, self.files, self.others])
        if names:
            os.unlink(names.pop(self.random.randrange(len(names))))

    def rmdir(self):
        if len(self.dirs) < 2:
            return
        path = self.random.choice(self.dirs[1:])
        if not os.listdir(path):
            os.rmdir(path)
            self.dirs.remove(path)

    def rename(self):
        names = self.random.choice([self.files, self.others])
        if not names:
            return
        old = names.pop(self.random.randrange(len(names)))
        new = self.fresh("r")
        os.rename(old, new)
        names.append(new)

    def replace(self):
        old = self.files.pop(self.random.randrange(len(self.files)))
        new = self.random.choice(self.files)
        if os.path.samefile(old, new):
            self.files.append(old)
        else:
            os.rename(old, new)

    def exchange(self):
        renameat2(self.random.choice(self.files), self.random.choice(self.files), 2)

    def move_directory(self):
        if len(self.dirs) < 3:
            return
        old = self.random.choice(self.dirs[1:])
        new = self.fresh("m")
        if (new + "/").startswith(old + "/"):
            return
        os.rename(old, new)
        moved = lambda path: new + path[len(old):] if path == old or path.startswith(old + "/") else path
        for names in (self.files, self.dirs, self.others):
            names[:] = [moved(path) for path in names]

    def attributes(self):
        path = self.random.choice(self.files + self.dirs[1:])
        os.chmod(path, self.random.randrange(0o1000))
        os.chown(path, self.random.randrange(70000), self.random.randrange(70000))
        os.utime(path, ns=(self.random.randrange(1 << 62), self.random.randrange(1 << 62)))

    def xattr(self):
        path = self.random.choice(self.files + self.dirs[1:])
        name = self.random.choice(["user.a", "user.b", "user.long" + "n" * 100, "trusted.t", "security.s"])
        if self.random.random() < 0.3:
            try:
                os.removexattr(path, name)
            except OSError as error:
                if error.errno != errno.ENODATA:
                    raise
        else:
            os.setxattr(path, name, self.random.randbytes(self.random.choice([0, 5, 200, 2000, 15000])))

    def acl(self):
        path = self.random.choice(self.files + self.dirs[1:])
        entry = lambda tag, perm, id=0xFFFFFFFF: struct.pack("<HHI", tag, perm, id)
        acl = struct.pack("<I", 2) + entry(1, 7) + entry(2, self.random.randrange(8), 1234) + entry(4, 5) + \
            entry(16, 7) + entry(32, self.random.randrange(8))
        kind = "default" if path in self.dirs and self.random.random() < 0.5 else "access"
        os.setxattr(path, "system.posix_acl_" + kind, acl)

    def flags(self):
        path = self.random.choice(self.files)
        flag = self.random.choice(sorted(SETTABLE_FLAGS.values()))
        fd = os.open(path, os.O_RDONLY)
        try:
            fcntl.ioctl(fd, FS_IOC_SETFLAGS, struct.pack("i", get_flags(path) ^ flag))
        finally:
            os.close(fd)

    def open_unlinked(self):
        path = self.fresh("u")
        with open(path, "x+b") as file:
            file.write(self.contents(self.size()))
            os.unlink(path)
            file.seek(0)
            file.write(self.contents(self.size()))

    def unnamed(self):
        try:
            fd = os.open(self.random.choice(self.dirs), os.O_TMPFILE | os.O_RDWR, 0o600)
        except OSError as error:
            if error.errno != errno.EOPNOTSUPP:
                raise
            return
        os.write(fd, self.contents(self.size()))
        path = self.fresh("t")
        link_descriptor(fd, path)
        os.close(fd)
        self.files.append(path)

    def map(self):
        with open(self.random.choice(self.files), "r+b") as file:
            size = os.fstat(file.fileno()).st_size
            if size == 0:
                return
            with mmap.mmap(file.fileno(), size) as memory:
                at = self.random.randrange(size)
                memory[at:at + 100] = self.random.randbytes(len(memory[at:at + 100]))

    def fsync(self):
        fd = os.open(self.random.choice(self.files), os.O_RDONLY)
        os.fsync(fd)
        os.close(fd)

    def operations(self):
        return [self.create] * 6 + [self.write] * 4 + [self.append] * 3 + [self.truncate] * 2 + \
            [self.allocate] * 2 + [self.mkdir] * 2 + [self.node, self.link] * 2 + [self.unlink] * 5 + [self.rmdir] + \
            [self.rename] * 2 + [self.replace, self.exchange, self.move_directory] + [self.attributes] * 2 + \
            [self.xattr] * 3 + [self.acl, self.flags, self.fsync, self.open_unlinked, self.unnamed, self.map]

    def step(self, number):
        if len(self.files) < 5:
            self.create()
        elif number % 60 == 10:
            self.many()
        else:
            self.random.choice(self.operations())()

    def run_for_ever(self):
        for number in itertools.count():
            self.step(number)
            print(number, flush=True)

    def run(self, count):
        for number in range(count):
            self.step(number)
        fd = os.open(self.root, os.O_RDONLY)
        if libc.syncfs(fd) != 0:
            raise OSError(ctypes.get_errno(), "syncfs")
        os.close(fd)


def data_map(fd, size):
    """What SEEK_DATA and SEEK_HOLE tell: (offset, length) of each stretch of data."""
    segments, at = [], 0
    while at < size:
        try:
            start = os.lseek(fd, at, os.SEEK_DATA)
        except OSError as error:
            if error.errno != errno.ENXIO:
                raise
            break
        at = os.lseek(fd, start, os.SEEK_HOLE)
        segments.append([start, at - start])
    return segments


def describe(path, root):
    info = os.lstat(path)
    line = {"path": os.path.relpath(path, root), "mode": oct(info.st_mode), "ino": info.st_ino, "uid": info.st_uid,
            "gid": info.st_gid, "nlink": info.st_nlink, "mtime_ns": info.st_mtime_ns, "ctime_ns": info.st_ctime_ns,
            "xattrs": {name: os.getxattr(path, name, follow_symlinks=False).hex()
                       for name in sorted(os.listxattr(path, follow_symlinks=False))}}
    if not stat.S_ISDIR(info.st_mode):
        line["size"] = info.st_size
    line["blocks"] = info.st_blocks
    if stat.S_ISLNK(info.st_mode):
        line["target"] = os.readlink(path)
    elif stat.S_ISDIR(info.st_mode):
        line["entries"] = sorted(os.listdir(path))
        line["flags"] = hex(get_flags(path))
    elif stat.S_ISREG(info.st_mode):
        line["flags"] = hex(get_flags(path))
        with open(path, "rb") as file:
            line["sha256"] = hashlib.sha256(file.read()).hexdigest()
            line["data"] = data_map(file.fileno(), info.st_size)
    return line


def list_tree(root):
    lines = [describe(root, root)]
    for path, dirs, files in os.walk(root):
        without_busy(root, path, dirs)
        dirs.sort()
        lines += [describe(os.path.join(path, name), root) for name in dirs + files]
    for line in sorted(lines, key=lambda line: line["path"]):
        print(json.dumps(line, sort_keys=True))


if __name__ == "__main__":
    os.umask(0o022)
    if sys.argv[1] == "work":
        Workload(sys.argv[2], int(sys.argv[3])).run(int(sys.argv[4]))
    elif sys.argv[1] == "busy":
        Workload(sys.argv[2], int(sys.argv[3])).run_for_ever()
    else:
        list_tree(sys.argv[2])
