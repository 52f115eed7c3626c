"""Making, linking, renaming and removing names: what becomes of files, link counts and times."""

import os
import stat
import subprocess

from harness import (ALICE, LINKABLE, NAME_MAX, NOT_SYMLINKS, STAFF, TYPES, create, kind_of, libc, make, mode_of,
                     next_tick, remove, test)

MAKERS = {
    "regular": lambda path, mode: create(path, mode=mode),
    "regular by mknod": lambda path, mode: os.mknod(path, stat.S_IFREG | mode),
    "dir": os.mkdir,
    "fifo": os.mkfifo,
    "fifo by mknod": lambda path, mode: os.mknod(path, stat.S_IFIFO | mode),
    "block": lambda path, mode: os.mknod(path, stat.S_IFBLK | mode, os.makedev(7, 300)),
    "char": lambda path, mode: os.mknod(path, stat.S_IFCHR | mode, os.makedev(4095, 1048575)),
    "socket by mknod": lambda path, mode: os.mknod(path, stat.S_IFSOCK | mode),
}


def make_with(kind, path, mode, umask):
    old = os.umask(umask)
    try:
        MAKERS[kind](path, mode)
    finally:
        os.umask(old)


@test
def modes_and_umask(t):
    path = t.path("file")
    for kind in MAKERS:
        plain = kind.split()[0]
        for mode in (0o755, 0o151, 0o345, 0o000, 0o777, 0o1777, 0o4711, 0o2711):
            for umask in (0, 0o022, 0o077, 0o070, 0o501, 0o777):
                make_with(kind, path, mode, umask)
                wanted = mode & ~umask
                if kind == "dir":
                    wanted &= 0o1777
                t.equal(f"mode of a {kind} made with {mode:o} under umask {umask:o}", oct(mode_of(path)), oct(wanted))
                t.equal(f"type of a {kind}", kind_of(path), plain)
                remove(plain, path)
    os.mknod(path, stat.S_IFCHR | 0o600, os.makedev(4095, 1048575))
    t.equal("device number", os.stat(path).st_rdev, os.makedev(4095, 1048575))
    os.unlink(path)
    t.expect("ok", os.mknod, path, 0o644)  # type 0 is a regular file
    t.equal("type made of mode alone", kind_of(path), "regular")
    os.unlink(path)
    t.expect("EPERM", os.mknod, path, stat.S_IFDIR | 0o755)
    t.expect("EINVAL", os.mknod, path, stat.S_IFLNK | 0o755)
    for bits in (stat.S_IFCHR, stat.S_IFBLK):
        t.expect("EPERM", os.mknod, "/tmp/never-made", bits | 0o644, os.makedev(1, 3), who="alice")


@test
def owners_of_new_files(t):
    os.chmod(t.dir, 0o777)
    os.mkdir(t.path("set-gid"))
    os.chown(t.path("set-gid"), 0, 4242)
    os.chmod(t.path("set-gid"), 0o2777)
    for kind in MAKERS:
        if kind in ("block", "char"):
            continue
        for folder, gid in ((t.dir, STAFF), (t.path("set-gid"), 4242)):
            path = os.path.join(folder, "file")
            t.expect("ok", make_with, kind, path, 0o644, 0, who="alice")
            made = os.lstat(path)
            t.equal(f"owner of a {kind} in {os.path.basename(folder)}", (made.st_uid, made.st_gid), (ALICE, gid))
            if folder != t.dir and kind == "dir":
                t.equal("mode of a directory in a set-gid directory", oct(mode_of(path)), oct(0o2644))
            t.equal(f"size of a new {kind}", made.st_size if kind != "dir" else 0, 0)
            remove(kind.split()[0], path)
    t.expect("ok", os.symlink, "target", t.path("set-gid/link"), who="alice")
    t.equal("group of a symlink", os.lstat(t.path("set-gid/link")).st_gid, 4242)
    # A set-gid file of a group that its maker is not in loses the bit.
    make_with("regular", t.path("set-gid/root"), 0o2775, 0)
    t.equal("set-gid of root's file", oct(mode_of(t.path("set-gid/root"))), oct(0o2775))
    t.expect("ok", make_with, "regular", t.path("set-gid/alice"), 0o2775, 0, who="alice")
    t.equal("set-gid of a file not in the group", oct(mode_of(t.path("set-gid/alice"))), oct(0o775))


