//! Every time-out and bound of the network, in one place, each with its reason.
//!
//! Nothing here is left to a library's default: those are made for public networks of strangers
//! (a relay's own default ends a circuit after 128 KiB), and they change between versions.

use std::time::Duration;

// --- connections ---

/// From the first SYN to a ready connection. Without it a silent peer is pending for ever: neither
/// the swarm-key handshake nor Noise has a time-out of its own. A relay answers for a peer whose
/// host sleeps after 10 s.
pub const HANDSHAKE_TIMEOUT: Duration = Duration::from_secs(10);

/// How long a listener that refused a wrong swarm key waits for the other side to have read so.
/// Closing at once would send a reset, which throws away what the other has not read yet.
pub(super) const REFUSAL_LINGER: Duration = Duration::from_secs(1);

/// Most bytes read, and thrown away, while lingering.
pub(super) const REFUSAL_DRAIN_BYTES_MAX: usize = 4 * 1024;

/// A connection without streams, reservation or other use is closed after this long. Longer than
/// [`PULSE_EVERY`], so that signs of life keep a device connected to a hub that does not relay.
pub const IDLE_TIMEOUT: Duration = Duration::from_secs(300);

/// The system shows the other one that a connection is in use when nothing was heard for this long:
/// TCP's keepalive, which wakes no process. Home routers forget a connection after 5 minutes of
/// silence, some after 2.
pub const KEEPALIVE_AFTER: Duration = Duration::from_secs(90);

/// The same where there is no router in between. Rounds of two idle devices are less apart by default,
/// so that there is mostly nothing to do.
pub(super) const KEEPALIVE_AFTER_ON_LAN: Duration = Duration::from_secs(300);

/// How often, and how many times, it does so again before the connection is dead: noticed within
/// 135 s, on a LAN 345 s, although nobody has anything to say.
pub(super) const KEEPALIVE_EVERY: Duration = Duration::from_secs(15);
/// See [`KEEPALIVE_EVERY`].
pub(super) const KEEPALIVE_TRIES: u32 = 3;

/// What was sent and is not acknowledged for so long shows that a connection is dead: whoever has
/// something to say notices it by that. A train in a tunnel is back by then, or starts anew.
pub const UNACKNOWLEDGED_MAX: Duration = Duration::from_secs(30);

/// How often a hub is asked for a sign of life: that its host answers does not say that it does.
/// Less than a proxy before a hub keeps silent connections, which is 5 to 10 minutes mostly.
pub(super) const PULSE_EVERY: Duration = Duration::from_secs(120);

/// How long that may take. A device that sends its whole history up a slow line has some MB before
/// it; that something arrives at all is [`UNACKNOWLEDGED_MAX`]'s matter.
pub(super) const PULSE_PATIENCE: Duration = Duration::from_secs(60);

/// The same after a change of the network, when all connections may be dead and nothing is on its
/// way: three round trips of the slowest mobile line.
pub(super) const DOUBT_PATIENCE: Duration = Duration::from_secs(5);

/// How often peers ask each other again who they are; addresses that change are pushed at once.
pub(super) const IDENTIFY_INTERVAL: Duration = Duration::from_secs(6 * 3600);

/// How often the local network is asked who is there. A device asks when it comes, and whoever is
/// there answers; so this only finds those whose answers were lost. Each time all devices answer to
/// all.
pub(super) const MDNS_EVERY: Duration = Duration::from_secs(30 * 60);

/// How long others believe what a device says on the local network: two answers may be lost.
pub(super) const MDNS_TTL: Duration = Duration::from_secs(100 * 60);

/// Connections in their handshake, on a device. Its swarm has some ten devices.
pub(super) const DEVICE_PENDING_INCOMING_MAX: u32 = 64;

/// Incoming connections of a device: its swarm has at most [`TRACKER_DEVICES_MAX`] devices, each
/// with a direct and a relayed one for a moment.
pub(super) const DEVICE_INCOMING_MAX: u32 = 128;

/// Connections to one peer, on a device and on a hub. A direct one, a relayed one, and duplicates
/// that cross each other; and a device whose link flaps leaves dead ones until the next ping.
pub(super) const CONNECTIONS_PER_PEER_MAX: u32 = 8;

/// Dials at once: each device, with its addresses of two address families.
pub(super) const DEVICE_PENDING_OUTGOING_MAX: u32 = 128;

/// Connections in their handshake, on a hub. So many that 500 silent ones leave room for a device;
/// each costs some 10 KB, for [`HANDSHAKE_TIMEOUT`] at most.
pub(super) const HUB_PENDING_INCOMING_MAX: u32 = 768;

