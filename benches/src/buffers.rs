//! Buffers of 64 MiB, from the driver to one helper.
//!
//! *Copied*: the driver's bytes become readable in the helper, which looks at the mark on every page of them.
//! *Loaned*: a buffer that already lies in shared memory changes hands; nobody fills it. If that is O(1), the
//! time does not depend on the size, so that case compares 64 MiB with 64 KiB.

use crate::floor::wait_until;
use crate::harness::helper::{Helper, say};
use crate::harness::{Case, Result, Subject, Target, Unit};
use crate::ours;
use crate::peer::iceoryx::Domain;
use crate::peer::ipc_channel::{accept, greet, server};
use iceoryx2::port::publisher::Publisher;
use iceoryx2::port::subscriber::Subscriber;
use iceoryx2::prelude::{BackpressureStrategy, ipc as iceoryx_ipc};
use ipc_channel::ipc::{self, IpcBytesReceiver, IpcBytesSender, IpcOneShotServer};
use ipc_channel::ipc::{IpcReceiver, IpcSender, IpcSharedMemory};
use std::hint::black_box;
use std::time::{Duration, Instant};

/// Bytes of a large buffer.
const LARGE: usize = 64 << 20;
/// Bytes of the small buffer with which a loan is compared.
const SMALL: usize = 64 << 10;
/// Loans of each size whose times are compared.
const LOANS: u64 = 300;
/// Buffers sent before the clock starts, so that whatever is recycled is warm.
const WARM_UP: u64 = 3;
const PAGE: usize = 4096;

pub(crate) fn cases() -> Vec<Case> {
    vec![copied(), loaned(), growth()]
}

fn copied() -> Case {
    Case {
        title: "buffers: 64 MiB copied to another process",
        unit: Unit::gigabytes(LARGE),
        subjects: vec![
            Subject::ours(|operations| ours::buffers_copied(operations, LARGE)),
            Subject::peer("ipc-channel IpcBytesSender", copy::<Bytes>),
            Subject::peer("ipc-channel IpcSharedMemory", copy::<Shared>),
            Subject::peer("iceoryx2 loan, fill, send", copy::<Iceoryx>),
            Subject::peer("memcpy within one process, warm", memcpy).into_floor(),
        ],
        target: Some(Target::Figure(8.0)),
    }
}

fn loaned() -> Case {
    Case {
        title: "buffers: 64 MiB loaned, sent and dropped unread",
        unit: Unit::MICROSECONDS,
        subjects: vec![
            Subject::ours(|operations| ours::buffers_loaned(operations, LARGE)),
            Subject::peer(
                "ipc-channel IpcSharedMemory, clone and send",
                |operations| loan::<Shared>(operations, LARGE),
            ),
            Subject::peer("iceoryx2 loan and send", |operations| {
                loan::<Iceoryx>(operations, LARGE)
            }),
        ],
        target: None,
    }
}

fn growth() -> Case {
    let ours = || {
        let small = match ours::buffers_loaned(LOANS, SMALL)? {
            Ok(small) => small,
            Err(error) => return Some(Err(error)),
        };
        let large = ours::buffers_loaned(LOANS, LARGE)?;
        Some(large.map(|large| large.as_secs_f64() / small.as_secs_f64()))
    };
    Case {
        title: "buffers: loan of 64 MiB against a loan of 64 KiB (1: O(1))",
        unit: Unit::GROWTH,
        subjects: vec![
            Subject::ours_counted(ours),
            Subject::peer_counted("ipc-channel IpcSharedMemory", growth_of::<Shared>),
            Subject::peer_counted("iceoryx2 loan and send", growth_of::<Iceoryx>),
        ],
        target: Some(Target::Figure(2.0)),
    }
}

/// A way of carrying buffers from the driver to a helper.
trait Carrier: Sized {
    type Offer;
    type Receiver;

    const NAME: &'static str;

    fn offer(len: usize) -> Result<(Self::Offer, String)>;
    fn accept(offer: Self::Offer, len: usize) -> Result<Self>;
    fn join(invitation: &str, len: usize) -> Result<Self::Receiver>;

    /// Sends what will read like `bytes`.
    fn send_copy(&mut self, bytes: &[u8]) -> Result<()>;
    /// Sends a buffer of that length that lies in shared memory already, without filling it.
    fn send_loan(&mut self, len: usize) -> Result<()>;
    /// Waits for a buffer, shows it, and drops it.
    fn recv(receiver: &mut Self::Receiver, look: impl FnMut(&[u8]) -> Result<()>) -> Result<()>;
}

fn copy<C: Carrier>(operations: u64) -> Result<Duration> {
    let mut bytes = vec![0; LARGE];
    drive::<C>("copied", LARGE, operations, |carrier, number| {
        mark(&mut bytes, number);
        carrier.send_copy(&bytes)
    })
}

