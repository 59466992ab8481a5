//! The other devices: what they are called here, and how far their history is known.

use std::collections::HashSet;

use rustory_core::Timestamp;
use rustory_store::{LastOfDevice, PeerState, Store};
use unicode_width::UnicodeWidthStr as _;

use super::columns::{ago, harmless};
use crate::daemon;
use crate::settings::Settings;
use crate::text::fit;

/// All devices whose entries are here, or that were met.
#[derive(Clone, Debug, Default)]
pub(crate) struct Devices {
    /// The most current first.
    others: Vec<Device>,
    own_id: String,
    own_names: Vec<String>,
    /// Columns of the widest label.
    label_columns: usize,
}

/// Another device.
#[derive(Clone, Debug)]
struct Device {
    id: String,
    /// What its user calls it, or the name of its host.
    name: String,
    /// The name as it is shown here, which tells it from all others.
    label: String,
    /// The host's name in its last entry.
    hostname: Option<String>,
    /// Until then its entries are known to be here.
    current: Timestamp,
    /// It is in touch, and nothing of it is missing.
    live: bool,
}

/// A longer name is clipped, in the list and in the line of devices.
const NAME_COLUMNS_MAX: usize = 16;
/// Of an id, where a name alone does not tell.
const SUFFIX_CHARS_MIN: usize = 4;

impl Devices {
    /// What can't be read is not shown.
    pub(crate) fn read(store: &Store, settings: &Settings) -> Devices {
        let own_id = store.identity().device_id.clone();
        let entries = store.last_of_devices().unwrap_or_default();
        let peers = store.peers().unwrap_or_default();
        let own_names = entries
            .iter()
            .filter(|last| last.device_id == own_id)
            .map(|last| last.hostname.clone())
            .chain([settings.device_name.clone(), crate::drain::hostname()])
            .collect();
        let others = others(&own_id, entries, &peers, &live(settings));
        Devices::new(own_id, own_names, others)
    }

    /// Labels are made once: rows are drawn at every key.
    fn new(own_id: String, own_names: Vec<String>, others: Vec<Device>) -> Devices {
        let mut devices = Devices {
            others,
            own_id,
            own_names,
            label_columns: 0,
        };
        let label = |device: &Device| devices.labelled(&device.id, &device.name);
        let labels: Vec<String> = devices.others.iter().map(label).collect();
        for (device, label) in devices.others.iter_mut().zip(labels) {
            devices.label_columns = devices.label_columns.max(label.width());
            device.label = label;
        }
        devices
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.others.is_empty()
    }

    /// What to call the device of an entry: two of one name are told apart by the end of their ids.
    pub(crate) fn label(&self, device_id: &str, hostname: &str) -> String {
        let known = self.others.iter().find(|device| device.id == device_id);
        match known {
            Some(device) if device.is_called(hostname) => device.label.clone(),
            // An entry that was imported there keeps the host that it was typed on.
            _ => self.labelled(device_id, hostname),
        }
    }

    fn labelled(&self, device_id: &str, name: &str) -> String {
        let name = shown(name);
        match self.suffix(device_id, &name) {
            Some(suffix) => format!("{name}#{suffix}"),
            None => name,
        }
    }

    /// As many letters of the id's end as tell it from the others of that name.
    fn suffix(&self, device_id: &str, name: &str) -> Option<String> {
        if device_id == self.own_id {
            return None;
        }
        let is_own = self.own_names.iter().any(|own| looks_like(own, name));
        let namesakes: Vec<&str> = self
            .others
            .iter()
            .filter(|device| device.id != device_id && device.looks_like(name))
            .map(|device| device.id.as_str())
            .collect();
        if namesakes.is_empty() && !is_own {
            return None;
        }
        let longest = device_id.chars().count();
        let tells = |&count: &usize| {
            let end = end_of(device_id, count);
            !namesakes.iter().any(|other| end_of(other, count) == end)
        };
        let count = (SUFFIX_CHARS_MIN..longest).find(tells).unwrap_or(longest);
        Some(shown(&end_of(device_id, count)))
    }

    pub(crate) fn label_columns(&self) -> usize {
        self.label_columns
    }

