//! Array and RawArray.
use crate::forked::fork;
use procession::{Array, HeapError, OutOfBounds, RawArray};

#[test]
fn processes_write_their_parts() {
    let array = RawArray::<u32>::zeroed(30_000).expect("array");
    let children: Vec<_> = (0..3u32)
        .map(|part| {
            let array = &array;
            fork(move || {
                let items: Vec<u32> = (0..10_000).map(|i| part * 10_000 + i).collect();
                array.write_from(part as usize * 10_000, &items).is_ok()
            })
        })
        .collect();
    for child in children {
        assert_eq!(child.join(), 0);
    }
    assert!(
        array
            .iter()
            .enumerate()
            .all(|(at, item)| at == item as usize)
    );
}

#[test]
fn bounds() {
    let array = Array::from_slice(&[[1u8; 3]; 5]).expect("array");
    assert_eq!(array.get(5), Err(OutOfBounds { index: 5, len: 5 }));
    assert_eq!(array.set(usize::MAX, [0; 3]).err().map(|e| e.len), Some(5));
    assert!(array.read_into(4, &mut [[0; 3]; 2]).is_err());
    assert!(array.write_from(5, &[]).is_ok());
    array.set(4, [9; 3]).expect("set");
    assert_eq!(array.to_vec(), [[1; 3], [1; 3], [1; 3], [1; 3], [9; 3]]);
    assert!(Array::<u64>::zeroed(usize::MAX).is_err());
    assert!(matches!(
        Array::<u64>::zeroed(1 << 50),
        Err(HeapError::TooLarge { .. } | HeapError::Full { .. })
    ));
}

#[test]
fn updates_are_whole() {
    let array = Array::<u64>::zeroed(2).expect("array");
    std::thread::scope(|scope| {
        for _ in 0..3 {
            scope.spawn(|| {
                for _ in 0..10_000 {
                    let guard = array.lock();
                    guard.update(0, |n| n + 1).expect("update");
                    guard.set(1, guard.get(0).expect("get")).expect("set");
                }
            });
        }
    });
    assert_eq!(array.to_vec(), [30_000, 30_000]);
}
