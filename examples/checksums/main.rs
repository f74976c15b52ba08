//! Words and checksums of every file of a source tree: first in this process, then in one process for each processor.
//!
//! `checksums [DIRECTORY [PROCESSES]]`; without a directory it finds a source tree on this machine by itself.

mod report;
mod tally;
mod tree;

use procession::{JoinError, Process, Queue};
use report::{Measured, Report};
use std::path::Path;
use std::process::ExitCode;
use std::thread;
use std::time::{Duration, Instant};
use tally::{Finding, Job, Tally, Words, examine};
use tree::Tree;

/// What a worker takes at one time.
type Batch = Vec<Job>;

/// Bytes of one batch.
const BATCH_BYTES: u64 = 1 << 20;
/// How long one process alone should work, if the tree was our choice.
const GOAL: Duration = Duration::from_secs(5);

/// A worker: examines files until there are no more; returns the words.
fn work((jobs, findings): (Queue<Batch>, Queue<Vec<Finding>>)) -> Words {
    let mut words = Words::new();
    while let Ok(batch) = jobs.get() {
        let found = batch.iter().map(|job| examine(job, &mut words)).collect();
        if findings.put(found).is_err() {
            break; // the parent has given up
        }
    }
    words
}

/// The whole job in this process.
fn sequentially(batches: &[Batch], files: usize, report: &Report) -> Tally {
    let mut tally = Tally::new(files);
    let mut words = Words::new();
    for job in batches.iter().flatten() {
        let finding = examine(job, &mut words);
        report.advance(finding.bytes);
        tally.add(finding);
    }
    tally.add_words(words);
    tally
}

/// The whole job in processes of its own.
fn in_processes(
    processes: usize,
    batches: &[Batch],
    files: usize,
    report: &Report,
) -> Result<Tally, Box<dyn std::error::Error>> {
    let jobs = Queue::new(4 * processes)?;
    let findings = Queue::unbounded()?;
    let workers = (1..=processes)
        .map(|n| {
            let worker = Process::builder(work, (jobs.clone(), findings.clone()));
            worker.name(format!("worker {n}")).daemon(true).start()
        })
        .collect::<Result<Vec<_>, _>>()?;

    let mut tally = Tally::new(files);
    let words: Result<Vec<Words>, JoinError> = thread::scope(|scope| {
        scope.spawn(|| {
            // Waits while the queue is full, and stops when it is closed.
            let fed = batches.iter().try_for_each(|batch| jobs.put(batch.clone()));
            jobs.close();
            fed.is_ok()
        });
        let ended = scope.spawn(|| {
            let words = workers.iter().map(Process::join).collect();
            // All have ended, in whatever way: nothing waits for them any more.
            jobs.close();
            findings.close();
            words
        });
        for found in findings.iter() {
            for finding in found.expect("findings, as the workers put them") {
                report.advance(finding.bytes);
                tally.add(finding);
            }
        }
        ended.join().expect("joining does not panic")
    });
    for words in words? {
        tally.add_words(words);
    }
    Ok(tally)
}

/// All files, `rounds` times, in batches of about the same size.
fn batches(tree: &Tree, rounds: usize) -> Vec<Batch> {
    let mut batches = vec![];
    let (mut batch, mut bytes) = (vec![], 0);
    for _ in 0..rounds {
        for (index, (path, size)) in tree.files.iter().enumerate() {
            batch.push(Job {
                index,
                path: path.clone(),
            });
            bytes += size;
            if bytes >= BATCH_BYTES {
                batches.push(std::mem::take(&mut batch));
                bytes = 0;
            }
        }
    }
    batches.push(batch);
    batches
}

/// How often all files must be examined for one process to be busy for [`GOAL`]; drops files if once is too much.
fn plan(tree: &mut Tree) -> usize {
    let (start, mut words, mut sampled) = (Instant::now(), Words::new(), 0);
    let count = tree.files.len();
    // From all over the tree: neighbours are alike.
    for index in (0..count).map(|n| n * 97 % count) {
        let path = tree.files[index].0.clone();
        sampled += examine(&Job { index, path }, &mut words).bytes;
        if start.elapsed() > GOAL / 8 {
            break;
        }
    }
    let possible = sampled as f64 / start.elapsed().as_secs_f64() * GOAL.as_secs_f64();
    tree.truncate(2 * possible as u64);
    (possible / tree.bytes().max(1) as f64)
        .round()
        .clamp(1.0, 100.0) as usize
}

fn main() -> ExitCode {
    procession::init();

    match run() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("checksums: {error}");
            ExitCode::FAILURE
        }
    }
}

fn run() -> Result<(), Box<dyn std::error::Error>> {
    let mut arguments = std::env::args_os().skip(1);
    let directory = arguments.next();
    let processes = match arguments.next() {
        Some(number) => match number.to_str().and_then(|number| number.parse().ok()) {
            Some(number @ 1..) => number,
            _ => return Err(format!("{} is no number of processes", number.display()).into()),
        },
        None => procession::cpu_count().max(2),
    };
    let preparing = report::preparing();
    let mut tree = match &directory {
        Some(directory) => Tree::list(Path::new(directory)),
        None => Tree::find().ok_or("no source tree found: name a directory")?,
    };
    if tree.files.is_empty() {
        return Err(format!("no files in {}", tree.root.display()).into());
    }
    preparing.set_message(format!("reading {}", report::short(&tree.root)));
    tree.read_ahead(); // both phases shall find the files in memory
    let rounds = if directory.is_some() {
        1
    } else {
        plan(&mut tree)
    };
    let (batches, files) = (batches(&tree, rounds), tree.files.len());
    preparing.finish_and_clear();
    report::headline(&tree, rounds);

    let report = Report::begin("1 process", tree.bytes() * rounds as u64);
    let start = Instant::now();
    let alone = sequentially(&batches, files, &report);
    let alone_took = report.end(start.elapsed());

    let report = Report::begin(
        &format!("{processes} processes"),
        tree.bytes() * rounds as u64,
    );
    let start = Instant::now();
    let together = in_processes(processes, &batches, files, &report)?;
    let together_took = report.end(start.elapsed());

    if alone != together {
        return Err("the results differ: did a file change meanwhile?".into());
    }
    let measured = Measured {
        alone: alone_took,
        together: together_took,
    };
    report::summary(&together, rounds as u64, &measured);
    Ok(())
}
