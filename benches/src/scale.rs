//! Scale: how many locks and queues fit where only 256 descriptors may be open, what each takes of the heap,
//! and what it costs to make and drop one.

use crate::floor::{Robustness, SharedMutex};
use crate::harness::helper::{Helper, say};
use crate::harness::{Attempt, Case, Result, Subject, Target, Unit};
use crate::ours;
use crate::peer::iceoryx::{Domain, remove_leftovers};
use ipc_channel::ipc;
use rustix::pipe::{PipeFlags, pipe_with};
use rustix::process::{Resource, Rlimit, setrlimit};
use std::time::{Duration, Instant};

/// Locks that ours has to keep alive.
const LOCKS: u64 = 100_000;
/// Queues that ours has to keep alive.
const QUEUES: u64 = 10_000;
/// Descriptors that a counting process may have.
const DESCRIPTORS: u64 = 256;

pub(crate) fn cases() -> Vec<Case> {
    vec![locks_alive(), queues_alive(), lock_bytes(), queue_bytes()]
        .into_iter()
        .chain([lock_cost(), queue_cost(), pipe_cost()])
        .collect()
}

fn locks_alive() -> Case {
    Case {
        title: "scale: locks alive with 256 descriptors (up to 100000)",
        unit: Unit::ALIVE,
        subjects: vec![Subject::ours_counted(|| count("locks"))],
        target: Some(Target::Figure(LOCKS as f64)),
    }
}

fn queues_alive() -> Case {
    Case {
        title: "scale: queues alive with 256 descriptors (up to 10000)",
        unit: Unit::ALIVE,
        subjects: vec![
            Subject::ours_counted(|| count("queues")),
            Subject::peer_counted("ipc-channel channels", || built(count("ipc-channel"))),
            Subject::peer_counted("iceoryx2 services with both ends", || {
                built(count("iceoryx2"))
            }),
        ],
        target: Some(Target::Figure(QUEUES as f64)),
    }
}

fn lock_bytes() -> Case {
    let pthread = || Ok(size_of::<libc::pthread_mutex_t>() as f64);
    Case {
        title: "scale: heap of one lock",
        unit: Unit::HEAP_BYTES,
        subjects: vec![
            Subject::ours_counted(ours::lock_bytes),
            Subject::peer_counted("pthread mutex", pthread).into_floor(),
        ],
        target: None,
    }
}

fn queue_bytes() -> Case {
    Case {
        title: "scale: heap of one empty queue",
        unit: Unit::HEAP_BYTES,
        subjects: vec![Subject::ours_counted(ours::queue_bytes)],
        target: None,
    }
}

fn lock_cost() -> Case {
    Case {
        title: "scale: create and drop a lock",
        unit: Unit::NANOSECONDS,
        subjects: vec![
            Subject::ours(ours::lock_create_drop),
            Subject::peer(
                "pthread mutex, init and destroy in place",
                mutex_create_drop,
            )
            .into_floor(),
        ],
        target: None,
    }
}

fn queue_cost() -> Case {
    Case {
        title: "scale: create and drop a queue",
        unit: Unit::MICROSECONDS,
        subjects: vec![
            Subject::ours(ours::queue_create_drop),
            Subject::peer("ipc-channel channel::<u64>()", channel_create_drop),
            Subject::peer("iceoryx2 service with both ends", service_create_drop),
        ],
        target: None,
    }
}

fn pipe_cost() -> Case {
    Case {
        title: "scale: create and drop a pipe",
        unit: Unit::MICROSECONDS,
        subjects: vec![
            Subject::ours(ours::pipe_create_drop),
            Subject::peer("ipc-channel channel::<u64>()", channel_create_drop),
            Subject::peer("pipe(2)", kernel_pipe_create_drop).into_floor(),
        ],
        target: None,
    }
}

fn mutex_create_drop(operations: u64) -> Result<Duration> {
    let mut mutex = SharedMutex::create(Robustness::Plain)?;
    time(operations, || mutex.renew())
}

fn channel_create_drop(operations: u64) -> Result<Duration> {
    time(operations, || {
        ipc::channel::<u64>().map(drop).map_err(Into::into)
    })
}

fn kernel_pipe_create_drop(operations: u64) -> Result<Duration> {
    time(operations, || {
        pipe_with(PipeFlags::CLOEXEC).map(drop).map_err(Into::into)
    })
}

fn service_create_drop(operations: u64) -> Result<Duration> {
    let domain = Domain::own()?;
    time(operations, || service(&domain).map(drop))
}

fn time(operations: u64, mut make: impl FnMut() -> Result<()>) -> Result<Duration> {
    let started = Instant::now();
    for _ in 0..operations {
        make()?;
    }
    Ok(started.elapsed())
}

/// A service for u64 with one publisher and one subscriber.
fn service(domain: &Domain) -> Result<impl Sized> {
    let name = domain.invitation().as_str().try_into()?;
    let service = domain
        .node
        .service_builder(&name)
        .publish_subscribe::<u64>()
        .create()?;
    let ends = (
        service.publisher_builder().create()?,
        service.subscriber_builder().create()?,
    );
    Ok((ends, service))
}

/// Has a helper count how many of that kind fit.
fn count(kind: &str) -> Attempt<f64> {
    let count = || -> Result<Option<f64>> {
        let mut helper = Helper::start("scale", &[kind])?;
        let said = helper.hear()?;
        helper.finish()?;
        if said == NOT_BUILT {
            Ok(None)
        } else {
            Ok(Some(said.parse()?))
        }
    };
    count().transpose()
}

const NOT_BUILT: &str = "not built";

fn built(attempt: Attempt<f64>) -> Result<f64> {
    attempt.unwrap_or_else(|| Err(NOT_BUILT.into()))
}

/// Plays the counting process.
pub(crate) fn help(arguments: &[&str]) -> Result<()> {
    let descriptors = Rlimit {
        current: Some(DESCRIPTORS),
        maximum: Some(DESCRIPTORS),
    };
    setrlimit(Resource::Nofile, descriptors)?;
    let alive = match arguments {
        ["locks"] => ours::locks_alive(LOCKS),
        ["queues"] => ours::queues_alive(QUEUES),
        ["ipc-channel"] => Some(Ok(fit(QUEUES, || Ok(ipc::channel::<u64>()?)))),
        ["iceoryx2"] => Some(services_alive()),
        other => Some(Err(format!("nothing named {other:?} to count").into())),
    };
    match alive {
        None => say(NOT_BUILT),
        Some(alive) => say(&alive?.to_string()),
    }
}

fn services_alive() -> Result<u64> {
    let domain = Domain::own()?;
    let alive = fit(QUEUES, || service(&domain));
    drop(domain);
    remove_leftovers();
    Ok(alive)
}

/// How many can be made and kept, up to a limit.
pub(crate) fn fit<T>(limit: u64, mut make: impl FnMut() -> Result<T>) -> u64 {
    let mut kept = Vec::new();
    while kept.len() < limit as usize {
        match make() {
            Ok(one) => kept.push(one),
            Err(_) => break,
        }
    }
    kept.len() as u64
}
