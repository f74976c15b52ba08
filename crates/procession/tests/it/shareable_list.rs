//! ShareableList against a model with CPython's rules.
use crate::forked::fork;
use procession::{GetItemError, Item, SetItemError, ShareableList};
use proptest::prelude::*;

fn item() -> impl Strategy<Value = Item> {
    prop_oneof![
        Just(Item::None),
        any::<bool>().prop_map(Item::Bool),
        any::<i64>().prop_map(Item::Int),
        (-1e9..1e9).prop_map(Item::Float),
        ".{0,12}".prop_map(Item::Str),
        prop::collection::vec(any::<u8>(), 0..20).prop_map(Item::Bytes),
    ]
}

fn len(item: &Item) -> usize {
    match item {
        Item::Str(text) => text.len(),
        Item::Bytes(bytes) => bytes.len(),
        _ => 0,
    }
}

proptest! {
    #[test]
    fn behaves_as_a_vector_with_fixed_rooms(
        first in prop::collection::vec(item(), 0..8),
        changes in prop::collection::vec((0usize..9, item()), 0..20),
    ) {
        let list = ShareableList::new(first.clone()).expect("list");
        let rooms: Vec<usize> = first.iter().map(|item| (len(item) / 8 + 1) * 8).collect();
        let mut model = first;
        for (index, item) in changes {
            let expected = match rooms.get(index) {
                None => Err(SetItemError::OutOfRange { index, len: model.len() }),
                Some(&room) if len(&item) > room => Err(SetItemError::TooLong { len: len(&item), room }),
                Some(_) => Ok(()),
            };
            prop_assert_eq!(list.set(index, item.clone()), expected);
            if expected.is_ok() {
                model[index] = item.clone();
            }
            prop_assert_eq!(list.to_vec().expect("items"), model.clone());
            prop_assert_eq!(list.index(item.clone()).expect("items"), model.iter().position(|other| *other == item));
            prop_assert_eq!(list.count(item.clone()).expect("items"), model.iter().filter(|other| **other == item).count());
        }
        prop_assert_eq!(list.get(model.len()), Err(GetItemError::OutOfRange { index: model.len(), len: model.len() }));
    }
}

#[test]
fn another_process_sees_and_changes_it() {
    let list = ShareableList::new(["hello", "world"]).expect("list");
    let child = fork(|| list.get(1) == Ok(Item::from("world")) && list.set(0, 12).is_ok());
    assert_eq!(child.join(), 0);
    assert_eq!(list.get(0), Ok(Item::Int(12)));
}
