"""Networks to measure in: namespaces, a router that counts and delays, real `rr` processes on hosts.

```text
 host 198.51.100.2 --+                  +-- LAN 192.168.1.0/24: host .2, host .3, ...
                     router, which counts
 host 198.51.100.6 --+                  +-- hub 203.0.113.2
```

No namespace has a way out. One lab exists at a time; whoever makes one removes what a killed run left.
"""

import collections
import ctypes
import fcntl
import json
import os
import shutil
import signal
import subprocess
import sys
import threading
import time
import urllib.request

import common

PREFIX = "rrbench"
LOCK = "/run/rustory-bench.lock"
HUB, PORT, HEALTH_PORT = "203.0.113.2", 4001, 9464
SBIN = "/usr/local/sbin:/usr/sbin:/sbin:/usr/local/bin:/usr/bin:/bin"
CLONE_NEWNET = 0x40000000

# `forward` counts a packet that goes through the delay once: on its way out of it.
ROUTER_RULES = """
table ip bench {
  set pairs { typeof ip saddr . ip daddr; size 65535; flags dynamic; counter; }
  set blocked { type ipv4_addr . ipv4_addr; }
  chain forward {
    type filter hook forward priority 0; policy accept;
    ip saddr . ip daddr @blocked drop
    oifname delay accept
    update @pairs { ip saddr . ip daddr }
  }
}
table bridge bench {
  set pairs { typeof ip saddr . ip daddr; size 65535; flags dynamic; counter; }
  chain forward {
    type filter hook forward priority 0;
    ether type ip update @pairs { ip saddr . ip daddr }
  }
}
"""


class Failed(Exception):
    """Something did not come about; the text says what was awaited."""


def require():
    """Says what is missing for a lab, with a hint, and ends."""
    missing = None
    if not sys.platform.startswith("linux"):
        missing = ("network namespaces are not here", "run it on Linux")
    elif os.geteuid() != 0:
        missing = ("making network namespaces needs root", f"sudo python3 {sys.argv[0]}")
    else:
        for name, package in (("ip", "iproute2"), ("nft", "nftables")):
            if not shutil.which(name, path=SBIN):
                missing = (f"`{name}` is not here", f"on Debian: apt-get install {package}")
        if not os.path.exists("/dev/net/tun"):
            missing = ("`/dev/net/tun` is not here", "the kernel needs CONFIG_TUN; a container needs --device")
    if missing:
        sys.exit(f"error: {missing[0]}\nhint: {missing[1]}")


def wait(what, seconds, look, step=0.05, alive=()):
    """The first true thing that `look` sees. `alive` are processes that must go on meanwhile."""
    ends = time.monotonic() + seconds
    while True:
        seen = look()
        if seen:
            return seen
        for process in alive:
            process.assert_runs(what)
        if time.monotonic() > ends:
            said = "".join(process.last_words() for process in alive)
            raise Failed(f"not within {seconds:.0f} s: {what}{said}")
        time.sleep(step)


def run(argv, stdin=None):
    """What a program of the system says; what it says when it fails ends the run."""
    done = subprocess.run(argv, input=stdin, capture_output=True, text=True, env={"PATH": SBIN}, check=False)
    if done.returncode:
        raise Failed(f"{' '.join(argv)}: {done.stderr.strip()}")
    return done.stdout


def ip(args):
    return run(["ip", *args.split()])


class Host:
    """A machine: a namespace and its address."""

    def __init__(self, namespace, addr=None):
        self.namespace, self.addr = namespace, addr

    def ip(self, args):
        return ip(f"-n {self.namespace} {args}")

    def sh(self, command, stdin=None):
        return run(["ip", "netns", "exec", self.namespace, "sh", "-c", command], stdin)

    def sysctl(self, key, value):
        self.sh(f"echo {value} >/proc/sys/{key}")

    def inside(self, work):
        """Does something in this network, on a thread of its own."""
        results = []

        def enter():
            with open(f"/run/netns/{self.namespace}") as file:
                if ctypes.CDLL(None, use_errno=True).setns(file.fileno(), CLONE_NEWNET):
                    raise OSError(ctypes.get_errno(), "setns")
            results.append(work())

        thread = threading.Thread(target=enter)
        thread.start()
        thread.join()
        return results[0] if results else None


