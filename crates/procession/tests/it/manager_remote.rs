//! Managers that serve clients outside their family.
use crate::forked::fork;
use procession::{
    Address, AuthKey, ConnectError, Event, Manager, ManagerError, Queue, QueueProxy, RemoteManager,
};
use std::io::{Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpStream};
use std::os::unix::net::UnixStream;
use std::path::PathBuf;
use std::process::{Command, Stdio};

fn any_port() -> SocketAddr {
    (Ipv4Addr::LOCALHOST, 0).into()
}

fn socket_path(name: &str) -> PathBuf {
    std::env::temp_dir().join(format!("procession-{name}-{}.sock", std::process::id()))
}

fn key() -> AuthKey {
    AuthKey::random().expect("key")
}

/// A manager with a published list of numbers.
fn serving(address: impl Into<Address>, key: &AuthKey) -> (Manager, Address) {
    let manager = Manager::start().expect("manager");
    let address = manager.serve(address, key).expect("serve");
    let numbers = manager.create(vec![1u32, 2]).expect("create");
    manager.publish("numbers", &numbers).expect("publish");
    (manager, address)
}

fn sum(remote: &RemoteManager) -> Result<u32, ManagerError> {
    let numbers = remote.find::<Vec<u32>>("numbers")?;
    numbers.with(|numbers, ()| numbers.iter().sum(), ())
}

#[test]
fn the_right_key_opens_both_kinds_of_socket() {
    let key = key();
    for address in [
        Address::from(any_port()),
        Address::from(socket_path("open")),
    ] {
        let (manager, address) = serving(address, &key);
        let remote = RemoteManager::connect(&address, &key).expect("connect");
        assert_eq!(sum(&remote), Ok(3));
        let numbers = remote.find::<Vec<u32>>("numbers").expect("find");
        std::thread::scope(|scope| {
            for n in 0..8 {
                let numbers = numbers.clone();
                scope.spawn(move || {
                    (0..20).for_each(|_| numbers.with(|list, n| list.push(n), n).expect("push"));
                });
            }
        });
        assert_eq!(numbers.with(|list, ()| list.len(), ()), Ok(162));
        let large = numbers.with(|_, text: String| text, "y".repeat(1 << 20));
        assert_eq!(large.map(|text| text.len()), Ok(1 << 20));
        let panicked = numbers.with(|_, ()| -> u32 { panic!("far away") }, ());
        assert!(
            matches!(panicked, Err(ManagerError::Panicked { message, .. }) if message == "far away")
        );
        assert_eq!(
            sum(&RemoteManager::connect(&address, &key).expect("connect")),
            Ok(3 + 560)
        );
        manager.shutdown().expect("shutdown");
        assert!(matches!(sum(&remote), Err(ManagerError::Lost { .. })));
        if let Address::Unix(path) = &address {
            assert!(!path.exists());
        }
    }
}

#[test]
fn the_wrong_key_opens_nothing() {
    let (manager, address) = serving(any_port(), &key());
    for wrong in [key(), AuthKey::new(Vec::new())] {
        let refused = RemoteManager::connect(&address, &wrong);
        assert!(
            matches!(refused, Err(ConnectError::WrongKey { .. })),
            "{refused:?}"
        );
    }
    assert_eq!(
        manager.counter().expect("counter").add(1),
        Ok(1),
        "it goes on"
    );
}

fn open(address: &Address) -> TcpStream {
    let Address::Tcp(address) = address else {
        panic!("not TCP")
    };
    TcpStream::connect(address).expect("connect")
}

/// Everything that comes until the other side ends the connection.
fn drain(stream: &mut TcpStream) -> Vec<u8> {
    let mut bytes = Vec::new();
    // A reset is an end, too.
    let _ = stream.read_to_end(&mut bytes);
    bytes
}

#[test]
fn garbage_and_oversized_frames_end_the_connection() {
    let key = key();
    let (_manager, address) = serving(any_port(), &key);
    let claims = [u32::MAX, 1 << 20, 129].map(|len| len.to_le_bytes().to_vec());
    let texts = [
        b"GET / HTTP/1.1\r\n\r\n".to_vec(),
        vec![0; 4096],
        vec![0xff; 4096],
    ];
    for garbage in claims.into_iter().chain(texts) {
        let mut stream = open(&address);
        let _ = stream.write_all(&garbage);
        let _ = stream.shutdown(std::net::Shutdown::Write);
        let answer = drain(&mut stream);
        assert!(answer.len() <= 64, "the challenge and a verdict at most");
    }
    let remote = RemoteManager::connect(&address, &key).expect("connect");
    assert_eq!(sum(&remote), Ok(3));
}

