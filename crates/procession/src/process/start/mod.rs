//! The three ways to get a process: `spawn`, `fork`, `forkserver`. What they share is here.

pub(super) mod fork;
pub(super) mod forkserver;
pub(super) mod spawn;

use super::builder::{Options, StartMethod};
use super::children::watch_over;
use super::error::StartError;
use super::function::{self, Order, Person};
use super::process::Process;
use super::record::{self, SharedProcess};
use super::setup::Setup;
use crate::channel::{EncodeError, pack};
use crate::family::{Owner, join, reap_dead, reserve_place};
use crate::heap::{Heap, HeapError, Shared, me};
use crate::sys::fork::is_main_thread;
use serde::Serialize;
use serde::de::DeserializeOwned;
use std::io;

/// Starts a process as its options say.
pub(super) fn start<A, R>(
    function: fn(A) -> R,
    arguments: A,
    options: Options,
) -> Result<Process<R>, StartError>
where
    A: Serialize + DeserializeOwned,
    R: Serialize + DeserializeOwned,
{
    let core = match options.method {
        StartMethod::Fork => return fork::start(move || function(arguments), options),
        StartMethod::Spawn => spawn::start(function, &arguments, options)?,
        StartMethod::Forkserver => forkserver::start(function, &arguments, options)?,
    };
    Ok(Process::new(core))
}

/// What a child knows about itself, from its parent's side.
fn person(name: &str, daemon: bool, by_main_thread: bool) -> Person {
    Person {
        name: name.to_owned(),
        daemon,
        parent_pid: std::process::id(),
        parent: me().to_word(),
        by_main_thread,
    }
}

/// Joins the family, for the process `name`.
fn family(name: &str) -> Result<&'static Heap, StartError> {
    let heap = join().map_err(|source| no_place(name, source))?;
    watch_over();
    Ok(heap)
}

fn no_place(name: &str, source: HeapError) -> StartError {
    StartError::Heap {
        name: name.to_owned(),
        source,
    }
}

fn refused(name: &str, source: io::Error) -> StartError {
    StartError::System {
        name: name.to_owned(),
        source,
    }
}

/// The record of a process, with its order.
fn order<A, R>(
    function: fn(A) -> R,
    arguments: &A,
    person: Person,
    setup: Option<Setup>,
) -> Result<Shared<SharedProcess>, StartError>
where
    A: Serialize + DeserializeOwned,
    R: Serialize,
{
    let name = person.name.clone();
    let Some(call) = function::name(function) else {
        return Err(StartError::Nameless { name });
    };
    let order = Order {
        call,
        person,
        setup,
    };
    let mut bytes = Vec::new();
    let packed = pack(&order, &mut bytes).and_then(|_| pack(arguments, &mut bytes));
    let made = packed.and_then(|holds| record::create(&bytes, &holds).map_err(EncodeError::Heap));
    made.map_err(|source| StartError::Encode { name, source })
}

/// A place for a child, with a hold on its record.
fn place(
    heap: &'static Heap,
    name: &str,
    record: &Shared<SharedProcess>,
) -> Result<Owner, StartError> {
    let owner = reserve_place(heap, me()).map_err(|source| no_place(name, source))?;
    record::give(record, owner);
    heap.hold_for(owner.slot(), record.handle().index());
    Ok(owner)
}

/// Gives a place back that no process will take.
fn give_up(heap: &'static Heap, owner: Owner) {
    heap.note_death(owner);
    reap_dead(heap);
}

fn by_main_thread() -> bool {
    is_main_thread()
}
