//! Ping-pong: a u64 to the helper and back, while both are awake and after both have gone to sleep.

use crate::floor::{SleepingLine, SpinningLine};
use crate::harness::{Case, Subject, Target, Unit};
use crate::link::round_trips;
use crate::ours;
use crate::peer::{iceoryx, ipc_channel};
use std::time::Duration;

/// Idle time before each round trip of the sleeping case: longer than any sensible spin.
const PAUSE: Duration = Duration::from_micros(300);

pub(crate) fn cases() -> Vec<Case> {
    vec![awake(), asleep()]
}

fn awake() -> Case {
    Case {
        title: "pingpong: u64 round trip, back to back",
        unit: Unit::MICROSECONDS,
        subjects: vec![
            Subject::ours(ours::pingpong_awake),
            Subject::peer("ipc-channel IpcSender<u64>", |operations| {
                round_trips::<ipc_channel::Typed>(operations, None)
            }),
            Subject::peer("iceoryx2 pub/sub, busy receive", |operations| {
                round_trips::<iceoryx::PubSub>(operations, None)
            }),
            Subject::peer("spinning on shared cache lines", |operations| {
                round_trips::<SpinningLine>(operations, None)
            })
            .into_floor(),
        ],
        target: Some(Target::Figure(0.4)),
    }
}

fn asleep() -> Case {
    Case {
        title: "pingpong: u64 round trip, after 300 us of idling",
        unit: Unit::MICROSECONDS,
        subjects: vec![
            Subject::ours(|operations| ours::pingpong_asleep(operations, PAUSE)),
            Subject::peer("ipc-channel IpcSender<u64>", |operations| {
                round_trips::<ipc_channel::Typed>(operations, Some(PAUSE))
            }),
            Subject::peer("iceoryx2 event (carries no payload)", |operations| {
                round_trips::<iceoryx::Event>(operations, Some(PAUSE))
            }),
            Subject::peer("bare futex, both sides sleep", |operations| {
                round_trips::<SleepingLine>(operations, Some(PAUSE))
            })
            .into_floor(),
        ],
        target: Some(Target::Times(1.0, "bare futex")),
    }
}
