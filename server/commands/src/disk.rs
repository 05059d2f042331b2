//! What lies on disk for whom.

use std::collections::BTreeMap;
use std::time::Duration;

use domain::{AppId, BundleHash, CommitId, DiskKind, SourceHash};
use plan::collect::Named;

use crate::{Actor, CommandError, Commands, timely};

/// A repository to be tidied.
#[derive(Debug, Clone)]
pub struct Untidy {
    pub row: store::disk::Untidy,
    /// Of its pushed commits.
    pub keep: Vec<CommitId>,
}

fn columns(sizes: &[(String, u64)]) -> (Vec<String>, Vec<i64>) {
    sizes.iter().map(|(hash, bytes)| (hash.clone(), i64::try_from(*bytes).unwrap_or(i64::MAX))).unzip()
}

/// Which of some objects any row names, and for how long the rows have been the truth.
#[derive(Debug, Clone)]
pub struct Naming<H> {
    pub named: BTreeMap<H, Named>,
    pub truth_age: Duration,
}

impl<H: Ord> Naming<H> {
    fn new(named: Vec<store::disk::Named<H>>, truth: Option<store::disk::Truth>) -> Self {
        // Without a truth to go by, nothing is.
        let none = truth.is_none();
        let kept = |kept| if kept || none { Named::Kept } else { Named::Forgotten };
        Self {
            named: named.into_iter().map(|n| (n.hash, kept(n.kept))).collect(),
            truth_age: truth.map_or(Duration::ZERO, |truth| truth.now.since(truth.since)),
        }
    }
}

/// What a customer has on disk, and may have.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DiskView {
    pub bytes: i64,
    pub bytes_max: i64,
    /// Of what, the most first; nothing that takes no room.
    pub kinds: Vec<(DiskKind, i64)>,
}

impl DiskView {
    pub(crate) fn new(rows: impl IntoIterator<Item = store::disk::Usage>, bytes_max: i64) -> Self {
        let mut kinds: BTreeMap<DiskKind, i64> = BTreeMap::new();
        for row in rows {
            *kinds.entry(row.kind).or_default() += row.bytes;
        }
        let mut kinds: Vec<_> = kinds.into_iter().filter(|(_, bytes)| *bytes > 0).collect();
        kinds.sort_by_key(|(_, bytes)| std::cmp::Reverse(*bytes));
        Self { bytes: kinds.iter().map(|(_, bytes)| bytes).sum(), bytes_max, kinds }
    }

    /// How much more it may have.
    pub fn left(&self) -> u64 {
        u64::try_from(self.bytes_max - self.bytes).unwrap_or(0)
    }

    /// "images 3 MiB, logs 1 MiB"
    pub fn words(&self) -> String {
        let words = |(kind, bytes): &(DiskKind, i64)| format!("{} {}", plural(*kind), size(*bytes));
        self.kinds.iter().map(words).collect::<Vec<_>>().join(", ")
    }
}

/// Of one app, as a heading.
pub fn kind_name(kind: DiskKind) -> &'static str {
    match kind {
        DiskKind::Image => "Images",
        DiskKind::Source => "Sources",
        DiskKind::Bundle => "Copy of the repository",
        DiskKind::Repository => "Repository",
        DiskKind::Cache => "Build cache",
        DiskKind::Log => "Log",
    }
}

fn plural(kind: DiskKind) -> &'static str {
    match kind {
        DiskKind::Image => "images",
        DiskKind::Source => "sources",
        DiskKind::Bundle => "copies of repositories",
        DiskKind::Repository => "repositories",
        DiskKind::Cache => "build caches",
        DiskKind::Log => "logs",
    }
}

/// "512 KiB", "12 MiB", "1.5 GiB", "2 GiB"
pub fn size(bytes: i64) -> String {
    let (kib, mib, gib) = (1 << 10, 1 << 20, 1 << 30);
    match bytes {
        1.. if bytes < mib => format!("{} KiB", (bytes + kib - 1) / kib),
        _ if bytes < gib => format!("{} MiB", bytes / mib),
        _ => format!("{} GiB", format!("{:.1}", bytes as f64 / gib as f64).trim_end_matches(".0")),
    }
}

impl Commands {
    /// What the actor's customer has on disk.
    pub async fn disk(&self, actor: &Actor) -> Result<DiskView, CommandError> {
        timely(async {
            let bytes_max = store::disk::bytes_max(self.db.pool(), actor.customer).await?;
            Ok(DiskView::new(store::disk::usage(self.db.pool(), actor.customer).await?, bytes_max))
        })
        .await
    }

    /// For the receiver: the sizes of what it stores.
    pub async fn sources_measured(&self, sizes: &[(String, u64)]) -> Result<(), CommandError> {
        let (hashes, bytes) = columns(sizes);
        timely(async { Ok(store::disk::measure_sources(self.db.pool(), &hashes, &bytes).await?) }).await
    }

    pub async fn bundles_measured(&self, sizes: &[(String, u64)]) -> Result<(), CommandError> {
        let (hashes, bytes) = columns(sizes);
        timely(async { Ok(store::disk::measure_bundles(self.db.pool(), &hashes, &bytes).await?) }).await
    }

    /// For the receiver: repositories to be tidied, at most `limit`.
    pub async fn untidy(&self, limit: i64) -> Result<Vec<Untidy>, CommandError> {
        timely(async {
            let rows = store::disk::untidy(self.db.pool(), limit).await?;
            let mut all = Vec::new();
            for row in rows {
                let keep = store::disk::commits(self.db.pool(), row.app_id).await?;
                all.push(Untidy { row, keep });
            }
            Ok(all)
        })
        .await
    }

    pub async fn tidied(&self, app: AppId, bytes: u64) -> Result<(), CommandError> {
        let bytes = i64::try_from(bytes).unwrap_or(i64::MAX);
        timely(async { Ok(store::disk::tidied(self.db.pool(), app, bytes).await?) }).await
    }

    /// False: something was pushed meanwhile, and it is not taken.
    pub async fn bundled(&self, of: &Untidy, bundle: &BundleHash) -> Result<bool, CommandError> {
        let (app, next) = (of.row.app_id, of.row.deploy_next);
        timely(async { Ok(store::disk::bundled(self.db.pool(), app, next, bundle).await?) }).await
    }

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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_are_read_in_the_unit_that_suits_them() {
        let said: Vec<_> = [0, 1, 512 << 20, 1 << 30, (3 << 30) / 2, 5 << 30].map(size).into();
        assert_eq!(said, ["0 MiB", "1 KiB", "512 MiB", "1 GiB", "1.5 GiB", "5 GiB"]);
    }
}
