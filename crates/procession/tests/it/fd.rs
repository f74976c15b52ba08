//! File descriptors in messages.
use crate::ready_fork::fork;
use procession::{Fd, GetError, Queue};
use std::io::{Read, Write};
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;

#[test]
fn a_socket_reaches_a_child() {
    let queue = Queue::<(u32, Fd)>::unbounded().expect("queue");
    let child = fork(|| {
        let (number, fd) = queue.get().expect("get");
        let mut socket = UnixStream::from(OwnedFd::from(fd));
        write!(socket, "hello {number}").expect("write");
    });
    let (mut ours, theirs) = UnixStream::pair().expect("pair");
    queue
        .put((7, Fd::from(OwnedFd::from(theirs))))
        .expect("put");
    assert_eq!(child.join(), 0);
    Fd::release_sent();
    let mut text = String::new();
    ours.read_to_string(&mut text)
        .expect("end of file after release");
    assert_eq!(text, "hello 7");
}

#[test]
fn a_child_sends_several_to_its_parent() {
    let (queue, done) = (
        Queue::<Vec<Fd>>::unbounded().expect("queue"),
        Queue::<u32>::unbounded().expect("queue"),
    );
    let child = fork(|| {
        let (reading, mut writing) = std::io::pipe().expect("pipe");
        writing.write_all(b"abc").expect("write");
        let fds = vec![OwnedFd::from(reading).into(), OwnedFd::from(writing).into()];
        queue.put(fds).expect("put");
        done.get().expect("done");
    });
    let mut fds = queue.get().expect("get");
    drop(fds.pop());
    let mut file = std::fs::File::from(fds.pop().expect("fd").into_inner());
    let mut text = [0; 3];
    file.read_exact(&mut text).expect("read");
    assert_eq!(&text, b"abc");
    done.put(1).expect("put");
    assert_eq!(child.join(), 0);
}

#[test]
fn a_dead_sender_is_named() {
    let queue = Queue::<Fd>::unbounded().expect("queue");
    let child = fork(|| {
        let (_reading, writing) = std::io::pipe().expect("pipe");
        queue.put(OwnedFd::from(writing).into()).expect("put");
    });
    let pid = child.pid();
    assert_eq!(child.join(), 0);
    let error = queue.get().expect_err("sender is dead");
    let GetError::Decode(cause) = error else {
        panic!("{error}")
    };
    assert!(
        cause.to_string().contains(&format!("process {pid} ")),
        "{cause}"
    );
}

#[test]
fn a_message_that_is_dropped_releases_the_descriptor() {
    let (mut ours, theirs) = UnixStream::pair().expect("pair");
    let queue = Queue::<Fd>::unbounded().expect("queue");
    queue.put(OwnedFd::from(theirs).into()).expect("put");
    drop(queue);
    Fd::release_sent();
    assert_eq!(ours.read(&mut [0; 8]).expect("end of file"), 0);
}

#[test]
#[expect(unsafe_code, reason = "setuid")]
fn a_receiver_that_may_not_look_into_the_sender_is_told_what_to_do() {
    // SAFETY: asks for a number.
    if unsafe { libc::geteuid() } != 0 {
        return;
    }
    let (queue, said) = (
        Queue::<Fd>::unbounded().expect("queue"),
        Queue::<String>::unbounded().expect("queue"),
    );
    let child = fork(|| {
        // SAFETY: the raw call changes this thread, the only one of the child.
        assert_eq!(unsafe { libc::syscall(libc::SYS_setuid, 65534) }, 0);
        let error = queue.get().expect_err("not permitted");
        let GetError::Decode(cause) = error else {
            panic!("{error}")
        };
        said.put(cause.to_string()).expect("put");
    });
    let (_reading, writing) = std::io::pipe().expect("pipe");
    queue.put(OwnedFd::from(writing).into()).expect("put");
    let text = said.get().expect("text");
    assert!(
        text.contains("not permitted to copy file descriptor") && text.contains("ptrace_scope"),
        "{text}"
    );
    assert_eq!(child.join(), 0);
}
