//! The service: a trivial route, and one whose work is done by a pool, with a bound.

use axum::Router;
use axum::extract::{Path, State};
use axum::http::StatusCode;
use axum::routing::get;
use procession::{Executor, PoolError};
use rustix::time::{ClockId, clock_gettime};
use sha2::{Digest, Sha256};
use std::io;
use std::sync::Arc;
use std::time::Duration;
use tokio::net::TcpListener;
use tokio::sync::Semaphore;

/// How long a request keeps a worker busy.
pub(crate) const WORK: Duration = Duration::from_millis(20);
/// Requests for each worker: one that it works on, and some that wait.
const PLACES_PER_WORKER: usize = 4;

pub(crate) struct Service {
    executor: Executor,
    places: Arc<Semaphore>,
    rounds: u32,
}

impl Service {
    pub(crate) fn new() -> Result<Self, PoolError> {
        let executor = Executor::builder()
            .initializer(step_back, ())
            .name("hasher")
            .build_executor()?;
        let places = Arc::new(Semaphore::new(PLACES_PER_WORKER * executor.workers()));
        Ok(Self {
            executor,
            places,
            rounds: rounds_of_work(),
        })
    }

    pub(crate) fn workers(&self) -> usize {
        self.executor.workers()
    }

    pub(crate) fn places(&self) -> usize {
        PLACES_PER_WORKER * self.workers()
    }

    /// Whether nothing is under way.
    pub(crate) fn is_idle(&self) -> bool {
        self.places.available_permits() == self.places()
    }

    /// Lets the workers finish.
    pub(crate) fn shut_down(&self) {
        self.executor.shutdown();
    }
}

/// In each worker: whoever answers users goes first, and the terminal's Ctrl-C is for the server, which then lets us finish.
fn step_back((): ()) {
    let _ = rustix::process::nice(10); // it may be that low already
    let _ = rustix::process::setpgid(None, None);
}

/// Serves until `stop` is there; requests that are under way are answered.
pub(crate) async fn serve(
    listener: TcpListener,
    service: Arc<Service>,
    stop: impl Future<Output = ()> + Send + 'static,
) -> io::Result<()> {
    let routes = Router::new()
        .route("/ping", get(|| async { "pong" }))
        .route("/hash/{word}", get(hash))
        .with_state(service);
    axum::serve(listener, routes)
        .with_graceful_shutdown(stop)
        .await
}

/// Awaits a worker's result. If too many wait already, it says so at once.
async fn hash(
    State(service): State<Arc<Service>>,
    Path(word): Path<String>,
) -> Result<String, (StatusCode, String)> {
    let failed = |error: &dyn ToString| (StatusCode::INTERNAL_SERVER_ERROR, error.to_string());
    let Ok(place) = Arc::clone(&service.places).try_acquire_owned() else {
        let message = "all workers are busy, try again later".to_owned();
        return Err((StatusCode::SERVICE_UNAVAILABLE, message));
    };
    let task = service.executor.submit(stretch, (word, service.rounds));
    let task = task.map_err(|error| failed(&error))?;
    task.on_done(move || drop(place)); // not when the client goes away: the worker works on
    task.await.map_err(|error| failed(&error))
}

/// A hash of a hash of a hash of the word, as for passwords.
fn stretch((word, rounds): (String, u32)) -> String {
    let mut digest = Sha256::digest(word);
    for _ in 1..rounds {
        digest = Sha256::digest(digest);
    }
    digest.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// Rounds that take a processor about as long as a request shall.
fn rounds_of_work() -> u32 {
    let now = || Duration::try_from(clock_gettime(ClockId::ThreadCPUTime)).unwrap_or_default();
    let start = now();
    let mut rounds = 0;
    while now() - start < WORK {
        stretch((String::new(), 100));
        rounds += 100;
    }
    rounds
}
