//! What travels between processes: a Python object as bytes, with its large buffers and the shared objects that it names.
//!
//! Buffers are blocks of the family heap that change hands; shared objects travel as handles which the message *holds*, so they live while it is under way, whoever dies.
//! While an object is pickled, the shared objects in it put themselves on the list of the message in the making ([`reduce`]) and leave their number in
//! the pickle; while it is unpickled they are found by that number. Pickled by anybody else, they leave their bare name: that works as long as somebody holds them.

use crate::error::Raise;
use procession::{
    Barrier, Buffer, Condition, Connection, Event, Handle, Letter, Lock, Packed, Queue, RLock,
    Semaphore, SharedMemory,
};
use pyo3::exceptions::{PyRuntimeError, PyTypeError, PyValueError};
use pyo3::prelude::*;
use pyo3::types::{PyBytes, PyTuple, PyType};
use serde::{Deserialize, Serialize};
use std::cell::RefCell;

/// A Python object on its way. What its bytes are, `pickle` knows.
#[derive(Debug, Default, Serialize, Deserialize)]
pub(crate) struct Message {
    #[serde(with = "serde_bytes")]
    pub(crate) bytes: Vec<u8>,
    pub(crate) buffers: Vec<Buffer>,
    pub(crate) objects: Vec<Object>,
}

/// One line for each kind of shared object that Python code can hold: variant, engine type, its name in pickles.
macro_rules! objects {
    ($($variant:ident($engine:ty) = $kind:literal),+ $(,)?) => {
        /// A shared object of any kind.
        #[derive(Clone, Debug, Serialize, Deserialize)]
        pub(crate) enum Object {
            $(
                #[doc = $kind]
                $variant($engine),
            )+
        }

        impl Object {
            /// Kind and name, by which [`Self::open`] finds it.
            fn name(&self) -> (&'static str, Handle) {
                match self {
                    $(Self::$variant(object) => ($kind, object.handle()),)+
                }
            }

            /// The object of this kind and name, if somebody holds it.
            fn open(kind: &str, handle: Handle) -> PyResult<Self> {
                match kind {
                    $($kind => <$engine>::open(handle).map(Self::$variant).map_err(Raise::raise),)+
                    _ => Err(PyValueError::new_err(format!("`{kind}` is no kind of shared object"))),
                }
            }
        }
    };
}

objects! {
    Queue(Queue<Letter, Packed>) = "queue",
    Connection(Connection<Letter, Letter, Packed>) = "connection",
    SharedMemory(SharedMemory) = "shared memory",
    Lock(Lock) = "lock",
    RLock(RLock) = "rlock",
    Semaphore(Semaphore) = "semaphore",
    Condition(Condition) = "condition",
    Event(Event) = "event",
    Barrier(Barrier) = "barrier",
}

/// A shared object about to become a Python object: the argument of its class.
#[pyclass(frozen, module = "procession._procession")]
pub(crate) struct Parcel(Object);

impl Parcel {
    /// The object, if that is what a constructor was given.
    pub(crate) fn of(argument: Option<&Bound<'_, PyAny>>) -> Option<Object> {
        let parcel = argument?.cast::<Self>().ok()?;
        Some(parcel.get().0.clone())
    }
}

/// A name as text, for those who cannot send a message: an argument of a program, a file.
pub(crate) fn name_of(handle: Handle) -> String {
    format!("{:032x}", u128::from_be_bytes(handle.to_bytes()))
}

/// What a text of [`name_of`] names.
pub(crate) fn handle_of(name: &str) -> PyResult<Handle> {
    let bytes = u128::from_str_radix(name, 16)
        .map_err(|_| PyValueError::new_err(format!("`{name}` is no name of a shared object")))?;
    Ok(Handle::from_bytes(bytes.to_be_bytes()))
}

/// For constructors that were given a parcel of another kind.
pub(crate) fn wrong_parcel() -> PyErr {
    PyTypeError::new_err("the shared object in the pickle is of another kind")
}

thread_local! {
    /// The objects of the messages in the making, innermost last.
    static PACKING: RefCell<Vec<Vec<Object>>> = const { RefCell::new(Vec::new()) };
    /// The objects of the messages that are being read, innermost last.
    static READING: RefCell<Vec<Vec<Object>>> = const { RefCell::new(Vec::new()) };
}

/// Runs `f`; the shared objects that were pickled meanwhile.
pub(crate) fn collect<R>(f: impl FnOnce() -> R) -> (R, Vec<Object>) {
    PACKING.with_borrow_mut(|stack| stack.push(Vec::new()));
    let result = f();
    let objects = PACKING.with_borrow_mut(Vec::pop).unwrap_or_default();
    (result, objects)
}

