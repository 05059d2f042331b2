//! Which instance gets a request. Pure: chance and time are arguments.

/// What is known of an instance when one is chosen.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Load {
    pub standing: Standing,
    pub open: u32,
    /// How long it has been in the table.
    pub age_ms: u64,
    /// It just failed to answer, or answered with an error of its own.
    pub failing: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Standing {
    Up,
    /// It lately refused a connection: only if there is no other.
    Down,
    /// It left the table, or was tried already: never.
    Out,
}

/// An instance that fails at once has few open requests; it must not attract more for that.
const FAILING_COSTS: u64 = 8;

/// The one with less open of two random ones (which does nearly as well as the least of all, and
/// never sends everybody to the same). A new one counts as if it were smaller until it is warm.
pub fn choose(count: usize, load: impl Fn(usize) -> Load, slow_start_ms: u64, chance: u64) -> Option<usize> {
    if count == 0 {
        return None;
    }
    let from = |start: usize, wanted: Standing, not: Option<usize>| {
        (0..count).map(|i| (start + i) % count).find(|i| load(*i).standing == wanted && Some(*i) != not)
    };
    let (first, second) = ((chance as u32) as usize % count, (chance >> 32) as usize % count);
    for standing in [Standing::Up, Standing::Down] {
        let Some(a) = from(first, standing, None) else { continue };
        let Some(b) = from(second, standing, Some(a)) else { return Some(a) };
        return Some(if cost(&load(b), slow_start_ms) < cost(&load(a), slow_start_ms) { b } else { a });
    }
    None
}

fn cost(load: &Load, slow_start_ms: u64) -> u64 {
    let warm = load.age_ms.saturating_mul(1000).checked_div(slow_start_ms).unwrap_or(1000);
    let failing = if load.failing { FAILING_COSTS } else { 0 };
    (u64::from(load.open) + 1 + failing) * 1_000_000 / warm.clamp(100, 1000)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const WARM: Load = Load { standing: Standing::Up, open: 0, age_ms: 60_000, failing: false };

    fn loads() -> impl Strategy<Value = Vec<Load>> {
        let standing = prop_oneof![Just(Standing::Up), Just(Standing::Down), Just(Standing::Out)];
        let load = (standing, 0u32..50, 0u64..10_000, any::<bool>());
        let load = load.prop_map(|(standing, open, age_ms, failing)| Load { standing, open, age_ms, failing });
        proptest::collection::vec(load, 0..6)
    }

    proptest! {
        #[test]
        fn one_that_is_up_is_chosen_if_there_is_one_and_one_that_is_out_never(all in loads(), chance in any::<u64>()) {
            let chosen = choose(all.len(), |i| all[i], 5000, chance).map(|i| all[i].standing);
            let any = |s| all.iter().any(|l| l.standing == s);
            let wanted = [Standing::Up, Standing::Down].into_iter().find(|s| any(*s));
            prop_assert_eq!(chosen, wanted);
        }

        #[test]
        fn of_two_the_one_with_less_open_is_chosen(a in 0u32..99, b in 0u32..99, chance in any::<u64>()) {
            let all = [Load { open: a, ..WARM }, Load { open: b, ..WARM }];
            if a != b {
                prop_assert_eq!(choose(2, |i| all[i], 5000, chance), Some(usize::from(b < a)));
            }
        }
    }

    /// Requests that stay open, `n` of them, one after the other.
    fn fill(mut all: Vec<Load>, n: u32) -> Vec<u32> {
        for i in 0..n {
            let chance = (u64::from(i) + 1).wrapping_mul(0x9e37_79b9_7f4a_7c15);
            let chosen = choose(all.len(), |i| all[i], 5000, chance).unwrap();
            all[chosen].open += 1;
        }
        all.iter().map(|l| l.open).collect()
    }

    #[test]
    fn a_new_instance_takes_its_share_over_its_first_seconds() {
        let at = |age_ms| fill(vec![WARM, Load { age_ms, ..WARM }], 110)[1];
        assert!((5..20).contains(&at(0)), "{}", at(0));
        assert!((30..45).contains(&at(2500)), "{}", at(2500));
        assert!((50..60).contains(&at(5000)), "{}", at(5000));
    }

    #[test]
    fn one_that_fails_at_once_attracts_nothing() {
        let all = [Load { open: 3, ..WARM }, Load { failing: true, ..WARM }];
        for chance in 0..64u64 {
            assert_eq!(choose(2, |i| all[i], 5000, chance << 31), Some(0));
        }
    }
}
