//! Buffers in packed values: copied or moved in, moved or copied out, once.

use super::*;
use crate::channel::{DecodeError, EncodeError, pack, pack_consuming, unpack, unpack_keeping};
use crate::heap::Hold;
use crate::sys::fork::{Fork, exit_now, fork};
use std::sync::{Arc, Barrier};

type Packed = (Vec<u8>, Vec<Hold>);

fn buffer(len: usize) -> Buffer {
    let mut buffer = Buffer::new(len).expect("buffer");
    for (at, byte) in buffer.iter_mut().enumerate() {
        *byte = (at * 7 + len) as u8;
    }
    buffer
}

fn packed<T: Serialize>(value: &T) -> Packed {
    let mut bytes = Vec::new();
    let holds = pack(value, &mut bytes).expect("pack");
    (bytes, holds)
}

fn consumed<T: Serialize>(value: T) -> Packed {
    let mut bytes = Vec::new();
    let holds = pack_consuming(value, &mut bytes).expect("pack");
    (bytes, holds)
}

fn refusal<T>(result: Result<T, DecodeError>) -> String {
    match result {
        Ok(_) => panic!("it was received"),
        Err(error) => error.to_string(),
    }
}

const SIZES: [usize; 6] = [0, 1, 64, 5000, 40_000, 300_000];

#[test]
fn a_copy_travels_and_the_original_stays() {
    for len in SIZES {
        let original = buffer(len);
        let (bytes, holds) = packed(&("name", &original));
        assert_eq!(holds.len(), 1);
        let (name, received): (String, Buffer) = unpack(&bytes).expect("unpack");
        assert_eq!((name.as_str(), &received[..]), ("name", &original[..]));
        assert_ne!(received.as_ptr(), original.as_ptr());
    }
}

#[test]
fn what_is_consumed_is_moved_both_ways() {
    for len in SIZES {
        let original = buffer(len);
        let (place, content) = (original.as_ptr(), original.to_vec());
        let (bytes, _holds) = consumed(vec![original]);
        let received: Vec<Buffer> = unpack(&bytes).expect("unpack");
        assert_eq!(
            (received[0].as_ptr(), &received[0][..]),
            (place, &content[..])
        );
    }
}

#[test]
fn a_message_gives_a_buffer_once() {
    let (bytes, _holds) = packed(&buffer(5000));
    let mut first: Buffer = unpack(&bytes).expect("unpack");
    first.fill(1);
    for again in [unpack::<Buffer>, unpack_keeping::<Buffer>] {
        let reason = refusal(again(&bytes));
        assert!(reason.contains("received already"), "{reason}");
    }
    assert!(first.iter().all(|byte| *byte == 1));
}

#[test]
fn a_message_that_is_kept_gives_copies() {
    let (bytes, _holds) = packed(&buffer(5000));
    let mut copies = Vec::new();
    for _ in 0..3 {
        let mut copy: Buffer = unpack_keeping(&bytes).expect("unpack");
        assert_eq!(&copy[..], &buffer(5000)[..]);
        copy.fill(9);
        copies.push(copy);
    }
    let last: Buffer = unpack(&bytes).expect("unpack");
    assert_eq!(&last[..], &buffer(5000)[..]);
}

#[test]
fn a_message_that_nobody_receives_frees_what_is_in_it() {
    let (bytes, holds) = packed(&buffer(5000));
    drop(holds);
    let reason = refusal(unpack::<Buffer>(&bytes));
    assert!(reason.contains("no longer exists"), "{reason}");
    let object = Shared::create(|_: &SharedBuffer, _| ()).expect("object");
    let block = Block::alloc(5000).expect("block");
    let reference = block.reference();
    fill(&object, block);
    assert!(Block::peek(reference).is_ok());
    drop(object);
    assert!(Block::peek(reference).is_err());
}

#[test]
fn outside_a_message_it_is_refused() {
    let error = postcard::to_allocvec(&buffer(10)).expect_err("no message");
    assert_eq!(error, postcard::Error::SerdeSerCustom);
    let lock = crate::Lock::new().expect("lock");
    let (bytes, _holds) = packed(&lock);
    let reason = refusal(unpack::<Buffer>(&bytes));
    assert!(reason.contains("names a Lock"), "{reason}");
}

#[test]
fn one_buffer_twice_in_a_value_is_moved_and_copied() {
    struct Twice(Buffer);
    impl Serialize for Twice {
        fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
            (&self.0, &self.0).serialize(serializer)
        }
    }
    let (bytes, _holds) = consumed(Twice(buffer(5000)));
    let (first, second): (Buffer, Buffer) = unpack(&bytes).expect("unpack");
    assert_eq!(&first[..], &second[..]);
    assert_ne!(first.as_ptr(), second.as_ptr());
}

#[test]
fn a_buffer_that_outlives_its_value_is_not_given_away() {
    struct Kept(Arc<Buffer>);
    impl Serialize for Kept {
        fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
            self.0.serialize(serializer)
        }
    }
    let kept = Arc::new(buffer(5000));
    let packed = pack_consuming(Kept(Arc::clone(&kept)), &mut Vec::new());
    match packed {
        Err(EncodeError::Serialize(reason)) => assert!(reason.contains("outlives"), "{reason}"),
        other => panic!("{other:?}"),
    }
    assert_eq!(&kept[..], &buffer(5000)[..]);
    // Nothing is expected any more: a last drop frees it.
    let reference = kept.block().reference();
    drop(kept);
    assert!(Block::peek(reference).is_err());
}

