#!/usr/bin/env python3
"""Every kind of file operation through a real mount."""

import ctypes
import errno
import fcntl
import hashlib
import mmap
import os
import random
import socket
import stat
import struct
import subprocess
import threading

import support
from support import BLOCK_SIZE, MountedTest, run, system_call

AT_FDCWD, AT_SYMLINK_FOLLOW = -100, 0x400
RENAME_NOREPLACE, RENAME_EXCHANGE, RENAME_WHITEOUT = 1, 2, 4
FALLOC_KEEP_SIZE, FALLOC_PUNCH_HOLE, FALLOC_ZERO_RANGE = 1, 2, 16
FS_IOC_GETFLAGS, FS_IOC_SETFLAGS = 0x80086601, 0x40086602
FS_IOC_FSGETXATTR, FS_IOC_FSSETXATTR = 0x801C581F, 0x401C5820
FS_IOC_GETFSLABEL, FITRIM = 0x81009431, 0xC0185879
FS_IMMUTABLE, FS_APPEND, FS_NOATIME, FS_JOURNAL_DATA = 0x10, 0x20, 0x80, 0x4000


def rename2(old, new, flags):
    system_call("renameat2", AT_FDCWD, os.fsencode(old), AT_FDCWD, os.fsencode(new), flags)


def fallocate(fd, mode, offset, length):
    system_call("fallocate", fd, mode, ctypes.c_long(offset), ctypes.c_long(length))


def ioctl_flags(path, flags=None):
    fd = os.open(path, os.O_RDONLY | os.O_NONBLOCK)
    try:
        if flags is not None:
            fcntl.ioctl(fd, FS_IOC_SETFLAGS, struct.pack("i", flags))
        return struct.unpack("i", fcntl.ioctl(fd, FS_IOC_GETFLAGS, struct.pack("i", 0)))[0]
    finally:
        os.close(fd)


def as_user(user, function, *arguments):
    """Calls the function in a child process of that user; returns 0 or its errno."""
    pid = os.fork()
    if pid == 0:
        code = 0
        try:
            os.setgroups([])
            os.setgid(user)
            os.setuid(user)
            function(*arguments)
        except OSError as error:
            code = error.errno
        finally:
            os._exit(code)
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])


