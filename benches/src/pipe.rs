//! Pipe: u64s one way, from the driver to one helper.

use crate::floor::{KernelPipe, Ring, SleepingLine, SpinningLine};
use crate::harness::{Case, Result, Subject, Target, Unit};
use crate::link::{self, Link};
use crate::ours;
use crate::peer::{iceoryx, ipc_channel};

pub(crate) fn cases() -> Vec<Case> {
    vec![Case {
        title: "pipe: u64 one way, 1 sender and 1 receiver",
        unit: Unit::MILLION_MESSAGES,
        subjects: streams(ours::pipe_one_way),
        target: Some(Target::Figure(20.0)),
    }]
}

/// Everything that carries u64s one way between two processes.
pub(crate) fn streams(
    ours: fn(u64) -> crate::harness::Attempt<std::time::Duration>,
) -> Vec<Subject> {
    vec![
        Subject::ours(ours),
        Subject::peer(
            "ipc-channel IpcSender<u64>",
            link::stream::<ipc_channel::Typed>,
        ),
        Subject::peer(
            "ipc-channel IpcBytesSender",
            link::stream::<ipc_channel::Bytes>,
        ),
        Subject::peer(
            "iceoryx2 pub/sub, busy receive",
            link::stream::<iceoryx::PubSub>,
        ),
        Subject::peer("raw ring in shared memory", link::stream::<Ring>).into_floor(),
        Subject::peer("pipe(2), 8 bytes a call", link::stream::<KernelPipe>).into_floor(),
    ]
}

/// Plays the helper of any link.
pub(crate) fn help(arguments: &[&str]) -> Result<()> {
    let &[role, name, invitation, operations] = arguments else {
        return Err("pipe helper: role, link, invitation and operations expected".into());
    };
    let help = match name {
        ipc_channel::Typed::NAME => link::help::<ipc_channel::Typed>,
        ipc_channel::Bytes::NAME => link::help::<ipc_channel::Bytes>,
        iceoryx::PubSub::NAME => link::help::<iceoryx::PubSub>,
        iceoryx::Event::NAME => link::help::<iceoryx::Event>,
        Ring::NAME => link::help::<Ring>,
        KernelPipe::NAME => link::help::<KernelPipe>,
        SpinningLine::NAME => link::help::<SpinningLine>,
        SleepingLine::NAME => link::help::<SleepingLine>,
        other => return Err(format!("no link named {other}").into()),
    };
    help(role, invitation, operations.parse()?)
}
