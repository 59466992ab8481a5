//! When to look, on Linux: the kernel sends a message for every address that comes or goes.

use std::io;
use std::os::unix::net::UnixDatagram;
use std::task::{Context, Poll};

use rustix::io::Errno;
use rustix::net::netlink::SocketAddrNetlink;
use rustix::net::{self, AddressFamily, SocketFlags, SocketType};
use tokio::io::ReadBuf;

/// RTMGRP_IPV4_IFADDR and RTMGRP_IPV6_IFADDR of linux/rtnetlink.h.
const ADDRESS_GROUPS: u32 = 0x10 | 0x100;

/// A netlink socket. What is received from it is received as from any socket of datagrams, and those
/// tokio has only for Unix sockets.
#[derive(Debug)]
pub(crate) struct Hints(tokio::net::UnixDatagram);

impl Hints {
    pub(crate) fn new() -> io::Result<Hints> {
        let socket = net::socket_with(
            AddressFamily::NETLINK,
            SocketType::RAW,
            SocketFlags::NONBLOCK | SocketFlags::CLOEXEC,
            // NETLINK_ROUTE is the default.
            None,
        )?;
        net::bind(&socket, &SocketAddrNetlink::new(0, ADDRESS_GROUPS))?;
        let socket = tokio::net::UnixDatagram::from_std(UnixDatagram::from(socket))?;
        Ok(Hints(socket))
    }

    /// Ready when addresses may have changed. All messages that wait are one hint.
    pub(crate) fn poll(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let mut some = false;
        loop {
            // What does not fit is dropped, as the rest is.
            let mut bytes = [0; 64];
            match self.0.poll_recv(cx, &mut ReadBuf::new(&mut bytes)) {
                Poll::Ready(Ok(())) => some = true,
                // Messages came faster than they were read: a hint as good as they were.
                Poll::Ready(Err(err)) if Errno::from_io_error(&err) == Some(Errno::NOBUFS) => {
                    some = true;
                }
                Poll::Ready(Err(err)) => return Poll::Ready(Err(err)),
                Poll::Pending if some => return Poll::Ready(Ok(())),
                Poll::Pending => return Poll::Pending,
            }
        }
    }
}