#[test]
fn silent_strangers_keep_nobody_out() {
    let key = key();
    let (_manager, address) = serving(any_port(), &key);
    // More than may be there at a time: each one over drops the oldest, which sees the end before its time is up.
    let mut strangers: Vec<_> = (0..65).map(|_| open(&address)).collect();
    drain(&mut strangers[0]);
    let remote = RemoteManager::connect(&address, &key).expect("connect");
    assert_eq!(sum(&remote), Ok(3));
    // The last one is thrown out when its time is up.
    drain(&mut strangers[64]);
    assert_eq!(sum(&remote), Ok(3));
}

#[test]
fn what_is_no_manager_is_told_apart() {
    let key = key();
    let listener = std::net::TcpListener::bind(any_port()).expect("bind");
    let address = Address::from(listener.local_addr().expect("address"));
    let answers = [&b"SSH-2.0-x\r\n"[..], &[4, 0, 0, 0, 1, 2, 3, 4], &[]];
    let liar = std::thread::spawn(move || {
        for answer in answers {
            let (mut stream, _) = listener.accept().expect("accept");
            stream.write_all(answer).expect("write");
        }
    });
    for _ in 0..2 {
        let error = RemoteManager::connect(&address, &key).expect_err("no manager");
        assert!(matches!(error, ConnectError::Protocol { .. }), "{error:?}");
    }
    let error = RemoteManager::connect(&address, &key).expect_err("no manager");
    assert!(matches!(error, ConnectError::Io { .. }), "{error:?}");
    liar.join().expect("no panic");
    let error = RemoteManager::connect(&address, &key).expect_err("nobody");
    assert!(matches!(error, ConnectError::Io { .. }), "{error:?}");
}

#[test]
fn states_of_a_remote_client_go_when_it_has_let_go() {
    let key = key();
    let (manager, address) = serving(any_port(), &key);
    // The event cannot be sent to the server from outside, so it waits there under a name.
    let dropped = Event::new().expect("event");
    let inside = manager.create(dropped.clone()).expect("create");
    manager.publish("event", &inside).expect("publish");
    struct Told(procession::ManagerClient);
    impl Drop for Told {
        fn drop(&mut self) {
            let event = self.0.find::<Event>("event").expect("find");
            event.with(|event, ()| event.set(), ()).expect("set");
        }
    }
    let client = manager.create(manager.client()).expect("create");
    manager.publish("client", &client).expect("publish");
    let remote = RemoteManager::connect(&address, &key).expect("connect");
    let told = || {
        static CLIENT: std::sync::OnceLock<procession::ManagerClient> = std::sync::OnceLock::new();
        let client = remote
            .find::<procession::ManagerClient>("client")
            .expect("find");
        client
            .with(
                |client, ()| {
                    let _ = CLIENT.set(client.clone());
                },
                (),
            )
            .expect("with");
        remote
            .create_with(|()| Told(CLIENT.get().expect("set before").clone()), ())
            .expect("create")
    };
    let (first, second) = (told(), told());
    let copy = first.clone();
    drop(first);
    sum(&remote).expect("news");
    copy.with(|_, ()| (), ()).expect("the copy holds it");
    drop(copy);
    sum(&remote).expect("news");
    dropped.wait();
    dropped.clear();
    drop((second, remote));
    dropped.wait();
}

