//! A small Internet: a public router, a hub host, and sites, each behind a NAT of some kind.
//!
//! ```text
//!  host 192.168.1.2 --+                                      +-- host 192.168.1.2
//!  host 192.168.1.3 --+-- NAT 198.51.100.2 --+   +-- NAT 198.51.100.6 --+
//!                                            router
//!                       host 198.51.100.10 --+   +-- hub 203.0.113.2
//! ```
//!
//! Homes have the same private addresses, as homes do: an address of one means somebody else in
//! another. The router counts what passes between sites; a test believes these counters, and not
//! what programs say.

use std::io::{BufRead as _, BufReader, Write as _};
use std::net::Ipv4Addr;
use std::path::Path;
use std::process::{Child, ChildStdout, Stdio};
use std::time::Duration;

use crate::namespace::{Claim, Namespace};

/// Where the hub is.
pub(crate) const HUB: Ipv4Addr = Ipv4Addr::new(203, 0, 113, 2);

/// The port that every daemon and the hub listen on.
pub(crate) const PORT: u16 = 4001;

/// What a port-shifting NAT makes of [`PORT`] of the host with number 0; the others follow.
pub(crate) const SHIFTED: u16 = 34_001;

/// What stands between a site and the Internet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Nat {
    /// Nothing: the host has a public address, and anybody reaches it.
    None,
    /// A home router: keeps the port where it is free, lets in what was asked for.
    Home,
    /// Whoever sends to the mapped port gets in.
    FullCone,
    /// As a carrier does it: one mapping for all destinations, to another port.
    Shift,
    /// A new port for every destination.
    Symmetric,
}

/// All of them, in the order of the tables.
pub(crate) const NATS: [Nat; 5] = [
    Nat::None,
    Nat::Home,
    Nat::FullCone,
    Nat::Shift,
    Nat::Symmetric,
];

/// What a NAT does with packets that nobody asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Unsolicited {
    /// Nothing, as most do.
    Drop,
    /// It answers that the port is closed.
    Reject,
}

/// How a site is connected.
#[derive(Clone, Copy, Debug)]
pub(crate) struct SiteSpec {
    pub(crate) nat: Nat,
    pub(crate) unsolicited: Unsolicited,
    /// The third byte of its private addresses.
    pub(crate) subnet: u8,
}

impl From<Nat> for SiteSpec {
    fn from(nat: Nat) -> SiteSpec {
        SiteSpec {
            nat,
            unsolicited: Unsolicited::Drop,
            subnet: 1,
        }
    }
}

/// The weather between sites.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Weather {
    /// How long a packet is under way; a round trip takes twice that.
    pub(crate) one_way: Duration,
    /// How many of a hundred packets are lost.
    pub(crate) loss_percent: u32,
    /// What all of the Internet carries, in bytes a second; 0: any amount.
    pub(crate) bytes_per_second: u32,
}

impl Weather {
    /// Nothing is lost, and a round trip takes this long.
    pub(crate) fn round_trip(time: Duration) -> Weather {
        Weather {
            one_way: time / 2,
            ..Weather::default()
        }
    }
}

/// What passed between two sites, both ways.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Traffic {
    pub(crate) packets: u64,
    pub(crate) bytes: u64,
}

impl std::ops::Sub for Traffic {
    type Output = Traffic;

    fn sub(self, before: Traffic) -> Traffic {
        Traffic {
            packets: self.packets - before.packets,
            bytes: self.bytes - before.bytes,
        }
    }
}

/// A place on the Internet, by its number.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct SiteId(usize);

/// A machine.
#[derive(Clone, Debug)]
pub(crate) struct Host {
    pub(crate) namespace: Namespace,
    pub(crate) site: SiteId,
    /// Its own address, as it sees it.
    pub(crate) addr: Ipv4Addr,
    /// Its link, as its router calls it.
    link: String,
}

#[derive(Debug)]
struct Site {
    spec: SiteSpec,
    /// The address that the Internet sees.
    public: Ipv4Addr,
    /// Its link, as the public router calls it.
    link: String,
    /// The NAT; a site without one has only its host.
    router: Option<Namespace>,
    hosts: u8,
}

/// The Internet and what is on it. Everything is removed when it is dropped.
#[derive(Debug)]
pub(crate) struct Lab {
    internet: Namespace,
    sites: Vec<Site>,
    hub: Host,
    hosts: usize,
    pump: Option<Pump>,
    // Last, so that it is dropped last.
    claim: Claim,
}

/// A device that forwards all packets between sites to the pump, once it is there.
const PUMP_DEVICE: &str = "weather";

