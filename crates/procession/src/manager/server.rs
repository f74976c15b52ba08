//! The server's process: takes clients in, carries out what they ask for, drops states that nobody has any more.
//!
//! Threads: the main one lets clients in; one sweeps; one for each client, which mostly sleeps. A function that blocks therefore keeps its own client waiting, and
//! those that want the same state; nobody else. Idle threads look for dead participants as every wait does, so a family's dead are noticed while it has a manager.

use super::protocol::{Answer, Done, Errand, Hello, Line, Order, Peer, returned};
use super::registry::{Registry, State};
use super::remote::Doors;
use super::ticket::Ticket;
use crate::channel::{Letter, Queue, RecvError};
use crate::heap::me;
use crate::process::Portable;
use crate::process::catch_panic;
use crate::sys::call::Call;
use serde::{Deserialize, Serialize};
use std::cell::RefCell;
use std::collections::HashMap;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

/// Most clients of a manager at one time: threads of its family that have used it, and connections from outside.
pub const MAX_CLIENTS: usize = 1024;

/// Where clients of the family put the server's end of their line.
pub(super) type Door = Queue<Line>;

/// What a server begins with; the initializer's argument comes beside it.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct Seed {
    pub(super) door: Door,
    pub(super) initializer: Option<Call>,
}

/// What a state is known by, in an answer.
#[derive(Serialize, Deserialize)]
pub(super) struct Created {
    pub(super) state: u64,
    /// Only inside the family; outside, the server keeps it for the client.
    pub(super) ticket: Option<Ticket>,
}

/// The names that a client outside the family has for states, with how often it was told each. Its holds are the server's.
pub(super) type Leases = Mutex<HashMap<u64, (Ticket, usize)>>;

pub(super) struct Server {
    registry: Registry,
    door: Door,
    clients: AtomicUsize,
    doors: Doors,
}

/// One of at most [`MAX_CLIENTS`] places.
pub(super) struct Place(Arc<Server>);

impl Drop for Place {
    fn drop(&mut self) {
        self.0.clients.fetch_sub(1, Ordering::AcqRel);
    }
}

/// The argument of an initializer: the context of its call.
struct Init<A>(RefCell<Option<A>>);

/// Names an initializer.
pub(super) fn name_initializer<A: 'static>(function: fn(A)) -> Option<Call> {
    fn run<A>(function: fn(A), argument: &Init<A>) -> i32 {
        argument.0.take().map(function);
        0
    }
    Call::name(run::<A>, function)
}

/// The function of the server's process.
pub(super) fn serve<A: Portable>((seed, argument): (Seed, A)) {
    if let Some(initializer) = seed.initializer
        && let Err(error) = initializer.run(&Init(RefCell::new(Some(argument))))
    {
        panic!("the initializer cannot be found: {error}");
    }
    // It may have put in a hook of its own.
    let registry = match Registry::new() {
        Ok(registry) => registry,
        Err(error) => panic!("no room for a manager: {error}"),
    };
    let server = Arc::new(Server {
        registry,
        door: seed.door,
        clients: AtomicUsize::new(0),
        doors: Doors::default(),
    });
    server.start_sweeping();
    while let Ok(line) = server.door.get() {
        server.welcome(line);
    }
    server.doors.close();
    server.registry.clear();
}

impl Server {
    fn start_sweeping(self: &Arc<Self>) {
        let server = Arc::clone(self);
        let sweep = move || {
            loop {
                server.registry.wait();
                let began = Instant::now();
                server.registry.sweep();
                // Many that go one after the other cost few sweeps.
                std::thread::sleep(began.elapsed() * 4);
            }
        };
        if let Err(error) = thread("sweeper").spawn(sweep) {
            panic!("no thread for a manager: {error}");
        }
    }

    pub(super) fn doors(&self) -> &Doors {
        &self.doors
    }

    /// A place for one more client.
    pub(super) fn place(self: &Arc<Self>) -> Option<Place> {
        let place = Place(Arc::clone(self));
        let others = self.clients.fetch_add(1, Ordering::AcqRel);
        (others < MAX_CLIENTS).then_some(place)
    }

    /// Takes a client of the family in.
    fn welcome(self: &Arc<Self>, line: Line) {
        let place = self.place();
        let hello = match &place {
            Some(_) => Hello::Welcome {
                owner: me().to_word(),
            },
            None => Hello::Full,
        };
        let mut letter = Letter::new();
        if letter.push(&hello).is_err() || line.send(letter).is_err() {
            return;
        }
        if let Some(place) = place {
            // Without a thread the line is dropped, and the client told that it broke.
            let _ = thread("client").spawn(move || place.0.attend(&line));
        }
    }

    /// Carries out what one client asks for, until it is gone.
    fn attend(self: &Arc<Self>, line: &Line) {
        let peer = Peer::Line(line.clone());
        loop {
            let request = match line.recv() {
                Ok(request) => request,
                Err(RecvError::Decode(error)) => {
                    let answer = Answer::UndecodableArgument(error.to_string());
                    if line.send(answer.to_letter(&Letter::new())).is_err() {
                        return;
                    }
                    continue;
                }
                Err(_) => return,
            };
            match self.carry_out(request, 0, &peer, None) {
                Some(answer) => {
                    if !deliver(line, answer) {
                        return;
                    }
                }
                None => return,
            }
        }
    }

