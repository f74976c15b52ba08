//! Pools and executors of Python functions, under `procession.pool` and `procession.futures`.
//!
//! 1. `call`: what a worker is asked and what it answers; `worker`: the answering. 2. `function`: a function on its way, pickled once for many calls. 3. `crew`: the pool's engine, with workers
//!    that Python starts (`recruit`). 4. `task`, `map`, `stream`: one result, all results, results as they come; `pending`: what the first two have in common; `outcome`: from an answer to an object or an exception. 5. `callback`: the thread on which
//!    callbacks run.

mod call;
mod callback;
mod crew;
mod function;
mod map;
mod outcome;
mod pending;
mod recruit;
mod stream;
mod task;
mod worker;

use pyo3::prelude::*;

pub(crate) fn register(module: &Bound<'_, PyModule>) -> PyResult<()> {
    module.add_class::<crew::PyCrew>()?;
    module.add_class::<pending::PyPending>()?;
    module.add_class::<task::PyTask>()?;
    module.add_class::<map::PyMapTask>()?;
    module.add_class::<stream::PyStream>()?;
    module.add_class::<stream::PyFeeder>()?;
    module.add_class::<callback::PyCallbacks>()?;
    module.add_function(wrap_pyfunction!(recruit::work, module)?)
}
