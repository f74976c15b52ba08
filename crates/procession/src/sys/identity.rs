//! Which process is that, and is it still there.
//!
//! A pid alone is no name: it is reused, and `kill(pid, 0)` succeeds on a zombie. A process is named here by its
//! pid *and* its birth; it is gone when its pidfd says so (readable on an unreaped zombie too), when the pid is free, or
//! when the pid now belongs to a process of another birth.
//!
//! The birth is the inode number of the process's pidfd, which is never used again (Linux 6.9), or else its start time in
//! `/proc/PID/stat`, which costs ten times as much. Which of the two a number is it says itself ([`OF_PIDFS`]), so that processes that
//! cannot read the same one (a sandbox forbids it) never take one for the other: what cannot be compared proves nothing.
//!
//! Not a lock byte that the kernel drops (the design's first idea): an open file description is shared with every child
//! that somebody forks without asking us, so a dead owner would look alive as long as such a child runs; and a
//! program that closes all descriptors would look dead while it still writes (ARCHITECTURE.md, "Proof of death").

use super::pidfd::ExitStatus;
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::fd::OwnedFd;
use rustix::fs::{FsWord, Mode, OFlags, fstat, fstatfs};
use rustix::io::Errno;
use rustix::process::{Pid, PidfdFlags, pidfd_open};
use std::sync::atomic::{AtomicBool, Ordering};

/// A process, told apart from every other that ever had or will have its pid (until the next boot).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Identity {
    /// The process id in our pid namespace.
    pub(crate) pid: u32,
    /// Its birth: see the header; 0 when it could not be read. Less than 2^44.
    pub(crate) started: u64,
}

/// In a birth: it is an inode number, not a start time in clock ticks since boot.
const OF_PIDFS: u64 = 1 << 43;
/// What `fstatfs` says of a pidfd that has an inode of its own.
const PIDFS_MAGIC: FsWord = 0x5049_4446;

impl Identity {
    /// The calling process.
    pub(crate) fn current() -> Self {
        Self::of(std::process::id())
    }

    /// The process that has this pid now.
    pub(crate) fn of(pid: u32) -> Self {
        let inode = open(pid)
            .and_then(|pidfd| pidfd.ok())
            .and_then(|pidfd| inode(&pidfd));
        Self {
            pid,
            started: inode.or_else(|| start_time(pid)).unwrap_or(0),
        }
    }

    /// Whether the process is proved to have ended (a zombie has). Errors that prove nothing count as alive.
    pub(crate) fn is_gone(&self) -> bool {
        match open(self.pid) {
            Some(Ok(pidfd)) => has_exited(&pidfd) || self.was_replaced(&pidfd),
            Some(Err(Errno::SRCH)) => true,
            Some(Err(_)) | None => false,
        }
    }

    /// Whether the pid, of which this is the pidfd, now belongs to a process of another birth.
    fn was_replaced(&self, pidfd: &OwnedFd) -> bool {
        let now = if self.started & OF_PIDFS != 0 {
            inode(pidfd)
        } else {
            start_time(self.pid)
        };
        self.started != 0 && now.is_some_and(|now| now != self.started)
    }

    /// Whether the process is alive but no longer maps the family heap with this inode: it has exec'ed another
    /// program and cannot touch shared state any more. `false` when that cannot be read.
    pub(crate) fn has_left(&self, heap_inode: u64) -> bool {
        let ours = || matches!(open(self.pid), Some(Ok(pidfd)) if !self.was_replaced(&pidfd));
        maps(self.pid, heap_inode) == Some(false) && ours()
    }
}

/// Whether the process that has this pid maps the memory file with this inode. `None`: that cannot be read.
pub(crate) fn maps(pid: u32, inode: u64) -> Option<bool> {
    let maps = read_maps(pid).ok()?;
    // A process that is ending shows an empty list for a moment: that is no proof.
    let is_listed = lists(&maps, inode);
    (is_listed || (!maps.is_empty() && is_telling(inode))).then_some(is_listed)
}

/// Whether a process that is there may map the memory file with this inode, now or later. One of another user does not: it cannot be looked at, and is none of ours.
pub(crate) fn may_map(pid: u32, inode: u64) -> bool {
    match read_maps(pid) {
        // Without memory it is ending, or the kernel's own.
        Ok(maps) => lists(&maps, inode) || !is_telling(inode),
        Err(error) => !matches!(
            Errno::from_io_error(&error),
            Some(Errno::NOENT | Errno::SRCH | Errno::ACCESS | Errno::PERM)
        ),
    }
}

fn read_maps(pid: u32) -> std::io::Result<String> {
    std::fs::read_to_string(format!("/proc/{pid}/maps"))
}

/// Whether this system's lists would tell: ours names the heap, which we map.
fn is_telling(inode: u64) -> bool {
    static IS_TELLING: AtomicBool = AtomicBool::new(false);
    let tells = || read_maps(std::process::id()).is_ok_and(|maps| lists(&maps, inode));
    // What was seen once need not be read again; that it cannot be read now is not for ever.
    let is_so = IS_TELLING.load(Ordering::Relaxed) || tells();
    IS_TELLING.store(is_so, Ordering::Relaxed);
    is_so
}

