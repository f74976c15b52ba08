//! iceoryx2: publish/subscribe without overflow and with back-pressure, so that no sample is ever lost; the
//! receiver polls, as its own benchmark does. Events are its way of waiting without polling.
//!
//! Each run keeps iceoryx2's files under names of its own and removes what is left of them at the end.

use crate::floor::wait_until;
use crate::harness::Result;
use crate::link::Link;
use iceoryx2::config::Config;
use iceoryx2::port::listener::Listener;
use iceoryx2::port::notifier::Notifier;
use iceoryx2::port::publisher::Publisher;
use iceoryx2::port::subscriber::Subscriber;
use iceoryx2::prelude::*;
use std::sync::atomic::{AtomicU64, Ordering};
use std::{fs, process};

/// Samples a subscriber can hold; of 16 to 65 536 the fastest here.
const BUFFER: usize = 8192;

/// A place for services that no other program, and no other run, shares: the driver's process id.
pub(crate) struct Domain {
    pub(crate) node: Node<ipc::Service>,
    owner: u32,
}

impl Domain {
    /// This process's own domain.
    pub(crate) fn own() -> Result<Self> {
        Self::of(process::id())
    }

    /// The domain of the process with that id.
    pub(crate) fn of(owner: u32) -> Result<Self> {
        set_log_level(LogLevel::Fatal);
        let mut config = Config::default();
        config
            .global
            .set_root_path(&Path::new(root(owner).as_bytes())?);
        config.global.prefix = FileName::new(prefix(owner).as_bytes())?;
        let node = NodeBuilder::new()
            .config(&config)
            .signal_handling_mode(SignalHandlingMode::Disabled)
            .create::<ipc::Service>()?;
        Ok(Self { node, owner })
    }

    /// A service name not used before in this process, and the invitation that names both.
    pub(crate) fn invitation(&self) -> String {
        static NEXT: AtomicU64 = AtomicU64::new(0);
        format!(
            "{}/link-{}",
            self.owner,
            NEXT.fetch_add(1, Ordering::Relaxed)
        )
    }

    /// The domain an invitation speaks of.
    pub(crate) fn invited(invitation: &str) -> Result<Self> {
        let (owner, _) = invitation
            .split_once('/')
            .ok_or("invitation without an owner")?;
        Self::of(owner.parse()?)
    }
}

fn root(owner: u32) -> String {
    format!("/tmp/procession-bench-{owner}/")
}

fn prefix(owner: u32) -> String {
    format!("procession_bench_{owner}_")
}

/// Removes what iceoryx2 may have left of this process's domain.
pub(crate) fn remove_leftovers() {
    // Nothing is there where no case used iceoryx2.
    let _ = fs::remove_dir_all(root(process::id()));
    let Ok(entries) = fs::read_dir("/dev/shm") else {
        return;
    };
    for entry in entries.flatten() {
        if entry
            .file_name()
            .to_string_lossy()
            .starts_with(&prefix(process::id()))
        {
            let _ = fs::remove_file(entry.path());
        }
    }
}

type Sending = Publisher<ipc::Service, u64, ()>;
type Receiving = Subscriber<ipc::Service, u64, ()>;

/// Publish/subscribe of u64, one service each way.
pub(crate) struct PubSub {
    publisher: Sending,
    subscriber: Receiving,
    _domain: Domain,
}

impl PubSub {
    fn open(domain: Domain, sending: &str, receiving: &str) -> Result<Self> {
        let service = |name: &str| -> Result<_> {
            let builder = domain.node.service_builder(&name.try_into()?);
            let builder = builder
                .publish_subscribe::<u64>()
                .enable_safe_overflow(false);
            let builder = builder.subscriber_max_buffer_size(BUFFER).history_size(0);
            Ok(builder
                .max_publishers(1)
                .max_subscribers(1)
                .open_or_create()?)
        };
        let publisher = service(sending)?
            .publisher_builder()
            .backpressure_strategy(BackpressureStrategy::RetryUntilDelivered)
            .create()?;
        let subscriber = service(receiving)?
            .subscriber_builder()
            .buffer_size(BUFFER)
            .create()?;
        Ok(Self {
            publisher,
            subscriber,
            _domain: domain,
        })
    }
}

impl Link for PubSub {
    type Offer = Self;

    const NAME: &'static str = "iceoryx2";

    fn offer() -> Result<(Self, String)> {
        let domain = Domain::own()?;
        let invitation = domain.invitation();
        let link = Self::open(domain, &to_helper(&invitation), &to_driver(&invitation))?;
        Ok((link, invitation))
    }

    fn accept(offer: Self) -> Result<Self> {
        Ok(offer)
    }

    fn join(invitation: &str) -> Result<Self> {
        let domain = Domain::invited(invitation)?;
        Self::open(domain, &to_driver(invitation), &to_helper(invitation))
    }

    fn send(&mut self, value: u64) -> Result<()> {
        self.publisher.loan_uninit()?.write_payload(value).send()?;
        Ok(())
    }

    fn recv(&mut self) -> Result<u64> {
        wait_until(|| Ok(self.subscriber.receive()?.map(|sample| *sample.payload())))
    }
}

/// Events, one service each way; the number travels as the event's id.
pub(crate) struct Event {
    notifier: Notifier<ipc::Service>,
    listener: Listener<ipc::Service>,
    _domain: Domain,
}

impl Event {
    fn open(domain: Domain, sending: &str, receiving: &str) -> Result<Self> {
        let service = |name: &str| -> Result<_> {
            Ok(domain
                .node
                .service_builder(&name.try_into()?)
                .event()
                .open_or_create()?)
        };
        let notifier = service(sending)?.notifier_builder().create()?;
        let listener = service(receiving)?.listener_builder().create()?;
        Ok(Self {
            notifier,
            listener,
            _domain: domain,
        })
    }
}

impl Link for Event {
    type Offer = Self;

    const NAME: &'static str = "iceoryx2-event";

    fn offer() -> Result<(Self, String)> {
        let domain = Domain::own()?;
        let invitation = domain.invitation();
        let link = Self::open(domain, &to_helper(&invitation), &to_driver(&invitation))?;
        Ok((link, invitation))
    }

    fn accept(offer: Self) -> Result<Self> {
        Ok(offer)
    }

    fn join(invitation: &str) -> Result<Self> {
        let domain = Domain::invited(invitation)?;
        Self::open(domain, &to_driver(invitation), &to_helper(invitation))
    }

    fn send(&mut self, value: u64) -> Result<()> {
        self.notifier
            .notify_with_custom_event_id(EventId::new(usize::try_from(value)?))?;
        Ok(())
    }

    fn recv(&mut self) -> Result<u64> {
        let mut got = None;
        while got.is_none() {
            self.listener
                .blocking_wait(|event| got = Some(event.id.as_value() as u64))?;
        }
        got.ok_or_else(|| "no event".into())
    }
}

fn to_helper(invitation: &str) -> String {
    format!("{invitation}/to-helper")
}

fn to_driver(invitation: &str) -> String {
    format!("{invitation}/to-driver")
}
