//! The peers: the channels of two as links, the pools of two others. procspawn's processes need no set-up and are used in `process.rs`.

pub(crate) mod iceoryx;
pub(crate) mod ipc_channel;
pub(crate) mod procspawn;
pub(crate) mod rayon;
