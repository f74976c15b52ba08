//! Who is in the family: participants, liveness, reaping the dead.

mod owner;

pub(crate) use owner::OWNER_MASK;
pub use owner::{MAX_PARTICIPANTS, Owner};