fn loan<C: Carrier>(operations: u64, len: usize) -> Result<Duration> {
    drive::<C>("loaned", len, operations, |carrier, _| {
        carrier.send_loan(len)
    })
}

fn growth_of<C: Carrier>() -> Result<f64> {
    let small = loan::<C>(LOANS, SMALL)?;
    Ok(loan::<C>(LOANS, LARGE)?.as_secs_f64() / small.as_secs_f64())
}

fn drive<C: Carrier>(
    role: &str,
    len: usize,
    operations: u64,
    mut send: impl FnMut(&mut C, u64) -> Result<()>,
) -> Result<Duration> {
    let (offer, invitation) = C::offer(len)?;
    let arguments = [
        role,
        C::NAME,
        &invitation,
        &len.to_string(),
        &operations.to_string(),
    ];
    let mut helper = Helper::start("buffers", &arguments)?;
    let mut carrier = C::accept(offer, len)?;
    helper.expect("ready")?;
    for number in 0..WARM_UP {
        send(&mut carrier, number)?;
    }
    helper.expect("warm")?;
    let started = Instant::now();
    for number in 0..operations {
        send(&mut carrier, number)?;
    }
    helper.expect("done")?;
    let elapsed = started.elapsed();
    helper.finish()?;
    Ok(elapsed)
}

/// Plays the receiver.
pub(crate) fn help(arguments: &[&str]) -> Result<()> {
    let &[role, name, invitation, len, operations] = arguments else {
        return Err(
            "buffers helper: role, carrier, invitation, length, operations expected".into(),
        );
    };
    let (len, operations) = (len.parse()?, operations.parse()?);
    match name {
        Bytes::NAME => receive::<Bytes>(role, invitation, len, operations),
        Shared::NAME => receive::<Shared>(role, invitation, len, operations),
        Iceoryx::NAME => receive::<Iceoryx>(role, invitation, len, operations),
        other => Err(format!("no carrier named {other}").into()),
    }
}

fn receive<C: Carrier>(role: &str, invitation: &str, len: usize, operations: u64) -> Result<()> {
    let mut receiver = C::join(invitation, len)?;
    say("ready")?;
    for (count, word) in [(WARM_UP, "warm"), (operations, "done")] {
        for number in 0..count {
            C::recv(&mut receiver, |bytes| match role {
                "copied" => check(bytes, len, number),
                _ => check_length(bytes, len),
            })?;
        }
        say(word)?;
    }
    Ok(())
}

/// Writes the number at the start of every page.
pub(crate) fn mark(bytes: &mut [u8], number: u64) {
    for page in bytes.chunks_exact_mut(PAGE) {
        page[..8].copy_from_slice(&number.to_ne_bytes());
    }
}

/// Reads the mark of every page.
pub(crate) fn check(bytes: &[u8], len: usize, number: u64) -> Result<()> {
    check_length(bytes, len)?;
    let mark = number.to_ne_bytes();
    match bytes.chunks_exact(PAGE).position(|page| page[..8] != mark) {
        None => Ok(()),
        Some(page) => Err(format!("page {page} of buffer {number} has another mark").into()),
    }
}

fn check_length(bytes: &[u8], len: usize) -> Result<()> {
    if bytes.len() == len {
        Ok(())
    } else {
        Err(format!("{} bytes of {len}", bytes.len()).into())
    }
}

/// The floor: one copy of the same size, both buffers touched before.
pub(crate) fn memcpy(operations: u64) -> Result<Duration> {
    let (mut from, mut to) = (vec![1; LARGE], vec![2; LARGE]);
    mark(&mut from, 0);
    to.copy_from_slice(&from);
    let started = Instant::now();
    for _ in 0..operations {
        black_box(&mut to).copy_from_slice(black_box(&from));
    }
    Ok(started.elapsed())
}

/// ipc-channel's bytes, through a socket.
struct Bytes(IpcBytesSender);

impl Carrier for Bytes {
    type Offer = IpcOneShotServer<IpcBytesSender>;
    type Receiver = IpcBytesReceiver;

    const NAME: &'static str = "ipc-channel-bytes";

    fn offer(_: usize) -> Result<(Self::Offer, String)> {
        server()
    }

    fn accept(offer: Self::Offer, _: usize) -> Result<Self> {
        Ok(Self(accept(offer)?))
    }

    fn join(invitation: &str, _: usize) -> Result<Self::Receiver> {
        let (sender, receiver) = ipc::bytes_channel()?;
        greet(invitation, sender)?;
        Ok(receiver)
    }

    fn send_copy(&mut self, bytes: &[u8]) -> Result<()> {
        Ok(self.0.send(bytes)?)
    }

    fn send_loan(&mut self, _: usize) -> Result<()> {
        Err("bytes cannot be loaned".into())
    }

