//! Frames: how a stream of bytes is cut into messages.
//!
//! ```text
//! before both have proved the key:    length u32 | body                 length <= HANDSHAKE_MAX
//! after:                              length u32 | tag 32 | body        length <= FRAME_MAX
//! ```
//! Little-endian. The tag is HMAC-SHA256, with a key of this connection and direction, of the frame's number, its length and its body: on the way nobody can
//! change, repeat, drop or reorder frames. It does not hide them. A length is a claim: memory is taken as the bytes come, not before.

use hmac::{Hmac, KeyInit, Mac};
use sha2::Sha256;
use std::io::{self, Read, Write};

/// Longest body of a handshake.
pub(super) const HANDSHAKE_MAX: usize = 128;
/// Longest body of a request or an answer.
pub(super) const FRAME_MAX: usize = 256 << 20;
/// Bytes of a tag, a proof, a nonce.
pub(super) const TAG: usize = 32;

pub(super) type HmacSha256 = Hmac<Sha256>;

/// Why there is no frame.
#[derive(Debug, thiserror::Error)]
pub(super) enum FrameError {
    /// The stream ended between two frames.
    #[error("the connection was closed")]
    Closed,
    #[error("a frame of {len} bytes is longer than {max}")]
    TooLong { len: usize, max: usize },
    /// Its tag is not that of its content and its place.
    #[error("a frame was forged or mangled on the way")]
    Forged,
    #[error(transparent)]
    Io(#[from] io::Error),
}

/// The key and the number of frames of one direction.
#[derive(Clone, Debug)]
pub(super) struct Seal {
    mac: HmacSha256,
    count: u64,
}

impl Seal {
    pub(super) fn new(key: &[u8]) -> Self {
        Self {
            mac: keyed(key),
            count: 0,
        }
    }

    fn next(&mut self, len: u32) -> HmacSha256 {
        let mut mac = self.mac.clone();
        mac.update(&self.count.to_le_bytes());
        mac.update(&len.to_le_bytes());
        self.count = self.count.wrapping_add(1);
        mac
    }
}

/// HMAC with a key of any length.
pub(super) fn keyed(key: &[u8]) -> HmacSha256 {
    HmacSha256::new_from_slice(key).expect("invariant: HMAC takes keys of any length")
}

fn length(len: usize, max: usize) -> Result<u32, FrameError> {
    let fits = u32::try_from(len).ok().filter(|_| len <= max);
    fits.ok_or(FrameError::TooLong { len, max })
}

/// Writes a frame of the handshake.
pub(super) fn write_plain(to: &mut impl Write, body: &[u8]) -> Result<(), FrameError> {
    let len = length(body.len(), HANDSHAKE_MAX)?;
    let mut frame = Vec::with_capacity(4 + body.len());
    frame.extend(len.to_le_bytes());
    frame.extend(body);
    Ok(to.write_all(&frame)?)
}

/// Reads a frame of the handshake.
pub(super) fn read_plain(from: &mut impl Read) -> Result<Vec<u8>, FrameError> {
    let len = read_length(from, HANDSHAKE_MAX)?;
    read_body(from, len)
}

/// Writes a frame whose body is the `parts`, one after the other.
pub(super) fn write(
    to: &mut impl Write,
    seal: &mut Seal,
    parts: &[&[u8]],
) -> Result<(), FrameError> {
    let len = parts.iter().map(|part| part.len()).sum();
    let length = length(len, FRAME_MAX)?;
    let mut mac = seal.next(length);
    let mut frame = Vec::with_capacity(4 + TAG + len);
    frame.extend(length.to_le_bytes());
    frame.extend([0; TAG]);
    for part in parts {
        mac.update(part);
        frame.extend(*part);
    }
    frame[4..4 + TAG].copy_from_slice(&mac.finalize().into_bytes());
    Ok(to.write_all(&frame)?)
}

/// Reads a frame.
pub(super) fn read(from: &mut impl Read, seal: &mut Seal) -> Result<Vec<u8>, FrameError> {
    let len = read_length(from, FRAME_MAX)?;
    let mut tag = [0; TAG];
    from.read_exact(&mut tag)?;
    let body = read_body(from, len)?;
    let mut mac = seal.next(len as u32);
    mac.update(&body);
    // In constant time.
    mac.verify_slice(&tag).map_err(|_| FrameError::Forged)?;
    Ok(body)
}

fn read_length(from: &mut impl Read, max: usize) -> Result<usize, FrameError> {
    let mut bytes = [0; 4];
    let mut have = 0;
    while have < bytes.len() {
        match from.read(&mut bytes[have..]) {
            Ok(0) if have == 0 => return Err(FrameError::Closed),
            Ok(0) => return Err(io::Error::from(io::ErrorKind::UnexpectedEof).into()),
            Ok(read) => have += read,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error.into()),
        }
    }
    let len = u32::from_le_bytes(bytes) as usize;
    if len > max {
        return Err(FrameError::TooLong { len, max });
    }
    Ok(len)
}

