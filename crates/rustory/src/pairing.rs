//! Between the pairing code and this device: what goes into a code, and what becomes of one.

use std::collections::HashMap;
use std::net::{IpAddr, SocketAddr, UdpSocket};
use std::time::Duration;

use rustory_core::pairing::{AddrBytes, Invitation};
use rustory_net::p2p::{HubAddr, Multiaddr, PeerId, SwarmKey, peer_of_public, worth_telling};
use rustory_store::Store;

use crate::ctx::{Ctx, now};
use crate::daemon;
use crate::error::CommandError;
use crate::keys::{self, Keys};
use crate::settings::{Edit, Origin};

/// Addresses of this device in a code: the local network's and perhaps a VPN's. With more of them its
/// QR code would not fit a screen of 24 lines.
const ADDRS_MAX: usize = 2;

/// What a device is called, in a code.
const NAME_CHARS_MAX: usize = 24;

/// An invitation into the swarm of this device.
pub(crate) fn invite(
    ctx: &Ctx,
    store: &Store,
    keys: &Keys,
    daemon: &daemon::State,
    lasts: Duration,
) -> Result<Invitation, CommandError> {
    let settings = &ctx.settings;
    let known = known_hubs(store)?;
    let hubs = |list: &[String]| -> Result<Vec<_>, CommandError> {
        let addrs = list.iter().map(|text| {
            let addr: HubAddr = text
                .parse()
                .map_err(|err| CommandError::usage(format!("`{text}`: {err}")))?;
            let addr = addr.to_multiaddr(known.get(text).copied());
            Ok(addr.to_vec().into())
        });
        addrs.collect()
    };
    let listening = daemon.listening.iter().filter_map(|addr| addr.parse().ok());
    let addrs = nearest_first(worth_telling(listening), &outgoing());
    let name = settings.device_name.chars().take(NAME_CHARS_MAX).collect();
    Ok(Invitation {
        expires: seconds_now() + lasts.as_secs(),
        swarm_key: keys.swarm.to_bytes(),
        peer_key: keys.identity.public_bytes(),
        addrs: addrs.iter().map(|addr| addr.to_vec().into()).collect(),
        hubs: hubs(&settings.trackers)?,
        relays: hubs(&settings.relays)?,
        user_id: Some(settings.user_id.clone()),
        user_is_set: settings.origins.contains_key("user_id").then_some(true),
        device_name: Some(name),
    })
}

/// Who was found behind the hubs' addresses.
fn known_hubs(store: &Store) -> Result<HashMap<String, PeerId>, CommandError> {
    let mut known = HashMap::new();
    for entry in store.addr_book()? {
        if let (Some(addr), Ok(peer)) = (entry.addr.strip_prefix("hub:"), entry.peer.parse()) {
            // The newest comes first.
            known.entry(addr.to_owned()).or_insert(peer);
        }
    }
    Ok(known)
}

/// This machine's addresses on the way to other networks. Asked of the system; nothing is sent.
fn outgoing() -> Vec<IpAddr> {
    // Documentation's own networks: nobody is there.
    let ways = [("0.0.0.0:0", "192.0.2.1:9"), ("[::]:0", "[2001:db8::1]:9")];
    let own = ways.into_iter().filter_map(|(from, to)| {
        let socket = UdpSocket::bind(from).ok()?;
        socket.connect(to).ok()?;
        socket.local_addr().ok()
    });
    own.map(|addr: SocketAddr| addr.ip()).collect()
}

/// IPv6, which makes a code much longer, only where there is no IPv4. Those by which this machine reaches
/// others come first: bridges of containers and the like are no help to anybody.
fn nearest_first(mut addrs: Vec<Multiaddr>, outgoing: &[IpAddr]) -> Vec<Multiaddr> {
    let is_v4 = |addr: &Multiaddr| host(addr).is_some_and(|ip| ip.is_ipv4());
    if addrs.iter().any(is_v4) {
        addrs.retain(is_v4);
    }
    addrs.sort_by_key(|addr| !host(addr).is_some_and(|ip| outgoing.contains(&ip)));
    addrs.truncate(ADDRS_MAX);
    addrs
}

