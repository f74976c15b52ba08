//! Integration tests, one file per concept.
mod queue;
