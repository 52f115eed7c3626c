"""What Linux's filesystems have beyond POSIX: rename flags, O_TMPFILE, extended attributes, ACLs, inode flags, file
handles, fallocate's modes, copy_file_range."""

import ctypes
import errno
import fcntl
import os
import stat
import struct
import subprocess

from harness import (ALICE, STAFF, TYPES, create, libc, make, mode_of,
                     remove, test)

AT_FDCWD = -100
NOREPLACE, EXCHANGE, WHITEOUT = 1, 2, 4


def rename_with(old, new, flags):
    libc("renameat2", AT_FDCWD, os.fsencode(old), AT_FDCWD, os.fsencode(new), flags)


@test
def rename_flags(t):
    a, b = t.path("a"), t.path("b")
    for old in TYPES:
        for new in TYPES:
            make(old, a)
            t.expect("ENOENT", rename_with, a, b, EXCHANGE)
            t.expect("ok", rename_with, a, b, NOREPLACE)
            os.rename(b, a)
            make(new, b)
            numbers = os.lstat(a).st_ino, os.lstat(b).st_ino
            t.expect("EEXIST", rename_with, a, b, NOREPLACE)
            t.equal("inodes", (os.lstat(a).st_ino, os.lstat(b).st_ino), numbers)
            t.expect("ok", rename_with, a, b, EXCHANGE)
            t.equal("inodes exchanged", (os.lstat(b).st_ino, os.lstat(a).st_ino), numbers)
            remove(new, a)
            remove(old, b)
    t.equal("links", os.stat(t.dir).st_nlink, 2)
    os.makedirs(t.path("x/dir"))
    os.mkdir(t.path("y"))
    create(t.path("y/file"))
    t.expect("ok", rename_with, t.path("x/dir"), t.path("y/file"), EXCHANGE)
    t.equal("links after exchanging between folders", (os.stat(t.path("x")).st_nlink, os.stat(t.path("y")).st_nlink),
            (2, 3))
    t.equal("..", os.stat(t.path("y/file/..")).st_ino, os.stat(t.path("y")).st_ino)
    t.expect("EINVAL", rename_with, t.path("y"), t.path("y/file"), EXCHANGE)
    t.expect("EINVAL", rename_with, t.path("y/file"), t.path("y"), EXCHANGE)
    t.expect("EINVAL", rename_with, t.path("x"), t.path("z"), NOREPLACE | EXCHANGE)
    t.expect("EINVAL", rename_with, t.path("x"), t.path("z"), 64)
    t.expect("ok", rename_with, t.path("x"), t.path("x"), EXCHANGE)
    t.expect("EEXIST", rename_with, t.path("x"), t.path("x"), NOREPLACE)


@test
def unnamed_files(t):
    os.chmod(t.dir, 0o777)
    fd = os.open(t.dir, os.O_TMPFILE | os.O_RDWR, 0o640)
    at = os.fstat(fd)
    t.equal("links and mode", (at.st_nlink, oct(at.st_mode)), (0, oct(stat.S_IFREG | 0o640)))
    t.equal("names", os.listdir(t.dir), [])
    os.write(fd, b"contents")
    t.expect("ok", libc, "linkat", AT_FDCWD, f"/proc/self/fd/{fd}".encode(), AT_FDCWD, os.fsencode(t.path("named")), 0x400)
    t.equal("links then", os.fstat(fd).st_nlink, 1)
    os.unlink(t.path("named"))
    os.close(fd)
    fd = os.open(t.dir, os.O_TMPFILE | os.O_RDWR | os.O_EXCL, 0o640)
    t.expect("ENOENT", libc, "linkat", AT_FDCWD, f"/proc/self/fd/{fd}".encode(), AT_FDCWD, os.fsencode(t.path("named")), 0x400)
    os.close(fd)
    t.expect("EINVAL|EISDIR", os.open, t.dir, os.O_TMPFILE | os.O_RDONLY)
    t.expect("ENOENT", os.open, t.path("absent"), os.O_TMPFILE | os.O_RDWR)
    create(t.path("file"))
    t.expect("ENOTDIR", os.open, t.path("file"), os.O_TMPFILE | os.O_RDWR)
    t.equal("names", os.listdir(t.dir), ["file"])


