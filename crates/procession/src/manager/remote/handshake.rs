//! Handshake: each side proves to the other that it has the key.
//!
//! ```text
//! server: MAGIC, its nonce
//! client: its nonce, HMAC(key, "client" nonces)
//! server: a verdict, HMAC(key, "server" nonces)       the proof only if the client's was right
//! ```
//! Nonces are 32 random bytes of each side, so no proof is good for a second time; the labels differ, so none can be sent back to its maker. The client proves first: a
//! stranger gets nothing out of a server. Each direction then has a key of its own, made of the key and both nonces, that seals its frames. All
//! comparisons of secrets are those of `hmac`, in constant time.

use super::address::AuthKey;
use super::frame::{FrameError, HmacSha256, Seal, TAG, keyed, read_plain, write_plain};
use crate::sys::random;
use hmac::Mac;
use std::io::{self, Read, Write};
use std::time::Duration;

/// Time for the whole of it.
pub(super) const HANDSHAKE_TIME: Duration = Duration::from_secs(5);

/// What a manager says first; the number is the version of everything that is said.
const MAGIC: &[u8; 20] = b"procession-manager/1";

const WELCOME: u8 = 0;
const WRONG_KEY: u8 = 1;
const FULL: u8 = 2;

/// Why the two did not come together.
#[derive(Debug, thiserror::Error)]
pub(super) enum HandshakeError {
    #[error("the keys differ")]
    WrongKey,
    #[error("there is no place for another client")]
    Full,
    #[error("{0}")]
    Protocol(String),
    #[error(transparent)]
    Io(#[from] io::Error),
}

impl From<FrameError> for HandshakeError {
    fn from(error: FrameError) -> Self {
        match error {
            FrameError::Io(error) => Self::Io(error),
            FrameError::Closed => Self::Io(io::ErrorKind::UnexpectedEof.into()),
            FrameError::TooLong { .. } | FrameError::Forged => Self::Protocol(error.to_string()),
        }
    }
}

/// What seals the frames of a connection.
#[derive(Clone, Debug)]
pub(super) struct Seals {
    pub(super) outgoing: Seal,
    pub(super) incoming: Seal,
}

/// The key and what both sides threw in.
struct Terms<'a> {
    key: &'a AuthKey,
    server: [u8; TAG],
    client: [u8; TAG],
}

impl Terms<'_> {
    fn mac(&self, label: &str) -> HmacSha256 {
        let mut mac = keyed(self.key.as_bytes());
        for part in [label.as_bytes(), &[0], &self.server, &self.client] {
            mac.update(part);
        }
        mac
    }

    fn prove(&self, label: &str) -> [u8; TAG] {
        self.mac(label).finalize().into_bytes().into()
    }

    fn is_proof(&self, label: &str, proof: &[u8]) -> bool {
        self.mac(label).verify_slice(proof).is_ok()
    }

    fn seal(&self, label: &str) -> Seal {
        Seal::new(&self.prove(label))
    }
}

fn nonce(bytes: &[u8]) -> Option<([u8; TAG], &[u8])> {
    let (nonce, rest) = bytes.split_at_checked(TAG)?;
    Some((nonce.try_into().ok()?, rest))
}

/// The server's part. `has_place` is asked once the client has proved the key.
pub(super) fn accept(
    stream: &mut (impl Read + Write),
    key: &AuthKey,
    has_place: impl FnOnce() -> bool,
) -> Result<Seals, HandshakeError> {
    let server = random::bytes()?;
    write_plain(stream, &[&MAGIC[..], &server].concat())?;
    let answer = read_plain(stream)?;
    let (client, proof) = nonce(&answer)
        .ok_or_else(|| HandshakeError::Protocol("it answered no challenge".to_owned()))?;
    let terms = Terms {
        key,
        server,
        client,
    };
    if !terms.is_proof("client", proof) {
        write_plain(stream, &[WRONG_KEY])?;
        return Err(HandshakeError::WrongKey);
    }
    if !has_place() {
        write_plain(stream, &[FULL])?;
        return Err(HandshakeError::Full);
    }
    write_plain(stream, &[&[WELCOME][..], &terms.prove("server")].concat())?;
    Ok(Seals {
        outgoing: terms.seal("to client"),
        incoming: terms.seal("to server"),
    })
}

