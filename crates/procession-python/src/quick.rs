//! The methods of locks and semaphores that are called millions of times a second, as C functions of their own.
//!
//! What PyO3 does around each method (reading the arguments, counting itself in, catching what it may raise) costs more than taking a free lock: a pair of `acquire` and
//! `release` was 364 instructions beyond the interpreter's own, where the stdlib needs 221. These functions see whether the call is a plain one and
//! can be done at once, and then do it. They stand before the methods that PyO3 made and call them for all else: other arguments, waiting, errors.
#![expect(unsafe_code, reason = "methods as the interpreter calls them")]

use pyo3::exceptions::PyRuntimeError;
use pyo3::prelude::*;
use pyo3::pyclass::boolean_struct::True;
use pyo3::sync::PyOnceLock;
use pyo3::types::{PyBool, PyDict, PyTuple};
use pyo3::{PyClass, ffi};
use std::ffi::CString;
use std::panic::{AssertUnwindSafe, catch_unwind};

/// The methods that PyO3 made of a class, by number.
pub(crate) type Originals = PyOnceLock<[Py<PyAny>; 4]>;

/// What can be taken and given back.
pub(crate) trait Quick: PyClass<Frozen = True> + Sync {
    /// Takes it, if that is all there is to do. `false`: nothing was done.
    fn quick_take(&self) -> bool;

    /// Gives it back, if that is all there is to do. `false`: nothing was done.
    fn quick_give(&self) -> bool;

    /// Where the class keeps the methods that PyO3 made.
    fn originals() -> &'static Originals;
}

const ACQUIRE: usize = 0;
const RELEASE: usize = 1;
const ENTER: usize = 2;
const EXIT: usize = 3;
/// Names of the methods, in the order of their numbers.
const NAMES: [&str; 4] = ["acquire", "release", "__enter__", "__exit__"];

/// Puts the quick methods of a class before those that PyO3 made.
pub(crate) fn install<T: Quick>(module: &Bound<'_, PyModule>) -> PyResult<()> {
    let py = module.py();
    let class = py.get_type::<T>();
    let [acquire, release, enter, exit] = NAMES.map(|name| class.getattr(name).map(Bound::unbind));
    let originals = [acquire?, release?, enter?, exit?];
    T::originals().get_or_init(py, || originals);
    let functions = [
        call::<T, ACQUIRE>,
        call::<T, RELEASE>,
        call::<T, ENTER>,
        call::<T, EXIT>,
    ];
    for (name, function) in NAMES.into_iter().zip(functions) {
        let documentation = documentation(&class.getattr(name)?)?;
        let definition = Box::new(ffi::PyMethodDef {
            ml_name: CString::new(name)?.into_raw(),
            ml_meth: ffi::PyMethodDefPointer {
                PyCFunctionFastWithKeywords: function,
            },
            ml_flags: ffi::METH_FASTCALL | ffi::METH_KEYWORDS,
            ml_doc: documentation.into_raw(),
        });
        // SAFETY: the definition and its strings are never freed, and the class is one that PyO3 made.
        let method = unsafe { ffi::PyDescr_NewMethod(class.as_type_ptr(), Box::leak(definition)) };
        // SAFETY: a new object, or null with the error set.
        let method = unsafe { Bound::from_owned_ptr_or_err(py, method)? };
        class.setattr(name, method)?;
    }
    Ok(())
}

/// What a method says of itself, its signature first, as the interpreter wants it.
fn documentation(method: &Bound<'_, PyAny>) -> PyResult<CString> {
    let name: String = method.getattr("__name__")?.extract()?;
    let signature: Option<String> = method.getattr("__text_signature__")?.extract()?;
    let text: Option<String> = method.getattr("__doc__")?.extract()?;
    let signature = signature.map_or(String::new(), |it| format!("{name}{it}\n--\n\n"));
    Ok(CString::new(signature + &text.unwrap_or_default())?)
}

