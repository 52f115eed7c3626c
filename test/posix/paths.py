"""What each call answers to paths that lead nowhere: the errors of pathname resolution."""

import ctypes
import os

from harness import (LIBC, NAME_MAX, NOT_SYMLINKS, PATH_MAX, bind_socket, create, kind_of, libc, make, mode_of, remove,
                     test)

# Calls that name an existing file and follow a symlink at the end of its path.


def stat(path):
    return os.stat(path)


def open_to_read(path):
    os.close(os.open(path, os.O_RDONLY | os.O_NONBLOCK))


def open_to_create(path):
    os.close(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_NONBLOCK, 0o644))


def open_to_create_new(path):
    os.close(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o644))


def open_directory(path):
    os.close(os.open(path, os.O_RDONLY | os.O_DIRECTORY))


def chmod(path):
    os.chmod(path, 0o700)


def chown(path):
    os.chown(path, os.geteuid(), -1)


def lchown(path):
    os.lchown(path, os.geteuid(), -1)


def truncate(path):
    os.truncate(path, 0)


def utimensat(path):
    os.utime(path, ns=(1, 1))


def utimensat_of_link(path):
    os.utime(path, ns=(1, 1), follow_symlinks=False)


def statvfs(path):
    os.statvfs(path)


def access(path):
    libc("access", os.fsencode(path), os.F_OK)


def access_to_write(path):
    libc("access", os.fsencode(path), os.W_OK)


def change_directory(path):
    here = os.open(".", os.O_PATH)
    try:
        os.chdir(path)
        os.fchdir(here)
    finally:
        os.close(here)


def execute(path):
    libc("execve", os.fsencode(path), None, None)


def get_xattr(path):
    os.listxattr(path)


def set_xattr(path):
    os.setxattr(path, "user.name", b"value")


# Calls that name an existing file and take a symlink as it is.


def lstat(path):
    return os.lstat(path)


def read_link(path):
    return os.readlink(path)


def unlink(path):
    os.unlink(path)


def rmdir(path):
    os.rmdir(path)


def link_from(path):
    os.link(path, os.path.join(FOLDER, "link-to"), follow_symlinks=False)


def rename_from(path):
    os.rename(path, os.path.join(FOLDER, "renamed"))


# Calls that name a file to be made.


def mkdir(path):
    os.mkdir(path, 0o755)


def mkfifo(path):
    os.mkfifo(path, 0o644)


def mknod_block(path):
    os.mknod(path, 0o060644, os.makedev(1, 2))


def mknod_char(path):
    os.mknod(path, 0o020644, os.makedev(1, 2))


def mknod_regular(path):
    os.mknod(path, 0o100644)


def symlink(path):
    os.symlink("target", path)


def link_to(path):
    os.link(os.path.join(FOLDER, "there"), path)


def rename_to(path):
    os.rename(os.path.join(FOLDER, "there"), path)


def bind(path):
    bind_socket(path)


FOLDER = "/"
FOLLOWING = (stat, open_to_read, open_directory, chmod, chown, truncate, utimensat, statvfs, access, change_directory,
             execute, get_xattr, set_xattr)
NOT_FOLLOWING = (lstat, lchown, read_link, unlink, rmdir, link_from, rename_from, utimensat_of_link)
CREATING = (mkdir, mkfifo, mknod_block, mknod_char, mknod_regular, symlink, link_to, open_to_create_new)
EXISTING = FOLLOWING + NOT_FOLLOWING
ALL = EXISTING + CREATING + (open_to_create, rename_to)


def prepare(t):
    global FOLDER
    FOLDER = t.dir
    create(t.path("there"))


@test
def component_does_not_exist(t):
    prepare(t)
    os.symlink("nothing", t.path("dangling"))
    for call in ALL:
        t.expect("ENOENT", call, t.path("absent/name"))
        t.expect("ENOENT", call, t.path("absent/more/name"))
        t.expect("ENOENT", call, t.path("dangling/name"))
        t.expect("ENOENT", call, "")
    for call in EXISTING:
        t.expect("ENOENT", call, t.path("absent"))
    for call in FOLLOWING:
        t.expect("ENOENT", call, t.path("dangling"))


