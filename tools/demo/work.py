"""What the nodes do while one of them dies: every node writes files and appends to one log, and keeps account."""

import os
import threading
import time


class Writer(threading.Thread):
    """One node's work. Files are synced before they count as done; each says whose and which it is."""

    def __init__(self, host):
        super().__init__(daemon=True)
        self.host = host
        self.folder = os.path.join(host.mount_point, f"work-of-{host.name}")
        self.log = os.path.join(host.mount_point, "log-of-all")
        self.done = 0            # files that fsync said are there
        self.times = []          # when each was done, monotonic seconds
        self.error = None        # what ended the work
        self.stopping = threading.Event()

    def contents(self, number):
        return f"{self.host.name} wrote file {number}\n".encode() * 200

    def run(self):
        try:
            os.mkdir(self.folder)
            while not self.stopping.is_set():
                self.one(self.done)
                self.done += 1
                self.times.append(time.monotonic())
        except OSError as error:
            self.error = error

    def one(self, number):
        file = os.open(os.path.join(self.folder, str(number)), os.O_CREAT | os.O_EXCL | os.O_WRONLY)
        try:
            os.write(file, self.contents(number))
            os.fsync(file)
        finally:
            os.close(file)
        log = os.open(self.log, os.O_CREAT | os.O_APPEND | os.O_WRONLY)
        try:
            os.write(log, f"{self.host.name} {number}\n".encode())
        finally:
            os.close(log)

    def stop(self):
        self.stopping.set()
        self.join()

    def longest_pause(self, since):
        """Seconds without a file done, from then on."""
        times = [since] + [moment for moment in self.times if moment > since]
        return max((later - earlier for earlier, later in zip(times, times[1:])), default=0)

    def lost(self, mount_point):
        """Files that fsync had promised and that cannot be read, as seen through a mount."""
        lost = []
        for number in range(self.done):
            try:
                with open(os.path.join(mount_point, os.path.basename(self.folder), str(number)), "rb") as file:
                    if file.read() != self.contents(number):
                        lost.append(number)
            except OSError:
                lost.append(number)
        return lost


def torn_lines(log, names):
    """Lines of the common log that are not whole."""
    with open(log) as file:
        return [line for line in file.read().splitlines()
                if len(line.split()) != 2 or line.split()[0] not in names or not line.split()[1].isdigit()]