/// Runs `f`, while these are the objects that a pickle may name by number.
pub(crate) fn provide<R>(objects: Vec<Object>, f: impl FnOnce() -> R) -> R {
    READING.with_borrow_mut(|stack| stack.push(objects));
    let result = f();
    READING.with_borrow_mut(Vec::pop);
    result
}

/// Say whether a message for a process of the family is in the making: what is pickled now will be unpickled by nobody else.
#[pyfunction]
fn in_message() -> bool {
    PACKING.with_borrow(|stack| !stack.is_empty())
}

/// What `__reduce__` returns: how to make the object again.
pub(crate) type Reduced<'py> = (Bound<'py, PyAny>, Bound<'py, PyTuple>);
/// What `__reduce__` of a shared object returns: how to make it again, of the same class.
pub(crate) fn reduce<'py>(object: &Bound<'py, PyAny>, shared: Object) -> PyResult<Reduced<'py>> {
    reduce_with(object, shared, PyTuple::empty(object.py()))
}

/// As [`reduce`], for a class that needs more than the shared object: `rest` are the further arguments of its constructor.
pub(crate) fn reduce_with<'py>(
    object: &Bound<'py, PyAny>,
    shared: Object,
    rest: Bound<'py, PyTuple>,
) -> PyResult<Reduced<'py>> {
    let py = object.py();
    let module = py.import("procession._procession")?;
    let class = object.get_type();
    let (kind, handle) = shared.name();
    let number = PACKING.with_borrow_mut(|stack| {
        let objects = stack.last_mut()?;
        objects.push(shared);
        Some(objects.len() - 1)
    });
    let (maker, arguments) = match number {
        Some(number) => ("take", (class, number).into_pyobject(py)?.into_any()),
        None => {
            refuse_strangers(py, kind)?;
            let name = PyBytes::new(py, &handle.to_bytes());
            ("open", (class, kind, name).into_pyobject(py)?.into_any())
        }
    };
    let arguments = arguments.add(rest)?.cast_into()?;
    Ok((module.getattr(maker)?, arguments))
}

/// Refuses to pickle for a process that `multiprocessing`, or somebody who builds on it, is about to spawn: it is not of the family and could only die of what it is given,
/// while its parent waits for it.
fn refuse_strangers(py: Python<'_>, kind: &str) -> PyResult<()> {
    let spawning = py.import("multiprocessing.context")?;
    if spawning.call_method0("get_spawning_popen")?.is_none() {
        return Ok(());
    }
    Err(PyRuntimeError::new_err(format!(
        "a {kind} of procession cannot be given to a process that multiprocessing spawns; start it with a context of procession"
    )))
}

/// Make the shared object with this number in the message that is being read.
#[pyfunction]
#[pyo3(signature = (class, number, *rest))]
fn take<'py>(
    class: &Bound<'py, PyType>,
    number: usize,
    rest: &Bound<'py, PyTuple>,
) -> PyResult<Bound<'py, PyAny>> {
    let object = READING.with_borrow(|stack| stack.last()?.get(number).cloned());
    let object = object.ok_or_else(|| {
        PyValueError::new_err(
            "a shared object can only be unpickled from the message that it was sent in",
        )
    })?;
    make(class, object, rest)
}

/// Open a shared object by its name.
#[pyfunction]
#[pyo3(signature = (class, kind, name, *rest))]
fn open<'py>(
    class: &Bound<'py, PyType>,
    kind: &str,
    name: [u8; 16],
    rest: &Bound<'py, PyTuple>,
) -> PyResult<Bound<'py, PyAny>> {
    make(class, Object::open(kind, Handle::from_bytes(name))?, rest)
}

/// The Python object of a class for a shared object.
pub(crate) fn make<'py>(
    class: &Bound<'py, PyType>,
    object: Object,
    rest: &Bound<'py, PyTuple>,
) -> PyResult<Bound<'py, PyAny>> {
    let arguments = (class, Parcel(object)).into_pyobject(class.py())?;
    let arguments = arguments.into_any().add(rest)?;
    class.call_method1("__new__", arguments.cast_into::<PyTuple>()?)
}

pub(crate) fn register(module: &Bound<'_, PyModule>) -> PyResult<()> {
    module.add_function(wrap_pyfunction!(take, module)?)?;
    module.add_function(wrap_pyfunction!(open, module)?)?;
    module.add_function(wrap_pyfunction!(in_message, module)?)?;
    module.add_class::<Parcel>()
}