class Process:
    """A program on a host, with nothing of the caller's environment; what it says goes to a file."""

    def __init__(self, name, host, argv, env, log):
        self.name, self.log = name, log
        with open(log, "ab") as out:
            self.child = subprocess.Popen(
                ["ip", "netns", "exec", host.namespace, *argv],
                env={**env, "PATH": SBIN},
                cwd=env["HOME"],
                stdin=subprocess.DEVNULL,
                stdout=out,
                stderr=out,
                # Ctrl-c is for the script, which then ends the others.
                start_new_session=True,
            )
        self.proc = f"/proc/{self.child.pid}"

    def assert_runs(self, what):
        if self.child.poll() is not None:
            raise Failed(f"{self.name} has ended with {self.child.returncode}, awaited: {what}{self.last_words()}")

    def last_words(self):
        with open(self.log, errors="replace") as file:
            return f"\n--- {self.name} said last:\n" + "".join(file.readlines()[-15:])

    def stop(self):
        """Asks it to end, as a service manager does; a daemon takes 5 s at most."""
        if self.child.poll() is None:
            self.child.terminate()
            try:
                self.child.wait(10)
            except subprocess.TimeoutExpired:
                self.child.kill()
                self.child.wait()

    def memory(self):
        """{field: bytes} of VmHWM, VmRSS and RssAnon."""
        fields = ("VmHWM", "VmRSS", "RssAnon")
        with open(f"{self.proc}/status") as file:
            lines = (line.split() for line in file)
            return {words[0][:-1]: int(words[1]) * 1024 for words in lines if words[0][:-1] in fields}

    def cpu(self):
        """Seconds of processor time so far, threads that have ended included."""
        with open(f"{self.proc}/stat") as file:
            fields = file.read().rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")

    def switches(self):
        """{thread: times it gave up the processor by itself}"""
        counts = {}
        for thread in os.listdir(f"{self.proc}/task"):
            try:
                with open(f"{self.proc}/task/{thread}/status") as file:
                    for line in file:
                        if line.startswith("voluntary_ctxt_switches:"):
                            counts[thread] = int(line.split()[1])
            except OSError:
                pass
        return counts

    def traffic(self):
        """(bytes in, packets in, bytes out, packets out) of its host's network card, Ethernet headers included."""
        with open(f"{self.proc}/net/dev") as file:
            for line in file:
                name, _, numbers = line.partition(":")
                if name.strip() == "eth0":
                    numbers = list(map(int, numbers.split()))
                    return numbers[0], numbers[1], numbers[8], numbers[9]
        raise Failed(f"{self.name} has no network card")


