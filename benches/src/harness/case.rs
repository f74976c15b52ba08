//! Cases, subjects, units and targets.

use super::Result;
use std::time::Duration;

/// One try at measuring: `None` where the thing to measure is not built yet.
pub(crate) type Attempt<T> = Option<Result<T>>;

/// One question, and everything that answers it.
pub(crate) struct Case {
    /// `concept: what is measured`.
    pub(crate) title: &'static str,
    pub(crate) unit: Unit,
    pub(crate) subjects: Vec<Subject>,
    /// What ours has to reach.
    pub(crate) target: Option<Target>,
}

/// Whether a subject is ours, something a user could choose instead, or the least the machine can do.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Role {
    Ours,
    Peer,
    Floor,
}

impl Role {
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Ours => "ours",
            Self::Peer => "peer",
            Self::Floor => "floor",
        }
    }
}

/// One thing that is measured in a case.
pub(crate) struct Subject {
    pub(crate) name: &'static str,
    pub(crate) role: Role,
    pub(crate) work: Work,
}

/// How one round of a subject is run.
pub(crate) enum Work {
    /// Does that many operations and says how long they took; setting up is not part of that time.
    Timed(Box<dyn Fn(u64) -> Attempt<Duration>>),
    /// Says a number in the case's unit.
    Counted(Box<dyn Fn() -> Attempt<f64>>),
}

impl Subject {
    /// Our own answer, which may not be built yet.
    pub(crate) fn ours(run: impl Fn(u64) -> Attempt<Duration> + 'static) -> Self {
        let work = Work::Timed(Box::new(run));
        Self {
            name: "procession",
            role: Role::Ours,
            work,
        }
    }

    /// Our own answer where it is a number rather than a duration.
    pub(crate) fn ours_counted(run: impl Fn() -> Attempt<f64> + 'static) -> Self {
        let work = Work::Counted(Box::new(run));
        Self {
            name: "procession",
            role: Role::Ours,
            work,
        }
    }

    /// Another way of ours, not the one that the target is for.
    pub(crate) fn also_ours(
        name: &'static str,
        run: impl Fn(u64) -> Attempt<Duration> + 'static,
    ) -> Self {
        Self {
            name,
            ..Self::ours(run)
        }
    }

    /// Like [`Subject::also_ours`], for a number rather than a duration.
    pub(crate) fn also_ours_counted(
        name: &'static str,
        run: impl Fn() -> Attempt<f64> + 'static,
    ) -> Self {
        Self {
            name,
            ..Self::ours_counted(run)
        }
    }

    /// Something a user could choose instead of ours.
    pub(crate) fn peer(
        name: &'static str,
        run: impl Fn(u64) -> Result<Duration> + 'static,
    ) -> Self {
        let work = Work::Timed(Box::new(move |operations| Some(run(operations))));
        Self {
            name,
            role: Role::Peer,
            work,
        }
    }

    /// Like [`Subject::peer`], for a number rather than a duration.
    pub(crate) fn peer_counted(
        name: &'static str,
        run: impl Fn() -> Result<f64> + 'static,
    ) -> Self {
        let work = Work::Counted(Box::new(move || Some(run())));
        Self {
            name,
            role: Role::Peer,
            work,
        }
    }

    /// Makes this subject a floor.
    pub(crate) fn into_floor(self) -> Self {
        Self {
            role: Role::Floor,
            ..self
        }
    }
}

/// The unit of a case's figures and which way is better.
#[derive(Clone, Copy)]
pub(crate) struct Unit {
    pub(crate) label: &'static str,
    pub(crate) better: Better,
    /// Operations per second, or seconds per operation, are multiplied by this.
    pub(crate) scale: f64,
}

/// Which way is better.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Better {
    Higher,
    Lower,
}

impl Unit {
    pub(crate) const MILLION_MESSAGES: Self = Self::rate("M messages/s", 1e-6);
    pub(crate) const MILLION_PAIRS: Self = Self::rate("M lock+unlock/s", 1e-6);
    pub(crate) const MILLION_TASKS: Self = Self::rate("M tasks/s", 1e-6);
    pub(crate) const THOUSAND_TASKS: Self = Self::rate("k tasks/s", 1e-3);
    pub(crate) const POOLS: Self = Self::rate("pools/s", 1.0);
    pub(crate) const PROCESSES: Self = Self::rate("processes/s", 1.0);
    pub(crate) const MILLISECONDS: Self = Self::time("ms each", 1e3);
    pub(crate) const MICROSECONDS: Self = Self::time("us each", 1e6);
    pub(crate) const NANOSECONDS: Self = Self::time("ns each", 1e9);
    pub(crate) const ALIVE: Self = Self::rate("alive at once", 1.0);
    pub(crate) const HEAP_BYTES: Self = Self::time("bytes each", 1.0);
    pub(crate) const KIBIBYTES: Self = Self::time("KiB each", 1.0);
    pub(crate) const GROWTH: Self = Self::time("x the time", 1.0);

    /// Gigabytes (10^9) per second where each operation moves that many bytes.
    pub(crate) const fn gigabytes(bytes: usize) -> Self {
        Self::rate("GB/s", bytes as f64 / 1e9)
    }

    /// Percent of a rate of one operation in that many seconds.
    pub(crate) const fn share_of(seconds: f64) -> Self {
        Self::rate("% of ideal", 100.0 * seconds)
    }

    const fn rate(label: &'static str, scale: f64) -> Self {
        Self {
            label,
            better: Better::Higher,
            scale,
        }
    }

    const fn time(label: &'static str, scale: f64) -> Self {
        Self {
            label,
            better: Better::Lower,
            scale,
        }
    }

    /// The figure for that many operations in that time.
    pub(crate) fn figure(&self, operations: u64, elapsed: Duration) -> f64 {
        let seconds = elapsed.as_secs_f64().max(1e-9);
        match self.better {
            Better::Higher => operations as f64 / seconds * self.scale,
            Better::Lower => seconds / operations as f64 * self.scale,
        }
    }

    /// How many times better `ours` is than `theirs`; above 1 ours wins, whichever way the unit runs.
    pub(crate) fn advantage(&self, ours: f64, theirs: f64) -> f64 {
        match self.better {
            Better::Higher => ours / theirs,
            Better::Lower => theirs / ours,
        }
    }
}

/// What ours has to reach.
#[derive(Clone, Copy)]
pub(crate) enum Target {
    /// That figure or a better one.
    Figure(f64),
    /// That many times better than each subject whose name starts with the text.
    Times(f64, &'static str),
}