@test
def attributes_by_type(t):
    path = t.path("file")
    for kind in TYPES:
        make(kind, path)
        for name in ("trusted.one", "security.two"):
            t.expect("ok", os.setxattr, path, name, b"value", follow_symlinks=False)
            t.equal(f"{name} of a {kind}", os.getxattr(path, name, follow_symlinks=False), b"value")
        t.check({"trusted.one", "security.two"} <= set(os.listxattr(path, follow_symlinks=False)), "listed")
        wanted = "ok" if kind in ("regular", "dir") else "EPERM"
        t.expect(wanted, os.setxattr, path, "user.three", b"", follow_symlinks=False)
        for name in ("trusted.one", "security.two"):
            t.expect("ok", os.removexattr, path, name, follow_symlinks=False)
            t.expect("ENODATA", os.getxattr, path, name, follow_symlinks=False)
            t.expect("ENODATA", os.removexattr, path, name, follow_symlinks=False)
        t.expect("EOPNOTSUPP", os.setxattr, path, "nonsense", b"", follow_symlinks=False)
        t.expect("EOPNOTSUPP", os.setxattr, path, "other.name", b"", follow_symlinks=False)
        remove(kind, path)


@test
def attribute_limits(t):
    path = t.path("file")
    create(path)
    t.expect("ok", os.setxattr, path, "user." + "n" * 250, b"v")
    t.expect("ERANGE", os.setxattr, path, "user." + "n" * 251, b"v")
    t.expect("ERANGE", os.setxattr, path, "", b"v")
    t.expect("EINVAL", os.setxattr, path, "user.", b"v")
    t.expect("E2BIG", os.setxattr, path, "user.big", bytes(65537))
    t.expect("EINVAL", os.setxattr, path, "user.a", b"v", os.XATTR_CREATE | os.XATTR_REPLACE | 16)
    t.expect("ENODATA", os.setxattr, path, "user.a", b"v", os.XATTR_REPLACE)
    t.expect("ok", os.setxattr, path, "user.a", b"v", os.XATTR_CREATE)
    t.expect("EEXIST", os.setxattr, path, "user.a", b"v", os.XATTR_CREATE)
    t.expect("ok", os.setxattr, path, "user.a", b"longer value", os.XATTR_REPLACE)
    t.expect("ERANGE", libc, "getxattr", os.fsencode(path), b"user.a", ctypes.create_string_buffer(5), 5)
    t.equal("length asked", libc("getxattr", os.fsencode(path), b"user.a", None, 0), 12)
    t.expect("ERANGE", libc, "listxattr", os.fsencode(path), ctypes.create_string_buffer(3), 3)
    for length in (0, 1, 255, 1000, 3000):
        os.setxattr(path, "user.a", b"x" * length)
        t.equal(f"a value of {length} bytes", os.getxattr(path, "user.a"), b"x" * length)
    for number in range(20):
        t.expect("ok", os.setxattr, path, f"user.number-{number}", b"%d" % number)
    t.equal("attributes", len([name for name in os.listxattr(path) if name.startswith("user.")]), 22)
    for number in range(20):
        t.expect("ok", os.removexattr, path, f"user.number-{number}")


@test
def attribute_rights(t):
    for kind in ("regular", "dir"):
        path = t.path(kind)
        make(kind, path, 0o644, ALICE, STAFF)
        t.expect("ok", os.setxattr, path, "user.a", b"v", who="alice")
        t.expect("EACCES", os.setxattr, path, "user.a", b"w", who="carol")
        t.expect("EACCES", os.removexattr, path, "user.a", who="carol")
        t.equal("read by another", t.expect("ok", os.getxattr, path, "user.a", who="carol"), b"v")
        t.expect("EPERM", os.setxattr, path, "trusted.a", b"v", who="alice")
        t.expect("ENODATA", os.getxattr, path, "trusted.a", who="alice")
        os.setxattr(path, "trusted.hidden", b"v")
        t.equal("names for its owner", t.expect("ok", os.listxattr, path, who="alice"), ["user.a"])
        os.chmod(path, 0o200 if kind == "regular" else 0o300)
        t.expect("EACCES", os.getxattr, path, "user.a", who="carol")
    os.mkdir(t.path("sticky"))
    os.chmod(t.path("sticky"), 0o1777)
    t.expect("EPERM", os.setxattr, t.path("sticky"), "user.a", b"v", who="alice")


def acl(*arguments):
    done = subprocess.run(arguments, capture_output=True, text=True)
    if done.returncode:
        raise AssertionError(f"{arguments}: {done.stderr}")
    return done.stdout.split()


