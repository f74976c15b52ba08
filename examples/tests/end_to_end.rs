//! Runs each example as a person would, and reads what it prints.
//!
//! Every run has a watchdog, and is over only when no process of it is left.

use std::fs::{self, File};
use std::io::{BufRead, BufReader, Read};
use std::os::unix::process::CommandExt;
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

#[test]
fn monte_carlo_pi() {
    let output = run(env!("CARGO_BIN_EXE_monte_carlo_pi"), &["3000000"]).output();
    assert_line(&output, "3000000 points, 3 tasks");
    assert_eq!(output.matches("π = 3.140967").count(), 3, "{output}"); // the seeds decide
    assert!(output.contains("all three the same"), "{output}");
}

#[test]
fn matrix() {
    let output = run(env!("CARGO_BIN_EXE_matrix"), &["100"]).output();
    assert_eq!(output.matches(" GFLOP/s").count(), 2, "{output}");
    assert!(output.contains("the same to the last bit"), "{output}");
}

#[test]
fn csv_join() {
    let output = run(env!("CARGO_BIN_EXE_csv_join"), &["50000"]).output();
    assert!(
        output.starts_with("50000 orders of 6250 customers"),
        "{output}"
    );
    assert!(output.contains("the same, "), "{output}");
    let countries = ["AT", "BR", "DE", "FR", "IN", "JP", "KE", "US"];
    let orders = countries.map(|country| number_after(&output, country));
    assert_eq!(orders.iter().sum::<u64>(), 50_000, "{output}");
    assert!(orders.is_sorted_by(|more, less| more > less), "{output}"); // as they are made up
}

#[test]
fn fetch_pages() {
    let output = run(env!("CARGO_BIN_EXE_fetch_pages"), &["30"]).output();
    // 20000 words and the title of each page
    assert_eq!(number_after(&output, "all three the same:"), 30 * 20_001);
    let at_once = |label| {
        let line = output.lines().find(|line| line.trim().starts_with(label));
        line.and_then(|line| line.split_whitespace().last()?.parse().ok())
    };
    assert_eq!(at_once("this thread"), Some(1), "{output}");
    assert!(matches!(at_once("16 threads"), Some(2..=16)), "{output}");
}

#[test]
fn flaky() {
    let output = run(env!("CARGO_BIN_EXE_flaky"), &["13", "2000"]).output();
    for row in [
        "0  dies, fine                0",
        "1  fine                      1",
        "4  hangs, hangs, panics      task panicked at examples/flaky/main.rs:",
        "9  panics, hangs, hangs      task ran longer than 2s; its worker was replaced",
        "12  hangs, dies, dies         worker `Pool-1-",
    ] {
        let found = |line: &str| line.trim().starts_with(row);
        assert!(output.lines().any(found), "no `{row}` in:\n{output}");
    }
    assert!(output.contains("killed by SIGABRT while it ran task `square 12`"));
    assert!(output.contains("10 of 13 tasks done in "), "{output}");
    assert!(
        output.ends_with("27 tries, of which 4 panicked, 6 hung, 7 died\n"),
        "{output}"
    );
}

#[test]
fn segfault() {
    let output = run(env!("CARGO_BIN_EXE_segfault"), &[]).output();
    let lines: Vec<_> = output.lines().collect();
    assert_eq!(lines.len(), 7, "{output}");
    for (n, line) in (1u64..).zip(lines) {
        let label = format!("sum {n}   ");
        let rest = line.strip_prefix(&label).expect("the tasks in order");
        if n == 3 {
            assert!(rest.starts_with("worker `adder-"), "{output}");
            let how = ") killed by SIGSEGV while it ran task `sum 3` (peak ";
            assert!(rest.contains(how), "{output}");
        } else {
            let numbers = 6 << 20;
            let sum: u64 = (0..numbers).map(|index| index % (n + 1)).sum();
            assert!(rest.starts_with(&sum.to_string()), "{output}");
        }
    }
}