@test
def times_of_new_files(t):
    for kind in TYPES:
        path = t.path("file")
        before = os.stat(t.dir)
        next_tick()
        make(kind, path)
        made, after = os.lstat(path), os.stat(t.dir)
        for name in ("st_atime_ns", "st_mtime_ns", "st_ctime_ns"):
            t.check(getattr(made, name) > before.st_ctime_ns, f"{name} of a new {kind} is that of its making")
        t.check(after.st_mtime_ns > before.st_mtime_ns, f"a new {kind} moves its folder's mtime")
        t.check(after.st_ctime_ns > before.st_ctime_ns, f"a new {kind} moves its folder's ctime")
        t.equal(f"links of a new {kind}", made.st_nlink, 2 if kind == "dir" else 1)
        t.equal(f"links of the folder with a {kind}", after.st_nlink - before.st_nlink, 1 if kind == "dir" else 0)
        t.later(f"the folder when its {kind} is removed", lambda: os.stat(t.dir), lambda: remove(kind, path), "mtime",
                "ctime")
        t.equal(f"links of the folder without the {kind}", os.stat(t.dir).st_nlink, before.st_nlink)
        t.expect("ENOENT", os.lstat, path)
    create(t.path("old"))
    t.later("the folder when an existing file is opened with O_CREAT", lambda: os.stat(t.dir),
            lambda: create(t.path("old"), os.O_CREAT | os.O_RDONLY))
    t.later("the file then", lambda: os.stat(t.path("old")), lambda: create(t.path("old"), os.O_CREAT | os.O_RDWR))


def facts(path):
    """What all names of a file have in common."""
    at = os.lstat(path)
    return at.st_ino, at.st_mode, at.st_nlink, at.st_uid, at.st_gid, at.st_size, at.st_mtime_ns, at.st_ctime_ns


@test
def links(t):
    a, b, c = t.path("a"), t.path("b"), t.path("c")
    for kind in LINKABLE + ("symlink",):
        make(kind, a)
        t.later(f"a {kind} that is linked", lambda: os.lstat(a), lambda: os.link(a, b, follow_symlinks=False), "ctime")
        t.later("the folder", lambda: os.stat(t.dir), lambda: os.link(b, c, follow_symlinks=False), "mtime", "ctime")
        for path in (a, b, c):
            t.equal(f"{kind} by name {path[-1]}", facts(path), facts(a))
            t.equal(f"links of the {kind}", os.lstat(path).st_nlink, 3)
        if kind != "symlink":
            os.chmod(b, 0o201)
        os.lchown(b, 65534, 65533)
        for path in (a, b, c):
            t.equal(f"changed {kind} by name {path[-1]}", facts(path), facts(b))
        t.expect("EEXIST", os.link, a, b, follow_symlinks=False)
        t.later(f"a {kind} that loses a name", lambda: os.lstat(b), lambda: os.unlink(a), "ctime")
        t.expect("ENOENT", os.lstat, a)
        t.equal(f"links of the {kind} without a name", (os.lstat(b).st_nlink, os.lstat(c).st_nlink), (2, 2))
        os.unlink(b)
        t.equal(f"links of the {kind} with its last name", os.lstat(c).st_nlink, 1)
        os.unlink(c)
        t.equal("names left", os.listdir(t.dir), [])
    os.mkdir(a)
    t.expect("EPERM", os.link, a, b)
    os.rmdir(a)


@test
def many_links(t):
    create(t.path("file"))
    for number in range(1500):
        os.link(t.path("file"), t.path(f"link-{number}"))
    t.equal("links", os.stat(t.path("file")).st_nlink, 1501)
    for number in range(1500):
        os.unlink(t.path(f"link-{number}"))
    t.equal("links", os.stat(t.path("file")).st_nlink, 1)


@test
def many_folders(t):
    for number in range(500):
        os.mkdir(t.path(f"folder-{number}"))
    t.equal("links of a folder with 500 in it", os.stat(t.dir).st_nlink, 502)
    for number in range(0, 500, 2):
        os.rmdir(t.path(f"folder-{number}"))
    t.equal("links of a folder with 250 in it", os.stat(t.dir).st_nlink, 252)