    /// `laptop 2m · desk 3h · nas 9d`, in at most `width` columns; the rest is counted.
    pub(crate) fn line(&self, now: Timestamp, width: usize) -> String {
        let all = self.others.iter().map(|device| {
            let age = match device.live {
                true => "now".to_owned(),
                false if device.current.is_unknown() => "?".to_owned(),
                false => ago(device.current, now),
            };
            format!("{} {age}", device.label)
        });
        let all: Vec<String> = all.collect();
        (0..=all.len())
            .rev()
            .map(|shown| some_of(&all, shown))
            .find(|line| line.width() <= width)
            .unwrap_or_default()
    }
}

/// The first of them, and how many there are besides.
fn some_of(all: &[String], shown: usize) -> String {
    let line = all[..shown].join(" · ");
    match (shown, all.len() - shown) {
        (_, 0) => line,
        (0, left) => format!("{left} devices"),
        (_, left) => format!("{line} · +{left}"),
    }
}

fn end_of(id: &str, count: usize) -> String {
    let all = id.chars().count();
    id.chars().skip(all.saturating_sub(count)).collect()
}

/// A name as it is shown.
fn shown(name: &str) -> String {
    fit(&harmless(name), NAME_COLUMNS_MAX).into_owned()
}

/// Names that are shown alike.
fn looks_like(name: &str, shown: &str) -> bool {
    self::shown(name) == shown
}

impl Device {
    fn is_called(&self, hostname: &str) -> bool {
        hostname.is_empty() || self.hostname.as_deref() == Some(hostname) || self.name == hostname
    }

    fn looks_like(&self, shown: &str) -> bool {
        looks_like(&self.name, shown)
            || self
                .hostname
                .as_deref()
                .is_some_and(|name| looks_like(name, shown))
    }
}

/// Device ids of those that the daemon is in touch with.
fn live(settings: &Settings) -> HashSet<String> {
    let dir = settings.data_dir();
    let state = daemon::running(dir).and_then(|daemon| daemon::State::read(dir, daemon.pid));
    let peers = state
        .into_iter()
        .flat_map(|state| state.peers.into_values());
    peers
        .filter(|peer| peer.live)
        .filter_map(|peer| peer.device_id)
        .collect()
}

/// A completed exchange says that everything up to then is here; without one, the last entry does,
/// by whatever way it came.
fn others(
    own_id: &str,
    entries: Vec<LastOfDevice>,
    peers: &[PeerState],
    live: &HashSet<String>,
) -> Vec<Device> {
    let peer = |id: &str| {
        let id = Some(id);
        peers.iter().find(|peer| peer.device_id.as_deref() == id)
    };
    let mut found: Vec<Device> = entries
        .into_iter()
        .filter(|last| last.device_id != own_id)
        .map(|last| Device {
            name: last.hostname.clone(),
            label: String::new(),
            hostname: Some(last.hostname),
            current: last.ts,
            live: false,
            id: last.device_id,
        })
        .collect();
    for state in peers {
        let Some(id) = state.device_id.as_deref().filter(|id| *id != own_id) else {
            continue;
        };
        let is_new = !found.iter().any(|device| device.id == id);
        if is_new && state.last_sync.is_some() {
            found.push(Device {
                id: id.to_owned(),
                name: id.to_owned(),
                label: String::new(),
                hostname: None,
                current: Timestamp::default(),
                live: false,
            });
        }
    }
    for device in &mut found {
        let Some(peer) = peer(&device.id) else {
            continue;
        };
        device.current = device.current.max(peer.last_sync.unwrap_or_default());
        device.live = live.contains(&device.id) && peer.behind_theirs() == Some(0);
        if let Some(name) = &peer.name {
            device.name.clone_from(name);
        }
    }
    found.sort_by_key(|device| std::cmp::Reverse((device.live, device.current)));
    found
}

#[cfg(test)]
mod tests {
    use super::*;
    use rustory_core::{Cursor, IngestSeq, LogId};

    const NOW: i64 = 2_000_000_000;

    fn device(id: &str, name: &str, hostname: &str, secs_ago: i64) -> Device {
        Device {
            id: id.to_owned(),
            name: name.to_owned(),
            label: String::new(),
            hostname: Some(hostname.to_owned()),
            current: Timestamp::from_secs(NOW - secs_ago).unwrap(),
            live: false,
        }
    }

