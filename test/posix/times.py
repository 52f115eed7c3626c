"""Times: which calls move which, utimensat's rights, precision and range."""

import ctypes
import os

from harness import (ALICE, NOT_SYMLINKS, STAFF, TYPES, create, libc, make, next_tick, remove, test)

UTIME_NOW = (1 << 30) - 1
UTIME_OMIT = (1 << 30) - 2
AT_FDCWD = -100
AT_SYMLINK_NOFOLLOW = 0x100


def utimensat(path, atime, mtime, flags=0):
    """Each time is (seconds, nanoseconds)."""
    times = (ctypes.c_int64 * 4)(*atime, *mtime)
    libc("utimensat", AT_FDCWD, os.fsencode(path), ctypes.addressof(times), flags)


NOW, OMIT = (0, UTIME_NOW), (0, UTIME_OMIT)


@test
def values(t):
    path = t.path("file")
    for kind in TYPES:
        make(kind, path)
        for atime in ((0, 0), (1, 999_999_999), (100_000_000, 100_000_000), (2**31 - 1, 5), (2**31, 0), (-1, 1)):
            for mtime in ((200_000_000, 200_000_000), (2**32, 7), (-2**31, 0), (2**33, 123_456_789)):
                t.expect("ok", utimensat, path, atime, mtime, AT_SYMLINK_NOFOLLOW)
                at = os.lstat(path)
                t.equal(f"times of a {kind}", (divmod(at.st_atime_ns, 10**9), divmod(at.st_mtime_ns, 10**9)),
                        (atime, mtime))
        for bad in ((0, 10**9), (0, -1), (5, 2**31 - 1)):
            t.expect("EINVAL", utimensat, path, bad, (0, 0), AT_SYMLINK_NOFOLLOW)
            t.expect("EINVAL", utimensat, path, (0, 0), bad, AT_SYMLINK_NOFOLLOW)
        remove(kind, path)


@test
def now_and_omit(t):
    path = t.path("file")
    for kind in NOT_SYMLINKS:
        make(kind, path)
        for atime in ((5, 5), NOW, OMIT):
            for mtime in ((6, 6), NOW, OMIT):
                utimensat(path, (1, 1), (2, 2))
                before = os.stat(path)
                next_tick()
                t.expect("ok", utimensat, path, atime, mtime)
                after = os.stat(path)
                for what, wanted, name, old in (("atime", atime, "st_atime_ns", 1_000_000_001),
                                                ("mtime", mtime, "st_mtime_ns", 2_000_000_002)):
                    value = getattr(after, name)
                    if wanted == NOW:
                        t.check(value > before.st_ctime_ns, f"{what} is now: {value} after {before.st_ctime_ns}")
                        t.equal(f"ctime with {what} now", after.st_ctime_ns, value)
                    elif wanted == OMIT:
                        t.equal(f"omitted {what}", value, old)
                    else:
                        t.equal(f"given {what}", divmod(value, 10**9), wanted)
                if atime == OMIT and mtime == OMIT:
                    t.equal("ctime when nothing changes", after.st_ctime_ns, before.st_ctime_ns)
                else:
                    t.check(after.st_ctime_ns > before.st_ctime_ns, f"ctime moves with {atime} {mtime}")
        next_tick()
        before = os.stat(path).st_ctime_ns
        libc("utimensat", AT_FDCWD, os.fsencode(path), None, 0)
        after = os.stat(path)
        t.check(after.st_atime_ns > before and after.st_mtime_ns > before, "no times given means now")
        remove(kind, path)


@test
def utimensat_rights(t):
    path = t.path("file")
    for kind in ("regular", "dir", "fifo", "char"):
        make(kind, path, 0o644, ALICE, STAFF)
        given = ((1, 1), (2, 2))
        for mode in (0o644, 0o444, 0o000, 0o666, 0o222):
            os.chmod(path, mode)
            writable = "ok" if mode & 0o002 else "EACCES"
            for who, to_now, to_given in (("alice", "ok", "ok"), ("carol", writable, "EPERM"), (None, "ok", "ok")):
                t.expect(to_now, utimensat, path, NOW, NOW, who=who)
                t.expect(to_given, utimensat, path, *given, who=who)
                t.expect(to_given, utimensat, path, NOW, (2, 2), who=who)
                t.expect(to_given, utimensat, path, (1, 1), NOW, who=who)
                t.expect(to_given, utimensat, path, NOW, OMIT, who=who)
                t.expect(to_given, utimensat, path, OMIT, NOW, who=who)
                t.expect("ok", utimensat, path, OMIT, OMIT, who=who)
                t.expect(to_now, os.utime, path, who=who)
        remove(kind, path)


