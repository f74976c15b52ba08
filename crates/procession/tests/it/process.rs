//! Processes: every start method, every kind of end.
use procession::{
    JoinError, JoinFailure, Process, Queue, Resource, StartError, StartMethod, Stdio,
    active_children, current, parent_process,
};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use std::io::{Read, Write};
use std::os::fd::OwnedFd;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

const METHODS: [StartMethod; 3] = [
    StartMethod::Spawn,
    StartMethod::Fork,
    StartMethod::Forkserver,
];

/// Tests that count descriptors or children of the whole process run alone.
pub(crate) fn alone() -> MutexGuard<'static, ()> {
    static ALONE: Mutex<()> = Mutex::new(());
    ALONE.lock().unwrap_or_else(PoisonError::into_inner)
}

fn builder<A, R>(
    method: StartMethod,
    function: fn(A) -> R,
    arguments: A,
) -> procession::ProcessBuilder<A, R>
where
    A: Serialize + DeserializeOwned,
    R: Serialize + DeserializeOwned,
{
    let builder = Process::builder(function, arguments).start_method(method);
    // SAFETY: the functions of these tests use only the allocator, the engine and system calls.
    unsafe { builder.allow_threads() }
}

fn start<A, R>(method: StartMethod, function: fn(A) -> R, arguments: A) -> Process<R>
where
    A: Serialize + DeserializeOwned,
    R: Serialize + DeserializeOwned,
{
    builder(method, function, arguments).start().expect("start")
}

fn add((a, b): (u64, u64)) -> u64 {
    a + b
}

fn sleep_long(_: ()) {
    std::thread::sleep(Duration::from_secs(1000));
}

fn keep(_: Queue<u8>) {
    std::thread::sleep(Duration::from_secs(1000));
}

fn failure<R>(result: Result<R, JoinError>) -> JoinFailure {
    match result {
        Ok(_) => panic!("a result came"),
        Err(error) => error.failure,
    }
}

/// Waits until the pid is no process any more (a zombie of somebody else's counts as gone).
fn wait_gone(pid: u32) {
    loop {
        let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
        let state = stat.rsplit_once(')').map(|(_, rest)| rest.trim_start());
        if state.is_none_or(|state| state.starts_with('Z')) {
            return;
        }
        std::thread::sleep(Duration::from_millis(2));
    }
}

#[test]
fn results_come_back() {
    let _alone = alone();
    for method in METHODS {
        let process = start(method, add, (40, 2));
        assert_eq!(process.join().expect("result"), 42, "{method:?}");
        assert_eq!(process.exit_code(), Some(0));
        assert_eq!(failure(process.join()), JoinFailure::AlreadyJoined);
        // Larger than what fits the record, and than what fits a small block.
        for len in [500, 100_000] {
            let text = start(method, |len: usize| "x".repeat(len), len);
            assert_eq!(text.join().expect("text").len(), len);
        }
    }
}

#[test]
fn closures_that_capture_can_be_forked() {
    let _alone = alone();
    let words = ["a".to_owned(), "b".to_owned()];
    // SAFETY: the function only allocates.
    let process = unsafe { Process::fork_with_threads(|| words.concat()) }.expect("fork");
    assert_eq!(process.join().expect("result"), "ab");
    assert!(
        matches!(Process::fork(|| ()), Err(StartError::MultiThreaded { threads }) if threads > 1)
    );
}

#[test]
fn arguments_and_results_carry_queues() {
    let _alone = alone();
    for method in METHODS {
        let queue = Queue::<u64>::unbounded().expect("queue");
        let work = |(queue, n): (Queue<u64>, u64)| {
            let back = Queue::<u64>::unbounded().expect("queue");
            for i in 0..n {
                queue.put(i).expect("put");
            }
            back.put(n).expect("put");
            back
        };
        let process = start(method, work, (queue.clone(), 100));
        let back = process.join().expect("result");
        assert_eq!(back.get(), Ok(100), "{method:?}: survives its maker");
        assert_eq!(
            (0..100)
                .map(|_| queue.try_get().expect("item"))
                .collect::<Vec<_>>(),
            (0..100).collect::<Vec<_>>()
        );
    }
}

fn break_down(text: String) -> u32 {
    panic!("no {text}")
}

fn killed() -> JoinFailure {
    JoinFailure::Signaled {
        signal: 9,
        core_dumped: false,
    }
}

