//! How many processors and how much memory are ours to use.
//!
//! The machine's own numbers are wrong in a container: what counts is the tightest of the machine, the affinity mask and
//! every control group from ours up to the root we can see (a limit on any of them holds for us). Version 1 and version 2
//! groups are both read, for a machine may have both mounted.
//!
//! Reading files and understanding their text are kept apart: the parsers are functions of `&str`.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

/// Overrides [`cpu_count`].
const CPU_COUNT_VARIABLE: &str = "PROCESSION_CPU_COUNT";

/// How many processors this process may keep busy: at least one.
///
/// The tightest of the affinity mask and the control groups' quotas (rounded up: two and a half processors keep
/// three workers busy). The variable `PROCESSION_CPU_COUNT` overrides it.
///
/// # Examples
/// ```
/// assert!(procession::cpu_count() >= 1);
/// ```
///
/// # In Python
/// `procession.cpu_count`, which counts the machine's in the standard library
#[must_use]
pub fn cpu_count() -> usize {
    if let Some(count) = std::env::var(CPU_COUNT_VARIABLE)
        .ok()
        .and_then(|text| parse_count(&text))
    {
        return count;
    }
    let quota = groups("cpu")
        .iter()
        .filter_map(Group::cpu_quota)
        .min_by(f64::total_cmp);
    affinity_count().min(quota.map_or(usize::MAX, whole_cpus))
}

/// Processors in our affinity mask.
fn affinity_count() -> usize {
    let set = rustix::thread::sched_getaffinity(None).map(|set| set.count() as usize);
    match set {
        Ok(count) if count > 0 => count,
        // More processors than rustix's set has room for.
        _ => std::thread::available_parallelism().map_or(1, usize::from),
    }
}

fn whole_cpus(quota: f64) -> usize {
    // A float converts saturating: no quota is too big, and a tiny one gives one.
    (quota.ceil() as usize).max(1)
}

fn parse_count(text: &str) -> Option<usize> {
    text.trim().parse().ok().filter(|count| *count > 0)
}

/// The memory of the machine and of our control groups, in bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Memory {
    /// What the machine has.
    pub total: u64,
    /// What the machine could give to programs now, caches given up.
    pub available: u64,
    /// What our control groups allow, if any of them sets a limit.
    pub group: Option<GroupMemory>,
}

impl Memory {
    /// The most we may ever use.
    #[must_use]
    pub fn limit(&self) -> u64 {
        self.group
            .map_or(self.total, |group| group.limit.min(self.total))
    }

    /// What we could still take now.
    #[must_use]
    pub fn headroom(&self) -> u64 {
        self.group
            .map_or(self.available, |group| group.headroom.min(self.available))
    }
}

/// What control groups allow.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct GroupMemory {
    /// The lowest limit from our group up.
    pub limit: u64,
    /// What the group that has this limit uses, caches included.
    pub current: u64,
    /// The least that any group from ours up has left. File pages not in use count as left: the kernel gives
    /// them up before it kills anybody.
    pub headroom: u64,
}

/// The memory of the machine and of our control groups.
///
/// # Errors
/// `/proc/meminfo` cannot be read.
///
/// # Examples
/// ```
/// let memory = procession::memory()?;
/// assert!(memory.headroom() <= memory.limit());
/// # Ok::<(), std::io::Error>(())
/// ```
pub fn memory() -> io::Result<Memory> {
    let (total, available) = parse_meminfo(&fs::read_to_string("/proc/meminfo")?)
        .ok_or_else(|| io::Error::new(io::ErrorKind::InvalidData, "understand /proc/meminfo"))?;
    let usages: Vec<_> = groups("memory").iter().filter_map(Group::memory).collect();
    Ok(Memory {
        total,
        available,
        group: tightest(&usages),
    })
}

/// How many processes of our control group the kernel has killed for lack of memory, if it says so.
///
/// A number that grew since before a process was started, and that process's end by SIGKILL, together say: probably out of memory.
///
/// # Examples
/// ```
/// let before = procession::oom_kills();
/// // ... a process ends by SIGKILL ...
/// if procession::oom_kills() > before {
///     eprintln!("probably out of memory");
/// }
/// ```
#[must_use]
pub fn oom_kills() -> Option<u64> {
    groups("memory").iter().find_map(Group::oom_kills)
}