/// Whether the memory file with this inode is in a list of mappings. The files of a disk have numbers of their own, which may be the same.
fn lists(maps: &str, inode: u64) -> bool {
    let inode = inode.to_string();
    maps.lines().any(|line| {
        let mut fields = line.split_ascii_whitespace().skip(4);
        fields.next() == Some(inode.as_str())
            && fields
                .next()
                .is_some_and(|path| path.starts_with("/memfd:"))
    })
}

/// The pids of all processes. `None`: they cannot be listed.
pub(crate) fn processes() -> Option<Vec<u32>> {
    // Else it is no `/proc`, or that of another pid namespace, where the pids mean others.
    let ourselves = std::fs::read_link("/proc/self").ok()?;
    if ourselves.to_str() != Some(&std::process::id().to_string()) {
        return None;
    }
    let mut pids = Vec::new();
    for entry in std::fs::read_dir("/proc").ok()? {
        let name = entry.ok()?.file_name();
        pids.extend(name.to_str().and_then(|name| name.parse::<u32>().ok()));
    }
    Some(pids)
}

/// The living children of a process; zombies are none. `None`: they cannot be listed, or not all of them.
///
/// All processes are looked at: the kernel's own list of a thread's children may leave some out while others end, and a look through all pids, in their order, does not.
pub(crate) fn children(parent: u32) -> Option<Vec<u32>> {
    let pids = processes()?;
    // Where processes are hidden (`hidepid`), whoever hides a child hides its parent.
    if !pids.contains(&parent) {
        return None;
    }
    let mut children = Vec::new();
    for pid in pids {
        let stat = match try_read_stat(pid) {
            Ok(stat) => stat,
            // It has ended since.
            Err(Errno::NOENT | Errno::SRCH) => continue,
            // It may be one: no descriptor is left, it may not be looked at, ...
            Err(_) => return None,
        };
        let (state, its_parent) = parse_parent(&stat)?;
        if its_parent == parent && !matches!(state, "Z" | "X") {
            children.push(pid);
        }
    }
    Some(children)
}

/// Fields 3 and 4 of `/proc/PID/stat`: the state and the parent.
fn parse_parent(stat: &str) -> Option<(&str, u32)> {
    let mut fields = fields(stat)?;
    Some((fields.next()?, fields.next()?.parse().ok()?))
}

/// A pidfd of the process that has this pid now; `None` if no process can have it.
fn open(pid: u32) -> Option<Result<OwnedFd, Errno>> {
    let pid = i32::try_from(pid).ok().and_then(Pid::from_raw)?;
    Some(pidfd_open(pid, PidfdFlags::empty()))
}

/// The birth of the process behind `pidfd`, if this kernel numbers processes.
fn inode(pidfd: &OwnedFd) -> Option<u64> {
    let on_pidfs = fstatfs(pidfd).ok()?.f_type == PIDFS_MAGIC;
    let number = fstat(pidfd).ok().filter(|_| on_pidfs)?.st_ino;
    Some(number & (OF_PIDFS - 1) | OF_PIDFS)
}

/// Whether the process behind `pidfd` has ended (it may still be an unreaped zombie).
pub(crate) fn has_exited(pidfd: &OwnedFd) -> bool {
    let mut fds = [PollFd::new(pidfd, PollFlags::IN)];
    let now = Timespec {
        tv_sec: 0,
        tv_nsec: 0,
    };
    matches!(poll(&mut fds, Some(&now)), Ok(1..))
}

/// How an unreaped zombie ended, whoever its parent is: field 52 of `/proc/PID/stat`.
pub(crate) fn status_of_zombie(pid: u32) -> Option<ExitStatus> {
    let stat = read_stat(pid)?;
    let mut fields = fields(&stat)?;
    if fields.next()? != "Z" {
        return None;
    }
    ExitStatus::from_wait_word(fields.nth(48)?.parse().ok()?)
}

/// Field 22 of `/proc/PID/stat`.
fn start_time(pid: u32) -> Option<u64> {
    parse_start_time(&read_stat(pid)?)
}

fn read_stat(pid: u32) -> Option<String> {
    try_read_stat(pid).ok()
}

fn try_read_stat(pid: u32) -> Result<String, Errno> {
    // One read into a buffer of our own: this is on the way of every child that starts. The line is far shorter.
    let file = rustix::fs::open(
        format!("/proc/{pid}/stat"),
        OFlags::RDONLY | OFlags::CLOEXEC,
        Mode::empty(),
    );
    let mut bytes = [0; 1024];
    let len = rustix::io::read(file?, &mut bytes)?;
    Ok(String::from_utf8_lossy(&bytes[..len]).into_owned())
}

