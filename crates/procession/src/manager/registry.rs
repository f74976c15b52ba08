//! Registry: the states of a server, by number, and the names of some of them.

use super::ticket::Ticket;
use crate::heap::{Handle, HeapError};
use crate::process::catch_panic;
use crate::sync::Event;
use std::any::Any;
use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock};

/// A [`Cell`](super::cell::Cell) of whatever type.
pub(super) type AnyCell = Arc<dyn Any + Send + Sync>;

/// A state, and what its type is called.
#[derive(Clone)]
pub(super) struct State {
    pub(super) cell: AnyCell,
    pub(super) type_name: &'static str,
}

struct Entry {
    state: State,
    /// Only the name: the server must not be what keeps a state alive.
    ticket: Handle,
}

/// All states of a server.
pub(super) struct Registry {
    states: RwLock<HashMap<u64, Entry>>,
    names: Mutex<HashMap<String, (u64, Ticket)>>,
    last: AtomicU64,
    /// Rung when a ticket is gone.
    bell: Event,
}

impl Registry {
    pub(super) fn new() -> Result<Self, HeapError> {
        Ok(Self {
            states: RwLock::default(),
            names: Mutex::default(),
            last: AtomicU64::new(0),
            bell: Event::new()?,
        })
    }

    /// Takes a state in; it stays while the ticket is held.
    pub(super) fn add(&self, state: State) -> Result<(u64, Ticket), HeapError> {
        let ticket = Ticket::new(&self.bell)?;
        let number = self.last.fetch_add(1, Ordering::Relaxed) + 1;
        let entry = Entry {
            state,
            ticket: ticket.handle(),
        };
        let mut states = self.states.write().unwrap_or_else(PoisonError::into_inner);
        states.insert(number, entry);
        Ok((number, ticket))
    }

    pub(super) fn get(&self, number: u64) -> Option<State> {
        let states = self.states.read().unwrap_or_else(PoisonError::into_inner);
        states.get(&number).map(|entry| entry.state.clone())
    }

    /// One more hold on a state, if anybody still has one.
    pub(super) fn ticket(&self, number: u64) -> Option<Ticket> {
        let states = self.states.read().unwrap_or_else(PoisonError::into_inner);
        let handle = states.get(&number)?.ticket;
        drop(states);
        Ticket::open(handle).ok()
    }

    fn names(&self) -> MutexGuard<'_, HashMap<String, (u64, Ticket)>> {
        self.names.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Keeps a state under a name. `false`: there is no such state.
    pub(super) fn publish(&self, name: String, number: u64) -> bool {
        let Some(ticket) = self.ticket(number) else {
            return false;
        };
        let replaced = self.names().insert(name, (number, ticket));
        drop(replaced);
        true
    }

    /// Forgets a name. `false`: there was none.
    pub(super) fn unpublish(&self, name: &str) -> bool {
        let removed = self.names().remove(name);
        removed.is_some()
    }

    /// The state of that name.
    pub(super) fn find(&self, name: &str) -> Option<(u64, Ticket)> {
        let names = self.names();
        let (number, ticket) = names.get(name)?;
        Some((*number, ticket.clone()))
    }

    /// Waits until a ticket is gone.
    pub(super) fn wait(&self) {
        self.bell.wait();
        self.bell.clear();
    }

    /// Drops the states whose tickets are gone.
    pub(super) fn sweep(&self) {
        let states = self.states.read().unwrap_or_else(PoisonError::into_inner);
        let gone: Vec<_> = states
            .iter()
            .filter(|(_, entry)| matches!(Ticket::open(entry.ticket), Err(HeapError::Stale)))
            .map(|(number, _)| *number)
            .collect();
        drop(states);
        for number in gone {
            let mut states = self.states.write().unwrap_or_else(PoisonError::into_inner);
            let removed = states.remove(&number);
            drop(states);
            drop_quietly(removed);
        }
    }

    /// Drops everything: the end of the server.
    pub(super) fn clear(&self) {
        drop(std::mem::take(&mut *self.names()));
        let mut states = self.states.write().unwrap_or_else(PoisonError::into_inner);
        let all = std::mem::take(&mut *states);
        drop(states);
        all.into_values().map(Some).for_each(drop_quietly);
    }
}

/// A state whose `drop` panics has said so on standard error, and must not end the thread.
fn drop_quietly(entry: Option<Entry>) {
    let _ = catch_panic(|| drop(entry), |_| ());
}

#[cfg(test)]
mod tests {
    use super::super::cell::Cell;
    use super::*;

    fn state() -> State {
        State {
            cell: Arc::new(Cell::new(1u32)),
            type_name: "u32",
        }
    }

    #[test]
    fn keeps_what_is_held_and_drops_the_rest() {
        let registry = Registry::new().expect("registry");
        let (first, kept) = registry.add(state()).expect("add");
        let (second, dropped) = registry.add(state()).expect("add");
        registry.sweep();
        assert!(registry.get(first).is_some() && registry.get(second).is_some());
        drop(dropped);
        registry.wait();
        registry.sweep();
        assert!(registry.get(first).is_some() && registry.get(second).is_none());
        assert!(registry.ticket(second).is_none());
        drop(kept);
        registry.sweep();
        assert!(registry.get(first).is_none());
    }

    #[test]
    fn a_name_holds_until_it_is_forgotten() {
        let registry = Registry::new().expect("registry");
        let (number, ticket) = registry.add(state()).expect("add");
        assert!(registry.publish("one".to_owned(), number));
        assert!(!registry.publish("two".to_owned(), number + 1));
        drop(ticket);
        registry.sweep();
        assert_eq!(registry.find("one").map(|(found, _)| found), Some(number));
        assert!(registry.unpublish("one") && !registry.unpublish("one"));
        registry.sweep();
        assert!(registry.get(number).is_none());
    }

    #[test]
    fn a_drop_that_panics_stops_nothing() {
        struct Bomb;
        impl Drop for Bomb {
            fn drop(&mut self) {
                panic!("bomb");
            }
        }
        let registry = Registry::new().expect("registry");
        let bomb = State {
            cell: Arc::new(Cell::new(Bomb)),
            type_name: "Bomb",
        };
        let (_, ticket) = registry.add(bomb).expect("add");
        let (other, second) = registry.add(state()).expect("add");
        drop((ticket, second));
        registry.sweep();
        assert!(registry.get(other).is_none());
    }
}