/// The memory of one group that has a limit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Usage {
    limit: u64,
    current: u64,
    /// Part of `current` that the kernel can take back at once.
    reclaimable: u64,
}

fn tightest(usages: &[Usage]) -> Option<GroupMemory> {
    let lowest = usages.iter().min_by_key(|usage| usage.limit)?;
    let left = |usage: &Usage| {
        usage
            .limit
            .saturating_sub(usage.current.saturating_sub(usage.reclaimable))
    };
    let headroom = usages.iter().map(left).min()?;
    Some(GroupMemory {
        limit: lowest.limit,
        current: lowest.current,
        headroom,
    })
}

/// The memory of one process, in bytes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ProcessMemory {
    /// Resident now.
    pub rss: u64,
    /// The most that was ever resident.
    pub peak: u64,
    /// The part of `rss` that is shared memory, the family heap included: one process's end would not free it.
    pub shared: u64,
}

/// The memory of the process `pid`. All zero for one that has ended and is not yet reaped.
pub(crate) fn process_memory(pid: u32) -> io::Result<ProcessMemory> {
    Ok(parse_status(&fs::read_to_string(format!(
        "/proc/{pid}/status"
    ))?))
}

fn parse_status(text: &str) -> ProcessMemory {
    let field = |name| kilobytes(text, name).unwrap_or(0);
    ProcessMemory {
        rss: field("VmRSS:"),
        peak: field("VmHWM:"),
        shared: field("RssShmem:"),
    }
}

/// `MemTotal` and `MemAvailable` (estimated from free pages and caches on kernels before 3.14).
fn parse_meminfo(text: &str) -> Option<(u64, u64)> {
    let field = |name| kilobytes(text, name);
    let available = field("MemAvailable:").or_else(|| {
        let parts = ["MemFree:", "Buffers:", "Cached:"].map(|name| field(name).unwrap_or(0));
        parts.iter().copied().reduce(u64::saturating_add)
    })?;
    Some((field("MemTotal:")?, available))
}

/// The value, in bytes, of a line such as `VmRSS:      1728 kB`.
fn kilobytes(text: &str, name: &str) -> Option<u64> {
    let line = text.lines().find_map(|line| line.strip_prefix(name))?;
    line.trim()
        .strip_suffix("kB")?
        .trim()
        .parse::<u64>()
        .ok()?
        .checked_mul(1024)
}

/// The two generations of control groups.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Version {
    One,
    Two,
}

/// One control group that we are in, or an ancestor of it.
#[derive(Debug, PartialEq, Eq)]
struct Group {
    version: Version,
    directory: PathBuf,
}

impl Group {
    fn read(&self, file: &str) -> Option<String> {
        fs::read_to_string(self.directory.join(file)).ok()
    }

    /// How many processors' time the group may use.
    fn cpu_quota(&self) -> Option<f64> {
        match self.version {
            Version::Two => parse_cpu_max(&self.read("cpu.max")?),
            Version::One => parse_cfs(
                &self.read("cpu.cfs_quota_us")?,
                &self.read("cpu.cfs_period_us")?,
            ),
        }
    }

    /// How many of its processes were killed for lack of memory.
    fn oom_kills(&self) -> Option<u64> {
        let file = match self.version {
            Version::Two => "memory.events",
            Version::One => "memory.oom_control",
        };
        parse_stat(&self.read(file)?, "oom_kill")
    }

    /// The group's memory, if it has a limit.
    fn memory(&self) -> Option<Usage> {
        let (limit, current, reclaimable) = match self.version {
            Version::Two => ("memory.max", "memory.current", "inactive_file"),
            Version::One => (
                "memory.limit_in_bytes",
                "memory.usage_in_bytes",
                "total_inactive_file",
            ),
        };
        Some(Usage {
            limit: parse_memory_limit(&self.read(limit)?)?,
            current: self.read(current)?.trim().parse().ok()?,
            reclaimable: self
                .read("memory.stat")
                .and_then(|text| parse_stat(&text, reclaimable))
                .unwrap_or(0),
        })
    }
}

