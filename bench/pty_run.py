"""Programs in a real pseudo-terminal, and the moment at which something is on their screen.

Every byte is stamped when it is read, and nothing else happens between two reads, so that what the
measured program is told and when does not depend on this script. Whether a condition holds is worked
out afterwards, by playing the bytes back on a small terminal: the answer is the time of the read
after which the screen first satisfied it.
"""

import fcntl
import os
import pty
import re
import select
import signal
import struct
import termios
import time
import unicodedata

ROWS, COLS = 40, 120

# What programs ask a terminal, and what a plain xterm answers.
ANSWERS = (
    (re.compile(rb"\x1b\[6n"), None),  # where is the cursor: computed
    (re.compile(rb"\x1b\[0?c"), b"\x1b[?62;22c"),  # what are you
    (re.compile(rb"\x1b\[5n"), b"\x1b[0n"),  # are you well
    (re.compile(rb"\x1b\]1([01]);\?(?:\x07|\x1b\\)"), b"\x1b]1%s;rgb:0000/0000/0000\x1b\\"),
)


class TimedOut(Exception):
    """The condition did not come true; carries what the screen showed."""


class Screen:
    """As much of a terminal as shells and finders use: text, cursor movement, erasing, scrolling."""

    TOKEN = re.compile(
        r"\x1b\[([<=>?]?)([\d;:]*)([ -/]*)([@-~])"  # CSI
        r"|\x1b\][^\x07\x1b]*(?:\x07|\x1b\\)"  # OSC
        r"|\x1b[P_^][^\x1b]*\x1b\\"  # DCS, APC, PM
        r"|\x1b[()*+].|\x1b([78=>MDEc])"  # charset; save, restore, index
        r"|([\x00-\x1a\x1c-\x1f\x7f])|([^\x00-\x1f\x7f\x1b]+)"
    )

    def __init__(self, rows=ROWS, cols=COLS):
        self.rows, self.cols = rows, cols
        self.rest = b""
        self.saved = (0, 0)
        self.clear()

    def clear(self):
        self.lines = [[" "] * self.cols for _ in range(self.rows)]
        self.row = self.col = 0
        self.top, self.bottom = 0, self.rows - 1

    def text(self):
        return "\n".join("".join(line).rstrip() for line in self.lines)

    def feed(self, data):
        data = self.rest + data
        # An unfinished sequence or character waits for its end.
        cut = len(data)
        escape = data.rfind(b"\x1b", max(0, cut - 256))
        if escape >= 0 and not self.TOKEN.match(data[escape:].decode("utf-8", "replace")):
            cut = escape
        else:
            for back in range(1, min(4, cut) + 1):
                byte = data[cut - back]
                if byte >= 0xC0:
                    needed = 2 if byte < 0xE0 else 3 if byte < 0xF0 else 4
                    if needed > back:
                        cut -= back
                    break
                if byte < 0x80:
                    break
        self.rest = data[cut:]
        for found in self.TOKEN.finditer(data[:cut].decode("utf-8", "replace")):
            private, numbers, _, final, escape, control, text = found.groups()
            if text is not None:
                self.put(text)
            elif control is not None:
                self.control(control)
            elif final is not None:
                self.sequence(private, numbers, final)
            elif escape is not None:
                self.escape(escape)

    def put(self, text):
        for char in text:
            if unicodedata.combining(char) or char in "\u200d\ufe0f":
                continue
            width = 2 if unicodedata.east_asian_width(char) in "WF" else 1
            if self.col + width > self.cols:
                self.col = 0
                self.down()
            line = self.lines[self.row]
            line[self.col] = char
            if width == 2:
                line[self.col + 1] = ""
            self.col += width

    def down(self):
        if self.row == self.bottom:
            del self.lines[self.top]
            self.lines.insert(self.bottom, [" "] * self.cols)
        elif self.row < self.rows - 1:
            self.row += 1

    def up(self):
        if self.row == self.top:
            del self.lines[self.bottom]
            self.lines.insert(self.top, [" "] * self.cols)
        elif self.row:
            self.row -= 1

    def control(self, char):
        if char == "\r":
            self.col = 0
        elif char in "\n\x0b\x0c":
            self.down()
        elif char == "\b":
            self.col = max(0, self.col - 1)
        elif char == "\t":
            self.col = min(self.cols - 1, self.col // 8 * 8 + 8)

    def escape(self, char):
        if char == "7":
            self.saved = (self.row, self.col)
        elif char == "8":
            self.row, self.col = self.saved
        elif char == "M":
            self.up()
        elif char in "DE":
            self.down()
            if char == "E":
                self.col = 0
        elif char == "c":
            self.clear()

    def sequence(self, private, numbers, final):
        values = [int(part.split(":")[0] or 0) for part in numbers.split(";")] if numbers else [0]
        n = max(1, values[0])
        if private:
            if private == "?" and final in "hl" and values[0] in (1049, 1047, 47):
                self.clear()
        elif final in "Hf":
            self.row = min(self.rows, n) - 1
            self.col = min(self.cols, max(1, values[1] if len(values) > 1 else 1)) - 1
        elif final == "A":
            self.row = max(0, self.row - n)
        elif final in "Be":
            self.row = min(self.rows - 1, self.row + n)
        elif final in "Ca":
            self.col = min(self.cols - 1, self.col + n)
        elif final == "D":
            self.col = max(0, self.col - n)
        elif final == "E":
            self.row, self.col = min(self.rows - 1, self.row + n), 0
        elif final == "F":
            self.row, self.col = max(0, self.row - n), 0
        elif final in "G`":
            self.col = min(self.cols, n) - 1
        elif final == "d":
            self.row = min(self.rows, n) - 1
        elif final == "J":
            self.erase_display(values[0])
        elif final == "K":
            start, end = ((self.col, self.cols), (0, self.col + 1), (0, self.cols))[values[0] % 3]
            self.blank(self.row, start, end)
        elif final == "X":
            self.blank(self.row, self.col, min(self.cols, self.col + n))
        elif final == "P":
            line = self.lines[self.row]
            del line[self.col : self.col + n]
            line += [" "] * (self.cols - len(line))
        elif final == "@":
            line = self.lines[self.row]
            line[self.col : self.col] = [" "] * n
            del line[self.cols :]
        elif final in "LM" and self.top <= self.row <= self.bottom:
            for _ in range(min(n, self.rows)):
                gone, come = (self.bottom, self.row) if final == "L" else (self.row, self.bottom)
                del self.lines[gone]
                self.lines.insert(come, [" "] * self.cols)
        elif final in "ST":
            for _ in range(min(n, self.rows)):
                gone, come = (self.top, self.bottom) if final == "S" else (self.bottom, self.top)
                del self.lines[gone]
                self.lines.insert(come, [" "] * self.cols)
        elif final == "r":
            bottom = values[1] if len(values) > 1 and values[1] else self.rows
            self.top, self.bottom = n - 1, min(self.rows, bottom) - 1
            self.row = self.col = 0
        elif final == "s":
            self.saved = (self.row, self.col)
        elif final == "u":
            self.row, self.col = self.saved

    def blank(self, row, start, end):
        self.lines[row][start:end] = [" "] * (end - start)

    def erase_display(self, how):
        if how in (2, 3):
            for row in range(self.rows):
                self.blank(row, 0, self.cols)
            return
        rows = range(self.row + 1, self.rows) if how == 0 else range(self.row)
        for row in rows:
            self.blank(row, 0, self.cols)
        self.blank(self.row, *((self.col, self.cols) if how == 0 else (0, self.col + 1)))


class Program:
    """A program on the other side of a pseudo-terminal."""

    def __init__(self, argv, env, cwd=None, stdin=None):
        self.screen = Screen()
        self.chunks = []  # (moment, bytes) not yet played back
        self.started = time.monotonic()
        self.pid, self.fd = pty.fork()
        if self.pid == 0:
            self.become(argv, env, cwd, stdin)
        fcntl.ioctl(self.fd, termios.TIOCSWINSZ, struct.pack("HHHH", ROWS, COLS, 0, 0))

    @staticmethod
    def become(argv, env, cwd, stdin):
        try:
            # Also from here: it must be so before the program looks.
            fcntl.ioctl(0, termios.TIOCSWINSZ, struct.pack("HHHH", ROWS, COLS, 0, 0))
            if stdin:
                file = os.open(stdin, os.O_RDONLY)
                os.dup2(file, 0)
                os.close(file)
            if cwd:
                os.chdir(cwd)
            os.execvpe(argv[0], argv, env)
        except OSError as err:
            os.write(2, f"{argv[0]}: {err}\n".encode())
        os._exit(127)

    def send(self, data):
        """Writes to the program; returns the moment just before."""
        moment = time.monotonic()
        os.write(self.fd, data)
        return moment

    def read(self, timeout):
        """One read; False if nothing came, None at the end."""
        if not select.select([self.fd], [], [], timeout)[0]:
            return False
        try:
            data = os.read(self.fd, 1 << 16)
        except OSError:
            data = b""
        if not data:
            return None
        self.chunks.append((time.monotonic(), data))
        if b"\x1b" in data:
            self.answer(data)
        return True

    def answer(self, data):
        for pattern, reply in ANSWERS:
            for found in pattern.finditer(data):
                if reply is None:
                    # Programs draw in place only from where the cursor is: it is at the top here.
                    reply = b"\x1b[1;1R"
                os.write(self.fd, reply % found.groups() if found.groups() else reply)

    def wait_for(self, condition, what, timeout=60.0, quiet=0.03):
        """The moment at which `condition(screen text)` came true.

        Bytes are only read until none came for `quiet` seconds, then played back one read at a time.
        """
        deadline = time.monotonic() + timeout
        if condition(self.screen.text()) and not self.chunks:
            return time.monotonic()
        last_replay = time.monotonic()
        while True:
            got = self.read(quiet)
            now = time.monotonic()
            if got and now - last_replay < 0.5 and now < deadline:
                continue
            found = self.replay(condition)
            last_replay = time.monotonic()
            if found is not None:
                return found
            if got is None:
                raise TimedOut(f"the program ended before {what}; its screen:\n{self.screen.text()}")
            if now > deadline:
                raise TimedOut(f"not within {timeout} s: {what}; the screen:\n{self.screen.text()}")

    def replay(self, condition=None):
        """Plays back all that was read; the moment at which the condition was first true."""
        found = None
        for moment, data in self.chunks:
            self.screen.feed(data)
            if found is None and condition and condition(self.screen.text()):
                found = moment
        self.chunks.clear()
        return found

    def settle(self, quiet=0.15, at_most=10.0):
        """Reads until nothing came for a while."""
        deadline = time.monotonic() + at_most
        while time.monotonic() < deadline and self.read(quiet):
            pass
        self.replay()

    def memory(self):
        """Bytes of the program and its children, from /proc: (peak, resident, of that not from files)."""
        sums = [0, 0, 0]
        for pid in self.family():
            try:
                with open(f"/proc/{pid}/status") as file:
                    status = dict(line.split(":", 1) for line in file if ":" in line)
                for k, name in enumerate(("VmHWM", "VmRSS", "RssAnon")):
                    sums[k] += int(status[name].split()[0]) * 1024
            except (OSError, KeyError):
                continue
        return sums if sums[0] else (None, None, None)

    def family(self):
        """The ids of the program and of all below it, where /proc tells."""
        found = [self.pid]
        for pid in found:
            try:
                with open(f"/proc/{pid}/task/{pid}/children") as file:
                    found += map(int, file.read().split())
            except OSError:
                continue
        return found

    def end(self):
        """Closes the terminal and waits; kills what does not go by itself."""
        for sig in (signal.SIGHUP, signal.SIGTERM, signal.SIGKILL):
            try:
                os.killpg(self.pid, sig)
            except (ProcessLookupError, PermissionError):
                pass
            until = time.monotonic() + 1
            while time.monotonic() < until:
                # What it still writes must be read, or it may never end.
                self.read(0)
                if os.waitpid(self.pid, os.WNOHANG)[0]:
                    os.close(self.fd)
                    return
                time.sleep(0.005)