#[test]
fn panics_arrive_whole() {
    let _alone = alone();
    for method in METHODS {
        let process = builder(method, break_down, "bananas".to_owned())
            .stderr(Stdio::Null)
            .name("fruit")
            .start()
            .expect("start");
        let error = process.join().expect_err("a panic");
        let JoinFailure::Panicked {
            message,
            location,
            backtrace,
        } = &error.failure
        else {
            panic!("{method:?}: {error}");
        };
        assert_eq!(message, "no bananas");
        assert!(
            location
                .as_ref()
                .is_some_and(|at| at.contains("it/process.rs:"))
        );
        assert!(backtrace.contains("break_down"), "{backtrace}");
        assert_eq!(process.exit_code(), Some(101));
        let text = error.to_string();
        assert!(
            text.starts_with(&format!(
                "process `fruit` (pid {}) panicked at ",
                process.pid()
            )),
            "{text}"
        );
    }
}

#[test]
fn a_panic_that_was_caught_is_not_the_one_reported() {
    let _alone = alone();
    let process = builder(
        StartMethod::Spawn,
        |()| {
            let caught = std::panic::catch_unwind(|| panic!("first"));
            std::panic::resume_unwind(Box::new(format!("second {}", caught.is_err())))
        },
        (),
    )
    .stderr(Stdio::Null)
    .start()
    .expect("start");
    let JoinFailure::Panicked {
        message, location, ..
    } = failure::<()>(process.join())
    else {
        panic!("no panic")
    };
    assert_eq!((message.as_str(), location), ("second true", None));
}

#[test]
fn exit_codes_and_signals_are_told() {
    let _alone = alone();
    for method in METHODS {
        let exited = start(method, |code: i32| -> () { std::process::exit(code) }, 7);
        assert_eq!(
            failure(exited.join()),
            JoinFailure::Exited { code: 7 },
            "{method:?}"
        );
        assert_eq!(exited.exit_code(), Some(7));

        let killed = start(method, sleep_long, ());
        assert!(killed.is_alive());
        assert_eq!(killed.exit_code(), None);
        assert!(failure(killed.join_timeout(Duration::from_millis(1))) == JoinFailure::TimedOut);
        assert!(
            killed
                .join_timeout(Duration::ZERO)
                .is_err_and(|error| error.is_timeout())
        );
        killed.kill().expect("kill");
        let error = killed.join_timeout(Duration::MAX).expect_err("killed");
        assert!(matches!(
            error.failure,
            JoinFailure::Signaled {
                signal: 9,
                core_dumped: false
            }
        ));
        assert!(
            error.to_string().ends_with("was killed by SIGKILL"),
            "{error}"
        );
        assert_eq!(killed.exit_code(), Some(-9));
        assert!(!killed.is_alive());
        killed.kill().expect("killing the dead is nothing");

        let terminated = start(method, sleep_long, ());
        terminated.terminate().expect("terminate");
        assert!(matches!(
            failure(terminated.join()),
            JoinFailure::Signaled { signal: 15, .. }
        ));
    }
}

#[test]
fn the_sentinel_becomes_readable() {
    let _alone = alone();
    let process = start(StartMethod::Forkserver, sleep_long, ());
    let mut fds = [rustix::event::PollFd::new(
        &process,
        rustix::event::PollFlags::IN,
    )];
    let now = rustix::event::Timespec {
        tv_sec: 0,
        tv_nsec: 0,
    };
    assert_eq!(rustix::event::poll(&mut fds, Some(&now)), Ok(0));
    process.kill().expect("kill");
    assert_eq!(rustix::event::poll(&mut fds, None), Ok(1));
    assert!(process.close().is_ok());
}

#[test]
fn a_handle_closes_only_after_the_end() {
    let _alone = alone();
    let process = start(StartMethod::Spawn, sleep_long, ());
    let process = process.close().expect_err("still runs");
    assert!(process.memory().expect("memory").rss > 0);
    process.kill().expect("kill");
    let _ = process.join();
    process.close().expect("close");
}

