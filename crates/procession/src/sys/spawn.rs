//! Starting a program.
//!
//! Two ways. [`Launch::spawn`] is `posix_spawn`: the child borrows our memory until it executes, so it costs the
//! same however big we are, and no at-fork handler runs. [`Launch::fork_exec`] is fork and exec, for what
//! `posix_spawn` cannot do: a function to call, resource limits, another directory.
//!
//! # Our own program again
//! [`SELF_EXE`] is passed as it is and resolved *in the child*. There the kernel follows the link to the very file that
//! this process runs, by inode, not by name: it works when the file was replaced by an upgrade (the child then runs the
//! old build, whose function addresses are ours), renamed, or deleted. Resolving the link in the parent (as
//! `current_exe` does) would give a name, and with it a stranger or nothing. An open descriptor executed as
//! `/proc/self/fd/N` would pin the same inode, but costs every process a descriptor and needs /proc just the same.
//!
//! # Descriptors
//! Number `n` in the child may be the number of another descriptor that is still to be passed, so each source whose
//! number is also a target is first duplicated, here in the parent, above all targets. That also makes passing a
//! descriptor under its own number an ordinary `dup2`, which clears close-on-exec everywhere (C libraries before
//! 2.29 left it set when both numbers were the same). What else the child inherits is whatever is not close-on-exec.
//!
//! # When exec fails
//! The forked child reports through a pipe that exec closes. A process forked by another thread at the same
//! moment holds a copy of the pipe's end, so the end of file alone proves nothing if it does not come: then we look
//! whether the child itself still has the pipe open.
//!
//! # Safety
//! The raw calls here get pointers into [`Plan`] and locals, which outlive them. The forked child, which may be a copy
//! of one thread of many, makes system calls only (apart from the caller's hook).
#![expect(unsafe_code)]

use super::error::{errno, failed};
use super::fork::{Fork, adopt, exit_now, fork};
use super::pidfd::Child;
use super::signal::{self, Blocked, Disposition, SignalSet};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::fs::{Mode, OFlags};
use rustix::io::Errno;
use rustix::pipe::PipeFlags;
use rustix::process::{Resource, Rlimit};
use std::ffi::{CStr, CString, c_char, c_int, c_short};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd, RawFd};
use std::os::unix::ffi::OsStringExt;
use std::{io, ptr};

/// The program this process runs, whatever became of its file: see the header.
pub(crate) const SELF_EXE: &CStr = c"/proc/self/exe";

/// What a child gets as its standard input, output or error.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Stdio<'a> {
    /// Ours.
    Inherit,
    /// `/dev/null`.
    Null,
    /// This descriptor.
    Fd(BorrowedFd<'a>),
}

/// A program to start. Its signal mask will be empty and SIGPIPE at its default, as with `std::process`.
#[derive(Debug)]
pub(crate) struct Launch<'a> {
    /// Path of the program, resolved in the child. No search in PATH.
    pub(crate) program: &'a CStr,
    /// Arguments, beginning with the program's name.
    pub(crate) arguments: &'a [CString],
    /// The whole environment, as `NAME=value`: see [`current_environment`].
    pub(crate) environment: &'a [CString],
    /// Descriptors to pass: ours, and the number it shall have in the child.
    pub(crate) fds: &'a [(BorrowedFd<'a>, RawFd)],
    /// Standard input, output and error.
    pub(crate) stdio: [Stdio<'a>; 3],
    /// Where to start, if not in our directory.
    pub(crate) directory: Option<&'a CStr>,
    /// Whether the child leads a process group of its own.
    pub(crate) new_group: bool,
}

impl<'a> Launch<'a> {
    /// A program with our standard streams, our directory and our process group, and no descriptors passed.
    pub(crate) fn new(
        program: &'a CStr,
        arguments: &'a [CString],
        environment: &'a [CString],
    ) -> Self {
        Self {
            program,
            arguments,
            environment,
            fds: &[],
            stdio: [Stdio::Inherit; 3],
            directory: None,
            new_group: false,
        }
    }

    /// Starts the program, the fast way where that is possible.
    ///
    /// # Errors
    /// Whatever kept the program from being executed, with the number of the system's error inside.
    pub(crate) fn spawn(&self) -> io::Result<Child> {
        // The C library learnt to change directory in `posix_spawn` later than the oldest we want to run on; and only
        // our own fork holds the child back while the kernel may reap it under our hands.
        if self.directory.is_some() || signal::children_reaped_by_kernel() {
            return self.spawn_limited(&[]);
        }
        self.posix_spawn().map_err(|error| self.explain(error))
    }

