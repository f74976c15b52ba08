//! Waiter cells: who waits, since when, and who has been told.
//!
//! ```text
//! cell.state = state:2 | owner:30            cell.ticket = order of arrival (wrapping)
//!
//!   state            meaning                                            leaves it
//!   0 (owner 0)      free                                               claim: CAS to CLAIMED
//!   CLAIMED | owner  the owner is writing its ticket                    owner: WAITING; dead: reap frees
//!   WAITING | owner  waits, awake                                       owner: ASLEEP or free (timeout); notify; reap
//!   ASLEEP | owner   waits, and must be woken by a call                 owner: free (timeout); notify; reap
//!   NOTIFIED | owner told; the owner will return `Notified`             owner: free; dead: reap passes it on
//! ```
//!
//! The caller claims a cell while it holds its lock, releases the lock, waits on the cell, and takes the lock again.
//!
//! **Exact.** One notification turns one WAITING or ASLEEP cell into NOTIFIED by compare-and-swap, and only the cell's owner turns
//! that into a return. A timeout is the competing compare-and-swap to free: if notify was first, the waiter *was* notified.
//! A cell is given to a new waiter only after it was freed, so a late wake can at worst make somebody look in vain.
//!
//! **Death.** Each nonzero state names its owner from the claiming compare-and-swap on, so no window leaves a cell that
//! nobody can be blamed for. (a) Ticket drawn, no cell yet: a gap in the tickets, harmless. (b) CLAIMED, WAITING or
//! ASLEEP: [`RawCondition::reap`] frees the cell, and notify skips and frees it as soon as the death is known. (c) NOTIFIED but not
//! returned: reap first makes the cell its own (NOTIFIED | reaper), then notifies another waiter, then frees it. Should the
//! reaper die too, its own reaper does the same again: a notification is never lost, and doubled only if a reaper dies between
//! those two steps. (d) Notifier dead between its CAS and its wake: reap wakes every NOTIFIED cell;
//! without a reaper the waiter looks again after its slice.
//!
//! **Ordering.** Storing WAITING is a Release, paired with the Acquire load in `oldest` (the ticket is written by
//! then). Turning to NOTIFIED is a Release, paired with the Acquire load in `wait`. Freeing is a Release, paired with
//! the Acquire in `claim`.

use super::{Deadline, Port, Slept};
use crate::atomic::{AtomicU32, Ordering};
use crate::family::{OWNER_MASK, Owner};

const CLAIMED: u32 = 0;
const WAITING: u32 = 1 << 30;
const ASLEEP: u32 = 2 << 30;
const NOTIFIED: u32 = 3 << 30;
/// The bits of the states above.
const STATE: u32 = NOTIFIED;
/// A cell that belongs to nobody.
const FREE: u32 = 0;

/// How a wait on a cell ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Waited {
    /// One notification was meant for this waiter.
    Notified,
    /// The deadline passed, and no notification will come for this wait.
    TimedOut,
}

/// One waiter's cell as it lies in the heap. All zero is free.
#[repr(C)]
#[derive(Debug)]
#[cfg_attr(not(procession_loom), derive(zerocopy::FromBytes))]
pub(crate) struct RawCell {
    state: AtomicU32,
    ticket: AtomicU32,
}

/// The condition's own state; its cells are handed in, the same ones each time. All zero is valid.
#[repr(C)]
#[derive(Debug)]
#[cfg_attr(not(procession_loom), derive(zerocopy::FromBytes))]
pub(crate) struct RawCondition {
    next_ticket: AtomicU32,
}

/// The cells of a condition, in one piece or several, always in the same order; more may be added at the end.
pub(crate) trait Cells {
    /// All of them.
    fn each(&self) -> impl Iterator<Item = &RawCell>;
}

impl Cells for [RawCell] {
    fn each(&self) -> impl Iterator<Item = &RawCell> {
        self.iter()
    }
}

impl<const N: usize> Cells for [RawCell; N] {
    fn each(&self) -> impl Iterator<Item = &RawCell> {
        self.iter()
    }
}

/// Whether a cell in this state waits for a notification.
fn is_waiting(state: u32) -> bool {
    state & OWNER_MASK != 0 && matches!(state & STATE, WAITING | ASLEEP)
}

impl RawCondition {
    /// A condition nobody has waited for.
    #[cfg(all(test, procession_loom))]
    pub(crate) fn new() -> Self {
        Self::starting_at(0)
    }