/// The groups of `controller` that hold for this process, from ours up.
fn groups(controller: &str) -> Vec<Group> {
    let memberships = fs::read_to_string("/proc/self/cgroup").unwrap_or_default();
    let mounts = fs::read_to_string("/proc/self/mountinfo").unwrap_or_default();
    groups_from(controller, &memberships, &mounts)
}

fn groups_from(controller: &str, memberships: &str, mounts: &str) -> Vec<Group> {
    parse_memberships(memberships, controller)
        .into_iter()
        .flat_map(|(version, path)| {
            let mount = mounts
                .lines()
                .filter_map(parse_mount)
                .find(|mount| mount.is_for(version, controller));
            mount
                .map_or_else(Vec::new, |mount| mount.directories(&path))
                .into_iter()
                .map(move |directory| Group { version, directory })
        })
        .collect()
}

/// Our groups for `controller`, from `/proc/self/cgroup`.
fn parse_memberships(text: &str, controller: &str) -> Vec<(Version, String)> {
    text.lines()
        .filter_map(|line| {
            let mut fields = line.splitn(3, ':');
            let (id, controllers, path) = (fields.next()?, fields.next()?, fields.next()?);
            if id == "0" && controllers.is_empty() {
                Some((Version::Two, path.to_owned()))
            } else if controllers.split(',').any(|name| name == controller) {
                Some((Version::One, path.to_owned()))
            } else {
                None
            }
        })
        .collect()
}

/// One line of `/proc/self/mountinfo`, if it is a control group file system.
#[derive(Debug, PartialEq, Eq)]
struct Mount {
    version: Version,
    /// Which group is mounted there.
    root: String,
    point: PathBuf,
    /// Super block options: for version 1, the controllers.
    options: String,
}

fn parse_mount(line: &str) -> Option<Mount> {
    let (fields, rest) = line.split_once(" - ")?;
    let mut fields = fields.split(' ').skip(3);
    let (root, point) = (unescape(fields.next()?), unescape(fields.next()?));
    let mut rest = rest.split(' ');
    let version = match rest.next()? {
        "cgroup" => Version::One,
        "cgroup2" => Version::Two,
        _ => return None,
    };
    let options = rest.nth(1)?.to_owned();
    Some(Mount {
        version,
        root,
        point: PathBuf::from(point),
        options,
    })
}

impl Mount {
    fn is_for(&self, version: Version, controller: &str) -> bool {
        self.version == version
            && (version == Version::Two
                || self.options.split(',').any(|option| option == controller))
    }

    /// The directories of the group at `path` and of its ancestors, as far up as this mount shows them.
    fn directories(&self, path: &str) -> Vec<PathBuf> {
        // Where the paths do not fit together (a group from outside our name space), the mount itself is what we see.
        let below = Path::new(path)
            .strip_prefix(&self.root)
            .ok()
            .filter(|below| {
                below
                    .components()
                    .all(|part| matches!(part, std::path::Component::Normal(_)))
            })
            .unwrap_or(Path::new(""));
        below
            .ancestors()
            .map(|below| self.point.join(below))
            .collect()
    }
}

/// Undoes mountinfo's octal escapes of blanks, newlines and backslashes.
fn unescape(field: &str) -> String {
    let escapes = [
        ("\\040", " "),
        ("\\011", "\t"),
        ("\\012", "\n"),
        ("\\134", "\\"),
    ];
    escapes
        .iter()
        .fold(field.to_owned(), |text, (escape, plain)| {
            text.replace(escape, plain)
        })
}

/// `cpu.max`: `max 100000` or `150000 100000`.
fn parse_cpu_max(text: &str) -> Option<f64> {
    let (quota, period) = text.trim().split_once(' ')?;
    parse_cfs(quota, period)
}

/// `cpu.cfs_quota_us` (-1: none) and `cpu.cfs_period_us`.
fn parse_cfs(quota: &str, period: &str) -> Option<f64> {
    let quota: u64 = quota.trim().parse().ok()?;
    let period: u64 = period.trim().parse().ok()?;
    (quota > 0 && period > 0).then(|| quota as f64 / period as f64)
}

