//! A single-producer, single-consumer ring of u64 in shared memory: one store publishes each message, and
//! there is nothing to recover if a process dies.

use super::map::{LINE, SharedMap};
use super::wait_until;
use crate::harness::Result;
use crate::link::Link;
use std::sync::atomic::Ordering::{Acquire, Relaxed, Release};

/// Messages a ring holds; 8 KiB, which stays in the first-level cache.
const CAPACITY: u64 = 1024;
const TAIL: usize = 0;
const HEAD: usize = 1;
const SLOTS: usize = 2;
/// Lines of one ring.
const LINES: usize = SLOTS + CAPACITY as usize * 8 / LINE;

/// Two rings in one map, one each way.
pub(crate) struct Ring {
    map: SharedMap,
    out: Position,
    back: Position,
}

/// One end's place in one ring: its own counter, and what it last saw of the other's.
struct Position {
    first_line: usize,
    own: u64,
    other: u64,
}

impl Ring {
    fn new(map: SharedMap, out: usize, back: usize) -> Self {
        let position = |ring: usize| Position {
            first_line: ring * LINES,
            own: 0,
            other: 0,
        };
        Self {
            map,
            out: position(out),
            back: position(back),
        }
    }
}

impl Link for Ring {
    type Offer = Self;

    const NAME: &'static str = "ring";

    fn offer() -> Result<(Self, String)> {
        let map = SharedMap::create(2 * LINES)?;
        let invitation = map.invitation();
        Ok((Self::new(map, 0, 1), invitation))
    }

    fn accept(offer: Self) -> Result<Self> {
        Ok(offer)
    }

    fn join(invitation: &str) -> Result<Self> {
        Ok(Self::new(SharedMap::open(invitation)?, 1, 0))
    }

    #[inline]
    fn send(&mut self, value: u64) -> Result<()> {
        let Position {
            first_line,
            own,
            other,
        } = &mut self.out;
        if *own - *other == CAPACITY {
            let head = self.map.number(*first_line + HEAD);
            // Acquire pairs with the Release in `recv`: the slot has been read before it is written again.
            *other = wait_until(|| Ok(Some(head.load(Acquire)).filter(|it| *own - it < CAPACITY)))?;
        }
        let slots = self.map.numbers(*first_line + SLOTS, CAPACITY as usize);
        slots[(*own % CAPACITY) as usize].store(value, Relaxed);
        *own += 1;
        // Release pairs with the Acquire in `recv`: the slot is written before it is announced.
        self.map.number(*first_line + TAIL).store(*own, Release);
        Ok(())
    }

    #[inline]
    fn recv(&mut self) -> Result<u64> {
        let Position {
            first_line,
            own,
            other,
        } = &mut self.back;
        if *own == *other {
            let tail = self.map.number(*first_line + TAIL);
            *other = wait_until(|| Ok(Some(tail.load(Acquire)).filter(|it| it != own)))?;
        }
        let slots = self.map.numbers(*first_line + SLOTS, CAPACITY as usize);
        let value = slots[(*own % CAPACITY) as usize].load(Relaxed);
        *own += 1;
        self.map.number(*first_line + HEAD).store(*own, Release);
        Ok(value)
    }
}