@test
def access_control_lists(t):
    if not t.has("acl"):
        return
    path = t.path("file")
    make("regular", path, 0o640)
    for rights, reads, writes in (("r", True, False), ("w", False, True), ("rw", True, True), ("-", False, False)):
        acl("setfacl", "-m", f"u:{ALICE}:{rights},m::rwx", path)
        t.expect("ok" if reads else "EACCES", create, path, os.O_RDONLY, who="alice")
        t.expect("ok" if writes else "EACCES", create, path, os.O_WRONLY, who="alice")
        t.expect("EACCES", create, path, os.O_RDONLY, who="carol")
        t.equal("group bits are the mask", oct(mode_of(path)), oct(0o670))
    acl("setfacl", "-m", f"u:{ALICE}:rw,g:{STAFF}:r,m::r", path)
    t.equal("mode with mask r", oct(mode_of(path)), oct(0o640))
    t.expect("EACCES", create, path, os.O_WRONLY, who="alice")
    t.expect("ok", create, path, os.O_RDONLY, who="bob in staff")
    os.chmod(path, 0o660)
    t.expect("ok", create, path, os.O_WRONLY, who="alice")
    t.expect("EACCES", create, path, os.O_WRONLY, who="bob in staff")
    os.chmod(path, 0o600)
    t.expect("EACCES", create, path, os.O_RDONLY, who="alice")
    t.expect("EPERM", os.removexattr, path, "system.posix_acl_access", who="alice")
    acl("setfacl", "-b", path)
    t.check("system.posix_acl_access" not in os.listxattr(path), "the ACL is gone")
    # Setting an ACL by somebody outside of the group drops setgid.
    os.chown(path, ALICE, 4242)
    os.chmod(path, 0o2755)
    t.expect("ok", acl, "setfacl", "-m", "u:7:r", path, who="alice")
    t.equal("mode after a stranger to the group set an ACL", oct(mode_of(path)), oct(0o755))
    os.chmod(path, 0o2755)
    acl("setfacl", "-m", "u:8:r", path)
    t.equal("mode after root set an ACL", oct(mode_of(path)), oct(0o2755))


@test
def inherited_access_control_lists(t):
    if not t.has("acl"):
        return
    os.mkdir(t.path("parent"))
    acl("setfacl", "-d", "-m", f"u::rwx,u:{ALICE}:rwx,g::r-x,o::---", t.path("parent"))
    for kind, mode, wanted in (("regular", 0o666, 0o660), ("regular", 0o644, 0o640), ("regular", 0o600, 0o600),
                               ("dir", 0o777, 0o770), ("dir", 0o750, 0o750), ("fifo", 0o666, 0o660)):
        for umask in (0, 0o077, 0o777):  # of no effect where there is a default ACL
            path = t.path("parent/child")
            old = os.umask(umask)
            try:
                if kind == "regular":
                    create(path, mode=mode)
                elif kind == "dir":
                    os.mkdir(path, mode)
                else:
                    os.mkfifo(path, mode)
            finally:
                os.umask(old)
            t.equal(f"mode of a {kind} made with {mode:o}", oct(mode_of(path)), oct(wanted))
            lines = acl("getfacl", "-ncE", path)
            t.check(f"user:{ALICE}:rwx" in lines, f"{kind} inherits: {lines}")
            t.equal("default ACL", f"default:user:{ALICE}:rwx" in lines, kind == "dir")
            remove(kind, path)
    os.symlink("x", t.path("parent/link"))
    t.equal("a symlink has none", [name for name in os.listxattr(t.path("parent/link"), follow_symlinks=False)
                                   if name.startswith("system.")], [])
    create(t.path("file"))
    t.expect("EACCES", os.setxattr, t.path("file"), "system.posix_acl_default", acl_value())
    t.expect("EINVAL|EOPNOTSUPP", os.setxattr, t.path("file"), "system.posix_acl_access", b"nonsense")
    acl("setfacl", "-k", t.path("parent"))
    create(t.path("parent/plain"), mode=0o640)
    t.equal("mode without default ACL", oct(mode_of(t.path("parent/plain"))), oct(0o640))


def acl_value():
    entries = ((1, 7, -1), (2, 7, ALICE), (4, 5, -1), (16, 7, -1), (32, 0, -1))
    return struct.pack("<I", 2) + b"".join(struct.pack("<HHi", *entry) for entry in entries)


FS_IOC_GETFLAGS, FS_IOC_SETFLAGS = 0x80086601, 0x40086602
APPEND, IMMUTABLE = 0x20, 0x10


def set_flags(path, flags):
    fd = os.open(path, os.O_RDONLY | os.O_NONBLOCK)
    try:
        old, = struct.unpack("i", fcntl.ioctl(fd, FS_IOC_GETFLAGS, bytes(4)))
        keep = old & ~(APPEND | IMMUTABLE)
        fcntl.ioctl(fd, FS_IOC_SETFLAGS, struct.pack("i", keep | flags))
    finally:
        os.close(fd)


