"""Who may do what: mode bits, owners, groups, sticky folders, set-id bits."""

import os
import stat

from harness import (ALICE, BOB, CAROL, GUESTS, NOT_SYMLINKS, OTHERS, STAFF, TYPES, bind_socket, create, make, mode_of,
                     remove, test)
from names import make_with

USERS = {"alice": 0o700, "bob in staff": 0o070, "carol": 0o007}  # the class of each at a file of ALICE and STAFF


def open_close(path, flags):
    os.close(os.open(path, flags | os.O_NONBLOCK))


def access(path, how):
    if not os.access(path, how):
        raise OSError(13, "no access")


def list_folder(path):
    os.listdir(path)


@test
def bits_of_files(t):
    path = t.path("file")
    make("regular", path, uid=ALICE, gid=STAFF)
    for user, mask in USERS.items():
        for bits in range(8):
            for others in (0, 0o777):
                mode = (bits * 0o111 & mask) | (others & ~mask)
                os.chmod(path, mode)
                for need, flags in ((4, os.O_RDONLY), (2, os.O_WRONLY), (6, os.O_RDWR), (2, os.O_WRONLY | os.O_TRUNC),
                                    (2, os.O_WRONLY | os.O_APPEND), (4, os.O_RDONLY | os.O_CREAT),
                                    (6, os.O_RDONLY | os.O_TRUNC)):
                    wanted = "ok" if bits & need == need else "EACCES"
                    t.expect(wanted, open_close, path, flags, who=user)
                for how in range(1, 8):
                    t.expect("ok" if bits & how == how else "EACCES", access, path, how, who=user)
                t.expect("ok" if bits & 2 else "EACCES", os.truncate, path, 0, who=user)
                t.expect("ok", os.stat, path, who=user)


@test
def bits_of_folders(t):
    for user, mask in USERS.items():
        for bits in range(8):
            folder = t.path("folder")
            os.mkdir(folder)
            create(t.path("folder/file"))
            os.mkdir(t.path("folder/sub"))
            os.chown(folder, ALICE, STAFF)
            os.chmod(folder, (bits * 0o111 & mask) | (0o777 & ~mask))
            t.expect("ok" if bits & 4 else "EACCES", list_folder, folder, who=user)
            t.expect("ok" if bits & 1 else "EACCES", os.stat, t.path("folder/file"), who=user)
            t.expect("ok" if bits & 1 else "EACCES", open_close, t.path("folder/file"), os.O_RDONLY, who=user)
            t.expect("ok" if bits & 1 else "EACCES", list_folder, t.path("folder/sub"), who=user)
            t.expect("EISDIR", open_close, folder, os.O_WRONLY)
            may_write = "ok" if bits & 3 == 3 else "EACCES"
            t.expect(may_write, os.rename, t.path("folder/file"), t.path("folder/file2"), who=user)
            for kind in ("regular", "dir", "fifo", "regular by mknod", "socket by mknod"):
                t.expect(may_write, make_with, kind, t.path("folder", kind), 0o644, 0, who=user)
            t.expect(may_write, bind_socket, t.path("folder/bound"), who=user) if bits & 1 else None
            t.expect(may_write, os.symlink, "x", t.path("folder/symlink"), who=user)
            for name in ("regular", "fifo", "symlink", "file2"):
                wanted = may_write if os.path.lexists(t.path("folder", name)) or not bits & 1 else "ENOENT"
                t.expect(wanted, os.unlink, t.path("folder", name), who=user)
            t.expect(may_write, os.rmdir, t.path("folder/sub"), who=user)
            for name in os.listdir(folder):
                remove("dir" if os.path.isdir(t.path("folder", name)) else "file", t.path("folder", name))
            os.rmdir(folder)


