//! Says to the compiler what Python it builds for: `Py_GIL_DISABLED` is one without the interpreter's lock.

fn main() {
    pyo3_build_config::use_pyo3_cfgs();
}