def open_close(path, flags):
    os.close(os.open(path, flags))


@test
def inode_flags(t):
    if not t.has("flags"):
        return
    path = t.path("file")
    create(path)
    os.chown(path, ALICE, STAFF)
    t.expect("EPERM", set_flags, path, IMMUTABLE, who="alice")
    t.expect("EPERM", set_flags, path, APPEND, who="alice")
    os.setxattr(path, "user.a", b"b")
    for flag in (IMMUTABLE, APPEND):
        t.expect("ok", set_flags, path, flag)
        immutable = "EPERM" if flag == IMMUTABLE else "ok"
        before = os.stat(path)
        t.expect("ok", open_close, path, os.O_RDONLY)
        for flags in (os.O_WRONLY, os.O_RDWR, os.O_RDONLY | os.O_TRUNC, os.O_WRONLY | os.O_TRUNC,
                      os.O_WRONLY | os.O_APPEND | os.O_TRUNC):
            t.expect("EPERM", open_close, path, flags)
        t.expect(immutable, open_close, path, os.O_WRONLY | os.O_APPEND)
        for function, arguments in ((os.chmod, (0o600,)), (os.chown, (1, 1)), (os.truncate, (0,)), (os.unlink, ()),
                                    (os.rename, (t.path("new"),)), (os.link, (t.path("new"),)),
                                    (os.setxattr, ("user.b", b"c")), (os.removexattr, ("user.a",))):
            t.expect("EPERM", function, path, *arguments)
        t.expect("EPERM", os.utime, path, ns=(1, 2))
        t.expect(immutable, os.utime, path)
        create(t.path("other"))
        t.expect("EPERM", os.rename, t.path("other"), path)
        os.unlink(t.path("other"))
        t.equal("mode and owner", (os.stat(path).st_mode, os.stat(path).st_uid), (before.st_mode, before.st_uid))
        t.expect("ok", set_flags, path, 0)
    folder = t.path("folder")
    os.mkdir(folder)
    create(t.path("folder/old"))
    for flag in (IMMUTABLE, APPEND):
        t.expect("ok", set_flags, folder, flag)
        adding = "EPERM" if flag == IMMUTABLE else "ok"
        for kind in ("regular", "dir", "fifo", "symlink", "char"):
            name = t.path("folder", f"{kind}-{flag}")
            t.expect(adding, make_plain, kind, name)
        t.expect(adding, os.link, t.path("file"), t.path("folder", f"link-{flag}"))
        t.expect("EPERM", os.unlink, t.path("folder/old"))
        t.expect("EPERM", os.rename, t.path("folder/old"), t.path("folder/new"))
        t.expect("EPERM", os.rename, t.path("folder/old"), t.path("moved"))
        t.expect(adding, rename_new, t.path("incoming"), t.path("folder", f"in-{flag}"))
        t.expect("EPERM", os.rmdir, folder)
        t.expect("EPERM", os.rename, folder, t.path("folder2"))
        t.expect("ok", create, t.path("folder/old"), os.O_WRONLY)
        t.expect("ok", set_flags, folder, 0)


def make_plain(kind, path):
    {"regular": create, "dir": os.mkdir, "fifo": os.mkfifo, "symlink": lambda name: os.symlink("x", name),
     "char": lambda name: os.mknod(name, stat.S_IFCHR | 0o600, os.makedev(1, 3))}[kind](path)


def rename_new(old, new):
    create(old, os.O_CREAT | os.O_WRONLY)
    os.rename(old, new)


class Handle(ctypes.Structure):
    _fields_ = [("bytes", ctypes.c_uint), ("type", ctypes.c_int), ("data", ctypes.c_ubyte * 128)]


def handle_of(path):
    handle, mount = Handle(128, 0), ctypes.c_int()
    libc("name_to_handle_at", AT_FDCWD, os.fsencode(path), ctypes.byref(handle), ctypes.byref(mount), 0)
    return handle


def open_handle(folder, handle, flags):
    fd = os.open(folder, os.O_RDONLY)
    try:
        return libc("open_by_handle_at", fd, ctypes.byref(handle), flags)
    finally:
        os.close(fd)


