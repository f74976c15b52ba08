//! The raw calls behind the crash tests: fork, wait, ptrace, breakpoints, the tick.
//!
//! # Safety
//! Forking: only the calling thread lives on in the child. glibc makes `malloc` usable there; the child must
//! not need a lock that another thread of the test binary may hold, which is why the crash tests run with
//! `--test-threads=1`. Ptrace: requests concern a child of the calling thread, and only its registers and its
//! scheduling, never this process's memory. The two trap instructions change no memory and only one register. The calls that a
//! tracee is made to do ([`call`]) are those that the tracer names: protecting a mapping that the test owns.
#![expect(unsafe_code)]

use std::arch::{asm, naked_asm};
use std::io;
use std::mem::{MaybeUninit, offset_of};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::ptr;

use libc::{c_int, c_long};
pub(crate) use rustix::process::{Pid, Signal};

/// Exit code of a forked child whose closure panicked, as in a Rust program.
pub(super) const PANICKED: i32 = 101;

/// In rax at the `ud2` that ends the victim's window, to tell it from an abort.
const CLOSING: u64 = 0x9ce5_510a_c105_ed00;

const RIP: usize = offset_of!(libc::user, regs) + offset_of!(libc::user_regs_struct, rip);
const RAX: usize = offset_of!(libc::user, regs) + offset_of!(libc::user_regs_struct, rax);
const DR0: usize = offset_of!(libc::user, u_debugreg);
const DR7: usize = DR0 + 7 * size_of::<u64>();

/// What `wait` saw.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Waited {
    /// Stopped for the tracer, by this signal.
    Stopped(i32),
    /// Gone, with this exit code.
    Exited(i32),
    /// Gone, by this signal.
    Signaled(i32),
    /// A tick came first.
    Interrupted,
    /// Asked not to wait, and nothing has happened.
    Running,
}

/// Forks a child that runs `child` and ends: code 0, or [`PANICKED`]. It dies with the thread that forked it.
pub(crate) fn fork(child: &mut dyn FnMut()) -> io::Result<Pid> {
    let parent = rustix::process::getpid();
    // SAFETY: the child uses only what survives a fork, see the header.
    let pid = unsafe { libc::fork() };
    if pid == 0 {
        // An error would only leave an orphan running until its own end.
        let _ = rustix::process::set_parent_process_death_signal(Some(Signal::KILL));
        if rustix::process::getppid() != Some(parent) {
            exit(1);
        }
        exit(catch_unwind(AssertUnwindSafe(child)).map_or(PANICKED, |()| 0));
    }
    Pid::from_raw(pid)
        .filter(|_| pid > 0)
        .ok_or_else(io::Error::last_os_error)
}

fn exit(code: i32) -> ! {
    // SAFETY: ends this process at once; no destructor or exit handler of the parent's runs twice.
    unsafe { libc::_exit(code) }
}

/// Waits for a change of a child: a stop, or its end, which reaps it.
pub(super) fn wait(pid: Pid, block: bool) -> io::Result<Waited> {
    let mut status = 0;
    let flags = libc::__WALL | if block { 0 } else { libc::WNOHANG };
    // SAFETY: `status` is a live local.
    let got = unsafe { libc::waitpid(raw(pid), &raw mut status, flags) };
    match got {
        0 => Ok(Waited::Running),
        -1 => match io::Error::last_os_error() {
            error if error.kind() == io::ErrorKind::Interrupted => Ok(Waited::Interrupted),
            error => Err(error),
        },
        _ if libc::WIFSTOPPED(status) => Ok(Waited::Stopped(libc::WSTOPSIG(status))),
        _ if libc::WIFSIGNALED(status) => Ok(Waited::Signaled(libc::WTERMSIG(status))),
        _ => Ok(Waited::Exited(libc::WEXITSTATUS(status))),
    }
}

/// Whether this process has no child, not even a zombie.
pub(super) fn no_children() -> bool {
    // SAFETY: a null status is allowed: nothing is written.
    let got = unsafe { libc::waitpid(-1, ptr::null_mut(), libc::WNOHANG | libc::__WALL) };
    got == -1 && io::Error::last_os_error().raw_os_error() == Some(libc::ECHILD)
}

/// Sends a signal; a process that is gone already is no error.
pub(super) fn kill(pid: Pid, signal: Signal) {
    // The one possible error is ESRCH: the pid is our child's, not yet reaped or just gone.
    let _ = rustix::process::kill_process(pid, signal);
}

/// The child agrees to be traced by its parent.
pub(super) fn trace_me() -> io::Result<()> {
    ptrace(libc::PTRACE_TRACEME, 0, 0, 0).map(drop)
}

/// Lets the kernel kill the stopped tracee when the tracer is gone.
pub(super) fn die_with_tracer(pid: Pid) -> io::Result<()> {
    let options = libc::PTRACE_O_EXITKILL | libc::PTRACE_O_TRACESYSGOOD;
    ptrace(libc::PTRACE_SETOPTIONS, raw(pid), 0, options as usize).map(drop)
}

