"""Contents of files: opening flags, sizes, offsets, holes, mappings, limits."""

import ctypes
import errno
import mmap
import os
import random
import resource
import signal
import stat

from harness import NOT_SYMLINKS, create, kind_of, libc, make, mode_of, next_tick, remove, test

LARGEST = 2**63 - 1


def open_close(path, flags, mode=0o644):
    os.close(os.open(path, flags, mode))


@test
def opening_by_type(t):
    path, alias = t.path("file"), t.path("link")
    os.symlink("file", alias)
    for kind in ("regular", "dir", "fifo", "socket"):
        make(kind, path)
        for name in (path, alias):
            writes = {"dir": "EISDIR", "socket": "ENXIO", "fifo": "ENXIO"}.get(kind, "ok")
            reads = {"socket": "ENXIO"}.get(kind, "ok")
            t.expect(reads, open_close, name, os.O_RDONLY | os.O_NONBLOCK)
            t.expect(writes, open_close, name, os.O_WRONLY | os.O_NONBLOCK)
            t.expect("ok" if kind == "fifo" else writes, open_close, name, os.O_RDWR | os.O_NONBLOCK)
            t.expect("EEXIST", open_close, name, os.O_CREAT | os.O_EXCL)
            t.expect("EEXIST", open_close, name, os.O_CREAT | os.O_EXCL | os.O_RDWR)
            t.expect("ok" if kind == "dir" else "ENOTDIR", open_close, name, os.O_DIRECTORY)
            t.expect("EISDIR" if kind == "dir" else reads, open_close, name, os.O_RDONLY | os.O_CREAT | os.O_NONBLOCK)
            t.expect("ok", open_close, name, os.O_PATH)
        if kind == "dir":
            for flags in (os.O_RDONLY | os.O_TRUNC, os.O_WRONLY | os.O_TRUNC, os.O_RDWR | os.O_APPEND):
                t.expect("EISDIR", open_close, path, flags)
        t.expect("ELOOP", open_close, alias, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK)
        t.expect("ok", open_close, alias, os.O_PATH | os.O_NOFOLLOW)
        if kind != "dir":
            t.expect("ENOTDIR", open_close, alias, os.O_RDONLY | os.O_NOFOLLOW | os.O_DIRECTORY)
        remove(kind, path)
    os.symlink("made-through-it", t.path("dangling"))
    t.expect("ENOENT", open_close, t.path("dangling"), os.O_RDWR)
    t.expect("EEXIST", open_close, t.path("dangling"), os.O_CREAT | os.O_EXCL | os.O_RDWR)
    t.expect("ok", open_close, t.path("dangling"), os.O_CREAT | os.O_RDWR)
    t.equal("what was made through a symlink", kind_of(t.path("made-through-it")), "regular")
    t.expect("EISDIR|EINVAL", open_close, t.path("new/") + "", os.O_CREAT | os.O_RDWR)
    t.expect("EISDIR|EINVAL|ENOTDIR", open_close, t.path("new"), os.O_CREAT | os.O_DIRECTORY | os.O_RDWR)
    if os.path.lexists(t.path("new")):
        remove(kind_of(t.path("new")), t.path("new"))


@test
def device_nodes(t):
    os.mknod(t.path("null"), stat.S_IFCHR | 0o666, os.makedev(1, 3))
    os.mknod(t.path("zero"), stat.S_IFCHR | 0o666, os.makedev(1, 5))
    os.mknod(t.path("none"), stat.S_IFCHR | 0o666, os.makedev(4095, 9))
    os.mknod(t.path("no-block"), stat.S_IFBLK | 0o666, os.makedev(4095, 9))
    flags = os.statvfs(t.dir).f_flag
    if not flags & os.ST_NODEV:
        fd = os.open(t.path("zero"), os.O_RDWR)
        t.equal("contents of zero", os.read(fd, 4), bytes(4))
        t.equal("bytes written", os.write(fd, b"abc"), 3)
        os.close(fd)
        t.expect("ok", open_close, t.path("null"), os.O_WRONLY | os.O_TRUNC)
        t.expect("ENXIO|ENODEV", open_close, t.path("none"), os.O_RDONLY)
        t.expect("ENXIO|ENODEV", open_close, t.path("no-block"), os.O_RDONLY)
    t.expect("EINVAL", os.truncate, t.path("null"), 0)