    /// Starts the program with resource limits of its own.
    pub(crate) fn spawn_limited(&self, limits: &[(Resource, Rlimit)]) -> io::Result<Child> {
        // SAFETY: the hook does nothing.
        unsafe { self.fork_exec(limits, &mut || Ok(())) }
    }

    /// As [`fork_exec`](Self::fork_exec), with a hook for which the user answers.
    pub(crate) fn spawn_hooked(
        &self,
        limits: &[(Resource, Rlimit)],
        hook: &mut Hook,
    ) -> io::Result<Child> {
        // SAFETY: whoever made the hook answers for what it does.
        unsafe { self.fork_exec(limits, &mut *hook.0) }
    }

    /// Forks, calls `hook` in the child when all else is set up, and executes the program.
    ///
    /// # Errors
    /// As [`spawn`](Self::spawn); also the hook's error (its number only).
    ///
    /// # Safety
    /// `hook` runs in a copy of this process that has only the calling thread: see [`fork`].
    pub(crate) unsafe fn fork_exec(
        &self,
        limits: &[(Resource, Rlimit)],
        hook: &mut dyn FnMut() -> io::Result<()>,
    ) -> io::Result<Child> {
        let plan = self.plan()?;
        let (answer, report) = report_pipe(plan.first_free)?;

        // No handler of ours may run in the half-made child: it could write into what it shares with us.
        let blocked = Blocked::all();
        // SAFETY: the child makes system calls on data of this thread only, but for `hook`, for which the caller answers.
        let forked = unsafe { fork() };
        match forked.map_err(|error| self.explain(error))? {
            Fork::Child => {
                let (step, error) = self.become_program(&plan, limits, hook);
                let _ = rustix::io::write(
                    &report,
                    &Report {
                        step,
                        errno: errno(&error).unwrap_or(0),
                    }
                    .to_bytes(),
                );
                exit_now(127)
            }
            Fork::Parent(child) => {
                drop(blocked);
                match outcome(&answer, report, &child) {
                    None => Ok(child),
                    Some(report) => {
                        child.pidfd.wait_status()?;
                        Err(self.explain(report.into_error()))
                    }
                }
            }
        }
    }

    fn explain(&self, error: io::Error) -> io::Error {
        failed(format!("start {}", self.program.to_string_lossy()), error)
    }

    fn posix_spawn(&self) -> io::Result<Child> {
        let plan = self.plan()?;
        let actions = FileActions::new(&plan.moves)?;
        let attributes = Attributes::new(self.new_group)?;
        let mut pid = 0;
        // SAFETY: all pointers are to things that live until the call returns: the path, the initialised actions and
        // attributes, and the plan's null-terminated arrays of null-terminated strings, which the call does not change.
        let error = unsafe {
            libc::posix_spawn(
                &raw mut pid,
                self.program.as_ptr(),
                &raw const actions.0,
                &raw const attributes.0,
                plan.arguments.as_ptr().cast(),
                plan.environment.as_ptr().cast(),
            )
        };
        check(error)?;
        adopt(pid)
    }

    /// Settles everything that needs memory, before there is a child.
    fn plan(&self) -> io::Result<Plan> {
        let mut wanted: Vec<(RawFd, RawFd)> = Vec::with_capacity(self.fds.len() + 3);
        let mut held = Vec::new();
        for (stdio, to) in self.stdio.iter().zip(0..) {
            match stdio {
                Stdio::Inherit => {}
                Stdio::Fd(fd) => wanted.push((fd.as_raw_fd(), to)),
                Stdio::Null => {
                    let null = rustix::fs::open(
                        c"/dev/null",
                        OFlags::RDWR | OFlags::CLOEXEC,
                        Mode::empty(),
                    )
                    .map_err(|error| failed("open /dev/null", error))?;
                    wanted.push((null.as_raw_fd(), to));
                    held.push(null);
                }
            }
        }
        wanted.extend(self.fds.iter().map(|(fd, to)| (fd.as_raw_fd(), *to)));

        let mut targets: Vec<RawFd> = wanted.iter().map(|(_, to)| *to).collect();
        targets.sort_unstable();
        if targets.first().is_some_and(|first| *first < 0)
            || targets.windows(2).any(|pair| pair[0] == pair[1])
        {
            let problem = "pass two descriptors under one number, or one under a negative number";
            return Err(io::Error::new(io::ErrorKind::InvalidInput, problem));
        }
        let first_free = targets
            .last()
            .map_or(3, |last| last.saturating_add(1).max(3));
        for (from, _) in &mut wanted {
            if targets.binary_search(from).is_ok() {
                // SAFETY: the number comes from a descriptor borrowed for 'a or held in `held`: it is open.
                let source = unsafe { BorrowedFd::borrow_raw(*from) };
                let copy = duplicate_above(source, first_free)?;
                *from = copy.as_raw_fd();
                held.push(copy);
            }
        }
        Ok(Plan {
            moves: wanted,
            first_free,
            arguments: pointers(self.arguments),
            environment: pointers(self.environment),
            _held: held,
        })
    }

