//! A small web server on this machine. It answers after 10 ms, as one that is far away would.

use axum::Router;
use axum::body::Bytes;
use axum::extract::{Path, State};
use axum::response::Html;
use axum::routing::get;
use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

const FAR: Duration = Duration::from_millis(10);
/// Words of a page.
const LENGTH: usize = 20_000;
/// Different pages. There are more addresses than pages, so that making them up does not count.
const PAGES: u64 = 20;
/// Words are made of these.
const SYLLABLES: [&str; 16] = [
    "ba", "de", "fi", "go", "ka", "lo", "mi", "nu", "pa", "re", "sa", "to", "u", "ve", "wi", "zo",
];

/// The pages, how many requests there are now, and how many there were at the most.
struct Site {
    pages: Vec<Bytes>,
    now: AtomicUsize,
    peak: AtomicUsize,
}

/// A server that runs until the program ends.
pub(crate) struct Server {
    address: SocketAddr,
    site: Arc<Site>,
}

impl Server {
    pub(crate) fn start() -> io::Result<Self> {
        let site = Arc::new(Site {
            pages: (0..PAGES).map(|n| text(n).into()).collect(),
            now: AtomicUsize::new(0),
            peak: AtomicUsize::new(0),
        });
        let routes = Router::new()
            .route("/page/{n}", get(page))
            .with_state(Arc::clone(&site));
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()?;
        let listener = tokio::net::TcpListener::bind((Ipv4Addr::LOCALHOST, 0));
        let listener = runtime.block_on(listener)?;
        let address = listener.local_addr()?;
        let serve = async { axum::serve(listener, routes).await };
        std::thread::spawn(move || runtime.block_on(serve));
        Ok(Self { address, site })
    }

    pub(crate) fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    pub(crate) fn page(&self, n: usize) -> String {
        format!("http://{}/page/{n}", self.address)
    }

    /// The most requests at one time since this was asked last.
    pub(crate) fn take_peak(&self) -> usize {
        self.site.peak.swap(0, Ordering::Relaxed)
    }
}

async fn page(State(site): State<Arc<Site>>, Path(n): Path<usize>) -> Html<Bytes> {
    let now = site.now.fetch_add(1, Ordering::Relaxed) + 1;
    site.peak.fetch_max(now, Ordering::Relaxed);
    tokio::time::sleep(FAR).await;
    site.now.fetch_sub(1, Ordering::Relaxed);
    Html(site.pages[n % site.pages.len()].clone())
}

/// A page of nonsense; the same one for the same number.
fn text(n: u64) -> String {
    let mut random = fastrand::Rng::with_seed(n);
    let mut page = format!("<html><h1>Page {n}</h1><p>");
    for word in 1..=LENGTH {
        for _ in 0..random.u8(1..=2) {
            page += SYLLABLES[random.usize(..SYLLABLES.len())];
        }
        page += if word % 100 == 0 { ".</p>\n<p>" } else { " " };
    }
    page + "</p></html>"
}
