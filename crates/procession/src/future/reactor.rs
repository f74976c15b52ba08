//! The threads that sleep for the futures of this process. See the header of `future`.

use super::board::{Board, Errands};
use super::sentinel;
use crate::atomic::Ordering;
use crate::family::patrol;
use crate::heap::myself;
use crate::sys::atfork;
use crate::sys::futex::{self, Any};
use crate::sys::signal::Blocked;
use std::cell::RefCell;
use std::sync::{Mutex, MutexGuard, Once, PoisonError};
use std::time::Duration;

/// First sleep before looking around; each further one is twice as long ...
const FIRST_SLICE: Duration = Duration::from_millis(10);
/// ... up to this.
const LAST_SLICE: Duration = Duration::from_millis(160);
/// A thread without work ends after so long.
pub(super) const IDLE: Duration = Duration::from_millis(500);
/// How often the words are looked at where the kernel cannot sleep on several.
const POLL_EVERY: Duration = Duration::from_millis(1);

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

/// A lane's thread.
fn serve(lane: usize) {
    // Signals are for the program's own threads.
    let _blocked = Blocked::all();
    let mut slice = FIRST_SLICE;
    let mut can_sleep_on_many = true;
    loop {
        let (beds, lingers, call, called) = {
            let board = board();
            let (beds, lingers) = board.beds(lane);
            let Some(lane) = board.lanes.get(lane) else {
                return;
            };
            let call = std::sync::Arc::clone(&lane.call);
            let called = call.load(Ordering::SeqCst);
            (beds, lingers, call, called)
        };
        if beds.is_empty() {
            if !futex::wait(&call, called, IDLE) && retire(lane) {
                return;
            }
            slice = FIRST_SLICE;
            continue;
        }
        let mut words = vec![(&*call, called)];
        words.extend(beds.iter().map(|bed| (bed.spot.word(), bed.expected)));
        let limit = if lingers { FIRST_SLICE } else { slice };
        let ended = if can_sleep_on_many {
            futex::wait_any(&words, limit)
        } else {
            Any::Unsupported
        };
        match ended {
            Any::Woken(0) => slice = FIRST_SLICE,
            Any::Woken(number) => {
                slice = FIRST_SLICE;
                with_board(|board, errands| board.rouse(&beds, Some(number - 1), errands));
            }
            Any::Changed => with_board(|board, errands| board.rouse(&beds, None, errands)),
            Any::TimedOut => {
                slice = (slice * 2).min(LAST_SLICE);
                look_around(lane);
            }
            Any::Unsupported => {
                can_sleep_on_many = false;
                futex::wait(&call, called, POLL_EVERY);
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
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        // Fails only for lack of memory; then futures of a forked child wait for ever.
        let _ = atfork::on_fork(before_fork, after_fork, in_child);
    });
}

extern "C" fn before_fork() {
    HELD.set(Some((board(), sentinel::lock())));
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