/// Established connections of a hub: [`TRACKER_DEVICES_MAX`] devices, and what flapping links leave
/// behind until they are pinged. About 100 KB each.
pub(super) const HUB_INCOMING_MAX: u32 = 192;

/// Streams on one connection, both ways. A relay carries each circuit of a device as one.
pub(super) const STREAMS_PER_CONNECTION_MAX: usize = 256;

/// Streams of one connection whose protocol is being negotiated.
pub(super) const STREAMS_NEGOTIATING_MAX: usize = 32;

/// Sync streams that one peer may hold open; more are reset. A peer needs one, or two while it
/// moves from one connection to a better one.
pub(super) const SYNC_STREAMS_PER_PEER_MAX: usize = 8;

// --- reaching a peer ---

/// How long opening a stream to a peer may take in all, dialling included.
pub const OPEN_TIMEOUT: Duration = Duration::from_secs(25);

/// Head start of addresses on the LAN and of those that worked last, before what the tracker tells
/// is dialled too. A LAN answers within a few milliseconds.
pub(super) const TRACKER_ADDRS_AFTER: Duration = Duration::from_millis(250);

/// Head start of direct addresses before a relay is tried too: a handshake over the Atlantic. An
/// address behind a firewall answers nothing, and would cost [`HANDSHAKE_TIMEOUT`]; a relayed connection
/// too many costs some KB.
pub(super) const RELAYS_AFTER: Duration = Duration::from_millis(400);

/// How often a peer that can't be reached yet is looked at again while hubs are still connecting.
pub(super) const SETTLE_STEP: Duration = Duration::from_millis(200);

/// A peer that is reached only through a relay is dialled directly again when a stream is opened,
/// but not more often than this.
pub(super) const DIRECT_RETRY_AFTER: Duration = Duration::from_secs(60);

/// And again by itself, with a hole punched anew, after this long, twice that, and so on: the other
/// router may have forgotten what stood in the way, or somebody has carried a device home.
pub(super) const DIRECT_BACKOFF_MIN: Duration = Duration::from_secs(30);

/// The same at the longest. Two symmetric routers never let a hole be punched; trying costs some KB.
pub(super) const DIRECT_BACKOFF_MAX: Duration = Duration::from_secs(1800);

/// After a change of our network it is tried when hubs have had time to see where we are now.
pub(super) const DIRECT_SETTLE: Duration = Duration::from_secs(2);

/// A relayed connection that was made to punch a hole is kept this long without streams. Nearly all
/// holes are punched at the first attempt, within a few round trips.
pub(super) const PUNCH_MAX: Duration = Duration::from_secs(10);

/// A connection that a better one replaced is kept this long without streams, for those that the
/// other side was opening.
pub(super) const DRAIN_IDLE: Duration = Duration::from_secs(2);

/// A relayed connection that a direct one replaced is closed after this long, streams or not: a
/// session moves at the end of a batch, and a batch is at most 1 MiB.
pub(super) const DRAIN_MAX: Duration = Duration::from_secs(30);

/// Addresses kept of one peer: a laptop has LAN, VPN and public ones, twice for IPv6.
pub const ADDRS_PER_PEER_MAX: usize = 16;

/// Largest address, as text, in bytes. Source: a circuit address with two peer ids and a long DNS
/// name takes about 200.
pub const ADDR_BYTES_MAX: usize = 256;

/// Peers known at once, connected or not. Those of the trackers and of mDNS, and spare.
pub(super) const PEERS_MAX: usize = 512;

/// Addresses that one dial tries at once.
pub(super) const DIAL_CONCURRENCY: u8 = 16;

// --- hubs and relays, as a device sees them ---

/// First wait before a hub is dialled again, with jitter from half of it on; doubled each time.
pub const HUB_BACKOFF_MIN: Duration = Duration::from_secs(2);

/// Longest wait before a hub is dialled again that served us lately: it is being restarted. 64
/// devices come back over 8 s then.
pub const HUB_RETURN_MAX: Duration = Duration::from_secs(15);

/// What is lately: an upgrade of its machine takes no longer.
pub(super) const HUB_RETURNS_FOR: Duration = Duration::from_secs(15 * 60);

/// Longest wait before a hub is dialled again that has been away for longer.
pub const HUB_BACKOFF_MAX: Duration = Duration::from_secs(60);

/// How long hubs are not dialled at the start, unless an address to listen on is ready before. A dial
/// before that leaves from any port, and hole punching then aims at a port that leads nowhere.
pub(super) const LISTEN_WAIT: Duration = Duration::from_secs(2);

