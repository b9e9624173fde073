//! Memory of merging queries: a share for each, and one bound for all of them.

use datafusion::error::Result;
use datafusion::execution::memory_pool::{
    GreedyMemoryPool, MemoryLimit, MemoryPool, MemoryReservation,
};
use std::fmt;
use std::sync::Arc;

/// One query's memory, which is also counted in everybody's.
#[derive(Debug)]
pub(crate) struct Share {
    own: GreedyMemoryPool,
    all: Arc<GreedyMemoryPool>,
}

impl Share {
    /// At most `bytes` for this query, as far as `all` has them.
    pub(crate) fn new(bytes: usize, all: Arc<GreedyMemoryPool>) -> Self {
        let own = GreedyMemoryPool::new(bytes);
        Self { own, all }
    }
}

impl fmt::Display for Share {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "share of a query: {}", self.own)
    }
}

impl MemoryPool for Share {
    fn name(&self) -> &'static str {
        "share of a query"
    }

    fn grow(&self, reservation: &MemoryReservation, additional: usize) {
        self.own.grow(reservation, additional);
        self.all.grow(reservation, additional);
    }

    fn shrink(&self, reservation: &MemoryReservation, shrink: usize) {
        self.own.shrink(reservation, shrink);
        self.all.shrink(reservation, shrink);
    }

    fn try_grow(&self, reservation: &MemoryReservation, additional: usize) -> Result<()> {
        self.own.try_grow(reservation, additional)?;
        self.all
            .try_grow(reservation, additional)
            .inspect_err(|_| self.own.shrink(reservation, additional))
    }

    fn reserved(&self) -> usize {
        self.own.reserved()
    }

    fn memory_limit(&self) -> MemoryLimit {
        self.own.memory_limit()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use datafusion::execution::memory_pool::MemoryConsumer;

    #[test]
    fn a_query_has_its_share_and_all_have_theirs() {
        let all = Arc::new(GreedyMemoryPool::new(150));
        let share = || Arc::new(Share::new(100, all.clone())) as Arc<dyn MemoryPool>;
        let (one, two) = (share(), share());
        let first = MemoryConsumer::new("one").register(&one);
        assert!(first.try_grow(101).is_err());
        first.try_grow(100).unwrap();
        let second = MemoryConsumer::new("two").register(&two);
        assert!(second.try_grow(60).is_err());
        assert_eq!(two.reserved(), 0);
        second.try_grow(50).unwrap();
        drop(first);
        assert_eq!(all.reserved(), 50);
    }
}
