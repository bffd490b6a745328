//! How long things took.

use alloc::vec::Vec;

/// Times in ticks of a clock, in any order.
#[derive(Clone, Debug, Default)]
pub struct Times(Vec<u64>);

impl Times {
    /// Adds one.
    pub fn add(&mut self, ticks: u64) {
        self.0.push(ticks);
    }

    /// How many there are.
    pub fn count(&self) -> usize {
        self.0.len()
    }

    /// All of them.
    pub fn all(&self) -> &[u64] {
        &self.0
    }

    /// What 50 and 99 of 100 do not exceed, and the greatest; zeros where there are none.
    pub fn summary(&self) -> Summary {
        let mut sorted = self.0.clone();
        sorted.sort_unstable();
        Summary {
            p50: nearest_rank(&sorted, 50),
            p99: nearest_rank(&sorted, 99),
            max: nearest_rank(&sorted, 100),
        }
    }
}

/// Times, summed up.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Summary {
    /// The median.
    pub p50: u64,
    /// What 99 of 100 do not exceed.
    pub p99: u64,
    /// The greatest.
    pub max: u64,
}

/// The least of sorted times that so many of a hundred do not exceed.
fn nearest_rank(sorted: &[u64], hundredth: usize) -> u64 {
    let rank = (sorted.len() * hundredth).div_ceil(100);
    sorted.get(rank.saturating_sub(1)).copied().unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(times: impl IntoIterator<Item = u64>) -> Summary {
        Times(times.into_iter().collect()).summary()
    }

    #[test]
    fn percentiles_are_times_that_occurred() {
        assert_eq!(of((1..=100).rev()), Summary { p50: 50, p99: 99, max: 100 });
        assert_eq!(of([30, 10, 20]), Summary { p50: 20, p99: 30, max: 30 });
        assert_eq!(of([5]), Summary { p50: 5, p99: 5, max: 5 });
    }

    #[test]
    fn of_no_times_all_is_zero() {
        assert_eq!(of([]), Summary::default());
    }
}
