//! Buffers inside messages: whole or not at all, received once, and no memory lost.

use super::super::{Fault, Killed, Landing};
use super::queue::{Message, getting, putting};
use super::stage::Act;
use crate::channel::{Buffer, pack, pack_consuming, unpack, unpack_keeping};
use crate::heap::{Block, Hold};
use crate::{Serde, SharedMemory};

const LEN: usize = 5000;

fn filled(byte: u8) -> Buffer {
    let mut buffer = Buffer::new(LEN).expect("buffer");
    buffer.fill(byte);
    buffer
}

fn is_filled(buffer: &Buffer, byte: u8) -> bool {
    buffer.len() == LEN && buffer.iter().all(|found| *found == byte)
}

impl Message for (u64, Buffer) {
    type Codec = Serde;
    fn make(number: u64) -> Self {
        (number, filled(number as u8))
    }
    fn number(self) -> Option<u64> {
        is_filled(&self.1, self.0 as u8).then_some(self.0)
    }
}

#[test]
fn crash_put_buffer_inside() {
    putting::<(u64, Buffer)>("queue put, with a buffer inside", 0, 2).play_thinned();
}

#[test]
fn crash_get_buffer_inside() {
    getting::<(u64, Buffer)>("queue get, with a buffer inside", 2).play_thinned();
}

/// A message outside any queue, which both can unpack.
struct Parcel {
    bytes: Vec<u8>,
    _holds: Vec<Hold>,
}

fn parcel() -> Parcel {
    let mut bytes = Vec::new();
    let holds = pack(&filled(7), &mut bytes).expect("pack");
    Parcel {
        bytes,
        _holds: holds,
    }
}

/// So that no allocation of the victim is its process's first of that size.
fn warm(_: &Parcel) {
    let other = parcel();
    drop(unpack_keeping::<Buffer>(&other.bytes));
    drop(unpack::<Buffer>(&other.bytes));
}

/// What the survivor gets after the victim: the buffer, or word that it was received.
fn second(parcel: &Parcel) -> Result<bool, Fault> {
    match unpack::<Buffer>(&parcel.bytes) {
        Ok(buffer) if is_filled(&buffer, 7) => Ok(true),
        Ok(_) => Err("a damaged buffer".into()),
        Err(error) if error.to_string().contains("received already") => Ok(false),
        Err(error) => Err(error.to_string().into()),
    }
}

/// The survivor receives after the victim is reaped.
#[test]
fn crash_receive_buffer() {
    Act::new("buffer receive", parcel, warm, |parcel, ()| {
        // Not dropped: what the victim owns is the reaper's.
        std::mem::forget(unpack::<Buffer>(&parcel.bytes));
    })
    .judge(|parcel, killed| {
        let got = second(&parcel)?;
        if got && killed.landing == Landing::Finished {
            return Err("received twice".into());
        }
        if second(&parcel)? {
            return Err("it can be received again and again".into());
        }
        Ok(())
    })
    .play_thinned();
}

/// The survivor receives while the victim is dead and not yet reaped.
#[test]
fn crash_receive_buffer_before_the_reaper() {
    let props = || (parcel(), std::cell::RefCell::new(Ok(false)));
    Act::new(
        "buffer receive, the next receiver comes before the reaper",
        props,
        |(parcel, _)| warm(parcel),
        |(parcel, _), ()| std::mem::forget(unpack::<Buffer>(&parcel.bytes)),
    )
    .witness(|(parcel, got)| {
        // Asks for proof of the death itself, if it finds the victim's claim.
        let _ = got.replace(second(parcel));
    })
    .judge(|(parcel, got), killed: &Killed| {
        let got = got.into_inner()?;
        if got && killed.landing == Landing::Finished {
            return Err("received twice".into());
        }
        // Whatever it found, the reaper changes nothing about it.
        if second(&parcel)? {
            return Err(format!("received late, and before: {got}").into());
        }
        Ok(())
    })
    .play_thinned();
}

#[test]
fn crash_receive_buffer_keeping() {
    Act::new("buffer receive, kept", parcel, warm, |parcel, ()| {
        drop(unpack_keeping::<Buffer>(&parcel.bytes));
    })
    .judge(|parcel, _| {
        let copy = unpack_keeping::<Buffer>(&parcel.bytes);
        if !copy.is_ok_and(|copy| is_filled(&copy, 7)) {
            return Err("it was not kept".into());
        }
        if second(&parcel)? {
            Ok(())
        } else {
            Err("somebody took it".into())
        }
    })
    .play_thinned();
}

/// The victim moves its buffer into a message, which nobody receives.
#[test]
fn crash_move_buffer_into_a_message() {
    Act::new(
        "buffer moved into a message",
        || SharedMemory::new(100).expect("company"),
        |_| {
            drop(Block::alloc(LEN));
            warm(&parcel());
            filled(7)
        },
        |_, buffer| {
            let mut bytes = Vec::new();
            let holds = pack_consuming((1_u8, buffer), &mut bytes).expect("pack");
            drop(holds);
        },
    )
    .play_thinned();
}
