//! The two tables: how they are made up, split and read.

use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use std::error::Error;
use std::fs::File;
use std::io::{BufRead, BufReader, Read, Seek, SeekFrom};
use std::ops::Range;
use std::path::Path;

/// Two letters.
pub(crate) type Country = [u8; 2];

const COUNTRIES: [&str; 8] = ["AT", "BR", "DE", "FR", "IN", "JP", "KE", "US"];

#[derive(Serialize, Deserialize)]
pub(crate) struct Customer {
    pub(crate) id: usize,
    name: String,
    country: String,
}

impl Customer {
    pub(crate) fn country(&self) -> Country {
        self.country.as_bytes().try_into().expect("two letters")
    }
}

#[derive(Serialize, Deserialize)]
pub(crate) struct Order {
    id: usize,
    pub(crate) customer: usize,
    /// `YYYY-MM-DD`
    date: String,
    pub(crate) cents: u64,
}

impl Order {
    pub(crate) fn month(&self) -> u8 {
        self.date[5..7].parse().expect("a month")
    }
}

/// Makes up both tables; the same ones each time.
pub(crate) fn write(
    customers: &Path,
    orders: &Path,
    customer_count: usize,
    order_count: usize,
) -> Result<(), Box<dyn Error>> {
    let mut random = fastrand::Rng::with_seed(2025);
    let mut table = csv::Writer::from_path(customers)?;
    for id in 0..customer_count {
        // Of two draws the lower one, so that the countries differ in size.
        let country = random
            .usize(..COUNTRIES.len())
            .min(random.usize(..COUNTRIES.len()));
        table.serialize(Customer {
            id,
            name: format!("Customer, No. {id}"), // the comma has it quoted
            country: COUNTRIES[country].to_owned(),
        })?;
    }
    table.flush()?;
    let mut table = csv::Writer::from_path(orders)?;
    for id in 0..order_count {
        let (month, day) = (random.u8(1..=12), random.u8(1..=28));
        table.serialize(Order {
            id,
            customer: random.usize(..customer_count),
            date: format!("2025-{month:02}-{day:02}"),
            cents: random.u64(100..20_000),
        })?;
    }
    Ok(table.flush()?)
}

/// Ranges of about `part` bytes that end where lines end, without the header. (No field contains a line break.)
pub(crate) fn split(path: &Path, part: u64) -> Vec<Range<u64>> {
    let mut file = BufReader::new(File::open(path).expect("our table"));
    let mut end_of_line = |from| {
        file.seek(SeekFrom::Start(from)).expect("a file");
        from + file.skip_until(b'\n').expect("a readable file") as u64
    };
    let size = path.metadata().expect("our table").len();
    let mut ranges = vec![];
    let mut start = end_of_line(0);
    while start < size {
        let end = end_of_line(start.saturating_add(part).min(size) - 1);
        ranges.push(start..end);
        start = end;
    }
    ranges
}

/// The rows of a part.
pub(crate) fn rows<T: DeserializeOwned>(
    path: &Path,
    range: &Range<u64>,
) -> impl Iterator<Item = T> {
    let mut file = File::open(path).expect("our table");
    file.seek(SeekFrom::Start(range.start)).expect("a file");
    let reader = csv::ReaderBuilder::new()
        .has_headers(false)
        .from_reader(file.take(range.end - range.start));
    reader.into_deserialize().map(|row| row.expect("a row"))
}