@test
def sticky_folders(t):
    os.mkdir(t.path("own"))
    os.chown(t.path("own"), ALICE, STAFF)
    sticky = t.path("sticky")
    os.mkdir(sticky)
    for folder_owner in (0, ALICE, BOB):
        for file_owner in (0, ALICE, BOB):
            os.chown(sticky, folder_owner, folder_owner)
            os.chmod(sticky, 0o1777)
            wanted = "ok" if ALICE in (folder_owner, file_owner) else "EPERM|EACCES"
            for kind in TYPES:
                path = t.path("sticky/file")
                make(kind, path, uid=file_owner, gid=file_owner)
                t.expect(wanted, os.rename, path, t.path("sticky/renamed"), who="alice")
                t.check(os.path.lexists(t.path("sticky/renamed" if wanted == "ok" else "sticky/file")), "renamed or not")
                if wanted == "ok":
                    os.rename(t.path("sticky/renamed"), path)
                    if kind == "dir" and file_owner != ALICE:  # its .. would change
                        t.expect("EACCES", os.rename, path, t.path("own/moved"), who="alice")
                    else:
                        t.expect("ok", os.rename, path, t.path("own/moved"), who="alice")
                        os.rename(t.path("own/moved"), path)
                else:
                    t.expect("EPERM|EACCES", os.rename, path, t.path("own/moved"), who="alice")
                t.expect(wanted, remove, kind, path, who="alice")
                if wanted != "ok":
                    remove(kind, path)
                # Replacing what is there.
                for mine in TYPES if kind != "dir" else ("dir",):
                    if (mine == "dir") != (kind == "dir"):
                        continue
                    make(mine, t.path("own/mine"), uid=ALICE, gid=STAFF)
                    make(kind, path, uid=file_owner, gid=file_owner)
                    before = os.lstat(t.path("own/mine")).st_ino, os.lstat(path).st_ino
                    t.expect(wanted, os.rename, t.path("own/mine"), path, who="alice")
                    if wanted == "ok":
                        t.equal("inode after replacing", os.lstat(path).st_ino, before[0])
                        remove(mine, path)
                    else:
                        t.equal("inodes after a refusal",
                                (os.lstat(t.path("own/mine")).st_ino, os.lstat(path).st_ino), before)
                        remove(mine, t.path("own/mine"))
                        remove(kind, path)


@test
def moving_folders_of_others(t):
    for name in ("from", "to"):
        os.mkdir(t.path(name))
        os.chmod(t.path(name), 0o777)
    for mode, wanted in ((0o777, "ok"), (0o755, "EACCES")):
        os.mkdir(t.path("from/folder"))
        os.chmod(t.path("from/folder"), mode)
        t.expect("ok", os.rename, t.path("from/folder"), t.path("from/renamed"), who="alice")
        t.expect(wanted, os.rename, t.path("from/renamed"), t.path("to/folder"), who="alice")
        for path in ("to/folder", "from/renamed"):
            if os.path.exists(t.path(path)):
                os.rmdir(t.path(path))


@test
def chmod_rights(t):
    path, alias = t.path("file"), t.path("link")
    os.symlink("file", alias)
    for kind in NOT_SYMLINKS:
        make(kind, path, 0o640, ALICE, STAFF)
        for name in (path, alias):
            t.expect("ok", os.chmod, name, 0o111, who="alice")
            t.equal("mode", oct(mode_of(path)), oct(0o111))
            t.expect("EPERM", os.chmod, name, 0o222, who="bob in staff")
            t.expect("EPERM", os.chmod, name, 0o222, who="carol")
            t.equal("mode after refusals", oct(mode_of(path)), oct(0o111))
            for mode in (0o1644, 0o4755, 0o2755, 0o6755, 0o7777, 0o0):
                t.expect("ok", os.chmod, name, mode)
                t.equal("mode by root", oct(mode_of(path)), oct(mode))
                t.expect("ok", os.chmod, name, mode, who="alice")
                t.equal("mode by the owner", oct(mode_of(path)), oct(mode))
        # The owner is not in the file's group: set-gid goes.
        os.chown(path, ALICE, OTHERS)
        for mode in (0o2755, 0o2777, 0o6711, 0o2640):
            t.expect("ok", os.chmod, path, mode, who="alice")
            t.equal(f"mode {mode:o} of a {kind} of a foreign group", oct(mode_of(path)), oct(mode & ~0o2000))
            t.expect("ok", os.chmod, path, mode, who="alice with groups")
            t.equal(f"mode {mode:o} of a {kind} of an additional group", oct(mode_of(path)), oct(mode))
        t.later(f"a {kind} whose mode changes", lambda: os.stat(path), lambda: os.chmod(path, 0o711), "ctime")
        t.later(f"a {kind} whose mode is refused to change", lambda: os.stat(path),
                lambda: t.expect("EPERM", os.chmod, path, 0o777, who="carol"))
        remove(kind, path)


