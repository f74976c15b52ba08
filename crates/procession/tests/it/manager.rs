//! Managers and their family: states, proxies, and every kind of death.
use crate::forked::fork;
use procession::{
    DictProxy, Event, ExitStatus, JoinFailure, Manager, ManagerError, ManagerStartError, Process,
    Proxy, Queue, StartMethod,
};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

fn manager() -> Manager {
    Manager::start().expect("manager")
}

/// Set in the server when it is dropped there.
struct Tell(Event);

impl Drop for Tell {
    fn drop(&mut self) {
        self.0.set();
    }
}

fn tell(manager: &procession::ManagerClient) -> (Proxy<Tell>, Event) {
    let dropped = Event::new().expect("event");
    let proxy = manager.create_with(Tell, dropped.clone()).expect("create");
    (proxy, dropped)
}

#[test]
fn states_live_in_the_server() {
    let manager = manager();
    let moved = manager.create(vec![1, 2]).expect("create");
    let built = manager
        .create_with(|start: u32| AtomicU32::new(start), 5)
        .expect("create");
    moved.with(|list, item| list.push(item), 3).expect("with");
    assert_eq!(moved.with(|list, ()| list.clone(), ()), Ok(vec![1, 2, 3]));
    let pid = built.with(
        |state, by: u32| (state.fetch_add(by, Ordering::Relaxed), std::process::id()),
        2,
    );
    assert_eq!(pid, Ok((5, manager.pid())));
    assert_ne!(manager.pid(), std::process::id());
    manager.shutdown().expect("shutdown");
}

fn hammer((counter, dict, n): (Proxy<u64>, DictProxy<u64, u64>, u64)) {
    for i in 0..200 {
        counter
            .with(|count, by: u64| *count += by, 1)
            .expect("with");
        dict.insert(n * 1000 + i, i).expect("insert");
    }
}

#[test]
fn many_clients_use_the_same_states() {
    for method in [StartMethod::Spawn, StartMethod::Forkserver] {
        let manager = Manager::builder()
            .start_method(method)
            .start()
            .expect("start");
        let (counter, dict) = (manager.create(0u64), manager.dict());
        let (counter, dict) = (counter.expect("counter"), dict.expect("dict"));
        let children: Vec<_> = (0..4)
            .map(|n| Process::start(hammer, (counter.clone(), dict.clone(), n)).expect("start"))
            .collect();
        std::thread::scope(|scope| {
            for n in 4..8 {
                let args = (counter.clone(), dict.clone(), n);
                scope.spawn(move || hammer(args));
            }
        });
        for child in children {
            child.join().expect("child");
        }
        assert_eq!(counter.with(|count, ()| *count, ()), Ok(1600));
        assert_eq!(dict.len(), Ok(1600));
    }
}

#[test]
fn proxies_and_clients_travel_by_any_way() {
    let manager = manager();
    let carrier = Queue::unbounded().expect("queue");
    let child = Process::start(
        |(carrier, client): (Queue<Proxy<String>>, procession::ManagerClient)| {
            let proxy = client.create("from the child".to_owned()).expect("create");
            carrier.put(proxy).expect("put");
        },
        (carrier.clone(), manager.client()),
    );
    child.expect("start").join().expect("child");
    let proxy = carrier.get().expect("get");
    // Its maker is gone, and it was nobody's but the queue's for a while.
    assert_eq!(
        proxy.with(|text, ()| text.clone(), ()).as_deref(),
        Ok("from the child")
    );
    // A state may hold proxies, and shared objects.
    let holder = manager
        .create((proxy.clone(), carrier.clone()))
        .expect("create");
    drop(proxy);
    let (back, queue) = holder.with(|state, ()| state.clone(), ()).expect("with");
    assert!(back.with(|text, ()| text.len(), ()).is_ok() && queue.is_empty());
    // A function may use other states.
    let through = holder.with(
        |(inner, _), ()| inner.with(|text, ()| text.len(), ()).ok(),
        (),
    );
    assert_eq!(through, Ok(Some(14)));
}

#[test]
fn a_panic_comes_back_and_harms_nobody() {
    fn explode(list: &mut Vec<u32>, item: u32) {
        list.push(item);
        panic!("no {item}");
    }
    let manager = manager();
    let list = manager.create(vec![1u32]).expect("create");
    let Err(ManagerError::Panicked {
        message,
        location,
        backtrace,
    }) = list.with(explode, 2)
    else {
        panic!("no panic came")
    };
    assert_eq!(message, "no 2");
    assert!(location.is_some_and(|at| at.contains("it/manager.rs:")));
    assert!(backtrace.contains("explode"), "{backtrace}");
    assert_eq!(list.with(|list, ()| list.clone(), ()), Ok(vec![1, 2]));
    let built = manager.create_with(|()| -> u32 { panic!("not built") }, ());
    assert!(matches!(built, Err(ManagerError::Panicked { message, .. }) if message == "not built"));
    let waited = list.wait_for(|_, ()| -> Option<u32> { panic!("not waited") }, ());
    assert!(matches!(waited, Err(ManagerError::Panicked { .. })));
}

