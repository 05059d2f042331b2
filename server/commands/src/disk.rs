//! What lies on disk for whom.

use std::collections::BTreeMap;
use std::time::Duration;

use domain::{BundleHash, SourceHash};
use plan::collect::Named;

use crate::{CommandError, Commands, timely};

/// Which of some objects any row names, and for how long the rows have been the truth.
#[derive(Debug, Clone)]
pub struct Naming<H> {
    pub named: BTreeMap<H, Named>,
    pub truth_age: Duration,
}

impl<H: Ord> Naming<H> {
    fn new(named: Vec<store::disk::Named<H>>, truth: Option<store::disk::Truth>) -> Self {
        let kept = |kept| if kept { Named::Kept } else { Named::Forgotten };
        Self {
            named: named.into_iter().map(|n| (n.hash, kept(n.kept))).collect(),
            truth_age: truth.map_or(Duration::ZERO, |truth| truth.now.since(truth.since)),
        }
    }
}

impl Commands {
    /// For the receiver, which stores them.
    pub async fn sources_named(&self, hashes: &[String]) -> Result<Naming<SourceHash>, CommandError> {
        timely(async {
            let truth = store::disk::truth(self.db.pool()).await?;
            Ok(Naming::new(store::disk::sources(self.db.pool(), hashes).await?, truth))
        })
        .await
    }

    /// For the receiver, which stores them.
    pub async fn bundles_named(&self, hashes: &[String]) -> Result<Naming<BundleHash>, CommandError> {
        timely(async {
            let truth = store::disk::truth(self.db.pool()).await?;
            Ok(Naming::new(store::disk::bundles(self.db.pool(), hashes).await?, truth))
        })
        .await
    }
}