    /// In the forked child: everything up to and including exec. Returns only if a step failed. Allocates nothing.
    fn become_program(
        &self,
        plan: &Plan,
        limits: &[(Resource, Rlimit)],
        hook: &mut dyn FnMut() -> io::Result<()>,
    ) -> (Step, io::Error) {
        reset_signals();
        for (from, to) in &plan.moves {
            // SAFETY: dup2 closes `to`, whatever it is: in this process, made a moment ago to run another program,
            // nobody but us will use it again.
            if unsafe { libc::dup2(*from, *to) } < 0 {
                return (Step::Descriptors, io::Error::last_os_error());
            }
        }
        if let Some(directory) = self.directory
            && let Err(error) = rustix::process::chdir(directory)
        {
            return (Step::Directory, error.into());
        }
        if self.new_group
            && let Err(error) = rustix::process::setpgid(None, None)
        {
            return (Step::Group, error.into());
        }
        for (resource, limit) in limits {
            if let Err(error) = rustix::process::setrlimit(*resource, *limit) {
                return (Step::Limits, error.into());
            }
        }
        if let Err(error) = hook() {
            return (Step::Hook, error);
        }
        // SAFETY: the path and the plan's null-terminated arrays of null-terminated strings are alive.
        unsafe {
            libc::execve(
                self.program.as_ptr(),
                plan.arguments.as_ptr().cast(),
                plan.environment.as_ptr().cast(),
            )
        };
        (Step::Exec, io::Error::last_os_error())
    }
}

/// A function of the user's that is called in the forked child before exec.
pub(crate) struct Hook(Box<dyn FnMut() -> io::Result<()> + Send>);

impl Hook {
    /// # Safety
    /// The function must be fit to be called in a forked copy of a process that may have had other threads: see [`fork`].
    pub(crate) unsafe fn new(f: impl FnMut() -> io::Result<()> + Send + 'static) -> Self {
        Self(Box::new(f))
    }
}

impl std::fmt::Debug for Hook {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Hook")
    }
}

/// A launch in the form that the raw calls want. The pointers are into the launch's strings.
struct Plan {
    /// For `dup2`, in any order: no source is another move's target.
    moves: Vec<(RawFd, RawFd)>,
    /// A number above all targets and the standard streams.
    first_free: RawFd,
    arguments: Vec<*const c_char>,
    environment: Vec<*const c_char>,
    /// Sources that are ours, open until the child has its own.
    _held: Vec<OwnedFd>,
}

/// The strings as C wants an array of them: pointers, and a null at the end.
fn pointers(strings: &[CString]) -> Vec<*const c_char> {
    strings
        .iter()
        .map(|string| string.as_ptr())
        .chain([ptr::null()])
        .collect()
}

fn duplicate_above(fd: BorrowedFd<'_>, lowest: RawFd) -> io::Result<OwnedFd> {
    rustix::io::fcntl_dupfd_cloexec(fd, lowest)
        .map_err(|error| failed("duplicate a descriptor", error))
}

fn check(error: c_int) -> io::Result<()> {
    if error == 0 {
        Ok(())
    } else {
        Err(io::Error::from_raw_os_error(error))
    }
}

/// In the forked child, with all signals blocked: handlers away, SIGPIPE at its default, nothing blocked.
///
/// Exec would drop the handlers too, but only after the mask is lifted. Ignored signals stay ignored (`nohup`).
fn reset_signals() {
    for number in 1..=signal::HIGHEST {
        if number == libc::SIGPIPE
            || signal::disposition(number).is_ok_and(|is| is == Disposition::Handled)
        {
            // Fails for the two that the C library reserves, whose handlers exec drops, and which nobody sends now.
            let _ = signal::set_default(number);
        }
    }
    SignalSet::empty().install();
}

