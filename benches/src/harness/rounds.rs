//! Runs a case: sizes the rounds, alternates the subjects, pairs the readings.
//!
//! First every subject runs alone with ever more operations until a round takes a good part of the time it is
//! allowed; those rounds only warm up and are thrown away. Then the rounds proper go A B C, A B C, ...: a
//! subject's reading is compared with the reading of another subject in the *same* round, taken within a
//! second of it, so that a slow minute of the machine does not favour anybody.

use super::case::{Attempt, Case, Role, Target, Unit, Work};
use super::load::Load;
use super::{table, watchdog};
use std::time::Duration;

/// How long and how often to measure.
pub(crate) struct Settings {
    pub(crate) rounds: usize,
    /// About how long the clocked part of one round takes.
    pub(crate) budget: Duration,
    pub(crate) quick: bool,
}

/// A case with its readings.
pub(crate) struct CaseResult<'a> {
    pub(crate) case: &'a Case,
    pub(crate) rows: Vec<Row>,
    /// CPUs that other programs kept busy meanwhile.
    pub(crate) other_cpus: Option<f64>,
}

/// A subject's readings.
pub(crate) enum Row {
    /// There is nothing to measure yet.
    NotBuilt,
    /// It could not be measured, and why.
    Failed(String),
    /// One figure a round, in order.
    Readings(Vec<f64>),
}

impl Row {
    pub(crate) fn readings(&self) -> &[f64] {
        match self {
            Self::Readings(readings) => readings,
            Self::NotBuilt | Self::Failed(_) => &[],
        }
    }

    fn add<T>(&mut self, attempt: Attempt<T>, figure: impl FnOnce(T) -> f64) {
        match (self, attempt) {
            (Self::Readings(readings), Some(Ok(reading))) => readings.push(figure(reading)),
            (row, Some(Err(error))) => *row = Self::Failed(error.to_string()),
            (row, None) => *row = Self::NotBuilt,
            (Self::NotBuilt | Self::Failed(_), _) => {}
        }
    }
}

/// Middle, least and most of some figures.
#[derive(Clone, Copy)]
pub(crate) struct Summary {
    pub(crate) median: f64,
    pub(crate) min: f64,
    pub(crate) max: f64,
}

impl Summary {
    /// `None` where there are no figures.
    pub(crate) fn of(figures: &[f64]) -> Option<Self> {
        let mut sorted = figures.to_vec();
        sorted.sort_by(f64::total_cmp);
        let (&min, &max) = (sorted.first()?, sorted.last()?);
        let middle = sorted.len() / 2;
        let median = match sorted.len() % 2 {
            0 => f64::midpoint(sorted[middle - 1], sorted[middle]),
            _ => sorted[middle],
        };
        Some(Self { median, min, max })
    }
}

impl CaseResult<'_> {
    /// How many times better ours is than that row, over the paired rounds.
    pub(crate) fn advantage(&self, row: usize) -> Option<Summary> {
        self.ratio(self.ours()?, row)
    }

    /// How many times better one row is than another, over the paired rounds.
    pub(crate) fn ratio(&self, one: usize, other: usize) -> Option<Summary> {
        let (one, other) = (self.rows[one].readings(), self.rows[other].readings());
        let pairs = one.iter().zip(other);
        let unit = &self.case.unit;
        Summary::of(
            &pairs
                .map(|(one, other)| unit.advantage(*one, *other))
                .collect::<Vec<_>>(),
        )
    }

    /// Whether ours met its target; `None` where there is no target, or nothing to judge by.
    pub(crate) fn met(&self) -> Option<bool> {
        match self.case.target? {
            Target::Figure(figure) => {
                let ours = Summary::of(self.rows[self.ours()?].readings())?;
                Some(self.case.unit.advantage(ours.median, figure) >= 1.0)
            }
            Target::Times(factor, prefix) => {
                let rivals = (0..self.rows.len())
                    .filter(|&row| self.case.subjects[row].name.starts_with(prefix));
                let worst = rivals
                    .filter_map(|row| self.advantage(row))
                    .map(|it| it.median);
                worst
                    .min_by(f64::total_cmp)
                    .map(|advantage| advantage >= factor)
            }
        }
    }

    /// The row that the target is for: the first of ours.
    pub(crate) fn ours(&self) -> Option<usize> {
        self.case
            .subjects
            .iter()
            .position(|subject| subject.role == Role::Ours)
    }
}

