//! Everybody else: hubs and relays, and the other devices as far as they have told of themselves.

use std::time::{Duration, Instant};

use rustory_core::Timestamp;
use rustory_net::p2p::{DialFailure, HubAddr, HubError, IdentityKey, SwarmKey, reach};

use super::report::Group;
use super::{Doctor, Known, in_shell};
use crate::ctx::now;
use crate::settings::config_path;
use crate::ui::Progress;

/// How long a hub took to answer, or why it did not.
type Asked = Result<Duration, String>;

/// Clocks may differ by so much before that is told.
const CLOCKS_DIFFER_SECS: i64 = 120;

impl Doctor<'_> {
    pub(super) fn network(&self, known: &Known, progress: &mut Progress) -> Group {
        let mut group = Group::new("network");
        let settings = &self.ctx.settings;
        let hubs: Vec<&String> = settings.trackers.iter().chain(&settings.relays).collect();
        if hubs.is_empty() {
            group.well("network.hub", "no hub is set; devices meet in the local network, by ssh, or where they met before");
        }
        if let Some(stranger) = known
            .state
            .as_ref()
            .and_then(|state| state.stranger.as_ref())
        {
            group
                .problem("network.swarm_key", format!("somebody there holds another swarm key: {stranger}"))
                .why("If that is a device of yours, its swarm key is not this one: run `rr join` there with the code that is shown here. If not, there is nothing to do.")
                .mend(format!("{} pair", self.rr()));
        }
        let Ok(key) = SwarmKey::load(&settings.swarm_key_path) else {
            return group;
        };
        progress.update(|| "asking the hub".to_owned());
        for (addr, asked) in self.ask_hubs(&hubs, key) {
            self.hub(&mut group, known, addr, asked);
        }
        group
    }

    /// Asks all of them at once.
    fn ask_hubs<'a>(&self, hubs: &[&'a String], key: SwarmKey) -> Vec<(&'a String, Asked)> {
        let timeout = self.scope.timeout;
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build();
        let (Ok(runtime), Ok(identity)) = (runtime, IdentityKey::generate()) else {
            return Vec::new();
        };
        let asked = hubs.iter().map(|addr| {
            let (text, identity) = ((*addr).clone(), identity.clone());
            let answer = async move { answer(&text, &identity, key, timeout).await };
            (*addr, runtime.spawn(answer))
        });
        let asked: Vec<_> = asked.collect();
        let failed = |err: tokio::task::JoinError| Err(err.to_string());
        let answers = asked.into_iter();
        answers
            .map(|(addr, answer)| (addr, runtime.block_on(answer).unwrap_or_else(failed)))
            .collect()
    }

    fn hub(&self, group: &mut Group, known: &Known, addr: &str, asked: Asked) {
        let hubs = known.state.as_ref().map(|state| state.hubs.as_slice());
        let told = hubs.unwrap_or_default().iter().find(|hub| hub.addr == addr);
        match asked {
            Ok(took) => {
                let ms = took.as_secs_f64() * 1e3;
                group.well(
                    "network.hub",
                    format!("hub {addr} answers within {ms:.0} ms"),
                );
                if let Some((hub, error)) = told.and_then(|hub| Some((hub, hub.error.as_ref()?))) {
                    group
                        .problem("network.services", format!("the daemon says of it: tracker {}, relay {}: {error}", hub.tracker, hub.relay))
                        .why("Devices that don't know each other's addresses, or can't reach each other, need both.")
                        .mend(format!("{} status", self.rr()));
                }
            }
            Err(error) => {
                let config =
                    config_path().map_or("the configuration".to_owned(), |path| in_shell(&path));
                group
                    .problem("network.hub", format!("hub {addr} is not reached: {error}"))
                    .why("Devices that met before find each other where they were; new ones, and those behind routers, do not. Is `rr hub` up there, its port open, and the address right?")
                    .mend(format!("${{EDITOR:-vi}} {config}"));
            }
        }
    }

    pub(super) fn devices(&self, known: &Known) -> Group {
        let mut group = Group::new("devices");
        self.clocks(&mut group, known);
        let ours = env!("CARGO_PKG_VERSION");
        let mut same = 0;
        for peer in &known.peers {
            let id = peer.device_id.as_deref().unwrap_or(&peer.peer);
            let name = peer.name.as_deref().unwrap_or(id);
            match self.version_of(known, id) {
                Some(theirs) if is_newer(&theirs, ours) => {
                    group
                        .note("devices.version", format!("{name} has rr {theirs}, this is {ours}"))
                        .why("Both exchange what both know; what the newer one adds is kept here and shown there.");
                }
                Some(theirs) if is_newer(ours, &theirs) => {
                    group.note(
                        "devices.version",
                        format!("{name} has rr {theirs}, older than this one ({ours})"),
                    );
                }
                _ => same += 1,
            }
            if peer.unreadable > 0 {
                let what = format!(
                    "{} entries of {name} can't be read by this version",
                    peer.unreadable
                );
                group
                    .problem("devices.unreadable", what)
                    .why("Install the newer version here too; nothing is lost meanwhile.");
            }
            if let Some(failure) = &peer.failure {
                group
                    .note("devices.unreached", format!("{name}: {}", failure.text))
                    .mend(format!("{} status -v", self.rr()));
            }
        }
        if group.is_well() {
            let what = match same {
                0 => "no other device was met yet".to_owned(),
                1 => "1 other device, no version that is in the way".to_owned(),
                n => format!("{n} other devices, no version that is in the way"),
            };
            group.well("devices.version", what);
        }
        group
    }

    /// As it said, else as its last entry does.
    fn version_of(&self, known: &Known, id: &str) -> Option<String> {
        let peers = known.state.as_ref().map(|state| state.peers.values());
        let said =
            peers.and_then(|mut peers| peers.find(|peer| peer.device_id.as_deref() == Some(id)));
        let said = said.and_then(|peer| peer.version.clone());
        said.or_else(|| {
            let last = known.last.iter().find(|last| last.device_id == id)?;
            Some(last.version.clone())
        })
    }

    /// Nothing is decided by clocks, but a history with wrong times is hard to find things in.
    fn clocks(&self, group: &mut Group, known: &Known) {
        let now = now();
        let ahead = |ts: Timestamp| (ts.as_micros() - now.as_micros()) / 1_000_000;
        let mut well = true;
        for last in known
            .last
            .iter()
            .filter(|last| ahead(last.ts) > CLOCKS_DIFFER_SECS)
        {
            well = false;
            let secs = ahead(last.ts);
            let own = known.own_id.as_ref() == Some(&last.device_id);
            let whose = match own {
                true => "this device".to_owned(),
                false => self.name_of(known, &last.device_id, &last.hostname),
            };
            let what = format!(
                "the last entry of {whose} is from {} in the future",
                span(secs)
            );
            group
                .note("devices.clock", what)
                .why("Either clock is wrong, or was. Nothing is lost by that; entries just stand in the wrong place.")
                .mend("date; timedatectl status");
        }
        if well {
            group.well(
                "devices.clock",
                "the clock agrees with every device's last entry",
            );
        }
    }

    fn name_of(&self, known: &Known, id: &str, hostname: &str) -> String {
        let mut peers = known.peers.iter();
        let peer = peers.find(|peer| peer.device_id.as_deref() == Some(id));
        peer.and_then(|peer| peer.name.clone())
            .unwrap_or_else(|| hostname.to_owned())
    }
}