@test
def component_is_no_directory(t):
    prepare(t)
    for kind in NOT_SYMLINKS:
        if kind == "dir":
            continue
        make(kind, t.path(kind))
        os.symlink(kind, t.path(f"{kind}-link"))
        for call in ALL:
            t.expect("ENOTDIR", call, t.path(kind, "name"))
            t.expect("ENOTDIR", call, t.path(kind, "more", "name"))
            t.expect("ENOTDIR", call, t.path(f"{kind}-link", "name"))
            t.expect("ENOTDIR", call, t.path(kind, ".."))
        for call in (stat, lstat, chmod, chown, lchown, truncate, utimensat, statvfs, access, open_directory, rmdir,
                     change_directory, unlink, read_link, rename_from):
            t.expect("ENOTDIR", call, t.path(kind) + "/")
        t.expect("ENOTDIR", rmdir, t.path(kind))
        t.expect("ENOTDIR", open_directory, t.path(kind))
        t.expect("ENOTDIR", change_directory, t.path(kind))
        t.equal("after all this", kind_of(t.path(kind)), kind)


@test
def name_is_too_long(t):
    prepare(t)
    longest = "x" * NAME_MAX
    for call in ALL:
        t.expect("ENAMETOOLONG", call, t.path(longest + "x"))
        t.expect("ENAMETOOLONG", call, t.path("y" * 1024))
        t.expect("ENAMETOOLONG", call, t.path("y" * 1025))
        t.expect("ENAMETOOLONG", call, t.path("z" * 4000))
        t.expect("ENAMETOOLONG", call, t.path(longest + "x", "name"))
    for call in CREATING:
        t.expect("ok", call, t.path(longest))
        t.check(os.path.lexists(t.path(longest)), f"{call.__name__} made the longest name")
        t.equal("the folder's names", sorted(os.listdir(t.dir)), ["there", longest])
        remove(kind_of(t.path(longest)), t.path(longest))
    t.expect("ok", rename_to, t.path(longest))
    t.expect("ok", stat, t.path(longest))
    t.expect("ok", os.rename, t.path(longest), t.path("there"))
    t.expect("ENOENT", stat, t.path(longest))


def deep_folder(t, length):
    """Folders within each other whose path with a name of 10 bytes behind it has `length` bytes."""
    path = t.dir
    os.chdir(path)
    while len(path) + 12 < length:
        name = "d" * min(NAME_MAX, length - len(path) - 12)
        if len(path) + 1 + len(name) + 11 > length - 2 and len(path) + 1 + len(name) + 11 != length:
            name = name[:-5]
        os.mkdir(name)
        os.chdir(name)
        path += "/" + name
    return path


@test
def path_is_too_long(t):
    prepare(t)
    folder = deep_folder(t, PATH_MAX - 1)
    os.chdir(t.base)
    longest = folder + "/" + "n" * (PATH_MAX - 2 - len(folder))
    t.equal("the longest path's length", len(longest), PATH_MAX - 1)
    for call in ALL:
        t.expect("ENAMETOOLONG", call, longest + "n")
        t.expect("ENAMETOOLONG", call, longest + "n" * 1000)
    for call in CREATING[:-1] + (open_to_create,):
        t.expect("ok", call, longest)
        t.expect("ok", lstat, longest)
        remove(kind_of(longest), longest)
    for call in EXISTING:
        t.expect("ENOENT", call, longest)
    # Longer than any path: each folder is entered on its own.
    os.chdir(folder)
    for depth in range(40):
        name = f"{depth:03}" * 80
        os.mkdir(name)
        os.chdir(name)
    create("bottom")
    t.equal("names at the bottom", os.listdir("."), ["bottom"])
    os.unlink("bottom")
    for depth in reversed(range(40)):
        os.chdir("..")
        t.expect("ok", os.rmdir, f"{depth:03}" * 80)


