//! The crash tests' machinery: kill a participant after every single instruction, then ask the survivors.
//!
//! 1. `os`: the raw calls (fork, ptrace, breakpoints, wait), the only unsafe file.
//! 2. `shared`: one plain value in memory that forked processes share.
//! 3. `stepper`: [`Scenario`] and [`Sweep`]; the supervisor which watches the lanes.
//! 4. `lane`: the process that forks, steps, kills and checks, one victim per kill point.
//! 5. `travel`: the way to the k-th instruction by few stops.
//! 6. `states`: the way by changes of the shared memory, for operations too long to be killed at each instruction.
//! 7. `rounds`: the same play in many processes, a fresh one each time.
//! 8. `wire`: what a lane tells its supervisor.
//! 9. `report`: what was found, with symbols.
//! 10. `storm`: random SIGKILL, SIGSTOP and SIGCONT against a crowd of members.
//!
//! Nothing here knows the engine, and nothing is taken from `crate`: a test binary may include the folder
//! with `#[path]`. Run it with
//! `cargo test -p procession --profile crash --lib crash_ -- --nocapture --test-threads=1`.
//!
//! # Why three processes
//! The test forks a *lane*; the lane sets the stage, forks the *victim*, kills it and plays the survivor.
//! A survivor that hangs is the very bug we look for, so it must be somebody whom the test can kill: the
//! lane is killed, the point is reported as wedged, and a new lane goes on behind it. The survivor is the
//! victim's parent and a process of one thread, as in real use.
//!
//! # What this cannot show
//! Kills land between instructions of one core: no weak-memory reordering, and no victim that is killed
//! inside the kernel, except asleep. Children that the victim starts are not stepped and not killed.

mod lane;
mod os;
mod report;
mod rounds;
mod shared;
mod states;
mod stepper;
mod storm;
mod travel;
mod wire;

mod scenarios;
mod tests;

pub(crate) use os::Pid;
pub(crate) use report::{Fault, Report};
pub(crate) use rounds::{round, rounds};
pub(crate) use shared::Shared;
pub(crate) use states::{Memory, State, Traced, Way, begin};
pub(crate) use stepper::{Killed, Landing, Scenario, Sweep, kill_at_every_instruction};
pub(crate) use storm::{Cause, Crowd, Death, Seat, Storm, Tally};
