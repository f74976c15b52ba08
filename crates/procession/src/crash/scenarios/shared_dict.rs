//! Dicts: each change happened or did not, the other entries are untouched, the count is right, no memory is lost.

use super::super::{Fault, Killed, Landing};
use super::stage::Act;
use crate::channel::pack;
use crate::{Plain, Queue, SharedDict};
use siphasher::sip::SipHasher13;
use std::collections::BTreeMap;

type Dict = SharedDict<u64, u64>;
type Model = BTreeMap<u64, u64>;

/// The same hash each time: every victim goes the same way.
const HASH_KEY: [u64; 2] = [1, 2];

/// The first keys that share a stripe with number 0. Needs no heap: the test itself founds no family.
fn neighbours(count: usize) -> Vec<u64> {
    let stripe = |key: &u64| {
        let mut bytes = Vec::new();
        pack(key, &mut bytes).expect("key");
        SipHasher13::new_with_keys(HASH_KEY[0], HASH_KEY[1]).hash(&bytes) >> 60
    };
    (0..)
        .filter(|key| stripe(key) == stripe(&0))
        .take(count)
        .collect()
}

fn dict(keys: &[u64]) -> Dict {
    let dict = Dict::with_hash_key(HASH_KEY).expect("dict");
    for &key in keys {
        dict.set(key, key + 1).expect("set");
    }
    dict
}

fn model(keys: &[u64]) -> Model {
    keys.iter().map(|&key| (key, key + 1)).collect()
}

/// What is in the dict, asked in every way.
fn content(dict: &Dict) -> Result<Model, Fault> {
    let text = |error: crate::DictError| Fault::from(format!("it cannot be read: {error:?}"));
    let found: Model = dict.items().map_err(text)?.into_iter().collect();
    for (key, value) in &found {
        if dict.get(key).map_err(text)? != Some(*value) {
            return Err(format!("{key} is in the snapshot only").into());
        }
    }
    if dict.len() != found.len() {
        return Err(format!("a length of {} for {found:?}", dict.len()).into());
    }
    Ok(found)
}

/// Enough changes to make every table of the dict again.
fn goes_on(dict: &Dict, mut expected: Model) -> Result<(), Fault> {
    for key in (900..940).chain(expected.keys().copied().collect::<Vec<_>>()) {
        let old = dict.insert(key, 5).map_err(|error| error.to_string())?;
        if old != expected.insert(key, 5) {
            return Err(format!("it does not go on with {key}").into());
        }
    }
    for key in 900..930 {
        let removed = dict.remove(&key);
        if removed != Ok(expected.remove(&key).is_some()) {
            return Err(format!("{key} is not removed: {removed:?}").into());
        }
    }
    if content(dict)? == expected {
        Ok(())
    } else {
        Err("it does not go on".into())
    }
}

fn judge(dict: &Dict, killed: &Killed, before: &Model, after: &Model) -> Result<(), Fault> {
    let found = content(dict)?;
    let finished = killed.landing == Landing::Finished;
    if found != *after && (finished || found != *before) {
        return Err(format!("{found:?}, should be {before:?} or {after:?}").into());
    }
    goes_on(dict, found)
}

/// The victim changes a dict with such keys.
fn changing(
    name: &str,
    keys: &[u64],
    change: impl Fn(&Dict) + Clone + 'static,
    after: impl Fn(&mut Model),
) -> Act<Dict> {
    let (keys, before) = (keys.to_vec(), model(keys));
    let mut changed = before.clone();
    after(&mut changed);
    let (props, once) = (keys.clone(), change.clone());
    Act::new(
        name,
        move || dict(&props),
        // Once through with another one, for caches and the scratch space.
        move |_| once(&dict(&keys)),
        move |dict, ()| change(dict),
    )
    .judge(move |dict, killed| judge(&dict, killed, &before, &changed))
}

/// A key beside which there are others, and which is not there.
const NEW: u64 = 77;

fn insert_new(name: &str) -> Act<Dict> {
    let insert = |dict: &Dict| assert_eq!(dict.insert(NEW, 7), Ok(None));
    let keys: Vec<u64> = (0..20).collect();
    changing(name, &keys, insert, |model| {
        model.insert(NEW, 7);
    })
}

#[test]
fn crash_shared_dict_insert_new() {
    insert_new("dict insert, new").play();
}

