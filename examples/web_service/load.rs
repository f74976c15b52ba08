//! The load: users who ask the trivial route, and users who want hashes, in three phases.

use serde::{Deserialize, Serialize};
use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};
use ureq::Agent;

/// Users of the trivial route, and how long each waits between two requests.
const PINGERS: usize = 4;
const PAUSE: Duration = Duration::from_millis(5);
/// How long a user waits who was refused.
const PATIENCE: Duration = Duration::from_millis(50);

/// What was measured in one phase.
#[derive(Serialize, Deserialize)]
pub(crate) struct Phase {
    pub(crate) name: String,
    length: Duration,
    /// How long each request of the trivial route took, sorted.
    pings: Vec<Duration>,
    /// Requests for hashes that were answered, and that were refused.
    pub(crate) answered: u64,
    pub(crate) refused: u64,
}

impl Phase {
    /// What so great a share of the requests of the trivial route took at the most.
    pub(crate) fn ping(&self, share: f64) -> Duration {
        let rank = (share * self.pings.len() as f64).ceil() as usize;
        self.pings[rank.clamp(1, self.pings.len()) - 1]
    }

    pub(crate) fn per_second(&self, count: u64) -> u64 {
        (count as f64 / self.length.as_secs_f64()).round() as u64
    }
}

/// All phases: with nobody who wants a hash, with half as many as there are places, and with four times as many.
pub(crate) fn run((address, length, places): (SocketAddr, Duration, usize)) -> Vec<Phase> {
    phase("warm-up", address, length / 10, places);
    vec![
        phase("idle", address, length, 0),
        phase("all workers busy", address, length, places / 2),
        phase("overloaded", address, length, 4 * places),
    ]
}

fn phase(name: &str, address: SocketAddr, length: Duration, hashers: usize) -> Phase {
    let start = Instant::now();
    let is_over = AtomicBool::new(false);
    let (mut pings, mut answered, mut refused) = (vec![], 0, 0);
    thread::scope(|scope| {
        let hashers: Vec<_> = (0..hashers)
            .map(|_| scope.spawn(|| want_hashes(address, &is_over)))
            .collect();
        let pingers: Vec<_> = (0..PINGERS)
            .map(|_| scope.spawn(|| ping(address, start + length)))
            .collect();
        for pinger in pingers {
            pings.extend(pinger.join().expect("the server answers"));
        }
        is_over.store(true, Ordering::Relaxed);
        for hasher in hashers {
            let (got, not) = hasher.join().expect("the server answers");
            answered += got;
            refused += not;
        }
    });
    pings.sort_unstable();
    Phase {
        name: name.to_owned(),
        length: start.elapsed(),
        pings,
        answered,
        refused,
    }
}

/// Each user has a connection of its own.
fn user() -> Agent {
    let config = Agent::config_builder().http_status_as_error(false);
    config.build().into()
}

/// Asks the trivial route until the phase is over; how long each answer took.
fn ping(address: SocketAddr, end: Instant) -> Vec<Duration> {
    let (user, url) = (user(), format!("http://{address}/ping"));
    let mut took = vec![];
    while Instant::now() < end || took.is_empty() {
        let start = Instant::now();
        let mut response = user.get(&url).call().expect("a response");
        let text = response.body_mut().read_to_string();
        took.push(start.elapsed());
        assert_eq!(text.expect("a text"), "pong");
        thread::sleep(PAUSE);
    }
    took
}

/// Wants one hash after the other; how many were answered, and how many refused.
fn want_hashes(address: SocketAddr, is_over: &AtomicBool) -> (u64, u64) {
    let (user, url) = (user(), format!("http://{address}/hash/secret"));
    let (mut answered, mut refused) = (0, 0);
    while !is_over.load(Ordering::Relaxed) {
        let mut response = user.get(&url).call().expect("a response");
        let text = response.body_mut().read_to_string().expect("a text");
        match response.status().as_u16() {
            200 => answered += 1,
            503 => {
                refused += 1;
                thread::sleep(PATIENCE);
            }
            status => panic!("{status}: {text}"),
        }
    }
    (answered, refused)
}

/// Wants one hash; the status of the answer.
pub(crate) fn hash(address: SocketAddr) -> Result<u16, ureq::Error> {
    let response = user().get(format!("http://{address}/hash/last")).call()?;
    Ok(response.status().as_u16())
}