@test
def symlink_targets(t):
    for target in ("x", "/", "../..", "a" * NAME_MAX, "a/" * 2000, "b" * 4095, "sp ace", "n\nl", "\xe4\u20ac"):
        os.symlink(target, t.path("link"))
        t.equal(f"target of {len(target)} bytes", os.readlink(t.path("link")), target)
        t.equal("size of the symlink", os.lstat(t.path("link")).st_size, len(os.fsencode(target)))
        t.equal("mode of the symlink", oct(mode_of(t.path("link"))), oct(0o777))
        os.unlink(t.path("link"))
    t.expect("ENAMETOOLONG", os.symlink, "c" * 4096, t.path("link"))
    t.expect("ENOENT", os.symlink, "", t.path("link"))
    t.expect("EINVAL", os.readlink, t.dir)
    create(t.path("file"))
    t.expect("EINVAL", os.readlink, t.path("file"))
    os.symlink("file", t.path("link"))
    t.later("a symlink whose owner changes", lambda: os.lstat(t.path("link")),
            lambda: os.lchown(t.path("link"), 7, 8), "ctime")
    t.equal("owner of the symlink", (os.lstat(t.path("link")).st_uid, os.lstat(t.path("link")).st_gid), (7, 8))
    t.equal("owner of its target", os.stat(t.path("link")).st_uid, 0)
    os.utime(t.path("link"), ns=(11, 22), follow_symlinks=False)
    t.equal("mtime of the symlink", os.lstat(t.path("link")).st_mtime_ns, 22)


@test
def rename_moves_names(t):
    a, b, c = t.path("a"), t.path("b"), t.path("c")
    for kind in TYPES:
        make(kind, a, 0o640)
        before = os.lstat(a)
        t.later("the folder when a name changes", lambda: os.stat(t.dir), lambda: os.rename(a, b), "mtime", "ctime")
        t.expect("ENOENT", os.lstat, a)
        after = os.lstat(b)
        for name in ("st_ino", "st_mode", "st_nlink", "st_uid", "st_mtime_ns", "st_atime_ns"):
            t.equal(f"{name} of a renamed {kind}", getattr(after, name), getattr(before, name))
        if kind in LINKABLE:
            os.link(b, a)
            t.expect("ok", os.rename, b, c)
            t.equal("links", (os.lstat(a).st_nlink, os.lstat(c).st_nlink), (2, 2))
            # Both names are the same file: nothing happens.
            t.expect("ok", os.rename, a, c)
            t.equal("names of one file", sorted(os.listdir(t.dir)), ["a", "c"])
            os.unlink(a)
            os.rename(c, b)
        t.expect("ok", os.rename, b, b)
        t.expect("ENOENT", os.rename, a, b)
        os.mkdir(t.path("other"))
        t.expect("ok", os.rename, b, t.path("other/b"))
        t.equal(f"a {kind} in another folder", kind_of(t.path("other/b")), kind)
        t.expect("ok", os.rename, t.path("other/b"), b)
        os.rmdir(t.path("other"))
        remove(kind, b)
        t.expect("ENOENT", os.rename, b, c)


@test
def rename_replaces(t):
    a, b = t.path("a"), t.path("b")
    for old in TYPES:
        for new in TYPES:
            make(old, a)
            make(new, b)
            number, victim = os.lstat(a).st_ino, os.lstat(b).st_ino
            if new == "dir" and old != "dir":
                t.expect("EISDIR", os.rename, a, b)
            elif old == "dir" and new != "dir":
                t.expect("ENOTDIR", os.rename, a, b)
            else:
                t.expect("ok", os.rename, a, b)
                t.expect("ENOENT", os.lstat, a)
                t.equal(f"inode after a {old} replaced a {new}", os.lstat(b).st_ino, number)
                remove(old, b)
                continue
            t.equal("inodes after a refused rename", (os.lstat(a).st_ino, os.lstat(b).st_ino), (number, victim))
            remove(old, a)
            remove(new, b)
    for kind in LINKABLE:
        make(kind, a)
        make(kind, b)
        os.link(b, t.path("kept"))
        t.later(f"a {kind} that loses a name to a rename", lambda: os.lstat(t.path("kept")), lambda: os.rename(a, b),
                "ctime")
        t.equal("its links", os.lstat(t.path("kept")).st_nlink, 1)
        os.unlink(b)
        os.unlink(t.path("kept"))
    os.mkdir(a)
    os.mkdir(b)
    for kind in TYPES:
        make(kind, t.path("b/inside"))
        t.expect("ENOTEMPTY|EEXIST", os.rename, a, b)
        t.expect("ENOTEMPTY|EEXIST", os.rmdir, b)
        remove(kind, t.path("b/inside"))
    open_victim = os.open(b, os.O_RDONLY)
    t.expect("ok", os.rename, a, b)
    t.equal("links of a replaced folder", os.fstat(open_victim).st_nlink, 0)
    t.equal("its names", os.listdir(open_victim), [])
    t.expect("ENOENT", os.mkdir, "new", dir_fd=open_victim)
    t.expect("ENOENT", create_at, "new", open_victim)
    os.close(open_victim)


def create_at(name, folder):
    os.close(os.open(name, os.O_CREAT | os.O_WRONLY, 0o644, dir_fd=folder))


