//! The threads that sleep for the futures of this process. See the header of `future`.

use super::board::{Bed, Board, Errands};
use super::sentinel;
use crate::atomic::{AtomicU32, Ordering};
use crate::family::{self, patrol};
use crate::heap::myself;
use crate::sys::atfork::Handlers;
use crate::sys::futex::{self, Any};
use crate::sys::signal::Blocked;
use std::cell::RefCell;
use std::sync::atomic::AtomicBool;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

/// First sleep before looking around; each further one is twice as long ...
const FIRST_SLICE: Duration = Duration::from_millis(10);
/// ... up to this.
const LAST_SLICE: Duration = Duration::from_millis(160);
/// A thread without work ends after so long.
pub(super) const IDLE: Duration = Duration::from_millis(500);
/// How often the words are looked at where the kernel cannot sleep on several.
const POLL_EVERY: Duration = Duration::from_millis(1);

/// Until the kernel refuses.
static CAN_SLEEP_ON_MANY: AtomicBool = AtomicBool::new(true);

static BOARD: Mutex<Board> = Mutex::new(Board::new());

pub(super) fn board() -> MutexGuard<'static, Board> {
    BOARD.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Does something with the board, then what follows from it.
pub(super) fn with_board<R>(change: impl FnOnce(&mut Board, &mut Errands) -> R) -> R {
    let mut errands = Errands::default();
    let result = change(&mut board(), &mut errands);
    let serve = errands.serve;
    errands.run();
    if let Some(lane) = serve {
        start_thread(lane);
    }
    result
}

fn start_thread(lane: usize) {
    let thread = std::thread::Builder::new().name("procession-wait".to_owned());
    if thread.spawn(move || serve(lane)).is_err() {
        // Costs time, never an answer: the futures poll themselves.
        with_board(|board, errands| board.give_up_serving(lane, errands));
    }
}

/// What a lane's thread does until it is called, woken, or tired.
struct Night {
    beds: Vec<Bed>,
    /// Some are for nobody: they are not kept for long.
    lingers: bool,
    call: Arc<AtomicU32>,
    called: u32,
}

impl Night {
    fn prepare(lane: usize) -> Option<Self> {
        let board = board();
        let (beds, lingers) = board.beds(lane);
        let call = Arc::clone(&board.lanes.get(lane)?.call);
        // Under the lock: whoever puts something on the board later calls later.
        let called = call.load(Ordering::SeqCst);
        Some(Self {
            beds,
            lingers,
            call,
            called,
        })
    }

    fn sleep(&self, slice: Duration) -> Any {
        if !CAN_SLEEP_ON_MANY.load(Ordering::Relaxed) {
            return Any::Unsupported;
        }
        let mut words = vec![(&*self.call, self.called)];
        words.extend(self.beds.iter().map(|bed| (bed.spot.word(), bed.expected)));
        let limit = if self.lingers { FIRST_SLICE } else { slice };
        futex::wait_any(&words, limit)
    }

    /// Sleeps until there is work; `false`: there was none for long.
    fn wait_for_call(&self, limit: Duration) -> bool {
        futex::wait(&self.call, self.called, limit)
    }

    fn rouse(&self, woken: Option<usize>) {
        with_board(|board, errands| board.rouse(&self.beds, woken, errands));
    }
}

/// A lane's thread.
fn serve(lane: usize) {
    // Signals are for the program's own threads.
    let _blocked = Blocked::all();
    let mut slice = FIRST_SLICE;
    while let Some(night) = Night::prepare(lane) {
        if night.beds.is_empty() {
            slice = FIRST_SLICE;
            if !night.wait_for_call(IDLE) && retire(lane) {
                return;
            }
            continue;
        }
        match night.sleep(slice) {
            Any::Woken(number) => {
                slice = FIRST_SLICE;
                // Number 0 is the call.
                night.rouse(number.checked_sub(1));
            }
            Any::Changed => night.rouse(None),
            Any::TimedOut => {
                slice = (slice * 2).min(LAST_SLICE);
                look_around(lane);
            }
            Any::Unsupported => {
                CAN_SLEEP_ON_MANY.store(false, Ordering::Relaxed);
                night.wait_for_call(POLL_EVERY);
                look_around(lane);
            }
        }
    }
}

fn look_around(lane: usize) {
    patrol();
    with_board(|board, errands| board.look_around(lane, errands));
}

/// Ends the lane's thread, unless there is work again.
fn retire(lane: usize) -> bool {
    let mut board = board();
    let Some(lane) = board.lanes.get_mut(lane) else {
        return true;
    };
    lane.is_served = lane.spots != 0;
    !lane.is_served
}

thread_local! {
    static HELD: RefCell<Option<(MutexGuard<'static, Board>, sentinel::Guard)>> = const { RefCell::new(None) };
}

/// Has forks handled, from the first wait on.
pub(super) fn mind_forks() {
    static HANDLERS: Handlers = Handlers::new(before_fork, after_fork, in_child);
    family::mind_forks(&HANDLERS);
}

extern "C" fn before_fork() {
    if HELD.with_borrow(Option::is_none) {
        HELD.set(Some((board(), sentinel::lock())));
    }
}

extern "C" fn after_fork() {
    HELD.take();
}

extern "C" fn in_child() {
    if let Some((mut board, mut sentinels)) = HELD.take() {
        board.forget(myself().is_some());
        sentinels.forget();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Queue, Semaphore};
    use std::future::Future;
    use std::pin::pin;
    use std::task::{Context, Poll, Wake};

    struct Unpark(std::thread::Thread);

    impl Wake for Unpark {
        fn wake(self: Arc<Self>) {
            self.0.unpark();
        }
    }

    fn block_on<T>(future: impl Future<Output = T>) -> T {
        let mut future = pin!(future);
        let waker = Arc::new(Unpark(std::thread::current())).into();
        loop {
            match future.as_mut().poll(&mut Context::from_waker(&waker)) {
                Poll::Ready(result) => return result,
                Poll::Pending => std::thread::park(),
            }
        }
    }

    fn ping_pong() {
        let (there, back) = (
            Queue::<u32>::unbounded().expect("queue"),
            Queue::<u32>::unbounded().expect("queue"),
        );
        std::thread::scope(|scope| {
            scope.spawn(|| {
                for i in 0..100 {
                    assert_eq!(block_on(there.get_async()), Ok(i));
                    back.put(i).expect("put");
                }
            });
            for i in 0..100 {
                there.put(i).expect("put");
                assert_eq!(block_on(back.get_async()), Ok(i));
            }
        });
    }

    #[test]
    fn works_where_the_kernel_cannot_sleep_on_several_words() {
        CAN_SLEEP_ON_MANY.store(false, Ordering::Relaxed);
        ping_pong();
        CAN_SLEEP_ON_MANY.store(true, Ordering::Relaxed);
        ping_pong();
    }

    #[test]
    fn threads_hand_permits_to_each_other() {
        let semaphore = Semaphore::new(1).expect("semaphore");
        std::thread::scope(|scope| {
            for _ in 0..4 {
                scope.spawn(|| (0..200).for_each(|_| drop(block_on(semaphore.acquire_async()))));
            }
            (0..200).for_each(|_| drop(semaphore.acquire()));
        });
        assert_eq!(semaphore.value(), 1);
    }
}