/// Measures all subjects of a case.
pub(crate) fn measure<'a>(case: &'a Case, settings: &Settings) -> CaseResult<'a> {
    let mut rows: Vec<Row> = case
        .subjects
        .iter()
        .map(|_| Row::Readings(Vec::new()))
        .collect();
    let mut sizes = vec![1; rows.len()];
    let load = Load::begin();
    for (index, subject) in case.subjects.iter().enumerate() {
        table::progress(case, subject.name, None);
        match size(&subject.work, settings.budget) {
            Some(Ok(operations)) => sizes[index] = operations,
            other => rows[index].add(other, |_| 0.0),
        }
    }
    for round in 0..settings.rounds {
        for (index, subject) in case.subjects.iter().enumerate() {
            if matches!(rows[index], Row::Readings(_)) {
                table::progress(case, subject.name, Some((round, settings.rounds)));
                read(&subject.work, sizes[index], &case.unit, &mut rows[index]);
            }
        }
    }
    table::end_progress();
    CaseResult {
        case,
        rows,
        other_cpus: load.and_then(|load| load.other_cpus()),
    }
}

/// Finds how many operations fill the budget, warming up on the way.
fn size(work: &Work, budget: Duration) -> Attempt<u64> {
    let Work::Timed(run) = work else {
        return Some(Ok(1));
    };
    let mut operations = 4;
    loop {
        watchdog::feed();
        let elapsed = match run(operations)? {
            Ok(elapsed) => elapsed.max(Duration::from_nanos(1)),
            Err(error) => return Some(Err(error)),
        };
        let fit = operations as f64 * budget.as_secs_f64() / elapsed.as_secs_f64();
        if elapsed * 4 >= budget {
            return Some(Ok((fit as u64).max(1)));
        }
        // A first short run is mostly wake-up: grow by no more than a hundred at a time, and by two at least.
        operations = (fit as u64).clamp(operations * 2, operations * 100);
    }
}

fn read(work: &Work, operations: u64, unit: &Unit, row: &mut Row) {
    watchdog::feed();
    match work {
        Work::Timed(run) => {
            row.add(run(operations), |elapsed| unit.figure(operations, elapsed));
        }
        Work::Counted(run) => row.add(run(), |figure| figure),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::harness::Subject;

    fn counted(readings: &[f64]) -> Row {
        Row::Readings(readings.to_vec())
    }

    #[test]
    fn median_of_odd_and_even() {
        assert_eq!(Summary::of(&[3.0, 1.0, 2.0]).map(|it| it.median), Some(2.0));
        assert_eq!(
            Summary::of(&[4.0, 1.0, 2.0, 3.0]).map(|it| it.median),
            Some(2.5)
        );
        assert!(Summary::of(&[]).is_none());
    }

    #[test]
    fn advantage_pairs_the_rounds_and_minds_the_direction() {
        let case = Case {
            title: "test: paired",
            unit: Unit::NANOSECONDS,
            subjects: vec![
                Subject::ours_counted(|| None),
                Subject::peer_counted("peer a", || Ok(0.0)),
                Subject::peer_counted("peer b", || Ok(0.0)),
            ],
            target: Some(Target::Times(2.0, "peer")),
        };
        let rows = vec![
            counted(&[1.0, 10.0]),
            counted(&[2.0, 20.0]),
            counted(&[4.0, 40.0]),
        ];
        let result = CaseResult {
            case: &case,
            rows,
            other_cpus: None,
        };
        assert_eq!(result.advantage(1).map(|it| it.median), Some(2.0));
        assert_eq!(result.advantage(2).map(|it| it.median), Some(4.0));
        assert_eq!(result.met(), Some(true));
    }

    #[test]
    fn what_is_not_built_is_not_judged() {
        let case = Case {
            title: "test: not built",
            unit: Unit::ALIVE,
            subjects: vec![Subject::ours_counted(|| None)],
            target: Some(Target::Figure(1.0)),
        };
        let settings = Settings {
            rounds: 2,
            budget: Duration::from_millis(1),
            quick: true,
        };
        let result = measure(&case, &settings);
        assert!(matches!(result.rows[0], Row::NotBuilt));
        assert_eq!(result.met(), None);
    }
}