@test
def symlinks_go_round(t):
    prepare(t)
    os.symlink("b", t.path("a"))
    os.symlink("a", t.path("b"))
    os.symlink("self", t.path("self"))
    for loop in ("a", "b", "self"):
        for call in ALL:
            t.expect("ELOOP", call, t.path(loop, "name"))
        for call in FOLLOWING + (open_to_create,):
            if call is open_directory:
                t.expect("ELOOP|ENOTDIR", call, t.path(loop))
            else:
                t.expect("ELOOP", call, t.path(loop))
        for call in CREATING:
            t.expect("EEXIST", call, t.path(loop))
        t.expect("ok", lstat, t.path(loop))
        t.expect("ok", read_link, t.path(loop))
    t.expect("ELOOP", os.open, t.path("self"), os.O_RDONLY | os.O_NOFOLLOW)
    os.symlink("there", t.path("to-there"))
    t.expect("ELOOP", os.open, t.path("to-there"), os.O_RDONLY | os.O_NOFOLLOW)
    # 40 symlinks may be followed, not 41.
    os.symlink("there", t.path("chain-0"))
    for number in range(1, 41):
        os.symlink(f"chain-{number - 1}", t.path(f"chain-{number}"))
    t.expect("ok", stat, t.path("chain-39"))
    t.expect("ELOOP", stat, t.path("chain-40"))


@test
def folder_must_not_be_searched(t):
    prepare(t)
    os.chmod(t.dir, 0o777)
    os.mkdir(t.path("closed"))
    create(t.path("closed/file"))
    os.mkdir(t.path("closed/folder"))
    for mode in (0o600, 0o644, 0o666, 0o766, 0o000):
        os.chmod(t.path("closed"), mode)
        for call in ALL:
            t.expect("EACCES", call, t.path("closed/file"), who="alice")
            t.expect("EACCES", call, t.path("closed/absent"), who="alice")
            t.expect("EACCES", call, t.path("closed/folder/name"), who="alice")
        t.expect("ok", stat, t.path("closed/file"))


@test
def folder_must_not_be_written(t):
    prepare(t)
    os.mkdir(t.path("readable"))
    for kind in NOT_SYMLINKS + ("symlink",):
        make(kind, t.path("readable", kind))
    os.chmod(t.path("there"), 0o666)
    for mode in (0o755, 0o705, 0o751):
        os.chmod(t.path("readable"), mode)
        for call in CREATING + (open_to_create,):
            if call is link_to:
                continue
            t.expect("EACCES", call, t.path("readable/new"), who="alice")
        t.expect("EACCES", os.rename, t.path("readable/regular"), t.path("readable/new"), who="alice")
        for kind in NOT_SYMLINKS + ("symlink",):
            t.expect("EACCES", rmdir if kind == "dir" else unlink, t.path("readable", kind), who="alice")
            for call in (mkdir, mkfifo, mknod_regular, symlink, open_to_create_new):
                t.expect("EEXIST", call, t.path("readable", kind), who="alice")
        t.expect("ENOENT", unlink, t.path("readable/absent"), who="alice")
        t.expect("ENOENT", rmdir, t.path("readable/absent"), who="alice")


@test
def name_is_taken(t):
    prepare(t)
    for kind in NOT_SYMLINKS + ("symlink",):
        make(kind, t.path("taken"))
        before = os.lstat(t.path("taken"))
        folder = os.lstat(t.dir)
        for call in CREATING:
            t.expect("EEXIST", call, t.path("taken"))
        after = os.lstat(t.path("taken"))
        t.equal(f"{kind} after refused calls", after, before)
        t.equal(f"the folder after refused calls on a {kind}", os.lstat(t.dir), folder)
        remove(kind, t.path("taken"))
    for name in (".", ".."):
        for call in CREATING:
            t.expect("EEXIST|EINVAL" if call is not open_to_create_new else "EEXIST|EISDIR", call, t.path(name))
    os.mkdir(t.path("folder"))
    for call in CREATING:
        t.expect("EEXIST|EISDIR", call, t.path("folder") + "/")