@test
def fifos_and_sockets(t):
    os.mkfifo(t.path("fifo"), 0o666)
    reader = os.open(t.path("fifo"), os.O_RDONLY | os.O_NONBLOCK)
    writer = os.open(t.path("fifo"), os.O_WRONLY | os.O_NONBLOCK)
    t.later("a fifo that is written", lambda: os.stat(t.path("fifo")), lambda: os.write(writer, b"through"), "mtime",
            "ctime") if t.has("fifo-times") else os.write(writer, b"through")
    t.equal("what came through", os.read(reader, 100), b"through")
    t.expect("EINVAL|ESPIPE", os.ftruncate, writer, 0)
    t.expect("ESPIPE", os.lseek, reader, 0, os.SEEK_SET)
    os.close(reader)
    os.close(writer)
    t.expect("EINVAL", os.truncate, t.path("fifo"), 0)


@test
def sizes(t):
    path = t.path("file")
    fd = os.open(path, os.O_RDWR | os.O_CREAT, 0o644)
    size = 0
    for new in (0, 1, 511, 512, 4095, 4096, 4097, 100_000, 65536, 4097, 1, 0, 1_234_567, 2**31 - 1, 2**31, 2**32 + 1,
                2**40, 17, 0):
        t.expect("ok", os.ftruncate if new % 2 else os.truncate, fd if new % 2 else path, new)
        t.equal(f"size after truncating {size} to {new}", os.fstat(fd).st_size, new)
        t.equal("size by name", os.stat(path).st_size, new)
        if new:
            t.equal("last byte", os.pread(fd, 10, new - 1), b"\0")
            t.equal("byte behind the end", os.pread(fd, 10, new), b"")
        size = new
    for bad in (-1, -4096, -2**63):
        t.expect("EINVAL", os.truncate, path, bad)
        t.expect("EINVAL", os.ftruncate, fd, bad)
    for huge in (LARGEST, LARGEST - 4095, 999_999_999_999_999):
        (state, _) = attempt(os.truncate, path, huge)
        t.check(state in ("ok", "EFBIG", "EINVAL"), f"truncate to {huge}: {state}")
        t.equal(f"size after truncate to {huge}: {state}", os.stat(path).st_size, huge if state == "ok" else 0)
        os.truncate(path, 0)
    os.write(fd, b"0123456789" * 1000)
    os.ftruncate(fd, 5000)
    os.ftruncate(fd, 10_000)
    t.equal("what came back after growing", os.pread(fd, 20_000, 0), b"0123456789" * 500 + bytes(5000))
    t.expect("EISDIR", os.truncate, t.dir, 0)
    t.expect("EINVAL", os.pread, fd, 1, -1)
    t.expect("EINVAL", os.pwrite, fd, b"x", -1)
    os.close(fd)


def attempt(function, *arguments):
    try:
        return "ok", function(*arguments)
    except OSError as error:
        return errno.errorcode[error.errno], None


