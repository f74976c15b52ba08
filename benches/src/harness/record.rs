//! The record: one CSV per machine and day, one line per subject, each run added at the end.

use super::rounds::{CaseResult, Row, Settings, Summary};
use super::{Result, table};
use std::fs::{OpenOptions, create_dir_all, read_to_string};
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{SystemTime, UNIX_EPOCH};

const HEADER: &str = "started,commit,machine,kernel,mode,case,subject,role,unit,median,min,max,\
                      ours_times_better,ours_times_better_min,ours_times_better_max,target,verdict,other_cpus,\
                      readings";

/// Where and of what a run was taken.
pub(crate) struct Machine {
    /// CPU model and count.
    pub(crate) name: String,
    pub(crate) kernel: String,
    /// The git commit, with `+changes` where the tree has any.
    pub(crate) commit: String,
    started: SystemTime,
}

impl Machine {
    /// Reads the machine this runs on.
    pub(crate) fn read() -> Result<Self> {
        let cpus = read_to_string("/proc/cpuinfo")?;
        let models = cpus
            .lines()
            .filter_map(|line| line.strip_prefix("model name"));
        let model = models
            .filter_map(|rest| rest.split_once(':'))
            .map(|(_, model)| model.trim());
        let model = model.clone().next().unwrap_or(std::env::consts::ARCH);
        Ok(Self {
            name: format!("{model} {} cpu", std::thread::available_parallelism()?),
            kernel: read_to_string("/proc/sys/kernel/osrelease")?
                .trim()
                .to_owned(),
            commit: commit(),
            started: SystemTime::now(),
        })
    }

    /// The name in lower-case letters, digits and single dashes.
    fn slug(&self) -> String {
        let lower = self.name.to_lowercase();
        let words = lower.split(|it: char| !it.is_ascii_alphanumeric());
        words
            .filter(|word| !word.is_empty())
            .collect::<Vec<_>>()
            .join("-")
    }
}

/// Adds the results to the day's file and returns its path.
pub(crate) fn write(
    folder: &Path,
    machine: &Machine,
    settings: &Settings,
    results: &[CaseResult<'_>],
) -> Result<PathBuf> {
    let seconds = machine.started.duration_since(UNIX_EPOCH)?.as_secs();
    let folder = folder.join(machine.slug());
    create_dir_all(&folder)?;
    let path = folder.join(format!("{}.csv", date(seconds)));
    let mut file = OpenOptions::new().create(true).append(true).open(&path)?;
    if file.metadata()?.len() == 0 {
        writeln!(file, "{HEADER}")?;
    }
    let (hour, minute, second) = (seconds / 3600 % 24, seconds / 60 % 60, seconds % 60);
    let run = [
        format!("{}T{hour:02}:{minute:02}:{second:02}Z", date(seconds)),
        machine.commit.clone(),
        machine.name.clone(),
        machine.kernel.clone(),
        if settings.quick { "quick" } else { "full" }.to_owned(),
    ];
    for result in results {
        for row in 0..result.rows.len() {
            let fields = run.iter().cloned().chain(fields(result, row));
            writeln!(file, "{}", fields.map(quoted).collect::<Vec<_>>().join(","))?;
        }
    }
    Ok(path)
}

fn fields(result: &CaseResult<'_>, row: usize) -> Vec<String> {
    let (case, subject) = (result.case, &result.case.subjects[row]);
    let ours = result.ours() == Some(row);
    let mut fields = [
        case.title,
        subject.name,
        subject.role.name(),
        case.unit.label,
    ]
    .map(str::to_owned)
    .to_vec();
    fields.extend(summary(Summary::of(result.rows[row].readings())));
    fields.extend(summary(if ours { None } else { result.advantage(row) }));
    fields.push(if ours {
        table::target(case)
    } else {
        String::new()
    });
    fields.push(if ours { table::verdict(result) } else { "" }.to_owned());
    fields.push(
        result
            .other_cpus
            .map(|cpus| format!("{cpus:.2}"))
            .unwrap_or_default(),
    );
    fields.push(match &result.rows[row] {
        Row::NotBuilt => "not built yet".to_owned(),
        Row::Failed(reason) => format!("failed: {reason}"),
        Row::Readings(readings) => readings
            .iter()
            .map(|it| it.to_string())
            .collect::<Vec<_>>()
            .join(" "),
    });
    fields
}

fn summary(summary: Option<Summary>) -> [String; 3] {
    summary
        .map(|it| [it.median, it.min, it.max].map(|figure| figure.to_string()))
        .unwrap_or_default()
}

fn quoted(field: String) -> String {
    if field.contains([',', '"', '\n']) {
        format!("\"{}\"", field.replace('"', "\"\"").replace('\n', " "))
    } else {
        field
    }
}

fn commit() -> String {
    let git = |arguments: &[&str]| {
        let folder = env!("CARGO_MANIFEST_DIR");
        let output = Command::new("git")
            .arg("-C")
            .arg(folder)
            .args(arguments)
            .output()
            .ok()?;
        let text = String::from_utf8(output.stdout).ok()?;
        output.status.success().then(|| text.trim().to_owned())
    };
    let Some(commit) = git(&["rev-parse", "--short=12", "HEAD"]) else {
        return "unknown".to_owned();
    };
    let unchanged = git(&["status", "--porcelain", "--", "..", ":(exclude)record"])
        .is_some_and(|changes| changes.is_empty());
    if unchanged {
        commit
    } else {
        format!("{commit}+changes")
    }
}

/// The UTC date of a Unix time, `year-month-day` (H. Hinnant's civil-from-days).
fn date(seconds: u64) -> String {
    let days = seconds / 86_400 + 719_468;
    let (era, day_of_era) = (days / 146_097, days % 146_097);
    let year_of_era =
        (day_of_era - day_of_era / 1_460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let shifted_month = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * shifted_month + 2) / 5 + 1;
    let month = if shifted_month < 10 {
        shifted_month + 3
    } else {
        shifted_month - 9
    };
    let year = year_of_era + era * 400 + u64::from(month <= 2);
    format!("{year:04}-{month:02}-{day:02}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dates() {
        assert_eq!(date(0), "1970-01-01");
        assert_eq!(date(951_782_400), "2000-02-29");
        assert_eq!(date(1_798_761_599), "2026-12-31");
        assert_eq!(date(1_798_761_600), "2027-01-01");
    }

    #[test]
    fn fields_with_commas_and_quotes_are_quoted() {
        assert_eq!(quoted("plain".to_owned()), "plain");
        assert_eq!(quoted("a, \"b\"".to_owned()), "\"a, \"\"b\"\"\"");
    }
}
