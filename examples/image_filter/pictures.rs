//! Finds image files on this machine, or makes some up.

use image::{ImageError, Rgb, RgbImage};
use std::collections::HashSet;
use std::path::{Path, PathBuf};
use std::process::Command;
use walkdir::WalkDir;

/// Fewer are not worth the trouble; nobody wants to wait for more.
const ENOUGH: usize = 12;
const MOST: usize = 60;
/// Icons are not worth a task.
const BYTES: std::ops::Range<u64> = 30_000..4_000_000;

/// All JPEG and PNG files under a directory.
pub(crate) fn under(directory: &Path) -> Vec<PathBuf> {
    let walk = WalkDir::new(directory).sort_by_file_name();
    let files = walk.into_iter().filter_map(Result::ok);
    files
        .map(walkdir::DirEntry::into_path)
        .filter(|path| is_image(path))
        .collect()
}

fn is_image(path: &Path) -> bool {
    let extension = path.extension().and_then(|extension| extension.to_str());
    extension.is_some_and(|extension| ["jpeg", "jpg", "png"].contains(&extension)) && path.is_file()
}

/// Images that are on this machine; if there are too few, some that are made up and written to `directory`.
pub(crate) fn find_or_make(directory: &Path) -> Result<Vec<PathBuf>, ImageError> {
    let found = find();
    if found.len() >= ENOUGH {
        return Ok(found);
    }
    (0..2 * ENOUGH as u32)
        .map(|n| {
            let extension = if n % 2 == 0 { "png" } else { "jpg" };
            let path = directory.join(format!("picture-{n:02}.{extension}"));
            picture(n).save(&path)?;
            Ok(path)
        })
        .collect()
}

/// Images in Rust's documentation and in what the system shares, none twice, none that cannot be read.
fn find() -> Vec<PathBuf> {
    let sysroot = Command::new("rustc").args(["--print", "sysroot"]).output();
    let sysroot = sysroot
        .ok()
        .and_then(|output| String::from_utf8(output.stdout).ok());
    let rust = sysroot.map(|root| Path::new(root.trim()).join("share/doc"));
    let mut seen = HashSet::new();
    let is_new = |path: &PathBuf| {
        let size = path.metadata().map_or(0, |metadata| metadata.len());
        BYTES.contains(&size) && seen.insert((path.file_name().map(ToOwned::to_owned), size))
    };
    let is_readable = |path: &PathBuf| image::image_dimensions(path).is_ok();
    rust.into_iter()
        .chain([PathBuf::from("/usr/share")])
        .flat_map(|root| under(&root))
        .filter(is_new)
        .filter(is_readable)
        .take(MOST)
        .collect()
}

/// Rings, around another centre each time.
fn picture(n: u32) -> RgbImage {
    let (width, height) = (1280, 960);
    RgbImage::from_fn(width, height, |x, y| {
        let (x, y) = (
            x.abs_diff(width * (n % 7) / 6),
            y.abs_diff(height * (n % 5) / 4),
        );
        let ring = (x * x + y * y) / (4000 + 500 * n);
        Rgb([ring as u8, (ring * 3) as u8, (ring + 50 * n) as u8])
    })
}