/// What the child was at when it failed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Step {
    Descriptors,
    Directory,
    Group,
    Limits,
    Hook,
    Exec,
}

impl Step {
    const ALL: [Self; 6] = [
        Self::Descriptors,
        Self::Directory,
        Self::Group,
        Self::Limits,
        Self::Hook,
        Self::Exec,
    ];

    fn attempt(self) -> &'static str {
        match self {
            Self::Descriptors => "pass descriptors",
            Self::Directory => "change directory",
            Self::Group => "make a process group",
            Self::Limits => "set resource limits",
            Self::Hook => "call the function before exec",
            Self::Exec => "execute the program",
        }
    }
}

/// The child's last words.
struct Report {
    step: Step,
    errno: i32,
}

impl Report {
    /// One write of this size into an empty pipe neither blocks nor splits.
    fn to_bytes(&self) -> [u8; 5] {
        let [a, b, c, d] = self.errno.to_ne_bytes();
        [self.step as u8, a, b, c, d]
    }

    fn from_bytes([step, errno @ ..]: [u8; 5]) -> Self {
        let step = Step::ALL
            .get(usize::from(step))
            .copied()
            .unwrap_or(Step::Exec);
        Self {
            step,
            errno: i32::from_ne_bytes(errno),
        }
    }

    fn into_error(self) -> io::Error {
        let cause = match self.errno {
            0 => io::Error::other("an error without a number"),
            errno => io::Error::from_raw_os_error(errno),
        };
        failed(self.step.attempt(), cause)
    }
}

/// How long we wait for the pipe before we look into the child.
const PATIENCE: Timespec = Timespec {
    tv_sec: 0,
    tv_nsec: 20_000_000,
};

/// A pipe for the child's report: our end, and the child's, numbered `lowest` or above. There is no second
/// descriptor of the child's end: it would keep the end of file from us.
fn report_pipe(lowest: RawFd) -> io::Result<(OwnedFd, OwnedFd)> {
    let (answer, low) = rustix::pipe::pipe_with(PipeFlags::CLOEXEC | PipeFlags::NONBLOCK)
        .map_err(|error| failed("make a pipe", error))?;
    let report = duplicate_above(low.as_fd(), lowest)?;
    Ok((answer, report))
}

/// Waits until the forked child has executed its program, or has failed or died before: then its report, if any.
fn outcome(answer: &OwnedFd, ours: OwnedFd, child: &Child) -> Option<Report> {
    let number = ours.as_raw_fd();
    let pipe = std::fs::read_link(format!("/proc/self/fd/{number}")).ok();
    drop(ours);
    loop {
        let mut fds = [PollFd::new(answer, PollFlags::IN)];
        let quiet = poll(&mut fds, Some(&PATIENCE)) == Ok(0);
        let gone = quiet && pipe.is_some() && {
            let held = std::fs::read_link(format!("/proc/{}/fd/{number}", child.pid)).ok();
            held != pipe
        };
        let mut bytes = [0; 5];
        // Read after the look into the child: a report was written before the child let go of the pipe.
        match rustix::io::read(answer, &mut bytes) {
            Ok(5) => return Some(Report::from_bytes(bytes)),
            Err(Errno::INTR) => {}
            Err(Errno::AGAIN) if !gone => {}
            _ => return None,
        }
    }
}

/// `posix_spawn_file_actions_t`, owned.
struct FileActions(libc::posix_spawn_file_actions_t);

impl FileActions {
    fn new(moves: &[(RawFd, RawFd)]) -> io::Result<Self> {
        let mut raw = MaybeUninit::uninit();
        // SAFETY: the call initialises the local it is given.
        check(unsafe { libc::posix_spawn_file_actions_init(raw.as_mut_ptr()) })?;
        // SAFETY: it succeeded. (The structure holds no pointer to itself: it may move.)
        let mut actions = Self(unsafe { raw.assume_init() });
        for (from, to) in moves {
            // SAFETY: the actions are initialised; the numbers are only looked at in the child.
            check(unsafe {
                libc::posix_spawn_file_actions_adddup2(&raw mut actions.0, *from, *to)
            })?;
        }
        Ok(actions)
    }
}

