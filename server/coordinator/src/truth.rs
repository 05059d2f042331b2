//! Whether PostgreSQL came back older: whoever follows this coordinator took in what it never handed out.
//!
//! Knows: what was handed out, by incarnation and epoch; each runner and balancer says what it holds.

use std::collections::BTreeMap;

use domain::wire::Seen;

#[derive(Debug, Default)]
pub struct Truth {
    incarnation: i64,
    epoch: i64,
    /// The last counter of each epoch; what is older than all of them was handed out.
    counters: BTreeMap<i64, i64>,
    /// The highest that somebody holds and this truth does not know.
    ahead: Option<Seen>,
}

impl Truth {
    pub fn new(incarnation: i64, epoch: i64, counters: BTreeMap<i64, i64>) -> Self {
        Self { incarnation, epoch, counters, ahead: None }
    }

    pub fn is_begun(&self, epoch: i64) -> bool {
        self.epoch == epoch
    }

    pub fn handed_out(&mut self, counter: i64) {
        self.counters.insert(self.epoch, counter);
    }

    pub fn ahead(&self) -> Option<&Seen> {
        self.ahead.as_ref()
    }

    /// Somebody holds this. True if that is news, and bad.
    pub fn hears_of(&mut self, seen: &Seen) -> bool {
        // Nobody leads here.
        if self.epoch == 0 || !self.is_ahead(seen) {
            return false;
        }
        let rank = |seen: &Seen| (seen.incarnation, seen.revision);
        let is_news = self.ahead.as_ref().is_none_or(|known| rank(known) < rank(seen));
        if is_news {
            self.ahead = Some(seen.clone());
        }
        is_news
    }

    fn is_ahead(&self, seen: &Seen) -> bool {
        if seen.incarnation != self.incarnation {
            return seen.incarnation > self.incarnation;
        }
        let (epoch, counter) = (seen.revision.epoch, seen.revision.counter);
        match self.counters.get(&epoch) {
            Some(last) => counter > *last,
            None => epoch >= self.counters.keys().next().copied().unwrap_or(self.epoch).min(self.epoch),
        }
    }
}

#[cfg(test)]
mod tests {
    use domain::wire::Revision;

    use super::*;

    #[test]
    fn what_was_never_handed_out_is_ahead() {
        let is_ahead = |incarnation, epoch, counter| {
            let mut truth = Truth::new(2, 9, BTreeMap::from([(5, 7), (7, 1), (9, 3)]));
            truth.hears_of(&Seen { incarnation, revision: Revision { epoch, counter } })
        };
        for known in [(1, 99, 99), (2, 4, 99), (2, 5, 7), (2, 7, 1), (2, 9, 3)] {
            assert!(!is_ahead(known.0, known.1, known.2), "{known:?}");
        }
        for unknown in [(3, 1, 1), (2, 5, 8), (2, 6, 1), (2, 7, 2), (2, 9, 4), (2, 10, 1)] {
            assert!(is_ahead(unknown.0, unknown.1, unknown.2), "{unknown:?}");
        }
        assert!(
            Truth::new(1, 1, BTreeMap::new())
                .hears_of(&Seen { incarnation: 1, revision: Revision { epoch: 1, counter: 1 } })
        );
    }
}
