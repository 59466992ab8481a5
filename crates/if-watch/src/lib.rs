//! Tells which addresses this machine has, and when one comes or goes.
//!
//! libp2p's TCP transport and mDNS ask a crate of this name for that; this one stands in for it (see
//! `[patch.crates-io]` in the workspace's manifest). The original takes apart every message that Linux
//! knows about interfaces, routes and traffic control, which is a thirtieth of the whole binary. Here a
//! message of the kernel is only a hint, and what the addresses are is then asked of `getifaddrs`.

use std::collections::{HashSet, VecDeque};
use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};

use futures::stream::{FusedStream, Stream};
pub use ipnet::{IpNet, Ipv4Net, Ipv6Net};

#[cfg(target_os = "linux")]
mod netlink;
#[cfg(target_os = "linux")]
use netlink::Hints;

#[cfg(any(test, not(target_os = "linux")))]
mod timer;
#[cfg(not(target_os = "linux"))]
use timer::Hints;

/// Where libp2p looks for the watcher.
pub mod tokio {
    /// Watches with tokio's event loop.
    pub type IfWatcher = super::IfWatcher;
}

/// An address of this machine came or went.
#[derive(Clone, Copy, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub enum IfEvent {
    /// It is there now.
    Up(IpNet),
    /// It is gone.
    Down(IpNet),
}

/// The addresses of this machine, and a stream of what changes about them: first one event for each.
#[derive(Debug)]
pub struct IfWatcher {
    addrs: HashSet<IpNet>,
    queue: VecDeque<IfEvent>,
    hints: Hints,
}

impl IfWatcher {
    /// Begins to watch. Must be called within a tokio runtime.
    ///
    /// # Errors
    /// Whatever the system says.
    pub fn new() -> io::Result<IfWatcher> {
        // In this order: what changes in between is a hint, and looked at again.
        let hints = Hints::new()?;
        let mut watcher = IfWatcher {
            addrs: HashSet::new(),
            queue: VecDeque::new(),
            hints,
        };
        watcher.look()?;
        Ok(watcher)
    }

    /// The addresses that it has told of, or is about to.
    pub fn iter(&self) -> impl Iterator<Item = &IpNet> {
        self.addrs.iter()
    }

    /// The next change.
    pub fn poll_if_event(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<IfEvent>> {
        loop {
            if let Some(event) = self.queue.pop_front() {
                return Poll::Ready(Ok(event));
            }
            std::task::ready!(self.hints.poll(cx))?;
            self.look()?;
        }
    }

    fn look(&mut self) -> io::Result<()> {
        let now: HashSet<IpNet> = if_addrs::get_if_addrs()?
            .iter()
            .filter_map(|interface| net(&interface.addr))
            .collect();
        self.queue
            .extend(self.addrs.difference(&now).copied().map(IfEvent::Down));
        self.queue
            .extend(now.difference(&self.addrs).copied().map(IfEvent::Up));
        self.addrs = now;
        Ok(())
    }
}

fn net(addr: &if_addrs::IfAddr) -> Option<IpNet> {
    let net = match addr {
        if_addrs::IfAddr::V4(v4) => IpNet::with_netmask(v4.ip.into(), v4.netmask.into()),
        if_addrs::IfAddr::V6(v6) => IpNet::with_netmask(v6.ip.into(), v6.netmask.into()),
    };
    net.ok()
}

impl Stream for IfWatcher {
    type Item = io::Result<IfEvent>;

    fn poll_next(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        self.get_mut().poll_if_event(cx).map(Some)
    }
}

impl FusedStream for IfWatcher {
    fn is_terminated(&self) -> bool {
        false
    }
}

#[cfg(test)]
mod tests;
