//! Producers and consumers at the two ends of a queue that holds only eight items.

use procession::{Process, Queue};

const PRODUCERS: u64 = 3;
const CONSUMERS: u64 = 2;

/// Puts its share of the numbers; waits whenever the queue is full.
fn produce((numbers, queue): (std::ops::Range<u64>, Queue<u64>)) {
    for number in numbers {
        queue.put(number).expect("nobody closes the queue yet");
    }
}

/// Takes what it can get until the queue is closed and empty; how many, and their sum.
fn consume(queue: Queue<u64>) -> (u64, u64) {
    queue.iter().fold((0, 0), |(count, sum), number| {
        (count + 1, sum + number.expect("a number"))
    })
}

fn main() -> Result<(), Box<dyn std::error::Error>> {
    procession::init();

    let share: u64 = std::env::args()
        .nth(1)
        .map_or(Ok(20_000), |arg| arg.parse())?;
    let queue = Queue::new(8)?;
    let consumers = (1..=CONSUMERS)
        .map(|n| {
            Process::builder(consume, queue.clone())
                .name(format!("consumer {n}"))
                .start()
        })
        .collect::<Result<Vec<_>, _>>()?;
    let producers = (0..PRODUCERS)
        .map(|n| Process::start(produce, (n * share..(n + 1) * share, queue.clone())))
        .collect::<Result<Vec<_>, _>>()?;

    for producer in &producers {
        producer.join()?;
    }
    queue.close(); // what is in it can still be taken

    let (mut items, mut total) = (0, 0);
    for consumer in &consumers {
        let (count, sum) = consumer.join()?;
        println!("{} took {count} items", consumer.name());
        items += count;
        total += sum;
    }
    let last = PRODUCERS * share;
    assert_eq!(
        (items, total),
        (last, last * last.saturating_sub(1) / 2),
        "nothing lost, nothing twice"
    );
    println!("{items} items from {PRODUCERS} producers, sum {total}: nothing lost, nothing twice");
    Ok(())
}