/// Runs the stopped tracee for one instruction, delivering `signal` (0: none).
pub(super) fn step(pid: Pid, signal: i32) -> io::Result<()> {
    ptrace(libc::PTRACE_SINGLESTEP, raw(pid), 0, signal as usize).map(drop)
}

/// Runs the stopped tracee freely, delivering `signal` (0: none).
pub(super) fn resume(pid: Pid, signal: i32) -> io::Result<()> {
    ptrace(libc::PTRACE_CONT, raw(pid), 0, signal as usize).map(drop)
}

/// Runs the stopped tracee to the next beginning or end of a system call ([`AT_CALL`]), or to any other stop.
pub(super) fn resume_to_call(pid: Pid, signal: i32) -> io::Result<()> {
    ptrace(libc::PTRACE_SYSCALL, raw(pid), 0, signal as usize).map(drop)
}

/// The "signal" of a stop at the beginning or the end of a system call.
pub(super) const AT_CALL: i32 = libc::SIGTRAP | 0x80;

/// The address that made the stopped tracee's last fault.
pub(super) fn fault_address(pid: Pid) -> io::Result<u64> {
    let mut info = MaybeUninit::<libc::siginfo_t>::zeroed();
    ptrace(
        libc::PTRACE_GETSIGINFO,
        raw(pid),
        0,
        info.as_mut_ptr() as usize,
    )?;
    // SAFETY: zeroed, then written by the kernel: plain numbers, all of them valid.
    let info = unsafe { info.assume_init() };
    // SAFETY: a stop by SIGSEGV, whose `siginfo_t` has the address.
    Ok(unsafe { info.si_addr() } as u64)
}

/// Whether the stopped tracee is about to make a system call.
pub(super) fn at_syscall(pid: Pid, instruction: u64) -> io::Result<bool> {
    const SYSCALL: u64 = 0x050f;
    let code = ptrace(libc::PTRACE_PEEKTEXT, raw(pid), instruction as usize, 0)?;
    Ok(code & 0xffff == SYSCALL)
}

/// Makes the stopped tracee do a system call on the spot, and go on as if it had not.
pub(super) fn call(pid: Pid, number: c_long, arguments: [u64; 3]) -> io::Result<()> {
    let before = registers(pid)?;
    let mut registers = before;
    registers.rip = gate as *const () as u64;
    registers.rax = number as u64;
    // Not inside a system call that would have to be restarted.
    registers.orig_rax = u64::MAX;
    [registers.rdi, registers.rsi, registers.rdx] = arguments;
    set_registers(pid, registers)?;
    step(pid, 0)?;
    while wait(pid, true)? != Waited::Stopped(libc::SIGTRAP) {}
    let result = self::registers(pid)?.rax as i64;
    set_registers(pid, before)?;
    if result < 0 {
        Err(io::Error::from_raw_os_error(-result as i32))
    } else {
        Ok(())
    }
}

/// Where [`call`] sends the tracee: the same place in every process that was forked from this one.
#[unsafe(naked)]
extern "C" fn gate() {
    naked_asm!("syscall", "int3")
}

fn registers(pid: Pid) -> io::Result<libc::user_regs_struct> {
    let mut registers = MaybeUninit::<libc::user_regs_struct>::zeroed();
    let into = registers.as_mut_ptr() as usize;
    ptrace(libc::PTRACE_GETREGS, raw(pid), 0, into)?;
    // SAFETY: zeroed, then written by the kernel: plain numbers, all of them valid.
    Ok(unsafe { registers.assume_init() })
}

fn set_registers(pid: Pid, mut registers: libc::user_regs_struct) -> io::Result<()> {
    let from = (&raw mut registers) as usize;
    ptrace(libc::PTRACE_SETREGS, raw(pid), 0, from).map(drop)
}

/// Address of the instruction that the stopped tracee will execute next.
pub(super) fn instruction(pid: Pid) -> io::Result<u64> {
    ptrace(libc::PTRACE_PEEKUSER, raw(pid), RIP, 0)
}

/// Whether the tracee, stopped by SIGILL, stands at [`close_window`].
pub(super) fn at_closing(pid: Pid) -> io::Result<bool> {
    Ok(ptrace(libc::PTRACE_PEEKUSER, raw(pid), RAX, 0)? == CLOSING)
}

/// Arms or clears the stopped tracee's hardware breakpoint.
pub(super) fn set_breakpoint(pid: Pid, address: Option<u64>) -> io::Result<()> {
    ptrace(libc::PTRACE_POKEUSER, raw(pid), DR7, 0)?;
    if let Some(address) = address {
        ptrace(libc::PTRACE_POKEUSER, raw(pid), DR0, address as usize)?;
        // Bit 0 arms register 0; its condition bits are 0, which means "on execution".
        ptrace(libc::PTRACE_POKEUSER, raw(pid), DR7, 1)?;
    }
    Ok(())
}

