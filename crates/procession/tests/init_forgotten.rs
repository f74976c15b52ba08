//! A program that starts a child but never calls `init()`: the child must not run it again and again.
//! (A test without libtest's `main`: this `main` is the program.)
use procession::{JoinFailure, Process, Queue};

fn main() {
    let touch_nothing = std::env::var_os("TOUCH_NOTHING").is_some();
    if touch_nothing {
        // The child: ends without having used the crate.
        return;
    }
    let queue = Queue::<u32>::unbounded();
    let Ok(queue) = queue else { panic!("no queue") };
    for (variable, code) in [("UNUSED", 198), ("TOUCH_NOTHING", 0)] {
        let process = Process::builder(|queue: Queue<u32>| queue.put(1).is_ok(), queue.clone())
            .env(variable, "1")
            .stderr(procession::Stdio::Null)
            .start()
            .expect("start");
        let error = process.join().expect_err("no result");
        assert_eq!(error.failure, JoinFailure::InitForgotten { code });
        assert!(error.to_string().contains("procession::init()"), "{error}");
    }
    println!("ok");
}