@test
def pointers_lead_nowhere(t):
    bad = ctypes.c_void_p(0xDEADC0DE)
    good = os.fsencode(t.path("name"))
    here = -100
    calls = [("open", bad, 0), ("mkdir", bad, 0o755), ("rmdir", bad), ("unlink", bad), ("mkfifo", bad, 0o644),
             ("mknod", bad, 0o100644, 0), ("symlink", bad, good), ("symlink", good, bad), ("link", bad, good),
             ("link", good, bad), ("rename", bad, good), ("rename", good, bad), ("chmod", bad, 0o644),
             ("chown", bad, 0, 0), ("lchown", bad, 0, 0), ("truncate", bad, 0), ("chdir", bad), ("access", bad, 0),
             ("utimensat", here, bad, None, 0), ("readlink", bad, bad, 10), ("statfs", good, bad)]
    create(t.path("name"))
    for name, *arguments in calls:
        t.expect("EFAULT", libc, name, *arguments)
    fd = os.open(t.path("name"), os.O_RDWR)
    t.expect("EFAULT", libc, "write", fd, bad, 10)
    os.write(fd, b"0123456789")
    t.expect("EFAULT", libc, "pread", fd, bad, 10, 0)
    t.expect("ok", libc, "pread", fd, bad, 10, 10)  # nothing to copy at the end
    os.close(fd)
    t.equal("size after writing from nowhere", os.stat(t.path("name")).st_size, 10)


@test
def descriptors_lead_nowhere(t):
    closed = os.open(t.dir, os.O_RDONLY)
    os.close(closed)
    for function, arguments in ((os.fchmod, (0,)), (os.fchown, (0, 0)), (os.ftruncate, (0,)), (os.fsync, ()),
                                (os.fdatasync, ()), (os.fstat, ()), (os.fchdir, ()), (os.lseek, (0, 0)),
                                (os.write, (b"x",)), (os.read, (1,)), (os.posix_fallocate, (0, 1))):
        t.expect("EBADF", function, closed, *arguments)
    t.expect("EBADF", os.open, "name", os.O_CREAT | os.O_WRONLY, dir_fd=closed)
    t.expect("EBADF", os.mkdir, "name", dir_fd=closed)
    t.expect("EBADF", os.unlink, "name", dir_fd=closed)
    create(t.path("file"))
    fd = os.open(t.path("file"), os.O_RDONLY)
    t.expect("ENOTDIR", os.mkdir, "name", dir_fd=fd)
    t.expect("ENOTDIR", os.open, "name", os.O_RDONLY, dir_fd=fd)
    t.expect("ENOTDIR", os.unlink, "name", dir_fd=fd)
    t.expect("ENOTDIR", os.fchdir, fd)
    t.expect("EBADF", os.write, fd, b"x")
    t.expect("EINVAL|EBADF", os.ftruncate, fd, 0)
    t.expect("EBADF", os.posix_fallocate, fd, 0, 1)
    os.close(fd)
    fd = os.open(t.path("file"), os.O_WRONLY)
    t.expect("EBADF", os.read, fd, 1)
    os.close(fd)
    fd = os.open(t.dir, os.O_RDONLY)
    t.expect("EISDIR", os.read, fd, 1)
    t.expect("EBADF", os.write, fd, b"x")
    t.expect("EINVAL|EBADF", os.ftruncate, fd, 0)
    t.expect("ok", os.mkdir, "made", dir_fd=fd)
    t.expect("ok", os.fsync, fd)
    t.expect("ok", os.fdatasync, fd)
    os.close(fd)
    t.equal("folder made at a descriptor", kind_of(t.path("made")), "dir")
    t.equal("its mode", mode_of(t.path("made")) | 0o777, 0o777)


assert LIBC  # the library is loaded before any caller is forked
