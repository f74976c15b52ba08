//! A pair of sockets between two processes, for messages with descriptors; and what the standard library does not say about its own sockets.

use super::error::failed;
use rustix::fd::{AsFd, BorrowedFd, OwnedFd};
use rustix::io::Errno;
use rustix::net::{
    AddressFamily, RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, SendAncillaryBuffer,
    SendAncillaryMessage, SendFlags, SocketFlags, SocketType, recv, recvmsg, sendmsg, socketpair,
    sockopt,
};
use std::io::{self, IoSlice, IoSliceMut};
use std::mem::MaybeUninit;
use std::time::Duration;

/// Most descriptors in one message.
pub(crate) const MAX_FDS: usize = 3;

/// Two connected ends that keep message boundaries; closed on exec.
pub(crate) fn pair() -> io::Result<(OwnedFd, OwnedFd)> {
    socketpair(
        AddressFamily::UNIX,
        SocketType::SEQPACKET,
        SocketFlags::CLOEXEC,
        None,
    )
    .map_err(|error| failed("make a pair of sockets", error))
}

/// Sends one message. A closed other end is an error, never a signal.
pub(crate) fn send(to: impl AsFd, bytes: &[u8], fds: &[BorrowedFd<'_>]) -> io::Result<()> {
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(MAX_FDS))];
    let mut control = SendAncillaryBuffer::new(&mut space);
    if !fds.is_empty() && !control.push(SendAncillaryMessage::ScmRights(fds)) {
        return Err(io::Error::from(io::ErrorKind::InvalidInput));
    }
    loop {
        match sendmsg(
            &to,
            &[IoSlice::new(bytes)],
            &mut control,
            SendFlags::NOSIGNAL,
        ) {
            Err(Errno::INTR) => {}
            result => return result.map(drop).map_err(io::Error::from),
        }
    }
}

/// Receives one message: its length (0: the other end is closed) and its descriptors, closed on exec.
pub(crate) fn receive(from: impl AsFd, bytes: &mut [u8]) -> io::Result<(usize, Vec<OwnedFd>)> {
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(MAX_FDS))];
    let mut control = RecvAncillaryBuffer::new(&mut space);
    let received = loop {
        match recvmsg(
            &from,
            &mut [IoSliceMut::new(bytes)],
            &mut control,
            RecvFlags::CMSG_CLOEXEC,
        ) {
            Err(Errno::INTR) => {}
            result => break result.map_err(io::Error::from)?,
        }
    };
    let mut fds = Vec::new();
    for message in control.drain() {
        if let RecvAncillaryMessage::ScmRights(rights) = message {
            fds.extend(rights);
        }
    }
    Ok((received.bytes, fds))
}

/// Whether a connected stream has no one at its other end any more. Takes nothing out.
pub(crate) fn has_hung_up(stream: impl AsFd) -> bool {
    loop {
        let flags = RecvFlags::PEEK | RecvFlags::DONTWAIT;
        return match recv(&stream, &mut [0u8; 1], flags) {
            Err(Errno::INTR) => continue,
            Err(Errno::AGAIN) => false,
            Ok((_, available)) => available == 0,
            Err(_) => true,
        };
    }
}

/// Has the system ask a silent TCP peer whether it is there: one that is not breaks the connection after about half a minute.
pub(crate) fn keep_alive(stream: impl AsFd) -> io::Result<()> {
    let set = || {
        sockopt::set_socket_keepalive(&stream, true)?;
        sockopt::set_tcp_keepidle(&stream, Duration::from_secs(15))?;
        sockopt::set_tcp_keepintvl(&stream, Duration::from_secs(5))?;
        sockopt::set_tcp_keepcnt(&stream, 3)
    };
    set().map_err(|error| failed("have a connection kept alive", error))
}