    /// The answer to a request that begins at `start`; `None`: nobody wants it any more. `leases` are those of a client outside the family.
    pub(super) fn carry_out(
        self: &Arc<Self>,
        request: Letter,
        start: usize,
        peer: &Peer,
        leases: Option<&Leases>,
    ) -> Option<Letter> {
        let like = request.reply();
        // What a user's type does when it is written or dropped is the user's code, too.
        let done = catch_panic(|| self.obey(request, start, peer, leases), |_| ());
        done.unwrap_or_else(|report| Some(Answer::Panicked(report).to_letter(&like)))
    }

    fn obey(
        self: &Arc<Self>,
        request: Letter,
        start: usize,
        peer: &Peer,
        leases: Option<&Leases>,
    ) -> Option<Letter> {
        let (order, start) = match read_order(&request, start) {
            Ok(read) => read,
            Err(reason) => return Some(Answer::UndecodableArgument(reason).to_letter(&request)),
        };
        let result = match order {
            Order::Create { call } => return self.create(request, start, peer, &call, leases),
            Order::Run {
                state,
                call,
                patience,
            } => return self.run(request, start, peer, (state, &call, patience)),
            Order::Publish { name, state } => match self.registry.publish(name, state) {
                true => Ok(returned(&request, &())),
                false => Err(Answer::Stale),
            },
            Order::Unpublish { name } => Ok(returned(&request, &self.registry.unpublish(&name))),
            Order::Find { name } => match self.registry.find(&name) {
                Some((state, ticket)) => Ok(hand_over(&request, state, ticket, leases)),
                None => Err(Answer::NotPublished(name)),
            },
            Order::Compare { call } => match call.check() {
                Ok(()) => Ok(returned(&request, &())),
                Err(error) => Err(Answer::not_resolved(error)),
            },
            Order::Serve { .. } if leases.is_some() => Err(Answer::Refused(
                "only the manager's own family may ask for this".to_owned(),
            )),
            Order::Serve { address, key } => match self.doors.open(self, &address, key) {
                Ok(address) => Ok(returned(&request, &address)),
                Err(error) => Err(Answer::Refused(format!(
                    "cannot listen at {address}: {error}"
                ))),
            },
        };
        Some(result.unwrap_or_else(|answer| answer.to_letter(&request)))
    }

    fn create(
        &self,
        request: Letter,
        start: usize,
        peer: &Peer,
        call: &Call,
        leases: Option<&Leases>,
    ) -> Option<Letter> {
        let like = request.reply();
        match perform(request, start, peer, call, (None, None)) {
            Done::Letter(letter) => Some(letter),
            Done::Deserted => None,
            Done::Built(state) => Some(match self.registry.add(state) {
                Ok((state, ticket)) => hand_over(&like, state, ticket, leases),
                Err(error) => Answer::Refused(error.to_string()).to_letter(&like),
            }),
        }
    }

    fn run(
        &self,
        request: Letter,
        start: usize,
        peer: &Peer,
        (state, call, patience): (u64, &Call, Option<Duration>),
    ) -> Option<Letter> {
        // A time beyond the clock's range is no limit.
        let deadline = patience.and_then(|patience| Instant::now().checked_add(patience));
        let state = self.registry.get(state);
        match perform(request, start, peer, call, (state, deadline)) {
            Done::Letter(letter) => Some(letter),
            Done::Built(_) | Done::Deserted => None,
        }
    }
}

fn read_order(request: &Letter, start: usize) -> Result<(Order, usize), String> {
    let bytes = request.bytes().map_err(|error| error.to_string())?;
    let bytes = bytes.get(start..).unwrap_or_default();
    let (order, rest) = postcard::take_from_bytes(bytes).map_err(|error| error.to_string())?;
    Ok((order, start + bytes.len() - rest.len()))
}

/// Calls a function with a request.
fn perform(
    request: Letter,
    start: usize,
    peer: &Peer,
    call: &Call,
    (state, deadline): (Option<State>, Option<Instant>),
) -> Done {
    let errand = Errand {
        request,
        start,
        state,
        deadline,
        peer: peer.clone(),
        done: RefCell::new(None),
    };
    match call.run(&errand) {
        Ok(_) => errand.done.take().unwrap_or(Done::Deserted),
        Err(error) => Done::Letter(Answer::not_resolved(error).to_letter(&errand.request)),
    }
}

/// Tells a client of a state, and lets it hold it.
fn hand_over(request: &Letter, state: u64, ticket: Ticket, leases: Option<&Leases>) -> Letter {
    let Some(leases) = leases else {
        let ticket = Some(ticket);
        return returned(request, &Created { state, ticket });
    };
    let mut leases = leases.lock().unwrap_or_else(PoisonError::into_inner);
    leases.entry(state).or_insert((ticket, 0)).1 += 1;
    let ticket = None;
    returned(request, &Created { state, ticket })
}

/// `false`: the client is gone. What cannot be sent for lack of memory is told, if that can be.
fn deliver(line: &Line, answer: Letter) -> bool {
    match line.send(answer) {
        Ok(()) => true,
        Err(crate::SendError::Encode(error, answer)) => {
            let answer = Answer::UnencodableResult(error.to_string()).to_letter(&answer.reply());
            line.send(answer).is_ok()
        }
        Err(_) => false,
    }
}

/// A thread of the server, by what it does.
pub(super) fn thread(role: &str) -> std::thread::Builder {
    std::thread::Builder::new().name(format!("manager-{role}"))
}