const INTERNET_RULES: &str = "
table ip lab {
  set pairs { typeof ip saddr . ip daddr; size 65535; flags dynamic; counter; }
  set dials { typeof ip saddr . ip daddr; size 65535; flags dynamic; counter; }
  set blocked { type ipv4_addr . ipv4_addr; }
  set cut { type ifname; }
  chain forward {
    type filter hook forward priority 0; policy accept;
    iifname @cut drop
    oifname @cut drop
    ip saddr . ip daddr @blocked drop
    oifname weather accept
    update @pairs { ip saddr . ip daddr }
    tcp flags & (syn|ack) == syn update @dials { ip saddr . ip daddr }
  }
}
";

impl Lab {
    /// The Internet with nobody on it but the hub's host. Waits for any other lab to end.
    pub(crate) fn new() -> Lab {
        let claim = Claim::take();
        let internet = claim.namespace("inet");
        internet.sysctl("net.ipv4.ip_forward", "1");
        for private in ["10.0.0.0/8", "172.16.0.0/12", "192.168.0.0/16"] {
            internet.ip(&format!("route add blackhole {private}"));
        }
        internet.nft(INTERNET_RULES);
        let namespace = claim.namespace("hub");
        let hub = Host {
            namespace,
            site: SiteId(0),
            addr: HUB,
            link: "site0".to_owned(),
        };
        let mut lab = Lab {
            internet,
            sites: Vec::new(),
            hub,
            hosts: 0,
            pump: None,
            claim,
        };
        let hub = lab.hub.clone();
        lab.add_site(Nat::None.into(), HUB, Some(&hub.namespace));
        lab
    }

    /// Where the hub runs.
    pub(crate) fn hub(&self) -> &Host {
        &self.hub
    }

    /// A home, an office, a carrier: a NAT with room for hosts.
    pub(crate) fn site(&mut self, spec: impl Into<SiteSpec>) -> SiteId {
        let spec = spec.into();
        assert!(
            spec.nat != Nat::None,
            "a host without a NAT is its own site"
        );
        self.add_site(spec, self.next_public(), None)
    }

    /// A host at a site.
    pub(crate) fn host(&mut self, site: SiteId) -> Host {
        let namespace = self.next_host();
        self.plug(&namespace, site)
    }

    /// A host at a site of its own, behind a NAT or not.
    pub(crate) fn host_behind(&mut self, spec: impl Into<SiteSpec>) -> Host {
        let spec = spec.into();
        if spec.nat != Nat::None {
            let site = self.site(spec);
            return self.host(site);
        }
        let namespace = self.next_host();
        let addr = self.next_public();
        let site = self.add_site(spec, addr, Some(&namespace));
        Host {
            namespace,
            site,
            addr,
            link: self.sites[site.0].link.clone(),
        }
    }

    fn next_public(&self) -> Ipv4Addr {
        let number = u8::try_from(self.sites.len()).unwrap();
        assert!(number <= 63, "no more addresses");
        // The hub is number 0.
        Ipv4Addr::new(198, 51, 100, (number - 1) * 4 + 2)
    }

    fn next_host(&mut self) -> Namespace {
        self.hosts += 1;
        self.claim.namespace(&format!("host{}", self.hosts))
    }

    fn add_site(&mut self, spec: SiteSpec, public: Ipv4Addr, only: Option<&Namespace>) -> SiteId {
        let number = self.sites.len();
        let link = format!("site{number}");
        let router = match only {
            Some(_) => None,
            None => Some(self.claim.namespace(&format!("nat{number}"))),
        };
        let (end, name) = match (only, &router) {
            (Some(host), _) => (host, "eth0"),
            (None, Some(router)) => (router, "wan"),
            (None, None) => unreachable!("one of the two is there"),
        };
        let gateway = Ipv4Addr::from(u32::from(public) - 1);
        wire(end, name, &self.internet, &link);
        end.ip(&format!("addr add {public}/30 dev {name}"));
        self.internet
            .ip(&format!("addr add {gateway}/30 dev {link}"));
        end.ip(&format!("route add default via {gateway}"));
        if let Some(router) = &router {
            make_nat(router, spec, public);
        }
        if self.pump.is_some() {
            self.lead_through_pump(&link);
        }
        self.sites.push(Site {
            spec,
            public,
            link,
            router,
            hosts: 0,
        });
        SiteId(number)
    }

    /// Connects a host to the network of a site.
    fn plug(&mut self, namespace: &Namespace, site: SiteId) -> Host {
        let there = &mut self.sites[site.0];
        let router = there.router.as_ref().expect("a site with a NAT");
        let (number, subnet) = (there.hosts, there.spec.subnet);
        there.hosts += 1;
        let link = format!("port{number}");
        let addr = Ipv4Addr::new(192, 168, subnet, number + 2);
        wire(namespace, "eth0", router, &link);
        router.ip(&format!("link set {link} master lan"));
        namespace.ip(&format!("addr add {addr}/24 dev eth0"));
        namespace.ip(&format!("route add default via 192.168.{subnet}.1"));
        Host {
            namespace: namespace.clone(),
            site,
            addr,
            link,
        }
    }

