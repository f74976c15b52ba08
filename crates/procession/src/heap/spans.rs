//! Small blocks: spans of 64 KiB cut into blocks of one size class, each span allocated from by one process.
//!
//! A block is taken by one CAS on its word, `VOID -> OWNED`; only the span's owner tries. Anybody frees, by one step back to `VOID`, and counts up the
//! span's `freed` hint. The owner's free lists are private caches of where such a CAS will probably succeed: they may be wrong or lost
//! at any time. When an owner dies its spans become orphans, for anyone to adopt.

use super::error::HeapError;
use super::layout::{GRANULE, SPAN_GRANULES, UNIT};
use super::mapping::{Heap, me};
use super::word::{State, Word};
use crate::atomic::Ordering;
use std::sync::{Mutex, MutexGuard};

/// Sizes of blocks, in granules of 64 bytes.
const CLASSES: [u32; 18] = [
    1, 2, 3, 4, 6, 8, 12, 16, 24, 32, 48, 64, 96, 128, 192, 256, 340, 512,
];
/// Largest small block in bytes.
pub(crate) const MAX_SMALL: usize = CLASSES[CLASSES.len() - 1] as usize * GRANULE;

/// What this process knows of its own spans. Private, rebuilt from the words when it is wrong.
#[derive(Debug)]
pub(crate) struct Local {
    classes: [Class; CLASSES.len()],
}

#[derive(Debug)]
struct Class {
    /// Spans this process owns, with the value of their `freed` hint when they were last searched.
    spans: Vec<(u32, u32)>,
    /// First granules of blocks that are probably free.
    free: Vec<u32>,
}

static LOCAL: Mutex<Local> = Mutex::new(Local::new());

impl Local {
    const fn new() -> Self {
        Self {
            classes: [const {
                Class {
                    spans: Vec::new(),
                    free: Vec::new(),
                }
            }; CLASSES.len()],
        }
    }

    /// A forked child owns no span.
    pub(crate) fn forget(&mut self) {
        for class in &mut self.classes {
            class.spans.clear();
            class.free.clear();
        }
    }
}

/// The private caches. A panic cannot leave them wrong in a way that matters, so poison is ignored.
pub(crate) fn lock_local() -> MutexGuard<'static, Local> {
    LOCAL
        .lock()
        .unwrap_or_else(std::sync::PoisonError::into_inner)
}

/// The class for `bytes`, at most [`MAX_SMALL`].
fn class_of(bytes: usize) -> usize {
    let granules = bytes.div_ceil(GRANULE).max(1) as u32;
    CLASSES.partition_point(|&size| size < granules)
}

impl Heap {
    /// Takes a block of at least `bytes` for the calling process. Its content is undefined.
    pub(crate) fn take_small(&self, bytes: usize) -> Result<(u32, Word), HeapError> {
        let class = class_of(bytes);
        if class >= CLASSES.len() {
            return Err(HeapError::TooLarge {
                requested: bytes as u64,
                largest: MAX_SMALL as u64,
            });
        }
        let mut local = lock_local();
        loop {
            while let Some(index) = local.classes[class].free.pop() {
                let at = &self.words()[index as usize];
                let word = Word::load(at);
                let owned = word.next_generation().with(State::OWNED, me().slot());
                if word.state() == State::VOID && word.swap(at, owned).is_ok() {
                    return Ok((index, owned));
                }
            }
            self.refill(&mut local.classes[class], class)?;
        }
    }

    /// Frees a block of the calling process, whose word it last wrote itself.
    pub(crate) fn free_small(&self, index: u32, owned: Word) {
        let at = &self.words()[index as usize];
        // The epoch may be counted up by others at any time (a holder that was slow to look): keep it out of the comparison.
        let mut word = owned;
        while let Err(now) = word.swap(at, word.with(State::VOID, 0)) {
            if now.state() != owned.state() || now.generation() != owned.generation() {
                return;
            }
            word = now;
        }
        let span = index / SPAN_GRANULES as u32;
        let entry = &self.spans()[span as usize];
        entry.freed.fetch_add(1, Ordering::SeqCst);
        let span_word = Word::load(&entry.word);
        let is_ours = span_word.state() == State::OWNED && span_word.owner_slot() == me().slot();
        if is_ours
            && let Ok(mut local) = LOCAL.try_lock()
            && let Some(class) = local.classes.get_mut(span_word.len() as usize)
        {
            class.free.push(index);
        }
    }

    /// Bytes of the block whose first granule is `index`; `None` if its span is not in use.
    pub(crate) fn small_size(&self, index: u32) -> Option<usize> {
        let word = Word::load(&self.spans()[index as usize / SPAN_GRANULES].word);
        let class = *CLASSES.get(word.len() as usize)?;
        (word.state() != State::VOID).then_some(class as usize * GRANULE)
    }