async fn answer(addr: &str, identity: &IdentityKey, key: SwarmKey, timeout: Duration) -> Asked {
    let parsed: HubAddr = addr.parse().map_err(|err| format!("{err}"))?;
    let began = Instant::now();
    let peer = match reach(&parsed, identity, key, timeout).await {
        Ok(peer) => peer,
        Err(HubError::Dial(DialFailure::TimedOut)) => {
            return Err(format!("no answer within {} s", timeout.as_secs()));
        }
        Err(err) => return Err(err.to_string()),
    };
    match parsed.peer() {
        Some(wanted) if wanted != peer => Err(format!("somebody else is there: {peer}")),
        _ => Ok(began.elapsed()),
    }
}

/// Whether version `a` is later than `b`, by their numbers.
fn is_newer(a: &str, b: &str) -> bool {
    let numbers = |version: &str| -> Vec<u64> {
        let plain = version.split(['-', '+']).next().unwrap_or_default();
        plain
            .split('.')
            .map(|part| part.parse().unwrap_or(0))
            .collect()
    };
    numbers(a) > numbers(b)
}

/// Seconds in the largest unit.
fn span(secs: i64) -> String {
    match secs {
        ..7_200 => format!("{} minutes", secs / 60),
        7_200..172_800 => format!("{} hours", secs / 3_600),
        _ => format!("{} days", secs / 86_400),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_are_compared_by_their_numbers() {
        assert!(is_newer("0.10.0", "0.9.3"));
        assert!(is_newer("1.0.0", "0.99.99"));
        assert!(!is_newer("0.1.0", "0.1.0") && !is_newer("0.1.0-dev", "0.1.0"));
    }
}
