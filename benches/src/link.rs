//! A link carries u64s between the driver and one helper, both ways.
//!
//! Every transport (a peer's channel, a ring, a kernel pipe) is one `Link`; streams and round trips are written
//! once, here, and compiled for each of them, so all are driven by the same loop.

use crate::harness::helper::{Helper, say};
use crate::harness::{Result, helper};
use std::time::{Duration, Instant};

/// Both ends of a two-way channel of u64; the driver holds one, a helper the other.
pub(crate) trait Link: Sized {
    /// What the driver holds until the helper has joined.
    type Offer;

    /// Stable name for the helper's command line.
    const NAME: &'static str;

    /// Makes a link and the text by which a helper finds it.
    fn offer() -> Result<(Self::Offer, String)>;

    /// The driver's end; may wait until the helper joins.
    fn accept(offer: Self::Offer) -> Result<Self>;

    /// The helper's end.
    fn join(invitation: &str) -> Result<Self>;

    /// Sends one number, waiting while the link is full.
    fn send(&mut self, value: u64) -> Result<()>;

    /// Waits for one number.
    fn recv(&mut self) -> Result<u64>;
}

/// Messages that a stream sends before the clock starts.
const WARM_UP: u64 = 2_000;
/// Round trips that a ping-pong makes before the clock starts.
const WARM_UP_TRIPS: u64 = 50;
/// A ping-pong's numbers stay below this, so that they fit whatever a link has for a payload.
const TRIP_NUMBERS: u64 = 200;

/// Time to send that many numbers to a helper, until it has said that the last one arrived.
pub(crate) fn stream<L: Link>(operations: u64) -> Result<Duration> {
    let (mut link, mut helper) = start::<L>("stream", operations)?;
    for value in 0..WARM_UP {
        link.send(value)?;
    }
    helper.expect("warm")?;
    let started = Instant::now();
    for value in 0..operations {
        link.send(value)?;
    }
    helper.expect("done")?;
    let elapsed = started.elapsed();
    helper.finish()?;
    Ok(elapsed)
}

/// Time of that many round trips, each begun after a pause that is not counted.
pub(crate) fn round_trips<L: Link>(operations: u64, pause: Option<Duration>) -> Result<Duration> {
    let (mut link, helper) = start::<L>("echo", operations)?;
    for value in 0..WARM_UP_TRIPS {
        round_trip(&mut link, value)?;
    }
    let started = Instant::now();
    let mut elapsed = Duration::ZERO;
    for value in 0..operations {
        match pause {
            None => round_trip(&mut link, value)?,
            Some(pause) => {
                std::thread::sleep(pause);
                let started = Instant::now();
                round_trip(&mut link, value)?;
                elapsed += started.elapsed();
            }
        }
    }
    let elapsed = if pause.is_none() {
        started.elapsed()
    } else {
        elapsed
    };
    helper.finish()?;
    Ok(elapsed)
}

fn round_trip<L: Link>(link: &mut L, trip: u64) -> Result<()> {
    let value = trip % TRIP_NUMBERS;
    link.send(value)?;
    expect(link, value)
}

fn start<L: Link>(role: &str, operations: u64) -> Result<(L, Helper)> {
    let (offer, invitation) = L::offer()?;
    let arguments = [role, L::NAME, &invitation, &operations.to_string()];
    let mut helper = Helper::start("pipe", &arguments)?;
    let link = L::accept(offer)?;
    helper.expect("ready")?;
    Ok((link, helper))
}

/// Plays the helper of [`stream`] or [`round_trips`], checking that nothing is lost or reordered.
pub(crate) fn help<L: Link>(role: &str, invitation: &str, operations: u64) -> Result<()> {
    let mut link = L::join(invitation)?;
    say("ready")?;
    match role {
        "stream" => {
            (0..WARM_UP).try_for_each(|value| expect(&mut link, value))?;
            helper::say("warm")?;
            (0..operations).try_for_each(|value| expect(&mut link, value))?;
            helper::say("done")
        }
        "echo" => (0..WARM_UP_TRIPS)
            .chain(0..operations)
            .try_for_each(|trip| {
                let value = trip % TRIP_NUMBERS;
                expect(&mut link, value)?;
                link.send(value)
            }),
        other => Err(format!("no role named {other}").into()),
    }
}

fn expect<L: Link>(link: &mut L, value: u64) -> Result<()> {
    match link.recv()? {
        got if got == value => Ok(()),
        got => Err(format!("lost or reordered: {got} in place of {value}").into()),
    }
}