fn parse_start_time(stat: &str) -> Option<u64> {
    fields(stat)?.nth(19)?.parse().ok()
}

/// The fields of `/proc/PID/stat` from the third on. The second is the command in parentheses and may itself hold spaces and parentheses.
fn fields(stat: &str) -> Option<std::str::SplitAsciiWhitespace<'_>> {
    let (_, fields) = stat.rsplit_once(')')?;
    Some(fields.split_ascii_whitespace())
}

#[cfg(test)]
mod tests {
    use super::*;
    use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
    use std::os::fd::AsRawFd;
    use std::process::{Command, Stdio};

    #[test]
    fn start_time_survives_strange_command_names() {
        let tail = "S 1 1 1 0 -1 4194560 1 0 0 0 0 0 0 0 20 0 1 0 4711 1 2 3";
        assert_eq!(parse_start_time(&format!("7 (a b) c) {tail}")), Some(4711));
        assert_eq!(parse_start_time("7 (half"), None);
        assert_eq!(parse_start_time(""), None);
    }

    #[test]
    fn we_are_here_and_a_zombie_is_not() {
        assert!(!Identity::current().is_gone());
        let mut child = Command::new("/bin/sh")
            .args(["-c", "read _"])
            .stdin(Stdio::piped())
            .spawn()
            .expect("start /bin/sh");
        let identity = Identity::of(child.id());
        assert_ne!(identity.started, 0);
        assert!(!identity.is_gone());
        drop(child.stdin.take());
        // Not reaped: wait for the zombie through its own pidfd, then ask.
        let pid = Pid::from_raw(child.id() as i32).expect("pid");
        let pidfd = pidfd_open(pid, PidfdFlags::empty()).expect("pidfd");
        poll(&mut [PollFd::new(&pidfd, PollFlags::IN)], None).expect("poll");
        assert!(identity.is_gone(), "an unreaped zombie is gone");
        child.wait().expect("reap");
        assert!(identity.is_gone(), "a reaped process is gone");
    }

    #[test]
    #[expect(
        unsafe_code,
        reason = "a child with one thread, whose limits may be changed"
    )]
    fn children_who_cannot_be_looked_at_are_not_listed() {
        let test = || {
            let me = std::process::id();
            let sleeper = Command::new("/bin/sh")
                .args(["-c", "read _"])
                .stdin(Stdio::piped())
                .spawn();
            let mut sleeper = sleeper.expect("start /bin/sh");
            let limit = getrlimit(Resource::Nofile);
            let next = std::fs::File::open("/dev/null").expect("open").as_raw_fd();
            let none_left = Rlimit {
                current: Some(u64::from(next.unsigned_abs())),
                ..limit
            };
            setrlimit(Resource::Nofile, none_left).expect("limit");
            let hidden = children(me);
            setrlimit(Resource::Nofile, limit).expect("limit");
            let seen = children(me) == Some(vec![sleeper.id()]);
            drop(sleeper.stdin.take());
            sleeper.wait().expect("reap");
            (hidden, seen, children(me))
        };
        // SAFETY: the child uses nothing that another thread of the tests could have left locked.
        let child = unsafe { crate::Process::fork_with_threads(test) }.expect("fork");
        let (hidden, seen, afterwards) = child.join().expect("result");
        assert_eq!((hidden, seen, afterwards), (None, true, Some(vec![])));
        assert_eq!(children(u32::MAX), None, "there is no such parent");
    }

    #[test]
    fn a_reused_pid_is_somebody_else() {
        let me = Identity::current();
        let told_by_proc = Identity {
            started: start_time(me.pid).expect("proc"),
            ..me
        };
        for me in [me, told_by_proc] {
            assert!(!me.is_gone());
            let other = Identity {
                started: me.started ^ 1,
                ..me
            };
            assert!(other.is_gone());
        }
    }

    #[test]
    fn a_file_of_the_same_number_is_not_the_heap() {
        let of_disk = "7f10-7f20 r-xp 00001000 fe:00 18714      /usr/lib/libpython3.so.1.0";
        let heap = "7f30-7f40 rw-s 00000000 00:01 4711      /memfd:procession (deleted)";
        let maps = format!("{of_disk}\n7f20-7f30 rw-p 00000000 00:00 0\n{heap}\n");
        assert!(lists(&maps, 4711));
        assert!(!lists(&maps, 18714) && !lists(&maps, 0) && !lists("", 4711));
    }

    #[test]
    fn births_of_two_kinds_are_not_compared() {
        // As if this kernel did not number processes, or /proc were closed to us: nothing is proved.
        let nobody = Identity {
            pid: std::process::id(),
            started: 0,
        };
        assert!(!nobody.is_gone());
        let pipe = rustix::pipe::pipe().expect("pipe").0;
        assert_eq!(inode(&pipe), None);
        let numbered = Identity {
            started: OF_PIDFS | 5,
            ..nobody
        };
        assert!(!numbered.was_replaced(&pipe));
    }
}
