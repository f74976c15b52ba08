//! Lists: each change happened or did not, the other items are untouched and in order, the length is right, no memory is lost.

use super::super::{Fault, Killed, Landing};
use super::stage::Act;
use crate::{Plain, Queue, SharedList};

type List = SharedList<u64>;

fn list(len: u64) -> List {
    let list = List::new().expect("list");
    list.extend(0..len).expect("extend");
    list
}

/// What is in the list, asked in every way.
fn content(list: &List) -> Result<Vec<u64>, Fault> {
    let text = |error: crate::ListError| Fault::from(format!("it cannot be read: {error:?}"));
    let found = list.to_vec().map_err(text)?;
    for (index, item) in found.iter().enumerate() {
        if list.get(index).map_err(text)? != Some(*item) {
            return Err(format!("item {index} of {found:?} is in the snapshot only").into());
        }
    }
    if list.len() != found.len() || list.get(found.len()) != Ok(None) {
        return Err(format!("a length of {} for {found:?}", list.len()).into());
    }
    Ok(found)
}

fn goes_on(list: &List, mut expected: Vec<u64>) -> Result<(), Fault> {
    for item in 900..920 {
        list.push(item).map_err(|error| error.to_string())?;
        expected.push(item);
    }
    for index in [0, 5, 10] {
        let removed = list.remove(index);
        if removed != Ok(expected.remove(index)) {
            return Err(format!("item {index} is not removed: {removed:?}").into());
        }
        list.insert(index + 1, 7)
            .map_err(|error| error.to_string())?;
        expected.insert(index + 1, 7);
    }
    if list.pop() == Ok(expected.pop()) && content(list)? == expected {
        Ok(())
    } else {
        Err("it does not go on".into())
    }
}

fn judge(list: &List, killed: &Killed, allowed: &[Vec<u64>]) -> Result<(), Fault> {
    let found = content(list)?;
    let finished = killed.landing == Landing::Finished;
    let fine = if finished {
        allowed.last() == Some(&found)
    } else {
        allowed.contains(&found)
    };
    if !fine {
        return Err(format!("{found:?}, should be one of {allowed:?}").into());
    }
    goes_on(list, found)
}

/// The victim changes a list of so many items; each step of `change` may be the last.
fn changing<const N: usize>(
    name: &str,
    len: u64,
    steps: [fn(&List); N],
    after: [fn(&mut Vec<u64>); N],
) -> Act<List> {
    let mut allowed = vec![(0..len).collect::<Vec<u64>>()];
    for step in after {
        let mut next = allowed[allowed.len() - 1].clone();
        step(&mut next);
        allowed.push(next);
    }
    Act::new(
        name,
        move || list(len),
        // Once through with another one, for caches and the scratch space.
        move |_| {
            let other = list(len);
            steps.iter().for_each(|step| step(&other));
        },
        move |list, ()| steps.iter().for_each(|step| step(list)),
    )
    .judge(move |list, killed| judge(&list, killed, &allowed))
}

fn push_7(list: &List) {
    assert_eq!(list.push(7), Ok(()));
}

#[test]
fn crash_shared_list_push() {
    changing("list push", 3, [push_7], [|list| list.push(7)]).play();
}

#[test]
fn crash_shared_list_push_first() {
    changing("list push, first table", 0, [push_7], [|list| list.push(7)]).play();
}

/// So many fill the first table.
const FULL: u64 = 8;

#[test]
fn crash_shared_list_push_growing() {
    changing("list push, growing", FULL, [push_7], [|list| list.push(7)]).play();
}

#[test]
fn crash_shared_list_pop() {
    changing(
        "list pop",
        3,
        [|list| assert_eq!(list.pop(), Ok(Some(2)))],
        [|list| assert!(list.pop().is_some())],
    )
    .play();
}

#[test]
fn crash_shared_list_set_and_update() {
    changing(
        "list set, update",
        3,
        [
            |list| assert_eq!(list.set(1, 7), Ok(())),
            |list| assert_eq!(list.update(1, |n| n * 2), Ok(())),
        ],
        [|list| list[1] = 7, |list| list[1] = 14],
    )
    .play();
}

#[test]
fn crash_shared_list_insert() {
    changing(
        "list insert",
        4,
        [|list| assert_eq!(list.insert(1, 7), Ok(()))],
        [|list| list.insert(1, 7)],
    )
    .play();
}

#[test]
fn crash_shared_list_remove() {
    changing(
        "list remove",
        4,
        [|list| assert_eq!(list.remove(1), Ok(1))],
        [|list| assert_eq!(list.remove(1), 1)],
    )
    .play();
}

#[test]
fn crash_shared_list_extend() {
    changing(
        "list extend",
        3,
        [|list| assert_eq!(list.extend([7, 8]), Ok(()))],
        [|list| list.extend([7, 8])],
    )
    .judge(|list, killed| {
        let allowed = [vec![0, 1, 2], vec![0, 1, 2, 7], vec![0, 1, 2, 7, 8]];
        judge(&list, killed, &allowed)
    })
    .play();
}

#[test]
fn crash_shared_list_clear() {
    changing(
        "list clear",
        3,
        [|list| assert_eq!(list.clear(), Ok(()))],
        [Vec::clear],
    )
    .judge(|list, killed| {
        let allowed = [vec![0, 1, 2], vec![0, 1], vec![0], vec![]];
        judge(&list, killed, &allowed)
    })
    .play();
}

/// Somebody changes the list after the death and before the reaper comes.
#[test]
fn crash_shared_list_push_then_changed() {
    let name = "list push, growing, then changed before the burial";
    changing(name, FULL, [push_7], [|list| list.push(7)])
        .witness(|list| {
            assert_eq!(list.push(50), Ok(()));
            assert_eq!(list.update(0, |n| n + 100), Ok(()));
        })
        .judge(|list, killed| {
            let before: Vec<u64> = [100, 1, 2, 3, 4, 5, 6, 7, 50].into();
            let mut after = before.clone();
            after.insert(8, 7);
            judge(&list, killed, &[before, after])
        })
        .play();
}

#[test]
fn crash_shared_list_remove_then_changed() {
    changing(
        "list remove, then changed before the burial",
        4,
        [|list| assert_eq!(list.remove(1), Ok(1))],
        [|list| assert_eq!(list.remove(1), 1)],
    )
    .witness(|list| {
        assert_eq!(list.insert(0, 50), Ok(()));
        assert!(list.pop().is_ok());
    })
    .judge(|list, killed| judge(&list, killed, &[vec![50, 0, 1, 2], vec![50, 0, 2]]))
    .play();
}

type Line = Queue<u64, Plain>;

#[test]
fn crash_shared_list_last_drop_is_the_victims() {
    let sent = || {
        let letters = Queue::<SharedList<Line>>::unbounded().expect("queue");
        let list = SharedList::new().expect("list");
        for _ in 0..2 {
            list.push(Line::unbounded().expect("queue")).expect("push");
        }
        letters.put(list).expect("put");
        letters
    };
    Act::new(
        "list last drop, items and handles inside",
        sent,
        |letters| letters.get().expect("get"),
        |_, list| drop(list),
    )
    .play_thinned();
}
