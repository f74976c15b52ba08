//! Letters: a message that was put together piece by piece, with a block that moves and an object that is shared, is there whole or not at all.

use super::super::{Fault, Landing};
use super::stage::Act;
use crate::channel::{Buffer, Letter, Packed};
use crate::{GetError, Plain, PutError, Queue};

type Post = Queue<Letter, Packed>;
type Object = Queue<u64, Plain>;

/// Of the block that moves: not inline.
const LEN: usize = 10_000;

/// What goes into a letter.
struct Contents {
    number: u64,
    block: Buffer,
    object: Object,
}

impl Contents {
    fn new(number: u64) -> Self {
        let mut block = Buffer::new(LEN).expect("buffer");
        block.fill(number as u8);
        let object = Queue::unbounded().expect("queue");
        object.put(number).expect("put");
        Self {
            number,
            block,
            object,
        }
    }

    /// The letter, and the object, which stays the writer's, too.
    fn letter(self) -> (Letter, Object) {
        let Self {
            number,
            block,
            object,
        } = self;
        let mut letter = Letter::new();
        letter.bytes_mut().extend_from_slice(&number.to_ne_bytes());
        letter.push_moving(block).expect("push");
        letter.push(&object).expect("push");
        (letter, object)
    }
}

/// The number of a whole letter.
fn read(letter: &Letter) -> Result<u64, Fault> {
    let damaged = |error: crate::DecodeError| Fault::from(error.to_string());
    let head = letter.bytes().map_err(damaged)?.first_chunk();
    let number = u64::from_ne_bytes(*head.ok_or("a letter without its number")?);
    let (block, end) = letter.read::<Buffer>(8).map_err(damaged)?;
    let (object, end) = letter.read::<Object>(end).map_err(damaged)?;
    let whole = block.len() == LEN
        && block.iter().all(|byte| *byte == number as u8)
        && object.try_get() == Ok(number)
        && letter.bytes().map_err(damaged)?.len() == end;
    if whole {
        Ok(number)
    } else {
        Err(format!("letter {number} is damaged").into())
    }
}

fn post(max: usize, numbers: std::ops::Range<u64>) -> Post {
    let post = Queue::new(max).expect("queue");
    for number in numbers {
        assert!(post.try_put(Contents::new(number).letter().0).is_ok());
    }
    post
}

fn drain(post: &Post) -> Result<Vec<u64>, Fault> {
    let mut numbers = Vec::new();
    loop {
        match post.try_get() {
            Ok(letter) => numbers.push(read(&letter)?),
            Err(GetError::Empty) => return Ok(numbers),
            Err(error) => return Err(format!("get: {error:?}, behind {numbers:?}").into()),
        }
    }
}

/// Once through, for caches and scratch space; what the victim sends.
fn warm() -> Contents {
    let other = post(0, 1..2);
    assert_eq!(drain(&other), Ok(vec![1]));
    Contents::new(2)
}

fn works(post: &Post) -> Result<(), Fault> {
    assert!(post.try_put(Contents::new(9).letter().0).is_ok());
    if drain(post)? == [9] {
        Ok(())
    } else {
        Err("the queue does not go on".into())
    }
}

fn sending() -> Act<Post, Contents> {
    Act::new(
        "letter packed and put",
        || post(0, 0..1),
        |_| warm(),
        |post, contents| {
            let (letter, object) = contents.letter();
            // Not dropped: the last holder of an object searches all envelopes, a walk that "envelope fill, objects handed over" is about.
            std::mem::forget((post.try_put(letter), object));
        },
    )
    .judge(|post, killed| {
        let found = drain(&post)?;
        let fine = found == [0, 2] || (found == [0] && killed.landing != Landing::Finished);
        if !fine {
            return Err(format!("letters there: {found:?}").into());
        }
        works(&post)
    })
}

fn receiving() -> Act<Post> {
    Act::new(
        "letter taken and read",
        || post(0, 0..2),
        |_| drop(warm()),
        |post, ()| {
            let letter = post.try_get().expect("a letter");
            let (block, end) = letter.read::<Buffer>(8).expect("the block");
            let (object, _) = letter.read::<Object>(end).expect("the object");
            // What the victim holds is the reaper's.
            std::mem::forget((letter, block, object));
        },
    )
    .judge(|post, killed| {
        let found = drain(&post)?;
        let fine = found == [1] || (found == [0, 1] && killed.landing != Landing::Finished);
        if !fine {
            return Err(format!("letters there: {found:?}").into());
        }
        works(&post)
    })
}

#[test]
fn crash_letter_sent() {
    sending().play_thinned();
}

#[test]
fn crash_letter_received() {
    receiving().play_thinned();
}

#[test]
fn crash_reapers_of_letter_writers() {
    sending().play_with_dying_reapers(23);
    receiving().play_with_dying_reapers(23);
}

/// It comes back to the victim, and is gone with it.
#[test]
fn crash_letter_without_room() {
    Act::new(
        "letter put back and forth, no room",
        || post(1, 0..1),
        |_| warm().letter().0,
        |post, letter| {
            let Err(PutError::Full(letter)) = post.try_put(letter) else {
                panic!("it is full")
            };
            std::mem::forget(letter);
        },
    )
    .judge(|post, _| {
        let found = drain(&post)?;
        if found != [0] {
            return Err(format!("letters there: {found:?}").into());
        }
        works(&post)
    })
    .play_thinned();
}
