//! Pools whose workers somebody else starts.

use procession::{
    Broken, ExitStatus, Pool, PoolBuilder, PoolError, Process, Queue, Recruit, StartError,
    StartMethod, TaskError, TaskOptions, WorkerReport, work,
};
use rustix::process::{Pid, Signal, kill_process, test_kill_process};
use std::collections::HashMap;
use std::error::Error;
use std::sync::{Arc, Mutex};
use std::time::Duration;

/// What a worker does before its first task.
#[derive(Clone, Copy)]
enum Beginning {
    Good,
    Refusing,
}

/// An embedder: it starts plain processes, which are no daemons, and reaps them itself.
#[derive(Clone)]
struct Embedder {
    beginning: Beginning,
    method: StartMethod,
    hired: Arc<Mutex<HashMap<u32, Process<()>>>>,
    parted: Arc<Mutex<Vec<ExitStatus>>>,
}

impl Embedder {
    fn new(beginning: Beginning) -> Self {
        Self {
            beginning,
            method: StartMethod::Spawn,
            hired: Arc::default(),
            parted: Arc::default(),
        }
    }

    fn pool(&self, workers: usize) -> PoolBuilder {
        Pool::builder().workers(workers).recruit(self.clone())
    }

    fn parted(&self) -> Vec<ExitStatus> {
        self.parted.lock().expect("lock").clone()
    }
}

fn live(boot: Vec<u8>) {
    let code = work(&boot, || Ok::<_, WorkerReport>(()), || true).expect("a boot");
    std::process::exit(code);
}

fn refuse(boot: Vec<u8>) {
    let report = WorkerReport {
        message: "no database".to_owned(),
        backtrace: "in connect".to_owned(),
        detail: vec![1, 2, 3],
    };
    let code = work(&boot, || Err(report), || true).expect("a boot");
    std::process::exit(code);
}

impl Recruit for Embedder {
    fn hire(&self, boot: &[u8], name: &str) -> Result<u32, Box<dyn Error + Send + Sync>> {
        let function = match self.beginning {
            Beginning::Good => live as fn(Vec<u8>),
            Beginning::Refusing => refuse,
        };
        let process = Process::builder(function, boot.to_vec())
            .name(name)
            .start_method(self.method)
            .start()?;
        let pid = process.pid();
        self.hired.lock().expect("lock").insert(pid, process);
        Ok(pid)
    }

    fn part(&self, pid: u32, status: ExitStatus) -> ExitStatus {
        let process = self.hired.lock().expect("lock").remove(&pid);
        let known = process.and_then(|process| process.exit_status());
        self.parted.lock().expect("lock").push(status);
        // A child of the template is none of ours.
        known.unwrap_or(status)
    }
}

fn square(x: u64) -> u64 {
    x * x
}

fn kill_me(signal: i32) {
    let signal = Signal::from_named_raw(signal).expect("a signal");
    kill_process(rustix::process::getpid(), signal).expect("kill");
}

fn die(x: u64) -> u64 {
    kill_me(9);
    x
}

#[test]
fn recruited_workers_do_the_same_work() {
    for method in [StartMethod::Spawn, StartMethod::Forkserver] {
        let embedder = Embedder {
            method,
            ..Embedder::new(Beginning::Good)
        };
        let pool = embedder.pool(2).build().expect("pool");
        let expected: Vec<u64> = (0..1000).map(square).collect();
        assert_eq!(pool.map(square, 0..1000).expect("map"), expected);
        assert_eq!(pool.apply(square, 12), Ok(144));
        pool.join();
        assert_eq!(embedder.parted().len(), 2);
        assert!(embedder.hired.lock().expect("lock").is_empty());
        if method == StartMethod::Spawn {
            assert_eq!(embedder.parted(), [ExitStatus::Exited(0); 2]);
        }
    }
}

#[test]
fn the_death_of_a_recruited_worker_costs_its_task() {
    let embedder = Embedder::new(Beginning::Good);
    let executor = embedder.pool(2).build_executor().expect("executor");
    let futures: Vec<_> = (0..20)
        .map(|x| {
            if x == 7 {
                executor.submit(die, 7)
            } else {
                executor.submit(square, x)
            }
        })
        .collect::<Result<_, _>>()
        .expect("submit");
    for (x, future) in futures.iter().enumerate() {
        match future.result() {
            Ok(result) => assert_eq!(result, square(x as u64)),
            Err(TaskError::WorkerDied(died)) => {
                let killed = ExitStatus::Signaled {
                    signal: 9,
                    core_dumped: false,
                };
                assert_eq!((x, died.status), (7, killed));
                assert!(died.worker.starts_with("Pool-"), "{died}");
            }
            Err(error) => panic!("{x}: {error}"),
        }
    }
    executor.shutdown();
    // Nobody is hired for a pool that closes with nothing to do.
    assert!([2, 3].contains(&embedder.parted().len()));
}

fn die_once(queue: Queue<u8>) -> u64 {
    if queue.try_get().is_ok() {
        kill_me(15);
    }
    5
}

fn sleep(seconds: u64) {
    std::thread::sleep(Duration::from_secs(seconds));
}