    /// Takes a host from the network it is on to another one, where it has another address. What
    /// runs on it goes on.
    pub(crate) fn move_to(&mut self, host: &mut Host, site: SiteId) {
        host.namespace.ip("link del eth0");
        *host = self.plug(&host.namespace.clone(), site);
    }

    /// The address that the Internet sees of a host.
    pub(crate) fn public(&self, host: &Host) -> Ipv4Addr {
        self.sites[host.site.0].public
    }

    /// What passed on the Internet between the sites of two hosts so far.
    pub(crate) fn traffic(&self, a: &Host, b: &Host) -> Traffic {
        let ends = [self.public(a), self.public(b)];
        let counted = self.internet.nft_set("ip", "pairs");
        sum(&counted, ends)
    }

    /// What passed between two hosts within their site, past the router, so far.
    pub(crate) fn lan_traffic(&self, a: &Host, b: &Host) -> Traffic {
        assert_eq!(a.site, b.site);
        let router = self.sites[a.site.0].router.as_ref().unwrap();
        sum(&router.nft_set("bridge", "pairs"), [a.addr, b.addr])
    }

    /// TCP connections that the first one's site began to the second one's so far, the SYNs of
    /// retries included.
    pub(crate) fn dials(&self, from: &Host, to: &Host) -> u64 {
        let ends = [self.public(from), self.public(to)].map(|addr| addr.to_string());
        let counted = self.internet.nft_set("ip", "dials");
        let found = counted.iter().find(|element| addrs_of(element) == ends);
        found.map_or(0, |element| traffic_of(element).packets)
    }

    /// Lets nothing pass directly between two sites; both reach everybody else.
    pub(crate) fn block(&self, a: &Host, b: &Host) {
        self.blocked("add", a, b);
    }

    /// Ends what [`Lab::block`] began.
    pub(crate) fn unblock(&self, a: &Host, b: &Host) {
        self.blocked("delete", a, b);
    }

    fn blocked(&self, verb: &str, a: &Host, b: &Host) {
        let (a, b) = (self.public(a), self.public(b));
        let elements = format!("{{ {a} . {b}, {b} . {a} }}");
        self.internet
            .nft(&format!("{verb} element ip lab blocked {elements}\n"));
    }

    /// Silently loses everything to and from the site of a host.
    pub(crate) fn cut(&self, host: &Host) {
        self.links("add", host);
    }

    /// Ends what [`Lab::cut`] began.
    pub(crate) fn restore(&self, host: &Host) {
        self.links("delete", host);
    }

    fn links(&self, verb: &str, host: &Host) {
        let link = &self.sites[host.site.0].link;
        self.internet
            .nft(&format!("{verb} element ip lab cut {{ \"{link}\" }}\n"));
    }

    /// Takes the cable out of a host: it notices.
    pub(crate) fn unplug(&self, host: &Host) {
        self.router_of(host)
            .ip(&format!("link set {} down", host.link));
    }

    /// Puts it in again.
    pub(crate) fn plug_in(&self, host: &Host) {
        self.router_of(host)
            .ip(&format!("link set {} up", host.link));
    }

    fn router_of(&self, host: &Host) -> &Namespace {
        let router = self.sites[host.site.0].router.as_ref();
        router.unwrap_or(&self.internet)
    }

    /// Changes the weather between all sites, from now on.
    pub(crate) fn weather(&mut self, weather: Weather) {
        if self.pump.is_none() {
            self.pump = Some(Pump::start(&self.internet));
            let links: Vec<String> = self.sites.iter().map(|site| site.link.clone()).collect();
            for link in links {
                self.lead_through_pump(&link);
            }
        }
        self.pump.as_mut().unwrap().set(weather);
    }

    fn lead_through_pump(&self, link: &str) {
        self.internet
            .sysctl(&format!("net.ipv4.conf.{link}.rp_filter"), "0");
        self.internet.ip(&format!("rule add iif {link} lookup 100"));
    }
}

impl Drop for Lab {
    fn drop(&mut self) {
        // It ends when its namespace does; this reaps it.
        if let Some(pump) = self.pump.as_mut() {
            let _ = pump.child.kill();
            let _ = pump.child.wait();
        }
    }
}

/// A cable between two namespaces; both ends are up.
fn wire(a: &Namespace, a_name: &str, b: &Namespace, b_name: &str) {
    a.ip(&format!(
        "link add {a_name} type veth peer name {b_name} netns {b}"
    ));
    a.ip(&format!("link set {a_name} up"));
    b.ip(&format!("link set {b_name} up"));
}