impl Drop for FileActions {
    fn drop(&mut self) {
        // SAFETY: initialised in `new`, destroyed only here.
        unsafe { libc::posix_spawn_file_actions_destroy(&raw mut self.0) };
    }
}

/// `posix_spawnattr_t`, owned.
struct Attributes(libc::posix_spawnattr_t);

impl Attributes {
    fn new(new_group: bool) -> io::Result<Self> {
        let mut raw = MaybeUninit::uninit();
        // SAFETY: the call initialises the local it is given.
        check(unsafe { libc::posix_spawnattr_init(raw.as_mut_ptr()) })?;
        // SAFETY: it succeeded. (The structure holds no pointers.)
        let mut attributes = Self(unsafe { raw.assume_init() });
        let attr = &raw mut attributes.0;
        let defaults = SignalSet::empty().with(libc::SIGPIPE);
        let mask = SignalSet::empty();
        let mut flags = libc::POSIX_SPAWN_SETSIGDEF | libc::POSIX_SPAWN_SETSIGMASK;
        // SAFETY: the attributes are initialised, and the set is copied.
        check(unsafe { libc::posix_spawnattr_setsigdefault(attr, defaults.as_raw()) })?;
        // SAFETY: as above.
        check(unsafe { libc::posix_spawnattr_setsigmask(attr, mask.as_raw()) })?;
        if new_group {
            flags |= libc::POSIX_SPAWN_SETPGROUP;
            // SAFETY: the attributes are initialised; group 0 means the child's own pid.
            check(unsafe { libc::posix_spawnattr_setpgroup(attr, 0) })?;
        }
        // SAFETY: the attributes are initialised; unknown flags would be refused.
        check(unsafe { libc::posix_spawnattr_setflags(attr, flags as c_short) })?;
        Ok(attributes)
    }
}

impl Drop for Attributes {
    fn drop(&mut self) {
        // SAFETY: initialised in `new`, destroyed only here.
        unsafe { libc::posix_spawnattr_destroy(&raw mut self.0) };
    }
}