/// The client's part.
pub(super) fn connect(
    stream: &mut (impl Read + Write),
    key: &AuthKey,
) -> Result<Seals, HandshakeError> {
    let protocol = |what: &str| HandshakeError::Protocol(what.to_owned());
    let challenge = read_plain(stream)?;
    let server = challenge.strip_prefix(MAGIC).and_then(nonce);
    let Some((server, [])) = server else {
        return Err(protocol("it does not speak our protocol"));
    };
    let client = random::bytes()?;
    let terms = Terms {
        key,
        server,
        client,
    };
    write_plain(stream, &[client, terms.prove("client")].concat())?;
    match read_plain(stream)?.as_slice() {
        [WELCOME, proof @ ..] if terms.is_proof("server", proof) => Ok(Seals {
            outgoing: terms.seal("to server"),
            incoming: terms.seal("to client"),
        }),
        // It cannot prove that it has our key.
        [WELCOME, ..] | [WRONG_KEY] => Err(HandshakeError::WrongKey),
        [FULL] => Err(HandshakeError::Full),
        _ => Err(protocol("it gave no verdict")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::collection::vec;
    use proptest::prelude::*;
    use std::os::unix::net::UnixStream;

    /// Both sides, with a key each.
    fn meet(
        servers: &[u8],
        clients: &[u8],
        place: bool,
    ) -> (Result<Seals, HandshakeError>, Result<Seals, HandshakeError>) {
        let (mut left, mut right) = UnixStream::pair().expect("pair");
        let servers = AuthKey::new(servers);
        let server = std::thread::spawn(move || accept(&mut left, &servers, || place));
        let client = connect(&mut right, &AuthKey::new(clients));
        (server.join().expect("no panic"), client)
    }

    #[test]
    fn the_same_key_opens_and_seals() {
        let (server, client) = meet(b"secret", b"secret", true);
        let (mut server, mut client) = (server.expect("server"), client.expect("client"));
        let mut bytes = Vec::new();
        super::super::frame::write(&mut bytes, &mut client.outgoing, &[b"hello"]).expect("write");
        let read = super::super::frame::read(&mut bytes.as_slice(), &mut server.incoming);
        assert_eq!(read.expect("read"), b"hello");
        let back = super::super::frame::read(&mut bytes.as_slice(), &mut client.incoming);
        assert!(
            matches!(back, Err(FrameError::Forged)),
            "sent back to its maker"
        );
    }

    #[test]
    fn other_keys_and_full_houses_do_not() {
        let (server, client) = meet(b"secret", b"guess", true);
        assert!(matches!(server, Err(HandshakeError::WrongKey)));
        assert!(matches!(client, Err(HandshakeError::WrongKey)));
        let (server, client) = meet(b"secret", b"secret", false);
        assert!(matches!(server, Err(HandshakeError::Full)));
        assert!(matches!(client, Err(HandshakeError::Full)));
    }

    #[test]
    fn a_server_without_the_key_convinces_nobody() {
        for echo in [false, true] {
            let (mut left, mut right) = UnixStream::pair().expect("pair");
            let impostor = std::thread::spawn(move || {
                write_plain(&mut left, &[&MAGIC[..], &[7; TAG]].concat()).expect("write");
                let answer = read_plain(&mut left).expect("read");
                // What the client itself has proved, or anything.
                let proof = if echo { &answer[TAG..] } else { &[1; TAG][..] };
                write_plain(&mut left, &[&[WELCOME][..], proof].concat()).expect("write");
            });
            let client = connect(&mut right, &AuthKey::new(&b"secret"[..]));
            assert!(matches!(client, Err(HandshakeError::WrongKey)));
            impostor.join().expect("no panic");
        }
    }

    /// A peer that says what is given, whatever it hears.
    struct Deaf<'a>(&'a [u8]);

    impl Read for Deaf<'_> {
        fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
            self.0.read(buffer)
        }
    }

    impl Write for Deaf<'_> {
        fn write(&mut self, buffer: &[u8]) -> io::Result<usize> {
            Ok(buffer.len())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    proptest! {
        #[test]
        fn garbage_opens_nothing(bytes in vec(any::<u8>(), 0..300), frames in vec(vec(any::<u8>(), 0..=128), 0..3)) {
            let key = AuthKey::new(&b"secret"[..]);
            let mut framed = Vec::new();
            for frame in &frames {
                write_plain(&mut framed, frame).expect("write");
            }
            for bytes in [&bytes, &framed] {
                prop_assert!(accept(&mut Deaf(bytes), &key, || true).is_err());
                prop_assert!(connect(&mut Deaf(bytes), &key).is_err());
            }
        }
    }
}