fn read_body(from: &mut impl Read, len: usize) -> Result<Vec<u8>, FrameError> {
    let mut body = Vec::new();
    from.take(len as u64).read_to_end(&mut body)?;
    if body.len() < len {
        return Err(io::Error::from(io::ErrorKind::UnexpectedEof).into());
    }
    Ok(body)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::collection::vec;
    use proptest::prelude::*;

    fn sealed(bodies: &[Vec<u8>]) -> Vec<u8> {
        let mut seal = Seal::new(b"key");
        let mut bytes = Vec::new();
        for body in bodies {
            let (first, second) = body.split_at(body.len() / 2);
            write(&mut bytes, &mut seal, &[first, second]).expect("write");
        }
        bytes
    }

    fn read_all(mut bytes: &[u8], key: &[u8]) -> (Vec<Vec<u8>>, FrameError) {
        let mut seal = Seal::new(key);
        let mut bodies = Vec::new();
        loop {
            match read(&mut bytes, &mut seal) {
                Ok(body) => bodies.push(body),
                Err(error) => return (bodies, error),
            }
        }
    }

    proptest! {
        #[test]
        fn frames_come_as_they_were_sent(bodies in vec(vec(any::<u8>(), 0..300), 0..5)) {
            let (read, end) = read_all(&sealed(&bodies), b"key");
            prop_assert_eq!(read, bodies);
            prop_assert!(matches!(end, FrameError::Closed));
        }

        #[test]
        fn any_bytes_are_an_error_never_a_panic(bytes in vec(any::<u8>(), 0..400)) {
            prop_assert!(read_all(&bytes, b"key").0.is_empty());
            let mut rest = bytes.as_slice();
            while let Ok(body) = read_plain(&mut rest) {
                prop_assert!(body.len() <= HANDSHAKE_MAX);
            }
        }

        #[test]
        fn a_changed_bit_is_noticed(
            bodies in vec(vec(any::<u8>(), 0..50), 1..4), at in any::<prop::sample::Index>(), bit in 0..8u8,
        ) {
            let mut bytes = sealed(&bodies);
            let at = at.index(bytes.len());
            bytes[at] ^= 1 << bit;
            let (read, end) = read_all(&bytes, b"key");
            prop_assert!(read.len() < bodies.len());
            prop_assert_eq!(&read[..], &bodies[..read.len()]);
            prop_assert!(!matches!(end, FrameError::Closed));
        }

        #[test]
        fn a_cut_stream_is_not_a_closed_one(body in vec(any::<u8>(), 0..50), cut in any::<prop::sample::Index>()) {
            let bytes = sealed(&[body]);
            let cut = cut.index(bytes.len() - 1) + 1;
            let (read, end) = read_all(&bytes[..cut], b"key");
            prop_assert!(read.is_empty());
            prop_assert!(matches!(end, FrameError::Io(_)));
        }
    }

    #[test]
    fn frames_have_their_place_and_their_key() {
        let bytes = sealed(&[b"one".to_vec(), b"two".to_vec()]);
        let (first, second) = bytes.split_at(bytes.len() / 2);
        assert!(matches!(read_all(second, b"key").1, FrameError::Forged));
        let twice = [first, first].concat();
        let (read, end) = read_all(&twice, b"key");
        assert_eq!(read, [b"one".to_vec()]);
        assert!(matches!(end, FrameError::Forged));
        assert!(matches!(read_all(first, b"another").1, FrameError::Forged));
    }

    #[test]
    fn claims_are_bounded() {
        let claim = (FRAME_MAX as u32 + 1).to_le_bytes();
        assert!(matches!(
            read_all(&claim, b"key").1,
            FrameError::TooLong { .. }
        ));
        assert!(matches!(
            read_plain(&mut (HANDSHAKE_MAX as u32 + 1).to_le_bytes().as_slice()),
            Err(FrameError::TooLong { .. })
        ));
        // A long one that never comes takes no memory and ends with the stream.
        let claim = [&(FRAME_MAX as u32).to_le_bytes()[..], &[0; 64]].concat();
        assert!(matches!(read_all(&claim, b"key").1, FrameError::Io(_)));
        assert!(write_plain(&mut Vec::new(), &[0; HANDSHAKE_MAX + 1]).is_err());
    }
}