/// Our environment, in the form that [`Launch`] takes. Safe against another thread's `std::env::set_var`.
pub(crate) fn current_environment() -> Vec<CString> {
    std::env::vars_os()
        .filter_map(|(name, value)| {
            let mut pair = name.into_vec();
            pair.push(b'=');
            pair.extend(value.into_vec());
            CString::new(pair).ok()
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sys::pidfd::{ExitStatus, Pidfd};
    use std::io::Read;

    fn strings(texts: &[&str]) -> Vec<CString> {
        texts
            .iter()
            .map(|text| CString::new(*text).expect("no null"))
            .collect()
    }

    /// Both ways to start the same program.
    fn both(launch: &Launch<'_>) -> [io::Result<Child>; 2] {
        [launch.spawn(), launch.spawn_limited(&[])]
    }

    /// What `sh -c script` prints, started each way.
    fn output(script: &str, adjust: impl Fn(&mut Launch<'_>)) -> [String; 2] {
        let arguments = strings(&["sh", "-c", script]);
        let environment = strings(&["PATH=/usr/bin:/bin", "GREETING=hello"]);
        [false, true].map(|forked| {
            let (mut from, to) = io::pipe().expect("pipe");
            let mut launch = Launch::new(c"/bin/sh", &arguments, &environment);
            launch.stdio = [Stdio::Null, Stdio::Fd(to.as_fd()), Stdio::Inherit];
            adjust(&mut launch);
            let started = if forked {
                launch.spawn_limited(&[])
            } else {
                launch.spawn()
            };
            let child = started.expect("start sh");
            drop(to);
            let mut text = String::new();
            from.read_to_string(&mut text).expect("read");
            assert_eq!(
                child.pidfd.wait_status().ok(),
                Some(ExitStatus::Exited(0)),
                "{text}"
            );
            text
        })
    }

    fn same_both_ways(outputs: [String; 2], expected: &str) {
        assert_eq!(outputs, [expected.to_owned(), expected.to_owned()]);
    }

    #[test]
    fn passes_arguments_environment_and_status() {
        let arguments = strings(&["sh", "-c", "exit $CODE"]);
        let environment = strings(&["CODE=7"]);
        for child in both(&Launch::new(c"/bin/sh", &arguments, &environment)) {
            let child = child.expect("start");
            assert_eq!(child.pidfd.wait_status().ok(), Some(ExitStatus::Exited(7)));
        }
        same_both_ways(output("echo $GREETING", |_| ()), "hello\n");
    }

    #[test]
    fn reports_what_cannot_be_executed() {
        let arguments = strings(&["x"]);
        for (program, number) in [
            (c"/nowhere/at all", libc::ENOENT),
            (c"/etc/passwd", libc::EACCES),
            (c"/etc", libc::EACCES),
        ] {
            for child in both(&Launch::new(program, &arguments, &[])) {
                assert_eq!(errno(&child.unwrap_err()), Some(number), "{program:?}");
            }
        }
    }

    #[test]
    fn starts_in_another_directory() {
        same_both_ways(
            output("pwd", |launch| launch.directory = Some(c"/usr/bin")),
            "/usr/bin\n",
        );
        let arguments = strings(&["true"]);
        let mut launch = Launch::new(c"/bin/true", &arguments, &[]);
        launch.directory = Some(c"/nowhere");
        let error = launch.spawn().unwrap_err();
        assert_eq!(errno(&error), Some(libc::ENOENT));
        let step = std::error::Error::source(&error).map(ToString::to_string);
        assert_eq!(step.as_deref(), Some("change directory"));
    }

    #[test]
    fn leads_a_group() {
        let script = "set -- $(cat /proc/self/stat); test $5 = $$ && echo leader || echo member";
        same_both_ways(output(script, |launch| launch.new_group = true), "leader\n");
        same_both_ways(output(script, |_| ()), "member\n");
    }

    #[test]
    fn swaps_descriptors_and_keeps_numbers() {
        let files = ["one", "two", "three"].map(|text| {
            let file =
                rustix::fs::memfd_create(text, rustix::fs::MemfdFlags::CLOEXEC).expect("memfd");
            rustix::io::pwrite(&file, text.as_bytes(), 0).expect("write");
            file
        });
        let numbers = files.each_ref().map(AsRawFd::as_raw_fd);
        // The first two change places, the third keeps its number.
        let fds = [
            (files[0].as_fd(), numbers[1]),
            (files[1].as_fd(), numbers[0]),
            (files[2].as_fd(), numbers[2]),
        ];
        let script = numbers
            .map(|number| format!("cat /proc/self/fd/{number}; echo; "))
            .concat();
        let arguments = strings(&["sh", "-c", &script]);
        let environment = strings(&["PATH=/usr/bin:/bin"]);
        for forked in [false, true] {
            let (mut from, to) = io::pipe().expect("pipe");
            let mut launch = Launch::new(c"/bin/sh", &arguments, &environment);
            launch.fds = &fds;
            launch.stdio[1] = Stdio::Fd(to.as_fd());
            let child = if forked {
                launch.spawn_limited(&[])
            } else {
                launch.spawn()
            }
            .expect("start");
            drop(to);
            let mut text = String::new();
            from.read_to_string(&mut text).expect("read");
            assert_eq!(child.pidfd.wait_status().ok(), Some(ExitStatus::Exited(0)));
            assert_eq!(text, "two\none\nthree\n");
        }
        // Ours are as they were.
        for file in &files {
            let flags = rustix::io::fcntl_getfd(file).expect("flags");
            assert!(flags.contains(rustix::io::FdFlags::CLOEXEC));
        }
    }

    #[test]
    fn refuses_one_number_twice() {
        let null = std::fs::File::open("/dev/null").expect("open");
        let arguments = strings(&["true"]);
        for fds in [
            [(null.as_fd(), 9), (null.as_fd(), 9)],
            [(null.as_fd(), 9), (null.as_fd(), -1)],
        ] {
            let mut launch = Launch::new(c"/bin/true", &arguments, &[]);
            launch.fds = &fds;
            assert_eq!(
                launch.spawn().map_err(|error| error.kind()).err(),
                Some(io::ErrorKind::InvalidInput)
            );
        }
    }

    #[test]
    fn nothing_else_is_inherited() {
        let mark = rustix::fs::memfd_create("procession-mark", rustix::fs::MemfdFlags::CLOEXEC)
            .expect("memfd");
        for listing in output("exec ls -l /proc/self/fd", |_| ()) {
            assert!(listing.contains("/dev/null"), "{listing}");
            assert!(!listing.contains("procession-mark"), "{listing}");
        }
        drop(mark);
    }

    /// What `/proc/self/status` says of a set of signals.
    fn signals(status: &str, set: &str) -> u64 {
        let line = status.lines().find_map(|line| line.strip_prefix(set));
        let number = line.map(|line| line.trim_start_matches(':').trim());
        u64::from_str_radix(number.expect("a line"), 16).expect("a set")
    }

    #[test]
    fn signals_are_clean() {
        assert_eq!(
            signal::disposition(libc::SIGPIPE).ok(),
            Some(Disposition::Ignored),
            "the Rust runtime does so"
        );
        let bit = |number: i32| 1_u64 << (number - 1);
        // 32 and 33 are the C library's own; its `posix_spawn` leaves them ignored.
        let foreign = bit(32) | bit(33);
        // Whoever starts the tests may ignore signals (`nohup`, a shell's `&`): they stay ignored, and no other is, SIGPIPE included.
        let ours = std::fs::read_to_string("/proc/self/status").expect("status");
        let ignored = signals(&ours, "SigIgn") & !bit(libc::SIGPIPE) & !foreign;
        let blocked = Blocked::all();
        let outputs = output("cat /proc/self/status", |_| ());
        drop(blocked);
        for theirs in outputs {
            let found = ["SigBlk", "SigIgn", "SigCgt"].map(|set| signals(&theirs, set) & !foreign);
            assert_eq!(found, [0, ignored, 0], "{theirs}");
        }
    }

    #[test]
    fn ignored_signals_stay_ignored() {
        // SAFETY: the child ends without returning into the test.
        let child = match unsafe { fork() }.expect("fork") {
            Fork::Child => {
                for number in [libc::SIGINT, libc::SIGXFSZ] {
                    // SAFETY: SIG_IGN is a valid handler.
                    unsafe { libc::signal(number, libc::SIG_IGN) };
                }
                let asked = 1_u64 << (libc::SIGINT - 1) | 1 << (libc::SIGXFSZ - 1);
                let outputs = output("cat /proc/self/status", |_| ());
                let kept = outputs
                    .iter()
                    .all(|theirs| signals(theirs, "SigIgn") & asked == asked);
                exit_now(i32::from(!kept))
            }
            Fork::Parent(child) => child,
        };
        assert_eq!(child.pidfd.wait_status().ok(), Some(ExitStatus::Exited(0)));
    }

    #[test]
    fn sets_limits() {
        let arguments = strings(&["sh", "-c", "test $(ulimit -n) = 77"]);
        let limit = Rlimit {
            current: Some(77),
            maximum: Some(77),
        };
        let launch = Launch::new(c"/bin/sh", &arguments, &[]);
        let child = launch
            .spawn_limited(&[(Resource::Nofile, limit)])
            .expect("start");
        assert_eq!(child.pidfd.wait_status().ok(), Some(ExitStatus::Exited(0)));
    }

    #[test]
    fn calls_the_hook_in_the_child() {
        let arguments = strings(&["sh", "-c", "kill -9 $$"]);
        let launch = Launch::new(c"/bin/sh", &arguments, &[]);
        let mut called = 0;
        // SAFETY: the hook touches this thread's data only.
        let child = unsafe {
            launch.fork_exec(&[], &mut || {
                called += 1;
                Ok(())
            })
        };
        let killed = ExitStatus::Signaled {
            signal: libc::SIGKILL,
            core_dumped: false,
        };
        assert_eq!(child.expect("start").pidfd.wait_status().ok(), Some(killed));
        // SAFETY: the hook does nothing.
        let refused = unsafe {
            launch.fork_exec(&[], &mut || Err(io::Error::from_raw_os_error(libc::EXDEV)))
        };
        assert_eq!(errno(&refused.unwrap_err()), Some(libc::EXDEV));
        assert_eq!(called, 0);
    }

    #[test]
    fn the_report_pipe_has_one_writer() {
        let (answer, report) = report_pipe(40).expect("pipe");
        assert!(report.as_raw_fd() >= 40);
        drop(report);
        // Other tests fork at the same time; their children let go of the pipe soon.
        poll(&mut [PollFd::new(&answer, PollFlags::IN)], None).expect("poll");
        assert_eq!(rustix::io::read(&answer, &mut [0; 5]), Ok(0));
    }

    #[test]
    fn a_sibling_that_holds_the_pipe_does_not_hold_us_up() {
        // A process that never executes anything and holds copies of all our descriptors, the report pipe included.
        let (answer, report) =
            rustix::pipe::pipe_with(PipeFlags::CLOEXEC | PipeFlags::NONBLOCK).expect("pipe");
        // SAFETY: the child only sleeps.
        let holder = match unsafe { fork() }.expect("fork") {
            Fork::Child => {
                let _ = poll(&mut [], None);
                exit_now(0)
            }
            Fork::Parent(child) => child,
        };
        let arguments = strings(&["sleep", "1000"]);
        let program = Launch::new(c"/bin/sleep", &arguments, &[])
            .spawn()
            .expect("start");
        assert!(outcome(&answer, report, &program).is_none());
        for child in [holder, program] {
            child.pidfd.send_signal(libc::SIGKILL).expect("kill");
            child.pidfd.wait_status().expect("wait");
        }
    }

    #[test]
    fn starts_while_the_kernel_reaps() {
        let arguments = strings(&["true"]);
        // SAFETY: the child touches its own data and allocates.
        let status = match unsafe { fork() }.expect("fork") {
            Fork::Child => {
                // SAFETY: SIG_IGN is a valid handler.
                unsafe { libc::signal(libc::SIGCHLD, libc::SIG_IGN) };
                let ended = |child: Child| child.pidfd.wait_status();
                let fine = (0..10).all(|_| {
                    let status = Launch::new(c"/bin/true", &arguments, &[])
                        .spawn()
                        .and_then(ended);
                    matches!(status, Ok(ExitStatus::Exited(0) | ExitStatus::Unknown))
                });
                exit_now(i32::from(!fine))
            }
            Fork::Parent(child) => child.pidfd.wait_status(),
        };
        assert_eq!(status.ok(), Some(ExitStatus::Exited(0)));
    }

    /// Runs only as a child of the next test: deletes and replaces its own program, then starts itself again.
    #[test]
    #[ignore = "a helper of another test"]
    fn helper_with_a_replaced_program() {
        let path = std::env::current_exe().expect("own path");
        if std::env::var_os("REPLACED").is_some() {
            return;
        }
        std::fs::remove_file(&path).expect("delete own program");
        std::fs::write(&path, "not a program").expect("replace own program");
        let name = "sys::spawn::tests::helper_with_a_replaced_program";
        let arguments = strings(&["again", "--exact", name, "--ignored"]);
        let environment = strings(&["REPLACED=1"]);
        for child in both(&Launch::new(SELF_EXE, &arguments, &environment)) {
            assert_eq!(
                child.expect("start").pidfd.wait_status().ok(),
                Some(ExitStatus::Exited(0))
            );
        }
    }

    #[test]
    fn own_program_survives_its_replacement() {
        let directory =
            std::env::temp_dir().join(format!("procession-spawn-{}", std::process::id()));
        std::fs::create_dir(&directory).expect("make a directory");
        let copy = directory.join("program");
        // Copied by a child: a descriptor open for writing, inherited by a sibling, would make exec fail (ETXTBSY).
        let own = std::env::current_exe().expect("own path");
        let copied = std::process::Command::new("cp")
            .arg(own)
            .arg(&copy)
            .status()
            .expect("cp");
        assert!(copied.success());
        let program = CString::new(copy.as_os_str().as_encoded_bytes()).expect("no null");
        let name = "sys::spawn::tests::helper_with_a_replaced_program";
        let arguments = strings(&["helper", "--exact", name, "--ignored"]);
        let mut launch = Launch::new(&program, &arguments, &[]);
        launch.stdio = [Stdio::Null; 3];
        let child = launch.spawn().expect("start");
        assert_eq!(child.pidfd.wait_status().ok(), Some(ExitStatus::Exited(0)));
        assert_eq!(
            std::fs::read(&copy).ok().as_deref(),
            Some(b"not a program".as_slice())
        );
        std::fs::remove_dir_all(&directory).expect("clean up");
    }

    #[test]
    fn passes_our_environment() {
        let environment = current_environment();
        assert!(
            environment
                .iter()
                .any(|pair| pair.as_bytes().starts_with(b"PATH="))
        );
        let child = Launch::new(c"/bin/true", &strings(&["true"]), &environment)
            .spawn()
            .expect("start");
        let pidfd: &Pidfd = &child.pidfd;
        assert_eq!(pidfd.wait_status().ok(), Some(ExitStatus::Exited(0)));
    }
}