@test
def offsets(t):
    fd = os.open(t.path("file"), os.O_RDWR | os.O_CREAT, 0o644)
    os.write(fd, b"abcdef")
    t.equal("offset", os.lseek(fd, 0, os.SEEK_CUR), 6)
    t.equal("set", os.lseek(fd, 2, os.SEEK_SET), 2)
    t.equal("read there", os.read(fd, 2), b"cd")
    t.equal("end", os.lseek(fd, -1, os.SEEK_END), 5)
    t.equal("beyond the end", os.lseek(fd, 1_000_000, os.SEEK_SET), 1_000_000)
    t.equal("read beyond the end", os.read(fd, 5), b"")
    t.equal("size stays", os.fstat(fd).st_size, 6)
    for offset, whence in ((-1, os.SEEK_SET), (-7, os.SEEK_END), (0, 77), (-1_000_001, os.SEEK_CUR)):
        t.expect("EINVAL", os.lseek, fd, offset, whence)
    t.equal("pread leaves the offset", (os.pread(fd, 2, 0), os.lseek(fd, 0, os.SEEK_CUR)), (b"ab", 1_000_000))
    os.write(fd, b"!")
    t.equal("size with a gap", os.fstat(fd).st_size, 1_000_001)
    t.equal("the gap", os.pread(fd, 1_000_001, 6), bytes(999_994) + b"!")
    appender = os.open(t.path("file"), os.O_WRONLY | os.O_APPEND)
    os.lseek(appender, 0, os.SEEK_SET)
    os.write(appender, b"appended")
    t.equal("offset after appending", os.lseek(appender, 0, os.SEEK_CUR), 1_000_009)
    t.equal("what was appended", os.pread(fd, 100, 1_000_001), b"appended")
    os.ftruncate(fd, 3)
    os.write(appender, b"+")
    t.equal("appended after truncation", os.pread(fd, 100, 0), b"abc+")
    other = os.dup(fd)
    os.lseek(other, 1, os.SEEK_SET)
    t.equal("duplicates share their offset", os.read(fd, 1), b"b")
    t.equal("writev", os.writev(fd, [b"12", b"", b"345"]), 5)
    parts = [bytearray(2), bytearray(3)]
    t.equal("preadv", os.preadv(fd, parts, 2), 5)
    t.equal("its parts", (bytes(parts[0]), bytes(parts[1])), (b"12", b"345"))
    for each in (fd, other, appender):
        os.close(each)


@test
def several_appenders(t):
    path = t.path("file")
    create(path)
    children = []
    for letter in b"abcd":
        pid = os.fork()
        if pid == 0:
            fd = os.open(path, os.O_WRONLY | os.O_APPEND)
            for _ in range(100):
                os.write(fd, bytes([letter]) * 50)
            os._exit(0)
        children.append(pid)
    for pid in children:
        os.waitpid(pid, 0)
    with open(path, "rb") as file:
        contents = file.read()
    t.equal("bytes appended", len(contents), 4 * 100 * 50)
    pieces = [contents[place:place + 50] for place in range(0, len(contents), 50)]
    t.check(all(len(set(piece)) == 1 for piece in pieces), "each append is whole")


@test
def beyond_two_and_four_gib(t):
    for offset in (2**31 - 1, 2**31 + 1, 2**32 - 1, 2**32 + 1, 2**41 + 5):
        fd = os.open(t.path("file"), os.O_RDWR | os.O_CREAT, 0o644)
        os.pwrite(fd, b"there", offset)
        t.equal("size", os.fstat(fd).st_size, offset + 5)
        t.equal("contents", os.pread(fd, 20, offset - 3), bytes(3) + b"there")
        t.check(os.fstat(fd).st_blocks < 1000, "a hole has no blocks")
        os.close(fd)
        os.unlink(t.path("file"))
    fd = os.open(t.path("file"), os.O_RDWR | os.O_CREAT, 0o644)
    t.expect("EFBIG|EINVAL", os.pwrite, fd, b"x", LARGEST)
    t.expect("EINVAL|EFBIG", os.pwrite, fd, b"xy", LARGEST - 1)
    t.equal("size after refusals", os.fstat(fd).st_size <= LARGEST, True)
    os.close(fd)


def in_child(function):
    """0, or what the function returns, from a process of its own."""
    pid = os.fork()
    if pid == 0:
        code = 99
        try:
            code = function() or 0
        except OSError as error:
            code = error.errno
        finally:
            os._exit(code)
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])


