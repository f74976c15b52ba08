//! Integration tests, one file per concept.
mod batch;
mod fd;
mod queue;
mod ready;
mod ready_fork;
mod wait;