/// `memory.max` (`max`: none) or `memory.limit_in_bytes` (none is close to the highest `i64`).
fn parse_memory_limit(text: &str) -> Option<u64> {
    text.trim().parse().ok().filter(|limit| *limit < 1 << 60)
}

/// One line of `memory.stat`, `memory.events` or `memory.oom_control`.
fn parse_stat(text: &str, name: &str) -> Option<u64> {
    let value = |line: &str| {
        line.strip_prefix(name)?
            .strip_prefix(' ')?
            .trim()
            .parse()
            .ok()
    };
    text.lines().find_map(value)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn directories(groups: &[Group]) -> Vec<&str> {
        groups
            .iter()
            .filter_map(|group| group.directory.to_str())
            .collect()
    }

    #[test]
    fn own_machine() {
        assert!((1..=affinity_count()).contains(&cpu_count()));
        let memory = memory().expect("read");
        assert!(memory.available <= memory.total && memory.limit() <= memory.total);
        assert!(memory.headroom() <= memory.available);
        let own = process_memory(std::process::id()).expect("read");
        assert!(own.rss > 0 && own.peak >= own.shared);
        assert!(process_memory(u32::MAX).is_err());
    }

    #[test]
    fn systemd_slice_on_version_two() {
        let memberships = "0::/user.slice/user-1000.slice/session-2.scope\n";
        let mounts = "24 30 0:22 / /sys rw,nosuid - sysfs sysfs rw\n\
            35 24 0:30 / /sys/fs/cgroup rw,nosuid,nodev,noexec,relatime shared:4 - cgroup2 cgroup2 rw,nsdelegate\n";
        let groups = groups_from("memory", memberships, mounts);
        assert_eq!(groups[0].version, Version::Two);
        assert_eq!(
            directories(&groups),
            [
                "/sys/fs/cgroup/user.slice/user-1000.slice/session-2.scope",
                "/sys/fs/cgroup/user.slice/user-1000.slice",
                "/sys/fs/cgroup/user.slice",
                "/sys/fs/cgroup/",
            ]
        );
    }

    #[test]
    fn docker_on_version_two() {
        let mounts = "1063 1062 0:29 / /sys/fs/cgroup ro,nosuid - cgroup2 cgroup rw\n";
        assert_eq!(
            directories(&groups_from("cpu", "0::/\n", mounts)),
            ["/sys/fs/cgroup/"]
        );
        // Entered from outside: the path leads out of the name space.
        assert_eq!(
            directories(&groups_from("cpu", "0::/../..\n", mounts)),
            ["/sys/fs/cgroup/"]
        );
    }

    #[test]
    fn docker_on_version_one() {
        let memberships = "12:memory:/docker/4a5f\n5:cpuset:/docker/4a5f\n4:cpu,cpuacct:/docker/4a5f\n\
            1:name=systemd:/docker/4a5f\n0::/system.slice/containerd.service\n";
        let mounts = "1236 1227 0:35 /docker/4a5f /sys/fs/cgroup/memory ro,nosuid master:16 - cgroup cgroup rw,memory\n\
            1233 1227 0:32 /docker/4a5f /sys/fs/cgroup/cpu,cpuacct ro master:13 - cgroup cgroup rw,cpu,cpuacct\n";
        assert_eq!(
            directories(&groups_from("memory", memberships, mounts)),
            ["/sys/fs/cgroup/memory/"]
        );
        assert_eq!(
            directories(&groups_from("cpu", memberships, mounts)),
            ["/sys/fs/cgroup/cpu,cpuacct/"]
        );
        assert!(groups_from("blkio", memberships, mounts).is_empty());
    }

    #[test]
    fn both_versions_at_once() {
        let memberships = "9:name=systemd:/\n4:memory:/process_api/72c2\n1:cpu:/\n0::/\n";
        let mounts = "35 31 0:32 / /sys/fs/cgroup/memory rw,relatime - cgroup cgroup rw,memory\n\
            41 31 0:38 / /sys/fs/cgroup/uni\\040fied rw,relatime - cgroup2 cgroup2 rw\n";
        let groups = groups_from("memory", memberships, mounts);
        assert_eq!(
            directories(&groups),
            [
                "/sys/fs/cgroup/memory/process_api/72c2",
                "/sys/fs/cgroup/memory/process_api",
                "/sys/fs/cgroup/memory/",
                "/sys/fs/cgroup/uni fied/",
            ]
        );
    }

    #[test]
    fn quotas_round_up() {
        assert_eq!(parse_cpu_max("max 100000\n"), None);
        assert_eq!(parse_cpu_max("250000 100000\n").map(whole_cpus), Some(3));
        assert_eq!(parse_cfs("-1\n", "100000\n"), None);
        assert_eq!(parse_cfs("50000\n", "100000\n").map(whole_cpus), Some(1));
        assert_eq!(parse_cfs("400000\n", "100000\n").map(whole_cpus), Some(4));
        assert_eq!(parse_cfs("400000", "0"), None);
        assert_eq!(parse_cpu_max("rubbish"), None);
    }

    #[test]
    fn counts_from_the_environment() {
        assert_eq!(parse_count(" 6\n"), Some(6));
        for wrong in ["", "0", "-1", "many"] {
            assert_eq!(parse_count(wrong), None);
        }
    }

    #[test]
    fn memory_limits() {
        assert_eq!(parse_memory_limit("max\n"), None);
        assert_eq!(parse_memory_limit("9223372036854771712\n"), None);
        assert_eq!(parse_memory_limit("536870912\n"), Some(536_870_912));
        let stat = "anon 4096\nfile 8192\ninactive_file_x 1\ninactive_file 8000\n";
        assert_eq!(parse_stat(stat, "inactive_file"), Some(8000));
        assert_eq!(parse_stat(stat, "total_inactive_file"), None);
    }

    #[test]
    fn kills_for_lack_of_memory() {
        let directory = std::env::temp_dir().join(format!("procession-oom-{}", std::process::id()));
        fs::create_dir_all(&directory).expect("directory");
        let events = "low 0\nhigh 0\nmax 8\noom 3\noom_kill 2\noom_group_kill 1\n";
        fs::write(directory.join("memory.events"), events).expect("write");
        let control = "oom_kill_disable 0\nunder_oom 0\noom_kill 5\n";
        fs::write(directory.join("memory.oom_control"), control).expect("write");
        let kills = |version| {
            let directory = directory.clone();
            Group { version, directory }.oom_kills()
        };
        assert_eq!(
            (kills(Version::Two), kills(Version::One)),
            (Some(2), Some(5))
        );
        fs::remove_dir_all(&directory).expect("remove");
        assert_eq!(kills(Version::Two), None);
    }

    #[test]
    fn the_fullest_group_counts() {
        let own = Usage {
            limit: 800,
            current: 100,
            reclaimable: 50,
        };
        let parent = Usage {
            limit: 1000,
            current: 990,
            reclaimable: 10,
        };
        let group = tightest(&[own, parent]);
        assert_eq!(
            group,
            Some(GroupMemory {
                limit: 800,
                current: 100,
                headroom: 20
            })
        );
        assert_eq!(tightest(&[]), None);
        let memory = Memory {
            total: 5000,
            available: 4000,
            group,
        };
        assert_eq!((memory.limit(), memory.headroom()), (800, 20));
    }

    #[test]
    fn meminfo_and_status() {
        let meminfo = "MemTotal:       24684092 kB\nMemFree:        24531240 kB\nMemAvailable:   24430764 kB\n";
        assert_eq!(
            parse_meminfo(meminfo),
            Some((24_684_092 * 1024, 24_430_764 * 1024))
        );
        let old = "MemTotal: 100 kB\nMemFree: 10 kB\nBuffers: 2 kB\nCached: 3 kB\n";
        assert_eq!(parse_meminfo(old), Some((100 * 1024, 15 * 1024)));
        assert_eq!(parse_meminfo("nothing"), None);
        let status =
            "Name:\tcat\nVmHWM:\t    1728 kB\nVmRSS:\t    1628 kB\nRssShmem:\t       4 kB\n";
        let expected = ProcessMemory {
            rss: 1628 * 1024,
            peak: 1728 * 1024,
            shared: 4096,
        };
        assert_eq!(parse_status(status), expected);
        assert_eq!(
            parse_status("Name:\tzombie\nState:\tZ (zombie)\n"),
            ProcessMemory::default()
        );
    }
}
