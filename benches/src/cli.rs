//! The command line: which concepts to run, for how long, and where the record goes.

use crate::harness::{self, Case, Result, Settings, helper, record, table, watchdog};
use crate::{buffers, lock, peer, pingpong, pipe, pool, process, queue, scale};
use clap::{Parser, ValueEnum};
use std::path::PathBuf;
use std::time::Duration;

/// Measures procession beside ipc-channel, iceoryx2 and procspawn, in alternating rounds of one run.
#[derive(Parser)]
#[command(name = "procession-bench", version)]
struct Options {
    /// Short rounds: under a minute in all, and recorded only if --record is given.
    #[arg(long)]
    quick: bool,
    /// Run only these concepts.
    #[arg(long, value_delimiter = ',', value_name = "CONCEPT,...")]
    only: Vec<Concept>,
    /// Of those, run only the cases whose title contains this.
    #[arg(long, value_name = "TEXT", default_value = "")]
    case: String,
    /// Rounds of each subject (at least 1).
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
    rounds: Option<u32>,
    /// Folder for the record, one CSV per machine and day [default: record/ beside this crate's sources].
    #[arg(long, value_name = "DIR", conflicts_with = "no_record")]
    record: Option<PathBuf>,
    /// Write no record.
    #[arg(long)]
    no_record: bool,
}

impl Options {
    fn settings(&self) -> Settings {
        let (rounds, budget) = if self.quick { (5, 40) } else { (7, 150) };
        Settings {
            rounds: self.rounds.unwrap_or(rounds) as usize,
            budget: Duration::from_millis(budget),
            quick: self.quick,
        }
    }

    fn concepts(&self) -> Vec<Concept> {
        let all = Concept::value_variants().iter().copied();
        all.filter(|concept| self.only.is_empty() || self.only.contains(concept))
            .collect()
    }

    fn record_folder(&self) -> Option<PathBuf> {
        let default = || PathBuf::from(concat!(env!("CARGO_MANIFEST_DIR"), "/record"));
        match &self.record {
            Some(folder) => Some(folder.clone()),
            None => (!self.no_record && !self.quick).then(default),
        }
    }
}

/// What can be measured; each has a source file of its own.
#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Concept {
    Pipe,
    Queue,
    Pingpong,
    Buffers,
    Lock,
    Process,
    Pool,
    Scale,
}

impl Concept {
    fn cases(self) -> Vec<Case> {
        match self {
            Self::Pipe => pipe::cases(),
            Self::Queue => queue::cases(),
            Self::Pingpong => pingpong::cases(),
            Self::Buffers => buffers::cases(),
            Self::Lock => lock::cases(),
            Self::Process => process::cases(),
            Self::Pool => pool::cases(),
            Self::Scale => scale::cases(),
        }
    }
}

/// Runs what the arguments ask for; in a child, the helper role they name.
pub(crate) fn run() -> Result<()> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    match arguments.split_first() {
        Some((word, rest)) if word == helper::SUBCOMMAND => help(rest),
        _ => measure(&Options::parse()),
    }
}

fn help(arguments: &[String]) -> Result<()> {
    let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
    let Some((&concept, arguments)) = arguments.split_first() else {
        return Err("the helper subcommand is for this program's own children".into());
    };
    helper::run(|| match concept {
        "pipe" => pipe::help(arguments),
        "queue" => queue::help(arguments),
        "buffers" => buffers::help(arguments),
        "lock" => lock::help(arguments),
        "process" => Ok(()),
        "pool" => pool::help(),
        "scale" => scale::help(arguments),
        other => Err(format!("no helper named {other}").into()),
    })
}

fn measure(options: &Options) -> Result<()> {
    let settings = options.settings();
    let machine = record::Machine::read()?;
    table::print_head(&machine, &settings);
    watchdog::start();
    let mut results = Vec::new();
    let cases: Vec<Case> = options
        .concepts()
        .into_iter()
        .flat_map(Concept::cases)
        .filter(|case| case.title.contains(&options.case))
        .collect();
    for case in &cases {
        let result = harness::measure(case, &settings);
        table::print(&result);
        results.push(result);
    }
    peer::iceoryx::remove_leftovers();
    pool::print_curve(&results);
    table::print_verdict(&results);
    if let Some(folder) = options.record_folder() {
        println!(
            "recorded in {}",
            record::write(&folder, &machine, &settings, &results)?.display()
        );
    }
    Ok(())
}
