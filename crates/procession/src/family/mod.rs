//! Who is in the family: membership, forks, death and its consequences.
//!
//! 1. `owner`: the name of a participant. 2. `membership`: founding, joining, leaving; `invitation`: what a parent hands to a child it executes. 3. `fork`: a forked child becomes a participant
//!    before it touches anything. 4. `patrol`: looking for the dead, reaping them. 5. `waiter`: how users' waits wait; `habit`: what they learn from it.

mod owner;

#[cfg(not(procession_loom))]
mod fork;
#[cfg(not(procession_loom))]
mod habit;
#[cfg(not(procession_loom))]
mod invitation;
#[cfg(not(procession_loom))]
mod membership;
#[cfg(not(procession_loom))]
mod patrol;
#[cfg(not(procession_loom))]
mod waiter;

#[cfg(all(test, not(procession_loom)))]
pub(crate) use fork::fork_hooks;
#[cfg(not(procession_loom))]
pub(crate) use fork::{
    come_up, fork_with_hooks, forked_as, forked_child, leave_template, mind_forks,
};
#[cfg(not(procession_loom))]
pub(crate) use invitation::{Invitation, Role};
#[cfg(not(procession_loom))]
pub(crate) use membership::{attach, join, leave};
pub(crate) use owner::{GENERATION_BITS, OWNER_MASK};
pub use owner::{MAX_PARTICIPANTS, Owner};
#[cfg(not(procession_loom))]
pub(crate) use patrol::{on_patrol, patrol, reap_dead, reap_process, reserve_place};
#[cfg(not(procession_loom))]
pub(crate) use waiter::Waiter;
