//! How much CPU time other programs took meanwhile. Rounds that share their CPUs with a compiler are not worth much, and
//! a reader of the record should be able to tell.

use super::Result;
use std::fs::read_to_string;
use std::time::Instant;

/// The kernel's unit of accounting is a hundredth of a second wherever this runs.
const TICKS_PER_SECOND: f64 = 100.0;

/// Begins an observation.
pub(crate) struct Load {
    others: f64,
    started: Instant,
}

impl Load {
    pub(crate) fn begin() -> Option<Self> {
        Some(Self {
            others: others().ok()?,
            started: Instant::now(),
        })
    }

    /// CPUs that other programs kept busy on average since the beginning.
    pub(crate) fn other_cpus(&self) -> Option<f64> {
        let seconds = (others().ok()? - self.others) / TICKS_PER_SECOND;
        Some((seconds / self.started.elapsed().as_secs_f64()).max(0.0))
    }
}

/// Ticks that all CPUs were busy, less those of this process and the children it has waited for.
fn others() -> Result<f64> {
    let machine = read_to_string("/proc/stat")?;
    let fields = machine
        .lines()
        .next()
        .unwrap_or_default()
        .split_whitespace()
        .skip(1);
    // user nice system idle iowait irq softirq steal
    let busy: f64 = sum(fields
        .take(8)
        .enumerate()
        .filter(|(at, _)| !matches!(at, 3 | 4)))?;
    let own = read_to_string("/proc/self/stat")?;
    // The name may hold spaces; the state follows it, and eleven fields later utime stime cutime cstime.
    let (_, fields) = own
        .rsplit_once(')')
        .ok_or("/proc/self/stat without a name")?;
    let own: f64 = sum(fields.split_whitespace().enumerate().skip(11).take(4))?;
    Ok(busy - own)
}

fn sum<'a>(fields: impl Iterator<Item = (usize, &'a str)>) -> Result<f64> {
    fields.map(|(_, field)| Ok(field.parse::<f64>()?)).sum()
}