fn make_nat(router: &Namespace, spec: SiteSpec, public: Ipv4Addr) {
    let SiteSpec {
        nat,
        unsolicited,
        subnet,
    } = spec;
    router.sysctl("net.ipv4.ip_forward", "1");
    // Without snooping, the bridge passes multicast to everybody, as a cheap switch does.
    router.ip("link add lan type bridge mcast_snooping 0 forward_delay 0");
    router.ip(&format!("addr add 192.168.{subnet}.1/24 dev lan"));
    router.ip("link set lan up");
    let refuse = match unsolicited {
        Unsolicited::Drop => "drop",
        Unsolicited::Reject => "reject with icmp type port-unreachable",
    };
    let mut way_in = String::new();
    let mut way_out = String::new();
    match nat {
        Nat::None => unreachable!("no router is made for it"),
        Nat::Home => way_out.push_str("oifname wan masquerade\n"),
        Nat::FullCone => {
            way_in = format!(
                "iifname wan ct state new meta l4proto {{ tcp, udp }} dnat to 192.168.{subnet}.2\n"
            );
            way_out.push_str("oifname wan masquerade\n");
        }
        Nat::Shift => {
            for number in 0..8 {
                let (host, port) = (number + 2, SHIFTED + number);
                for protocol in ["tcp", "udp"] {
                    way_out.push_str(&format!(
                        "oifname wan ip saddr 192.168.{subnet}.{host} {protocol} sport {PORT} \
                         snat to {public}:{port}\n"
                    ));
                }
            }
            way_out.push_str("oifname wan masquerade\n");
        }
        Nat::Symmetric => way_out.push_str("oifname wan masquerade fully-random\n"),
    }
    router.nft(&format!(
        "table ip lab {{
           chain in {{ type nat hook prerouting priority dstnat; {way_in}
           }}
           chain out {{ type nat hook postrouting priority srcnat; {way_out}
           }}
           chain own {{ type filter hook input priority filter; iifname wan ct state new {refuse}
           }}
           chain pass {{ type filter hook forward priority filter;
             iifname wan oifname lan ct state new ct status & dnat != dnat {refuse}
           }}
         }}
         table bridge lab {{
           set pairs {{ typeof ip saddr . ip daddr; size 4096; flags dynamic; counter; }}
           chain pass {{ type filter hook forward priority 0;
             ether type ip update @pairs {{ ip saddr . ip daddr }}
           }}
         }}
        "
    ));
}

fn addrs_of(element: &serde_json::Value) -> [String; 2] {
    let pair = &element["elem"]["val"]["concat"];
    [0, 1].map(|at| pair[at].as_str().unwrap_or_default().to_owned())
}

fn traffic_of(element: &serde_json::Value) -> Traffic {
    let counter = &element["elem"]["counter"];
    Traffic {
        packets: counter["packets"].as_u64().unwrap_or_default(),
        bytes: counter["bytes"].as_u64().unwrap_or_default(),
    }
}

/// Both directions between two addresses.
fn sum(counted: &[serde_json::Value], ends: [Ipv4Addr; 2]) -> Traffic {
    let [a, b] = ends.map(|addr| addr.to_string());
    let wanted = [[a.clone(), b.clone()], [b, a]];
    counted
        .iter()
        .filter(|element| wanted.contains(&addrs_of(element)))
        .map(traffic_of)
        .fold(Traffic::default(), |sum, next| Traffic {
            packets: sum.packets + next.packets,
            bytes: sum.bytes + next.bytes,
        })
}

/// The program that makes the weather.
#[derive(Debug)]
struct Pump {
    child: Child,
    answers: BufReader<ChildStdout>,
}

impl Pump {
    fn start(internet: &Namespace) -> Pump {
        let mut child = internet
            .command(Path::new("python3"))
            .args(["-c", include_str!("pump.py"), PUMP_DEVICE])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let answers = BufReader::new(child.stdout.take().unwrap());
        let mut pump = Pump { child, answers };
        pump.answer("up");
        internet.ip(&format!(
            "link set {PUMP_DEVICE} up mtu 1500 txqueuelen 10000"
        ));
        internet.ip(&format!("route add default dev {PUMP_DEVICE} table 100"));
        for device in ["all", PUMP_DEVICE] {
            internet.sysctl(&format!("net.ipv4.conf.{device}.rp_filter"), "0");
        }
        pump
    }

    fn set(&mut self, weather: Weather) {
        let Weather {
            one_way,
            loss_percent,
            bytes_per_second,
        } = weather;
        let one_way_ms = one_way.as_secs_f64() * 1_000.0;
        let stdin = self.child.stdin.as_mut().unwrap();
        writeln!(stdin, "{one_way_ms} {loss_percent} {bytes_per_second}").unwrap();
        self.answer("changed");
    }

    fn answer(&mut self, expected: &str) {
        let mut line = String::new();
        self.answers.read_line(&mut line).unwrap();
        assert_eq!(line.trim(), expected, "the pump has died");
    }
}
