"""Holds a conversation with a program in a pseudo terminal, as a person would.

Usage: terminal.py TALK COMMAND…, where TALK is JSON: [[what is waited for, what is typed then], …]. What is typed where the
program has switched the echo off is typed once it has. Prints what the terminal showed and ends as the program did.
"""

import json
import os
import pty
import select
import sys
import termios
import time

DEADLINE = time.monotonic() + 60


def main() -> int:
    talk, command = json.loads(sys.argv[1]), sys.argv[2:]
    child, terminal = pty.fork()
    if child == 0:
        os.execvp(command[0], command)
    shown = b""
    at = 0
    for expected, typed in talk:
        while (found := shown.find(expected.encode(), at)) < 0:
            part = read(terminal)
            if not part:
                break
            shown += part
        if found < 0:
            break
        at = found + len(expected)
        if "not shown" in expected:
            while termios.tcgetattr(terminal)[3] & termios.ECHO and time.monotonic() < DEADLINE:
                time.sleep(0.01)
        os.write(terminal, typed.encode() + b"\r")
    while part := read(terminal):
        shown += part
    sys.stdout.buffer.write(shown)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


def read(terminal: int) -> bytes:
    ready, _, _ = select.select([terminal], [], [], max(0, DEADLINE - time.monotonic()))
    try:
        return os.read(terminal, 4096) if ready else b""
    except OSError:  # The program has closed its side.
        return b""


if __name__ == "__main__":
    sys.exit(main())
