//! What a lane tells its supervisor: fixed records with a message behind, through a pipe.
//!
//! A lane says where it is *before* it goes there, so that whoever kills it knows what hung.

use std::fs::File;
use std::io::{self, Write};

use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

use super::report::Fault;
use super::stepper::Landing;

/// A kill point: so many steps, and, where that step fell asleep, whether to go on until it has woken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Point {
    pub(super) step: u64,
    pub(super) woken: bool,
}

/// One thing a lane says.
#[derive(Clone, Debug)]
pub(super) enum Note {
    /// A victim is on its way to the point.
    Travelling(Point),
    /// The victim was killed; the survivor is asked now.
    Checking {
        point: Point,
        landing: Landing,
        address: u64,
        stops: u64,
        drifted: bool,
    },
    /// The survivor is content.
    Passed,
    Failed(Fault),
    /// This lane has covered its share but for so many dull points, or could not go on because of this.
    Done {
        why: String,
        skipped: u64,
    },
    /// The harness or the scenario's stage-setting failed.
    Broken(String),
}

#[derive(Clone, Copy, FromBytes, IntoBytes, KnownLayout, Immutable)]
#[repr(C)]
struct Header {
    kind: u8,
    detail: u8,
    woken: u8,
    drifted: u8,
    len: u32,
    step: u64,
    address: u64,
    stops: u64,
}

const HEADER: usize = size_of::<Header>();

/// A lane's end.
pub(super) struct Wire(pub(super) File);

impl Wire {
    pub(super) fn send(&mut self, note: &Note) -> io::Result<()> {
        let mut header = Header {
            kind: 0,
            detail: 0,
            woken: 0,
            drifted: 0,
            len: 0,
            step: 0,
            address: 0,
            stops: 0,
        };
        let mut text = "";
        match note {
            Note::Travelling(point) => {
                (header.step, header.woken) = (point.step, point.woken.into())
            }
            Note::Checking {
                point,
                landing,
                address,
                stops,
                drifted,
            } => {
                (header.kind, header.detail) = (1, *landing as u8);
                (header.step, header.woken) = (point.step, point.woken.into());
                (header.address, header.stops, header.drifted) =
                    (*address, *stops, (*drifted).into());
            }
            Note::Passed => header.kind = 2,
            Note::Failed(fault) => {
                header.kind = 3;
                (header.detail, text) = match fault {
                    Fault::Wedged(text) => (0, text),
                    Fault::Lost(text) => (1, text),
                    Fault::Leaked(text) => (2, text),
                };
            }
            Note::Done { why, skipped } => (header.kind, header.step, text) = (4, *skipped, why),
            Note::Broken(why) => (header.kind, text) = (5, why),
        }
        header.len = text.len() as u32;
        self.0
            .write_all(&[header.as_bytes(), text.as_bytes()].concat())
    }
}

/// Takes the first whole note out of what has arrived.
pub(super) fn take(arrived: &mut Vec<u8>) -> Option<Note> {
    let (header, rest) = Header::read_from_prefix(arrived).ok()?;
    let text = String::from_utf8_lossy(rest.get(..header.len as usize)?).into_owned();
    arrived.drain(..HEADER + header.len as usize);
    let point = Point {
        step: header.step,
        woken: header.woken != 0,
    };
    let Header { address, stops, .. } = header;
    Some(match (header.kind, header.detail) {
        (0, _) => Note::Travelling(point),
        (1, landing) => {
            let landing = Landing::from_byte(landing);
            Note::Checking {
                point,
                landing,
                address,
                stops,
                drifted: header.drifted != 0,
            }
        }
        (2, _) => Note::Passed,
        (3, 0) => Note::Failed(Fault::Wedged(text)),
        (3, 1) => Note::Failed(Fault::Lost(text)),
        (3, _) => Note::Failed(Fault::Leaked(text)),
        (4, _) => Note::Done {
            why: text,
            skipped: header.step,
        },
        _ => Note::Broken(text),
    })
}
