//! The printed table.

use super::case::{Better, Case, Target};
use super::record::Machine;
use super::rounds::{CaseResult, Row, Settings, Summary};
use std::io::{IsTerminal, Write, stderr};

const NAME_WIDTH: usize = 44;
const RULE_WIDTH: usize = 126;
/// CPUs of other programs from which on a case is called noisy.
const NOISY: f64 = 0.1;

/// Says what is measured, where and how.
pub(crate) fn print_head(machine: &Machine, settings: &Settings) {
    println!(
        "procession-bench  {}  commit {}",
        machine.name, machine.commit
    );
    println!(
        "{} alternating rounds of about {} ms a subject; median and min - max over the rounds;",
        settings.rounds,
        settings.budget.as_millis()
    );
    println!(
        "'ours is' pairs the rounds: how many times better than that row procession is (above 1: better)."
    );
}

/// Prints one case.
pub(crate) fn print(result: &CaseResult<'_>) {
    let case = result.case;
    let direction = match case.unit.better {
        Better::Higher => "higher is better",
        Better::Lower => "lower is better",
    };
    println!("\n{}   [{}, {direction}]", case.title, case.unit.label);
    println!(
        "  {:<NAME_WIDTH$} {:<5} {:>10} {:>23} {:>10}   {:<20} verdict",
        "subject", "kind", "median", "min - max", "ours is", "target"
    );
    println!("  {}", "-".repeat(RULE_WIDTH));
    for row in 0..result.rows.len() {
        println!("  {}", line(result, row).trim_end());
    }
    if let Some(cpus) = result.other_cpus.filter(|&cpus| cpus > NOISY) {
        println!("  noisy: other programs kept {cpus:.1} CPUs busy meanwhile");
    }
}

fn line(result: &CaseResult<'_>, row: usize) -> String {
    let subject = &result.case.subjects[row];
    let head = format!("{:<NAME_WIDTH$} {:<5}", subject.name, subject.role.name());
    if let Row::Failed(reason) = &result.rows[row] {
        return format!("{head} failed: {reason}");
    }
    let (median, range) = match Summary::of(result.rows[row].readings()) {
        Some(it) => (
            figure(it.median),
            format!("{} - {}", figure(it.min), figure(it.max)),
        ),
        None => ("-".to_owned(), "-".to_owned()),
    };
    let ours = result.ours() == Some(row);
    let (ratio, target, verdict) = if ours {
        (String::new(), target(result.case), verdict(result))
    } else {
        let ratio = result
            .advantage(row)
            .map(|it| format!("{}x", figure(it.median)));
        (ratio.unwrap_or_else(|| "-".to_owned()), String::new(), "")
    };
    format!("{head} {median:>10} {range:>23} {ratio:>10}   {target:<20} {verdict}")
}

/// The target in words, `-` where there is none.
pub(crate) fn target(case: &Case) -> String {
    match (case.target, case.unit.better) {
        (None, _) => "-".to_owned(),
        (Some(Target::Figure(value)), Better::Higher) => format!(">= {}", figure(value)),
        (Some(Target::Figure(value)), Better::Lower) => format!("<= {}", figure(value)),
        (Some(Target::Times(factor, rival)), _) => format!(">= {factor}x {rival}"),
    }
}

/// `met`, `missed`, or `-` where there is nothing to judge.
pub(crate) fn verdict(result: &CaseResult<'_>) -> &'static str {
    match result.met() {
        Some(true) => "met",
        Some(false) => "missed",
        None => "-",
    }
}

/// Says how many targets were met.
pub(crate) fn print_verdict(results: &[CaseResult<'_>]) {
    let judged: Vec<bool> = results.iter().filter_map(CaseResult::met).collect();
    let targets = results
        .iter()
        .filter(|result| result.case.target.is_some())
        .count();
    let met = judged.iter().filter(|&&met| met).count();
    let missed = judged.len() - met;
    println!(
        "\ntargets: {met} met, {missed} missed, {} not judged",
        targets - judged.len()
    );
}

/// Three significant digits, and whole numbers from a thousand up.
fn figure(value: f64) -> String {
    let size = value.abs();
    if size >= 1000.0 {
        format!("{value:.0}")
    } else if size >= 100.0 || value == value.trunc() {
        format!("{value:.1}").trim_end_matches(".0").to_owned()
    } else if size >= 10.0 {
        format!("{value:.1}")
    } else if size >= 1.0 {
        format!("{value:.2}")
    } else {
        format!("{value:.3}")
    }
}

/// Says on a terminal what is being measured just now.
pub(crate) fn progress(case: &Case, subject: &str, round: Option<(usize, usize)>) {
    if !stderr().is_terminal() {
        return;
    }
    let step = match round {
        Some((round, rounds)) => format!("round {}/{rounds}", round + 1),
        None => "warming up".to_owned(),
    };
    eprint!("\r\x1b[K{} | {step} | {subject}", case.title);
    // A lost progress line is no loss.
    let _ = stderr().flush();
}

/// Removes the progress line.
pub(crate) fn end_progress() {
    if stderr().is_terminal() {
        eprint!("\r\x1b[K");
    }
}
