"""Runs a program on a terminal of its own: terminal.py [--interrupt WHAT] -- PROGRAM ARGUMENT...

Copies what the program writes to stdout, as a terminal gets it, and ends as the program does. With --interrupt, Ctrl-C is
pressed as soon as the program has written WHAT.
"""

import fcntl
import os
import pty
import struct
import sys
import termios

arguments = sys.argv[1:]
interrupt = None
if arguments[0] == "--interrupt":
    interrupt, arguments = arguments[1].encode(), arguments[2:]
assert arguments.pop(0) == "--"

child, terminal = pty.fork()
if child == 0:
    os.environ["TERM"] = "xterm"
    os.execvp(arguments[0], arguments)
fcntl.ioctl(terminal, termios.TIOCSWINSZ, struct.pack("4H", 24, 120, 0, 0))
seen = b""
while True:
    try:
        piece = os.read(terminal, 65536)
    except OSError:  # how Linux says that the other side is closed
        break
    if not piece:
        break
    seen += piece
    if interrupt is not None and interrupt in seen:
        interrupt = None
        os.write(terminal, b"\x03")
sys.stdout.buffer.write(seen)
sys.stdout.flush()
sys.exit(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))
