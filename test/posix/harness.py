"""What the tests of a directory's POSIX behaviour share: callers with other identities, making files of each type,
and counting assertions.

A test is a function marked with @test that takes a Suite. It runs in a folder of its own and states what must be true
with expect(), equal() and check(). A failed assertion is reported and the test goes on.
"""

import ctypes
import errno
import os
import pickle
import shutil
import socket
import stat
import struct
import time
import traceback

TYPES = ("regular", "dir", "fifo", "block", "char", "socket", "symlink")
NOT_DIRECTORIES = tuple(kind for kind in TYPES if kind != "dir")
NOT_SYMLINKS = tuple(kind for kind in TYPES if kind != "symlink")
LINKABLE = tuple(kind for kind in TYPES if kind not in ("dir", "symlink"))
TYPE_BITS = {"regular": stat.S_IFREG, "dir": stat.S_IFDIR, "fifo": stat.S_IFIFO, "block": stat.S_IFBLK,
             "char": stat.S_IFCHR, "socket": stat.S_IFSOCK, "symlink": stat.S_IFLNK}
NAME_MAX = 255
PATH_MAX = 4096

CLOCK_REALTIME_COARSE = 5

LIBC = ctypes.CDLL(None, use_errno=True)
TESTS = []


def test(function):
    TESTS.append(function)
    return function


def libc(name, *arguments):
    """A C library function that returns -1 (an int or a long) and sets errno; integers are passed as 64 bits."""
    ctypes.set_errno(0)
    wide = [ctypes.c_long(word) if isinstance(word, int) else word for word in arguments]
    function = getattr(LIBC, name)
    function.restype = ctypes.c_long
    result = function(*wide)
    if result in (-1, 0xFFFFFFFF):
        code = ctypes.get_errno()
        raise OSError(code, os.strerror(code))
    return result


def outcome(function, arguments, keywords):
    """("ok", value) or (name of the errno, None)."""
    try:
        return "ok", function(*arguments, **keywords)
    except OSError as error:
        if error.errno is None:
            raise
        return name_of(error.errno), None


def name_of(code):
    """Of several names of a code, POSIX's."""
    return {errno.EDEADLK: "EDEADLK", errno.EOPNOTSUPP: "EOPNOTSUPP"}.get(code) or errno.errorcode[code]


class Caller:
    """Runs functions in a process of its own with these identities; the functions live at the top of a module."""

    def __init__(self, uid, gid, groups=(), umask=0):
        self.name = f"uid {uid} gid {gid}" + (f" groups {','.join(map(str, groups))}" if groups else "")
        self.identity = (uid, gid, tuple(groups), umask)
        self.pid = None
        self.ends = ()

    def start(self):
        down_read, down_write = os.pipe()
        up_read, up_write = os.pipe()
        self.pid = os.fork()
        if self.pid == 0:
            os.close(down_write)
            os.close(up_read)
            for other in CALLERS.values():
                other.let_go()
            self.serve(down_read, up_write)
        os.close(down_read)
        os.close(up_write)
        self.ends = (down_write, up_read)
        self.down, self.up = self.ends

    def serve(self, read_fd, write_fd):
        uid, gid, groups, umask = self.identity
        try:
            os.setgroups(groups)
            os.setresgid(gid, gid, gid)
            os.setresuid(uid, uid, uid)
            os.umask(umask)
            while True:
                size = os.read(read_fd, 4)
                if not size:
                    os._exit(0)
                message = receive(read_fd, struct.unpack("I", size)[0])
                send(write_fd, outcome(*pickle.loads(message)))
        except BaseException:
            traceback.print_exc()
        os._exit(1)

    def run(self, function, arguments, keywords):
        if self.pid is None:
            self.start()
        send(self.down, (function, arguments, keywords))
        size = os.read(self.up, 4)
        assert size, f"the process of {self.name} ended"
        return pickle.loads(receive(self.up, struct.unpack("I", size)[0]))

    def let_go(self):
        for end in self.ends:
            os.close(end)
        self.ends = ()

    def stop(self):
        if self.pid is not None:
            self.let_go()
            os.waitpid(self.pid, 0)
            self.pid = None


def send(fd, thing):
    data = pickle.dumps(thing)
    data = struct.pack("I", len(data)) + data
    while data:
        data = data[os.write(fd, data):]


def receive(fd, size):
    data = b""
    while len(data) < size:
        data += os.read(fd, size - len(data))
    return data


ALICE = 60001
BOB = 60002
CAROL = 60003
STAFF = 61001
GUESTS = 61002
OTHERS = 61003
CALLERS = {
    "alice": Caller(ALICE, STAFF),
    "alice with groups": Caller(ALICE, STAFF, (GUESTS, OTHERS)),
    "bob": Caller(BOB, GUESTS),
    "bob in staff": Caller(BOB, GUESTS, (STAFF,)),
    "carol": Caller(CAROL, OTHERS),
}