@test
def symlinks_are_followed_or_not(t):
    create(t.path("file"))
    os.symlink("file", t.path("link"))
    utimensat(t.path("link"), (10, 0), (20, 0))
    t.equal("mtime of the target", os.stat(t.path("file")).st_mtime, 20)
    utimensat(t.path("link"), (30, 0), (40, 0), AT_SYMLINK_NOFOLLOW)
    t.equal("mtime of the target", os.stat(t.path("file")).st_mtime, 20)
    t.equal("mtime of the symlink", os.lstat(t.path("link")).st_mtime, 40)
    fd = os.open(t.path("file"), os.O_RDONLY)
    os.utime(fd, ns=(50, 60))
    t.equal("mtime by descriptor", os.fstat(fd).st_mtime_ns, 60)
    os.close(fd)


@test
def contents_and_times(t):
    path = t.path("file")
    fd = os.open(path, os.O_RDWR | os.O_CREAT, 0o644)

    def times():
        return os.stat(path)

    both = ("mtime", "ctime")
    t.later("write", times, lambda: os.write(fd, b"data"), *both)
    t.later("a write of nothing", times, lambda: os.write(fd, b""))
    t.later("fsync", times, lambda: os.fsync(fd))
    t.later("overwriting", times, lambda: os.pwrite(fd, b"data", 0), *both)
    t.later("ftruncate to more", times, lambda: os.ftruncate(fd, 100), *both)
    t.later("ftruncate to less", times, lambda: os.ftruncate(fd, 10), *both)
    t.later("ftruncate to the same", times, lambda: os.ftruncate(fd, 10), *both)
    t.later("truncate to more", times, lambda: os.truncate(path, 100), *both)
    t.later("truncate to less", times, lambda: os.truncate(path, 10), *both)
    t.later("lseek", times, lambda: os.lseek(fd, 1, os.SEEK_SET))
    t.later("O_TRUNC", times, lambda: os.close(os.open(path, os.O_WRONLY | os.O_TRUNC)), *both)
    t.later("O_TRUNC of an empty file", times, lambda: os.close(os.open(path, os.O_WRONLY | os.O_TRUNC)), *both)
    t.later("opening to write", times, lambda: os.close(os.open(path, os.O_RDWR)))
    t.later("opening to append", times, lambda: os.close(os.open(path, os.O_WRONLY | os.O_APPEND)))
    t.later("posix_fallocate to more", times, lambda: os.posix_fallocate(fd, 0, 567), *both)
    t.equal("size then", os.stat(path).st_size, 567)
    t.later("a refused posix_fallocate", times, lambda: t.expect("EINVAL", os.posix_fallocate, fd, 0, 0))
    t.later("a refused truncate", times, lambda: t.expect("EINVAL", os.truncate, path, -1))
    t.later("a refused truncate by another", times, lambda: t.expect("EACCES", os.truncate, path, 0, who="carol"))
    t.later("setxattr", times, lambda: os.setxattr(path, "user.a", b"b"), "ctime")
    t.later("getxattr", times, lambda: os.getxattr(path, "user.a"))
    t.later("removexattr", times, lambda: os.removexattr(path, "user.a"), "ctime")
    t.later("chmod to the same", times, lambda: os.chmod(path, 0o644), "ctime")
    t.later("stat", times, lambda: os.stat(path))
    os.close(fd)


@test
def reading_and_times(t):
    """What has not been read since it was written or changed has an older atime (relatime), which reading moves."""
    path = t.path("file")
    os.close(os.open(path, os.O_WRONLY | os.O_CREAT, 0o644))

    def write():
        fd = os.open(path, os.O_WRONLY)
        os.write(fd, b"data")
        os.close(fd)

    def read(offset=0):
        fd = os.open(path, os.O_RDONLY)
        t.equal("contents", os.pread(fd, 100, offset), b"data"[offset:])
        os.close(fd)

    def times():
        return os.stat(path)

    for _ in range(3):
        write()
        t.later("opening without reading", times, lambda: os.close(os.open(path, os.O_RDONLY)))
        t.later("reading what was just written", times, read, "atime")
        t.later("reading again", times, read)
        t.later("reading a part again", times, lambda: read(2))
    utimensat(path, (1, 0), (2, 0))
    t.later("reading when it was changed", times, read, "atime")
    os.chmod(path, 0o600)
    fd = os.open(path, os.O_RDONLY | os.O_NOATIME)
    t.later("reading with O_NOATIME", times, lambda: os.read(fd, 100))
    os.close(fd)
    with open(path, "rb") as file:
        t.later("reading through an older descriptor", times, lambda: file.read(), "atime")
    os.mkdir(t.path("folder"))
    create(t.path("folder/file"))
    utimensat(t.path("folder"), (1, 0), (2, 0))
    t.later("listing", lambda: os.stat(t.path("folder")), lambda: os.listdir(t.path("folder")), "atime")
    create(t.path("folder/second"))
    t.later("listing what changed", lambda: os.stat(t.path("folder")), lambda: os.listdir(t.path("folder")), "atime")
    os.symlink("folder", t.path("link"))
    utimensat(t.path("link"), (1, 0), (2, 0), AT_SYMLINK_NOFOLLOW)
    t.later("readlink", lambda: os.lstat(t.path("link")), lambda: os.readlink(t.path("link")), "atime")
