//! A descriptor that other processes can make readable without having been given it.
//!
//! An eventfd would have to be passed from process to process. A datagram socket with an *abstract* name needs no passing: whoever reads the name in
//! shared memory rings by one `sendto`. The name is 16 random bytes, vanishes with the socket, and belongs to the network namespace; a ringer in another one is
//! refused. Strangers who find it in `/proc/net/unix` can cause a look for nothing, never more: what a bell says is "look", not "there is".
//!
//! A process rings with one socket, made for its first ring and kept (making and closing one takes longer than ringing). Its send buffer is charged
//! for every unread ring *anywhere*, so it can be full though the receiver's is not, and programs that close all descriptors close it too: where it fails, a
//! socket made for this one ring tells.
#![expect(
    unsafe_code,
    reason = "replaces a descriptor behind a shared reference"
)]
//!
//! # Safety
//! The only unsafe thing is naming a descriptor twice for `dup3`, see [`replace`].

use super::futex;
use super::set_once::SetOnce;
use rustix::event::{PollFd, PollFlags, Timespec, epoll, poll};
use rustix::io::{DupFlags, Errno};
use rustix::net::{
    AddressFamily, RecvFlags, SendFlags, SocketAddrUnix, SocketFlags, SocketType, bind, recv,
    sendto, socket_with,
};
use rustix::time::{
    Itimerspec, TimerfdClockId, TimerfdFlags, TimerfdTimerFlags, timerfd_create, timerfd_settime,
};
use std::mem::ManuallyDrop;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd};
use std::time::{Duration, Instant};

/// Name of a bell: the abstract address without its leading zero byte.
pub(crate) type Name = [u8; 16];

fn datagram_socket() -> Result<OwnedFd, Errno> {
    let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
    socket_with(AddressFamily::UNIX, SocketType::DGRAM, flags, None)
}

/// A socket that is readable once it was rung.
#[derive(Debug)]
pub(crate) struct Doorbell {
    socket: OwnedFd,
    name: Name,
}

impl Doorbell {
    /// A bell with a name of its own.
    pub(crate) fn new() -> Result<Self, Errno> {
        let socket = datagram_socket()?;
        loop {
            let mut name = [0; 16];
            rustix::rand::getrandom(&mut name, rustix::rand::GetRandomFlags::empty())?;
            match bind(&socket, &SocketAddrUnix::new_abstract_name(&name)?) {
                Err(Errno::ADDRINUSE) => {}
                Err(error) => return Err(error),
                Ok(()) => return Ok(Self { socket, name }),
            }
        }
    }

    pub(crate) fn name(&self) -> Name {
        self.name
    }

    /// Forgets all rings so far.
    pub(crate) fn drain(&self) {
        let mut byte = [0; 1];
        while !matches!(
            recv(&self.socket, &mut byte, RecvFlags::TRUNC),
            Err(error) if error != Errno::INTR
        ) {}
    }
}

impl AsFd for Doorbell {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }
}

/// What became of a ring.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Rung {
    /// The bell is readable.
    Yes,
    /// There is no such bell (any more).
    Nobody,
    /// This process could not ring: no descriptor free, or forbidden.
    Failed,
}

/// The socket that this process (and those forked from it) rings with. Made for the first ring.
static RINGING: SetOnce<OwnedFd> = SetOnce::new();

/// Rings the bell of that name.
pub(crate) fn ring(name: Name) -> Rung {
    let Ok(address) = SocketAddrUnix::new_abstract_name(&name) else {
        return Rung::Failed;
    };
    let kept = match RINGING.get() {
        Some(socket) => Ok(socket),
        None => datagram_socket().map(|socket| RINGING.get_or_make(|| socket)),
    };
    match kept.and_then(|socket| send(socket, &address)) {
        Ok(()) => Rung::Yes,
        Err(Errno::CONNREFUSED | Errno::NOENT) => Rung::Nobody,
        // Full: whose buffer is it? From a fresh socket it can only be the receiver's. Anything else: the program has closed our descriptor
        // (one that closes all when it becomes a daemon), and it may be somebody else's by now, so it is left alone.
        Err(_) => datagram_socket().map_or(Rung::Failed, |socket| said(send(&socket, &address))),
    }
}

fn send(socket: &OwnedFd, address: &SocketAddrUnix) -> Result<(), Errno> {
    let flags = SendFlags::DONTWAIT | SendFlags::NOSIGNAL;
    loop {
        match sendto(socket, &[1], flags, address) {
            Err(Errno::INTR) => {}
            result => return result.map(|_| ()),
        }
    }
}

fn said(result: Result<(), Errno>) -> Rung {
    match result {
        Ok(()) | Err(Errno::AGAIN) => Rung::Yes,
        Err(Errno::CONNREFUSED | Errno::NOENT) => Rung::Nobody,
        Err(_) => Rung::Failed,
    }
}

/// A bell that also rings by itself from time to time: one descriptor for both.
#[derive(Debug)]
pub(crate) struct Alarm {
    /// Contains `timer` and the bell's socket.
    both: OwnedFd,
    timer: OwnedFd,
    bell: Doorbell,
}

