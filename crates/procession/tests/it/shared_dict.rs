//! SharedDict against a model, and between processes.
use crate::forked::{forever, fork, until};
use procession::{DictError, Handle, HeapError, Lock, Process, Queue, SharedAtomicU64, SharedDict};
use proptest::prelude::*;
use std::collections::HashMap;
use std::panic::{AssertUnwindSafe, catch_unwind};

#[derive(Clone, Debug)]
enum Step {
    Insert(u8, String),
    Set(u8, String),
    Pop(u8),
    Remove(u8),
    Append(u8, String),
    Drop(u8),
    GetOrInsert(u8, String),
    Clear,
}

fn step() -> impl Strategy<Value = Step> {
    // Few keys, so that they meet; texts beyond 48 bytes, so that sizes differ.
    let key = 0u8..60;
    let text = ".{0,40}";
    prop_oneof![
        8 => (key.clone(), text).prop_map(|(key, text)| Step::Insert(key, text)),
        8 => (key.clone(), text).prop_map(|(key, text)| Step::Set(key, text)),
        6 => key.clone().prop_map(Step::Pop),
        6 => key.clone().prop_map(Step::Remove),
        4 => (key.clone(), text).prop_map(|(key, text)| Step::Append(key, text)),
        2 => key.clone().prop_map(Step::Drop),
        4 => (key, text).prop_map(|(key, text)| Step::GetOrInsert(key, text)),
        1 => Just(Step::Clear),
    ]
}

fn play(dict: &SharedDict<u8, String>, model: &mut HashMap<u8, String>, step: Step) {
    match step {
        Step::Insert(key, text) => {
            assert_eq!(dict.insert(key, text.clone()), Ok(model.insert(key, text)));
        }
        Step::Set(key, text) => {
            assert_eq!(dict.set(key, text.clone()), Ok(()));
            model.insert(key, text);
        }
        Step::Pop(key) => assert_eq!(dict.pop(&key), Ok(model.remove(&key))),
        Step::Remove(key) => assert_eq!(dict.remove(&key), Ok(model.remove(&key).is_some())),
        Step::Append(key, text) => {
            let append = |old: Option<String>| Some(old.unwrap_or_default() + &text);
            assert_eq!(dict.update(&key, append), Ok(()));
            model.entry(key).or_default().push_str(&text);
        }
        Step::Drop(key) => {
            assert_eq!(dict.update(&key, |_| None), Ok(()));
            model.remove(&key);
        }
        Step::GetOrInsert(key, text) => {
            let expected = model.entry(key).or_insert_with(|| text.clone()).clone();
            assert_eq!(dict.get_or_insert(&key, text), Ok(expected));
        }
        Step::Clear => {
            assert_eq!(dict.clear(), Ok(()));
            model.clear();
        }
    }
}

proptest! {
    #[test]
    fn behaves_as_a_hash_map(steps in prop::collection::vec(step(), 0..300)) {
        let dict = SharedDict::new().expect("dict");
        let mut model = HashMap::new();
        for step in steps {
            play(&dict, &mut model, step);
            assert_eq!(dict.len(), model.len());
        }
        let all: HashMap<u8, String> = dict.iter().expect("items").collect();
        prop_assert_eq!(&all, &model);
        let mut keys = dict.keys().expect("keys");
        keys.sort_unstable();
        keys.dedup();
        prop_assert_eq!(keys.len(), model.len());
        prop_assert_eq!(dict.values().expect("values").len(), model.len());
        for key in 0..70 {
            prop_assert_eq!(dict.get(&key), Ok(model.get(&key).cloned()));
            prop_assert_eq!(dict.contains_key(&key), Ok(model.contains_key(&key)));
        }
    }
}