class Lab:
    """A router, the hub's host, and the hosts that are asked for. A context manager: it removes all of it."""

    def __init__(self):
        self.lock = open(LOCK, "w")
        try:
            fcntl.flock(self.lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            sys.exit("error: another measurement of this kind runs on this machine\nhint: wait for its end")
        remove_all(PREFIX)
        self.prefix = f"{PREFIX}{os.getpid()}-"
        self.pump, self.publics, self.lan_hosts, self.links, self.blocked = None, 0, 0, [], set()

    def __enter__(self):
        try:
            self.router = self.namespace("router")
            self.router.sysctl("net/ipv4/ip_forward", 1)
            self.router.sh("nft -f -", ROUTER_RULES)
            self.router.ip("link add lan type bridge mcast_snooping 0 forward_delay 0")
            self.router.ip("addr add 192.168.1.1/24 dev lan")
            self.router.ip("link set lan up")
            self.hub = self.plug_public("hub", HUB)
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *_):
        if self.pump:
            self.pump.kill()
            self.pump.wait()
        remove_all(self.prefix)
        self.lock.close()

    def namespace(self, name):
        host = Host(self.prefix + name)
        ip(f"netns add {host.namespace}")
        host.ip("link set lo up")
        if os.path.exists("/proc/sys/net/ipv6"):
            # Its own chatter is not to be counted.
            host.sysctl("net/ipv6/conf/all/disable_ipv6", 1)
            host.sysctl("net/ipv6/conf/default/disable_ipv6", 1)
        return host

    def wire(self, host, link):
        host.ip(f"link add eth0 type veth peer name {link} netns {self.router.namespace}")
        host.ip("link set eth0 up")
        self.router.ip(f"link set {link} up")

    def public(self, name):
        """A host with a public address of its own."""
        self.publics += 1
        return self.plug_public(name, f"198.51.100.{self.publics * 4 + 2}")

    def plug_public(self, name, addr):
        host = self.namespace(name)
        host.addr, link = addr, f"to-{name}"
        head, _, last = addr.rpartition(".")
        gateway = f"{head}.{int(last) - 1}"
        self.wire(host, link)
        host.ip(f"addr add {addr}/30 dev eth0")
        self.router.ip(f"addr add {gateway}/30 dev {link}")
        host.ip(f"route add default via {gateway}")
        self.links.append(link)
        if self.pump:
            self.lead_through_pump(link)
        return host

    def on_lan(self, name):
        """A host on the one local network, where all hear each other; the hub is behind its router."""
        self.lan_hosts += 1
        host = self.namespace(name)
        host.addr, link = f"192.168.1.{self.lan_hosts + 1}", f"lan-{name}"
        self.wire(host, link)
        self.router.ip(f"link set {link} master lan")
        host.ip(f"addr add {host.addr}/24 dev eth0")
        host.ip("route add default via 192.168.1.1")
        return host

    def block(self, a, b, blocked=True):
        """Lets nothing pass directly between two hosts, or lets it again."""
        if blocked == ((a, b) in self.blocked):
            return
        verb = "add" if blocked else "delete"
        pairs = f"{{ {a.addr} . {b.addr}, {b.addr} . {a.addr} }}"
        self.router.sh("nft -f -", f"{verb} element ip bench blocked {pairs}\n")
        self.blocked ^= {(a, b)}

    def round_trip(self, ms):
        """How long a packet and its answer take between public hosts. The delay is not there before it is asked for."""
        if ms == 0 and not self.pump:
            return
        if not self.pump:
            script = os.path.join(common.BENCH, "delay.py")
            self.pump = subprocess.Popen(
                ["ip", "netns", "exec", self.router.namespace, sys.executable, script, "delay"],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                text=True,
                env={"PATH": SBIN},
                start_new_session=True,
            )
            self.pump_says("up")
            self.router.ip("link set delay up mtu 1500 txqueuelen 10000")
            self.router.ip("route add default dev delay table 100")
            for device in ("all", "delay"):
                self.router.sysctl(f"net/ipv4/conf/{device}/rp_filter", 0)
            for link in self.links:
                self.lead_through_pump(link)
        self.pump.stdin.write(f"{ms / 2}\n")
        self.pump.stdin.flush()
        self.pump_says("changed")

    def pump_says(self, expected):
        if self.pump.stdout.readline().strip() != expected:
            raise Failed("the delay has died")

    def lead_through_pump(self, link):
        self.router.sysctl(f"net/ipv4/conf/{link}/rp_filter", 0)
        self.router.ip(f"rule add iif {link} lookup 100")

    def counted(self):
        """{(from, to): bytes} so far: between networks as the router forwards it, and within the LAN."""
        counts = collections.Counter()
        for family in ("ip", "bridge"):
            listed = json.loads(self.router.sh(f"nft -j list set {family} bench pairs"))
            sets = [item["set"] for item in listed["nftables"] if "set" in item]
            for element in sets[0].get("elem", []):
                element = element["elem"]
                counts[tuple(element["val"]["concat"])] += element["counter"]["bytes"]
        return counts


def pids(namespace):
    return [int(pid) for pid in ip(f"netns pids {namespace}").split() if int(pid) != os.getpid()]


def remove_all(prefix):
    """Kills what runs in the namespaces of that name, and removes them."""
    listed = os.listdir("/run/netns") if os.path.isdir("/run/netns") else []
    names = [name for name in listed if name.startswith(prefix)]
    for name in names:
        for pid in pids(name):
            try:
                os.kill(pid, signal.SIGKILL)
            except ProcessLookupError:
                pass
    for name in names:
        # A namespace with a process in it would live on without a name.
        wait("processes end", 10, lambda: not [pid for pid in pids(name) if not is_zombie(pid)])
        ip(f"netns del {name}")


def is_zombie(pid):
    try:
        with open(f"/proc/{pid}/stat") as file:
            return file.read().rpartition(")")[2].split()[0] == "Z"
    except OSError:
        return True