impl Alarm {
    /// An alarm that rings by itself once in a period; `None`: never.
    pub(crate) fn new(period: Option<Duration>) -> Result<Self, Errno> {
        let bell = Doorbell::new()?;
        let timer = timerfd_create(
            TimerfdClockId::Monotonic,
            TimerfdFlags::CLOEXEC | TimerfdFlags::NONBLOCK,
        )?;
        // All zero: not set.
        let period = timespec(period.unwrap_or_default());
        let spec = Itimerspec {
            it_interval: period,
            it_value: period,
        };
        timerfd_settime(&timer, TimerfdTimerFlags::empty(), &spec)?;
        let both = epoll::create(epoll::CreateFlags::CLOEXEC)?;
        for fd in [bell.as_fd(), timer.as_fd()] {
            epoll::add(
                &both,
                fd,
                epoll::EventData::new_u64(0),
                epoll::EventFlags::IN,
            )?;
        }
        Ok(Self { both, timer, bell })
    }

    pub(crate) fn name(&self) -> Name {
        self.bell.name()
    }

    /// Forgets all rings so far; `true`: it had rung by itself.
    pub(crate) fn drain(&self) -> bool {
        self.bell.drain();
        rustix::io::read(&self.timer, &mut [0; 8]).is_ok()
    }

    /// Puts the descriptors of `fresh` behind the numbers of this one, whose own are shared with the process we were forked from.
    /// Returns the name to be rung from now on.
    pub(crate) fn renew(&self, fresh: Self) -> Result<Name, Errno> {
        replace(&fresh.bell.socket, &self.bell.socket)?;
        replace(&fresh.timer, &self.timer)?;
        // What an epoll contains are the open files, not the numbers: they stay alive behind ours.
        replace(&fresh.both, &self.both)?;
        Ok(fresh.name())
    }
}

impl AsFd for Alarm {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.both.as_fd()
    }
}

fn replace(new: &OwnedFd, old: &OwnedFd) -> Result<(), Errno> {
    // SAFETY: `old` is open and stays so: `dup3` puts another file behind the number without freeing it, and the second
    // name is never dropped.
    let mut number = ManuallyDrop::new(unsafe { OwnedFd::from_raw_fd(old.as_raw_fd()) });
    rustix::io::dup3(new, &mut number, DupFlags::CLOEXEC)
}

fn timespec(duration: Duration) -> Timespec {
    Timespec {
        tv_sec: i64::try_from(duration.as_secs()).unwrap_or(i64::MAX),
        tv_nsec: i64::from(duration.subsec_nanos()),
    }
}

/// Which of `fds` are readable (or broken), waiting until `until`; none if a signal came.
pub(crate) fn readable(
    fds: &[BorrowedFd<'_>],
    until: Option<Instant>,
) -> Result<Vec<usize>, Errno> {
    let mut polled: Vec<_> = fds
        .iter()
        .map(|fd| PollFd::new(fd, PollFlags::IN))
        .collect();
    let left = until.map(|at| timespec(at.saturating_duration_since(Instant::now())));
    match poll(&mut polled, left.as_ref()) {
        Ok(0) => Ok(Vec::new()),
        Err(Errno::INTR) => {
            futex::note_signal();
            Ok(Vec::new())
        }
        Ok(_) => Ok((0..polled.len())
            .filter(|&index| !polled[index].revents().is_empty())
            .collect()),
        Err(error) => Err(error),
    }
}

/// A copy of a descriptor of another process, if the system lets us look into that one.
pub(crate) fn fetch(pid: u32, number: i32) -> Result<OwnedFd, Errno> {
    use rustix::process::{PidfdFlags, PidfdGetfdFlags, pidfd_getfd, pidfd_open};
    let pid = i32::try_from(pid)
        .ok()
        .and_then(rustix::process::Pid::from_raw)
        .ok_or(Errno::SRCH)?;
    let process = pidfd_open(pid, PidfdFlags::empty())?;
    pidfd_getfd(&process, number, PidfdGetfdFlags::empty())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn is_readable(fd: &impl AsFd) -> bool {
        !readable(&[fd.as_fd()], Some(Instant::now()))
            .expect("poll")
            .is_empty()
    }

    #[test]
    fn rings_until_drained() {
        let bell = Doorbell::new().expect("bell");
        assert!(!is_readable(&bell));
        for _ in 0..1000 {
            assert_eq!(ring(bell.name()), Rung::Yes, "a full buffer is a ring too");
        }
        assert!(is_readable(&bell));
        bell.drain();
        assert!(!is_readable(&bell));
    }

    #[test]
    fn many_bells_at_once_are_all_rung() {
        let bells: Vec<_> = (0..600).map(|_| Doorbell::new().expect("bell")).collect();
        for bell in &bells {
            assert_eq!(ring(bell.name()), Rung::Yes);
        }
        assert!(bells.iter().all(is_readable));
    }

    #[test]
    fn a_bell_that_is_gone_is_nobody() {
        let name = Doorbell::new().expect("bell").name();
        assert_eq!(ring(name), Rung::Nobody);
    }

    #[test]
    fn an_alarm_rings_by_itself_and_can_be_renewed() {
        let alarm = Alarm::new(Some(Duration::from_millis(1))).expect("alarm");
        assert_eq!(readable(&[alarm.as_fd()], None).expect("poll"), [0]);
        assert!(alarm.drain());
        let old = alarm.name();
        let name = alarm
            .renew(Alarm::new(None).expect("alarm"))
            .expect("renew");
        assert!(!is_readable(&alarm));
        assert_eq!(ring(old), Rung::Nobody);
        assert_eq!(ring(name), Rung::Yes);
        assert!(is_readable(&alarm));
        assert!(!alarm.drain());
        assert!(!is_readable(&alarm));
    }
}