def bind_socket(path):
    """A socket of that name; the path may be longer than a socket's address."""
    folder, name = os.path.split(path)
    there = os.open(folder or ".", os.O_PATH | os.O_DIRECTORY)
    sock = socket.socket(socket.AF_UNIX)
    try:
        sock.bind(f"/proc/self/fd/{there}/{name}")
    finally:
        sock.close()
        os.close(there)


def create(path, flags=os.O_CREAT | os.O_WRONLY | os.O_EXCL, mode=0o644):
    os.close(os.open(path, flags, mode))


def make(kind, path, mode=None, uid=None, gid=None):
    """A file of that type, with a mode (0644, directories 0755) and an owner."""
    wanted = mode if mode is not None else 0o755 if kind == "dir" else 0o644
    if kind == "regular":
        create(path)
    elif kind == "dir":
        os.mkdir(path)
    elif kind == "fifo":
        os.mkfifo(path)
    elif kind in ("block", "char"):
        os.mknod(path, TYPE_BITS[kind] | 0o644, os.makedev(1, 2))
    elif kind == "socket":
        bind_socket(path)
    else:
        os.symlink("nothing-there", path)
    if uid is not None or gid is not None:
        os.lchown(path, -1 if uid is None else uid, -1 if gid is None else gid)
    if kind != "symlink":
        os.chmod(path, wanted)


def remove(kind, path):
    (os.rmdir if kind == "dir" else os.unlink)(path)


def kind_of(path):
    bits = stat.S_IFMT(os.lstat(path).st_mode)
    return next(kind for kind in TYPES if TYPE_BITS[kind] == bits)


def mode_of(path):
    return stat.S_IMODE(os.lstat(path).st_mode)


def next_tick():
    """Returns when a file changed from now on gets a later time than one changed before: clocks of filesystems may
    move in ticks only."""
    start = time.clock_gettime_ns(time.CLOCK_REALTIME)
    while time.clock_gettime_ns(CLOCK_REALTIME_COARSE) <= start:
        time.sleep(0)


def open_below(folder):
    found = []
    for fd in os.listdir("/proc/self/fd"):
        try:
            path = os.readlink(f"/proc/self/fd/{fd}")
        except OSError:
            continue
        if path.startswith(folder + "/"):
            found.append(path)
            os.close(int(fd))
    return found


class Suite:
    """Runs tests in `directory` and counts. `features` are what the filesystem under it has beyond POSIX."""

    def __init__(self, directory, features):
        self.base = os.path.abspath(directory)
        self.features = features
        self.passed = 0
        self.failures = []
        self.errors = []
        self.test_name = ""
        self.dir = ""

    def path(self, *names):
        return os.path.join(self.dir, *names)

    def has(self, feature):
        return feature in self.features

    def check(self, condition, what):
        if condition:
            self.passed += 1
        else:
            self.failures.append(f"{self.test_name}: {what}")
        return bool(condition)

    def equal(self, what, actual, wanted):
        return self.check(actual == wanted, f"{what}: is {actual!r}, should be {wanted!r}")

    def show(self, function, arguments, who):
        words = []
        for word in arguments:
            text = repr(word) if not isinstance(word, (str, bytes)) else str(word)
            text = text.replace(self.dir, ".")
            words.append(text if len(text) < 100 else f"{text[:40]}...({len(text)})")
        return f"{getattr(function, '__name__', function)}({', '.join(words)})" + (f" by {who}" if who else "")

    def expect(self, wanted, function, *arguments, who=None, **keywords):
        """The call ends so: "ok" or the name of its errno; several are separated by |. Returns the call's value."""
        run = CALLERS[who].run if who else outcome
        got, value = run(function, arguments, keywords)
        self.check(got in wanted.split("|"), f"{self.show(function, arguments, who)}: {got}, should be {wanted}")
        return value

    def later(self, what, times, change, *names):
        """`change` moves these times of a file forward and leaves the others as they are."""
        before = times()
        next_tick()
        change()
        after = times()
        for name in ("st_atime_ns", "st_mtime_ns", "st_ctime_ns"):
            old, new = getattr(before, name), getattr(after, name)
            if name[3:8] in names:
                self.check(new > old, f"{what}: {name} stays {old}, should move")
            else:
                self.check(new == old, f"{what}: {name} moves by {new - old} ns, should stay")

    def run(self, wanted=""):
        home = os.getcwd()
        for function in TESTS:
            name = f"{function.__module__}.{function.__name__}"
            if wanted and wanted not in name:
                continue
            self.test_name = name
            self.dir = os.path.join(self.base, function.__name__)
            os.mkdir(self.dir)
            os.chmod(self.dir, 0o755)
            try:
                function(self)
            except Exception:
                self.errors.append(f"{name}: stopped\n{traceback.format_exc()}")
            os.chdir(home)
            self.errors += [f"{name}: {path} is left open" for path in open_below(self.base)]
            shutil.rmtree(self.dir, ignore_errors=True)
            if os.path.lexists(self.dir):
                self.errors.append(f"{name}: {self.dir} cannot be removed")
            for caller in CALLERS.values():
                caller.stop()
