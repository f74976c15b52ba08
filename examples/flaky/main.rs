//! Timeouts and retries for tasks that panic sometimes, hang sometimes and die sometimes: what became of each try, and of each task.

use procession::{Executor, RawArray, TaskOptions};
use std::time::{Duration, Instant};

const TRIES: u32 = 3;

/// How a try goes.
#[derive(Clone, Copy, PartialEq)]
enum Fate {
    Fine,
    Panics,
    Hangs,
    Dies,
}

impl Fate {
    /// Dice that fall alike each time: how this try of this task goes.
    fn of(task: usize, attempt: usize) -> Self {
        let mut dice = fastrand::Rng::with_seed(220 + task as u64);
        match (0..attempt + 2).fold(0, |_, _| dice.u8(0..5)) {
            0 => Self::Panics,
            1 => Self::Hangs,
            2 => Self::Dies,
            _ => Self::Fine,
        }
    }

    fn word(self) -> &'static str {
        match self {
            Self::Fine => "fine",
            Self::Panics => "panics",
            Self::Hangs => "hangs",
            Self::Dies => "dies",
        }
    }
}

/// The square of the number, with luck. Counts its tries in shared memory: the worker that began may be gone.
fn square((task, tries): (usize, RawArray<u32>)) -> usize {
    let attempt = tries.get(task).expect("one for each task");
    let counted = tries.set(task, attempt + 1);
    counted.expect("one for each task");
    match Fate::of(task, attempt as usize) {
        Fate::Fine => task * task,
        Fate::Panics => panic!("no luck"),
        Fate::Hangs => loop {
            std::thread::park();
        },
        Fate::Dies => std::process::abort(),
    }
}

/// Workers panic on purpose here: nobody needs to see each panic on standard error.
fn silence_workers() {
    let usual = std::panic::take_hook();
    std::panic::set_hook(Box::new(move |info| {
        if procession::parent_process().is_none() {
            usual(info);
        }
    }));
}

fn main() -> Result<(), Box<dyn std::error::Error>> {
    silence_workers(); // before `init`, so that it holds in the workers
    procession::init();

    let mut arguments = std::env::args().skip(1);
    let tasks: usize = arguments.next().map_or(Ok(16), |arg| arg.parse())?;
    let limit: u64 = arguments.next().map_or(Ok(500), |arg| arg.parse())?;
    let executor = Executor::new(procession::cpu_count().max(2))?;
    let careful = TaskOptions::new()
        .timeout(Duration::from_millis(limit))
        .retries(TRIES - 1);
    let tries = RawArray::zeroed(tasks)?;
    let start = Instant::now();
    let futures = (0..tasks)
        .map(|task| {
            let options = careful.clone().name(format!("square {task}"));
            executor.submit_with(options, square, (task, tries.clone()))
        })
        .collect::<Result<Vec<_>, _>>()?;

    println!("task  {:<24}  outcome", format!("up to {TRIES} tries"));
    let (mut fates, mut done) = (vec![], 0);
    for (task, future) in futures.iter().enumerate() {
        let outcome = match future.result() {
            Ok(square) => {
                done += 1;
                square.to_string()
            }
            Err(error) => error.to_string(),
        };
        let attempts = 0..tries.get(task)? as usize;
        let of_task: Vec<_> = attempts.map(|attempt| Fate::of(task, attempt)).collect();
        let words: Vec<_> = of_task.iter().map(|fate| fate.word()).collect();
        println!("{task:>4}  {:<24}  {outcome}", words.join(", "));
        fates.extend(of_task);
    }

    let count = |fate| fates.iter().filter(|&&other| other == fate).count();
    println!(
        "{done} of {tasks} tasks done in {:.1?}: {} tries, of which {} panicked, {} hung, {} died",
        start.elapsed(),
        fates.len(),
        count(Fate::Panics),
        count(Fate::Hangs),
        count(Fate::Dies)
    );
    Ok(())
}
