"""Holds up what passes through a TUN device: the long way between two networks.

`delay.py DEVICE` in the namespace of a router; reads lines of `ONE_WAY_MS` and answers each with a line. The
tests' `pump.py` does more, packet by packet; this one takes segments as large as TCP made them
(`IFF_VNET_HDR`), so that it costs little beside what is measured.
"""

import collections
import fcntl
import os
import select
import struct
import sys
import time

TUNSETIFF, TUNSETOFFLOAD = 0x400454CA, 0x400454D0
IFF_TUN, IFF_NO_PI, IFF_VNET_HDR = 0x0001, 0x1000, 0x4000
TUN_F_CSUM, TUN_F_TSO4 = 0x01, 0x02
# The header of an offloaded segment, and the largest one.
READ_BYTES = 10 + 65536


def main():
    tun = os.open("/dev/net/tun", os.O_RDWR | os.O_NONBLOCK)
    fcntl.ioctl(tun, TUNSETIFF, struct.pack("16sH", sys.argv[1].encode(), IFF_TUN | IFF_NO_PI | IFF_VNET_HDR))
    fcntl.ioctl(tun, TUNSETOFFLOAD, TUN_F_CSUM | TUN_F_TSO4)
    delay = 0.0
    waiting = collections.deque()
    print("up", flush=True)
    while True:
        wait = max(0, waiting[0][0] - time.monotonic()) if waiting else None
        ready, _, _ = select.select([tun, sys.stdin], [], [], wait)
        now = time.monotonic()
        if sys.stdin in ready:
            line = sys.stdin.readline()
            if not line:
                return
            delay = float(line) / 1000
            print("changed", flush=True)
        if tun in ready:
            try:
                for _ in range(64):
                    waiting.append((now + delay, os.read(tun, READ_BYTES)))
            except BlockingIOError:
                pass
        now = time.monotonic()
        while waiting and waiting[0][0] <= now:
            try:
                os.write(tun, waiting[0][1])
            except BlockingIOError:
                break
            except OSError:
                # The way to its destination is gone.
                pass
            waiting.popleft()


if __name__ == "__main__":
    main()