/// From the first address to listen on to the others, which the system tells one by one.
pub(super) const LISTEN_SETTLE: Duration = Duration::from_millis(50);

/// Devices that notice a change of the network at once spread their dials over this.
pub(super) const KICK_JITTER: Duration = Duration::from_millis(500);

/// Changes of our own addresses within this are announced together.
pub(super) const ANNOUNCE_DEBOUNCE: Duration = Duration::from_millis(300);

/// The second announcement over a connection. After a hub has started, whoever comes back first is
/// told of nobody; later ones find the earlier.
pub const ANNOUNCE_AGAIN: Duration = Duration::from_secs(300);

/// A tracker that does not know the protocol may be a foreign relay; asked again this rarely.
pub(super) const FOREIGN_RETRY: Duration = Duration::from_secs(600);

/// How long a reservation waits for the relay to say who it is. Hole punching takes our address
/// from there, and freezes it when a circuit is made.
pub(super) const IDENTIFY_WAIT: Duration = Duration::from_secs(5);

/// How long resolving a name may take.
pub(super) const RESOLVE_TIMEOUT: Duration = Duration::from_secs(5);

/// Addresses of one name that are dialled.
pub(super) const RESOLVED_ADDRS_MAX: usize = 4;

/// Wall clock running ahead of the monotonic one by more than this: the machine was suspended.
pub(super) const SUSPEND_JUMP: Duration = Duration::from_secs(15);

// --- events ---

/// Events that wait for the caller. Beyond it, news that is told again later is dropped.
pub(super) const EVENTS_WAITING_MAX: usize = 1024;

/// A wrong swarm key of one address is told once in this long; scanners come often.
pub(super) const MISMATCH_QUIET: Duration = Duration::from_secs(60);

/// Addresses remembered for that.
pub(super) const MISMATCH_REMEMBERED_MAX: usize = 64;

// --- tracker ---

/// Devices that a tracker lists. One person's, several times over.
pub const TRACKER_DEVICES_MAX: usize = 64;

/// Longest text (device id, device name, user id) in an announcement, in bytes.
pub const TRACKER_TEXT_BYTES_MAX: usize = 256;

/// Largest announcement, in bytes: 16 addresses of 256 bytes, three texts, and spare for fields to
/// come.
pub const TRACKER_REQUEST_BYTES_MAX: usize = 16 * 1024;

/// Largest answer, in bytes: 64 devices with 16 addresses of 256 bytes, and spare.
pub const TRACKER_REPLY_BYTES_MAX: usize = 512 * 1024;

/// How long an announcement or its answer may take. As long as a half-open connection is believed.
pub const TRACKER_TIMEOUT: Duration = Duration::from_secs(10);

/// Announcements of one connection that are read at once.
pub(super) const TRACKER_STREAMS_MAX: usize = 4;

/// A device is forgotten this long after its last announcement. It announces itself when it connects,
/// when something changes, and at half of this; whether it is there is known by its connection.
pub const TRACKER_TTL: Duration = Duration::from_secs(3600);

/// Bounds of the time to live that a device may ask for.
pub const TRACKER_TTL_MIN: Duration = Duration::from_secs(30);
/// See [`TRACKER_TTL_MIN`].
pub const TRACKER_TTL_MAX: Duration = Duration::from_secs(24 * 3600);

/// Announcements that one device may send within [`TRACKER_RATE_WINDOW`]. One for each change of
/// address is usual.
pub const TRACKER_RATE_MAX: u32 = 30;
/// See [`TRACKER_RATE_MAX`].
pub const TRACKER_RATE_WINDOW: Duration = Duration::from_secs(60);

// --- relay server ---

/// A circuit may carry any number of bytes (0 is unlimited): a first sync of 1,000,000 entries is
/// 60 MB, and all circuits belong to the owner of the relay.
pub(super) const RELAY_CIRCUIT_BYTES_MAX: u64 = 0;

/// A circuit may live this long; 0 would end it at once. Sync resumes where it committed.
pub(super) const RELAY_CIRCUIT_DURATION_MAX: Duration = Duration::from_secs(24 * 3600);

/// Circuits at once: 64 devices, each with a few.
pub(super) const RELAY_CIRCUITS_MAX: usize = 256;
/// Circuits of one device, so that none takes all.
pub(super) const RELAY_CIRCUITS_PER_PEER_MAX: usize = 64;