/// Those of a kind that this version knows; others are no help.
fn multiaddrs(list: &[AddrBytes]) -> Vec<Multiaddr> {
    let read = list.iter().map(|bytes| Multiaddr::try_from(bytes.to_vec()));
    read.filter_map(Result::ok).collect()
}

/// Whether nobody but this very machine can use the addresses of an invitation.
pub(crate) fn leads_nowhere_else(invitation: &Invitation) -> bool {
    let own = |addr: &Multiaddr| host(addr).is_some_and(|ip| ip.is_loopback());
    multiaddrs(&invitation.addrs).iter().all(own)
}

fn host(addr: &Multiaddr) -> Option<IpAddr> {
    addr.to_string().split('/').nth(2)?.parse().ok()
}

/// By the system's clock.
pub(crate) fn seconds_now() -> u64 {
    u64::try_from(now().as_micros() / 1_000_000).unwrap_or(0)
}

/// An invitation as this device takes it.
#[derive(Debug)]
pub(crate) struct Welcome {
    pub(crate) swarm: SwarmKey,
    /// Who invites.
    pub(crate) peer: PeerId,
    /// What that device is called, for people.
    pub(crate) name: String,
    addrs: Vec<Multiaddr>,
    hubs: Vec<String>,
    relays: Vec<String>,
    user_id: Option<(String, bool)>,
}

impl Welcome {
    /// `None`: there is no device that could have written it.
    pub(crate) fn of(invitation: &Invitation) -> Option<Welcome> {
        let peer = peer_of_public(&invitation.peer_key)?;
        let texts = |list| -> Vec<String> {
            let texts = multiaddrs(list).into_iter().map(|addr| addr.to_string());
            texts
                .filter(|text| text.parse::<HubAddr>().is_ok())
                .collect()
        };
        let name = invitation.device_name.as_deref().unwrap_or_default();
        let name = crate::text::visible(name.into(), crate::text::Breaks::Mark);
        let name: String = name.chars().take(NAME_CHARS_MAX).collect();
        let is_set = invitation.user_is_set.unwrap_or(false);
        let user_id = invitation.user_id.as_ref().filter(|id| {
            !id.is_empty() && id.len() <= USER_ID_BYTES_MAX && !id.chars().any(char::is_control)
        });
        Some(Welcome {
            swarm: SwarmKey::from_bytes(invitation.swarm_key),
            peer,
            name: match name.is_empty() {
                true => peer.to_string(),
                false => name,
            },
            addrs: multiaddrs(&invitation.addrs),
            hubs: texts(&invitation.hubs),
            relays: texts(&invitation.relays),
            user_id: user_id.map(|id| (id.clone(), is_set)),
        })
    }

    /// What joining changes in the configuration. `stays`: this device is in that swarm already, so
    /// hubs of its own are kept.
    pub(crate) fn edit(&self, ctx: &Ctx, keeps: bool) -> Result<Edit, CommandError> {
        let settings = &ctx.settings;
        let mut edit = Edit::begin()?;
        for (key, own, told) in [
            ("trackers", &settings.trackers, &self.hubs),
            ("relays", &settings.relays, &self.relays),
        ] {
            let list = match keeps {
                true => merged(own, told),
                false => told.clone(),
            };
            if list == *own {
                continue;
            }
            if let Some(Origin::Env(name)) = settings.origins.get(key) {
                crate::ui::warn(format_args!(
                    "{name} is set here and wins over `{key}` of the configuration"
                ));
            }
            edit.set_list(key, &list);
        }
        if let Some(user_id) = self.new_user_id(ctx) {
            edit.set_text("user_id", user_id);
        }
        Ok(edit)
    }

