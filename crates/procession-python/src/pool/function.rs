//! A function on its way to the workers.
//!
//! Functions that pickle names (what a module defines) are pickled once and for all: they lie in a shared object that the crew keeps, and a call carries only its name. Others (lambdas, partials, bound
//! methods) may change between calls: they are pickled anew for each task, but once for all items of a map, whose handle keeps them. Workers keep what they have unpickled.

use crate::error::Raise;
use crate::message::Message;
use crate::pickle::{decode, encode};
use procession::{Handle, SharedList};
use pyo3::exceptions::{PyMemoryError, PyValueError};
use pyo3::prelude::*;
use pyo3::types::{PyCFunction, PyFunction, PyType, PyWeakrefMethods, PyWeakrefReference};
use serde::{Deserialize, Serialize};
use std::cell::RefCell;
use std::collections::{HashMap, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// The functions that pickle names are as many as the program's text has. Beyond this, it makes them at run time.
const MOST_NAMED: usize = 4096;
/// Functions that a worker keeps.
const MOST_KEPT: usize = 256;

/// A function, as a call names it.
#[derive(Debug, Serialize, Deserialize)]
pub(super) enum FunctionRef {
    /// By the name of a [`Shipped`].
    Shared([u8; 16]),
    /// Itself.
    Inline(Message),
}

/// A pickled function in shared memory, there as long as somebody has this.
pub(super) struct Shipped {
    list: SharedList<Message>,
}

impl Shipped {
    fn new(message: Message) -> PyResult<Arc<Self>> {
        let list = SharedList::new().map_err(Raise::raise)?;
        list.push(message)
            .map_err(|error| PyMemoryError::new_err(error.to_string()))?;
        Ok(Arc::new(Self { list }))
    }

    pub(super) fn reference(&self) -> FunctionRef {
        FunctionRef::Shared(self.list.handle().to_bytes())
    }
}

/// What was sent for named functions.
#[derive(Default)]
struct Named {
    /// By address, which may be another's when the function is gone. It is not kept: its globals may lead to the crew.
    functions: HashMap<usize, (Py<PyWeakrefReference>, Arc<Shipped>)>,
    /// Of functions that are gone; calls of them may be under way.
    gone: Vec<Arc<Shipped>>,
}

impl Named {
    fn get(&self, function: &Bound<'_, PyAny>) -> Option<Arc<Shipped>> {
        let (named, shipped) = self.functions.get(&(function.as_ptr() as usize))?;
        let is_the_same = named.bind(function.py()).upgrade()?.is(function);
        is_the_same.then(|| Arc::clone(shipped))
    }
}

/// The named functions that a crew has sent.
#[derive(Default)]
pub(super) struct Functions {
    named: Mutex<Named>,
}

impl Functions {
    fn named(&self) -> MutexGuard<'_, Named> {
        self.named.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn known(&self, function: &Bound<'_, PyAny>) -> Option<Arc<Shipped>> {
        self.named().get(function)
    }

    fn ship_named(
        &self,
        function: &Bound<'_, PyAny>,
        message: Message,
    ) -> PyResult<Result<Arc<Shipped>, Message>> {
        let full = || {
            let named = self.named();
            named.functions.len() + named.gone.len() >= MOST_NAMED
        };
        if !is_named(function, &message) || full() {
            return Ok(Err(message));
        }
        let shipped = Shipped::new(message)?;
        let weak = PyWeakrefReference::new(function)?.unbind();
        let mut named = self.named();
        // Another thread may have been quicker, and calls of its own be under way: what they name must stay.
        if let Some(shipped) = named.get(function) {
            return Ok(Ok(shipped));
        }
        let entry = (weak, Arc::clone(&shipped));
        let before = named.functions.insert(function.as_ptr() as usize, entry);
        named.gone.extend(before.map(|(_, shipped)| shipped));
        Ok(Ok(shipped))
    }

    /// The function for a single call.
    pub(super) fn once(&self, function: &Bound<'_, PyAny>) -> PyResult<FunctionRef> {
        if let Some(shipped) = self.known(function) {
            return Ok(shipped.reference());
        }
        Ok(match self.ship_named(function, encode(function)?)? {
            Ok(shipped) => shipped.reference(),
            Err(message) => FunctionRef::Inline(message),
        })
    }

    /// The function for many calls, which can be made as long as what this gives is kept.
    pub(super) fn many(&self, function: &Bound<'_, PyAny>) -> PyResult<Arc<Shipped>> {
        if let Some(shipped) = self.known(function) {
            return Ok(shipped);
        }
        match self.ship_named(function, encode(function)?)? {
            Ok(shipped) => Ok(shipped),
            Err(message) => Shipped::new(message),
        }
    }
}

/// Whether the pickle is the name of a function, builtin or class, and nothing else.
fn is_named(function: &Bound<'_, PyAny>, message: &Message) -> bool {
    /// STACK_GLOBAL, with or without MEMOIZE, then STOP.
    const ENDS: [&[u8]; 2] = [b"\x93.", b"\x93\x94."];
    let plain = message.buffers.is_empty() && message.objects.is_empty();
    let by_name = function.is_exact_instance_of::<PyFunction>()
        || function.is_exact_instance_of::<PyCFunction>()
        || function.is_instance_of::<PyType>();
    plain && by_name && ENDS.iter().any(|end| message.bytes.ends_with(end))
}

/// What a worker has unpickled, oldest first.
#[derive(Default)]
struct Kept {
    functions: HashMap<[u8; 16], Py<PyAny>>,
    order: VecDeque<[u8; 16]>,
}

thread_local! {
    static KEPT: RefCell<Kept> = RefCell::default();
}

/// In a worker: the function.
///
/// # Errors
/// What unpickling it raised; the pool that sent it is gone.
pub(super) fn find(py: Python<'_>, function: FunctionRef) -> PyResult<Bound<'_, PyAny>> {
    let name = match function {
        FunctionRef::Inline(message) => return decode(py, message),
        FunctionRef::Shared(name) => name,
    };
    let kept = KEPT.with_borrow(|kept| Some(kept.functions.get(&name)?.clone_ref(py)));
    if let Some(function) = kept {
        return Ok(function.into_bound(py));
    }
    let list = SharedList::<Message>::open(Handle::from_bytes(name)).map_err(Raise::raise)?;
    let message = list.get(0).ok().flatten();
    let message =
        message.ok_or_else(|| PyValueError::new_err("the function of the task is gone"))?;
    let function = decode(py, message)?;
    let forgotten = KEPT.with_borrow_mut(|kept| kept.keep(name, function.clone().unbind()));
    // Outside: whatever its end runs may come here again.
    drop(forgotten);
    Ok(function)
}

impl Kept {
    /// Keeps one more; what makes room for it.
    fn keep(&mut self, name: [u8; 16], function: Py<PyAny>) -> Option<Py<PyAny>> {
        self.functions.insert(name, function);
        self.order.push_back(name);
        let oldest = (self.order.len() > MOST_KEPT).then(|| self.order.pop_front());
        self.functions.remove(&oldest??)
    }
}