    /// A condition that has given out so many tickets.
    #[cfg(test)]
    pub(crate) fn starting_at(ticket: u32) -> Self {
        Self {
            next_ticket: AtomicU32::new(ticket),
        }
    }

    /// Enters the caller as the youngest waiter; `None` if all cells are taken.
    ///
    /// From here on a notification may be meant for the caller: it must [`wait`](Self::wait) or [`withdraw`](Self::withdraw).
    pub(crate) fn claim(&self, cells: &(impl Cells + ?Sized), port: &impl Port) -> Option<usize> {
        let me = port.me().to_word();
        let ticket = self.next_ticket.fetch_add(1, Ordering::Relaxed);
        let (index, cell) = cells
            .each()
            .enumerate()
            .find(|(_, cell)| cell.turn(FREE, CLAIMED | me))?;
        cell.ticket.store(ticket, Ordering::Relaxed);
        cell.state.store(WAITING | me, Ordering::Release);
        Some(index)
    }

    /// Waits for a notification on the cell that [`claim`](Self::claim) gave, then frees it.
    pub(crate) fn wait(
        &self,
        cells: &(impl Cells + ?Sized),
        index: usize,
        port: &impl Port,
        deadline: Deadline,
    ) -> Waited {
        cells
            .each()
            .nth(index)
            .map_or(Waited::TimedOut, |cell| cell.wait(port, deadline))
    }

    /// Gives a cell up without waiting; a notification that had come already goes to another waiter.
    pub(crate) fn withdraw(&self, cells: &(impl Cells + ?Sized), index: usize, port: &impl Port) {
        let Some(cell) = cells.each().nth(index) else {
            return;
        };
        if !cell.leave_unless_notified(port.me()) {
            self.pass_on(cell, cells, port);
        }
    }

    /// The cell that [`claim`](Self::claim) gave.
    #[cfg(not(procession_loom))]
    pub(crate) fn cell<'a>(
        &self,
        cells: &'a (impl Cells + ?Sized),
        index: usize,
    ) -> Option<&'a RawCell> {
        cells.each().nth(index)
    }

    /// Notifies the `count` waiters that have waited longest, and says how many there were. Skips the dead.
    pub(crate) fn notify(
        &self,
        cells: &(impl Cells + ?Sized),
        count: usize,
        port: &impl Port,
    ) -> usize {
        if count == usize::MAX || count >= cells.each().count() {
            return cells.each().filter(|cell| cell.notify(port)).count();
        }
        (0..count)
            .take_while(|_| notify_oldest(cells, port))
            .count()
    }

    /// How many wait now; only a hint by the time it is read.
    pub(crate) fn waiting(&self, cells: &(impl Cells + ?Sized)) -> usize {
        cells
            .each()
            .filter(|cell| is_waiting(cell.state.load(Ordering::Relaxed)))
            .count()
    }

    /// Frees the cells of `dead` and passes on what it had been told but not taken. Idempotent.
    pub(crate) fn reap(&self, cells: &(impl Cells + ?Sized), port: &impl Port, dead: Owner) {
        for cell in cells.each() {
            self.reap_cell(cell, cells, port, dead);
        }
    }

    fn reap_cell(
        &self,
        cell: &RawCell,
        cells: &(impl Cells + ?Sized),
        port: &impl Port,
        dead: Owner,
    ) {
        loop {
            let state = cell.state.load(Ordering::Acquire);
            if state & OWNER_MASK != dead.to_word() {
                if state & STATE == NOTIFIED {
                    // The dead one may have been its notifier.
                    port.wake(&cell.state, 1);
                }
                return;
            }
            if state & STATE != NOTIFIED {
                if cell.turn(state, FREE) {
                    return;
                }
            } else if cell.turn(state, NOTIFIED | port.me().to_word()) {
                return self.pass_on(cell, cells, port);
            }
        }
    }

    /// Hands the notification in the caller's own `cell` to another waiter, then frees the cell.
    fn pass_on(&self, cell: &RawCell, cells: &(impl Cells + ?Sized), port: &impl Port) {
        notify_oldest(cells, port);
        cell.state.store(FREE, Ordering::Release);
    }
}

/// Notifies the waiter with the lowest ticket; `false` if nobody waits.
fn notify_oldest(cells: &(impl Cells + ?Sized), port: &impl Port) -> bool {
    while let Some(cell) = oldest(cells) {
        if cell.notify(port) {
            return true;
        }
    }
    false
}

