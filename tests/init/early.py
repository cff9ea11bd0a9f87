"""A key that is pasted before the question for it is drawn, and a terminal that is left in order.

    early.py paste KEY COMMAND...    prints what the screen showed; exits as the command does
    early.py SIGNAL COMMAND...       sends the signal at the question; exits 0 if the terminal shows again what is typed
"""

import fcntl
import os
import pty
import select
import signal
import sys
import termios
import time

PATIENCE = 60


def shows(terminal):
    return bool(termios.tcgetattr(terminal)[3] & termios.ECHO)


def until(holds, what):
    end = time.monotonic() + PATIENCE
    while not holds():
        if time.monotonic() > end:
            sys.exit(f"not within {PATIENCE} s: {what}")
        time.sleep(0.005)


class Screen:
    def __init__(self, master):
        self.master, self.text = master, b""

    def read(self, within=0.0):
        """Reads what is there; false at the end."""
        if not select.select([self.master], [], [], within)[0]:
            return True
        try:
            part = os.read(self.master, 4096)
        except OSError:
            return False
        self.text += part
        return bool(part)

    def has(self, words):
        self.read()
        return words in self.text


def start(command):
    """Runs it at a terminal that draws nothing yet."""
    master, slave = pty.openpty()
    termios.tcflow(slave, termios.TCOOFF)
    pid = os.fork()
    if pid == 0:
        os.close(master)
        login(slave)
        os.execvp(command[0], command)
    return pid, master, slave


def login(slave):
    os.setsid()
    fcntl.ioctl(slave, termios.TIOCSCTTY, 0)
    for stream in range(3):
        os.dup2(slave, stream)
    if slave > 2:
        os.close(slave)


def paste(key, command):
    pid, master, slave = start(command)
    # Nothing can have been drawn.
    until(lambda: not shows(slave), "the terminal shows no more what is typed")
    os.write(master, key.encode() + b"\n")
    termios.tcflow(slave, termios.TCOON)
    screen = Screen(master)
    until(lambda: screen.has(b"(not shown): "), "the question")
    ended = []

    def over():
        screen.read(0.05)
        ended[:] = os.waitpid(pid, os.WNOHANG)
        return ended[0] == pid

    until(over, "the end")
    screen.read(0.05)
    sys.stdout.write(screen.text.decode())
    assert shows(slave), "the terminal was left silent"
    sys.exit(os.waitstatus_to_exitcode(ended[1]))


def end(name, command):
    pid, master, slave = start(command)
    termios.tcflow(slave, termios.TCOON)
    screen = Screen(master)
    until(lambda: screen.has(b"(not shown): "), "the question")
    assert not shows(slave), "the terminal shows what is typed"
    os.kill(pid, getattr(signal, name))
    status = os.waitpid(pid, 0)[1]
    assert os.WIFSIGNALED(status) and os.WTERMSIG(status) == getattr(signal, name), status
    assert shows(slave), "the terminal was left silent"


if sys.argv[1] == "paste":
    paste(sys.argv[2], sys.argv[3:])
else:
    end(sys.argv[1], sys.argv[2:])
