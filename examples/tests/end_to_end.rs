//! Runs each example as a person would, and reads what it prints.
//!
//! Every run has a watchdog, and is over only when no process of it is left.

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::thread::sleep;
use std::time::{Duration, Instant};

/// Whoever takes longer is killed.
const WATCHDOG: Duration = Duration::from_secs(120);
/// The environment variable by which the processes of one run are known.
const MARK: &str = "PROCESSION_EXAMPLE_RUN";

/// A run of an example that has ended.
struct Run {
    status: ExitStatus,
    stdout: String,
    stderr: String,
}

impl Run {
    /// The output of a run that went well.
    fn output(self) -> String {
        let Self {
            status,
            stdout,
            stderr,
        } = &self;
        assert!(status.success(), "{status}\n{stdout}\n{stderr}");
        self.stdout
    }
}

/// Runs an example to its end, and to that of all its processes.
fn run(program: &str, arguments: &[&str]) -> Run {
    static RUNS: AtomicU32 = AtomicU32::new(0);
    let mark = format!(
        "{}-{}",
        std::process::id(),
        RUNS.fetch_add(1, Ordering::Relaxed)
    );
    // Files, not pipes: what survives must not keep us waiting for the end of the output.
    let file = |stream: &str| scratch(&format!("{mark}.{stream}"));
    let (out, err) = (file("out"), file("err"));
    let mut child = Command::new(program)
        .args(arguments)
        .env(MARK, &mark)
        .stdin(Stdio::null())
        .stdout(File::create(&out).expect("a file for the output"))
        .stderr(File::create(&err).expect("a file for the errors"))
        .spawn()
        .expect("the example starts");
    let deadline = Instant::now() + WATCHDOG;
    let status = wait(&mut child, &mark, deadline);
    while let Some(pid) = process_of(&mark) {
        if Instant::now() > deadline {
            kill_all(&mark);
            panic!("process {pid} of {program} is still there");
        }
        sleep(Duration::from_millis(10));
    }
    let read = |path: PathBuf| {
        let text = fs::read_to_string(&path).expect("text");
        fs::remove_file(path).expect("our file");
        text
    };
    Run {
        status,
        stdout: read(out),
        stderr: read(err),
    }
}

fn wait(child: &mut Child, mark: &str, deadline: Instant) -> ExitStatus {
    loop {
        if let Some(status) = child.try_wait().expect("a child") {
            return status;
        }
        if Instant::now() > deadline {
            child.kill().expect("a child");
            kill_all(mark);
            panic!("the example does not end");
        }
        sleep(Duration::from_millis(10));
    }
}

/// A process that runs (is no zombie) and carries the mark.
fn process_of(mark: &str) -> Option<u32> {
    let entry = format!("{MARK}={mark}");
    let marked = |pid: u32| {
        let environment = fs::read(format!("/proc/{pid}/environ")).unwrap_or_default();
        environment
            .split(|&byte| byte == 0)
            .any(|variable| variable == entry.as_bytes())
    };
    let processes = fs::read_dir("/proc").expect("/proc").flatten();
    processes
        .filter_map(|entry| entry.file_name().to_str()?.parse().ok())
        .find(|&pid| marked(pid))
}

fn kill_all(mark: &str) {
    while let Some(pid) = process_of(mark) {
        let _ = Command::new("kill").args(["-9", &pid.to_string()]).status();
        sleep(Duration::from_millis(10));
    }
}

fn scratch(name: &str) -> PathBuf {
    Path::new(env!("CARGO_TARGET_TMPDIR")).join(name)
}

/// The first number in the line that begins with `label`.
fn number_after(output: &str, label: &str) -> u64 {
    let line = output
        .lines()
        .find(|line| line.trim_start().starts_with(label));
    let line = line.unwrap_or_else(|| panic!("no line `{label}` in:\n{output}"));
    let rest = &line.trim_start()[label.len()..];
    let number = rest.split_whitespace().find_map(|word| word.parse().ok());
    number.unwrap_or_else(|| panic!("no number in `{line}`"))
}

fn assert_line(output: &str, line: &str) {
    assert!(
        output.lines().any(|found| found.trim() == line),
        "no line `{line}` in:\n{output}"
    );
}

#[test]
fn factorials() {
    let output = run(env!("CARGO_BIN_EXE_factorials"), &["20", "5", "100", "0"]).output();
    let lines: Vec<_> = output.lines().map(str::trim).collect();
    assert_eq!(
        lines,
        [
            "0! = 1",
            "5! = 120",
            "20! = 2432902008176640000",
            "100! = 933262154439…000000000000 (158 digits)"
        ]
    );
}