@test
def rename_of_folders(t):
    os.makedirs(t.path("a/b/c"))
    os.mkdir(t.path("d"))
    t.expect("EINVAL", os.rename, t.path("a"), t.path("a/b/c/d"))
    t.expect("EINVAL", os.rename, t.path("a"), t.path("a/b"))
    t.expect("EINVAL", os.rename, t.path("a"), t.path("a/new"))
    t.expect("ENOTEMPTY|EEXIST|EINVAL", os.rename, t.path("a/b/c"), t.path("a/b"))
    t.expect("ENOTEMPTY|EEXIST", os.rename, t.path("d"), t.path("a"))
    for name in (".", ".."):
        t.expect("EBUSY|EINVAL", os.rename, t.path("a", name), t.path("e"))
        t.expect("EBUSY|EINVAL", os.rename, t.path("d"), t.path("a", name))
    t.equal("links", (os.stat(t.path("a")).st_nlink, os.stat(t.path("d")).st_nlink), (3, 2))
    t.equal("..", os.stat(t.path("a/b/..")).st_ino, os.stat(t.path("a")).st_ino)
    before = os.stat(t.path("a/b/c"))
    t.expect("ok", os.rename, t.path("a/b"), t.path("d/b"))
    t.equal("links after the move", (os.stat(t.path("a")).st_nlink, os.stat(t.path("d")).st_nlink), (2, 3))
    t.equal(".. after the move", os.stat(t.path("d/b/..")).st_ino, os.stat(t.path("d")).st_ino)
    t.equal("what is below it", os.stat(t.path("d/b/c")), before)
    t.expect("ok", os.rename, t.path("d/b"), t.path("a"))
    t.expect("ENOENT", os.stat, t.path("d/b"))
    t.equal("links after replacing", (os.stat(t.path("a")).st_nlink, os.stat(t.path("d")).st_nlink), (3, 2))
    t.equal(".. of the replacing", os.stat(t.path("a/..")).st_ino, os.stat(t.dir).st_ino)
    t.expect("ok", os.rename, t.path("a") + "/", t.path("e") + "/")
    create(t.path("file"))
    t.expect("ENOTDIR", os.rename, t.path("file"), t.path("file2") + "/")
    # Over and over between the same folders.
    os.mkdir(t.path("x"))
    os.mkdir(t.path("y"))
    os.mkdir(t.path("x/moving"))
    for _ in range(50):
        os.rename(t.path("x/moving"), t.path("y/moving"))
        os.rename(t.path("y/moving"), t.path("x/moving"))
    t.equal("links", (os.stat(t.path("x")).st_nlink, os.stat(t.path("y")).st_nlink), (3, 2))


@test
def refused_changes_leave_times(t):
    os.mkdir(t.path("dir"), 0o755)
    for kind in TYPES:
        path = t.path("dir/file")
        make(kind, path, uid=ALICE if kind != "symlink" else None)
        for function, arguments in ((os.rename, (path, path + "2")), (os.link, (path, path + "2")),
                                    (remove, (kind, path))):
            if function is os.link and kind in ("dir", "symlink"):
                continue
            for what in (path, t.path("dir")):
                t.later(f"{what[len(t.dir):]} when {function.__name__} is refused", lambda: os.lstat(what),
                        lambda: t.expect("EACCES", function, *arguments, who="alice"))
        remove(kind, path)


@test
def removing(t):
    for kind in NOT_SYMLINKS:
        make(kind, t.path("file"))
        if kind == "dir":
            t.expect("EISDIR|EPERM", os.unlink, t.path("file"))
            for name in (".", ".."):
                t.expect("EINVAL|ENOTEMPTY|EEXIST|EBUSY", os.rmdir, t.path("file", name))
            t.expect("EINVAL", os.rmdir, t.path("file/."))
            t.expect("ENOTEMPTY|EEXIST", os.rmdir, t.path("file/.."))
        else:
            t.expect("ENOTDIR", os.rmdir, t.path("file"))
        os.symlink("file", t.path("link"))
        t.expect("ENOTDIR", os.rmdir, t.path("link"))
        t.expect("ok", os.unlink, t.path("link"))
        t.equal("target of a removed symlink", kind_of(t.path("file")), kind)
        remove(kind, t.path("file"))
        t.expect("ENOENT", remove, kind, t.path("file"))
    fd = os.open(t.path("open"), os.O_RDWR | os.O_CREAT, 0o600)
    os.write(fd, b"Hello")
    t.later("an open file that loses its last name", lambda: os.fstat(fd), lambda: os.unlink(t.path("open")), "ctime")
    t.equal("its links", os.fstat(fd).st_nlink, 0)
    t.equal("its contents", os.pread(fd, 10, 0), b"Hello")
    t.expect("ok", os.write, fd, b", world")
    t.expect("ok", os.fchmod, fd, 0o604)
    t.expect("ok", os.ftruncate, fd, 9)
    t.expect("ok", os.fsync, fd)
    t.equal("its contents then", os.pread(fd, 100, 0), b"Hello, wo")
    t.equal("its mode then", stat.S_IMODE(os.fstat(fd).st_mode), 0o604)
    t.expect("ENOENT", libc, "linkat", -100, f"/proc/self/fd/{fd}".encode(), -100, os.fsencode(t.path("again")), 0x400)
    os.close(fd)
    os.mkdir(t.path("gone"))
    os.chdir(t.path("gone"))
    os.rmdir(t.path("gone"))
    for function, arguments in ((os.mkdir, ("new",)), (create, ("new",)), (os.symlink, ("x", "new")),
                                (os.mkfifo, ("new",)), (os.getcwd, ())):
        t.expect("ENOENT", function, *arguments)
    t.equal("names in a removed folder", os.listdir("."), [])
    t.equal("its links", os.stat(".").st_nlink, 0)


