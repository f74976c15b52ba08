//! A web service whose handlers await CPU-heavy work in a pool of processes, and stays responsive meanwhile.
//!
//! `web_service [SECONDS]` starts it, measures it under load and ends it; `web_service serve [ADDRESS]` lets it run until Ctrl-C.

mod load;
mod service;

use load::Phase;
use procession::Process;
use service::Service;
use std::net::{SocketAddr, TcpStream};
use std::process::ExitCode;
use std::sync::Arc;
use std::thread;
use std::time::Duration;
use tokio::net::TcpListener;
use tokio::runtime::Runtime;
use tokio::sync::oneshot;

type Failure = Box<dyn std::error::Error>;

fn main() -> ExitCode {
    procession::init();

    let mut arguments = std::env::args().skip(1);
    let first = arguments.next();
    let done = match first.as_deref() {
        Some("serve") => serve(arguments.next().as_deref().unwrap_or("127.0.0.1:8080")),
        Some(seconds) => measure(seconds),
        None => measure("5"),
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("web_service: {error}");
            ExitCode::FAILURE
        }
    }
}

/// Runs until Ctrl-C; requests that are under way are answered.
fn serve(address: &str) -> Result<(), Failure> {
    let service = Arc::new(Service::new()?);
    let runtime = Runtime::new()?;
    runtime.block_on(async {
        let listener = TcpListener::bind(address).await?;
        println!(
            "http://{}/ping and /hash/WORD; Ctrl-C ends it",
            listener.local_addr()?
        );
        let stop = async { drop(tokio::signal::ctrl_c().await) };
        service::serve(listener, Arc::clone(&service), stop).await
    })?;
    service.shut_down();
    println!("done");
    Ok(())
}

/// Measures for so many seconds in each phase.
fn measure(seconds: &str) -> Result<(), Failure> {
    let length = Duration::try_from_secs_f64(seconds.parse()?)?;
    let service = Arc::new(Service::new()?);
    let runtime = Runtime::new()?;
    let listener = runtime.block_on(TcpListener::bind("127.0.0.1:0"))?;
    let address = listener.local_addr()?;
    let (stop, stopped) = oneshot::channel::<()>();
    let server = runtime.spawn(service::serve(listener, Arc::clone(&service), async {
        drop(stopped.await);
    }));
    println!(
        "{} workers; {} requests for them at a time, of about {} ms each",
        service.workers(),
        service.places(),
        service::WORK.as_millis()
    );

    // In a process of its own, as users are.
    let load = Process::start(load::run, (address, length, service.places()))?;
    report(&load.join()?);

    // A request that is under way when the server is told to stop.
    let poll = |until: &dyn Fn() -> bool| {
        while !until() {
            thread::sleep(Duration::from_millis(1));
        }
    };
    poll(&|| service.is_idle());
    let last = thread::spawn(move || load::hash(address));
    poll(&|| !service.is_idle() || last.is_finished());
    drop(stop);
    runtime.block_on(server)??;
    let status = last.join().expect("the request does not panic")?;
    service.shut_down();
    println!(
        "shut down: the request under way got {status}, the next one {}",
        refusal(address)
    );
    Ok(())
}

fn refusal(address: SocketAddr) -> String {
    let connected = TcpStream::connect(address);
    connected.map_or_else(|error| error.kind().to_string(), |_| "in".to_owned())
}

fn report(phases: &[Phase]) {
    println!();
    println!(
        "  {:<20} {:>10} {:>10} {:>10} {:>9} {:>9}",
        "", "/ping p50", "p99", "max", "/hash", "refused"
    );
    for phase in phases {
        let ms = |share| format!("{:.2} ms", phase.ping(share).as_secs_f64() * 1e3);
        println!(
            "  {:<20} {:>10} {:>10} {:>10} {:>7}/s {:>7}/s",
            phase.name,
            ms(0.5),
            ms(0.99),
            ms(1.0),
            phase.per_second(phase.answered),
            phase.per_second(phase.refused)
        );
    }
    println!();
    let p99 = |phase: &Phase| phase.ping(0.99).as_secs_f64();
    for phase in &phases[1..] {
        let ratio = p99(phase) / p99(&phases[0]);
        println!(
            "p99 of /ping, {}: {ratio:.1} times that of idle (at most 5 wanted)",
            phase.name
        );
    }
}
