//! Finds the edges in many image files: first in this process, then in a pool that is given their paths, with a progress bar.
//!
//! `image_filter [DIRECTORY [OUTPUT]]`; without a directory it takes images that are on this machine, or makes some up.

mod pictures;

use image::imageops::{fast_blur, filter3x3, invert};
use image::{DynamicImage, ImageError};
use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use procession::Pool;
use std::fs;
use std::io::IsTerminal;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Instant;

type Failure = Box<dyn std::error::Error>;

/// Each point against its eight neighbours, made strong.
const EDGES: [f32; 9] = [-4.0, -4.0, -4.0, -4.0, 32.0, -4.0, -4.0, -4.0, -4.0];

/// Reads an image, smooths it and draws its edges in black; how many pixels it has. What is wrong with a file is said, not panicked.
fn filter((source, target): (PathBuf, PathBuf)) -> Result<u64, String> {
    let filtered = || -> Result<u64, ImageError> {
        let picture = image::open(&source)?.into_luma8();
        let mut edges = filter3x3(&fast_blur(&picture, 1.0), &EDGES);
        invert(&mut edges);
        let pixels = u64::from(edges.width()) * u64::from(edges.height());
        DynamicImage::ImageLuma8(edges).save(&target)?;
        Ok(pixels)
    };
    filtered().map_err(|error| format!("{}: {error}", source.display()))
}

/// Filters all images with a pool, into `output`; how many seconds it took.
fn filter_all(
    name: &str,
    workers: usize,
    sources: &[PathBuf],
    output: &Path,
) -> Result<f64, Failure> {
    fs::create_dir_all(output)?;
    let pool = Pool::new(workers)?; // no workers: this process does it all
    let jobs: Vec<_> = (0..)
        .zip(sources)
        .map(|(n, source)| (source.clone(), target(output, n, source)))
        .collect();
    let bar = bar(name, jobs.len());
    let start = Instant::now();
    let results = pool
        .imap_unordered(filter, jobs)
        .look_ahead(2 * workers)
        .on_progress(|done, _| bar.set_position(done as u64));
    let mut pixels = 0;
    for result in results {
        pixels += result??;
    }
    let took = start.elapsed().as_secs_f64();
    let line = format!(
        "{took:>6.2} s  {:>5.1} megapixels/s",
        pixels as f64 / took / 1e6
    );
    if bar.is_hidden() {
        println!("  {name:<14} {line}");
    } else {
        bar.finish_with_message(line);
    }
    Ok(took)
}

/// Where the result goes: names may be the same in different directories.
fn target(output: &Path, n: usize, source: &Path) -> PathBuf {
    let stem = source.file_stem().unwrap_or_default();
    output.join(format!("{n:03}-{}.png", stem.display()))
}

/// A bar on a terminal, nothing elsewhere.
fn bar(name: &str, len: usize) -> ProgressBar {
    let target = if std::io::stdout().is_terminal() {
        ProgressDrawTarget::stdout()
    } else {
        ProgressDrawTarget::hidden()
    };
    let look = "  {prefix:<14} {bar:32.cyan/dim} {pos:>3} of {len}  {msg}";
    let look = ProgressStyle::with_template(look).expect("a template that was tried");
    let bar = ProgressBar::with_draw_target(Some(len as u64), target);
    bar.set_style(look.progress_chars("━╸─"));
    bar.set_prefix(name.to_owned());
    bar
}

fn main() -> ExitCode {
    procession::init();

    match run() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("image_filter: {error}");
            ExitCode::FAILURE
        }
    }
}

fn run() -> Result<(), Failure> {
    let mut arguments = std::env::args_os().skip(1).map(PathBuf::from);
    let scratch = tempfile::tempdir()?;
    let sources = match arguments.next() {
        Some(directory) => pictures::under(&directory),
        None => pictures::find_or_make(scratch.path())?,
    };
    if sources.is_empty() {
        return Err("no images there".into());
    }
    let output = arguments
        .next()
        .unwrap_or_else(|| std::env::temp_dir().join("procession-edges"));
    println!("edges of {} images", sources.len());

    let workers = procession::cpu_count().max(2);
    let expected = scratch.path().join("expected");
    let alone = filter_all("1 process", 0, &sources, &expected)?;
    let together = filter_all(&format!("{workers} processes"), workers, &sources, &output)?;

    for (n, source) in sources.iter().enumerate() {
        let read = |output| fs::read(target(output, n, source));
        if read(&expected)? != read(&output)? {
            return Err(format!("{}: the results differ", source.display()).into());
        }
    }
    println!("all the same, {:.2} times as fast", alone / together);
    println!("they are in {}", output.display());
    Ok(())
}