@test
def file_size_limit(t):
    path = t.path("file")
    create(path)

    def limited(function):
        def child():
            signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
            resource.setrlimit(resource.RLIMIT_FSIZE, (10_000, 10_000))
            return function(os.open(path, os.O_RDWR))
        return in_child(child)

    t.equal("truncate beyond the limit", limited(lambda fd: os.ftruncate(fd, 10_001)), errno.EFBIG)
    t.equal("truncate to the limit", limited(lambda fd: os.ftruncate(fd, 10_000)), 0)
    t.equal("size", os.stat(path).st_size, 10_000)
    t.equal("write beyond the limit", limited(lambda fd: os.pwrite(fd, b"x", 10_000)), errno.EFBIG)
    t.equal("write across the limit", limited(lambda fd: 0 if os.pwrite(fd, b"x" * 10, 9_995) == 5 else 1), 0)
    t.equal("size then", os.stat(path).st_size, 10_000)
    t.equal("allocate beyond the limit", limited(lambda fd: os.posix_fallocate(fd, 0, 10_001)), errno.EFBIG)

    def killed():
        signal.signal(signal.SIGXFSZ, signal.SIG_DFL)
        resource.setrlimit(resource.RLIMIT_FSIZE, (10_000, 10_000))
        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
        os.truncate(path, 20_000)

    t.equal("signal at the limit", in_child(killed), -signal.SIGXFSZ)


@test
def holes(t):
    path = t.path("file")
    fd = os.open(path, os.O_RDWR | os.O_CREAT, 0o644)
    step = 1 << 20
    for index in (1, 3, 4):
        os.pwrite(fd, b"d" * 65536, index * step)
    os.ftruncate(fd, 6 * step)
    t.equal("first data", os.lseek(fd, 0, os.SEEK_DATA), step)
    t.equal("first hole", os.lseek(fd, 0, os.SEEK_HOLE), 0)
    t.equal("hole behind data", os.lseek(fd, step, os.SEEK_HOLE), step + 65536)
    t.equal("data behind it", os.lseek(fd, step + 65536, os.SEEK_DATA), 3 * step)
    t.equal("data within data", os.lseek(fd, step + 5, os.SEEK_DATA), step + 5)
    t.expect("ENXIO", os.lseek, fd, 5 * step, os.SEEK_DATA)
    t.equal("last hole", os.lseek(fd, 5 * step, os.SEEK_HOLE), 5 * step)
    for offset in (6 * step, 6 * step + 1):
        t.expect("ENXIO", os.lseek, fd, offset, os.SEEK_DATA)
        t.expect("ENXIO", os.lseek, fd, offset, os.SEEK_HOLE)
    t.expect("ENXIO", os.lseek, fd, -1, os.SEEK_DATA)
    os.ftruncate(fd, 0)
    t.expect("ENXIO", os.lseek, fd, 0, os.SEEK_DATA)
    t.expect("ENXIO", os.lseek, fd, 0, os.SEEK_HOLE)
    os.pwrite(fd, b"x" * 100, 0)
    t.equal("data of a small file", os.lseek(fd, 50, os.SEEK_DATA), 50)
    t.equal("the hole at its end", os.lseek(fd, 50, os.SEEK_HOLE), 100)
    os.close(fd)