class Swarm:
    """The keys of one person, the hub, and the devices."""

    def __init__(self, lab, rr, base):
        self.lab, self.rr = lab, rr
        shutil.rmtree(base, ignore_errors=True)
        self.base = os.path.join(base, "swarm")
        os.makedirs(self.base)
        self.parent, self.devices, self.hub = base, [], None
        self.env = {"HOME": self.base, "USER": "me", "LANG": "C.UTF-8", "TZ": "UTC"}
        self.swarm_key = os.path.join(self.base, ".rustory/swarm.key")
        self.command(["key", "swarm"])
        self.command(["key", "identity", os.path.join(self.base, "hub.key")])

    def __enter__(self):
        return self

    def __exit__(self, *_):
        for device in self.devices:
            device.stop()
        if self.hub:
            self.hub.stop()
        shutil.rmtree(self.parent, ignore_errors=True)

    def command(self, args, env=None):
        return run_rr(self.rr, args, env or self.env)

    def start_hub(self):
        argv = [self.rr, "hub", "--listen", f"/ip4/0.0.0.0/tcp/{PORT}", "--external", f"/ip4/{HUB}/tcp/{PORT}"]
        argv += ["--health", f"127.0.0.1:{HEALTH_PORT}", "--swarm-key", self.swarm_key]
        argv += ["--identity-key", os.path.join(self.base, "hub.key")]
        self.hub = Process("the hub", self.lab.hub, argv, self.env, os.path.join(self.base, "hub.log"))
        wait("the hub is ready", 30, self.hub_is_ready, alive=[self.hub])

    def hub_is_ready(self):
        def ask():
            try:
                with urllib.request.urlopen(f"http://127.0.0.1:{HEALTH_PORT}/readyz", timeout=5) as answer:
                    return answer.status == 200
            except OSError:
                return False

        return self.lab.hub.inside(ask)

    def device(self, host, name, **settings):
        device = Device(self, host, name)
        self.devices.append(device)
        device.configure(**settings)
        return device


def run_rr(rr, args, env):
    done = subprocess.run(
        [rr, *args], env={**env, "PATH": "/usr/bin:/bin"}, cwd=env["HOME"], capture_output=True, text=True,
        stdin=subprocess.DEVNULL, check=False,
    )
    if done.returncode:
        raise Failed(f"rr {' '.join(args)}: exit code {done.returncode}\n{done.stderr.strip()}")
    return done.stdout


class Device:
    """A host with `rr` on it: a home, a configuration, perhaps a daemon."""

    def __init__(self, swarm, host, name):
        self.swarm, self.host, self.name = swarm, host, name
        self.home = os.path.join(swarm.parent, name)
        os.makedirs(os.path.join(self.home, ".config/rustory"))
        self.env = {**swarm.env, "HOME": self.home}
        self.data = os.path.join(self.home, ".rustory")
        self.db = os.path.join(self.data, "history.db")
        self.daemon = None
        self.spool = None

    def configure(self, **settings):
        settings = {
            "device_name": self.name,
            "trackers": [f"{HUB}:{PORT}"],
            "listen": ["/ip4/0.0.0.0/tcp/4747"],
            "swarm_key_path": self.swarm.swarm_key,
            **settings,
        }
        with open(os.path.join(self.home, ".config/rustory/config.toml"), "w") as file:
            # JSON's texts, lists and truth values are TOML's as well.
            file.writelines(f"{key} = {json.dumps(value)}\n" for key, value in settings.items())

    def rr(self, *args):
        return run_rr(self.swarm.rr, args, self.env)

    def start(self):
        log = os.path.join(self.home, "daemon.log")
        self.daemon = Process(f"the daemon of {self.name}", self.host, [self.swarm.rr, "daemon"], self.env, log)

    def stop(self):
        if self.daemon:
            self.daemon.stop()
            self.daemon = None

    def status(self):
        """What `rr status` says; nothing before there is a database."""
        if not os.path.exists(self.db):
            return {"hubs": [], "peers": [], "daemon": {"running": False}}
        return json.loads(self.rr("status", "--json"))

    def is_at_hub(self):
        """Whether others find it at the hub and reach it through it."""
        return any(hub["tracker"] and hub["relay"] for hub in self.status()["hubs"])

    def peers(self):
        return {peer["name"]: peer for peer in self.status()["peers"]}

    def types(self, cmds):
        """Appends commands to this device's one open session, each in one write, as a shell does."""
        if self.spool is None:
            os.makedirs(os.path.join(self.data, "spool"), mode=0o700, exist_ok=True)
            self.spool = os.path.join(self.data, "spool/bench.spool")
            self.append(b"H1", "bench", "bash", "5.2", os.getpid(), os.uname().nodename)
        for cmd in cmds:
            self.append(b"C1", "bench", time.time_ns() // 1000, 5, 0, "/home/me/work/app", f"={cmd}")

    def append(self, kind, *fields):
        record = b"\0".join([b"\0\x1e" + kind, *(str(field).encode() for field in fields), b"\x1f"])
        with open(self.spool, "ab") as file:
            file.write(record)
