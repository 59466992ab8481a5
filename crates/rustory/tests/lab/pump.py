"""Delays, thins and drops what passes through a TUN device: the weather between sites.

Started by the lab in the namespace of the public router. Reads lines of
`ONE_WAY_MS LOSS_PERCENT BYTES_PER_SECOND` (0: no limit), and answers each with a line.
"""

import collections
import fcntl
import os
import random
import select
import struct
import sys
import time

TUNSETIFF, IFF_TUN, IFF_NO_PI = 0x400454CA, 0x0001, 0x1000
# A line that is busy for longer than this drops packets, as the buffer of a real one does.
BACKLOG_S_MAX = 0.5

tun = os.open("/dev/net/tun", os.O_RDWR | os.O_NONBLOCK)
fcntl.ioctl(tun, TUNSETIFF, struct.pack("16sH", sys.argv[1].encode(), IFF_TUN | IFF_NO_PI))
chance = random.Random(7)
delay = loss = rate = 0.0
free_at = 0.0
waiting = collections.deque()
print("up", flush=True)


def take(packet, now):
    global free_at
    if chance.random() < loss:
        return
    leaves = now
    if rate:
        free_at = max(free_at, now) + len(packet) / rate
        if free_at - now > BACKLOG_S_MAX:
            free_at -= len(packet) / rate
            return
        leaves = free_at
    waiting.append((leaves + delay, packet))


while True:
    wait = max(0, waiting[0][0] - time.monotonic()) if waiting else None
    ready, _, _ = select.select([tun, sys.stdin], [], [], wait)
    now = time.monotonic()
    if sys.stdin in ready:
        line = sys.stdin.readline()
        if not line:
            sys.exit()
        one_way_ms, loss_percent, rate = map(float, line.split())
        delay, loss = one_way_ms / 1000, loss_percent / 100
        print("changed", flush=True)
    if tun in ready:
        try:
            for _ in range(64):
                take(os.read(tun, 65536), now)
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
