//! Queue: u64s from one producer to one consumer, and from four producers to four consumers.
//!
//! ipc-channel has no queue that several processes may take from. Its two best arrangements for the second
//! case are four separate channels, one per pair (which balances nothing), and four senders of one channel
//! with a single receiver. Both are measured. A `pipe(2)` that all eight share is the floor.

use crate::floor::KernelPipe;
use crate::harness::helper::{self, Helper, say};
use crate::harness::{Case, Result, Subject, Target, Unit};
use crate::link::Link;
use crate::peer::ipc_channel;
use crate::{ours, pipe};
use ::ipc_channel::ipc::{self, IpcSender};
use std::time::{Duration, Instant};

/// Producers of the crowd, and consumers.
const CROWD: u64 = 4;

pub(crate) fn cases() -> Vec<Case> {
    vec![
        Case {
            title: "queue: u64, 1 producer and 1 consumer",
            unit: Unit::MILLION_MESSAGES,
            subjects: pipe::streams(ours::queue_one_to_one),
            target: Some(Target::Figure(8.0)),
        },
        Case {
            title: "queue: u64, 4 producers and 4 consumers",
            unit: Unit::MILLION_MESSAGES,
            subjects: vec![
                Subject::ours(ours::queue_four_to_four),
                Subject::peer("ipc-channel, 4 separate channels 1:1", |operations| {
                    ipc_channels(operations, CROWD)
                }),
                Subject::peer("ipc-channel, 4 senders and 1 receiver", |operations| {
                    ipc_channels(operations, 1)
                }),
                Subject::peer("pipe(2) shared by all, 8 bytes a call", kernel_pipe).into_floor(),
            ],
            target: Some(Target::Times(3.0, "ipc-channel")),
        },
    ]
}

/// Time until all consumers have everything the four producers send over that many channels.
fn ipc_channels(operations: u64, channels: u64) -> Result<Duration> {
    let shares = Shares::of(operations, channels);
    let mut crowd = Crowd::default();
    let mut senders = Vec::new();
    for _ in 0..channels {
        let (server, name) = ipc_channel::server::<IpcSender<u64>>()?;
        crowd.add_consumer("ipc-channel", &name, &shares)?;
        senders.push(ipc_channel::accept(server)?);
    }
    for sender in senders.iter().cycle().take(CROWD as usize) {
        let (server, name) = ipc_channel::server::<IpcSender<IpcSender<u64>>>()?;
        crowd.add_producer("ipc-channel", &name, &shares)?;
        ipc_channel::accept(server)?.send(sender.clone())?;
    }
    crowd.measure(&shares)
}

/// The same over one kernel pipe.
fn kernel_pipe(operations: u64) -> Result<Duration> {
    let shares = Shares::of(operations, CROWD);
    let (to_consumers, invitation) = KernelPipe::offer()?;
    let mut crowd = Crowd::default();
    for _ in 0..CROWD {
        crowd.add_consumer("kernel-pipe", &invitation, &shares)?;
    }
    // The producers write to the pipe from which the helpers read.
    let producers = to_consumers.same_end();
    for _ in 0..CROWD {
        crowd.add_producer("kernel-pipe", &producers, &shares)?;
    }
    crowd.measure(&shares)
}

/// How many messages each producer sends and each consumer takes.
struct Shares {
    produced: u64,
    consumed: u64,
    total: u64,
}

impl Shares {
    fn of(operations: u64, consumers: u64) -> Self {
        let produced = operations.div_ceil(CROWD);
        let total = produced * CROWD;
        Self {
            produced,
            consumed: total / consumers,
            total,
        }
    }
}

/// The processes of one round.
#[derive(Default)]
struct Crowd {
    producers: Vec<Helper>,
    consumers: Vec<Helper>,
}

impl Crowd {
    fn add_consumer(&mut self, kind: &str, invitation: &str, shares: &Shares) -> Result<()> {
        let count = shares.consumed.to_string();
        self.consumers.push(Helper::start(
            "queue",
            &["consume", kind, invitation, &count],
        )?);
        Ok(())
    }

    fn add_producer(&mut self, kind: &str, invitation: &str, shares: &Shares) -> Result<()> {
        let count = shares.produced.to_string();
        self.producers.push(Helper::start(
            "queue",
            &["produce", kind, invitation, &count],
        )?);
        Ok(())
    }

    /// Time from telling the producers to begin until the last consumer has its share.
    fn measure(mut self, shares: &Shares) -> Result<Duration> {
        for helper in self.consumers.iter_mut().chain(&mut self.producers) {
            helper.expect("ready")?;
        }
        let started = Instant::now();
        for producer in &mut self.producers {
            producer.tell("go")?;
        }
        let mut sum = 0;
        for consumer in &mut self.consumers {
            sum += consumer.hear()?.parse::<u64>()?;
        }
        let elapsed = started.elapsed();
        self.consumers
            .into_iter()
            .chain(self.producers)
            .try_for_each(Helper::finish)?;
        let sent = CROWD * (0..shares.produced).sum::<u64>();
        if sum == sent {
            // What was clocked is the whole, which may be up to three messages more than asked for.
            Ok(elapsed)
        } else {
            Err(format!("{} messages sum up to {sum} and not {sent}", shares.total).into())
        }
    }
}

/// Plays one producer or consumer.
pub(crate) fn help(arguments: &[&str]) -> Result<()> {
    let &[role, kind, invitation, count] = arguments else {
        return Err("queue helper: role, kind, invitation and count expected".into());
    };
    let count = count.parse()?;
    match (role, kind) {
        ("produce", "ipc-channel") => {
            let (greeting, receiver) = ipc::channel()?;
            ipc_channel::greet(invitation, greeting)?;
            let sender: IpcSender<u64> = receiver.recv()?;
            produce(count, |value| Ok(sender.send(value)?))
        }
        ("consume", "ipc-channel") => {
            let (greeting, receiver) = ipc::channel::<u64>()?;
            ipc_channel::greet(invitation, greeting)?;
            consume(count, || Ok(receiver.recv()?))
        }
        ("produce", "kernel-pipe") => {
            let mut link = KernelPipe::join(invitation)?;
            produce(count, |value| link.send(value))
        }
        ("consume", "kernel-pipe") => {
            let mut link = KernelPipe::join(invitation)?;
            consume(count, || link.recv())
        }
        _ => Err(format!("no queue helper {role} {kind}").into()),
    }
}

fn produce(count: u64, send: impl FnMut(u64) -> Result<()>) -> Result<()> {
    say("ready")?;
    helper::expect("go")?;
    (0..count).try_for_each(send)
}

fn consume(count: u64, mut recv: impl FnMut() -> Result<u64>) -> Result<()> {
    say("ready")?;
    let mut sum = 0;
    for _ in 0..count {
        sum += recv()?;
    }
    say(&sum.to_string())
}