fn insert_replacing(name: &str) -> Act<Dict> {
    let insert = |dict: &Dict| assert_eq!(dict.insert(3, 7), Ok(Some(4)));
    changing(name, &[1, 2, 3, 4, 5], insert, |model| {
        model.insert(3, 7);
    })
}

#[test]
fn crash_shared_dict_insert_replacing() {
    insert_replacing("dict insert, replacing").play();
}

#[test]
fn crash_shared_dict_insert_first() {
    let insert = |dict: &Dict| assert_eq!(dict.set(3, 7), Ok(()));
    changing("dict insert, first table", &[], insert, |model| {
        model.insert(3, 7);
    })
    .play();
}

#[test]
fn crash_shared_dict_insert_growing() {
    let keys = neighbours(4);
    let new = keys[3];
    let insert = move |dict: &Dict| {
        assert_eq!(dict.slots_beside(&0), 4, "three fit");
        assert_eq!(dict.set(new, 7), Ok(()));
        assert!(dict.slots_beside(&0) > 4, "four do not");
    };
    changing("dict insert, growing", &keys[..3], insert, |model| {
        model.insert(new, 7);
    })
    .play();
}

#[test]
fn crash_shared_dict_remove() {
    let remove = |dict: &Dict| assert_eq!(dict.remove(&3), Ok(true));
    changing("dict remove", &[1, 2, 3, 4, 5], remove, |model| {
        model.remove(&3);
    })
    .play();
}

/// In a crowded table, so that a mark is left; and put again in its place.
#[test]
fn crash_shared_dict_pop_and_insert_at_the_mark() {
    let keys = neighbours(9);
    let victim = keys[1];
    let change = move |dict: &Dict| {
        assert_eq!(dict.pop(&victim), Ok(Some(victim + 1)));
        assert_eq!(dict.insert(victim, victim + 1), Ok(None));
    };
    let (props, part, before) = (keys.clone(), keys.clone(), model(&keys));
    Act::new(
        "dict pop, and insert at its mark",
        move || dict(&props),
        move |_| change(&dict(&part)),
        move |dict, ()| change(dict),
    )
    .judge(move |dict, killed| {
        let mut without = before.clone();
        without.remove(&victim);
        judge(&dict, killed, &without, &before)
    })
    .play();
}

#[test]
fn crash_shared_dict_remove_shrinking() {
    let keys = neighbours(50);
    // As many as make the table large; all but a few are gone before the victim comes.
    let sparse = {
        let keys = keys.clone();
        move || {
            let dict = dict(&keys);
            let slots = dict.slots_beside(&0);
            let left = slots.div_ceil(8);
            for key in &keys[left..] {
                assert_eq!(dict.remove(key), Ok(true));
            }
            assert_eq!(dict.slots_beside(&0), slots, "not sparse yet");
            (dict, left)
        }
    };
    let last = {
        let keys = keys.clone();
        move |dict: &Dict, left: usize| {
            let slots = dict.slots_beside(&0);
            assert_eq!(dict.remove(&keys[left - 1]), Ok(true));
            assert!(dict.slots_beside(&0) < slots, "now it is");
        }
    };
    let (props, once) = (sparse.clone(), last.clone());
    Act::new(
        "dict remove, shrinking",
        props,
        move |_| {
            let (dict, left) = sparse();
            once(&dict, left);
        },
        move |(dict, left), ()| last(dict, *left),
    )
    .judge(move |(dict, left), killed| {
        let after = model(&keys[..left - 1]);
        judge(&dict, killed, &model(&keys[..left]), &after)
    })
    .play();
}

#[test]
fn crash_shared_dict_update() {
    let update = |dict: &Dict| {
        let add = |old: Option<u64>| old.map(|n| n + 100);
        assert_eq!(dict.update(&3, add), Ok(()));
    };
    changing("dict update", &[1, 2, 3, 4, 5], update, |model| {
        model.insert(3, 104);
    })
    .play();
}

#[test]
fn crash_shared_dict_update_to_nothing() {
    let update = |dict: &Dict| assert_eq!(dict.update(&3, |_| None), Ok(()));
    changing("dict update, to nothing", &[1, 2, 3], update, |model| {
        model.remove(&3);
    })
    .play();
}

