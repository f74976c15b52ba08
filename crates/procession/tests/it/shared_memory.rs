//! SharedMemory, anonymous and named.
use crate::forked::fork;
use procession::{NamedSharedMemory, Queue, SharedMemory};
use std::io::ErrorKind;

#[test]
fn anonymous_bytes_travel() {
    let queue = Queue::<SharedMemory>::unbounded().expect("queue");
    let memory = SharedMemory::new(200_000).expect("memory");
    queue.put(memory.clone()).expect("put");
    let child = fork(|| {
        queue
            .get()
            .expect("get")
            .write_at(100_001, b"from the child")
            .is_ok()
    });
    assert_eq!(child.join(), 0);
    let mut text = [0; 14];
    memory.read_at(100_001, &mut text).expect("read");
    assert_eq!(&text, b"from the child");
    assert!(memory.read_at(200_000 - 13, &mut text).is_err());
}

#[test]
fn named_bytes_are_found_by_name() {
    let name = format!("/procession-test-{}", std::process::id());
    let memory = NamedSharedMemory::create(&name, 5000).expect("create");
    let taken = NamedSharedMemory::create(&name, 10).expect_err("taken");
    assert_eq!(taken.kind(), ErrorKind::AlreadyExists);
    let child = fork(|| {
        let same = NamedSharedMemory::open(&name).expect("open");
        same.len() == 5000 && same.write_at(4990, b"abc").is_ok()
    });
    assert_eq!(child.join(), 0);
    assert_eq!(
        std::fs::read(format!("/dev/shm{name}")).expect("file")[4990..4993],
        *b"abc"
    );
    NamedSharedMemory::unlink(&name).expect("unlink");
    assert_eq!(memory.to_vec()[4990..4993], *b"abc");
    assert_eq!(
        NamedSharedMemory::open(&name).expect_err("gone").kind(),
        ErrorKind::NotFound
    );
    for bad in ["", "/", "x", "/a/b", "/a\0b"] {
        assert_eq!(
            NamedSharedMemory::create(bad, 10).expect_err("name").kind(),
            ErrorKind::InvalidInput
        );
    }
    assert_eq!(
        NamedSharedMemory::create(&name, 0)
            .expect_err("size")
            .kind(),
        ErrorKind::InvalidInput
    );
}
