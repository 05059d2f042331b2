//! Which instance gets a request. Pure: chance and time are arguments.

/// What is known of an instance when one is chosen.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Load {
    pub standing: Standing,
    pub open: u32,
    /// How long it has been in the table.
    pub age_ms: u64,
    /// Most of its last answers were errors, or none.
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

/// The one with less open of two random ones (which does nearly as well as the least of all, and
/// never sends everybody to the same). A new one counts as if it were smaller until it is warm; next
/// to others as new, it has its full share. One whose answers lately failed, which is why it has
/// little open, gets nothing that another can take.
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
        let (load_a, load_b) = (load(a), load(b));
        let cost_a = (load_a.failing, cost(&load_a, slow_start_ms, chance >> 20));
        let cost_b = (load_b.failing, cost(&load_b, slow_start_ms, chance >> 52));
        return Some(if cost_b < cost_a { b } else { a });
    }
    None
}

/// One open request, in the units of `cost`.
const ONE: u64 = 1 << 10;

/// What is open there, and less than one by chance, over how warm it is. The chance is what gives a
/// new one its part when nothing is open anywhere.
fn cost(load: &Load, slow_start_ms: u64, chance: u64) -> u64 {
    let warm = load.age_ms.saturating_mul(1000).checked_div(slow_start_ms).unwrap_or(1000);
    (u64::from(load.open) * ONE + chance % ONE + 1) * 1000 / warm.clamp(100, 1000)
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

    /// Of 10,000 requests that each are answered before the next comes, how many each gets.
    fn one_by_one(all: &[Load]) -> Vec<u32> {
        let mut got = vec![0; all.len()];
        for i in 0..10_000u64 {
            let chance =
                (i + 1).wrapping_mul(0x9e37_79b9_7f4a_7c15).rotate_left(17).wrapping_mul(0xd6e8_feb8_6659_fd93);
            got[choose(all.len(), |i| all[i], 5000, chance).unwrap()] += 1;
        }
        got
    }

    #[test]
    fn a_new_instance_is_not_left_out_where_little_is_asked_and_new_ones_share_equally() {
        let at = |age_ms| one_by_one(&[WARM, Load { age_ms, ..WARM }])[1];
        assert!((300..900).contains(&at(0)), "{}", at(0));
        assert!((2000..3200).contains(&at(2500)), "{}", at(2500));
        assert!((4600..5400).contains(&at(5000)), "{}", at(5000));
        for got in one_by_one(&[Load { age_ms: 0, ..WARM }; 4]) {
            assert!((2200..2800).contains(&got), "{got}");
        }
    }

    #[test]
    fn one_that_fails_at_once_attracts_nothing_that_another_can_take() {
        let all = [Load { open: 300, ..WARM }, Load { failing: true, ..WARM }];
        assert_eq!(one_by_one(&all), [10_000, 0]);
        let all = [Load { standing: Standing::Out, ..WARM }, Load { failing: true, ..WARM }];
        assert_eq!(one_by_one(&all), [0, 10_000]);
    }
}