@test
def mappings(t):
    path = t.path("file")
    size = 3 * 4096 + 100
    fd = os.open(path, os.O_RDWR | os.O_CREAT, 0o644)
    os.write(fd, bytes(range(256)) * 49)
    os.ftruncate(fd, size)
    with mmap.mmap(fd, 4 * 4096 - 4096 + 100) as shared:
        t.equal("mapped contents", shared[:256], bytes(range(256)))
        t.later("a file written through its mapping", lambda: (shared.flush(), os.fstat(fd))[1],
                lambda: shared.__setitem__(slice(0, 5), b"hello"), "mtime", "ctime")
        t.equal("what the mapping wrote, read", os.pread(fd, 5, 0), b"hello")
        os.pwrite(fd, b"WRITTEN", 5000)
        t.equal("what was written, mapped", shared[5000:5007], b"WRITTEN")
        shared.flush()
    with mmap.mmap(fd, 4096, flags=mmap.MAP_PRIVATE, prot=mmap.PROT_READ | mmap.PROT_WRITE) as private:
        private[0:5] = b"other"
        t.equal("a private mapping's write", os.pread(fd, 5, 0), b"hello")
    # Behind the end of the file, the last page is zero, and what a mapping writes there is lost.
    os.ftruncate(fd, 4096 + 10)
    with mmap.mmap(fd, 4096 + 10) as shared:
        t.equal("the end", shared[4096:4106], (bytes(range(256)) * 49)[4096:4106])
    write_behind_the_end(t, fd, 4096 + 10)
    os.ftruncate(fd, 3 * 4096)
    t.equal("grown contents", os.pread(fd, 8192, 4106), bytes(3 * 4096 - 4106))
    os.close(fd)
    fd = os.open(path, os.O_RDONLY)
    t.expect("EACCES", mmap.mmap, fd, 4096, prot=mmap.PROT_READ | mmap.PROT_WRITE)
    t.expect("ok", lambda: mmap.mmap(fd, 4096, prot=mmap.PROT_READ).close())
    os.close(fd)
    fd = os.open(path, os.O_WRONLY)
    t.expect("EACCES", mmap.mmap, fd, 4096, prot=mmap.PROT_READ)
    os.close(fd)
    # A mapping outlives its descriptor and its name.
    fd = os.open(path, os.O_RDWR)
    shared = mmap.mmap(fd, 4096)
    os.close(fd)
    os.unlink(path)
    shared[0:4] = b"late"
    shared.flush()
    t.equal("the mapping of a removed file", shared[0:4], b"late")
    shared.close()


def write_behind_the_end(t, fd, size):
    page = size // 4096 * 4096
    address = libc("mmap", None, 4096, mmap.PROT_READ | mmap.PROT_WRITE, mmap.MAP_SHARED, fd, page)
    ctypes.memset(address + size - page + 5, 0x55, 50)
    libc("msync", ctypes.c_void_p(address), 4096, 4)
    libc("munmap", ctypes.c_void_p(address), 4096)


@test
def mapping_beyond_the_end_is_refused(t):
    path = t.path("file")
    create(path)
    os.truncate(path, 4096)

    def touch():
        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
        fd = os.open(path, os.O_RDWR)
        shared = mmap.mmap(fd, 4096)
        os.ftruncate(fd, 0)
        return shared[0]

    t.equal("a page without file", in_child(touch), -signal.SIGBUS)


@test
def truncation_and_mapping(t):
    """A page that shrinks and grows again has zeros where it was cut."""
    fd = os.open(t.path("file"), os.O_RDWR | os.O_CREAT, 0o644)
    choose = random.Random(4)
    os.ftruncate(fd, 65536)
    for _ in range(200):
        os.ftruncate(fd, 65536)
        with mmap.mmap(fd, 65536) as shared:
            shared[0:65536] = b"\xff" * 65536
        cut = choose.randrange(65536)
        os.ftruncate(fd, cut)
        os.ftruncate(fd, 65536)
        with mmap.mmap(fd, 65536) as shared:
            if not t.check(shared[cut:65536] == bytes(65536 - cut), f"zeros behind {cut}, mapped"):
                break
        t.check(os.pread(fd, 65536, 0) == b"\xff" * cut + bytes(65536 - cut), f"zeros behind {cut}, read")
    os.close(fd)