class Names(MountedTest):
    def test_kinds_of_inodes_survive(self):
        self.write("file", b"contents")
        os.mkdir(self.path("directory"), 0o751)
        os.symlink("to/somewhere", self.path("symlink"))
        os.mkfifo(self.path("fifo"), 0o640)
        os.mknod(self.path("block"), stat.S_IFBLK | 0o600, os.makedev(259, 70000))
        os.mknod(self.path("char"), stat.S_IFCHR | 0o666, os.makedev(1, 3))
        server = socket.socket(socket.AF_UNIX)
        server.bind(self.path("socket"))
        server.close()
        os.link(self.path("file"), self.path("directory", "hard link"))
        for again in (False, True):
            if again:
                self.remount()
            self.assertEqual(self.read("file"), b"contents")
            self.assertEqual(os.stat(self.path("file")).st_nlink, 2)
            self.assertTrue(os.path.samefile(self.path("file"), self.path("directory", "hard link")))
            self.assertEqual(stat.S_IMODE(os.stat(self.path("directory")).st_mode), 0o751)
            self.assertEqual(os.readlink(self.path("symlink")), "to/somewhere")
            self.assertTrue(stat.S_ISFIFO(os.lstat(self.path("fifo")).st_mode))
            self.assertTrue(stat.S_ISSOCK(os.lstat(self.path("socket")).st_mode))
            block, char = os.lstat(self.path("block")), os.lstat(self.path("char"))
            self.assertTrue(stat.S_ISBLK(block.st_mode))
            self.assertEqual((os.major(block.st_rdev), os.minor(block.st_rdev)), (259, 70000))
            self.assertTrue(stat.S_ISCHR(char.st_mode))
            self.assertEqual((os.major(char.st_rdev), os.minor(char.st_rdev)), (1, 3))
        with open(self.path("char"), "wb") as null:
            null.write(b"a device works")

    def test_names_and_errors(self):
        longest = "n" * 255
        self.write(longest)
        self.assertEqual(os.listdir(self.root), [longest])
        self.refuses(errno.ENAMETOOLONG, self.write, "n" * 256)
        odd = os.fsdecode(b"odd \n\xff\xfe\"'")
        self.write(odd)
        self.assertIn(odd, os.listdir(self.root))
        self.refuses(errno.ENOENT, os.stat, self.path("absent"))
        self.refuses(errno.EEXIST, os.mkdir, self.path(odd))
        self.refuses(errno.ENOTDIR, os.stat, self.path(odd, "below"))
        self.refuses(errno.ENOENT, os.unlink, self.path("absent"))
        self.refuses(errno.ENOTDIR, os.rmdir, self.path(odd))
        os.mkdir(self.path("directory"))
        self.refuses(errno.EISDIR, os.unlink, self.path("directory"))
        self.write("directory/file")
        self.refuses(errno.ENOTEMPTY, os.rmdir, self.path("directory"))
        self.refuses(errno.EPERM, os.link, self.path("directory"), self.path("link"))
        self.refuses(errno.EEXIST, os.open, self.path(odd), os.O_CREAT | os.O_EXCL | os.O_WRONLY)
        self.refuses(errno.ENAMETOOLONG, os.symlink, "t" * 4096, self.path("symlink"))

    def test_absent_names_appear(self):
        self.refuses(errno.ENOENT, os.stat, self.path("later"))
        self.write("later")
        os.stat(self.path("later"))
        os.unlink(self.path("later"))
        self.refuses(errno.ENOENT, os.stat, self.path("later"))

    def test_rename(self):
        self.write("a", b"A")
        self.write("b", b"B")
        os.mkdir(self.path("d"))
        os.mkdir(self.path("e"))
        os.rename(self.path("a"), self.path("d/a"))
        self.assertEqual(self.read("d/a"), b"A")
        os.rename(self.path("d/a"), self.path("b"))
        self.assertEqual(self.read("b"), b"A")
        os.rename(self.path("d"), self.path("e/d"))
        self.assertEqual(os.stat(self.root).st_nlink, 3)
        self.assertEqual(os.stat(self.path("e")).st_nlink, 3)
        self.assertEqual(os.stat(self.path("e/d/..")).st_ino, os.stat(self.path("e")).st_ino)
        self.refuses(errno.EINVAL, os.rename, self.path("e"), self.path("e/d/below itself"))
        self.refuses(errno.EISDIR, os.rename, self.path("b"), self.path("e"))
        self.refuses(errno.ENOTDIR, os.rename, self.path("e"), self.path("b"))
        os.mkdir(self.path("full"))
        self.write("full/file")
        self.refuses(errno.ENOTEMPTY, os.rename, self.path("e/d"), self.path("full"))

    def test_rename_flags(self):
        self.write("a", b"A")
        self.write("b", b"B")
        os.mkdir(self.path("d"))
        self.refuses(errno.EEXIST, rename2, self.path("a"), self.path("b"), RENAME_NOREPLACE)
        rename2(self.path("a"), self.path("c"), RENAME_NOREPLACE)
        self.assertEqual(self.read("c"), b"A")
        rename2(self.path("c"), self.path("b"), RENAME_EXCHANGE)
        self.assertEqual((self.read("b"), self.read("c")), (b"A", b"B"))
        rename2(self.path("b"), self.path("d"), RENAME_EXCHANGE)
        self.assertEqual(self.read("d"), b"A")
        self.assertTrue(os.path.isdir(self.path("b")))
        self.refuses(errno.ENOENT, rename2, self.path("b"), self.path("absent"), RENAME_EXCHANGE)
        self.refuses(errno.EINVAL, rename2, self.path("c"), self.path("x"), RENAME_WHITEOUT)
        self.refuses(errno.EINVAL, rename2, self.path("c"), self.path("x"), RENAME_NOREPLACE | RENAME_EXCHANGE)

    def test_many_names_while_the_directory_changes(self):
        names = {f"name-{i:05}" for i in range(3000)}
        os.mkdir(self.path("d"))
        for name in names:
            self.write(f"d/{name}")
        self.remount()
        seen, left = [], set(names)
        with os.scandir(self.path("d")) as entries:
            for number, entry in enumerate(entries):
                seen.append(entry.name)
                if number % 3 == 0:
                    os.unlink(entry.path)
                    left.discard(entry.name)
                    self.write(f"d/new-{number}")
                    left.add(f"new-{number}")
        # Each name that was there throughout is seen once; those that came meanwhile may be.
        self.assertEqual(len(seen), len(set(seen)))
        self.assertLessEqual(names, set(seen))
        self.assertEqual(set(os.listdir(self.path("d"))), left)

    def test_seekdir_continues_where_telldir_stood(self):
        for i in range(500):
            self.write(f"name-{i}")
        libc = support.LIBC
        libc.opendir.restype = libc.readdir.restype = ctypes.c_void_p
        libc.telldir.restype = ctypes.c_long
        directory = ctypes.c_void_p(libc.opendir(os.fsencode(self.root)))

        def next_name():
            entry = libc.readdir(directory)
            return ctypes.string_at(entry + 19) if entry else None

        listed, positions = [], []
        while True:
            positions.append(libc.telldir(directory))
            name = next_name()
            if name is None:
                break
            listed.append(name)
        self.assertEqual(len(listed), 502)
        for number in random.Random(1).sample(range(len(listed)), 40):
            libc.seekdir(directory, ctypes.c_long(positions[number]))
            self.assertEqual(next_name(), listed[number])
        libc.closedir(directory)

    def test_deep_paths(self):
        depth = 0
        os.chdir(self.root)
        try:
            while depth < 200:
                os.mkdir("d" * 20)
                os.chdir("d" * 20)
                depth += 1
            self.assertEqual(len(os.getcwd()), len(self.root) + 21 * depth)
        finally:
            os.chdir("/")

    def test_file_handles(self):
        os.mkdir(self.path("d"))
        self.write("d/file", b"by handle")

        class Handle(ctypes.Structure):
            _fields_ = [("bytes", ctypes.c_uint), ("type", ctypes.c_int), ("handle", ctypes.c_ubyte * 128)]

        def handle_of(path):
            handle = Handle(bytes=128)
            mount_id = ctypes.c_int()
            system_call("name_to_handle_at", AT_FDCWD, os.fsencode(path), ctypes.byref(handle),
                        ctypes.byref(mount_id), 0)
            return handle

        def open_handle(handle):
            mount = os.open(self.root, os.O_RDONLY)
            try:
                return system_call("open_by_handle_at", mount, ctypes.byref(handle), os.O_RDONLY)
            finally:
                os.close(mount)

        file_handle, directory_handle = handle_of(self.path("d/file")), handle_of(self.path("d"))
        self.remount()
        fd = open_handle(file_handle)
        self.assertEqual(os.read(fd, 100), b"by handle")
        os.close(fd)
        fd = open_handle(directory_handle)
        self.assertEqual(os.listdir(fd), ["file"])
        os.close(fd)
        self.remount()
        os.unlink(self.path("d/file"))
        self.refuses(errno.ESTALE, open_handle, file_handle)
        file_handle.handle[8] ^= 1
        self.refuses(errno.ESTALE, open_handle, file_handle)