/// Method number `METHOD` of `T`, as the interpreter calls it.
///
/// # Safety
/// As [`ffi::PyCFunctionFastWithKeywords`]: the interpreter calls it, with an object of the class.
unsafe extern "C" fn call<T: Quick, const METHOD: usize>(
    slf: *mut ffi::PyObject,
    args: *const *mut ffi::PyObject,
    count: ffi::Py_ssize_t,
    names: *mut ffi::PyObject,
) -> *mut ffi::PyObject {
    // SAFETY: the interpreter calls us, so this thread is attached.
    let py = unsafe { Python::assume_attached() };
    // SAFETY: its descriptor has checked that the object is one of the class.
    let object = unsafe { Borrowed::from_ptr(py, slf) };
    // SAFETY: the same.
    let object_of_class = unsafe { object.cast_unchecked::<T>() };
    let is_plain = names.is_null()
        && match METHOD {
            ACQUIRE if count == 1 => {
                // SAFETY: there is one argument.
                let block = unsafe { *args };
                // SAFETY: it is an object that our caller keeps.
                unsafe { Borrowed::from_ptr(py, block) }.is_exact_instance_of::<PyBool>()
            }
            EXIT => count <= 3,
            _ => count == 0,
        };
    let takes = matches!(METHOD, ACQUIRE | ENTER);
    if is_plain && at_once(object_of_class.get(), takes) {
        let result = if takes {
            PyBool::new(py, true).to_owned().into_any()
        } else {
            py.None().into_bound(py)
        };
        return result.into_ptr();
    }
    let original = T::originals().get(py).ok_or_else(missing);
    let result = original.and_then(|originals| {
        let count = usize::try_from(count).unwrap_or(0);
        // SAFETY: these are what the interpreter gave us.
        unsafe { call_original(originals[METHOD].bind(py), &object, args, count, names) }
    });
    match result {
        Ok(result) => result.into_ptr(),
        Err(error) => {
            error.restore(py);
            std::ptr::null_mut()
        }
    }
}

/// Does it, if it can be done at once. A panic is none of ours: the original method will meet the same and tell Python.
#[inline]
fn at_once<T: Quick>(object: &T, takes: bool) -> bool {
    let attempt = || {
        if takes {
            object.quick_take()
        } else {
            object.quick_give()
        }
    };
    catch_unwind(AssertUnwindSafe(attempt)).unwrap_or(false)
}

/// Has the method that PyO3 made do it.
///
/// # Safety
/// `args` are `count` arguments and then one for each of `names`, a tuple or null.
#[cold]
unsafe fn call_original<'py>(
    original: &Bound<'py, PyAny>,
    object: &Bound<'py, PyAny>,
    args: *const *mut ffi::PyObject,
    count: usize,
    names: *mut ffi::PyObject,
) -> PyResult<Bound<'py, PyAny>> {
    let py = original.py();
    // SAFETY: null or a tuple, says the caller.
    let names = unsafe { Borrowed::from_ptr_or_opt(py, names) };
    let names = names.map(|names| names.to_owned().cast_into::<PyTuple>());
    let names = names.transpose()?.unwrap_or_else(|| PyTuple::empty(py));
    let all = count + names.len();
    let args = if all == 0 {
        &[]
    } else {
        // SAFETY: as the caller says; without arguments it may be null.
        unsafe { std::slice::from_raw_parts(args, all) }
    };
    let args = args.iter().map(|arg| {
        // SAFETY: the interpreter's own references, which outlast the call.
        unsafe { Borrowed::from_ptr(py, *arg) }.to_owned()
    });
    let args: Vec<_> = args.collect();
    let (positional, values) = args.split_at(count);
    let positional = std::iter::once(object).chain(positional);
    let named = PyDict::new(py);
    for (name, value) in names.iter().zip(values) {
        named.set_item(name, value)?;
    }
    let positional = PyTuple::new(py, positional.collect::<Vec<_>>())?;
    original.call(positional, Some(&named))
}

fn missing() -> PyErr {
    PyRuntimeError::new_err("the class is not complete yet")
}
