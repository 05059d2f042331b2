//! What goes from disk, by rule and with its reason. Nothing that runs, that a person may still ask for,
//! or that may be on its way to a row of its own is ever named here.

use std::collections::BTreeMap;
use std::time::Duration;

use domain::DeployState;

use crate::Room;

/// Besides the one that serves: what a person can roll back to.
pub const RELEASES_KEPT: usize = 10;
/// As many when the disk gets tight.
const RELEASES_KEPT_TIGHT: usize = 3;
/// What is younger may be on its way to the row that names it.
pub const GRACE: Duration = Duration::from_secs(3600);
/// What no row at all names: an older truth may have come back, which does not know it.
pub const UNNAMED_GRACE: Duration = Duration::from_secs(7 * 24 * 3600);
/// A build cache that nobody used for so long.
pub const CACHE_IDLE_MAX: Duration = Duration::from_secs(30 * 24 * 3600);
/// From so many bundles on, those of an app become one.
const BUNDLES_MAX: usize = 20;
/// Below this, nobody minds what force pushes left in them.
const BUNDLES_BYTES_MIN: u64 = 64 << 20;

/// What goes, and why, in words for the operator.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Gone<K> {
    pub what: K,
    pub reason: String,
}

/// A deploy of an app that has ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Past {
    pub number: i64,
    pub state: DeployState,
    /// It serves, or an instance of it lives.
    pub runs: bool,
    /// What it was made from is in the object store.
    pub is_whole: bool,
}

/// How many releases of each app are kept, if `wanted` are while there is room.
pub fn releases_kept(wanted: usize, room: Room) -> usize {
    match room {
        Room::Plenty => wanted,
        Room::Tight | Room::Short => wanted.min(RELEASES_KEPT_TIGHT),
    }
}

/// Which deploys of one app can neither be rolled back to nor deployed again from now on: their image and
/// source go, unless another needs the same.
pub fn past(deleted: bool, deploys: &[Past], keep: usize) -> Vec<Gone<i64>> {
    let mut newest: Vec<&Past> = deploys.iter().filter(|d| d.state.is_final() && !d.runs).collect();
    newest.sort_by_key(|d| std::cmp::Reverse(d.number));
    let (mut live, mut failed) = (0, 0);
    let mut gone = Vec::new();
    for deploy in newest {
        let is_live = deploy.state == DeployState::Live;
        let reason = if deleted {
            "its app was deleted".to_owned()
        } else if !deploy.is_whole {
            "what it was made from is not in the object store any more".to_owned()
        } else {
            let count = if is_live { &mut live } else { &mut failed };
            *count += 1;
            match (*count > keep, is_live) {
                (false, _) => continue,
                (true, true) => format!("{keep} newer releases are kept to roll back to"),
                (true, false) => format!("{keep} newer deploys that failed are kept to try again"),
            }
        };
        gone.push(Gone { what: deploy.number, reason });
    }
    gone
}

/// Who names an object.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Named {
    /// A row whose object must stay.
    Kept,
    /// Only rows that need it no more.
    Forgotten,
}

/// An object as the store has it; its age counts from when it was last stored.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Object<H> {
    pub hash: H,
    pub bytes: u64,
    pub age: Duration,
}

/// Which objects go. `truth_age`: for how long the database has not come back older.
pub fn objects<H: Ord + Clone>(listed: &[Object<H>], named: &BTreeMap<H, Named>, truth_age: Duration) -> Vec<Gone<H>> {
    let gone = |object: &Object<H>| {
        let reason = match named.get(&object.hash) {
            Some(Named::Kept) => return None,
            Some(Named::Forgotten) if object.age >= GRACE => "nothing that is kept needs it",
            None if object.age.min(truth_age) >= UNNAMED_GRACE => "nothing has named it for a week",
            Some(Named::Forgotten) | None => return None,
        };
        Some(Gone { what: object.hash.clone(), reason: reason.to_owned() })
    };
    listed.iter().filter_map(gone).collect()
}

/// A file of ours that can be made or fetched again: an image on a runner, a build cache.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct File<K> {
    pub what: K,
    pub bytes: u64,
    /// Since it was last used.
    pub idle: Duration,
    pub use_: Use,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Use {
    /// Mounted, or wanted at the next start: it stays.
    Now,
    /// Perhaps once more.
    Perhaps,
    /// What it was for is gone.
    Never,
}

/// Which files go: those for nothing, those idle for longer than `idle_max`, and then the longest idle until the
/// rest fits into `budget`; where the disk gets tight, all that can.
pub fn files<K: Clone>(files: &[File<K>], budget: u64, idle_max: Duration, room: Room) -> Vec<Gone<K>> {
    let mut left: u64 = files.iter().map(|f| f.bytes).sum();
    let mut order: Vec<&File<K>> = files.iter().filter(|f| f.use_ != Use::Now).collect();
    order.sort_by_key(|f| (f.use_ != Use::Never, std::cmp::Reverse(f.idle)));
    let mut gone = Vec::new();
    for file in order {
        let reason = match (file.use_, room) {
            (Use::Never, _) => "what it was for is gone".to_owned(),
            (Use::Perhaps, _) if file.idle >= idle_max => {
                format!("it was not used for {} days", idle_max.as_secs() / 86_400)
            }
            (Use::Perhaps, Room::Plenty) if left > budget => {
                format!("all of its kind may take {} MiB, and the others were used later", budget >> 20)
            }
            (Use::Perhaps, Room::Tight | Room::Short) => "the disk is nearly full".to_owned(),
            _ => continue,
        };
        left = left.saturating_sub(file.bytes);
        gone.push(Gone { what: file.what.clone(), reason });
    }
    gone
}