#[test]
fn what_a_child_used_is_told_at_its_end() {
    let _alone = alone();
    for method in METHODS {
        let ready = Queue::<u32>::unbounded().expect("queue");
        let hungry = |(ready, size): (Queue<u32>, usize)| {
            let bytes = vec![1_u8; size];
            ready.put(1).expect("put");
            sleep_long(());
            drop(bytes);
        };
        let size = 300 << 20;
        let process = start(method, hungry, (ready.clone(), size));
        assert_eq!(ready.get(), Ok(1));
        assert_eq!(process.usage(), None, "it still runs");
        process.kill().expect("kill");
        assert_eq!(failure(process.join()), killed(), "{method:?}");
        let usage = process.usage().expect("our child");
        assert!(usage.peak_memory > size as u64, "{method:?}: {usage:?}");
        let time = usage.user_time + usage.system_time;
        assert!(time > Duration::ZERO, "{method:?}: {usage:?}");
    }
}

#[test]
fn children_know_who_they_are() {
    let _alone = alone();
    for method in METHODS {
        let who = |()| {
            let me = current();
            let parent = parent_process().expect("a parent");
            let alive = parent.is_alive() && !parent.wait(Some(Duration::ZERO)).expect("wait");
            (
                me.name().to_owned(),
                me.pid(),
                me.daemon(),
                me.is_child(),
                parent.pid(),
                alive,
            )
        };
        let process = builder(method, who, ())
            .name("me")
            .daemon(true)
            .start()
            .expect("start");
        let pid = process.pid();
        let told = process.join().expect("result");
        let expected = ("me".to_owned(), pid, true, true, std::process::id(), true);
        assert_eq!(told, expected, "{method:?}");
    }
    assert!(!current().is_child() && parent_process().is_none());
}

#[test]
fn children_have_children() {
    let _alone = alone();
    for outer in METHODS {
        let nest = |()| {
            let inner: Vec<_> = METHODS
                .iter()
                .map(|inner| (start(*inner, add, (1, 2)), inner))
                .collect();
            let sum: u64 = inner
                .iter()
                .map(|(process, _)| process.join().expect("inner"))
                .sum();
            (sum, inner[0].0.name().to_owned())
        };
        let process = start(outer, nest, ());
        let (sum, name) = process.join().expect("outer");
        assert_eq!(sum, 9, "{outer:?}");
        assert_eq!(name, format!("{}:1", process.name()));
    }
}

/// Starts a child that tells its pid and sleeps, and sleeps itself.
fn keep_a_daemon((method, pids): (StartMethod, Queue<u32>)) {
    let sleeper = |pids: Queue<u32>| {
        pids.put(std::process::id()).expect("put");
        sleep_long(());
    };
    let _daemon = builder(method, sleeper, pids)
        .daemon(true)
        .start()
        .expect("start");
    sleep_long(());
}

#[test]
fn daemons_end_when_the_parent_is_killed() {
    let _alone = alone();
    for method in METHODS {
        let pids = Queue::unbounded().expect("queue");
        let parent = start(StartMethod::Spawn, keep_a_daemon, (method, pids.clone()));
        let daemon = pids.get_timeout(Duration::from_secs(60)).expect("pid");
        parent.kill().expect("kill");
        assert!(matches!(
            failure(parent.join()),
            JoinFailure::Signaled { signal: 9, .. }
        ));
        wait_gone(daemon);
    }
}

#[test]
fn a_normal_end_ends_daemons_and_waits_for_the_others() {
    let _alone = alone();
    for method in METHODS {
        let done = Queue::<u32>::unbounded().expect("queue");
        let start_both = |(method, done): (StartMethod, Queue<u32>)| {
            let daemon = builder(method, sleep_long, ())
                .daemon(true)
                .start()
                .expect("start");
            let slow = |done: Queue<u32>| {
                std::thread::sleep(Duration::from_millis(50));
                done.put(1).expect("put");
            };
            let _other = start(method, slow, done);
            daemon.pid()
        };
        let parent = start(method, start_both, (method, done.clone()));
        let daemon = parent.join().expect("result");
        assert_eq!(
            done.try_get(),
            Ok(1),
            "{method:?}: the other one was waited for"
        );
        wait_gone(daemon);
    }
}

