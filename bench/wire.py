#!/usr/bin/env python3
"""wire.py DELAY_MS COUNT_FILE COMMAND...: runs COMMAND, carries its standard streams, and delays and counts them.

Each byte arrives DELAY_MS later than it was sent, in each direction. COUNT_FILE gets the bytes up and down.
"""

import os
import queue
import subprocess
import sys
import threading
import time


def pump(source, sink, delay, counts, which):
    """Reads as fast as it comes, writes `delay` seconds later."""
    waiting = queue.Queue()

    def write():
        while True:
            due, chunk = waiting.get()
            time.sleep(max(0, due - time.monotonic()))
            if not chunk:
                os.close(sink)
                return
            while chunk:
                try:
                    chunk = chunk[os.write(sink, chunk):]
                except OSError:
                    return

    writer = threading.Thread(target=write, daemon=True)
    writer.start()
    while True:
        chunk = os.read(source, 1 << 16)
        counts[which] += len(chunk)
        waiting.put((time.monotonic() + delay, chunk))
        if not chunk:
            writer.join()
            return


def main():
    delay, count_file, command = float(sys.argv[1]) / 1000, sys.argv[2], sys.argv[3:]
    child = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    counts = [0, 0]
    up = threading.Thread(target=pump, args=(0, os.dup(child.stdin.fileno()), delay, counts, 0), daemon=True)
    child.stdin.close()
    up.start()
    pump(child.stdout.fileno(), 1, delay, counts, 1)
    child.wait()
    if count_file != "None":
        with open(count_file, "w") as file:
            file.write(f"{counts[0]} {counts[1]}\n")


if __name__ == "__main__":
    main()