/// What the object store has of an app's repository.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Bundles {
    /// One for each push since the last time they were made one.
    pub count: usize,
    pub has_whole: bool,
    /// Of all, if it is known.
    pub bytes: u64,
    /// Of the repository itself, if it is known.
    pub repository_bytes: u64,
    /// Something was deployed, so there is something to lose.
    pub has_history: bool,
}

/// Whether the bundles of an app should become one, and why.
pub fn bundle(bundles: &Bundles) -> Option<String> {
    if !bundles.has_history {
        return None;
    }
    if bundles.count == 0 && !bundles.has_whole {
        return Some("the object store has nothing of its repository".to_owned());
    }
    if bundles.count > BUNDLES_MAX {
        return Some(format!("it has {} bundles", bundles.count));
    }
    let is_wasteful = bundles.repository_bytes > 0 && bundles.bytes / 2 > bundles.repository_bytes;
    (is_wasteful && bundles.bytes > BUNDLES_BYTES_MIN)
        .then(|| "its bundles are twice as large as its repository".to_owned())
}

#[cfg(test)]
mod tests {
    use DeployState as D;

    use super::*;

    const HOUR: Duration = Duration::from_secs(3600);
    const DAY: Duration = Duration::from_secs(24 * 3600);

    fn ended(number: i64, state: DeployState) -> Past {
        Past { number, state, runs: false, is_whole: true }
    }

    fn numbers(gone: &[Gone<i64>]) -> Vec<i64> {
        gone.iter().map(|g| g.what).collect()
    }

    #[test]
    fn the_last_releases_stay_to_be_rolled_back_to_and_what_runs_always() {
        let mut all: Vec<Past> = (1..=15).map(|n| ended(n, D::Live)).collect();
        all[14].runs = true;
        assert_eq!(numbers(&past(false, &all, 10)), [4, 3, 2, 1]);
        // A roll-back serves what was old; its own instances live.
        all[0].runs = true;
        assert_eq!(numbers(&past(false, &all, 10)), [4, 3, 2]);
        assert_eq!(numbers(&past(true, &all, 10)).len(), 13, "of a deleted app all but what still runs");
        assert!(past(false, &all, 10)[0].reason.contains("10 newer releases"));
    }

    #[test]
    fn failed_deploys_count_for_themselves_and_open_ones_never_go() {
        let mut all: Vec<Past> = (1..=6).map(|n| ended(n, if n % 2 == 0 { D::Failed } else { D::Live })).collect();
        all.push(ended(7, D::Building));
        assert_eq!(numbers(&past(false, &all, 1)), [4, 3, 2, 1]);
        assert_eq!(numbers(&past(true, &all, 1)), [6, 5, 4, 3, 2, 1]);
    }

    #[test]
    fn what_lost_its_image_is_not_offered_any_more() {
        let mut all = vec![ended(1, D::Live), ended(2, D::Live)];
        all[1].is_whole = false;
        assert_eq!(numbers(&past(false, &all, 10)), [2]);
    }

    #[test]
    fn an_object_goes_after_an_hour_and_what_nothing_names_after_a_week_of_the_same_truth() {
        let object = |hash, age| Object { hash, bytes: 1, age };
        let named = BTreeMap::from([("kept", Named::Kept), ("old", Named::Forgotten), ("new", Named::Forgotten)]);
        let listed =
            [object("kept", 99 * DAY), object("old", HOUR), object("new", HOUR / 2), object("nobody's", 8 * DAY)];
        let gone = |truth| objects(&listed, &named, truth).into_iter().map(|g| g.what).collect::<Vec<_>>();
        assert_eq!(gone(99 * DAY), ["old", "nobody's"]);
        assert_eq!(gone(6 * DAY), ["old"], "the database came back six days ago");
    }

    #[test]
    fn files_go_from_the_longest_idle_on_until_the_rest_fits() {
        let file = |what, mib: u64, hours: u32, use_| File { what, bytes: mib << 20, idle: HOUR * hours, use_ };
        let all = [
            file("mounted", 50, 900, Use::Now),
            file("older", 20, 9, Use::Perhaps),
            file("newer", 20, 2, Use::Perhaps),
            file("gone", 1, 0, Use::Never),
            file("forgotten", 1, 24 * 31, Use::Perhaps),
        ];
        let names = |budget: u64, room| {
            files(&all, budget << 20, CACHE_IDLE_MAX, room).into_iter().map(|g| g.what).collect::<Vec<_>>()
        };
        assert_eq!(names(1000, Room::Plenty), ["gone", "forgotten"]);
        assert_eq!(names(70, Room::Plenty), ["gone", "forgotten", "older"]);
        assert_eq!(names(1000, Room::Tight), ["gone", "forgotten", "older", "newer"]);
    }

    #[test]
    fn bundles_become_one_when_they_are_many_or_mostly_garbage_or_missing() {
        let some = Bundles { count: 3, has_whole: true, bytes: 9 << 20, repository_bytes: 1 << 20, has_history: true };
        assert_eq!(bundle(&some), None);
        assert!(bundle(&Bundles { count: 21, ..some }).is_some());
        assert!(bundle(&Bundles { bytes: 900 << 20, ..some }).is_some());
        assert!(bundle(&Bundles { count: 0, has_whole: false, ..some }).is_some());
        assert_eq!(bundle(&Bundles { count: 0, has_whole: false, has_history: false, ..some }), None);
    }
}