    fn recv(
        receiver: &mut Self::Receiver,
        mut look: impl FnMut(&[u8]) -> Result<()>,
    ) -> Result<()> {
        look(&receiver.recv()?)
    }
}

/// ipc-channel's shared memory: a new region each time bytes are copied, and one region that is sent again and
/// again as a loan.
struct Shared {
    sender: IpcSender<IpcSharedMemory>,
    region: IpcSharedMemory,
}

impl Carrier for Shared {
    type Offer = IpcOneShotServer<IpcSender<IpcSharedMemory>>;
    type Receiver = IpcReceiver<IpcSharedMemory>;

    const NAME: &'static str = "ipc-channel-shared-memory";

    fn offer(_: usize) -> Result<(Self::Offer, String)> {
        server()
    }

    fn accept(offer: Self::Offer, len: usize) -> Result<Self> {
        Ok(Self {
            sender: accept(offer)?,
            region: IpcSharedMemory::from_byte(0, len),
        })
    }

    fn join(invitation: &str, _: usize) -> Result<Self::Receiver> {
        let (sender, receiver) = ipc::channel()?;
        greet(invitation, sender)?;
        Ok(receiver)
    }

    fn send_copy(&mut self, bytes: &[u8]) -> Result<()> {
        Ok(self.sender.send(IpcSharedMemory::from_bytes(bytes))?)
    }

    fn send_loan(&mut self, _: usize) -> Result<()> {
        Ok(self.sender.send(self.region.clone())?)
    }

    fn recv(
        receiver: &mut Self::Receiver,
        mut look: impl FnMut(&[u8]) -> Result<()>,
    ) -> Result<()> {
        look(&receiver.recv()?)
    }
}

/// iceoryx2's slices, loaned from the publisher's memory. At most two lie unread, so that few are recycled and all of
/// them are warm.
struct Iceoryx {
    publisher: Publisher<iceoryx_ipc::Service, [u8], ()>,
    _domain: Domain,
}

struct IceoryxReceiver {
    subscriber: Subscriber<iceoryx_ipc::Service, [u8], ()>,
    _domain: Domain,
}

impl Iceoryx {
    fn service(domain: &Domain, name: &str) -> Result<SliceService> {
        let builder = domain
            .node
            .service_builder(&name.try_into()?)
            .publish_subscribe::<[u8]>();
        let builder = builder.enable_safe_overflow(false).history_size(0);
        let builder = builder
            .subscriber_max_buffer_size(2)
            .subscriber_max_borrowed_samples(1);
        Ok(builder
            .max_publishers(1)
            .max_subscribers(1)
            .open_or_create()?)
    }
}

type SliceService =
    iceoryx2::service::port_factory::publish_subscribe::PortFactory<iceoryx_ipc::Service, [u8], ()>;

impl Carrier for Iceoryx {
    type Offer = Self;
    type Receiver = IceoryxReceiver;

    const NAME: &'static str = "iceoryx2";

    fn offer(len: usize) -> Result<(Self, String)> {
        let domain = Domain::own()?;
        let invitation = domain.invitation();
        let publisher = Self::service(&domain, &invitation)?
            .publisher_builder()
            .initial_max_slice_len(len)
            .max_loaned_samples(1)
            .backpressure_strategy(BackpressureStrategy::RetryUntilDelivered)
            .create()?;
        Ok((
            Self {
                publisher,
                _domain: domain,
            },
            invitation,
        ))
    }

    fn accept(offer: Self, _: usize) -> Result<Self> {
        Ok(offer)
    }

    fn join(invitation: &str, _: usize) -> Result<IceoryxReceiver> {
        let domain = Domain::invited(invitation)?;
        let service = Self::service(&domain, invitation)?;
        let subscriber = service.subscriber_builder().buffer_size(2).create()?;
        Ok(IceoryxReceiver {
            subscriber,
            _domain: domain,
        })
    }

    fn send_copy(&mut self, bytes: &[u8]) -> Result<()> {
        self.publisher
            .loan_slice_uninit(bytes.len())?
            .write_from_slice(bytes)
            .send()?;
        Ok(())
    }

    fn send_loan(&mut self, len: usize) -> Result<()> {
        let sample = self.publisher.loan_slice_uninit(len)?;
        // SAFETY: the loan is a part of a shared memory object, whose bytes the kernel made zero, and any byte is a
        // valid u8.
        let sample = unsafe { sample.assume_init() };
        sample.send()?;
        Ok(())
    }

    fn recv(
        receiver: &mut IceoryxReceiver,
        mut look: impl FnMut(&[u8]) -> Result<()>,
    ) -> Result<()> {
        let sample = wait_until(|| Ok(receiver.subscriber.receive()?))?;
        look(sample.payload())
    }
}