#[test]
fn retries_and_time_limits_work_with_recruited_workers() {
    let embedder = Embedder::new(Beginning::Good);
    let executor = embedder.pool(1).build_executor().expect("executor");
    let lives = Queue::unbounded().expect("queue");
    lives.put(1).expect("put");
    let again = TaskOptions::new().retries(1);
    let future = executor.submit_with(again, die_once, lives.clone());
    assert_eq!(future.expect("submit").result(), Ok(5));
    let limit = Duration::from_millis(50);
    let late = TaskOptions::new().timeout(limit);
    let future = executor.submit_with(late, sleep, 1000).expect("submit");
    assert_eq!(future.result(), Err(TaskError::TimedOut { limit }));
    let future = executor.submit(sleep, 1000).expect("submit");
    while !future.is_running() {
        std::thread::yield_now();
    }
    assert!(future.cancel());
    assert_eq!(executor.submit(square, 3).expect("submit").result(), Ok(9));
}

#[test]
fn recruited_workers_are_replaced_after_so_many_tasks() {
    let embedder = Embedder::new(Beginning::Good);
    let pool = embedder.pool(2).max_tasks_per_worker(5).build();
    let pool = pool.expect("pool");
    let pids = pool.map(|()| std::process::id(), vec![(); 30]);
    let pids = pids.expect("map");
    for pid in &pids {
        assert!(pids.iter().filter(|other| *other == pid).count() <= 5);
    }
}

#[test]
fn what_a_worker_says_of_its_beginning_breaks_the_pool() {
    let embedder = Embedder::new(Beginning::Refusing);
    let pool = embedder.pool(2).build().expect("pool");
    let error = pool.apply(square, 1).expect_err("broken");
    let TaskError::Broken(Broken::Initializer {
        message,
        backtrace,
        detail,
        ..
    }) = &error
    else {
        panic!("{error}");
    };
    assert_eq!(
        (&message[..], &backtrace[..]),
        ("no database", "in connect")
    );
    assert_eq!(detail[..], [1, 2, 3]);
}

/// Cannot start anybody.
struct Helpless;

impl Recruit for Helpless {
    fn hire(&self, _boot: &[u8], name: &str) -> Result<u32, Box<dyn Error + Send + Sync>> {
        Err(format!("{name} does not want to").into())
    }
}

#[test]
fn a_pool_without_workers_is_none() {
    let refused = |builder: PoolBuilder| match builder.workers(2).name("crew").build() {
        Err(PoolError::Start(StartError::Recruit { name, reason })) => (name, reason),
        other => panic!("{other:?}"),
    };
    let (name, reason) = refused(Pool::builder().recruit(Helpless));
    assert_eq!(
        (&name[..], &reason[..]),
        ("crew-1", "crew-1 does not want to")
    );
}

/// Its processes have ended, and were reaped, before it says who they are.
struct Late(Embedder);

impl Recruit for Late {
    fn hire(&self, boot: &[u8], name: &str) -> Result<u32, Box<dyn Error + Send + Sync>> {
        let pid = self.0.hire(boot, name)?;
        let hired = self.0.hired.lock().expect("lock");
        while hired[&pid].exit_status().is_none() {
            std::thread::yield_now();
        }
        Ok(pid)
    }

    fn part(&self, pid: u32, status: ExitStatus) -> ExitStatus {
        self.0.part(pid, status)
    }
}

#[test]
fn a_worker_that_has_ended_before_the_pool_knows_it_is_one_that_failed() {
    let embedder = Embedder::new(Beginning::Refusing);
    let pool = Pool::builder().workers(1).recruit(Late(embedder.clone()));
    let pool = pool.build().expect("pool");
    let error = pool.apply(square, 1).expect_err("broken");
    assert!(
        matches!(&error, TaskError::Broken(Broken::Initializer { message, .. }) if message == "no database"),
        "{error}"
    );
    let parted = embedder.parted();
    assert!(parted.iter().all(|status| *status == ExitStatus::Unknown));
}

#[test]
fn a_boot_that_is_none_is_refused() {
    for boot in [&b""[..], b"nonsense", &[0xff; 200]] {
        assert!(work(boot, || Ok::<_, WorkerReport>(()), || true).is_err());
    }
}

/// Has a pool of recruited workers, says who they are, and waits for the end.
fn employ(pids: Queue<u32>) {
    let pool = Embedder::new(Beginning::Good).pool(2).build();
    let pool = pool.expect("pool");
    for pid in pool.map(|()| std::process::id(), [(); 8]).expect("map") {
        pids.put(pid).expect("put");
    }
    sleep(1000);
}

#[test]
fn recruited_workers_end_with_the_pools_process() {
    let pids = Queue::unbounded().expect("queue");
    let parent = Process::start(employ, pids.clone()).expect("parent");
    let workers: Vec<u32> = (0..8).map(|_| pids.get().expect("pid")).collect();
    parent.kill().expect("kill");
    assert!(parent.join().is_err());
    for pid in workers {
        let pid = Pid::from_raw(pid as i32).expect("a pid");
        while test_kill_process(pid).is_ok() && !is_zombie(pid) {
            std::thread::sleep(Duration::from_millis(1));
        }
    }
}

/// Whether nobody reaps orphans here.
fn is_zombie(pid: Pid) -> bool {
    let stat = std::fs::read_to_string(format!("/proc/{}/stat", pid.as_raw_nonzero()));
    stat.is_ok_and(|stat| stat.contains(") Z "))
}
