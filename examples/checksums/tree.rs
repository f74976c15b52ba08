//! Finds a source tree on this machine, and lists its files.

use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use walkdir::WalkDir;

/// A tree that is worth the trouble has as many files, and as many bytes.
const ENOUGH_FILES: usize = 500;
const ENOUGH_BYTES: u64 = 20_000_000;
/// Nobody wants to wait for more.
const MAX_FILES: usize = 20_000;
const MAX_BYTES: u64 = 200_000_000;

pub(crate) struct Tree {
    pub(crate) root: PathBuf,
    /// In the order of their names, with their sizes.
    pub(crate) files: Vec<(OsString, u64)>,
}

impl Tree {
    /// Lists the files under `root`, up to a limit.
    pub(crate) fn list(root: &Path) -> Self {
        let mut files = Vec::new();
        let mut bytes = 0;
        let walk = WalkDir::new(root).sort_by_file_name();
        for entry in walk.into_iter().filter_map(Result::ok) {
            let size = match entry.metadata() {
                Ok(metadata) if metadata.is_file() => metadata.len(),
                _ => continue,
            };
            if files.len() == MAX_FILES || bytes + size > MAX_BYTES {
                break;
            }
            bytes += size;
            files.push((entry.into_path().into_os_string(), size));
        }
        Self {
            root: root.to_owned(),
            files,
        }
    }

    /// The first well-known source tree that is large enough, or else the largest.
    pub(crate) fn find() -> Option<Self> {
        let mut largest: Option<Self> = None;
        for root in candidates() {
            let tree = Self::list(&root);
            if tree.files.len() >= ENOUGH_FILES && tree.bytes() >= ENOUGH_BYTES {
                return Some(tree);
            }
            if largest.as_ref().map_or(0, Self::bytes) < tree.bytes() {
                largest = Some(tree);
            }
        }
        largest
    }

    /// Reads all files once, so that they are in the system's cache.
    pub(crate) fn read_ahead(&self) {
        for (path, _) in &self.files {
            let _ = std::fs::read(Path::new(path)); // who cannot be read now is reported later
        }
    }

    /// Keeps as many files as have `bytes` together; at least one.
    pub(crate) fn truncate(&mut self, bytes: u64) {
        let mut sum = 0;
        let fitting = self.files.iter().take_while(|(_, size)| {
            sum += size;
            sum <= bytes
        });
        let count = fitting.count().max(1);
        self.files.truncate(count);
    }

    pub(crate) fn bytes(&self) -> u64 {
        self.files.iter().map(|(_, size)| size).sum()
    }
}

/// Where Rust, cargo, Python and C keep sources.
fn candidates() -> impl Iterator<Item = PathBuf> {
    let rust =
        || output_of("rustc", &["--print", "sysroot"]).map(|root| root.join("lib/rustlib/src"));
    let cargo = || {
        let home = std::env::var_os("CARGO_HOME").map(PathBuf::from);
        let home = home.or_else(|| Some(std::env::home_dir()?.join(".cargo")));
        home.map(|home| home.join("registry/src"))
    };
    let python = || {
        let ask = "import sysconfig; print(sysconfig.get_path('stdlib'))";
        output_of("python3", &["-c", ask])
    };
    let found: [&dyn Fn() -> Option<PathBuf>; 3] = [&rust, &cargo, &python];
    let found: Vec<_> = found.iter().filter_map(|find| find()).collect();
    let known = ["/usr/lib/python3", "/usr/include", "/usr/share"];
    found
        .into_iter()
        .chain(known.map(PathBuf::from))
        .filter(|root| root.is_dir())
}

/// The path that a program prints.
fn output_of(program: &str, arguments: &[&str]) -> Option<PathBuf> {
    let output = Command::new(program)
        .args(arguments)
        .stderr(Stdio::null())
        .output()
        .ok()?;
    let text = String::from_utf8(output.stdout).ok()?;
    let line = text.trim();
    (output.status.success() && !line.is_empty()).then(|| PathBuf::from(line))
}
