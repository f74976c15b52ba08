//! What a sweep found: points, faults, and where they are in the program.

use std::collections::BTreeMap;
use std::fmt;
use std::process::Command;
use std::time::Duration;

/// What a survivor found wrong.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Fault {
    /// The survivors cannot go on.
    Wedged(String),
    /// Something of somebody else's is gone, doubled, damaged or out of order.
    Lost(String),
    /// Something is held for ever.
    Leaked(String),
}

impl Fault {
    fn class(&self) -> &'static str {
        match self {
            Self::Wedged(_) => "wedged",
            Self::Lost(_) => "lost",
            Self::Leaked(_) => "leaked",
        }
    }

    fn message(&self) -> &str {
        match self {
            Self::Wedged(message) | Self::Lost(message) | Self::Leaked(message) => message,
        }
    }
}

impl From<String> for Fault {
    fn from(message: String) -> Self {
        Self::Lost(message)
    }
}

impl From<&str> for Fault {
    fn from(message: &str) -> Self {
        Self::Lost(message.into())
    }
}

/// One kill point with a fault.
#[derive(Clone, Debug)]
pub(crate) struct Failure {
    /// Instructions which the victim had executed in its window.
    pub(crate) step: u64,
    /// The instruction that it did not get to (0: it was not traced any more).
    pub(crate) address: u64,
    /// Killed while it slept in the kernel.
    pub(crate) asleep: bool,
    pub(crate) fault: Fault,
}

/// The outcome of one sweep.
#[derive(Debug, Default)]
pub(crate) struct Report {
    pub(crate) name: String,
    /// Victims that were killed, and survivors asked.
    pub(crate) points: u64,
    /// Of these, victims killed in their sleep.
    pub(crate) asleep: u64,
    /// Single steps and breakpoint stops made.
    pub(crate) stops: u64,
    /// Points whose victim stood at another instruction than the first run had recorded.
    pub(crate) drifted: u64,
    /// Points left out amid the rounds of a string instruction or of a thinned walk.
    pub(crate) skipped: u64,
    /// Why the sweep ended before the operation did, if so.
    pub(crate) cut: Option<String>,
    pub(crate) failures: Vec<Failure>,
    pub(crate) took: Duration,
}

impl Report {
    /// Kill points with this class of fault.
    pub(crate) fn count(&self, class: &str) -> usize {
        self.failures
            .iter()
            .filter(|failure| failure.fault.class() == class)
            .count()
    }

    pub(crate) fn wedged(&self) -> usize {
        self.count("wedged")
    }

    /// Fails the test unless every survivor was content and the whole operation was covered.
    pub(crate) fn expect_clean(&self) {
        assert!(
            self.failures.is_empty() && self.cut.is_none() && self.points > 0,
            "{self}\n{}",
            self.details()
        );
    }

    /// One line per faulty kill point, with the source line where addr2line knows it.
    pub(crate) fn details(&self) -> String {
        let symbols = Symbols::of_this_process();
        let line = |failure: &Failure| {
            let asleep = if failure.asleep { " (asleep)" } else { "" };
            let place = symbols.locate(failure.address);
            let Failure { step, fault, .. } = failure;
            format!(
                "  step {step}{asleep} before {place}: {}: {}",
                fault.class(),
                fault.message()
            )
        };
        self.failures
            .iter()
            .map(line)
            .collect::<Vec<_>>()
            .join("\n")
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            name, points, took, ..
        } = self;
        let (wedged, lost, leaked) = (self.wedged(), self.count("lost"), self.count("leaked"));
        write!(
            f,
            "crash: {name}: {points} kill points, {wedged} wedged, {lost} lost, {leaked} leaked"
        )?;
        write!(f, " ({:.1} s)", took.as_secs_f64())?;
        if self.skipped > 0 {
            write!(
                f,
                ", {} rounds of string instructions and long walks left out",
                self.skipped
            )?;
        }
        self.cut
            .as_ref()
            .map_or(Ok(()), |cut| write!(f, ", cut short: {cut}"))
    }
}

/// The files mapped into this process: lanes and victims are forks, and have them at the same addresses.
struct Symbols {
    /// By end of a mapping: its start, the file's load base, the file.
    mappings: BTreeMap<u64, (u64, u64, String)>,
}

impl Symbols {
    fn of_this_process() -> Self {
        let maps = std::fs::read_to_string("/proc/self/maps").unwrap_or_default();
        let mut bases = BTreeMap::new();
        let mut mappings = BTreeMap::new();
        for line in maps.lines() {
            let mut fields = line.split_ascii_whitespace();
            let (Some(range), Some(file)) = (fields.next(), fields.nth(4)) else {
                continue;
            };
            let Some((start, end)) = range.split_once('-') else {
                continue;
            };
            let hex = |digits| u64::from_str_radix(digits, 16).unwrap_or(0);
            let base = *bases.entry(file.to_owned()).or_insert(hex(start));
            mappings.insert(hex(end), (hex(start), base, file.to_owned()));
        }
        Self { mappings }
    }

    fn locate(&self, address: u64) -> String {
        let found = self.mappings.range(address + 1..).next();
        let Some((_, (_, base, file))) = found.filter(|(_, (start, ..))| *start <= address) else {
            return format!("{address:#x}");
        };
        let offset = address - base;
        let line = source_line(file, offset)
            .map(|line| format!(" {line}"))
            .unwrap_or_default();
        format!(
            "{}+{offset:#x}{line}",
            file.rsplit('/').next().unwrap_or(file)
        )
    }
}

fn source_line(file: &str, offset: u64) -> Option<String> {
    let mut command = Command::new("addr2line");
    let output = command
        .args(["-p", "-f", "-C", "-e", file])
        .arg(format!("{offset:#x}"))
        .output()
        .ok()?;
    let line = String::from_utf8(output.stdout).ok()?.trim().to_owned();
    (output.status.success() && !line.is_empty() && !line.starts_with("??")).then_some(line)
}