    /// The label that this device's entries get from now on, if that is another one than before. What
    /// somebody chose is not replaced by a login name.
    pub(crate) fn new_user_id(&self, ctx: &Ctx) -> Option<&str> {
        let (theirs, theirs_is_set) = self.user_id.as_ref()?;
        let settings = &ctx.settings;
        let ours_is_set = settings.origins.contains_key("user_id");
        let differs = settings.user_id != *theirs;
        (differs && (*theirs_is_set || !ours_is_set)).then_some(theirs)
    }

    /// Puts the key in its place and the addresses into the log's book.
    pub(crate) fn enter(
        &self,
        ctx: &Ctx,
        store: &mut Store,
        before: Option<&SwarmKey>,
    ) -> Result<(), CommandError> {
        if let Some(before) = before {
            keys::enter_swarm(store, before)?;
        }
        if before != Some(&self.swarm) {
            keys::put_swarm(&ctx.settings.swarm_key_path, &self.swarm)?;
        }
        keys::enter_swarm(store, &self.swarm)?;
        let peer = self.peer.to_string();
        for addr in &self.addrs {
            store.note_addr(&peer, &addr.to_string(), now())?;
        }
        Ok(())
    }
}

/// As `rr` accepts it in an entry.
const USER_ID_BYTES_MAX: usize = 256;

/// Our own, and those of theirs that are not among them, by any name.
fn merged(own: &[String], told: &[String]) -> Vec<String> {
    let place = |text: &String| {
        let addr = text.parse::<HubAddr>().ok()?;
        let addr = addr.to_multiaddr(None).to_string();
        // A name is one place, whatever family of addresses it is looked up for.
        let place = addr.split("/p2p/").next()?.replace("/dns4/", "/dns/");
        Some(place.replace("/dns6/", "/dns/"))
    };
    let known: Vec<_> = own.iter().map(place).collect();
    let new = told.iter().filter(|text| !known.contains(&place(text)));
    own.iter().chain(new).cloned().collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_address_that_others_see_comes_first_and_there_are_few() {
        let addrs = [
            "/ip4/172.17.0.1/tcp/4747",
            "/ip6/2001:db8::5/tcp/4747",
            "/ip4/172.18.0.1/tcp/4747",
            "/ip4/192.168.1.4/tcp/4747",
            "/ip4/10.0.0.4/tcp/4747",
        ];
        let parsed = addrs.iter().map(|addr| addr.parse().unwrap()).collect();
        let out = ["192.168.1.4", "2001:db8::5"].map(|ip| ip.parse().unwrap());
        let sorted = nearest_first(parsed, &out);
        let shown: Vec<String> = sorted.iter().map(ToString::to_string).collect();
        assert_eq!(shown, [addrs[3], addrs[0]]);
        let of = |addrs: &[&str]| {
            let parsed = addrs.iter().map(|addr| addr.parse().unwrap());
            nearest_first(parsed.collect(), &out).len()
        };
        assert_eq!((of(&addrs[1..2]), of(&[addrs[1], addrs[3]])), (1, 1));
    }

    #[test]
    fn a_hub_that_is_known_by_another_name_is_not_added_again() {
        let id = "12D3KooWPjceQrSwdWXPyLLeABRXmuqt69Rg3sBYbU1Nft9HyQ6X";
        let list = |items: &[&str]| items.iter().map(ToString::to_string).collect::<Vec<_>>();
        let own = list(&["hub.example:4001", "/ip4/192.0.2.1/tcp/1"]);
        let same = format!("/dns/hub.example/tcp/4001/p2p/{id}");
        let told = list(&[&same, "/ip4/192.0.2.1/tcp/2"]);
        assert_eq!(
            merged(&own, &told),
            list(&[
                "hub.example:4001",
                "/ip4/192.0.2.1/tcp/1",
                "/ip4/192.0.2.1/tcp/2"
            ])
        );
        assert_eq!(merged(&own, &own), own);
    }
}