/// The waiter with the lowest ticket.
fn oldest<C: Cells + ?Sized>(cells: &C) -> Option<&RawCell> {
    cells
        .each()
        // Acquire pairs with the Release in `claim`: the ticket below is this waiter's.
        .filter(|cell| is_waiting(cell.state.load(Ordering::Acquire)))
        .map(|cell| (cell, cell.ticket.load(Ordering::Relaxed)))
        .reduce(|a, b| {
            if a.1.wrapping_sub(b.1) as i32 > 0 {
                b
            } else {
                a
            }
        })
        .map(|(cell, _)| cell)
}

impl RawCell {
    /// A free cell.
    #[cfg(all(test, procession_loom))]
    pub(crate) fn new() -> Self {
        Self {
            state: AtomicU32::new(FREE),
            ticket: AtomicU32::new(0),
        }
    }

    /// Who holds the cell; only a hint by the time it is read.
    #[cfg(test)]
    pub(crate) fn owner(&self) -> Option<Owner> {
        Owner::from_word(self.state.load(Ordering::Relaxed))
    }

    /// Whether the wait of `me` is over.
    #[cfg(not(procession_loom))]
    pub(crate) fn is_told(&self, me: Owner) -> bool {
        let state = self.state.load(Ordering::Acquire);
        !is_waiting(state) || state & OWNER_MASK != me.to_word()
    }

    /// Marks that `me` must be woken by a call, if it waits; the word to sleep on.
    #[cfg(not(procession_loom))]
    pub(crate) fn announce(&self, me: Owner) -> u32 {
        self.turn(WAITING | me.to_word(), ASLEEP | me.to_word());
        self.state.load(Ordering::SeqCst)
    }

    /// The word that its waiter sleeps on.
    #[cfg(not(procession_loom))]
    pub(crate) fn word(&self) -> &AtomicU32 {
        &self.state
    }

    /// Takes the cell from one state to another, unless it is no longer in the first.
    fn turn(&self, from: u32, to: u32) -> bool {
        self.state
            .compare_exchange(from, to, Ordering::AcqRel, Ordering::Relaxed)
            .is_ok()
    }

    /// Notifies this waiter; `false` if it does not wait or is dead (its cell is freed then).
    fn notify(&self, port: &impl Port) -> bool {
        loop {
            let state = self.state.load(Ordering::Acquire);
            let owner = Owner::from_word(state).filter(|_| is_waiting(state));
            let Some(owner) = owner else { return false };
            if owner != port.me() && port.is_known_gone(owner) {
                self.turn(state, FREE);
            } else if self.turn(state, NOTIFIED | owner.to_word()) {
                if state & STATE == ASLEEP {
                    port.wake(&self.state, 1);
                }
                return true;
            }
        }
    }

    fn wait(&self, port: &impl Port, deadline: Deadline) -> Waited {
        self.watch(port, deadline);
        self.leave(port.me())
    }

    /// Waits until the cell is notified or `deadline` passes, and keeps it: a [`leave`](Self::leave) says what the wait came to.
    pub(crate) fn watch(&self, port: &impl Port, deadline: Deadline) {
        let me = port.me();
        let mut turn = 0;
        loop {
            let state = self.state.load(Ordering::Acquire);
            if !is_waiting(state) || state & OWNER_MASK != me.to_word() {
                return;
            }
            if state & STATE == WAITING && port.spin(turn) {
                turn = turn.saturating_add(1);
                continue;
            }
            let asleep = ASLEEP | me.to_word();
            if state != asleep && !self.turn(WAITING | me.to_word(), asleep) {
                continue;
            }
            if port.sleep(&self.state, asleep, deadline) == Slept::TimedOut {
                return;
            }
        }
    }

    /// Frees the cell at the end of a wait, and says what the wait came to.
    pub(crate) fn leave(&self, me: Owner) -> Waited {
        if self.leave_unless_notified(me) {
            return Waited::TimedOut;
        }
        self.state.store(FREE, Ordering::Release);
        Waited::Notified
    }

    /// Frees the cell; `false`, and it stays the caller's, if it has been notified.
    fn leave_unless_notified(&self, me: Owner) -> bool {
        let me = me.to_word();
        // Both fail only if the state has moved on, and it moves on only to NOTIFIED.
        if self.turn(ASLEEP | me, FREE) || self.turn(WAITING | me, FREE) {
            return true;
        }
        self.state.load(Ordering::Acquire) != NOTIFIED | me
    }
}

#[cfg(not(procession_loom))]
const _: () = assert!(size_of::<RawCell>() == 8 && size_of::<RawCondition>() == 4);
