//! What dicts and lists take from the heap, and that all of it comes back. A program of its own, because the figures are the whole family's.

use procession::{Lock, SharedDict, SharedList, heap_stats};

fn main() {
    drop(SharedDict::<u64, u64>::new().expect("dict"));
    a_dict_gives_everything_back();
    a_list_gives_everything_back();
    bytes_per_entry_are_as_documented();
}

fn a_dict_gives_everything_back() {
    let before = heap_stats();
    let dict = SharedDict::<u64, (Vec<u8>, Option<Lock>)>::new().expect("dict");
    for key in 0..500 {
        let lock = (key % 7 == 0).then(|| Lock::new().expect("lock"));
        let value = (vec![1; key as usize], lock);
        dict.set(key % 300, value).expect("set");
    }
    assert!(heap_stats().objects > before.objects + 40);
    drop(dict);
    assert_eq!(heap_stats().live_bytes, before.live_bytes);
}

fn a_list_gives_everything_back() {
    let before = heap_stats();
    let list = SharedList::new().expect("list");
    for n in 0..300usize {
        list.insert(n / 2, vec![1u8; n]).expect("insert");
    }
    for _ in 0..100 {
        list.remove(50).expect("remove");
    }
    // 200 items, the table, the list.
    assert_eq!(heap_stats().blocks, before.blocks + 201);
    drop(list);
    assert_eq!(heap_stats().live_bytes, before.live_bytes);
}

fn bytes_per_entry_are_as_documented() {
    for entries in [1_000u64, 30_000, 100_000] {
        let dict = SharedDict::<u64, u64>::new().expect("dict");
        let before = heap_stats().live_bytes;
        dict.extend((0..entries).map(|n| (n, n))).expect("extend");
        let each = (heap_stats().live_bytes - before) as f64 / entries as f64;
        println!("{entries} entries, {each:.1} bytes each");
        // A block of 64 and a slot of 16, of which three eighths to three quarters are in use, in a table that is rounded up.
        assert!((64.0 + 20.0..64.0 + 64.0).contains(&each), "{each}");
    }
}
