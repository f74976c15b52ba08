//! What is computed for each file, and how the results of many are put together.

use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use std::collections::HashMap;
use std::ffi::OsString;
use std::path::Path;

/// How often each word occurs. A word has three letters or more, in lower case.
pub(crate) type Words = HashMap<String, u64>;

/// One file to be read.
#[derive(Clone, Serialize, Deserialize)]
pub(crate) struct Job {
    pub(crate) index: usize,
    pub(crate) path: OsString,
}

/// What was found out about one file.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Finding {
    pub(crate) index: usize,
    pub(crate) bytes: u64,
    pub(crate) words: u64,
    /// `None`: the file could not be read.
    pub(crate) digest: Option<[u8; 32]>,
}

/// Reads one file: its checksum, and its words added to `words`.
pub(crate) fn examine(job: &Job, words: &mut Words) -> Finding {
    let Ok(content) = std::fs::read(Path::new(&job.path)) else {
        return Finding {
            index: job.index,
            bytes: 0,
            words: 0,
            digest: None,
        };
    };
    Finding {
        index: job.index,
        bytes: content.len() as u64,
        words: count_words(&content, words),
        digest: Some(Sha256::digest(&content).into()),
    }
}

/// Counts the words of a text; a file with a zero byte near its beginning is none.
fn count_words(content: &[u8], words: &mut Words) -> u64 {
    if content.iter().take(8000).any(|&byte| byte == 0) {
        return 0;
    }
    let mut total = 0;
    let mut word = String::new();
    for letters in content.split(|byte| !byte.is_ascii_alphabetic()) {
        if !(3..=24).contains(&letters.len()) {
            continue;
        }
        word.clear();
        word.extend(
            letters
                .iter()
                .map(|letter| char::from(letter.to_ascii_lowercase())),
        );
        match words.get_mut(word.as_str()) {
            Some(count) => *count += 1,
            None => {
                words.insert(word.clone(), 1);
            }
        }
        total += 1;
    }
    total
}

/// All findings, whatever the order in which they came.
#[derive(PartialEq, Eq)]
pub(crate) struct Tally {
    findings: Vec<Option<Finding>>,
    words: Words,
}

impl Tally {
    pub(crate) fn new(files: usize) -> Self {
        Self {
            findings: vec![None; files],
            words: Words::new(),
        }
    }

    pub(crate) fn add(&mut self, finding: Finding) {
        let index = finding.index;
        self.findings[index] = Some(finding);
    }

    pub(crate) fn add_words(&mut self, words: Words) {
        if self.words.is_empty() {
            self.words = words;
            return;
        }
        for (word, count) in words {
            *self.words.entry(word).or_default() += count;
        }
    }

    fn findings(&self) -> impl Iterator<Item = &Finding> {
        self.findings.iter().flatten()
    }

    pub(crate) fn word_count(&self) -> u64 {
        self.findings().map(|finding| finding.words).sum()
    }

    pub(crate) fn different_words(&self) -> usize {
        self.words.len()
    }

    pub(crate) fn unreadable(&self) -> usize {
        self.findings()
            .filter(|finding| finding.digest.is_none())
            .count()
    }

    /// One checksum of all checksums, in the order of the files.
    pub(crate) fn checksum(&self) -> String {
        let mut all = Sha256::new();
        for digest in self.findings().filter_map(|finding| finding.digest) {
            all.update(digest);
        }
        all.finalize()
            .iter()
            .map(|byte| format!("{byte:02x}"))
            .collect()
    }

    /// The most frequent words.
    pub(crate) fn top(&self, n: usize) -> Vec<(&str, u64)> {
        let mut words: Vec<_> = self
            .words
            .iter()
            .map(|(word, &count)| (word.as_str(), count))
            .collect();
        words.sort_unstable_by_key(|&(word, count)| (std::cmp::Reverse(count), word));
        words.truncate(n);
        words
    }
}
