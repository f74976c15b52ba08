//! Random bytes that nobody can guess.

use super::error::failed;
use rustix::io::Errno;
use rustix::rand::{GetRandomFlags, getrandom};
use std::io;

/// `N` of them.
pub(crate) fn bytes<const N: usize>() -> io::Result<[u8; N]> {
    let mut bytes = [0; N];
    let mut have = 0;
    while have < N {
        match getrandom(&mut bytes[have..], GetRandomFlags::empty()) {
            Err(Errno::INTR) => {}
            Err(error) => return Err(failed("get random bytes", error)),
            Ok(got) => have += got,
        }
    }
    Ok(bytes)
}