    fn devices(others: Vec<Device>) -> Devices {
        Devices::new("own".to_owned(), vec!["here".to_owned()], others)
    }

    fn line(devices: &Devices, width: usize) -> String {
        devices.line(Timestamp::from_secs(NOW).unwrap(), width)
    }

    /// What is remembered of a peer that was last synced with then.
    fn peer(id: &str, secs_ago: Option<i64>, missing: i64) -> PeerState {
        let log_id = LogId::from_bytes([7; 16]);
        let at = |seq| {
            Some(Cursor {
                log_id,
                seq: IngestSeq::from_rowid(seq),
            })
        };
        PeerState {
            peer: id.to_owned(),
            device_id: Some(id.to_owned()),
            cursor: at(10),
            name: None,
            path: None,
            last_seen: None,
            last_sync: secs_ago.map(|secs| Timestamp::from_secs(NOW - secs).unwrap()),
            head: at(10 + missing),
            compared: None,
            failure: None,
            unreadable: 0,
            unsendable: 0,
        }
    }

    #[test]
    fn a_device_is_current_since_the_last_exchange_and_now_when_nothing_of_it_is_missing() {
        let last = |id: &str, secs_ago: i64| LastOfDevice {
            device_id: id.to_owned(),
            hostname: id.to_owned(),
            ts: Timestamp::from_secs(NOW - secs_ago).unwrap(),
            version: String::new(),
        };
        let entries = ["own", "synced", "through-others", "live", "behind"];
        let entries = entries.map(|id| last(id, 7_200)).into();
        let peers = [
            peer("synced", Some(60), 0),
            peer("live", Some(180), 0),
            peer("behind", Some(240), 5),
            peer("silent", Some(86_400), 0),
            peer("never", None, 0),
        ];
        let live = ["live", "behind"].map(str::to_owned).into();
        let all = devices(others("own", entries, &peers, &live));
        assert_eq!(
            line(&all, 99),
            "live now · synced 1m · behind 4m · through-others 2h · silent 1d"
        );
    }

    #[test]
    fn the_line_of_devices_is_shortened_to_the_width() {
        let mut all = devices(vec![
            device("1", "laptop", "laptop", 0),
            device("2", "desk", "desk", 3 * 3_600),
            device("3", "nas", "nas", 9 * 86_400),
        ]);
        all.others[0].live = true;
        assert_eq!(line(&all, 80), "laptop now · desk 3h · nas 9d");
        assert_eq!(line(&all, 29), "laptop now · desk 3h · nas 9d");
        assert_eq!(line(&all, 28), "laptop now · desk 3h · +1");
        assert_eq!(line(&all, 20), "laptop now · +2");
        assert_eq!(line(&all, 10), "3 devices");
        assert_eq!(line(&all, 3), "");
    }

    #[test]
    fn devices_of_one_name_are_told_apart_by_the_end_of_their_ids() {
        let all = devices(vec![
            device("aaaa1111", "desk", "desk", 60),
            device("bbbb1111", "desk", "desk", 120),
            device("cccc3333", "here", "here", 180),
            device("dddd4444", "phone", "localhost", 240),
        ]);
        assert_eq!(all.label("aaaa1111", "desk"), "desk#a1111");
        assert_eq!(all.label("bbbb1111", "desk"), "desk#b1111");
        assert_eq!(all.label("cccc3333", "here"), "here#3333");
        assert_eq!(all.label("own", "here"), "here");
        assert_eq!(all.label("dddd4444", "localhost"), "phone");
        assert_eq!(all.label("dddd4444", "desk"), "desk#4444", "imported there");
        assert_eq!(all.label("eeee", "elsewhere"), "elsewhere");
        assert_eq!(
            line(&all, 99),
            "desk#a1111 1m · desk#b1111 2m · here#3333 3m · phone 4m"
        );
    }

    #[test]
    fn names_from_afar_are_made_harmless() {
        let all = devices(vec![device("\x1b]0;x\x07", "a\x1b[31m", "a\x1b[31m", 60)]);
        assert_eq!(line(&all, 99), "a^[[31m 1m");
    }
}
