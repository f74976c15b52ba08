//! A mailbox of one number: a sequence word and a payload word on one cache line, one mailbox each way. The
//! receiver either spins on the sequence or sleeps on it. For round trips only: it does not wait for the last
//! number to be read.

use super::map::SharedMap;
use super::wait_until;
use crate::harness::Result;
use crate::link::Link;
use rustix::thread::futex;
use std::sync::atomic::Ordering::{Acquire, Relaxed, Release};

/// A mailbox whose receiver spins.
pub(crate) type SpinningLine = Line<false>;
/// A mailbox whose receiver sleeps on a futex at once, and whose sender always wakes it.
pub(crate) type SleepingLine = Line<true>;

/// See the module's description.
pub(crate) struct Line<const SLEEPING: bool> {
    map: SharedMap,
    out: usize,
    back: usize,
    received: u32,
}

impl<const SLEEPING: bool> Link for Line<SLEEPING> {
    type Offer = Self;

    const NAME: &'static str = if SLEEPING {
        "sleeping-line"
    } else {
        "spinning-line"
    };

    fn offer() -> Result<(Self, String)> {
        let map = SharedMap::create(2)?;
        let invitation = map.invitation();
        Ok((
            Self {
                map,
                out: 0,
                back: 1,
                received: 0,
            },
            invitation,
        ))
    }

    fn accept(offer: Self) -> Result<Self> {
        Ok(offer)
    }

    fn join(invitation: &str) -> Result<Self> {
        Ok(Self {
            map: SharedMap::open(invitation)?,
            out: 1,
            back: 0,
            received: 0,
        })
    }

    #[inline]
    fn send(&mut self, value: u64) -> Result<()> {
        self.map.numbers(self.out, 2)[1].store(value, Relaxed);
        let sequence = self.map.futex(self.out);
        // Release pairs with the Acquire in `recv`: the payload is written before it is announced.
        sequence.store(sequence.load(Relaxed).wrapping_add(1), Release);
        if SLEEPING {
            futex::wake(sequence, futex::Flags::empty(), 1)?;
        }
        Ok(())
    }

    #[inline]
    fn recv(&mut self) -> Result<u64> {
        let sequence = self.map.futex(self.back);
        if SLEEPING {
            while sequence.load(Acquire) == self.received {
                // An early return only means another look.
                let _ = futex::wait(sequence, futex::Flags::empty(), self.received, None);
            }
        } else {
            let received = self.received;
            wait_until(|| Ok((sequence.load(Acquire) != received).then_some(())))?;
        }
        self.received = self.received.wrapping_add(1);
        Ok(self.map.numbers(self.back, 2)[1].load(Relaxed))
    }
}
