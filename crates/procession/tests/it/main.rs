//! Integration tests, one file per concept.
mod process;
mod queue;

// Tests start this binary again: it must become the child before libtest's `main`.
procession::init_before_main!();
