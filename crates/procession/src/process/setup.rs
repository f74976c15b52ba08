//! What the options of a child amount to, once it runs: applied by itself if it was forked, by the launch if it is executed.

use super::builder::Resource;
use crate::sys::{self, env};
use rustix::fd::{AsFd, BorrowedFd, OwnedFd};
use rustix::process::Rlimit;
use serde::{Deserialize, Serialize};
use std::ffi::{CString, OsString};
use std::io;
use std::os::unix::ffi::{OsStrExt, OsStringExt};

/// One change of the environment.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(super) enum EnvChange {
    Set(OsString, OsString),
    Remove(OsString),
    Clear,
}

/// Everything that must be set up, apart from the standard streams.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub(super) struct Setup {
    pub(super) environment: Vec<EnvChange>,
    pub(super) directory: Option<OsString>,
    pub(super) new_group: bool,
    /// Resource, soft and hard limit; `None`: no limit.
    pub(super) limits: Vec<(Resource, Option<u64>, Option<u64>)>,
}

impl Setup {
    /// The limits as the system wants them.
    pub(super) fn rlimits(&self) -> Vec<(rustix::process::Resource, Rlimit)> {
        let limit = |(resource, current, maximum): &(Resource, Option<u64>, Option<u64>)| {
            let limit = Rlimit {
                current: *current,
                maximum: *maximum,
            };
            (resource.to_system(), limit)
        };
        self.limits.iter().map(limit).collect()
    }

    /// In a forked child: makes this process what was asked for.
    pub(super) fn apply(&self) -> io::Result<()> {
        for change in &self.environment {
            match change {
                EnvChange::Set(name, value) => env::set(name, Some(value)),
                EnvChange::Remove(name) => env::set(name, None),
                EnvChange::Clear => {
                    std::env::vars_os().for_each(|(name, _)| env::set(&name, None));
                }
            }
        }
        if let Some(directory) = &self.directory {
            let attempt = || format!("change directory to {}", directory.to_string_lossy());
            rustix::process::chdir(directory)
                .map_err(|error| sys::error::failed(attempt(), error))?;
        }
        if self.new_group {
            rustix::process::setpgid(None, None)
                .map_err(|error| sys::error::failed("make a process group", error))?;
        }
        for (resource, limit) in self.rlimits() {
            rustix::process::setrlimit(resource, limit)
                .map_err(|error| sys::error::failed("set resource limits", error))?;
        }
        Ok(())
    }

    /// Our environment with the changes, for exec.
    pub(super) fn environment_for_exec(&self) -> Vec<CString> {
        let mut pairs = sys::spawn::current_environment();
        let is = |pair: &CString, name: &OsString| {
            pair.as_bytes()
                .strip_prefix(name.as_bytes())
                .is_some_and(|rest| rest.first() == Some(&b'='))
        };
        for change in &self.environment {
            match change {
                EnvChange::Clear => pairs.clear(),
                EnvChange::Remove(name) => pairs.retain(|pair| !is(pair, name)),
                EnvChange::Set(name, value) => {
                    pairs.retain(|pair| !is(pair, name));
                    let mut pair = name.clone().into_vec();
                    pair.push(b'=');
                    pair.extend(value.as_bytes());
                    pairs.extend(CString::new(pair));
                }
            }
        }
        pairs
    }
}

/// In a forked child: replaces the standard streams for which there is a descriptor.
pub(super) fn apply_stdio(streams: &[Option<OwnedFd>; 3]) -> io::Result<()> {
    // All sources out of the way of all targets first.
    let mut sources: [Option<OwnedFd>; 3] = [None, None, None];
    for (source, stream) in sources.iter_mut().zip(streams) {
        if let Some(fd) = stream {
            *source = Some(rustix::io::fcntl_dupfd_cloexec(fd, 3)?);
        }
    }
    for (source, number) in sources.iter().zip(0..) {
        if let Some(fd) = source {
            env::replace_stdio(fd.as_fd(), number)?;
        }
    }
    Ok(())
}

/// `/dev/null`, for reading and writing.
pub(super) fn open_null() -> io::Result<OwnedFd> {
    use rustix::fs::{Mode, OFlags};
    rustix::fs::open(c"/dev/null", OFlags::RDWR | OFlags::CLOEXEC, Mode::empty())
        .map_err(|error| sys::error::failed("open /dev/null", error))
}

/// The descriptors of streams, and a mask of which streams they are.
pub(super) fn passed(streams: &[Option<OwnedFd>; 3]) -> (Vec<BorrowedFd<'_>>, u8) {
    let mask = (0..3).filter(|at| streams[*at].is_some());
    let mask = mask.fold(0, |mask, at| mask | 1 << at);
    let fds = streams.iter().flatten().map(AsFd::as_fd).collect();
    (fds, mask)
}

/// Undoes [`passed`].
pub(super) fn unpassed(fds: Vec<OwnedFd>, mask: u8) -> [Option<OwnedFd>; 3] {
    let mut fds = fds.into_iter();
    [0, 1, 2].map(|at| {
        if mask & (1 << at) != 0 {
            fds.next()
        } else {
            None
        }
    })
}