@test
def at_descriptors(t):
    os.mkdir(t.path("one"))
    os.mkdir(t.path("two"))
    one, two = os.open(t.path("one"), os.O_RDONLY), os.open(t.path("two"), os.O_PATH)
    create_at("file", one)
    os.link("file", "link", src_dir_fd=one, dst_dir_fd=two)
    os.rename("file", "renamed", src_dir_fd=one, dst_dir_fd=two)
    t.equal("names in the second folder", sorted(os.listdir(t.path("two"))), ["link", "renamed"])
    os.symlink("link", "symlink", dir_fd=two)
    t.equal("target at a descriptor", os.readlink("symlink", dir_fd=two), "link")
    os.chmod("symlink", 0o611, dir_fd=two)
    t.equal("mode at a descriptor", oct(mode_of(t.path("two/link"))), oct(0o611))
    os.chown("symlink", 5, 6, dir_fd=two, follow_symlinks=False)
    t.equal("owner at a descriptor", os.lstat(t.path("two/symlink")).st_uid, 5)
    os.rename(t.path("two"), t.path("three"))
    t.equal("a descriptor of a renamed folder", os.stat("link", dir_fd=two).st_nlink, 2)
    AT_SYMLINK_FOLLOW, AT_EMPTY_PATH = 0x400, 0x1000
    t.expect("ok", libc, "linkat", two, b"symlink", one, b"followed", AT_SYMLINK_FOLLOW)
    t.equal("a link that followed a symlink", kind_of(t.path("one/followed")), "regular")
    t.expect("ok", libc, "linkat", two, b"symlink", one, b"itself", 0)
    t.equal("a link to a symlink", kind_of(t.path("one/itself")), "symlink")
    fd = os.open(t.path("one/followed"), os.O_RDONLY)
    t.expect("ok", libc, "linkat", fd, b"", one, b"by-descriptor", AT_EMPTY_PATH)
    t.equal("links", os.fstat(fd).st_nlink, 4)
    t.expect("EINVAL", libc, "linkat", fd, b"", one, b"odd", 0x8)
    t.expect("EINVAL", libc, "unlinkat", one, b"followed", 0x8)
    t.expect("ENOTDIR", libc, "unlinkat", one, b"followed", 0x200)
    for each in (one, two, fd):
        os.close(each)


@test
def mount_points(t):
    """Another filesystem within the folder: EXDEV across, EBUSY for its place."""
    place = t.path("place")
    os.mkdir(place)
    create(t.path("file"))
    os.mkdir(t.path("folder"))
    subprocess.run(["mount", "-t", "tmpfs", "-o", "mode=755", "none", place], check=True)
    try:
        create(t.path("place/file"))
        for here, there in (("file", "place/new"), ("place/file", "new")):
            t.expect("EXDEV", os.rename, t.path(here), t.path(there))
            t.expect("EXDEV", os.link, t.path(here), t.path(there))
        t.expect("EXDEV", os.rename, t.path("folder"), t.path("place/folder"))
        t.expect("EBUSY", os.rmdir, place)
        t.expect("EBUSY", os.rename, place, t.path("elsewhere"))
        t.expect("EBUSY", os.rename, t.path("folder"), place)
        t.expect("EISDIR|EBUSY", os.unlink, place)
    finally:
        subprocess.run(["umount", place], check=True)
    t.equal("names beneath the other filesystem", os.listdir(place), [])
    t.expect("ok", os.rmdir, place)
