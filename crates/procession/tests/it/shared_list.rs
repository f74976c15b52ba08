//! SharedList against a model, and between processes.
use crate::forked::fork;
use procession::{ListError, Process, Queue, SharedList};
use proptest::prelude::*;
use std::panic::{AssertUnwindSafe, catch_unwind};

#[derive(Clone, Debug)]
enum Step {
    Push(String),
    Extend(Vec<String>),
    Pop,
    Set(usize, String),
    Insert(usize, String),
    Remove(usize),
    Append(usize, String),
    Clear,
}

fn step() -> impl Strategy<Value = Step> {
    let at = 0usize..40;
    let text = ".{0,40}";
    prop_oneof![
        6 => text.prop_map(Step::Push),
        3 => prop::collection::vec(text, 0..12).prop_map(Step::Extend),
        4 => Just(Step::Pop),
        4 => (at.clone(), text).prop_map(|(at, text)| Step::Set(at, text)),
        4 => (at.clone(), text).prop_map(|(at, text)| Step::Insert(at, text)),
        4 => at.clone().prop_map(Step::Remove),
        4 => (at, text).prop_map(|(at, text)| Step::Append(at, text)),
        1 => Just(Step::Clear),
    ]
}

fn play(list: &SharedList<String>, model: &mut Vec<String>, step: Step) {
    let len = model.len();
    let beyond = |index| Err(ListError::OutOfRange { index, len });
    match step {
        Step::Push(text) => {
            assert_eq!(list.push(text.clone()), Ok(()));
            model.push(text);
        }
        Step::Extend(texts) => {
            assert_eq!(list.extend(texts.clone()), Ok(()));
            model.extend(texts);
        }
        Step::Pop => assert_eq!(list.pop(), Ok(model.pop())),
        Step::Set(at, text) if at < len => {
            assert_eq!(list.set(at, text.clone()), Ok(()));
            model[at] = text;
        }
        Step::Set(at, text) => assert_eq!(list.set(at, text), beyond(at)),
        Step::Insert(at, text) if at <= len => {
            assert_eq!(list.insert(at, text.clone()), Ok(()));
            model.insert(at, text);
        }
        Step::Insert(at, text) => assert_eq!(list.insert(at, text), beyond(at)),
        Step::Remove(at) if at < len => assert_eq!(list.remove(at), Ok(model.remove(at))),
        Step::Remove(at) => assert_eq!(list.remove(at).map(drop), beyond(at)),
        Step::Append(at, text) if at < len => {
            assert_eq!(list.update(at, |old| old + &text), Ok(()));
            model[at].push_str(&text);
        }
        Step::Append(at, _) => assert_eq!(list.update(at, |old| old), beyond(at)),
        Step::Clear => {
            assert_eq!(list.clear(), Ok(()));
            model.clear();
        }
    }
}

proptest! {
    #[test]
    fn behaves_as_a_vector(steps in prop::collection::vec(step(), 0..200)) {
        let list = SharedList::new().expect("list");
        let mut model = Vec::new();
        for step in steps {
            play(&list, &mut model, step);
            assert_eq!(list.len(), model.len());
        }
        prop_assert_eq!(list.to_vec(), Ok(model.clone()));
        for at in 0..model.len() + 2 {
            prop_assert_eq!(list.get(at), Ok(model.get(at).cloned()));
        }
    }
}

#[test]
fn grows_and_shrinks() {
    let list = SharedList::new().expect("list");
    for n in 0..5_000u64 {
        list.push(n).expect("push");
    }
    assert_eq!(list.to_vec(), Ok((0..5_000).collect()));
    for n in (3..5_000).rev() {
        assert_eq!(list.pop(), Ok(Some(n)));
    }
    assert_eq!(list.to_vec(), Ok(vec![0, 1, 2]));
}

fn append(list: SharedList<(u32, u32)>) {
    let me = std::process::id();
    for n in 0..500 {
        list.push((me, n)).expect("push");
    }
}

#[test]
fn each_process_finds_its_items_in_order() {
    let list = SharedList::new().expect("list");
    let start = || Process::start(append, list.clone()).expect("start");
    let children: Vec<_> = (0..4).map(|_| start()).collect();
    let pids: Vec<u32> = children.iter().map(Process::pid).collect();
    assert_eq!(pids.len(), 4);
    for child in children {
        child.join().expect("join");
    }
    let all = list.to_vec().expect("items");
    assert_eq!(all.len(), 4 * 500);
    for pid in pids {
        let of_it = all.iter().filter(|item| item.0 == pid).map(|item| item.1);
        assert!(of_it.eq(0..500));
    }
}

#[test]
fn items_that_are_taken_are_taken_once() {
    let list = SharedList::new().expect("list");
    list.extend(0..4_000u32).expect("extend");
    let taken = SharedList::new().expect("list");
    let children = [(); 4].map(|()| {
        fork(|| {
            while let Some(item) = list.pop().expect("pop") {
                taken.push(item).expect("push");
            }
            true
        })
    });
    for child in children {
        assert_eq!(child.join(), 0);
    }
    let mut taken = taken.to_vec().expect("items");
    taken.sort_unstable();
    assert_eq!(taken, (0..4_000).collect::<Vec<_>>());
}

#[test]
fn handles_inside_live_as_long_as_the_item() {
    let list = SharedList::new().expect("list");
    let queue = Queue::<u32>::unbounded().expect("queue");
    queue.put(5).expect("put");
    let name = queue.handle();
    list.push(queue).expect("push");
    let queue = list.get(0).expect("get").expect("there");
    assert_eq!(queue.get(), Ok(5));
    drop(queue);
    let queue = list.remove(0).expect("remove");
    assert_eq!(queue.put(1), Ok(()));
    drop(queue);
    crate::wait_until_gone(|| Queue::<u32>::open(name));
}

#[test]
fn closures() {
    let list = SharedList::new().expect("list");
    list.extend([1, 2]).expect("extend");
    let update = || list.update(0, |_| panic!("on purpose"));
    assert!(catch_unwind(AssertUnwindSafe(update)).is_err());
    let changed = list.update(0, |n: i32| {
        assert_eq!(list.push(3), Err(ListError::FromInside));
        n + list.get(1).expect("get").expect("there")
    });
    assert_eq!((changed, list.to_vec()), (Ok(()), Ok(vec![3, 2])));
}