#[test]
fn squares() {
    let output = run(env!("CARGO_BIN_EXE_squares"), &["1000"]).output();
    assert!(output.starts_with("1000 squares from "), "{output}");
    assert_line(&output, "the first: [1, 4, 9, 16, 25, 36]");
    assert_line(&output, "the sum:   333833500, as the formula says");
}

#[test]
fn counter() {
    let output = run(env!("CARGO_BIN_EXE_counter"), &["3000"]).output();
    let careless = number_after(&output, "without a lock");
    assert!((3000..=12_000).contains(&careless), "{output}"); // how many are lost is chance
    assert_eq!(number_after(&output, "with a lock"), 12_000);
    assert_eq!(number_after(&output, "atomically"), 12_000);
}

#[test]
fn ping_pong() {
    let output = run(env!("CARGO_BIN_EXE_ping_pong"), &["500"]).output();
    assert_line(&output, "500 round trips, and the number is 501");
}

#[test]
fn producer_consumer() {
    let output = run(env!("CARGO_BIN_EXE_producer_consumer"), &["1000"]).output();
    let taken = ["consumer 1 took", "consumer 2 took"].map(|label| number_after(&output, label));
    assert_eq!(taken.iter().sum::<u64>(), 3000, "{output}");
    assert_line(
        &output,
        "3000 items from 3 producers, sum 4498500: nothing lost, nothing twice",
    );
}

#[test]
fn panicking_child() {
    let output = run(env!("CARGO_BIN_EXE_panicking_child"), &[]).output();
    assert_line(&output, "a child that is fine      7");
    assert_line(
        &output,
        "a child that panics       attempt to divide by zero",
    );
    assert!(
        output.contains("at examples/panicking_child/main.rs:"),
        "{output}"
    );
    assert!(
        output.contains("exited with code 3 before its function returned"),
        "{output}"
    );
    assert!(
        output.contains("process `hog`") && output.contains("was killed by SIGKILL"),
        "{output}"
    );
    assert_line(
        &output,
        "the lock it held          is ours; its owner died: true",
    );
}

#[test]
fn start_methods() {
    let output = run(env!("CARGO_BIN_EXE_start_methods"), &["3"]).output();
    for method in ["spawn", "fork", "forkserver"] {
        let row = output
            .lines()
            .find(|line| line.split_whitespace().next() == Some(method));
        assert!(
            row.is_some_and(|row| row.matches("µs").count() == 2),
            "{output}"
        );
    }
}

/// A tree whose answer is known: 40 files of the same text, an empty one, and a binary one.
fn small_tree() -> PathBuf {
    let root = scratch(&format!("tree-{}", std::process::id()));
    fs::create_dir_all(root.join("nested")).expect("a folder");
    for n in 0..40 {
        fs::write(
            root.join(format!("nested/{n:02}")),
            "The quick brown fox.\nThe end\n",
        )
        .expect("a file");
    }
    fs::write(root.join("empty"), "").expect("a file");
    fs::write(root.join("zero"), b"binary\0binary").expect("a file");
    root
}

#[test]
fn checksums() {
    let root = small_tree();
    let path = root.to_str().expect("a plain path");
    let of = |processes| run(env!("CARGO_BIN_EXE_checksums"), &[path, processes]).output();
    let (two, three) = (of("2"), of("3"));
    fs::remove_dir_all(&root).expect("our folder");

    assert!(two.contains("42 files"), "{two}");
    assert_line(&two, "results        identical");
    assert_line(&two, "text           240 words, 5 different ones");
    assert_eq!(number_after(&two, "the "), 80);
    assert_eq!(number_after(&two, "fox "), 40);
    let checksum = |output: &str| {
        let line = output
            .lines()
            .find(|line| line.trim().starts_with("checksum"));
        line.map(|line| line.trim()["checksum".len()..].trim().to_owned())
    };
    // sha256 of the concatenated sha256 of: empty; 40 texts; the binary one (in the order of the names)
    assert_eq!(checksum(&two).as_deref(), Some(CHECKSUM));
    assert_eq!(checksum(&two), checksum(&three));
}

const CHECKSUM: &str = "efd781c2b578373fd320dbad28d404a9ba340611abc7717dd097927fe02942db";

#[test]
fn bad_arguments_are_refused() {
    for (arguments, complaint) in [
        (&["/nowhere"][..], "checksums: no files in /nowhere\n"),
        (
            &["/usr", "no"][..],
            "checksums: no is no number of processes\n",
        ),
        (
            &["/usr", "0"][..],
            "checksums: 0 is no number of processes\n",
        ),
    ] {
        let run = run(env!("CARGO_BIN_EXE_checksums"), arguments);
        assert_eq!(run.status.code(), Some(1));
        assert_eq!(run.stderr, complaint);
    }
}
