"""What a filesystem mounted read-only refuses. Its contents are made by prepare() while it is writable."""

import os

import harness
import paths
from harness import NOT_SYMLINKS, TYPES, create, make


def prepare(root):
    os.mkdir(os.path.join(root, "folder"), 0o777)
    for kind in TYPES:
        make(kind, os.path.join(root, kind), 0o777)
    os.symlink("regular", os.path.join(root, "link"))
    with open(os.path.join(root, "regular"), "wb") as file:
        file.write(b"contents")
    os.mkdir(os.path.join(root, "empty"))
    paths.FOLDER = root
    create(os.path.join(root, "there"))
    os.setxattr(os.path.join(root, "regular"), "user.name", b"value")


def check(t, root):
    """`t`: a Suite; asserts on the read-only filesystem at `root`."""
    t.dir = root

    def path(*names):
        return os.path.join(root, *names)

    for who in (None, "alice"):
        for kind in NOT_SYMLINKS:
            for call in (paths.chmod, paths.utimensat, paths.unlink if kind != "dir" else paths.rmdir,
                         paths.rename_from) + ((paths.lchown,) if who is None else ()):
                t.expect("EROFS", call, path(kind), who=who)
            t.expect("ok", os.lstat, path(kind), who=who)
        for call in paths.CREATING + (paths.open_to_create,):
            t.expect("EROFS", call, path("new"), who=who)
            t.expect("EROFS", call, path("folder/new"), who=who)
        for call in paths.CREATING:
            t.expect("EEXIST", call, path("regular"), who=who)
        for flags in (os.O_WRONLY, os.O_RDWR, os.O_RDONLY | os.O_TRUNC, os.O_WRONLY | os.O_APPEND):
            for name in ("regular", "link"):
                t.expect("EROFS", create, path(name), flags, who=who)
        t.expect("EROFS", paths.truncate, path("regular"), who=who)
        t.expect("EROFS", paths.set_xattr, path("regular"), who=who)
        t.expect("EROFS", os.removexattr, path("regular"), "user.name", who=who)
        t.expect("EROFS", os.rename, path("there"), path("regular"), who=who)
        t.expect("EROFS", paths.rmdir, path("empty"), who=who)
        t.expect("EROFS", os.open, path("folder"), os.O_TMPFILE | os.O_RDWR, who=who)
        t.expect("EROFS", paths.access_to_write, path("regular"), who=who)
        t.expect("ok", create, path("regular"), os.O_RDONLY, who=who)
        t.expect("ok", create, path("regular"), os.O_RDONLY | os.O_CREAT, who=who)
        t.expect("ok", os.listdir, path("folder"), who=who)
        t.equal("an attribute", t.expect("ok", os.getxattr, path("regular"), "user.name", who=who), b"value")
    # Devices, fifos and sockets are no contents of the filesystem.
    fd = t.expect("ok", os.open, path("fifo"), os.O_RDWR | os.O_NONBLOCK)
    os.write(fd, b"x")
    os.close(fd)
    before = os.stat(path("regular"))
    with open(path("regular"), "rb") as file:
        t.equal("contents", file.read(), b"contents")
    t.equal("times after reading", os.stat(path("regular")), before)
    for caller in harness.CALLERS.values():
        caller.stop()