#[test]
fn a_blocking_call_blocks_nobody_else() {
    let manager = manager();
    let (gate, inside) = (Event::new().expect("event"), Event::new().expect("event"));
    let blocked = manager
        .create((gate.clone(), inside.clone()))
        .expect("create");
    let free = manager.create(1u32).expect("create");
    std::thread::scope(|scope| {
        let call = scope.spawn(|| {
            blocked.with(
                |(gate, inside), ()| {
                    inside.set();
                    gate.wait();
                    7
                },
                (),
            )
        });
        inside.wait();
        // In this thread, in another one, and in another process.
        assert_eq!(free.with(|n, ()| *n, ()), Ok(1));
        let other = Process::start(
            |free: Proxy<u32>| free.with(|n, ()| *n, ()).is_ok(),
            free.clone(),
        );
        assert!(other.expect("start").join().expect("child"));
        assert!(manager.create(2u32).is_ok());
        gate.set();
        assert_eq!(call.join().expect("thread"), Ok(7));
    });
}

#[test]
fn waiting_leaves_the_state_to_others() {
    let manager = manager();
    let queue = manager.queue::<u32>(2).expect("queue");
    std::thread::scope(|scope| {
        let getters: Vec<_> = (0..3)
            .map(|_| scope.spawn(|| queue.get().expect("get")))
            .collect();
        for item in [1, 2, 3] {
            queue.put(item).expect("put");
        }
        let mut got: Vec<_> = getters
            .into_iter()
            .map(|g| g.join().expect("thread"))
            .collect();
        got.sort_unstable();
        assert_eq!(got, [1, 2, 3]);
        queue.put(4).expect("put");
        queue.put(5).expect("put");
        assert_eq!(queue.put_timeout(6, Duration::ZERO), Ok(false));
        let putter = scope.spawn(|| queue.put(6));
        assert_eq!(queue.get(), Ok(4));
        assert_eq!(putter.join().expect("thread"), Ok(()));
    });
    assert_eq!((queue.get(), queue.get()), (Ok(5), Ok(6)));
    assert_eq!(queue.get_timeout(Duration::from_millis(1)), Ok(None));
    assert_eq!(queue.get_timeout(Duration::ZERO), Ok(None));
}

#[test]
fn a_state_goes_with_its_last_proxy() {
    let manager = manager();
    let (proxy, dropped) = tell(&manager);
    let second = proxy.clone();
    let in_flight = Queue::<Proxy<Tell>>::unbounded().expect("queue");
    in_flight.put(proxy).expect("put");
    drop(second);
    manager.create(0u8).expect("create");
    assert!(!dropped.is_set(), "a message holds it");
    drop(in_flight);
    dropped.wait();
    // A published one stays.
    let (proxy, dropped) = tell(&manager);
    manager.publish("it", &proxy).expect("publish");
    drop(proxy);
    let found = manager.find::<Tell>("it").expect("find");
    assert!(matches!(
        manager.find::<u32>("it"),
        Err(ManagerError::WrongType { .. })
    ));
    assert!(matches!(
        manager.find::<u32>("that"),
        Err(ManagerError::NotPublished { .. })
    ));
    drop(found);
    assert!(!dropped.is_set());
    assert_eq!(manager.unpublish("it"), Ok(true));
    dropped.wait();
}

#[test]
fn a_state_goes_when_its_last_holder_is_killed() {
    fn hold((proxy, ready): (Proxy<Tell>, Event)) {
        proxy.with(|_, ()| (), ()).expect("with");
        ready.set();
        std::thread::sleep(Duration::from_secs(1000));
    }
    let manager = manager();
    let (proxy, dropped) = tell(&manager);
    let ready = Event::new().expect("event");
    let child = Process::start(hold, (proxy.clone(), ready.clone())).expect("start");
    ready.wait();
    drop(proxy);
    assert!(!dropped.is_set());
    child.kill().expect("kill");
    // Nobody joins the child before: the server notices by itself.
    dropped.wait();
    assert!(child.join().is_err());
}

