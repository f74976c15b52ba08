//! Waiting for the first of several things.
use crate::ready_fork::fork;
use procession::{Pipe, Queue, RecvError, Select, wait};
use rustix::process::{Pid, PidfdFlags, pidfd_open};
use std::time::{Duration, Instant};

#[test]
fn nothing_ready_ends_with_the_time() {
    let (one, two) = (queue(), queue());
    assert_eq!(wait(&[&one, &two], Duration::ZERO), Ok(vec![]));
    let start = Instant::now();
    assert_eq!(wait(&[&one, &two], Duration::from_millis(30)), Ok(vec![]));
    assert!(start.elapsed() >= Duration::from_millis(30));
    assert_eq!(wait(&[], Duration::from_millis(1)), Ok(vec![]));
}

fn queue() -> Queue<u32> {
    Queue::unbounded().expect("queue")
}

#[test]
fn all_that_are_ready_are_named() {
    let (one, two, three) = (queue(), queue(), queue());
    one.put(1).expect("put");
    three.close();
    let (reading, writing) = std::io::pipe().expect("pipe");
    drop(writing);
    assert_eq!(
        wait(&[&one, &two, &reading, &three], None),
        Ok(vec![0, 2, 3])
    );
    assert_eq!(wait(&[&two, &two], Duration::ZERO), Ok(vec![]));
}

#[test]
fn another_process_wakes_whoever_waits() {
    let (go, one) = (queue(), queue());
    let (receiver, sender) = Pipe::one_way::<u32>().expect("pipe");
    let child = fork(|| {
        for i in 0..200 {
            assert_eq!(go.get(), Ok(i));
            if i % 2 == 0 {
                one.put(i).expect("put");
            } else {
                sender.send(i).expect("send");
            }
        }
    });
    let mut select = Select::new();
    assert_eq!((select.add(&one), select.add(&receiver)), (0, 1));
    for i in 0..200 {
        if i % 50 == 0 {
            std::thread::sleep(Duration::from_millis(2));
        }
        go.put(i).expect("put");
        assert_eq!(select.wait(None), Ok(vec![(i % 2) as usize]));
        let got = if i % 2 == 0 {
            one.get().ok()
        } else {
            receiver.recv().ok()
        };
        assert_eq!(got, Some(i));
    }
    assert_eq!(child.join(), 0);
}

#[test]
fn a_process_that_ends_is_ready_and_so_is_what_it_breaks() {
    let (receiver, sender) = Pipe::one_way::<u32>().expect("pipe");
    let idle = queue();
    let child = fork(|| {
        let _keep = &sender;
        std::thread::sleep(Duration::from_secs(1000));
    });
    drop(sender);
    let pid = Pid::from_raw(child.pid()).expect("pid");
    let sentinel = pidfd_open(pid, PidfdFlags::empty()).expect("pidfd");
    assert_eq!(
        wait(&[&idle, &sentinel], Duration::from_millis(5)),
        Ok(vec![])
    );
    child.kill();
    assert_eq!(wait(&[&idle, &sentinel], None), Ok(vec![1]));
    assert_eq!(wait(&[&idle, &receiver], None), Ok(vec![1]));
    assert_eq!(receiver.recv(), Err(RecvError::Eof));
}

#[test]
fn hundreds_of_queues_need_one_descriptor() {
    let queues: Vec<_> = (0..500).map(|_| queue()).collect();
    let mut select = Select::new();
    for queue in &queues {
        select.add(queue);
    }
    let sender = queues[321].clone();
    let thread = std::thread::spawn(move || {
        std::thread::sleep(Duration::from_millis(20));
        sender.put(1).expect("put");
    });
    assert_eq!(select.wait(None), Ok(vec![321]));
    thread.join().expect("thread");
}

#[test]
fn a_killed_waiter_leaves_its_places_to_others() {
    let (one, hello) = (queue(), queue());
    for _ in 0..40 {
        let child = fork(|| {
            hello.put(1).expect("put");
            let _ = wait(&[&one], None);
        });
        assert_eq!(hello.get(), Ok(1));
        std::thread::sleep(Duration::from_millis(2));
        child.kill();
        child.join();
    }
    let sender = one.clone();
    let thread = std::thread::spawn(move || {
        std::thread::sleep(Duration::from_millis(20));
        sender.put(1).expect("put");
    });
    assert_eq!(wait(&[&one], None), Ok(vec![0]));
    thread.join().expect("thread");
}