#[test]
fn shared_objects_and_proxies_stay_where_they_mean_something() {
    let key = key();
    let (manager, address) = serving(any_port(), &key);
    let remote = RemoteManager::connect(&address, &key).expect("connect");
    let numbers = remote.find::<Vec<u32>>("numbers").expect("find");
    let queue = Queue::<u32>::unbounded().expect("queue");
    let sent = numbers.with(|_, _: Queue<u32>| (), queue.clone());
    assert!(matches!(sent, Err(ManagerError::Encode(_))), "{sent:?}");
    let got = numbers.with(|_, ()| Queue::<u32>::unbounded().expect("queue"), ());
    assert!(
        matches!(got, Err(ManagerError::UnencodableResult { .. })),
        "{got:?}"
    );
    let carrier = Queue::<procession::Proxy<Vec<u32>>>::unbounded().expect("queue");
    let refused = carrier.put(numbers.clone()).expect_err("a remote proxy");
    let text = std::error::Error::source(&refused).map(ToString::to_string);
    assert!(text.is_some_and(|text| text.contains("remote manager")));
    assert_eq!(manager.publish("again", &numbers), Err(ManagerError::Stale));
    remote.publish("again", &numbers).expect("its own way");
    // A fork copies the sockets, which would mix both processes' bytes.
    let child = fork(|| numbers.with(|_, ()| (), ()) == Err(ManagerError::NotOurs));
    assert_eq!(child.join(), 0);
    assert_eq!(sum(&remote), Ok(3));
}

#[test]
fn a_socket_that_a_killed_server_left_is_replaced() {
    let (key, path) = (key(), socket_path("left"));
    let (manager, _) = serving(path.as_path(), &key);
    let taken = Manager::start()
        .expect("manager")
        .serve(path.as_path(), &key);
    assert!(
        matches!(taken, Err(ManagerError::Refused { .. })),
        "{taken:?}"
    );
    let remote = RemoteManager::connect(path.as_path(), &key).expect("connect");
    let waiting = remote.find::<Vec<u32>>("numbers").expect("find");
    std::thread::scope(|scope| {
        let call = scope.spawn(|| waiting.wait_for(|_, ()| None::<()>, ()));
        manager.kill().expect("kill");
        assert!(matches!(
            call.join().expect("thread"),
            Err(ManagerError::Lost { .. })
        ));
    });
    assert!(path.exists());
    let (manager, _) = serving(path.as_path(), &key);
    let again = RemoteManager::connect(path.as_path(), &key).expect("connect");
    assert_eq!(sum(&again), Ok(3));
    drop(manager);
    assert!(!path.exists());
    std::fs::write(&path, "a file of somebody's").expect("write");
    let taken = Manager::start()
        .expect("manager")
        .serve(path.as_path(), &key);
    assert!(
        matches!(taken, Err(ManagerError::Refused { .. })),
        "{taken:?}"
    );
    std::fs::remove_file(&path).expect("it is still there");
    assert!(UnixStream::connect(&path).is_err());
}

/// The other program of [`another_run_of_the_program_connects`]: this test binary again, as a stranger to the family.
#[test]
fn as_another_program() {
    let Ok(variable) = std::env::var("PROCESSION_TEST_REMOTE") else {
        return;
    };
    let (address, key) = variable.split_once(' ').expect("two parts");
    let address: SocketAddr = address.parse().expect("address");
    let key: Vec<u8> = key
        .split('.')
        .map(|byte| byte.parse().expect("byte"))
        .collect();
    let remote = RemoteManager::connect(address, &AuthKey::new(key)).expect("connect");
    let jobs = QueueProxy::<String>::from(remote.find("jobs").expect("find"));
    jobs.put(format!("from {}", std::process::id()))
        .expect("put");
    // Waits for what never comes, until it is killed.
    let _ = jobs.wait_for(|_, ()| None::<()>, ());
}

#[test]
fn another_run_of_the_program_connects() {
    let key = key();
    let (manager, address) = serving(any_port(), &key);
    let jobs = manager.queue::<String>(0).expect("queue");
    manager.publish("jobs", &*jobs).expect("publish");
    let bytes: Vec<_> = key.as_bytes().iter().map(ToString::to_string).collect();
    let mut other = Command::new(std::env::current_exe().expect("exe"))
        .args(["--exact", "manager_remote::as_another_program"])
        .env(
            "PROCESSION_TEST_REMOTE",
            format!("{address} {}", bytes.join(".")),
        )
        .stdout(Stdio::null())
        .spawn()
        .expect("start");
    assert_eq!(jobs.get(), Ok(format!("from {}", other.id())));
    other.kill().expect("kill");
    other.wait().expect("wait");
    assert_eq!(
        sum(&RemoteManager::connect(&address, &key).expect("connect")),
        Ok(3)
    );
}