#[test]
fn active_children_are_listed_and_reaped() {
    let _alone = alone();
    let process = start(StartMethod::Spawn, sleep_long, ());
    let listed = active_children();
    let ours = listed
        .iter()
        .find(|child| child.pid() == process.pid())
        .expect("listed");
    assert!(ours.is_alive() && ours.name() == process.name());
    ours.kill().expect("kill");
    let forgotten = start(StartMethod::Spawn, add, (1, 1));
    let pid = forgotten.pid();
    drop(forgotten);
    while active_children()
        .iter()
        .any(|child| [pid, process.pid()].contains(&child.pid()))
    {
        std::thread::yield_now();
    }
    for pid in [pid, process.pid()] {
        assert!(
            !std::path::Path::new(&format!("/proc/{pid}")).exists(),
            "a zombie is left"
        );
    }
}

#[test]
fn options_are_obeyed() {
    let _alone = alone();
    for method in METHODS {
        let look = |()| {
            let mut limits = std::fs::read_to_string("/proc/self/limits").unwrap_or_default();
            limits.retain(|c| c != ' ');
            // Not by `println!`, which libtest captures in a forked child.
            std::io::stdout().write_all(b"hello\n").expect("write");
            (
                std::env::var("MARK").ok(),
                std::env::var("PATH").ok(),
                std::env::vars().any(|(name, _)| name.starts_with("PROCESSION_CHILD")),
                std::env::current_dir().unwrap_or_default(),
                limits.contains("Maxopenfiles7788"),
                rustix::process::getpgid(None) == Ok(rustix::process::getpid()),
            )
        };
        let (mut from, to) = std::io::pipe().expect("pipe");
        let process = builder(method, look, ())
            .env_clear()
            .env("MARK", "set")
            .env("GONE", "1")
            .env_remove("GONE")
            .current_dir("/usr")
            .stdin(Stdio::Null)
            .stdout(Stdio::Fd(OwnedFd::from(to)))
            .rlimit(Resource::OpenFiles, Some(77), Some(88))
            .new_process_group()
            .start()
            .expect("start");
        let seen = process.join().expect("result");
        let expected = (
            Some("set".to_owned()),
            None,
            false,
            "/usr".into(),
            true,
            true,
        );
        assert_eq!(seen, expected, "{method:?}");
        let mut text = String::new();
        from.read_to_string(&mut text).expect("read");
        assert_eq!(text, "hello\n", "{method:?}");
    }
}

#[test]
fn impossible_options_are_errors() {
    let _alone = alone();
    let nowhere = |method| {
        builder(method, add, (1, 1))
            .current_dir("/nowhere/at all")
            .start()
    };
    assert!(matches!(
        nowhere(StartMethod::Spawn),
        Err(StartError::System { .. })
    ));
    for method in [StartMethod::Fork, StartMethod::Forkserver] {
        let failure = failure(nowhere(method).expect("start").join());
        assert!(
            matches!(&failure, JoinFailure::SetupFailed { reason } if reason.contains("/nowhere")),
            "{failure:?}"
        );
        // SAFETY: the hook does nothing.
        let hooked = unsafe { builder(method, add, (1, 1)).pre_exec(|| Ok(())) };
        assert!(matches!(
            hooked.start(),
            Err(StartError::Unsupported { .. })
        ));
    }
    // SAFETY: the hooks make one system call, or none.
    let hooked = unsafe {
        builder(
            StartMethod::Spawn,
            |()| rustix::process::getpriority_process(None).ok(),
            (),
        )
        .pre_exec(|| Ok(rustix::process::setpriority_process(None, 5)?))
    };
    assert_eq!(
        hooked.start().expect("start").join().expect("result"),
        Some(5)
    );
    // SAFETY: as above.
    let refusing = unsafe {
        builder(StartMethod::Spawn, add, (1, 1))
            .pre_exec(|| Err(std::io::Error::from(std::io::ErrorKind::PermissionDenied)))
    };
    assert!(matches!(refusing.start(), Err(StartError::System { .. })));
}

/// Cannot be read back.
#[derive(Debug, Serialize)]
struct Odd;

impl<'de> Deserialize<'de> for Odd {
    fn deserialize<D: serde::Deserializer<'de>>(_: D) -> Result<Self, D::Error> {
        Err(serde::de::Error::custom("odd"))
    }
}

/// Cannot be sent.
#[derive(Debug, Deserialize)]
struct Stubborn;

impl Serialize for Stubborn {
    fn serialize<S: serde::Serializer>(&self, _: S) -> Result<S::Ok, S::Error> {
        Err(serde::ser::Error::custom("stubborn"))
    }
}