#[test]
fn grows_and_shrinks() {
    let dict = SharedDict::<u64, u64>::new().expect("dict");
    dict.extend((0..20_000).map(|n| (n, n * n)))
        .expect("extend");
    assert_eq!(dict.len(), 20_000);
    assert!((0..20_000).all(|n| dict.get(&n) == Ok(Some(n * n))));
    assert!((0..19_990).all(|n| dict.remove(&n) == Ok(true)));
    let mut left = dict.items().expect("items");
    left.sort_unstable();
    assert_eq!(
        left,
        (19_990..20_000).map(|n| (n, n * n)).collect::<Vec<_>>()
    );
}

const TEXT: &str = "the quick brown fox jumps over the lazy dog and the dog sleeps";

fn count_words((dict, rounds): (SharedDict<String, u64>, u64)) {
    for _ in 0..rounds {
        for word in TEXT.split(' ') {
            let count = |old: Option<u64>| Some(old.unwrap_or(0) + 1);
            dict.update(word, count).expect("update");
        }
    }
}

#[test]
fn four_processes_count_words_together() {
    let dict = SharedDict::new().expect("dict");
    let start = || Process::start(count_words, (dict.clone(), 500)).expect("start");
    let children: Vec<_> = (0..4).map(|_| start()).collect();
    for child in children {
        child.join().expect("join");
    }
    let mut expected = HashMap::new();
    for word in TEXT.split(' ') {
        *expected.entry(word.to_owned()).or_insert(0) += 4 * 500;
    }
    let counted: HashMap<String, u64> = dict.iter().expect("items").collect();
    assert_eq!(counted, expected);
    assert_eq!(dict.len(), expected.len());
}

/// Writers that make tables grow and shrink, readers that must never see anything half.
#[test]
fn readers_see_whole_entries_while_others_write() {
    let dict = SharedDict::<u64, Vec<u64>>::new().expect("dict");
    let whole = |key: u64, value: &[u64]| {
        value.len() == 20 && value.iter().all(|n| *n == value[0]) && value[0] % 100 == key
    };
    let (done, writers) = (SharedAtomicU64::new(0).expect("atomic"), 2);
    let writer = |seed: u64| {
        for round in 0..30 {
            for key in 0..100 {
                let value = vec![(round * 2 + seed) * 100 + key; 20];
                dict.set(key, value).expect("set");
            }
            for key in (seed..100).step_by(3) {
                dict.remove(&key).expect("remove");
            }
        }
        done.fetch_add(1);
        true
    };
    let reader = || {
        while done.load() < writers {
            let items = dict.items().expect("items");
            let one = dict.get(&7).expect("get");
            let fine = items.iter().all(|(key, value)| whole(*key, value))
                && one.is_none_or(|value| whole(7, &value));
            if !fine {
                return false;
            }
        }
        true
    };
    let children = [
        fork(|| writer(0)),
        fork(|| writer(1)),
        fork(reader),
        fork(reader),
    ];
    for child in children {
        assert_eq!(child.join(), 0);
    }
}

#[test]
fn handles_inside_live_as_long_as_the_entry() {
    let dict = SharedDict::<String, (u32, Queue<u32>)>::new().expect("dict");
    let queue = Queue::unbounded().expect("queue");
    queue.put(5).expect("put");
    let name = queue.handle();
    dict.set("work".into(), (1, queue)).expect("set");
    let child = fork(|| {
        let (number, queue) = dict.get("work").expect("get").expect("there");
        number == 1 && queue.get() == Ok(5) && queue.put(6).is_ok()
    });
    assert_eq!(child.join(), 0);
    let (_, queue) = dict.get("work").expect("get").expect("there");
    assert!(dict.remove("work").expect("remove"));
    assert_eq!(queue.get(), Ok(6), "alive without the entry");
    drop(queue);
    crate::wait_until_gone(|| Queue::<u32>::open(name));
}

