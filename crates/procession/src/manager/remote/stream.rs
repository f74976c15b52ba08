//! Stream: a connection by TCP or a Unix socket.

use super::address::Address;
use crate::sys::socket;
use std::io::{self, Read, Write};
use std::net::{Shutdown, TcpStream};
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::net::UnixStream;
use std::time::{Duration, Instant};

/// Longest time in which a peer must take something of what is sent to it.
const WRITE_TIME: Duration = Duration::from_secs(30);

/// A connected socket.
#[derive(Debug)]
pub(in super::super) enum Stream {
    Tcp(TcpStream),
    Unix(UnixStream),
}

impl Stream {
    /// Connects, by TCP for at most `patience`. (A Unix socket connects at once, or waits while the listener's queue is full.)
    pub(super) fn connect(address: &Address, patience: Duration) -> io::Result<Self> {
        Ok(match address {
            Address::Tcp(address) => Self::Tcp(TcpStream::connect_timeout(address, patience)?),
            Address::Unix(path) => Self::Unix(UnixStream::connect(path)?),
        })
    }

    /// Whether nobody is at the other end any more.
    pub(in super::super) fn has_ended(&self) -> bool {
        socket::has_hung_up(self)
    }

    /// Ends both directions, for whoever uses the stream.
    pub(super) fn shut_down(&self) {
        let _ = match self {
            Self::Tcp(stream) => stream.shutdown(Shutdown::Both),
            Self::Unix(stream) => stream.shutdown(Shutdown::Both),
        };
    }

    fn set_read_time(&self, time: Option<Duration>) -> io::Result<()> {
        match self {
            Self::Tcp(stream) => stream.set_read_timeout(time),
            Self::Unix(stream) => stream.set_read_timeout(time),
        }
    }

    fn set_write_time(&self, time: Option<Duration>) -> io::Result<()> {
        match self {
            Self::Tcp(stream) => stream.set_write_timeout(time),
            Self::Unix(stream) => stream.set_write_timeout(time),
        }
    }

    /// After the handshake: reads may wait for ever, but a machine at the other end that has gone dark is noticed.
    pub(super) fn settle(&self) -> io::Result<()> {
        self.set_read_time(None)?;
        self.set_write_time(Some(WRITE_TIME))?;
        if let Self::Tcp(stream) = self {
            stream.set_nodelay(true)?;
            socket::keep_alive(stream)?;
        }
        Ok(())
    }
}

impl AsFd for Stream {
    fn as_fd(&self) -> BorrowedFd<'_> {
        match self {
            Self::Tcp(stream) => stream.as_fd(),
            Self::Unix(stream) => stream.as_fd(),
        }
    }
}

impl Read for &Stream {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        match self {
            Stream::Tcp(stream) => (&mut &*stream).read(buffer),
            Stream::Unix(stream) => (&mut &*stream).read(buffer),
        }
    }
}

impl Write for &Stream {
    fn write(&mut self, buffer: &[u8]) -> io::Result<usize> {
        match self {
            Stream::Tcp(stream) => (&mut &*stream).write(buffer),
            Stream::Unix(stream) => (&mut &*stream).write(buffer),
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// A stream until a deadline, however slowly the bytes trickle.
#[derive(Debug)]
pub(super) struct Timed<'a> {
    pub(super) stream: &'a Stream,
    pub(super) deadline: Instant,
}

impl Timed<'_> {
    fn left(&self) -> io::Result<Duration> {
        let left = self.deadline.saturating_duration_since(Instant::now());
        if left.is_zero() {
            return Err(io::ErrorKind::TimedOut.into());
        }
        Ok(left)
    }
}

impl Read for Timed<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        self.stream.set_read_time(Some(self.left()?))?;
        let mut stream = self.stream;
        stream.read(buffer)
    }
}

impl Write for Timed<'_> {
    fn write(&mut self, buffer: &[u8]) -> io::Result<usize> {
        self.stream.set_write_time(Some(self.left()?))?;
        let mut stream = self.stream;
        stream.write(buffer)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