fn ptrace(request: libc::c_uint, pid: i32, address: usize, data: usize) -> io::Result<u64> {
    let mut word: c_long = 0;
    let peek = request == libc::PTRACE_PEEKUSER || request == libc::PTRACE_PEEKTEXT;
    let data = if peek { (&raw mut word) as usize } else { data };
    // SAFETY: the raw call writes memory only where it peeks, and there `data` is the live local `word`, or where it gets registers or a
    // signal, and there `data` is a live local of the caller's, of the type that the kernel fills.
    let result = unsafe {
        libc::syscall(
            libc::SYS_ptrace,
            c_long::from(request),
            c_long::from(pid),
            address,
            data,
        )
    };
    if result == -1 {
        Err(io::Error::last_os_error())
    } else {
        Ok(word as u64)
    }
}

/// Stops the traced process, which goes on behind it when resumed.
#[inline(always)]
pub(super) fn stop_here() {
    // SAFETY: traps into the tracer and changes nothing; not `nomem`, so that the operation stays behind it.
    unsafe { asm!("int3", options(nostack)) }
}

/// Ends the victim's window. It is another trap than [`stop_here`], so that the tracer sees by the signal
/// alone that this is no single step, without looking at the registers after each.
#[inline(always)]
pub(super) fn close_window() {
    // SAFETY: faults into the tracer, which kills; not `nomem`, so that the operation stays before it.
    unsafe { asm!("ud2", in("rax") CLOSING, options(nostack)) }
}

/// Starts (or, with 0, ends) a periodic signal that interrupts [`wait`].
pub(super) fn tick_every(micros: u32) -> io::Result<()> {
    let beat = libc::timeval {
        tv_sec: 0,
        tv_usec: micros.into(),
    };
    let timer = libc::itimerval {
        it_interval: beat,
        it_value: beat,
    };
    // SAFETY: `timer` is a live local, and no old value is asked for.
    let result = unsafe { libc::setitimer(libc::ITIMER_REAL, &raw const timer, ptr::null_mut()) };
    if result == 0 {
        Ok(())
    } else {
        Err(io::Error::last_os_error())
    }
}

/// Lets [`tick_every`]'s signal interrupt calls instead of ending the process.
pub(super) fn catch_ticks() -> io::Result<()> {
    extern "C" fn ignore(_signal: c_int) {}
    let handler: extern "C" fn(c_int) = ignore;
    // SAFETY: all-zero is a valid sigaction: the default action, no flags (so no SA_RESTART), an empty mask.
    let mut action: libc::sigaction = unsafe { std::mem::zeroed() };
    action.sa_sigaction = handler as libc::sighandler_t;
    // SAFETY: the handler does nothing, hence is async-signal-safe, and lives as long as the program.
    let result = unsafe { libc::sigaction(libc::SIGALRM, &raw const action, ptr::null_mut()) };
    if result == 0 {
        Ok(())
    } else {
        Err(io::Error::last_os_error())
    }
}

/// What the process does just now, as `/proc` says it: `S` asleep where a signal would wake it, `R` running or about to, `Z` gone and not reaped, ...
pub(super) fn state(pid: Pid) -> Option<char> {
    let stat = std::fs::read_to_string(format!("/proc/{}/stat", raw(pid))).ok()?;
    let (_, rest) = stat.rsplit_once(") ")?;
    rest.chars().next()
}

/// Whether the process sleeps in the kernel where a signal would wake it.
pub(super) fn is_asleep(pid: Pid) -> bool {
    state(pid) == Some('S')
}

fn raw(pid: Pid) -> i32 {
    pid.as_raw_nonzero().get()
}

/// Maps zeroed memory that forked children share; it is never unmapped.
pub(super) fn map_shared(len: usize) -> io::Result<ptr::NonNull<u8>> {
    use rustix::mm::{MapFlags, ProtFlags, mmap_anonymous};
    // SAFETY: a new mapping at an address that the kernel chooses replaces nothing.
    let at = unsafe {
        mmap_anonymous(
            ptr::null_mut(),
            len,
            ProtFlags::READ | ProtFlags::WRITE,
            MapFlags::SHARED,
        )
    }?;
    ptr::NonNull::new(at.cast()).ok_or_else(|| io::Error::other("mmap gave a null address"))
}

/// Unmaps what [`map_shared`] gave.
///
/// # Safety
/// Nothing refers into the mapping any more, and `len` is its length.
pub(super) unsafe fn unmap_shared(at: ptr::NonNull<u8>, len: usize) {
    // SAFETY: the caller's duty. An error leaves it mapped, which harms nobody.
    let _ = unsafe { rustix::mm::munmap(at.as_ptr().cast(), len) };
}