class Contents(MountedTest):
    def test_sizes(self):
        sizes = [0, 1, BLOCK_SIZE - 233, BLOCK_SIZE - 232, BLOCK_SIZE - 231, BLOCK_SIZE, BLOCK_SIZE + 1, 100_000,
                 3_000_000]
        contents = {size: random.Random(size).randbytes(size) for size in sizes}
        for size, data in contents.items():
            self.write(f"file-{size}", data)
        for again in (False, True):
            if again:
                self.remount()
            for size, data in contents.items():
                self.assertEqual(os.stat(self.path(f"file-{size}")).st_size, size)
                self.assertEqual(self.read(f"file-{size}"), data)

    def test_random_writes_and_truncations(self):
        for seed in range(3):
            choose = random.Random(seed)
            model = bytearray()
            fd = os.open(self.path(f"file-{seed}"), os.O_RDWR | os.O_CREAT)
            for _ in range(300):
                offset = choose.randrange(400_000)
                match choose.randrange(5):
                    case 0:
                        os.ftruncate(fd, offset)
                        model = model[:offset] + bytes(max(0, offset - len(model)))
                    case 1:
                        length = choose.randrange(1, 100_000)
                        fallocate(fd, FALLOC_PUNCH_HOLE | FALLOC_KEEP_SIZE, offset, length)
                        end = min(len(model), offset + length)
                        if offset < end:
                            model[offset:end] = bytes(end - offset)
                    case _:
                        data = choose.randbytes(choose.randrange(1, 40_000))
                        os.pwrite(fd, data, offset)
                        model += bytes(max(0, offset - len(model)))
                        model[offset:offset + len(data)] = data
                if choose.randrange(20) == 0:
                    os.fsync(fd)
            os.close(fd)
            self.assertEqual(self.read(f"file-{seed}"), bytes(model))
            self.remount()
            self.assertEqual(self.read(f"file-{seed}"), bytes(model))

    def test_append(self):
        fd = os.open(self.path("log"), os.O_WRONLY | os.O_CREAT | os.O_APPEND)
        os.write(fd, b"one ")
        os.pwrite(fd, b"two ", 0)
        os.close(fd)
        processes = [subprocess.Popen(["sh", "-c", f"for i in $(seq 200); do echo {n} >> {self.path('lines')}; done"])
                     for n in range(4)]
        for process in processes:
            self.assertEqual(process.wait(), 0)
        self.assertEqual(self.read("log"), b"one two ")
        self.assertEqual(len(self.read("lines").split()), 800)

    def test_truncating_at_opening(self):
        self.write("file", b"x" * 10_000)
        before = os.stat(self.path("file")).st_mtime_ns
        os.close(os.open(self.path("file"), os.O_WRONLY | os.O_TRUNC))
        after = os.stat(self.path("file"))
        self.assertEqual(after.st_size, 0)
        self.assertGreater(after.st_mtime_ns, before)
        self.assertEqual(self.read("file"), b"")

    def test_direct(self):
        fd = os.open(self.path("file"), os.O_RDWR | os.O_CREAT | os.O_DIRECT)
        memory = mmap.mmap(-1, 1 << 20)
        data = random.Random(1).randbytes(1 << 20)
        memory[:] = data
        self.assertEqual(os.pwrite(fd, memory, 0), 1 << 20)
        self.assertEqual(self.read("file"), data)
        back = mmap.mmap(-1, 1 << 20)
        self.assertEqual(os.preadv(fd, [back], 0), 1 << 20)
        self.assertEqual(back[:], data)
        # Beside buffered writes of the same file.
        with open(self.path("file"), "r+b") as buffered:
            buffered.seek(4096)
            buffered.write(b"buffered" * 512)
        self.assertEqual(os.preadv(fd, [memoryview(back)[:4096]], 4096), 4096)
        self.assertEqual(back[:4096], b"buffered" * 512)
        os.pwrite(fd, memoryview(memory)[4096:8192], 4096)
        self.assertEqual(self.read("file"), data)
        os.close(fd)

    def test_synchronous(self):
        for flag in (os.O_SYNC, os.O_DSYNC):
            fd = os.open(self.path("file"), os.O_RDWR | os.O_CREAT | flag)
            os.write(fd, b"stable")
            os.close(fd)
        fd = os.open(self.path("file"), os.O_RDWR)
        os.pwrite(fd, b"more", 10_000)
        os.fsync(fd)
        os.fdatasync(fd)
        system_call("syncfs", fd)
        os.close(fd)
        directory = os.open(self.root, os.O_RDONLY)
        os.fsync(directory)
        os.close(directory)

    def test_maps(self):
        size = 10 * 4096 + 100
        self.write("file", bytes(size))
        with open(self.path("file"), "r+b") as file:
            shared = mmap.mmap(file.fileno(), 0)
            shared[5000:5005] = b"hello"
            self.assertEqual(os.pread(file.fileno(), 5, 5000), b"hello")
            os.pwrite(file.fileno(), b"there", 9000)
            self.assertEqual(shared[9000:9005], b"there")
            private = mmap.mmap(file.fileno(), 0, flags=mmap.MAP_PRIVATE)
            private[0:3] = b"own"
            self.assertEqual(os.pread(file.fileno(), 3, 0), bytes(3))
            shared.flush()
            shared.close()
            private.close()
        self.remount()
        contents = self.read("file")
        self.assertEqual(len(contents), size)
        self.assertEqual(contents[5000:5005], b"hello")
        self.assertEqual(contents[9000:9005], b"there")
        self.assertEqual(contents[0:3], bytes(3))

    def test_holes(self):
        fd = os.open(self.path("file"), os.O_RDWR | os.O_CREAT)
        os.ftruncate(fd, 1 << 40)
        os.pwrite(fd, b"x" * BLOCK_SIZE, 1 << 30)
        self.assertEqual(os.lseek(fd, 0, os.SEEK_DATA), 1 << 30)
        self.assertEqual(os.lseek(fd, 1 << 30, os.SEEK_HOLE), (1 << 30) + BLOCK_SIZE)
        self.refuses(errno.ENXIO, os.lseek, fd, 1 << 31, os.SEEK_DATA)
        self.refuses(errno.ENXIO, os.lseek, fd, 1 << 40, os.SEEK_HOLE)
        self.assertEqual(os.pread(fd, 100, 1 << 39), bytes(100))
        self.assertLess(os.fstat(fd).st_blocks * 512, 1 << 20)
        os.close(fd)

    def test_fallocate(self):
        fd = os.open(self.path("file"), os.O_RDWR | os.O_CREAT)
        os.write(fd, b"d" * 100_000)
        fallocate(fd, FALLOC_KEEP_SIZE, 0, 1 << 20)
        self.assertEqual(os.fstat(fd).st_size, 100_000)
        self.assertGreaterEqual(os.fstat(fd).st_blocks * 512, 1 << 20)
        fallocate(fd, 0, 0, 2 << 20)
        self.assertEqual(os.fstat(fd).st_size, 2 << 20)
        self.assertEqual(os.pread(fd, 100, 1 << 20), bytes(100))
        fallocate(fd, FALLOC_PUNCH_HOLE | FALLOC_KEEP_SIZE, 5000, 50_000)
        self.assertEqual(os.pread(fd, 100_000, 0), b"d" * 5000 + bytes(50_000) + b"d" * 45_000)
        fallocate(fd, FALLOC_ZERO_RANGE, 0, 1000)
        self.assertEqual(os.pread(fd, 2000, 0), bytes(1000) + b"d" * 1000)
        self.refuses(errno.EOPNOTSUPP, fallocate, fd, 8, 0, BLOCK_SIZE)  # collapse
        os.close(fd)

    def test_copy_file_range(self):
        data = random.Random(3).randbytes(5_000_000)
        self.write("from", data)
        source, target = os.open(self.path("from"), os.O_RDONLY), os.open(self.path("to"), os.O_RDWR | os.O_CREAT)
        copied = 0
        while copied < len(data):
            step = os.copy_file_range(source, target, len(data) - copied, copied, copied)
            self.assertGreater(step, 0)
            copied += step
        self.assertEqual(os.copy_file_range(source, target, 10, len(data), 0), 0)
        os.close(source)
        os.close(target)
        self.assertEqual(self.read("to"), data)

    def test_greatest_size(self):
        greatest = (1 << 63) - 1
        fd = os.open(self.path("file"), os.O_RDWR | os.O_CREAT)
        self.refuses(errno.EINVAL, os.ftruncate, fd, -1)
        os.ftruncate(fd, greatest)
        os.pwrite(fd, b"the end", greatest - 7)
        os.close(fd)
        self.remount()
        fd = os.open(self.path("file"), os.O_RDWR)
        self.assertEqual(os.fstat(fd).st_size, greatest)
        self.assertEqual(os.pread(fd, 7, greatest - 7), b"the end")
        self.assertEqual(os.pread(fd, 100, 1 << 62), bytes(100))
        os.ftruncate(fd, 0)
        os.close(fd)

    def test_open_and_unlinked(self):
        files = []
        for i in range(50):
            fd = os.open(self.path(f"file-{i}"), os.O_RDWR | os.O_CREAT)
            os.write(fd, b"%d" % i * 1000)
            os.unlink(self.path(f"file-{i}"))
            files.append(fd)
        self.assertEqual(os.listdir(self.root), [])
        for i, fd in enumerate(files):
            self.assertEqual(os.fstat(fd).st_nlink, 0)
            self.assertEqual(os.pread(fd, 10_000, 0), b"%d" % i * 1000)
            os.pwrite(fd, b"still written", 0)
            os.ftruncate(fd, 5)
        free = os.statvfs(self.root).f_bfree
        for fd in files:
            os.close(fd)
        support.wait_until(lambda: os.statvfs(self.root).f_bfree >= free + 50, "the blocks become free")

    def test_unnamed(self):
        fd = os.open(self.root, os.O_TMPFILE | os.O_RDWR, 0o640)
        os.write(fd, b"from nowhere")
        self.assertEqual(os.listdir(self.root), [])
        system_call("linkat", AT_FDCWD, b"/proc/self/fd/%d" % fd, AT_FDCWD, os.fsencode(self.path("named")),
                    AT_SYMLINK_FOLLOW)
        os.close(fd)
        self.assertEqual(self.read("named"), b"from nowhere")
        self.assertEqual(stat.S_IMODE(os.stat(self.path("named")).st_mode), 0o640)
        never = os.open(self.root, os.O_TMPFILE | os.O_RDWR, 0o600)
        os.write(never, b"x" * 100_000)
        os.close(never)
        self.remount()
        self.assertEqual(self.read("named"), b"from nowhere")

    def test_full_volume(self):
        free = os.statvfs(self.root).f_bavail * os.statvfs(self.root).f_frsize
        fd = os.open(self.path("big"), os.O_WRONLY | os.O_CREAT)
        written = 0
        chunk = random.Random(1).randbytes(1 << 20)
        with self.assertRaises(OSError) as caught:
            while True:
                written += os.write(fd, chunk)
        self.assertEqual(caught.exception.errno, errno.ENOSPC)
        # The error came from the write: what was accepted before it is kept.
        os.fsync(fd)
        os.close(fd)
        self.assertGreater(written, free * 9 // 10)
        self.assertEqual(os.stat(self.path("big")).st_size, written)
        os.unlink(self.path("big"))
        self.write("small", b"there is room again")
        self.assertEqual(self.read("small"), b"there is room again")


class Attributes(MountedTest):
    def test_times(self):
        path = self.write("file")
        for atime, mtime in ((1, 2), (-1_000_000_001, -5), (5_000_000_000_000_000_000, 4_294_967_296_123_456_789)):
            os.utime(path, ns=(atime, mtime))
            self.assertEqual((os.stat(path).st_atime_ns, os.stat(path).st_mtime_ns), (atime, mtime))
        self.remount()
        self.assertEqual(os.stat(path).st_atime_ns, 5_000_000_000_000_000_000)
        before = os.stat(path).st_ctime_ns
        os.chmod(path, 0o600)
        self.assertGreater(os.stat(path).st_ctime_ns, before)

    def test_access_time_follows_reads_from_the_volume(self):
        path = self.write("file", b"data")
        self.remount()
        before = os.stat(path)
        self.read("file")
        after = os.stat(path)
        self.assertGreater(after.st_atime_ns, before.st_mtime_ns)
        self.assertEqual(after.st_ctime_ns, before.st_ctime_ns)
        self.remount()
        self.read("file")
        self.assertEqual(os.stat(path).st_atime_ns, after.st_atime_ns)
        self.remount("-o", "noatime")
        self.write("other", b"data")
        self.remount("-o", "noatime")
        other = os.stat(self.path("other")).st_atime_ns
        self.read("other")
        self.assertEqual(os.stat(self.path("other")).st_atime_ns, other)

    def test_owners_and_set_id_bits(self):
        path = self.write("file", b"x")
        os.chmod(path, 0o6755)
        os.chown(path, 1000, 1001)
        self.assertEqual(stat.S_IMODE(os.stat(path).st_mode), 0o755)
        self.assertEqual((os.stat(path).st_uid, os.stat(path).st_gid), (1000, 1001))
        os.chmod(path, 0o6777)
        self.assertEqual(as_user(4000, lambda: os.close(os.open(path, os.O_WRONLY))), 0)
        self.assertEqual(stat.S_IMODE(os.stat(path).st_mode), 0o6777)

        def write_one():
            fd = os.open(path, os.O_WRONLY)
            os.write(fd, b"y")
            os.close(fd)

        self.assertEqual(as_user(4000, write_one), 0)
        self.assertEqual(stat.S_IMODE(os.stat(path).st_mode), 0o777)
        os.chmod(path, 0o6777)
        self.assertEqual(as_user(4000, os.truncate, path, 0), 0)
        self.assertEqual(stat.S_IMODE(os.stat(path).st_mode), 0o777)

    def test_set_gid_directories_and_umask(self):
        os.mkdir(self.path("d"))
        os.chown(self.path("d"), 0, 2000)
        os.chmod(self.path("d"), 0o2777)
        old = os.umask(0o027)
        try:
            os.mkdir(self.path("d/sub"), 0o777)
            os.close(os.open(self.path("d/file"), os.O_CREAT | os.O_WRONLY, 0o666))
            os.mknod(self.path("d/node"), stat.S_IFIFO | 0o666)
        finally:
            os.umask(old)
        self.assertEqual(stat.S_IMODE(os.stat(self.path("d/sub")).st_mode), 0o2750)
        self.assertEqual(stat.S_IMODE(os.stat(self.path("d/file")).st_mode), 0o640)
        self.assertEqual(stat.S_IMODE(os.stat(self.path("d/node")).st_mode), 0o640)
        for name in ("sub", "file", "node"):
            self.assertEqual(os.stat(self.path("d", name)).st_gid, 2000)

    def test_permissions_of_others(self):
        os.chmod(self.root, 0o755)
        path = self.write("file", b"secret")
        os.chmod(path, 0o600)
        self.assertEqual(as_user(4000, os.open, path, os.O_RDONLY), errno.EACCES)
        self.assertEqual(as_user(4000, os.chmod, path, 0o777), errno.EPERM)
        self.assertEqual(as_user(4000, os.mkdir, self.path("d")), errno.EACCES)
        os.mkdir(self.path("sticky"))
        os.chmod(self.path("sticky"), 0o1777)
        self.write("sticky/file")
        self.assertEqual(as_user(4000, os.unlink, self.path("sticky/file")), errno.EPERM)
        self.assertEqual(as_user(4000, os.mkdir, self.path("sticky/own")), 0)
        self.assertEqual(os.stat(self.path("sticky/own")).st_uid, 4000)

    def test_extended_attributes(self):
        values = {"user.empty": b"", "user.small": b"small", "trusted.one": b"t" * 300, "security.label": b"s",
                  "user.block": os.urandom(BLOCK_SIZE), "user." + "n" * 250: b"long name"}
        if BLOCK_SIZE >= 1024:
            values["user.largest"] = os.urandom(65536)
        path = self.write("file")
        for name, value in values.items():
            os.setxattr(path, name, value)
        for again in (False, True):
            if again:
                self.remount()
            self.assertEqual(set(os.listxattr(path)), set(values))
            for name, value in values.items():
                self.assertEqual(os.getxattr(path, name), value)
        self.refuses(errno.EEXIST, os.setxattr, path, "user.small", b"x", os.XATTR_CREATE)
        self.refuses(errno.ENODATA, os.setxattr, path, "user.absent", b"x", os.XATTR_REPLACE)
        self.refuses(errno.ENODATA, os.getxattr, path, "user.absent")
        self.refuses(errno.ENODATA, os.removexattr, path, "user.absent")
        self.refuses(errno.EOPNOTSUPP, os.setxattr, path, "unknown.name", b"x")
        os.setxattr(path, "user.small", b"replaced", os.XATTR_REPLACE)
        self.assertEqual(os.getxattr(path, "user.small"), b"replaced")
        for name in values:
            os.removexattr(path, name)
        self.assertEqual(os.listxattr(path), [])
        self.assertNotIn("corral.statistics", os.listxattr(self.root))

    def test_random_extended_attributes(self):
        choose = random.Random(5)
        path, model = self.write("file"), {}
        largest = 20_000 if BLOCK_SIZE < 1024 else 65536
        for number in range(600):
            name = "user." + choose.choice("abcdefghijklmnopqrstuvwxyz") * choose.randrange(1, 60)
            # Blocks of 512 bytes have room for some 60 attributes of that size.
            if (choose.randrange(4) == 0 and model) or len(model) == 50:
                name = choose.choice(sorted(model))
                os.removexattr(path, name)
                del model[name]
            else:
                size = choose.choice((choose.randrange(100), choose.randrange(5000), choose.randrange(largest)))
                model[name] = choose.randbytes(size)
                os.setxattr(path, name, model[name])
            if number % 150 == 149:
                self.remount()
                self.assertEqual({name: os.getxattr(path, name) for name in os.listxattr(path)}, model)
        os.unlink(path)

    def test_access_control_lists(self):
        os.chmod(self.root, 0o755)
        path = self.write("file", b"x")
        os.chmod(path, 0o640)
        self.assertEqual(as_user(4000, os.open, path, os.O_RDONLY), errno.EACCES)
        run("setfacl", "-m", "u:4000:r", path)
        self.assertEqual(as_user(4000, os.open, path, os.O_RDONLY), 0)
        self.assertEqual(as_user(4000, os.open, path, os.O_WRONLY), errno.EACCES)
        os.chmod(path, 0o600)  # the mask goes with the group bits
        self.assertEqual(as_user(4000, os.open, path, os.O_RDONLY), errno.EACCES)
        os.chmod(path, 0o640)
        self.remount()
        self.assertEqual(as_user(4000, os.open, path, os.O_RDONLY), 0)
        run("setfacl", "-b", path)
        self.assertNotIn("system.posix_acl_access", os.listxattr(path))
        self.assertEqual(as_user(4000, os.open, path, os.O_RDONLY), errno.EACCES)

        os.mkdir(self.path("d"))
        run("setfacl", "-d", "-m", "u:4000:rwx,g:5000:rx,o::-", self.path("d"))
        os.mkdir(self.path("d/sub"))
        self.write("d/sub/file")
        listing = run("getfacl", "-nc", self.path("d/sub")).stdout.split()
        self.assertIn("default:user:4000:rwx", listing)
        self.assertIn("user:4000:rwx", listing)
        listing = run("getfacl", "-nc", self.path("d/sub/file")).stdout.split()
        self.assertIn("user:4000:rwx", listing)
        self.assertIn("other::---", listing)
        self.assertEqual(stat.S_IMODE(os.stat(self.path("d/sub/file")).st_mode), 0o660)

    def test_inode_flags(self):
        path = self.write("file", b"x" * 100)
        self.addCleanup(lambda: None)
        ioctl_flags(path, FS_IMMUTABLE)
        self.assertEqual(ioctl_flags(path), FS_IMMUTABLE)
        self.refuses(errno.EPERM, os.open, path, os.O_WRONLY)
        self.refuses(errno.EPERM, os.truncate, path, 0)
        self.refuses(errno.EPERM, os.chmod, path, 0o777)
        self.refuses(errno.EPERM, os.unlink, path)
        self.refuses(errno.EPERM, os.link, path, self.path("link"))
        self.refuses(errno.EPERM, os.rename, path, self.path("renamed"))
        self.refuses(errno.EPERM, os.setxattr, path, "user.x", b"")
        self.assertEqual(self.read("file"), b"x" * 100)
        ioctl_flags(path, FS_APPEND | FS_NOATIME)
        self.remount()
        self.assertEqual(ioctl_flags(path), FS_APPEND | FS_NOATIME)
        self.refuses(errno.EPERM, os.open, path, os.O_WRONLY)
        self.refuses(errno.EPERM, os.open, path, os.O_WRONLY | os.O_APPEND | os.O_TRUNC)
        self.refuses(errno.EPERM, os.unlink, path)
        fd = os.open(path, os.O_WRONLY | os.O_APPEND)
        os.write(fd, b"more")
        os.close(fd)
        self.assertEqual(self.read("file"), b"x" * 100 + b"more")
        before = os.stat(path).st_ctime_ns
        ioctl_flags(path, FS_JOURNAL_DATA)
        self.assertGreater(os.stat(path).st_ctime_ns, before)
        self.assertEqual(ioctl_flags(path), FS_JOURNAL_DATA)
        self.assertEqual(self.read("file"), b"x" * 100 + b"more")
        os.mkdir(self.path("d"))
        ioctl_flags(self.path("d"), FS_IMMUTABLE)
        self.refuses(errno.EPERM, self.write, "d/file")
        ioctl_flags(self.path("d"), 0)
        self.write("d/file")

    def test_extended_flags(self):
        path = self.write("file")
        fd = os.open(path, os.O_RDONLY)
        xflags, *_ = struct.unpack("IIIII8x", fcntl.ioctl(fd, FS_IOC_FSGETXATTR, bytes(28)))
        self.assertEqual(xflags, 0)
        fcntl.ioctl(fd, FS_IOC_FSSETXATTR, struct.pack("IIIII8x", 0x40, 0, 0, 0, 0))
        self.assertEqual(ioctl_flags(path), FS_NOATIME)
        self.refuses(errno.EOPNOTSUPP, fcntl.ioctl, fd, FS_IOC_FSSETXATTR, struct.pack("IIIII8x", 0, 0, 0, 7, 0))
        self.refuses(errno.ENOTTY, fcntl.ioctl, fd, 0x12345678)
        os.close(fd)

    def test_the_volume(self):
        before = os.statvfs(self.root)
        self.assertEqual(before.f_bsize, BLOCK_SIZE)
        self.assertEqual(before.f_namemax, 255)
        self.write("file", bytes(1 << 20))
        after = os.statvfs(self.root)
        self.assertLessEqual(after.f_bfree, before.f_bfree - (1 << 20) // BLOCK_SIZE)
        os.unlink(self.path("file"))
        fd = os.open(self.root, os.O_RDONLY)
        label = fcntl.ioctl(fd, FS_IOC_GETFSLABEL, bytes(256))
        self.assertEqual(label.rstrip(b"\0"), b"")
        os.close(fd)

    def test_trim(self):
        fd = os.open(self.root, os.O_RDONLY)
        try:
            answer = fcntl.ioctl(fd, FITRIM, struct.pack("QQQ", 0, (1 << 64) - 1, 0))
            self.assertGreater(struct.unpack("QQQ", answer)[1], 0)
        except OSError as error:
            self.assertEqual(error.errno, errno.EOPNOTSUPP)
        os.close(fd)


class Locks(MountedTest):
    def test_locks_between_processes(self):
        path = self.write("file", b"x")
        for lock in (fcntl.flock, fcntl.lockf):
            holder = open(path, "r+b")
            lock(holder, fcntl.LOCK_EX)

            def try_lock():
                with open(path, "r+b") as other:
                    lock(other, fcntl.LOCK_EX | fcntl.LOCK_NB)

            self.assertEqual(as_user(0, try_lock), errno.EAGAIN)
            holder.close()
            self.assertEqual(as_user(0, try_lock), 0)


class Load(MountedTest):
    def test_many_threads(self):
        failures = []

        def work(number):
            try:
                choose = random.Random(number)
                folder = self.path(f"dir-{number}")
                os.mkdir(folder)
                digests = {}
                for i in range(60):
                    data = choose.randbytes(choose.choice((10, 3000, 50_000)))
                    name = os.path.join(folder, f"file-{i}")
                    with open(name, "wb") as file:
                        file.write(data)
                        if i % 10 == 0:
                            os.fsync(file.fileno())
                    digests[name] = hashlib.sha256(data).digest()
                    if i % 3 == 0:
                        victim = choose.choice(sorted(digests))
                        os.unlink(victim)
                        del digests[victim]
                    if i % 5 == 0 and digests:
                        old = choose.choice(sorted(digests))
                        os.rename(old, old + "-renamed")
                        digests[old + "-renamed"] = digests.pop(old)
                for name, digest in digests.items():
                    with open(name, "rb") as file:
                        assert hashlib.sha256(file.read()).digest() == digest, name
            except BaseException as error:  # noqa: BLE001: reported by the test
                failures.append((number, repr(error)))

        threads = [threading.Thread(target=work, args=(number,)) for number in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        self.assertEqual(failures, [])

    def test_fio_verifies(self):
        run("fio", "--name=v", f"--directory={self.root}", "--size=24M", "--rw=randwrite", "--bsrange=512-64k",
            "--bs_unaligned=1", "--verify=crc32c", "--verify_fatal=1", "--numjobs=2", "--group_reporting",
            "--ioengine=psync", "--fallocate=none")
        run("fio", "--name=d", f"--directory={self.root}", "--size=24M", "--rw=randwrite", "--bs=4k", "--direct=1",
            "--verify=crc32c", "--verify_fatal=1", "--ioengine=libaio", "--iodepth=16", "--fallocate=none")


if __name__ == "__main__":
    support.main()
