//! Ticket: the shared object whose holders are the proxies of one state.
//!
//! It has no content but the name of the server's bell. The bell is an [`Event`] that the server holds; the name alone holds nothing, so a ticket
//! outlives its server harmlessly: then there is nobody to ring for.
#![expect(unreachable_pub, reason = "the macro of public handles makes it")]

use crate::atomic::{AtomicU64, Ordering};
use crate::heap::{Container, Death, Handle, HeapError, Object, Shared};
use crate::kinds::Kind;
use crate::sync::Event;

/// A ticket as it lies in the heap.
#[repr(C)]
#[derive(Debug, zerocopy::FromBytes)]
pub(crate) struct SharedTicket {
    /// The 16 bytes of the event's handle.
    bell: [AtomicU64; 2],
}
const _: () = assert!(size_of::<SharedTicket>() <= 64);

impl Object for SharedTicket {
    const KIND: Kind = Kind::Ticket;

    fn reap(&self, _death: Death) {}

    /// The last proxy is gone: the server is told to look.
    fn destroy(&self, _container: Container) {
        let mut bytes = [0; 16];
        for (word, into) in self.bell.iter().zip(bytes.chunks_mut(8)) {
            into.copy_from_slice(&word.load(Ordering::Relaxed).to_le_bytes());
        }
        if let Ok(bell) = Event::open(Handle::from_bytes(bytes)) {
            bell.set();
        }
    }
}

/// A hold on a state.
pub(super) struct Ticket {
    shared: Shared<SharedTicket>,
    _item: (),
}

impl Ticket {
    /// A ticket whose end rings `bell`.
    pub(super) fn new(bell: &Event) -> Result<Self, HeapError> {
        let bytes = bell.handle().to_bytes();
        let shared = Shared::create(|ticket: &SharedTicket, _| {
            for (word, from) in ticket.bell.iter().zip(bytes.chunks(8)) {
                let mut half = [0; 8];
                half.copy_from_slice(from);
                word.store(u64::from_le_bytes(half), Ordering::Relaxed);
            }
        })?;
        Ok(Self { shared, _item: () })
    }
}

crate::sync::shared_handle!(Ticket, SharedTicket, "proxy of a manager's state");

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rings_when_the_last_is_gone() {
        let bell = Event::new().expect("event");
        let ticket = Ticket::new(&bell).expect("ticket");
        let name = ticket.handle();
        let second = ticket.clone();
        drop(ticket);
        assert!(!bell.is_set());
        assert!(Ticket::open(name).is_ok());
        drop(second);
        assert!(bell.is_set());
        assert!(matches!(Ticket::open(name), Err(HeapError::Stale)));
    }

    #[test]
    fn outlives_its_server() {
        let bell = Event::new().expect("event");
        let ticket = Ticket::new(&bell).expect("ticket");
        drop(bell);
        drop(ticket);
    }
}
