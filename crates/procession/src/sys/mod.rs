//! The only place that talks to the operating system.
//!
//! # Safety
//! Everything that needs a raw system call or a raw pointer to mapped memory is here, behind a safe front.
