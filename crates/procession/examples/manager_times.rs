//! How many operations a second a manager's server carries out for one client: `cargo run --release --example manager_times`.

use procession::{AuthKey, DictProxy, Manager, ManagerError, RemoteManager};
use std::net::{Ipv4Addr, SocketAddr};
use std::time::{Duration, Instant};

/// Long enough for a stable figure.
const TIME: Duration = Duration::from_secs(2);

fn main() -> Result<(), Box<dyn std::error::Error>> {
    procession::init();
    let manager = Manager::start()?;
    let dict = manager.dict::<u64, u64>()?;
    time("dict get, same family", &dict)?;
    let key = AuthKey::random()?;
    let tcp = manager.serve(SocketAddr::from((Ipv4Addr::LOCALHOST, 0)), &key)?;
    let path = std::env::temp_dir().join(format!("manager_times-{}", std::process::id()));
    let unix = manager.serve(path, &key)?;
    for address in [tcp, unix] {
        let remote = RemoteManager::connect(&address, &key)?;
        let dict = remote.dict::<u64, u64>()?;
        time(&format!("dict get, remote by {address}"), &dict)?;
    }
    Ok(())
}

fn time(what: &str, dict: &DictProxy<u64, u64>) -> Result<(), ManagerError> {
    dict.insert(7, 8)?;
    let mut operations = 0;
    let began = Instant::now();
    while began.elapsed() < TIME {
        for _ in 0..100 {
            dict.get(&7)?;
        }
        operations += 100;
    }
    let took = began.elapsed();
    println!(
        "{what}: {:.0} k/s, {:.2} us each",
        f64::from(operations) / took.as_secs_f64() / 1e3,
        took.as_secs_f64() * 1e6 / f64::from(operations)
    );
    Ok(())
}
