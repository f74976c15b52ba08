//! Pipes: creation, sending, receiving, and the end of an end.

use super::super::{Fault, Landing, Shared};
use super::queue::WORDS;
use super::stage::{Act, Helper};
use crate::{Connection, Pipe, Plain, RecvError, SendError};
use std::sync::atomic::{AtomicU64, Ordering};
use zerocopy::{FromBytes, Immutable, IntoBytes};

type End<T> = Connection<T, T, Plain>;

fn pipe<T: FromBytes + IntoBytes + Immutable>() -> (End<T>, End<T>) {
    Pipe::with_codec::<T, T, Plain>().expect("pipe")
}

fn received<T: FromBytes + IntoBytes + Immutable>(end: &End<T>) -> Result<Vec<u64>, Fault> {
    let mut found = Vec::new();
    loop {
        match end.try_recv() {
            Ok(message) => {
                let words: Vec<u64> = message
                    .as_bytes()
                    .chunks_exact(8)
                    .map(|word| u64::from_ne_bytes(word.try_into().expect("8 bytes")))
                    .collect();
                if words.iter().any(|word| *word != words[0]) {
                    return Err("a damaged message".into());
                }
                found.push(words[0]);
            }
            Err(RecvError::Empty | RecvError::Eof) => return Ok(found),
            Err(error) => return Err(format!("recv: {error:?}").into()),
        }
    }
}

/// The survivor has sent two, the victim sends a third.
fn sending<T>(name: &str, make: fn(u64) -> T) -> Act<(End<T>, End<T>), T>
where
    T: FromBytes + IntoBytes + Immutable + 'static,
{
    let props = move || {
        let (left, right) = pipe::<T>();
        (0..2).for_each(|number| assert!(left.try_send(make(number)).is_ok()));
        (left, right)
    };
    let part = move |_: &(End<T>, End<T>)| {
        let (left, right) = pipe::<T>();
        assert!(left.try_send(make(1)).is_ok() && right.recv().is_ok());
        make(2)
    };
    Act::new(name, props, part, |(left, _), message| {
        assert!(left.send(message).is_ok());
    })
    .judge(move |(left, right), killed| {
        let found = received(&right)?;
        let fine = found == [0, 1, 2] || (found == [0, 1] && killed.landing != Landing::Finished);
        if !fine {
            return Err(format!("in the pipe: {found:?}").into());
        }
        goes_on(&left, &right, make)
    })
}

fn goes_on<T>(left: &End<T>, right: &End<T>, make: fn(u64) -> T) -> Result<(), Fault>
where
    T: FromBytes + IntoBytes + Immutable,
{
    for (from, to) in [(left, right), (right, left)] {
        if from.try_send(make(9)).is_err() || received(to)? != [9] {
            return Err(Fault::Wedged("the pipe does not go on".into()));
        }
    }
    Ok(())
}

fn receiving<T>(name: &str, make: fn(u64) -> T) -> Act<(End<T>, End<T>)>
where
    T: FromBytes + IntoBytes + Immutable + 'static,
{
    let props = move || {
        let (left, right) = pipe::<T>();
        (0..3).for_each(|number| assert!(left.try_send(make(number)).is_ok()));
        (left, right)
    };
    let part = move |_: &(End<T>, End<T>)| {
        let (left, right) = pipe::<T>();
        assert!(left.try_send(make(1)).is_ok() && right.recv().is_ok());
    };
    Act::new(name, props, part, |(_, right), ()| {
        assert!(right.recv().is_ok());
    })
    .judge(move |(left, right), killed| {
        let found = received(&right)?;
        let fine = found == [1, 2] || (found == [0, 1, 2] && killed.landing != Landing::Finished);
        if !fine {
            return Err(format!("in the pipe: {found:?}").into());
        }
        goes_on(&left, &right, make)
    })
}

#[test]
fn crash_send_small() {
    sending("pipe send, small", |number| number).play();
}

#[test]
fn crash_send_block() {
    sending("pipe send, block", |number| [number; WORDS]).play_thinned();
}

#[test]
fn crash_recv_small() {
    receiving("pipe recv, small", |number| number).play();
}

#[test]
fn crash_recv_block() {
    receiving("pipe recv, block", |number| [number; WORDS]).play_thinned();
}

fn creating_and_dropping() -> Act<()> {
    let whole = || drop(pipe::<u64>());
    Act::new(
        "pipe create, drop both ends",
        || (),
        move |()| whole(),
        move |(), ()| whole(),
    )
}

#[test]
fn crash_create_and_drop() {
    creating_and_dropping().play_thinned();
}

#[test]
fn crash_reapers_of_pipe_makers() {
    creating_and_dropping().play_with_dying_reapers(13);
}

/// The victim has the only hold on an end and drops it; somebody sleeps in `recv` on the other one.
#[test]
fn crash_drop_of_an_end() {
    let props = || {
        let (left, right) = pipe::<u64>();
        let told = Shared::<AtomicU64>::new();
        assert!(left.try_send(5).is_ok());
        // The victim will find its hold in the message; the survivor keeps none.
        let post = crate::Queue::<End<u64>>::unbounded().expect("queue");
        assert!(post.put(left).is_ok());
        let helper = Helper::start(&mut || {
            assert_eq!(right.recv(), Ok(5));
            let end = right.recv();
            let refused = matches!(right.send(1), Err(SendError::Broken(1)));
            told.store(
                1 + u64::from(end == Err(RecvError::Eof) && refused),
                Ordering::SeqCst,
            );
        });
        helper.until_asleep();
        (post, right, told, helper)
    };
    Act::new(
        "pipe drop of an end, a receiver asleep",
        props,
        |(post, ..)| post.get().expect("the end"),
        |_, left| drop(left),
    )
    .judge(|(post, right, told, helper), _| {
        helper.joins()?;
        if told.load(Ordering::SeqCst) != 2 {
            return Err("no end of file on the other side".into());
        }
        if right.try_recv() != Err(RecvError::Empty) && right.try_recv() != Err(RecvError::Eof) {
            return Err("something in an empty pipe".into());
        }
        drop(post);
        Ok(())
    })
    .play_thinned();
}
