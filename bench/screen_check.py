#!/usr/bin/env python3
"""Checks the small terminal and the timing of pty_run.py."""

import os
import sys
import time

from pty_run import Program, Screen


def need(condition, what):
    if not condition:
        sys.exit(f"error: {what}")


def shows(data, wanted):
    """Fed at once and byte by byte, the screen shows the wanted lines."""
    for size in (len(data), 1):
        screen = Screen(rows=4, cols=12)
        for at in range(0, len(data), size):
            screen.feed(data[at : at + size])
        got = screen.text().rstrip("\n").split("\n")
        need(got == wanted, f"{data!r} in pieces of {size}: {got}, wanted {wanted}")


def main():
    shows(b"one\r\ntwo", ["one", "two"])
    shows(b"one\x1b[2;3Htwo\x1b[1G\x1b[K!", ["one", "!"])
    shows(b"abcdef\x1b[3D\x1b[1K", ["    ef"])
    shows(b"1\r\n2\r\n3\r\n4\r\n5", ["2", "3", "4", "5"])
    shows(b"gone\x1b[2J\x1b[Hhere\x1b[38;5;12;1m!\x1b[0m", ["here!"])
    shows("한글 é\r\n👍".encode(), ["한글 é", "👍"])
    shows(b"twelve chars and more", ["twelve chars", " and more"])
    shows(b"\x1b]0;title\x07a\x1b[?25l\x1b(Bb\x1b7\x1b[3;1Hc\x1b8d", ["abd", "", "c"])

    # What appears late is seen late: the program waits 0.2 s between two words.
    program = Program(["sh", "-c", "printf first; sleep 0.2; printf second; sleep 5"], dict(os.environ))
    first = program.wait_for(lambda text: "first" in text, "the first word")
    second = program.wait_for(lambda text: "second" in text, "the second word")
    need(0.15 < second - first, f"0.2 s between two words were measured as {second - first:.3f} s")
    started = time.monotonic()
    program.end()
    need(time.monotonic() - started < 4, "the program was not ended")


if __name__ == "__main__":
    main()