#[test]
fn a_client_that_is_killed_while_it_waits_takes_nothing() {
    fn take((jobs, ready): (procession::QueueProxy<u32>, Event)) {
        jobs.try_get().expect("connected");
        ready.set();
        let _ = jobs.get();
    }
    let manager = manager();
    let jobs = manager.queue::<u32>(0).expect("queue");
    let ready = Event::new().expect("event");
    let child = Process::start(take, (jobs.clone(), ready.clone())).expect("start");
    ready.wait();
    child.kill().expect("kill");
    assert!(child.join().is_err());
    // The dead one's call may see the first item once; it must not eat the second.
    jobs.put(1).expect("put");
    jobs.put(2).expect("put");
    assert!(matches!(jobs.get(), Ok(1 | 2)));
}

fn killed(status: ExitStatus) -> bool {
    matches!(status, ExitStatus::Signaled { signal: 9, .. })
}

#[test]
fn the_servers_death_ends_every_call_and_says_how() {
    fn wait_in_vain((gate, inside): &mut (Event, Event), _: ()) {
        inside.set();
        gate.wait();
    }
    let manager = manager();
    let gate = || Event::new().expect("event");
    let (ours, theirs) = ((gate(), gate()), (gate(), gate()));
    let here = manager.create(ours.clone()).expect("create");
    let there = manager.create(theirs.clone()).expect("create");
    let child = Process::start(
        |there: Proxy<(Event, Event)>| {
            // The call that waits, one after it, and a new thread's.
            let first = there.with(wait_in_vain, ());
            let second = there.with(|_, ()| (), ());
            let third = std::thread::spawn(move || there.with(|_, ()| (), ()));
            [first, second, third.join().expect("thread")].map(|result| match result {
                Err(ManagerError::ServerDied { pid, status }) => (pid, format!("{status}")),
                other => (0, format!("{other:?}")),
            })
        },
        there,
    )
    .expect("start");
    std::thread::scope(|scope| {
        let call = scope.spawn(|| here.with(wait_in_vain, ()));
        ours.1.wait();
        theirs.1.wait();
        manager.kill().expect("kill");
        let error = call
            .join()
            .expect("thread")
            .expect_err("the server is dead");
        let ManagerError::ServerDied { pid, status } = error else {
            panic!("{error}")
        };
        assert!(pid == manager.pid() && killed(status), "{error}");
    });
    for (pid, status) in child.join().expect("child") {
        assert_eq!((pid, status.as_str()), (manager.pid(), "killed by SIGKILL"));
    }
    assert!(manager.exit_status().is_some_and(killed));
    let error = manager.create(1).expect_err("dead");
    assert!(matches!(error, ManagerError::ServerDied { status, .. } if killed(status)));
    assert!(manager.shutdown().is_err());
}

#[test]
fn shutting_down_drops_states_and_ends_calls() {
    let manager = manager();
    let (told, dropped) = tell(&manager);
    let queue = manager.queue::<u32>(0).expect("queue");
    let client = manager.client();
    std::thread::scope(|scope| {
        let (inside, waiting) = (Event::new().expect("event"), queue.clone());
        let set = inside.clone();
        let call = scope.spawn(move || {
            waiting.try_get().expect("connected");
            set.set();
            waiting.get()
        });
        inside.wait();
        manager.shutdown().expect("shutdown");
        assert_eq!(call.join().expect("thread"), Err(ManagerError::ShutDown));
    });
    assert!(dropped.is_set());
    assert_eq!(queue.len(), Err(ManagerError::ShutDown));
    assert!(matches!(client.create(1), Err(ManagerError::ShutDown)));
    drop(told);
}

#[test]
fn dropping_a_manager_ends_a_server_that_is_stuck() {
    let manager = manager();
    let inside = Event::new().expect("event");
    let stuck = manager.create(inside.clone()).expect("create");
    let pid = manager.pid();
    std::thread::scope(|scope| {
        scope.spawn(|| {
            let result = stuck.with(
                |inside, ()| {
                    inside.set();
                    std::thread::sleep(Duration::from_secs(1000));
                },
                (),
            );
            assert!(result.is_err());
        });
        inside.wait();
        drop(manager);
    });
    assert!(!std::path::Path::new(&format!("/proc/{pid}")).exists());
}

