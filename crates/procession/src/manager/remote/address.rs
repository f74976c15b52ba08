//! Where a manager can be reached from outside, and the key that opens it.

use crate::sys::random;
use serde::{Deserialize, Serialize};
use std::fmt;
use std::io;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};

/// Where a manager serves clients outside its family.
///
/// # Examples
/// ```
/// use procession::Address;
/// use std::net::{Ipv4Addr, SocketAddr};
/// use std::path::Path;
///
/// let any_port = SocketAddr::from((Ipv4Addr::LOCALHOST, 0));
/// assert_eq!(Address::from(any_port).to_string(), "127.0.0.1:0");
/// assert_eq!(Address::from(Path::new("/run/app.sock")).to_string(), "/run/app.sock");
/// ```
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum Address {
    /// TCP.
    Tcp(SocketAddr),
    /// A Unix socket.
    Unix(PathBuf),
}

impl From<SocketAddr> for Address {
    fn from(address: SocketAddr) -> Self {
        Self::Tcp(address)
    }
}

impl From<PathBuf> for Address {
    fn from(path: PathBuf) -> Self {
        Self::Unix(path)
    }
}

impl From<&Path> for Address {
    fn from(path: &Path) -> Self {
        Self::Unix(path.to_owned())
    }
}

impl From<&Self> for Address {
    fn from(address: &Self) -> Self {
        address.clone()
    }
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Tcp(address) => address.fmt(f),
            Self::Unix(path) => path.display().fmt(f),
        }
    }
}

/// The secret that a manager and its remote clients share. It is never sent; `Debug` does not show it.
///
/// Make it [`random`](AuthKey::random) and hand it over by a way that others cannot read: whoever sees a connection being made can try out guesses of a key that a person made up.
///
/// # Examples
/// ```
/// use procession::AuthKey;
///
/// let key = AuthKey::random()?;
/// let same = AuthKey::new(key.as_bytes()); // read from a file, say
/// assert!(key == same);
/// assert_eq!(format!("{key:?}"), "AuthKey(..)");
/// # Ok::<(), std::io::Error>(())
/// ```
#[derive(Clone, Serialize, Deserialize)]
pub struct AuthKey(Vec<u8>);

impl AuthKey {
    /// A key of any length.
    #[must_use]
    pub fn new(bytes: impl Into<Vec<u8>>) -> Self {
        Self(bytes.into())
    }

    /// 32 random bytes.
    ///
    /// # Errors
    /// The system's refusal.
    pub fn random() -> io::Result<Self> {
        Ok(Self(random::bytes::<32>()?.to_vec()))
    }

    /// The bytes, to be kept where the clients find them.
    #[must_use]
    pub fn as_bytes(&self) -> &[u8] {
        &self.0
    }
}

impl PartialEq for AuthKey {
    /// Takes the same time wherever the two differ.
    fn eq(&self, other: &Self) -> bool {
        let differ = self
            .0
            .iter()
            .zip(&other.0)
            .fold(0, |all, (a, b)| all | (a ^ b));
        self.0.len() == other.0.len() && differ == 0
    }
}

impl Eq for AuthKey {}

impl fmt::Debug for AuthKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("AuthKey(..)")
    }
}