    /// Finds blocks for `class`: freed ones in our spans, else an orphaned span, else a fresh one.
    fn refill(&self, local: &mut Class, class: usize) -> Result<(), HeapError> {
        for (span, seen) in &mut local.spans {
            let freed = self.spans()[*span as usize].freed.load(Ordering::SeqCst);
            if freed != *seen {
                *seen = freed;
                self.collect_free(*span, class, &mut local.free);
            }
        }
        if !local.free.is_empty() {
            return Ok(());
        }
        let span = self
            .adopt_orphan(class)
            .map_or_else(|| self.claim_span(class), Ok)?;
        let freed = self.spans()[span as usize].freed.load(Ordering::SeqCst);
        local.spans.push((span, freed));
        self.collect_free(span, class, &mut local.free);
        Ok(())
    }

    /// Lists the free blocks of a span, lowest last, so that they are used first.
    fn collect_free(&self, span: u32, class: usize, free: &mut Vec<u32>) {
        let first = span * SPAN_GRANULES as u32;
        let size = CLASSES[class];
        let blocks = SPAN_GRANULES as u32 / size;
        let is_free =
            |index: &u32| Word::load(&self.words()[*index as usize]).state() == State::VOID;
        free.extend(
            (0..blocks)
                .rev()
                .map(|block| first + block * size)
                .filter(is_free),
        );
    }

    fn adopt_orphan(&self, class: usize) -> Option<u32> {
        if self.header().orphans.load(Ordering::SeqCst) == 0 {
            return None;
        }
        let span = (0..self.spans_used()).find(|&span| {
            let at = &self.spans()[span as usize].word;
            let word = Word::load(at);
            word.state() == State::FREE
                && word.len() as usize == class
                && word.swap(at, word.with(State::OWNED, me().slot())).is_ok()
        })?;
        let _ = self
            .header()
            .orphans
            .fetch_update(Ordering::SeqCst, Ordering::SeqCst, |n| n.checked_sub(1));
        Some(span)
    }

    fn claim_span(&self, class: usize) -> Result<u32, HeapError> {
        self.reserve(UNIT as u64)?;
        let spans = self.spans();
        for span in self.header().spans_used.load(Ordering::SeqCst)..spans.len() as u32 {
            let at = &spans[span as usize].word;
            let word = Word::load(at);
            let owned = word.with(State::OWNED, me().slot()).with_len(class as u32);
            if word.state() == State::VOID && word.swap(at, owned).is_ok() {
                self.header()
                    .spans_used
                    .fetch_max(span + 1, Ordering::SeqCst);
                return Ok(span);
            }
        }
        self.unreserve(UNIT as u64);
        Err(self.full(UNIT as u64))
    }

    /// Spans worth looking at. A claim that died before it raised the mark leaves a span of which no block can be in use.
    pub(crate) fn spans_used(&self) -> u32 {
        self.header()
            .spans_used
            .load(Ordering::SeqCst)
            .min(self.spans().len() as u32)
    }

    /// Whether a span for blocks of `bytes` waits for adoption.
    #[cfg(test)]
    pub(crate) fn has_orphan(&self, bytes: usize) -> bool {
        self.spans()
            .iter()
            .take(self.spans_used() as usize)
            .any(|span| {
                let word = Word::load(&span.word);
                word.state() == State::FREE && word.len() as usize == class_of(bytes)
            })
    }

    /// Calls `f` with the first granule, the size in bytes and the word of each block of the object region.
    pub(crate) fn each_small(&self, mut f: impl FnMut(u32, usize, Word)) {
        for span in 0..self.spans_used() {
            let word = Word::load(&self.spans()[span as usize].word);
            let Some(&size) = CLASSES
                .get(word.len() as usize)
                .filter(|_| word.state() != State::VOID)
            else {
                continue;
            };
            let first = span * SPAN_GRANULES as u32;
            for block in 0..SPAN_GRANULES as u32 / size {
                let index = first + block * size;
                f(
                    index,
                    size as usize * GRANULE,
                    Word::load(&self.words()[index as usize]),
                );
            }
        }
    }

    /// Makes orphans of a dead participant's spans.
    pub(crate) fn orphan_spans(&self, slot: usize) {
        // It may have died between claiming a span and raising the mark.
        let used = self.spans_used();
        let beyond = self.spans().get(used as usize);
        if beyond.is_some_and(|span| Word::load(&span.word).state() != State::VOID) {
            self.header()
                .spans_used
                .fetch_max(used + 1, Ordering::SeqCst);
        }
        for span in self.spans().iter().take(self.spans_used() as usize) {
            let word = Word::load(&span.word);
            if word.state() == State::OWNED && word.owner_slot() == slot {
                // The hint first: too high costs a search, too low would leave the span unused.
                self.header().orphans.fetch_add(1, Ordering::SeqCst);
                let _ = word.swap(&span.word, word.with(State::FREE, 0));
            }
            span.freed.fetch_add(1, Ordering::SeqCst);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_size_has_a_class_that_fits() {
        for bytes in 0..=MAX_SMALL {
            let size = CLASSES[class_of(bytes)] as usize * GRANULE;
            assert!(size >= bytes);
            assert!(
                class_of(bytes) == 0 || (CLASSES[class_of(bytes) - 1] as usize * GRANULE) < bytes
            );
        }
        assert_eq!(class_of(MAX_SMALL + 1), CLASSES.len());
    }
}