/// A directory with images of a white square on black.
fn squares_in(name: &str) -> PathBuf {
    let root = scratch(&format!("{name}-{}", std::process::id()));
    fs::create_dir_all(root.join("in")).expect("a folder");
    for n in 0..6 {
        let is_inside = |x, y| (20..40).contains(&x) && (20..40).contains(&y);
        let image = image::GrayImage::from_fn(60 + n, 60, |x, y| {
            image::Luma([if is_inside(x, y) { 255 } else { 0 }])
        });
        let extension = if n < 4 { "png" } else { "jpg" };
        let path = root.join(format!("in/{n}.{extension}"));
        image.save(path).expect("a file");
    }
    root
}

#[test]
fn image_filter() {
    let root = squares_in("images");
    let path = |name| root.join(name).to_str().expect("a plain path").to_owned();
    let arguments = [path("in"), path("out")];
    let arguments = [arguments[0].as_str(), arguments[1].as_str()];
    let output = run(env!("CARGO_BIN_EXE_image_filter"), &arguments).output();
    assert!(output.starts_with("edges of 6 images\n"), "{output}");
    assert!(output.contains("all the same, "), "{output}");
    for n in 0..6 {
        let edges = image::open(root.join(format!("out/{n:03}-{n}.png")));
        let edges = edges.expect("an image").into_luma8();
        assert_eq!(edges.dimensions(), (60 + n, 60));
        assert!(edges.get_pixel(21, 30).0[0] < 128, "no edge in {n}");
        assert!(edges.get_pixel(30, 30).0[0] > 200, "an edge in {n}");
    }

    fs::write(root.join("in/broken.png"), "no image").expect("a file");
    let run = run(env!("CARGO_BIN_EXE_image_filter"), &arguments);
    fs::remove_dir_all(&root).expect("our folder");
    assert_eq!(run.status.code(), Some(1));
    assert!(run.stderr.starts_with("image_filter: ") && run.stderr.contains("in/broken.png: "));
}

#[test]
fn web_service() {
    let output = run(env!("CARGO_BIN_EXE_web_service"), &["0.5"]).output();
    let row = |label: &str| -> Vec<String> {
        let line = output.lines().find(|line| line.trim().starts_with(label));
        let line = line.unwrap_or_else(|| panic!("no line `{label}` in:\n{output}"));
        line.split("  ")
            .map(|word| word.trim().to_owned())
            .filter(|word| !word.is_empty())
            .collect()
    };
    let (idle, busy, overloaded) = (row("idle"), row("all workers busy"), row("overloaded"));
    assert_eq!(idle[4..], ["0/s", "0/s"], "{output}");
    assert!(busy[4] != "0/s" && busy[5] == "0/s", "{output}");
    assert!(overloaded[4] != "0/s" && overloaded[5] != "0/s", "{output}");
    assert_eq!(output.matches("p99 of /ping, ").count(), 2, "{output}");
    assert_line(
        &output,
        "shut down: the request under way got 200, the next one connection refused",
    );
}

/// A child that does not outlive the test.
struct Served(Child);

impl Drop for Served {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// As a person in a terminal: Ctrl-C goes to all processes of the group.
#[test]
fn web_service_until_ctrl_c() {
    let child = Command::new(env!("CARGO_BIN_EXE_web_service"))
        .args(["serve", "127.0.0.1:0"])
        .process_group(0)
        .stdout(Stdio::piped())
        .spawn();
    let mut child = Served(child.expect("the example starts"));
    let mut stdout = BufReader::new(child.0.stdout.take().expect("a pipe"));
    let mut line = String::new();
    stdout.read_line(&mut line).expect("text");
    let address = line.split("/ping").next().expect("an address");
    let get = |path: &str| {
        let mut response = ureq::get(format!("{address}{path}")).call().expect("200");
        response.body_mut().read_to_string().expect("a text")
    };
    assert_eq!(get("/ping"), "pong");
    let hash = get("/hash/secret");
    assert!(hash.len() == 64 && hash == get("/hash/secret") && hash != get("/hash/other"));

    let group = rustix::process::Pid::from_child(&child.0);
    rustix::process::kill_process_group(group, rustix::process::Signal::INT).expect("a group");
    let mut rest = String::new();
    stdout.read_to_string(&mut rest).expect("text");
    assert_eq!(rest, "done\n");
    assert!(child.0.wait().expect("a child").success());
}