/// Some of it may be gone, nothing else.
#[test]
fn crash_shared_dict_clear() {
    let keys: Vec<u64> = (0..8).collect();
    let (props, before) = (keys.clone(), model(&keys));
    Act::new(
        "dict clear",
        move || dict(&props),
        move |_| assert_eq!(dict(&keys).clear(), Ok(())),
        |dict, ()| assert_eq!(dict.clear(), Ok(())),
    )
    .judge(move |dict, killed| {
        let found = content(&dict)?;
        let finished = killed.landing == Landing::Finished && !found.is_empty();
        if finished
            || !found
                .iter()
                .all(|entry| before.get(entry.0) == Some(entry.1))
        {
            return Err(format!("of a cleared dict there is {found:?}").into());
        }
        goes_on(&dict, found)
    })
    .play();
}

/// Readers keep a lock; they change nothing.
#[test]
fn crash_shared_dict_reading() {
    let read = |dict: &Dict| {
        assert_eq!(dict.get(&3), Ok(Some(4)));
        assert_eq!(dict.items().map(|items| items.len()), Ok(3));
        assert_eq!(dict.len(), 3);
    };
    changing("dict get, items, len", &[1, 2, 3], read, |_| ()).play();
}

/// Somebody changes the dict after the death and before the reaper comes: takes over the locks, and blocks that were on the move.
fn before_the_burial(act: Act<Dict>, before: &[u64], changed: (u64, u64)) {
    let (before, keys) = (model(before), before.to_vec());
    act.witness(move |dict| {
        for key in keys.iter().copied().chain([changed.0]) {
            assert!(dict.update(&key, |old| old.map(|n| n + 1000)).is_ok());
        }
        assert_eq!(dict.set(500, 1500), Ok(()));
    })
    .judge(move |dict, killed| {
        let mut before = before.clone();
        before.insert(500, 500);
        let mut after = before.clone();
        after.insert(changed.0, changed.1);
        for value in before.values_mut().chain(after.values_mut()) {
            *value += 1000;
        }
        judge(&dict, killed, &before, &after)
    })
    .play();
}

#[test]
fn crash_shared_dict_insert_new_then_changed() {
    let keys: Vec<u64> = (0..20).collect();
    before_the_burial(
        insert_new("dict insert, new, then changed before the burial"),
        &keys,
        (NEW, 7),
    );
}

#[test]
fn crash_shared_dict_insert_growing_then_changed() {
    let keys = neighbours(4);
    let new = keys[3];
    let insert = move |dict: &Dict| assert_eq!(dict.set(new, 7), Ok(()));
    let name = "dict insert, growing, then changed before the burial";
    let act = changing(name, &keys[..3], insert, |_| ());
    before_the_burial(act, &keys[..3], (new, 7));
}

type Line = Queue<u64, Plain>;

/// A queue with a number in it.
fn line(number: u64) -> Line {
    let line = Line::unbounded().expect("queue");
    line.put(number).expect("put");
    line
}

fn lines() -> SharedDict<u64, Line> {
    let dict = SharedDict::with_hash_key(HASH_KEY).expect("dict");
    for key in 0..3 {
        dict.set(key, line(key)).expect("set");
    }
    dict
}

fn numbers(dict: &SharedDict<u64, Line>) -> Result<Vec<u64>, Fault> {
    let mut numbers = Vec::new();
    for key in 0..3 {
        let line = dict.get(&key).map_err(|error| error.to_string())?;
        let number = line.ok_or("an entry is lost")?.get();
        numbers.push(number.map_err(|error| format!("a queue is lost: {error}"))?);
    }
    Ok(numbers)
}

#[test]
fn crash_shared_dict_handles() {
    Act::new(
        "dict insert, replacing a handle by another",
        lines,
        |_| {
            let dict = lines();
            drop(dict.insert(1, line(5)));
            let line = line(9);
            // One handle more: otherwise dropping it searches all envelopes for another holder.
            std::mem::forget(line.clone());
            line
        },
        |dict, line| drop(dict.insert(1, line)),
    )
    .judge(|dict, killed| {
        let found = numbers(&dict)?;
        let finished = killed.landing == Landing::Finished;
        if found != [0, 9, 2] && (finished || found != [0, 1, 2]) {
            return Err(format!("the queues are {found:?}").into());
        }
        Ok(())
    })
    .play_thinned();
}

#[test]
fn crash_shared_dict_last_drop_is_the_victims() {
    let sent = || {
        let letters = Queue::<SharedDict<u64, Line>>::unbounded().expect("queue");
        letters.put(lines()).expect("put");
        letters
    };
    Act::new(
        "dict last drop, entries and handles inside",
        sent,
        |letters| letters.get().expect("get"),
        |_, dict| drop(dict),
    )
    .play_thinned();
}
