//! Values, arrays and lists: half-done changes are told of or never seen, and no memory is lost.

use super::super::{Fault, Killed, Landing};
use super::stage::{Act, UNIT};
use crate::{Item, RawArray, RawValue, ShareableList, SharedMemory, Value};
use std::cell::Cell;
use std::time::Duration;

const SOON: Duration = Duration::from_secs(3);

/// The victim overwrites a value of so many words under its lock.
fn overwritten<const N: usize>(name: &str) {
    let props = || {
        let value = Value::new([1_u64; N]).expect("value");
        (value, Cell::new(false))
    };
    Act::new(name, props, |_| (), |(value, _), ()| value.set([2_u64; N]))
        .witness(|(value, died_in)| died_in.set(value.try_lock().is_err()))
        .judge(|(value, died_in), killed| {
            let Ok(guard) = value.lock_timeout(SOON) else {
                return Err(Fault::Wedged("its lock cannot be taken".into()));
            };
            if guard.recovered() != died_in.get() {
                return Err(format!("recovered: {}, not {died_in:?}", guard.recovered()).into());
            }
            let found = guard.get();
            let whole = found == [1; N] || found == [2; N];
            let finished = killed.landing == Landing::Finished;
            if (!whole && !guard.recovered()) || (finished && found != [2; N]) {
                return Err(format!("nobody says so, and it is {found:?}").into());
            }
            drop(guard);
            value.set([3; N]);
            let guard = value.lock();
            if guard.recovered() || guard.get() != [3; N] {
                return Err("it does not go on".into());
            }
            Ok(())
        })
        .play();
}

#[test]
fn crash_value_set_inline() {
    overwritten::<1>("value set, one word");
}

#[test]
fn crash_value_set_block() {
    overwritten::<8>("value set, eight words");
}

/// The victim creates something and drops it: what is left is in the balance.
fn fleeting<T>(name: &str, create: impl Fn() -> T + Clone + 'static) {
    let once = create.clone();
    Act::new(
        name,
        || (),
        move |()| drop(once()),
        move |(), ()| drop(create()),
    )
    .play_thinned();
}

#[test]
fn crash_value_create_and_drop() {
    fleeting("value create and drop", || RawValue::new(7_u64));
}

#[test]
fn crash_array_create_and_drop_inline() {
    fleeting("array create and drop, two words", || {
        RawArray::<u64>::zeroed(2)
    });
}

#[test]
fn crash_array_create_and_drop_small() {
    fleeting("array create and drop, a small block", || {
        RawArray::<u64>::zeroed(100)
    });
}

#[test]
fn crash_array_create_and_drop_big() {
    fleeting("array create and drop, a run of units", || {
        RawArray::<u64>::zeroed((UNIT / 2 + 1024) / 8)
    });
}

#[test]
fn crash_shared_memory_create_and_drop() {
    fleeting("shared memory create and drop", || SharedMemory::new(1000));
}

const OLD: &str = "an old text of some length";
const NEW: &str = "A NEW TEXT, AND LONGER THAN...";
const NEWEST: &[u8] = b"neither";

/// The items beside the one that changes.
fn list() -> ShareableList {
    let text = format!("{OLD}        ");
    let items = [
        Item::Int(1),
        Item::Str(text),
        Item::Bytes(b"after".to_vec()),
    ];
    let list = ShareableList::new(items).expect("list");
    list.set(1, OLD).expect("room");
    list
}

/// Twice, so that both halves are written.
#[test]
fn crash_list_set() {
    Act::new(
        "shareable list set, twice",
        list,
        |_| (),
        |list, ()| {
            assert_eq!(list.set(1, NEW), Ok(()));
            assert_eq!(list.set(1, NEWEST), Ok(()));
        },
    )
    .judge(|list, killed| unmixed(&list, killed))
    .play();
}

fn unmixed(list: &ShareableList, killed: &Killed) -> Result<(), Fault> {
    let expected = [Item::from(OLD), Item::from(NEW), Item::from(NEWEST)];
    let found = list
        .to_vec()
        .map_err(|error| Fault::from(error.to_string()))?;
    let [Item::Int(1), item, Item::Bytes(after)] = &found[..] else {
        return Err(format!("the list is {found:?}").into());
    };
    let finished = killed.landing == Landing::Finished;
    let allowed = if finished { &expected[2..] } else { &expected };
    if after != b"after" || !allowed.contains(item) {
        return Err(format!("the list is {found:?}").into());
    }
    for item in [Item::from(OLD), Item::from(2.5), Item::from(NEW)] {
        let set = list.set(1, item.clone());
        if set != Ok(()) || list.get(1).as_ref() != Ok(&item) {
            return Err(format!("it does not go on: {set:?}").into());
        }
    }
    Ok(())
}
