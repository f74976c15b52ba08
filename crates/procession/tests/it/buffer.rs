//! Buffers inside messages: any place, any way, and nothing left behind.
use crate::process::alone;
use procession::{Buffer, Pipe, Process, Queue, StartMethod};
use serde::{Deserialize, Serialize};
use std::collections::HashMap;

#[derive(Debug, Serialize, Deserialize)]
struct Picture {
    name: String,
    planes: Vec<Buffer>,
    thumbnail: Option<Buffer>,
    meta: HashMap<String, (u32, Buffer)>,
}

fn filled(len: usize, byte: u8) -> Buffer {
    let mut buffer = Buffer::new(len).expect("buffer");
    buffer.fill(byte);
    buffer
}

fn picture() -> Picture {
    let planes = (0..3).map(|plane| filled(200_000, plane)).collect();
    let meta = [("exif".to_owned(), (1, filled(10, 9)))].into();
    Picture {
        name: "sunset".to_owned(),
        planes,
        thumbnail: Some(filled(5000, 8)),
        meta,
    }
}

fn is_whole(picture: &Picture) -> bool {
    let all = |buffer: &Buffer, len: usize, byte: u8| {
        buffer.len() == len && buffer.iter().all(|found| *found == byte)
    };
    let planes = picture.planes.iter().zip(0..);
    picture.name == "sunset"
        && picture.planes.len() == 3
        && planes
            .into_iter()
            .all(|(plane, byte)| all(plane, 200_000, byte))
        && picture
            .thumbnail
            .as_ref()
            .is_some_and(|thumbnail| all(thumbnail, 5000, 8))
        && all(&picture.meta["exif"].1, 10, 9)
}

fn start<A, R>(method: StartMethod, function: fn(A) -> R, arguments: A) -> Process<R>
where
    A: Serialize + serde::de::DeserializeOwned,
    R: Serialize + serde::de::DeserializeOwned,
{
    let builder = Process::builder(function, arguments).start_method(method);
    // SAFETY: the functions of these tests use only the allocator, the engine and system calls.
    let builder = unsafe { builder.allow_threads() };
    builder.start().expect("start")
}

#[test]
fn anywhere_in_a_value_through_queue_and_pipe() {
    let queue = Queue::<Picture>::unbounded().expect("queue");
    let (receiver, sender) = Pipe::one_way::<Picture>().expect("pipe");
    for _ in 0..3 {
        queue.put(picture()).expect("put");
        sender.send(queue.get().expect("get")).expect("send");
        assert!(is_whole(&receiver.recv().expect("recv")));
    }
}

#[test]
fn a_refused_put_gives_the_value_back() {
    let queue = Queue::<(u8, Buffer)>::new(1).expect("queue");
    queue.put((1, filled(5000, 1))).expect("put");
    let Err(procession::PutError::Full((2, back))) = queue.try_put((2, filled(5000, 2))) else {
        panic!("no room was to be had");
    };
    assert!(back.iter().all(|byte| *byte == 2));
}

#[test]
fn as_argument_and_result_of_a_process() {
    let _alone = alone();
    let brighten = |(mut picture, queue): (Picture, Queue<Buffer>)| {
        assert!(is_whole(&picture));
        let thumbnail = picture.thumbnail.take().expect("thumbnail");
        queue.put(thumbnail).expect("put");
        picture.thumbnail = Some(filled(5000, 8));
        picture
    };
    for method in [StartMethod::Spawn, StartMethod::Forkserver] {
        let queue = Queue::<Buffer>::unbounded().expect("queue");
        let process = start(method, brighten, (picture(), queue.clone()));
        let result = process.join().expect("result");
        assert!(is_whole(&result), "{method:?}");
        assert_eq!(&queue.get().expect("get")[..], &[8; 5000]);
    }
}

#[test]
fn as_result_of_a_forked_process() {
    let _alone = alone();
    let process = start(StartMethod::Fork, |()| picture(), ());
    assert!(is_whole(&process.join().expect("result")));
}

#[test]
fn a_sender_that_is_killed_leaves_whole_messages_or_none() {
    let _alone = alone();
    let send = |queue: Queue<(u64, Buffer)>| {
        for number in 0_u64.. {
            let mut buffer = filled(20_000, 0);
            buffer[..8].copy_from_slice(&number.to_ne_bytes());
            queue.put((number, buffer)).expect("put");
        }
    };
    for rounds in 1..5 {
        let queue = Queue::<(u64, Buffer)>::new(8).expect("queue");
        let process = start(StartMethod::Forkserver, send, queue.clone());
        let mut expected = 0;
        let mut check = |(number, buffer): (u64, Buffer)| {
            assert_eq!(number, expected);
            assert_eq!(buffer[..8], number.to_ne_bytes());
            expected += 1;
        };
        for _ in 0..rounds * 10 {
            check(queue.get().expect("get"));
        }
        process.kill().expect("kill");
        assert!(process.join().is_err());
        while let Ok(message) = queue.try_get() {
            check(message);
        }
    }
}
