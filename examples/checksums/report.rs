//! What a person sees: bars while it runs, and the summary.

use crate::tally::Tally;
use crate::tree::Tree;
use console::style;
use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use std::io::IsTerminal;
use std::path::Path;
use std::time::Duration;

/// Columns of the longest bar in the summary.
const BAR_WIDTH: u64 = 32;

/// The progress of one phase: a bar on a terminal, one plain line elsewhere.
pub(crate) struct Report {
    name: String,
    bytes: u64,
    bar: ProgressBar,
}

impl Report {
    pub(crate) fn begin(name: &str, bytes: u64) -> Self {
        let target = if std::io::stdout().is_terminal() {
            ProgressDrawTarget::stdout()
        } else {
            ProgressDrawTarget::hidden()
        };
        let look =
            ProgressStyle::with_template("  {prefix:<14} {bar:32.cyan/dim} {percent:>3} %  {msg}")
                .expect("a template that was tried")
                .progress_chars("━╸─");
        let bar = ProgressBar::with_draw_target(Some(bytes), target).with_style(look);
        bar.set_prefix(name.to_owned());
        bar.set_message("");
        Self {
            name: name.to_owned(),
            bytes,
            bar,
        }
    }

    pub(crate) fn advance(&self, bytes: u64) {
        self.bar.inc(bytes);
    }

    /// Ends the phase; how long it took.
    pub(crate) fn end(self, took: Duration) -> Duration {
        let speed = megabytes(self.bytes) / took.as_secs_f64();
        let line = format!("{:>6.2} s  {speed:>5.0} MB/s", took.as_secs_f64());
        if self.bar.is_hidden() {
            println!("  {:<14} {line}", self.name);
        } else {
            self.bar.set_position(self.bytes);
            self.bar.finish_with_message(line);
        }
        took
    }
}

/// Something that moves until the first phase begins.
pub(crate) fn preparing() -> ProgressBar {
    let spinner = ProgressBar::new_spinner().with_message("looking for a source tree");
    if !std::io::stdout().is_terminal() {
        spinner.set_draw_target(ProgressDrawTarget::hidden());
    }
    spinner.enable_steady_tick(Duration::from_millis(100));
    spinner
}

/// The two times.
pub(crate) struct Measured {
    pub(crate) alone: Duration,
    pub(crate) together: Duration,
}

pub(crate) fn headline(tree: &Tree, rounds: usize) {
    println!();
    println!(
        "  Words and checksums of every file under {}",
        style(short(&tree.root)).bold()
    );
    print!(
        "  {} files, {:.1} MB",
        thousands(tree.files.len() as u64),
        megabytes(tree.bytes())
    );
    match rounds {
        1 => println!(),
        _ => println!(", {rounds} times"),
    }
    println!();
}

pub(crate) fn summary(tally: &Tally, rounds: u64, measured: &Measured) {
    let speed_up = measured.alone.as_secs_f64() / measured.together.as_secs_f64();
    println!();
    println!(
        "  {:<14} {}",
        "speed-up",
        style(format!("{speed_up:.2} times as fast")).green().bold()
    );
    println!("  {:<14} identical", "results");
    println!("  {:<14} {}", "checksum", tally.checksum());
    println!(
        "  {:<14} {} words, {} different ones",
        "text",
        thousands(tally.word_count()),
        thousands(tally.different_words() as u64)
    );
    if tally.unreadable() != 0 {
        println!("  {:<14} {} files", "unreadable", tally.unreadable());
    }
    println!();
    let top = tally.top(10);
    let most = top.first().map_or(1, |&(_, count)| count);
    for (word, count) in top {
        let bar = "█".repeat((count * BAR_WIDTH).div_ceil(most) as usize);
        let padding = " ".repeat(14_usize.saturating_sub(word.len()));
        println!(
            "  {}{padding} {:>10}  {}",
            style(word).bold(),
            thousands(count / rounds),
            style(bar).cyan()
        );
    }
    println!();
}

fn megabytes(bytes: u64) -> f64 {
    bytes as f64 / 1e6
}

/// A number in groups of three digits.
fn thousands(number: u64) -> String {
    let digits = number.to_string();
    let groups: Vec<&str> = digits
        .as_bytes()
        .rchunks(3)
        .rev()
        .filter_map(|group| str::from_utf8(group).ok())
        .collect();
    groups.join(" ")
}

/// A path with the home directory written as `~`.
pub(crate) fn short(path: &Path) -> String {
    let home = std::env::home_dir();
    match home.and_then(|home| path.strip_prefix(home).ok().map(Path::to_owned)) {
        Some(rest) => format!("~/{}", rest.display()),
        None => path.display().to_string(),
    }
}
