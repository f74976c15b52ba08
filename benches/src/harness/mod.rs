//! The machinery every concept shares; none of it knows what it measures.
//!
//! 1. `case` - what a case, a subject, a unit and a target are.
//! 2. `rounds` - runs a case: sizes the rounds, alternates the subjects, pairs the readings.
//! 3. `helper` - the other process of a subject, and the few words spoken with it.
//! 4. `watchdog` - ends a run that hangs.
//! 5. `load` - how busy other programs kept the machine meanwhile.
//! 6. `table`, `record` - what is printed, what is kept.

pub(crate) mod case;
pub(crate) mod helper;
pub(crate) mod load;
pub(crate) mod record;
pub(crate) mod rounds;
pub(crate) mod table;
pub(crate) mod watchdog;

pub(crate) use case::{Attempt, Case, Subject, Target, Unit};
pub(crate) use rounds::{Settings, measure};

/// What a step of a benchmark returns; whatever went wrong is printed in the subject's row.
pub(crate) type Result<T> = std::result::Result<T, Box<dyn std::error::Error + Send + Sync>>;
