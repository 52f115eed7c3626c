"""What a full filesystem refuses, and that it works again when there is room."""

import errno
import os

from harness import create, make


def fill(root):
    """Takes all the room, to the last inode; returns the files that hold it."""
    holders = []
    for size in (1 << 20, 4096, 0):
        path = os.path.join(root, f"holder-{size}")
        try:
            fd = os.open(path, os.O_WRONLY | os.O_CREAT, 0o644)
        except OSError as error:
            assert error.errno == errno.ENOSPC, error
            return holders
        holders.append(path)
        try:
            while size:
                os.write(fd, bytes(size))
        except OSError as error:
            assert error.errno == errno.ENOSPC, error
        os.close(fd)
    number = 0
    while True:
        try:
            create(os.path.join(root, f"last-{number}"))
        except OSError as error:
            assert error.errno == errno.ENOSPC, error
            return holders
        number += 1


def check(t, root):
    """`t`: a Suite; `root`: a small filesystem, which is filled."""
    t.dir = root
    os.mkdir(os.path.join(root, "folder"))
    create(os.path.join(root, "folder/small"))
    holders = fill(root)
    new = os.path.join(root, "folder/new")
    for _ in range(2):
        for kind in ("dir", "fifo", "symlink", "regular", "socket", "char"):
            t.expect("ENOSPC", make, kind, new)
            t.check(not os.path.lexists(new), f"no {kind} is left behind")
        t.expect("ENOSPC", os.open, os.path.join(root, "folder"), os.O_TMPFILE | os.O_RDWR)
        fd = os.open(holders[0], os.O_WRONLY | os.O_APPEND)
        t.expect("ENOSPC", os.write, fd, bytes(1 << 20))
        t.expect("ENOSPC", os.posix_fallocate, fd, 0, 1 << 36)
        os.close(fd)
        # What needs no room goes on.
        t.expect("ok", os.rename, os.path.join(root, "folder/small"), os.path.join(root, "folder/renamed"))
        t.expect("ok", os.rename, os.path.join(root, "folder/renamed"), os.path.join(root, "folder/small"))
        t.expect("ok", os.chmod, os.path.join(root, "folder/small"), 0o600)
        t.expect("ok", os.utime, os.path.join(root, "folder/small"))
        with open(holders[0], "r+b") as file:
            t.equal("overwriting", file.write(b"over"), 4)
        fd = os.open(holders[0], os.O_RDONLY)
        t.expect("ok", os.fsync, fd)
        os.close(fd)
    for path in holders:
        t.expect("ok", os.unlink, path)
    t.expect("ok", os.mkdir, new)
    with open(os.path.join(root, "again"), "wb") as file:
        t.equal("writing again", file.write(bytes(1 << 20)), 1 << 20)
