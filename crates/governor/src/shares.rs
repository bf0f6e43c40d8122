//! One budget for several models.

/// A model that has a share of a budget.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Member {
    /// Bytes without which it does not work.
    pub least: u64,
    /// Bytes beyond which more is of no use: all of it.
    pub most: u64,
    /// What one that runs gets of what they compete for, in proportion.
    pub priority: f64,
    /// It runs, or did a moment ago.
    pub active: bool,
}

/// Divides `total` bytes: everybody's least first, then among those that run, then, what these can't use, among the
/// others. By priority, and nobody gets more than it can use. None where `total` is less than all leasts together.
pub fn share(total: u64, members: &[Member]) -> Option<Vec<u64>> {
    let mut shares: Vec<u64> = members.iter().map(|member| member.least).collect();
    let mut left = total.checked_sub(shares.iter().sum())?;
    for active in [true, false] {
        left = pour(left, members, &mut shares, active);
    }
    Some(shares)
}

/// Fills the members in proportion to their priorities until they or the rest are exhausted; gives what is left.
fn pour(mut left: u64, members: &[Member], shares: &mut [u64], active: bool) -> u64 {
    loop {
        let thirsty = |(member, share): (&Member, &u64)| {
            member.active == active && *share < member.most && member.priority > 0.0
        };
        let weight: f64 = members
            .iter()
            .zip(&*shares)
            .filter(|&pair| thirsty(pair))
            .map(|(member, _)| member.priority)
            .sum();
        let before = left;
        for (member, share) in members.iter().zip(&mut *shares) {
            if thirsty((member, share)) {
                let part = (before as f64 * member.priority / weight) as u64;
                let part = part.min(member.most - *share).min(left);
                *share += part;
                left -= part;
            }
        }
        if left == before {
            return left;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn member(most: u64, priority: f64, active: bool) -> Member {
        Member {
            least: 10,
            most,
            priority,
            active,
        }
    }

    #[test]
    fn those_that_run_share_by_priority_and_no_byte_is_lost() {
        let members = [member(1000, 1.0, true), member(1000, 3.0, true)];
        assert_eq!(share(420, &members), Some(vec![110, 310]));
        let alike = [member(1000, 1.0, true); 3];
        let shares = share(301, &alike).unwrap_or_default();
        assert!(shares.iter().sum::<u64>() <= 301 && shares.iter().all(|&share| share >= 100));
    }

    #[test]
    fn who_is_idle_keeps_what_the_others_cannot_use() {
        let members = [member(100, 1.0, true), member(1000, 9.0, false)];
        assert_eq!(share(500, &members), Some(vec![100, 400]));
        let members = [member(1000, 1.0, true), member(1000, 9.0, false)];
        assert_eq!(share(500, &members), Some(vec![490, 10]));
        let idle = [member(1000, 1.0, false), member(1000, 1.0, false)];
        assert_eq!(share(500, &idle), Some(vec![250, 250]));
    }

    #[test]
    fn what_one_cannot_use_goes_to_the_next() {
        let members = [
            member(50, 5.0, true),
            member(1000, 1.0, true),
            member(1000, 1.0, true),
        ];
        assert_eq!(share(450, &members), Some(vec![50, 200, 200]));
    }

    #[test]
    fn too_little_for_all_is_refused() {
        assert_eq!(share(19, &[member(100, 1.0, true); 2]), None);
        assert_eq!(share(20, &[member(100, 1.0, true); 2]), Some(vec![10, 10]));
        assert_eq!(share(5, &[]), Some(vec![]));
    }
}
