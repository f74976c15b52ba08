//! Running a function before `main`.
//!
//! A child started by `spawn` is our own program again and must become a worker before the program's own `main` does
//! anything. A program that calls `init()` first does that by itself; a test binary's `main` belongs to libtest, which
//! would take the child's arguments for test names. A pointer in the `.init_array` section is called by the C library
//! before `main`, in the main thread.
//!
//! # What works there, and what does not
//! Tried with glibc 2.36 and Rust 1.95. Works: `println!`, `std::env::args` and variables, threads (also joining them),
//! panics with backtrace (caught, or in a thread), `std::process::exit` (flushes standard output), `Command`.
//! - The runtime's own start comes later, so in the hook SIGPIPE has its default action (a write to a closed pipe kills),
//!   closed standard streams were not replaced by `/dev/null`, a stack overflow of the main thread
//!   is a bare SIGSEGV without the message, and the main thread has no name (`<unnamed>` in a panic message).
//! - *Other* hooks that the linker placed later have not run: registries that fill themselves this way
//!   (`inventory`, C++ constructors) may be empty. Their order is the order of linking.
//! - With musl, `std::env::args` is empty until `main`: read `/proc/self/cmdline`.
//! - In a library opened by `dlopen` (a Python extension) the hook runs inside `dlopen`, under the loader's lock:
//!   starting a thread and joining it hangs there (tried). Leave the hook out of such a library, or return at once.
//!
//! # Safety
//! The section must hold nothing but pointers to functions of the C calling convention that do not unwind: the macro
//! places exactly one, to a function that catches panics.

use std::panic::{UnwindSafe, catch_unwind};

/// Calls a `fn()` before `main`. Place it at module level, in any crate that the program links
/// (in a library crate too: `#[used]` keeps it, also through link-time optimisation).
///
/// Expands to an unsafe attribute: a module that denies `unsafe_code` must expect it. The public form is [`init_before_main!`](crate::init_before_main).
#[cfg(test)]
macro_rules! before_main {
    ($function:path) => {
        const _: () = {
            // Item names in a macro are visible to what it expands: this one must not hide `$function`.
            extern "C" fn procession_before_main() {
                $crate::sys::elf_hook::run($function);
            }

            #[used]
            #[unsafe(link_section = ".init_array")]
            static PROCESSION_BEFORE_MAIN: extern "C" fn() = procession_before_main;
        };
    };
}

/// The exit code of a process whose main thread panicked, as the Rust runtime has it.
const PANIC_CODE: i32 = 101;

/// Calls `function`. If it panics, the process ends as if `main` had panicked.
pub(crate) fn run(function: impl FnOnce() + UnwindSafe) {
    if catch_unwind(function).is_err() {
        std::process::exit(PANIC_CODE);
    }
}

#[cfg(test)]
mod tests {
    #![expect(
        unsafe_code,
        reason = "the macro under test places a pointer in a section"
    )]

    use std::process::{Command, Output};
    use std::sync::OnceLock;
    use std::thread;

    /// Set in the environment of a child that shall act in the hook, to what it shall do.
    const VARIABLE: &str = "PROCESSION_TEST_HOOK";

    static RAN_ON: OnceLock<thread::ThreadId> = OnceLock::new();

    fn hook() {
        let _ = RAN_ON.set(thread::current().id());
        match std::env::var(VARIABLE).as_deref() {
            Ok("work") => work(),
            Ok("panic") => panic!("in the hook"),
            _ => {}
        }
    }

    before_main!(hook);

    fn work() -> ! {
        let doubled = thread::spawn(|| 21 * 2).join().expect("no panic");
        let caught = thread::spawn(|| panic!("in a thread")).join().is_err();
        let arguments: Vec<String> = std::env::args().skip(1).collect();
        let status = Command::new("/bin/true")
            .status()
            .is_ok_and(|status| status.success());
        print!("{doubled} {caught} {arguments:?} {status}");
        std::process::exit(7)
    }

    fn child(what: &str) -> Output {
        let mut command = Command::new("/proc/self/exe");
        command
            .args(["some", "arguments"])
            .env(VARIABLE, what)
            .env("RUST_BACKTRACE", "1");
        command.output().expect("start ourselves")
    }

    #[test]
    fn runs_before_main_in_its_thread() {
        let ran_on = RAN_ON.get().expect("the hook has run");
        assert_ne!(
            *ran_on,
            thread::current().id(),
            "tests run on other threads"
        );
    }

    #[test]
    fn std_works_in_the_hook() {
        let output = child("work");
        let text = String::from_utf8_lossy(&output.stdout);
        assert_eq!(text, "42 true [\"some\", \"arguments\"] true");
        assert_eq!(output.status.code(), Some(7));
        let errors = String::from_utf8_lossy(&output.stderr);
        assert!(
            errors.contains("in a thread") && errors.contains("stack backtrace"),
            "{errors}"
        );
    }

    #[test]
    fn a_panic_in_the_hook_ends_the_process() {
        let output = child("panic");
        assert_eq!(output.status.code(), Some(101));
        let errors = String::from_utf8_lossy(&output.stderr);
        assert!(
            errors.contains("in the hook") && errors.contains("stack backtrace"),
            "{errors}"
        );
    }
}