/// Reservations at once. A renewal counts as one more, so four for each device.
pub(super) const RELAY_RESERVATIONS_MAX: usize = 4 * TRACKER_DEVICES_MAX;
/// Reservations of one device: connections that flapped keep theirs until they are noticed.
pub(super) const RELAY_RESERVATIONS_PER_PEER_MAX: usize = 8;

/// How long a reservation holds. Renewed at three quarters by the wall clocks of both sides, so it
/// must be longer than clocks differ.
pub(super) const RELAY_RESERVATION_DURATION: Duration = Duration::from_secs(12 * 3600);

// --- hub ---

/// How long a hub that is told to stop lets circuits end.
pub const HUB_STOP_GRACE: Duration = Duration::from_secs(3);

/// Connections to the health port at once.
pub(super) const HEALTH_CONNECTIONS_MAX: usize = 16;

/// How long a client of the health port may take to send its request.
pub(super) const HEALTH_TIMEOUT: Duration = Duration::from_secs(5);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_document_tells_the_limits_that_hold() {
        let document = include_str!("../../../../docs/network.md");
        let secs = |limit: Duration| format!("{} s", limit.as_secs());
        let kib = |limit: usize| format!("{} KiB", limit / 1024);
        let rows = [
            ("HANDSHAKE_TIMEOUT", secs(HANDSHAKE_TIMEOUT)),
            (
                "HUB_PENDING_INCOMING_MAX",
                HUB_PENDING_INCOMING_MAX.to_string(),
            ),
            ("HUB_INCOMING_MAX", HUB_INCOMING_MAX.to_string()),
            (
                "DEVICE_PENDING_INCOMING_MAX",
                DEVICE_PENDING_INCOMING_MAX.to_string(),
            ),
            (
                "CONNECTIONS_PER_PEER_MAX",
                CONNECTIONS_PER_PEER_MAX.to_string(),
            ),
            (
                "STREAMS_PER_CONNECTION_MAX",
                STREAMS_PER_CONNECTION_MAX.to_string(),
            ),
            (
                "SYNC_STREAMS_PER_PEER_MAX",
                SYNC_STREAMS_PER_PEER_MAX.to_string(),
            ),
            ("OPEN_TIMEOUT", secs(OPEN_TIMEOUT)),
            ("TRACKER_DEVICES_MAX", TRACKER_DEVICES_MAX.to_string()),
            ("ADDRS_PER_PEER_MAX", ADDRS_PER_PEER_MAX.to_string()),
            ("ADDR_BYTES_MAX", ADDR_BYTES_MAX.to_string()),
            ("TRACKER_TEXT_BYTES_MAX", TRACKER_TEXT_BYTES_MAX.to_string()),
            ("TRACKER_REQUEST_BYTES_MAX", kib(TRACKER_REQUEST_BYTES_MAX)),
            ("TRACKER_REPLY_BYTES_MAX", kib(TRACKER_REPLY_BYTES_MAX)),
            ("TRACKER_RATE_MAX", TRACKER_RATE_MAX.to_string()),
            ("TRACKER_TTL", secs(TRACKER_TTL)),
            (
                "RELAY_CIRCUIT_BYTES_MAX",
                RELAY_CIRCUIT_BYTES_MAX.to_string(),
            ),
            (
                "RELAY_CIRCUIT_DURATION_MAX",
                secs(RELAY_CIRCUIT_DURATION_MAX),
            ),
            ("RELAY_CIRCUITS_MAX", RELAY_CIRCUITS_MAX.to_string()),
            ("RELAY_RESERVATIONS_MAX", RELAY_RESERVATIONS_MAX.to_string()),
            (
                "RELAY_RESERVATION_DURATION",
                secs(RELAY_RESERVATION_DURATION),
            ),
            ("DRAIN_MAX", secs(DRAIN_MAX)),
            ("HUB_RETURN_MAX", secs(HUB_RETURN_MAX)),
            ("HUB_BACKOFF_MAX", secs(HUB_BACKOFF_MAX)),
            ("KEEPALIVE_AFTER", secs(KEEPALIVE_AFTER)),
            ("KEEPALIVE_AFTER_ON_LAN", secs(KEEPALIVE_AFTER_ON_LAN)),
            ("UNACKNOWLEDGED_MAX", secs(UNACKNOWLEDGED_MAX)),
            ("PULSE_EVERY", secs(PULSE_EVERY)),
            ("MDNS_EVERY", secs(MDNS_EVERY)),
            ("HUB_STOP_GRACE", secs(HUB_STOP_GRACE)),
        ];
        for (name, value) in rows {
            let row = format!("| `{name}` | {value} |");
            assert!(document.contains(&row), "docs/network.md lacks: {row}");
        }
    }
}
