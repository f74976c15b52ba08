//! The peers' channels as links. procspawn needs no set-up of its own and is used in `process.rs`.

pub(crate) mod iceoryx;
pub(crate) mod ipc_channel;
