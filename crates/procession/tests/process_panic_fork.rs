//! A fork while another thread panics, in a process that has not caught a panic yet: a program of its own, since the panic hook is the whole process's.

use procession::Process;
use std::panic;
use std::sync::mpsc;
use std::time::Duration;

#[test]
#[expect(unsafe_code, reason = "fork with threads")]
fn a_child_does_not_wait_for_a_thread_that_panicked() {
    let (says, hears) = mpsc::channel();
    panic::set_hook(Box::new(move |_| {
        says.send(()).expect("send");
        // The hooks are locked as long as one runs: longer than a fork that would not wait for it.
        std::thread::sleep(Duration::from_millis(50));
    }));
    let panicking = std::thread::spawn(|| panic!("in the middle of a fork"));
    hears.recv().expect("a panic");
    // SAFETY: the child only returns.
    let child = unsafe { Process::fork_with_threads(|| 7) }.expect("fork");
    let result = child.join_timeout(Duration::from_secs(20));
    let _ = child.kill();
    assert_eq!(result.expect("join"), 7);
    assert!(panicking.join().is_err());
}
