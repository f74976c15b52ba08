//! Tasks that no worker has yet, in the order in which they are to be begun.

use super::record::TaskId;
use std::collections::VecDeque;

/// One queue for each priority in use, the highest first. Nearly always there is one.
#[derive(Debug, Default)]
pub(super) struct Pending {
    queues: Vec<(i32, VecDeque<TaskId>)>,
    len: usize,
}

impl Pending {
    pub(super) fn len(&self) -> usize {
        self.len
    }

    pub(super) fn is_empty(&self) -> bool {
        self.len == 0
    }

    fn queue(&mut self, priority: i32) -> &mut VecDeque<TaskId> {
        let at = self.queues.partition_point(|(other, _)| *other > priority);
        if self
            .queues
            .get(at)
            .is_none_or(|(other, _)| *other != priority)
        {
            self.queues.insert(at, (priority, VecDeque::new()));
        }
        &mut self.queues[at].1
    }

    pub(super) fn push(&mut self, priority: i32, id: TaskId) {
        self.queue(priority).push_back(id);
        self.len += 1;
    }

    /// Puts one that was taken back before all of its priority.
    pub(super) fn push_front(&mut self, priority: i32, id: TaskId) {
        self.queue(priority).push_front(id);
        self.len += 1;
    }

    pub(super) fn pop(&mut self) -> Option<TaskId> {
        if self.queues.len() > 1 {
            self.queues.retain(|(_, queue)| !queue.is_empty());
        }
        let (_, queue) = self.queues.first_mut()?;
        let id = queue.pop_front()?;
        self.len -= 1;
        Some(id)
    }

    /// The next one, left where it is.
    pub(super) fn peek(&self) -> Option<TaskId> {
        self.queues
            .iter()
            .find_map(|(_, queue)| queue.front().copied())
    }

    /// Takes one out, wherever it is.
    pub(super) fn remove(&mut self, priority: i32, id: TaskId) -> bool {
        let queue = self.queue(priority);
        let at = queue.iter().position(|other| *other == id);
        let found = at.and_then(|at| queue.remove(at)).is_some();
        self.len -= usize::from(found);
        found
    }

    pub(super) fn clear(&mut self) {
        *self = Self::default();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn id(index: u32) -> TaskId {
        TaskId {
            index,
            generation: 1,
        }
    }

    proptest! {
        #[test]
        fn comes_out_by_priority_then_by_age(priorities in proptest::collection::vec(-2..3i32, 0..60)) {
            let mut pending = Pending::default();
            for (index, priority) in priorities.iter().enumerate() {
                pending.push(*priority, id(index as u32));
            }
            let mut model: Vec<_> = priorities.iter().copied().enumerate().collect();
            model.sort_by_key(|(index, priority)| (-priority, *index));
            for (index, _) in model {
                prop_assert_eq!(pending.peek(), Some(id(index as u32)));
                prop_assert_eq!(pending.pop(), Some(id(index as u32)));
            }
            prop_assert!(pending.is_empty() && pending.pop().is_none());
        }

        #[test]
        fn what_was_removed_does_not_come(priorities in proptest::collection::vec(-2..3i32, 1..30), at: prop::sample::Index) {
            let mut pending = Pending::default();
            for (index, priority) in priorities.iter().enumerate() {
                pending.push(*priority, id(index as u32));
            }
            let gone = at.index(priorities.len());
            prop_assert!(pending.remove(priorities[gone], id(gone as u32)));
            prop_assert!(!pending.remove(priorities[gone], id(gone as u32)));
            let mut left: Vec<_> = std::iter::from_fn(|| pending.pop()).map(|id| id.index as usize).collect();
            left.sort_unstable();
            let expected: Vec<_> = (0..priorities.len()).filter(|index| *index != gone).collect();
            prop_assert_eq!(left, expected);
        }
    }
}
