//! Fetches many pages from an HTTP server and counts their words: waiting is for threads, computing for processes, and one line each chooses.

mod server;

use procession::{Pool, TaskError};
use server::Server;
use std::collections::BTreeMap;
use std::sync::LazyLock;
use std::time::{Duration, Instant};
use ureq::Agent;

/// Requests at one time.
const AT_ONCE: usize = 16;

type Failure = Box<dyn std::error::Error>;
type Words = BTreeMap<String, u64>;

/// Connections are kept and used again; in each process that fetches, once.
static AGENT: LazyLock<Agent> = LazyLock::new(|| {
    let config = Agent::config_builder()
        .timeout_global(Some(Duration::from_secs(30)))
        .max_idle_connections_per_host(AT_ONCE);
    config.build().into()
});

/// Fetches a page.
fn fetch(url: String) -> Result<String, String> {
    let body = AGENT.get(&url).call();
    let text = body.and_then(|mut response| response.body_mut().read_to_string());
    text.map_err(|error| format!("{url}: {error}"))
}

/// Counts the words of a page, without its tags.
fn count(page: Result<String, String>) -> Result<Words, String> {
    let mut words = Words::new();
    let page = page?;
    let texts = page
        .split('<')
        .filter_map(|tag| Some(tag.split_once('>')?.1));
    for word in texts.flat_map(|text| text.split(|letter: char| !letter.is_alphabetic())) {
        if !word.is_empty() {
            *words.entry(word.to_lowercase()).or_default() += 1;
        }
    }
    Ok(words)
}

/// Each page goes on to be counted as soon as it is there. A few may wait, not all.
fn count_all(fetchers: &Pool, counters: &Pool, urls: Vec<String>) -> Result<Words, Failure> {
    let said = |error: TaskError| error.to_string();
    let pages = fetchers
        .imap_unordered(fetch, urls)
        .look_ahead(2 * fetchers.workers())
        .map(|page| page.map_err(said).flatten());
    let mut words = Words::new();
    let counted = counters
        .imap_unordered(count, pages)
        .look_ahead(2 * counters.workers());
    for some in counted {
        for (word, count) in some?? {
            *words.entry(word).or_default() += count;
        }
    }
    Ok(words)
}

fn main() -> Result<(), Failure> {
    procession::init();

    let pages: usize = std::env::args().nth(1).map_or(Ok(400), |arg| arg.parse())?;
    let server = Server::start()?;
    println!("{pages} pages from {}, 10 ms away", server.url());
    println!("  fetched by     counted by        time   pages/s   at once");

    let mut results = vec![];
    let mut measure = |fetched, fetchers: Pool, counted, counters: Pool| -> Result<(), Failure> {
        let urls = (0..pages).map(|n| server.page(n)).collect();
        let start = Instant::now();
        results.push(count_all(&fetchers, &counters, urls)?);
        let took = start.elapsed().as_secs_f64();
        let (speed, at_once) = (pages as f64 / took, server.take_peak());
        println!("  {fetched:<14} {counted:<14} {took:>5.2} s  {speed:>8.0}  {at_once:>8}");
        assert!(at_once <= fetchers.workers().max(1));
        Ok(())
    };
    let workers = procession::cpu_count().max(2);
    let here = || Pool::new(0); // no workers: whoever submits a task runs it
    let threads = || Pool::threads(AT_ONCE);
    let processes = || Pool::new(workers);
    let (many, few) = (format!("{AT_ONCE} threads"), format!("{workers} processes"));
    measure("this thread", here()?, "this thread", here()?)?;
    measure(&many, threads()?, "this thread", here()?)?;
    measure(&many, threads()?, &few, processes()?)?;

    assert!(results.iter().all(|words| *words == results[0]));
    let (all, different) = (results[0].values().sum::<u64>(), results[0].len());
    println!("all three the same: {all} words, {different} different ones");
    Ok(())
}