@test
def chown_rights(t):
    path, alias = t.path("file"), t.path("link")
    os.symlink("file", alias)

    def owner():
        return os.lstat(path).st_uid, os.lstat(path).st_gid

    for kind in TYPES:
        make(kind, path)
        for call, name in ((os.lchown, path), (os.chown, path), (os.chown, alias)):
            if kind == "symlink" and call is os.chown:
                continue
            t.expect("ok", call, name, ALICE, STAFF)
            t.equal("owner", owner(), (ALICE, STAFF))
            t.expect("ok", call, name, -1, GUESTS, who="alice with groups")
            t.equal("group by its owner", owner(), (ALICE, GUESTS))
            t.expect("ok", call, name, ALICE, OTHERS, who="alice with groups")
            t.expect("ok", call, name, -1, STAFF, who="alice")
            t.equal("group back", owner(), (ALICE, STAFF))
            t.expect("EPERM", call, name, -1, GUESTS, who="alice")
            t.expect("EPERM", call, name, BOB, -1, who="alice with groups")
            t.expect("EPERM", call, name, BOB, GUESTS, who="alice with groups")
            t.expect("EPERM", call, name, 0, 0, who="alice")
            for other in ("bob", "bob in staff", "carol"):
                t.expect("EPERM", call, name, BOB, -1, who=other)
                t.expect("EPERM", call, name, -1, STAFF, who=other)
                t.expect("EPERM", call, name, CAROL, OTHERS, who=other)
                t.expect("ok", call, name, -1, -1, who=other)
            t.equal("owner after refusals", owner(), (ALICE, STAFF))
            if call is os.lchown:
                t.later(f"a {kind} whose owner changes", lambda: os.lstat(path), lambda: call(name, 1, 2), "ctime")
                t.later(f"a {kind} whose owner is refused to change", lambda: os.lstat(path),
                        lambda: t.expect("EPERM", call, name, ALICE, -1, who="alice"))
            t.expect("ok", call, name, 0, 0)
        t.equal("owner of the symlink", os.lstat(alias).st_uid, 0)
        t.expect("ok", os.lchown, path, 4294967294, 4294967294)
        t.equal("the largest owner", owner(), (4294967294, 4294967294))
        remove(kind, path)


@test
def chown_clears_set_ids(t):
    path = t.path("file")
    for kind in NOT_SYMLINKS:
        for mode, cleared in ((0o6555, 0o555), (0o4755, 0o755), (0o2755, 0o755), (0o2644, 0o2644), (0o6711, 0o711)):
            for identities in ((ALICE, GUESTS), (-1, GUESTS), (ALICE, -1)):
                make(kind, path, uid=ALICE, gid=STAFF)
                os.chmod(path, mode)
                t.expect("ok", os.chown, path, *identities, who="alice with groups")
                wanted = mode if kind == "dir" else cleared
                if mode == 0o2644 and kind != "dir":
                    # A set-gid bit without group execution is kept, unless its group is one the caller is not in.
                    wanted = mode
                t.equal(f"mode {mode:o} of a {kind} given to {identities}", oct(mode_of(path)), oct(wanted))
                remove(kind, path)
            make(kind, path, uid=ALICE, gid=STAFF)
            os.chmod(path, mode)
            os.chown(path, BOB, GUESTS)
            wanted = mode if kind == "dir" else cleared
            t.equal(f"mode {mode:o} of a {kind} given away by root", oct(mode_of(path)), oct(wanted))
            remove(kind, path)