@test
def file_handles(t):
    if not t.has("handles"):
        return
    for kind in TYPES:
        path = t.path(kind)
        make(kind, path)
        handle = handle_of(path)
        flags = os.O_PATH if kind in ("socket", "char", "block", "symlink") else os.O_RDONLY | os.O_NONBLOCK
        fd = t.expect("ok", open_handle, t.dir, handle, flags)
        t.equal(f"inode of a {kind} by its handle", os.fstat(fd).st_ino, os.lstat(path).st_ino)
        os.close(fd)
        os.rename(path, t.path("renamed"))
        fd = t.expect("ok", open_handle, t.dir, handle, flags)
        os.close(fd)
        remove(kind, t.path("renamed"))
        t.expect("ESTALE", open_handle, t.dir, handle, flags)
        make(kind, path)
        t.expect("ESTALE", open_handle, t.dir, handle, flags)
    with open(t.path("contents"), "wb") as file:
        file.write(b"by handle")
    handle = handle_of(t.path("contents"))
    fd = open_handle(t.dir, handle, os.O_RDWR)
    t.equal("contents", os.read(fd, 100), b"by handle")
    os.unlink(t.path("contents"))
    t.equal("contents without a name", os.pread(fd, 100, 0), b"by handle")
    os.close(fd)
    t.expect("ESTALE", open_handle, t.dir, handle, os.O_RDONLY)


KEEP_SIZE, PUNCH, ZERO = 1, 2, 16


def fallocate(fd, mode, offset, length):
    libc("fallocate", fd, mode, offset, length)


@test
def fallocate_modes(t):
    path = t.path("file")
    fd = os.open(path, os.O_RDWR | os.O_CREAT, 0o644)
    data = bytes(range(1, 251)) * 800
    os.write(fd, data)
    model = bytearray(data)
    for mode in (PUNCH | KEEP_SIZE, ZERO | KEEP_SIZE, ZERO):
        try:
            fallocate(fd, mode, 0, 1)
            model[0] = 0
        except OSError as error:
            t.check(error.errno == errno.EOPNOTSUPP, f"fallocate mode {mode}: {error}")
            continue
        for offset, length in ((4096, 4096), (10, 20), (4000, 10_000), (65536, 70_000), (len(data) - 5, 100)):
            t.expect("ok", fallocate, fd, mode, offset, length)
            end = min(offset + length, len(model))
            model[offset:end] = bytes(end - offset)
            if not mode & KEEP_SIZE and offset + length > len(model):
                model.extend(bytes(offset + length - len(model)))
            t.equal("size", os.fstat(fd).st_size, len(model))
            t.check(os.pread(fd, len(model) + 1, 0) == model, f"contents after mode {mode} at {offset}+{length}")
        os.pwrite(fd, data, 0)
        model[:len(data)] = data
    t.expect("EOPNOTSUPP|EINVAL", fallocate, fd, PUNCH, 0, 4096)
    t.expect("EINVAL", fallocate, fd, KEEP_SIZE, -1, 5)
    t.expect("EINVAL", fallocate, fd, KEEP_SIZE, 0, 0)
    os.ftruncate(fd, 0)
    t.expect("ok", fallocate, fd, KEEP_SIZE, 0, 1 << 20)
    t.equal("size kept", os.fstat(fd).st_size, 0)
    os.close(fd)


@test
def copying_ranges(t):
    a, b = t.path("a"), t.path("b")
    data = bytes(range(256)) * 400
    with open(a, "wb") as file:
        file.write(data)
    source, target = os.open(a, os.O_RDWR), os.open(b, os.O_RDWR | os.O_CREAT, 0o644)
    t.equal("copied", os.copy_file_range(source, target, len(data), 0, 0), len(data))
    t.equal("the copy", os.pread(target, len(data) + 1, 0), data)
    t.equal("copied across the end", os.copy_file_range(source, target, 100, len(data) - 10, 7), 10)
    t.equal("copied from behind the end", os.copy_file_range(source, target, 100, len(data) + 10, 7), 0)
    t.equal("size", os.fstat(target).st_size, len(data))
    t.equal("within a file", os.copy_file_range(source, source, 1000, 0, 50_000), 1000)
    t.equal("its contents", os.pread(source, 1000, 50_000), data[:1000])
    t.expect("EINVAL", os.copy_file_range, source, source, 1000, 0, 500)
    reader = os.open(b, os.O_RDONLY)
    t.expect("EBADF", os.copy_file_range, source, reader, 10, 0, 0)
    appender = os.open(b, os.O_WRONLY | os.O_APPEND)
    t.expect("EBADF", os.copy_file_range, source, appender, 10, 0, 0)
    folder = os.open(t.dir, os.O_RDONLY)
    t.expect("EISDIR", os.copy_file_range, folder, target, 10, 0, 0)
    for fd in (source, target, reader, appender, folder):
        os.close(fd)