/// A value that packs and sends others while it is packed.
struct Nested(Buffer);

impl Serialize for Nested {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let (inner, _inner_holds) = consumed(buffer(100));
        let (copied, _copied_holds) = packed(&self.0);
        assert_eq!(unpack::<Buffer>(&inner).expect("inner").len(), 100);
        let copy: Buffer = unpack(&copied).expect("copied");
        assert_eq!(&copy[..], &self.0[..]);
        self.0.serialize(serializer)
    }
}

#[test]
fn messages_inside_messages_do_not_mix() {
    let original = buffer(5000);
    let place = original.as_ptr();
    let (bytes, _holds) = consumed(Nested(original));
    let received: Buffer = unpack(&bytes).expect("unpack");
    assert_eq!(received.as_ptr(), place);
}

#[test]
fn a_failure_leaves_nothing_behind() {
    struct Fails(Buffer);
    impl Serialize for Fails {
        fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
            self.0.serialize(serializer)?;
            Err(serde::ser::Error::custom("on purpose"))
        }
    }
    let value = Fails(buffer(5000));
    let reference = value.0.block().reference();
    assert!(pack_consuming(value, &mut Vec::new()).is_err());
    assert!(Block::peek(reference).is_err());
    assert_eq!(HANDING_OVER.get(), 0);
    assert!(EXPECTED.with_borrow(Vec::is_empty));
}

#[test]
fn one_of_many_threads_gets_it() {
    for _ in 0..50 {
        let (bytes, _holds) = packed(&buffer(5000));
        let start = Barrier::new(4);
        let received = std::thread::scope(|scope| {
            let receive = || {
                start.wait();
                unpack::<Buffer>(&bytes).is_ok()
            };
            let threads: Vec<_> = (0..4).map(|_| scope.spawn(receive)).collect();
            let results = threads.into_iter().map(|thread| thread.join());
            results
                .filter(|result| *result.as_ref().expect("no panic"))
                .count()
        });
        assert_eq!(received, 1);
    }
}

#[test]
#[expect(unsafe_code, reason = "fork")]
fn one_of_many_processes_gets_it() {
    let (bytes, _holds) = packed(&buffer(5000));
    let children: Vec<_> = (0..6)
        .map(|_| {
            // SAFETY: the child uses the engine and the allocator only, as a forked child of ours may.
            match unsafe { fork() }.expect("fork") {
                Fork::Child => exit_now(i32::from(unpack::<Buffer>(&bytes).is_ok())),
                Fork::Parent(child) => child,
            }
        })
        .collect();
    let codes = children.iter().map(|child| child.pidfd.wait_status().ok());
    let codes: Vec<_> = codes.collect();
    let received = Some(crate::sys::pidfd::ExitStatus::Exited(1));
    assert_eq!(
        codes.iter().filter(|code| **code == received).count(),
        1,
        "{codes:?}"
    );
}

#[test]
fn a_claim_of_the_dead_is_worth_nothing() {
    let (bytes, _holds) = packed(&buffer(5000));
    let handle = Handle::from_bytes(unpack(&bytes).expect("a handle"));
    let object = Shared::<SharedBuffer>::open(handle).expect("object");
    let dead = Owner::new(1023, 12345);
    object.claimer.store(dead.to_word(), Ordering::SeqCst);
    let received: Buffer = unpack(&bytes).expect("unpack");
    assert_eq!(&received[..], &buffer(5000)[..]);
    assert_eq!(object.claimer.load(Ordering::SeqCst), me().to_word());
}

#[test]
fn a_mangled_object_gives_an_error() {
    let whole = || {
        let (bytes, holds) = packed(&buffer(5000));
        let handle = Handle::from_bytes(unpack(&bytes).expect("a handle"));
        let object = Shared::<SharedBuffer>::open(handle).expect("object");
        (bytes, holds, object)
    };
    for block in [u64::MAX, 1, 1 << 62, (1 << 62) | 12345] {
        let (bytes, _holds, object) = whole();
        let mine = object.block.swap(block, Ordering::SeqCst);
        assert!(unpack_keeping::<Buffer>(&bytes).is_err());
        assert!(unpack::<Buffer>(&bytes).is_err());
        object.block.store(mine, Ordering::SeqCst);
    }
    let (bytes, _holds, object) = whole();
    object.len.store(u64::MAX, Ordering::SeqCst);
    assert!(unpack_keeping::<Buffer>(&bytes).is_err());
    let received: Buffer = unpack(&bytes).expect("unpack");
    assert!(received.len() < 10_000);
}

#[test]
fn a_sender_knows_the_envelope_without_a_search() {
    let carrier = crate::Queue::<(u8, Buffer)>::unbounded().expect("queue");
    carrier.put((1, buffer(5000))).expect("put");
    let (bytes, holds) = packed(&buffer(5000));
    let block = crate::channel::pack_block(&bytes, &holds).expect("block");
    let envelope = block.reference();
    let handle = holds[0].handle();
    let heap = the_heap();
    let lists = |generation| heap.lists(envelope, handle.index(), generation);
    assert!(lists(handle.generation()) && !lists(handle.generation() ^ 1));
    drop(holds);
    assert!(Shared::<SharedBuffer>::open(handle).is_ok());
    drop(block);
    assert!(!lists(handle.generation()));
    assert!(Shared::<SharedBuffer>::open(handle).is_err());
    assert_eq!(&carrier.get().expect("get").1[..], &buffer(5000)[..]);
}