def write_one(path, flags=os.O_WRONLY):
    fd = os.open(path, flags)
    os.write(fd, b"x")
    mode = stat.S_IMODE(os.fstat(fd).st_mode)
    os.close(fd)
    return mode


def open_truncating(path):
    os.close(os.open(path, os.O_WRONLY | os.O_TRUNC))


def truncate_descriptor(path):
    fd = os.open(path, os.O_RDWR)
    os.ftruncate(fd, 1)
    os.close(fd)


def allocate(path):
    fd = os.open(path, os.O_RDWR)
    os.posix_fallocate(fd, 0, 10)
    os.close(fd)


def copy_into(path):
    fd = os.open(path, os.O_RDWR)
    os.copy_file_range(fd, fd, 2, 0, 6)
    os.close(fd)


@test
def writing_clears_set_ids(t):
    path = t.path("file")
    changes = ((allocate, ()), (copy_into, ()), (write_one, ()), (write_one, (os.O_RDWR,)), (write_one, (os.O_WRONLY | os.O_APPEND,)),
               (os.truncate, (0,)), (os.truncate, (4,)), (open_truncating, ()), (truncate_descriptor, ()))
    # (mode, by a stranger, by a member of the group): without group execution, set-gid is dropped for strangers only.
    for mode, *results in ((0o4777, 0o777, 0o777), (0o2777, 0o777, 0o777), (0o6777, 0o777, 0o777),
                           (0o2767, 0o767, 0o2767), (0o6767, 0o767, 0o2767), (0o4767, 0o767, 0o767)):
        for change, arguments in changes:
            make("regular", path, gid=STAFF)
            with open(path, "wb") as file:
                file.write(b"something longer")
            os.chmod(path, mode)
            t.expect("ok", change, path, *arguments)
            t.equal(f"mode {mode:o} after {change.__name__}{arguments} by root", oct(mode_of(path)), oct(mode))
            for who, cleared in zip(("carol", "bob in staff"), results):
                os.chmod(path, mode)
                value = t.expect("ok", change, path, *arguments, who=who)
                t.equal(f"mode {mode:o} after {change.__name__}{arguments} by {who}", oct(mode_of(path)), oct(cleared))
                if change is write_one:
                    t.equal("mode by fstat", value, cleared)
            os.unlink(path)
    # Times, names and listings leave the bits.
    create(path)
    os.chmod(path, 0o6777)
    t.expect("ok", os.utime, path, who="carol")
    t.equal("mode after utime", oct(mode_of(path)), oct(0o6777))
    os.link(path, t.path("link"))
    os.rename(t.path("link"), t.path("renamed"))
    t.equal("mode after link and rename", oct(mode_of(path)), oct(0o6777))


@test
def root_may_everything_but_execute(t):
    path = t.path("file")
    make("regular", path, 0o000, ALICE, STAFF)
    for flags in (os.O_RDONLY, os.O_WRONLY, os.O_RDWR):
        t.expect("ok", open_close, path, flags)
    t.expect("ok", access, path, os.R_OK | os.W_OK)
    t.expect("EACCES", access, path, os.X_OK)
    os.chmod(path, 0o001)
    t.expect("ok", access, path, os.X_OK)
    os.mkdir(t.path("folder"))
    os.chmod(t.path("folder"), 0)
    t.expect("ok", access, t.path("folder"), os.R_OK | os.W_OK | os.X_OK)
    t.expect("ok", create, t.path("folder/file"))
    t.expect("ok", list_folder, t.path("folder"))