#[test]
fn the_server_ends_with_its_parent() {
    fn own((pids, gate): (Queue<(u32, Proxy<u32>)>, Event)) {
        let manager = manager();
        let proxy = manager.create(1u32).expect("create");
        pids.put((manager.pid(), proxy)).expect("put");
        gate.wait();
    }
    let pids = Queue::unbounded().expect("queue");
    let gate = Event::new().expect("event");
    let child = Process::start(own, (pids.clone(), gate)).expect("start");
    let (pid, proxy) = pids.get().expect("get");
    assert_eq!(proxy.with(|n, ()| *n, ()), Ok(1));
    child.kill().expect("kill");
    assert!(child.join().is_err());
    // A call that nobody can answer any more ends, however long the server takes to go.
    let end = proxy.wait_for(|_, ()| None::<()>, ());
    assert!(
        matches!(end, Err(ManagerError::ServerDied { pid: dead, .. }) if dead == pid),
        "{end:?}"
    );
}

#[test]
fn a_forked_child_has_connections_of_its_own() {
    let manager = manager();
    let count = manager.create(0u32).expect("create");
    let add = |count: &Proxy<u32>| {
        count.with(
            |n, ()| {
                *n += 1;
                *n
            },
            (),
        )
    };
    assert_eq!(add(&count), Ok(1));
    let child = fork(|| (0..100).all(|_| add(&count).is_ok()));
    for _ in 0..100 {
        add(&count).expect("add");
    }
    assert_eq!(child.join(), 0);
    assert_eq!(add(&count), Ok(202));
}

#[test]
fn an_initializer_comes_first_and_its_panic_is_told() {
    static MARK: AtomicU32 = AtomicU32::new(0);
    let manager = Manager::builder()
        .name("marked")
        .initializer(|mark| MARK.store(mark, Ordering::SeqCst), 7)
        .start()
        .expect("start");
    let state = manager.create(()).expect("create");
    assert_eq!(state.with(|(), ()| MARK.load(Ordering::SeqCst), ()), Ok(7));
    assert_eq!(manager.name(), "marked");
    let failed = Manager::builder()
        .name("broken")
        .initializer(|()| panic!("not today"), ())
        .start();
    let Err(ManagerStartError::Ended(error)) = failed else {
        panic!("it started")
    };
    assert_eq!(error.name, "broken");
    assert!(
        matches!(error.failure, JoinFailure::Panicked { message, .. } if message == "not today")
    );
}

/// Reads and writes what its name says, wrongly.
#[derive(Clone, Copy, Debug, PartialEq)]
struct Stubborn;

impl serde::Serialize for Stubborn {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        if std::env::var_os("PROCESSION_STUBBORN").is_some() {
            return Err(serde::ser::Error::custom("no"));
        }
        serializer.serialize_u8(1)
    }
}

impl<'de> serde::Deserialize<'de> for Stubborn {
    fn deserialize<D: serde::Deserializer<'de>>(_: D) -> Result<Self, D::Error> {
        Err(serde::de::Error::custom("no"))
    }
}

#[test]
fn what_cannot_be_read_or_written_is_an_error() {
    let manager = manager();
    let state = manager.create(1u32).expect("create");
    let unread = state.with(|_, _: Stubborn| (), Stubborn);
    assert!(
        matches!(unread, Err(ManagerError::UndecodableArgument { .. })),
        "{unread:?}"
    );
    let unread = state.with(|_, ()| Stubborn, ());
    assert!(
        matches!(unread, Err(ManagerError::UndecodableResult { .. })),
        "{unread:?}"
    );
    assert!(matches!(
        manager.create(Stubborn),
        Err(ManagerError::UndecodableArgument { .. })
    ));
    // Large ones pass.
    let large = state.with(|_, text: String| text + "!", "x".repeat(3_000_000));
    assert_eq!(large.map(|text| text.len()), Ok(3_000_001));
    // The state is what it is, whatever somebody calls it.
    let bytes: Queue<Proxy<u32>> = Queue::unbounded().expect("queue");
    let misread = Queue::<Proxy<String>>::open(bytes.handle()).expect("the same queue");
    bytes.put(state.clone()).expect("put");
    let wrong = misread.get().expect("get").with(|text, ()| text.len(), ());
    let Err(ManagerError::WrongType { expected, found }) = wrong else {
        panic!("{wrong:?}")
    };
    assert_eq!(
        (expected.as_str(), found.as_str()),
        ("alloc::string::String", "u32")
    );
    // Proxies of one manager mean nothing to another.
    let other = self::manager();
    assert_eq!(other.publish("x", &state), Err(ManagerError::Stale));
}

#[test]
fn more_threads_than_one_process_needs() {
    let manager = manager();
    let count = manager.counter().expect("counter");
    for _ in 0..3 {
        std::thread::scope(|scope| {
            for _ in 0..60 {
                scope.spawn(|| count.add(1).expect("add"));
            }
        });
    }
    assert_eq!(count.get(), Ok(180));
    assert_eq!(count.wait_at_least(180), Ok(180));
}
