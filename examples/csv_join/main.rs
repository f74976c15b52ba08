//! Joins two large CSV tables and groups the result: what did the customers of each country spend? First in this process, then in a pool.
//!
//! Parts of the files go to the workers as ranges of bytes. The smaller table becomes an array in shared memory, which they fill together; the larger one is then mapped and reduced.

mod tables;

use procession::{Pool, RawArray, TaskError};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::time::Instant;
use tables::{Country, Customer, Order};

/// Bytes of one part.
const PART: u64 = 1 << 19;

/// A part of a table: whole lines.
type Part = (PathBuf, Range<u64>);

/// What was sold.
#[derive(Clone, Copy, Default, PartialEq, Serialize, Deserialize)]
struct Sales {
    orders: u64,
    cents: u64,
}

impl Sales {
    fn add(&mut self, other: Self) {
        self.orders += other.orders;
        self.cents += other.cents;
    }
}

/// By country and month.
type Groups = BTreeMap<(Country, u8), Sales>;

/// Notes the country of each customer in a part of the table.
fn note_countries(((path, range), countries): (Part, RawArray<Country>)) {
    for customer in tables::rows::<Customer>(&path, &range) {
        countries
            .set(customer.id, customer.country())
            .expect("ids are below their number");
    }
}

/// Joins and groups a part of the orders.
fn group(((path, range), countries): (Part, RawArray<Country>)) -> Groups {
    let mut groups = Groups::new();
    for order in tables::rows::<Order>(&path, &range) {
        let country = countries.get(order.customer).expect("a customer");
        groups
            .entry((country, order.month()))
            .or_default()
            .add(Sales {
                orders: 1,
                cents: order.cents,
            });
    }
    groups
}

/// The query: first one table, then the other.
fn join(
    pool: &Pool,
    customers: &Path,
    orders: &Path,
    countries: &RawArray<Country>,
    part: u64,
) -> Result<Groups, TaskError> {
    let parts = |path: &Path| {
        let ranges = tables::split(path, part).into_iter();
        let path = path.to_owned();
        ranges.map(move |range| ((path.clone(), range), countries.clone()))
    };
    pool.map(note_countries, parts(customers))?;
    let mut groups = Groups::new();
    for some in pool.imap_unordered(group, parts(orders)) {
        for (key, sales) in some? {
            groups.entry(key).or_default().add(sales);
        }
    }
    Ok(groups)
}

fn main() -> Result<(), Box<dyn std::error::Error>> {
    procession::init();

    let count: usize = std::env::args()
        .nth(1)
        .map_or(Ok(8_000_000), |arg| arg.parse())?;
    let directory = tempfile::tempdir()?;
    let (customers, orders) = (
        directory.path().join("customers.csv"),
        directory.path().join("orders.csv"),
    );
    let customer_count = count.div_ceil(8).max(1);
    tables::write(&customers, &orders, customer_count, count)?;
    let bytes = customers.metadata()?.len() + orders.metadata()?.len();
    println!(
        "{count} orders of {customer_count} customers, {:.1} MB",
        bytes as f64 / 1e6
    );

    let workers = procession::cpu_count().max(2);
    let timed = |name: &str, workers, part| -> Result<_, Box<dyn std::error::Error>> {
        let pool = Pool::new(workers)?; // no workers: this process does it all
        let countries = RawArray::zeroed(customer_count)?;
        let start = Instant::now();
        let groups = join(&pool, &customers, &orders, &countries, part)?;
        let took = start.elapsed().as_secs_f64();
        let speed = bytes as f64 / took / 1e6;
        println!("  {name:<14} {took:>6.2} s  {speed:>5.0} MB/s");
        Ok((groups, took))
    };
    let (expected, alone) = timed("1 process", 0, u64::MAX)?;
    let (groups, together) = timed(&format!("{workers} processes"), workers, PART)?;
    assert!(groups == expected, "the results differ");
    println!("the same, {:.2} times as fast", alone / together);
    println!();
    print_countries(&groups);
    Ok(())
}

fn print_countries(groups: &Groups) {
    let mut countries = BTreeMap::<Country, (Sales, (u64, u8))>::new();
    for (&(country, month), &sales) in groups {
        let (all, best) = countries.entry(country).or_default();
        all.add(sales);
        *best = (*best).max((sales.cents, month));
    }
    println!("country    orders        revenue   best month");
    for (country, (all, (_, month))) in countries {
        let [one, two] = country.map(char::from);
        let revenue = all.cents as f64 / 100.0;
        println!(
            "{one}{two}      {:>9}   {revenue:>12.2}   2025-{month:02}",
            all.orders
        );
    }
}