def run_program(path):
    pid = os.fork()
    if pid == 0:
        try:
            os.execv(path, [path])
        except OSError as error:
            os._exit(error.errno)
    code = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
    if code:
        raise OSError(code, os.strerror(code))


@test
def executing(t):
    path = t.path("program")
    with open("/bin/true", "rb") as source, open(path, "wb") as file:
        file.write(source.read())
    for mode, wanted in ((0o644, "EACCES"), (0o744, "EACCES"), (0o755, "ok"), (0o711, "ok"), (0o701, "ok"),
                         (0o770, "EACCES")):
        os.chmod(path, mode)
        t.expect(wanted, run_program, path, who="carol")
    t.expect("ok", run_program, path)
    os.chmod(path, 0o600)
    t.expect("EACCES", run_program, path)
    os.chmod(path, 0o755)
    writer = os.open(path, os.O_WRONLY)
    t.expect("ETXTBSY", run_program, path)
    os.close(writer)
    with open("/bin/sleep", "rb") as source, open(path, "wb") as file:
        file.write(source.read())
    read_end, write_end = os.pipe()
    os.set_inheritable(write_end, True)
    pid = os.fork()
    if pid == 0:
        os.close(read_end)
        os.set_inheritable(write_end, False)  # closed by a successful exec
        try:
            os.execv(path, [path, "60"])
        finally:
            os._exit(1)
    os.close(write_end)
    os.read(read_end, 1)  # the program runs
    os.close(read_end)
    for flags in (os.O_WRONLY, os.O_RDWR, os.O_RDONLY | os.O_TRUNC, os.O_WRONLY | os.O_APPEND):
        t.expect("ETXTBSY", open_close, path, flags)
        t.equal("the size after a refused opening", os.stat(path).st_size, os.stat("/bin/sleep").st_size)
    t.expect("ETXTBSY", os.truncate, path, 0)
    t.expect("ok", open_close, path, os.O_RDONLY)
    os.kill(pid, 9)
    os.waitpid(pid, 0)
    t.expect("ok", open_close, path, os.O_WRONLY)
    with open(t.path("script"), "w") as file:
        file.write("#!/bin/sh\nexit 0\n")
    os.chmod(t.path("script"), 0o755)
    t.expect("ok", run_program, t.path("script"), who="carol")
    with open(t.path("data"), "w") as file:
        file.write("no program\n")
    os.chmod(t.path("data"), 0o755)
    t.expect("ENOEXEC", run_program, t.path("data"))


@test
def new_mode_does_not_bind_its_descriptor(t):
    os.chmod(t.dir, 0o777)
    for user in (None, "alice"):
        for mode in (0, 0o444, 0o111):
            t.expect("ok", create_and_write, t.path("file"), mode, who=user)
            t.equal("mode", oct(mode_of(t.path("file"))), oct(mode))
            t.equal("size", os.stat(t.path("file")).st_size, 3)
            os.unlink(t.path("file"))


def create_and_write(path, mode):
    fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL, mode)
    os.write(fd, b"12345")
    os.ftruncate(fd, 3)
    os.posix_fallocate(fd, 0, 3)
    if os.pread(fd, 10, 0) != b"123":
        raise OSError(5, "other contents")
    os.close(fd)


@test
def identity_at_opening_counts(t):
    """A descriptor keeps its rights whatever becomes of the file's mode."""
    path = t.path("file")
    make("regular", path, 0o666)
    reader, writer = os.open(path, os.O_RDONLY), os.open(path, os.O_WRONLY)
    os.chmod(path, 0)
    os.chown(path, 1, 1)
    t.expect("ok", os.write, writer, b"x")
    t.equal("read", os.read(reader, 10), b"x")
    t.expect("EBADF", os.write, reader, b"x")
    os.close(reader)
    os.close(writer)