@test
def synchronous_and_direct(t):
    data = random.Random(5).randbytes(65536)
    for flags in (os.O_SYNC, os.O_DSYNC, os.O_SYNC | os.O_APPEND):
        fd = os.open(t.path("file"), os.O_RDWR | os.O_CREAT | os.O_TRUNC | flags, 0o644)
        t.equal("bytes written", os.write(fd, data), len(data))
        t.equal("what was written", os.pread(fd, len(data), 0), data)
        os.close(fd)
    try:
        fd = os.open(t.path("file"), os.O_RDWR | os.O_DIRECT)
    except OSError:
        return
    memory = mmap.mmap(-1, 65536)
    memory[:] = data[::-1]
    t.equal("bytes written directly", os.pwrite(fd, memory, 0), 65536)
    with open(t.path("file"), "rb") as file:
        t.equal("read through the cache", file.read(), data[::-1])
    with open(t.path("file"), "r+b") as file:
        file.write(b"through the cache")
    os.preadv(fd, [memory], 0)
    t.equal("read directly", memory[:17], b"through the cache")
    os.ftruncate(fd, 65536 - 100)
    t.equal("a direct read at the end", os.preadv(fd, [memory], 61440), 4096 - 100)
    os.close(fd)
    memory.close()


@test
def allocation(t):
    path = t.path("file")
    fd = os.open(path, os.O_RDWR | os.O_CREAT, 0o644)
    t.expect("ok", os.posix_fallocate, fd, 0, 567)
    t.equal("size", os.fstat(fd).st_size, 567)
    t.expect("ok", os.posix_fallocate, fd, 20_000, 3_456)
    t.equal("size", os.fstat(fd).st_size, 23_456)
    t.check(os.fstat(fd).st_blocks * 512 >= 3_456, "blocks are allocated")
    t.expect("ok", os.posix_fallocate, fd, 0, 100)
    t.equal("size stays", os.fstat(fd).st_size, 23_456)
    t.equal("contents", os.pread(fd, 30_000, 0), bytes(23_456))
    for offset, length in ((0, 0), (-1, 5), (5, -1), (0, -1)):
        t.expect("EINVAL", os.posix_fallocate, fd, offset, length)
    t.expect("EFBIG", os.posix_fallocate, fd, LARGEST - 1, 100)
    os.close(fd)
    for kind in NOT_SYMLINKS:
        if kind == "fifo":
            make(kind, t.path(kind))
            fd = os.open(t.path(kind), os.O_RDWR)
            t.expect("ESPIPE", os.posix_fallocate, fd, 0, 1)
            os.close(fd)
    fd = os.open(t.dir, os.O_RDONLY)
    t.expect("EBADF|ENODEV|EISDIR", os.posix_fallocate, fd, 0, 1)
    os.close(fd)


@test
def statistics_of_files(t):
    """st_blocks and st_blksize mean something; unlinking gives the room back."""
    fd = os.open(t.path("file"), os.O_RDWR | os.O_CREAT, 0o644)
    os.write(fd, b"x" * (1 << 20))
    os.fsync(fd)
    at = os.fstat(fd)
    t.check(at.st_blocks * 512 >= 1 << 20, f"{at.st_blocks} blocks hold 1 MiB")
    t.check(at.st_blksize >= 512 and at.st_blksize & (at.st_blksize - 1) == 0, f"block size {at.st_blksize}")
    os.ftruncate(fd, 0)
    os.fsync(fd)
    t.check(os.fstat(fd).st_blocks <= 16, f"{os.fstat(fd).st_blocks} blocks hold nothing")
    os.close(fd)
    volume = os.statvfs(t.dir)
    t.equal("longest name", volume.f_namemax, 255)
    t.check(0 < volume.f_bavail <= volume.f_bfree <= volume.f_blocks, "free and all blocks")
    t.equal("pathconf", (os.pathconf(t.dir, "PC_NAME_MAX"), os.pathconf(t.dir, "PC_PATH_MAX")), (255, 4096))
    next_tick()
    t.equal("mode", oct(mode_of(t.path("file"))), oct(0o644))