#[test]
fn handles_may_be_keys() {
    let owners = SharedDict::<Lock, &str>::new().expect("dict");
    let lock = Lock::new().expect("lock");
    owners.set(lock.clone(), "printer").expect("set");
    assert_eq!(owners.contains_key(&lock), Ok(true));
    assert_eq!(owners.contains_key(&Lock::new().expect("lock")), Ok(false));
    let name = lock.handle();
    drop(lock);
    assert_eq!(Lock::open(name).map(|lock| lock.handle()), Ok(name));
    owners.clear().expect("clear");
    crate::wait_until_gone(|| Lock::open(name));
}

#[test]
fn a_panicking_closure_changes_nothing() {
    let dict = SharedDict::<u8, u8>::new().expect("dict");
    dict.set(1, 1).expect("set");
    let update = || dict.update(&1, |_| panic!("on purpose"));
    assert!(catch_unwind(AssertUnwindSafe(update)).is_err());
    assert_eq!(dict.get(&1), Ok(Some(1)));
    assert_eq!(dict.update(&1, |n| n.map(|n| n + 1)), Ok(()));
    assert_eq!(dict.get(&1), Ok(Some(2)));
}

#[test]
fn changes_from_inside_are_refused_and_reads_are_not() {
    let (dict, other) = (
        SharedDict::<u8, u8>::new().expect("dict"),
        SharedDict::<u8, u8>::new().expect("dict"),
    );
    dict.set(2, 5).expect("set");
    let changed = dict.update(&1, |old| {
        assert_eq!(old, None);
        assert_eq!(dict.set(1, 1), Err(DictError::FromInside));
        assert_eq!(dict.clone().remove(&2), Err(DictError::FromInside));
        assert_eq!(dict.clear(), Err(DictError::FromInside));
        assert_eq!(other.set(1, 1), Ok(()));
        assert_eq!(dict.len(), 1);
        dict.get(&2).expect("get")
    });
    assert_eq!((changed, dict.get(&1)), (Ok(()), Ok(Some(5))));
    assert_eq!(dict.set(1, 1), Ok(()));
}

#[test]
fn a_killed_updater_leaves_the_old_value_and_readers_do_not_wait() {
    let dict = SharedDict::<u8, u8>::new().expect("dict");
    dict.set(1, 1).expect("set");
    let inside = SharedAtomicU64::new(0).expect("atomic");
    let child = fork(|| {
        let update = dict.update(&1, |_| {
            inside.store(1);
            forever();
            Some(2)
        });
        update.is_ok()
    });
    until("update", || inside.load() == 1);
    assert_eq!(dict.get(&1), Ok(Some(1)), "while the closure runs");
    assert_eq!(dict.items(), Ok(vec![(1, 1)]));
    child.kill();
    let heir = fork(|| dict.update(&1, |n| n.map(|n| n + 10)).is_ok());
    assert_eq!(heir.join(), 0);
    assert_eq!(dict.get(&1), Ok(Some(11)));
}

#[test]
fn what_cannot_be_read_or_written_is_an_error() {
    let dict = SharedDict::<u8, String>::new().expect("dict");
    dict.set(1, "\u{e4}".into()).expect("set");
    let numbers = SharedDict::<u8, (u64, u64, u64)>::open(dict.handle()).expect("open");
    assert!(matches!(numbers.get(&1), Err(DictError::Decode(_))));
    assert_eq!(dict.get(&1), Ok(Some("\u{e4}".into())));
    let long = SharedDict::<Vec<u8>, u8>::new().expect("dict");
    let error = long.set(vec![0; 1 << 24], 1);
    assert!(matches!(
        error,
        Err(DictError::Heap(HeapError::TooLarge { .. }))
    ));
    assert!(matches!(
        procession::SharedList::<u8>::open(dict.handle()),
        Err(HeapError::WrongKind { .. })
    ));
    let nowhere = Handle::from_bytes([0; 16]);
    assert_eq!(
        SharedDict::<u8, u8>::open(nowhere).err(),
        Some(HeapError::OtherFamily)
    );
}
