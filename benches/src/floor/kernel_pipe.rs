//! `pipe(2)`: one call sends 8 bytes, one call receives them. The kernel keeps such small writes and reads whole, so
//! any number of processes may share an end.

use super::map::descriptor_path;
use crate::harness::Result;
use crate::link::Link;
use rustix::io::{read, write};
use rustix::pipe::{PipeFlags, pipe_with};
use std::fs::{File, OpenOptions};
use std::os::fd::OwnedFd;

/// Two kernel pipes, one each way.
pub(crate) struct KernelPipe {
    out: OwnedFd,
    back: OwnedFd,
    /// The helper's ends; the driver keeps them open for the helper to find.
    _theirs: Option<(OwnedFd, OwnedFd)>,
}

impl KernelPipe {
    /// Invitation for helpers that are to write to, and read from, the same pipes as the driver.
    pub(crate) fn same_end(&self) -> String {
        format!(
            "{}:{}",
            descriptor_path(&self.out),
            descriptor_path(&self.back)
        )
    }
}

impl Link for KernelPipe {
    type Offer = Self;

    const NAME: &'static str = "kernel-pipe";

    fn offer() -> Result<(Self, String)> {
        let (their_back, out) = pipe_with(PipeFlags::CLOEXEC)?;
        let (back, their_out) = pipe_with(PipeFlags::CLOEXEC)?;
        let invitation = format!(
            "{}:{}",
            descriptor_path(&their_out),
            descriptor_path(&their_back)
        );
        Ok((
            Self {
                out,
                back,
                _theirs: Some((their_out, their_back)),
            },
            invitation,
        ))
    }

    fn accept(offer: Self) -> Result<Self> {
        Ok(offer)
    }

    fn join(invitation: &str) -> Result<Self> {
        let (out, back) = invitation
            .split_once(':')
            .ok_or("invitation to a single pipe")?;
        let out = OpenOptions::new().write(true).open(out)?.into();
        Ok(Self {
            out,
            back: File::open(back)?.into(),
            _theirs: None,
        })
    }

    fn send(&mut self, value: u64) -> Result<()> {
        match write(&self.out, &value.to_ne_bytes())? {
            8 => Ok(()),
            short => Err(format!("the pipe took {short} bytes of 8").into()),
        }
    }

    fn recv(&mut self) -> Result<u64> {
        let mut bytes = [0; 8];
        match read(&self.back, &mut bytes)? {
            8 => Ok(u64::from_ne_bytes(bytes)),
            short => Err(format!("the pipe gave {short} bytes of 8").into()),
        }
    }
}
