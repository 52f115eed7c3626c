"""Tells a story as it happens: on the terminal, with colours if it is one, and in a log file."""

import os
import subprocess
import sys
import time


class Teller:
    def __init__(self, log_path):
        self.begin = time.monotonic()
        self.colour = sys.stdout.isatty() and "NO_COLOR" not in os.environ
        self.log = open(log_path, "w")

    def write(self, text, style=""):
        print(f"\033[{style}m{text}\033[0m" if style and self.colour else text, flush=True)
        print(text, file=self.log, flush=True)

    def chapter(self, title):
        self.write(f"\n== {title}   [{time.monotonic() - self.begin:.1f} s]", "1;36")

    def say(self, text):
        self.write(text)

    def good(self, text):
        self.write(text, "32")

    def bad(self, text):
        self.write(text, "1;31")

    def quote(self, lines):
        for line in lines:
            self.write(f"    {line}", "2")

    def show(self, host, *command, check=True):
        """Runs a command on a host as a user would, and shows it with what it says. Its exit status."""
        self.write(f"{host.name}# {' '.join(command)}", "1")
        done = subprocess.run([*host.inside(), *command], stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
                              stderr=subprocess.STDOUT, text=True, env=host.environment(), timeout=120)
        if done.stdout.strip():
            self.quote(done.stdout.rstrip().splitlines())
        if check and done.returncode != 0:
            raise subprocess.CalledProcessError(done.returncode, command, done.stdout)
        return done.returncode