#[test]
fn values_that_cannot_travel_are_errors() {
    let _alone = alone();
    for method in [StartMethod::Spawn, StartMethod::Forkserver] {
        let arguments = start(method, |_: Odd| (), Odd);
        assert!(matches!(
            failure(arguments.join()),
            JoinFailure::UndecodableArguments { .. }
        ));
        let unsent = builder(method, |_: Stubborn| (), Stubborn).start();
        assert!(matches!(unsent, Err(StartError::Encode { .. })));
    }
    for method in METHODS {
        let result = start(method, |()| Odd, ());
        assert!(matches!(
            failure(result.join()),
            JoinFailure::UndecodableResult { .. }
        ));
        let result = start(method, |()| Stubborn, ());
        assert!(matches!(
            failure(result.join()),
            JoinFailure::UnencodableResult { .. }
        ));
    }
}

/// The children of this thread, oldest first, once there are at least `count`.
fn pids_of_children(count: usize) -> Vec<i32> {
    loop {
        let children = std::fs::read_to_string("/proc/thread-self/children").unwrap_or_default();
        let pids: Vec<i32> = children.split(' ').flat_map(str::parse).collect();
        if pids.len() >= count {
            return pids;
        }
        std::thread::yield_now();
    }
}

/// Kills a child and waits until it is a zombie.
fn kill_unreaped(pid: i32) {
    let child = rustix::process::Pid::from_raw(pid).expect("pid");
    rustix::process::kill_process(child, rustix::process::Signal::KILL).expect("kill");
    let is_zombie = || {
        std::fs::read_to_string(format!("/proc/{pid}/stat")).is_ok_and(|stat| stat.contains(") Z"))
    };
    while !is_zombie() {
        std::thread::yield_now();
    }
}

/// In a process of its own: starts one by forkserver, kills the template (0) or the spare (1), and starts more.
fn survive_the_death_of(which: usize) -> u64 {
    let add = |pair| start(StartMethod::Forkserver, add, pair).join();
    add((1, 2)).expect("before");
    let victim = pids_of_children(2)[which];
    kill_unreaped(victim);
    let sum = (0..3).map(|i| add((i, 1)).expect("after")).sum();
    assert!(
        !pids_of_children(2).contains(&victim),
        "the victim was not reaped"
    );
    sum
}

#[test]
fn a_killed_forkserver_is_started_again() {
    let _alone = alone();
    for which in [0, 1] {
        let survivor = start(StartMethod::Spawn, survive_the_death_of, which);
        assert_eq!(survivor.join().expect("result"), 6);
    }
}

#[test]
fn a_forkserver_leaves_nobody_behind() {
    let _alone = alone();
    let parent_of_all = |()| {
        start(StartMethod::Forkserver, add, (1, 2))
            .join()
            .expect("result");
        pids_of_children(2)
    };
    let pids = start(StartMethod::Spawn, parent_of_all, ())
        .join()
        .expect("pids");
    assert_eq!(pids.len(), 2, "a template and a spare");
    // The template was the spare's twin: if one of them missed our end, this never ends.
    let gone = |pid: &i32| {
        std::fs::read_to_string(format!("/proc/{pid}/stat"))
            .map_or(true, |stat| stat.contains(") Z"))
    };
    while !pids.iter().all(gone) {
        std::thread::yield_now();
    }
}

#[test]
fn a_participant_is_there_until_its_process_has_ended() {
    use procession::embed;
    let asks = |()| embed::participant().expect("participant");
    for method in METHODS {
        let child = builder(method, asks, ()).start().expect("start");
        let participant = child.join().expect("join");
        assert!(!embed::is_there(participant));
        assert_ne!(participant, embed::participant().expect("participant"));
    }
    assert!(embed::is_there(embed::participant().expect("participant")));
    assert!(!embed::is_there(0));
}

/// What was on its way to a child goes with it, though its parent keeps the handle and looks at nothing.
#[test]
fn children_killed_at_birth_take_their_arguments_along() {
    for method in METHODS {
        let queue = Queue::new(0).expect("queue");
        let handle = queue.handle();
        let children: Vec<_> = (0..5)
            .map(|_| {
                let child = start(method, keep, queue.clone());
                child.kill().expect("kill");
                child
            })
            .collect();
        drop(queue);
        crate::wait_until_gone(|| Queue::<u8>::open(handle));
        for child in children {
            assert!(failure(child.join()) == killed());
        }
    }
}
