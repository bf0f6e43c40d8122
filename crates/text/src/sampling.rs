//! Which token comes next.

use crate::TextError;

/// How tokens are chosen. The default is greedy.
#[derive(Debug, Clone, PartialEq)]
pub struct Sampling {
    /// Logits are divided by it; 0 takes the likeliest token always.
    pub temperature: f32,
    /// Chooses among so many of the likeliest; 0 among all.
    pub top_k: usize,
    /// Chooses among the likeliest that together have this probability.
    pub top_p: f32,
    /// The same seed gives the same text.
    pub seed: u64,
}

impl Default for Sampling {
    fn default() -> Self {
        Self {
            temperature: 0.0,
            top_k: 0,
            top_p: 1.0,
            seed: 0,
        }
    }
}

/// Chooses tokens.
#[derive(Debug, Clone)]
pub struct Sampler {
    sampling: Sampling,
    random: u64,
}

impl Sampler {
    /// # Errors
    /// A temperature below 0, or `top_p` outside of (0, 1].
    pub fn new(sampling: Sampling) -> Result<Self, TextError> {
        if !(0.0..=f32::MAX).contains(&sampling.temperature) {
            return Err(TextError::Sampling {
                expected: "a temperature of 0 or more",
                got: sampling.temperature.into(),
            });
        }
        if !(f32::MIN_POSITIVE..=1.0).contains(&sampling.top_p) {
            return Err(TextError::Sampling {
                expected: "a top-p above 0 and up to 1",
                got: sampling.top_p.into(),
            });
        }
        Ok(Self {
            random: sampling.seed,
            sampling,
        })
    }

    /// A token, or None where a logit is not a number.
    ///
    /// In the order of transformers: temperature, then the likeliest `top_k`, then of these `top_p`.
    pub fn choose(&mut self, logits: &[f32]) -> Option<u32> {
        let largest = logits.iter().copied().reduce(f32::max)?;
        if !largest.is_finite() || logits.iter().any(|logit| logit.is_nan()) {
            return None;
        }
        if self.sampling.temperature == 0.0 {
            let first = logits.iter().position(|&logit| logit == largest)?;
            return Some(first as u32);
        }
        let temperature = f64::from(self.sampling.temperature);
        let mut tokens: Vec<(u32, f64)> = (0..)
            .zip(logits)
            .map(|(token, &logit)| {
                let weight = ((f64::from(logit) - f64::from(largest)) / temperature).exp();
                (token, weight)
            })
            .collect();
        let likelier = |a: &(u32, f64), b: &(u32, f64)| b.1.total_cmp(&a.1).then(a.0.cmp(&b.0));
        let kept = self.sampling.top_k;
        if (1..tokens.len()).contains(&kept) {
            tokens.select_nth_unstable_by(kept - 1, likelier);
            tokens.truncate(kept);
        }
        if self.sampling.top_p < 1.0 {
            tokens.sort_unstable_by(likelier);
            let enough = sum(&tokens) * f64::from(self.sampling.top_p);
            let mut together = 0.0;
            let kept = tokens.iter().position(|(_, weight)| {
                together += weight;
                together >= enough
            });
            tokens.truncate(kept.map_or(tokens.len(), |last| last + 1));
        }
        let mut left = self.uniform() * sum(&tokens);
        for (token, weight) in &tokens {
            left -= weight;
            if left < 0.0 {
                return Some(*token);
            }
        }
        // Rounding has left a little.
        tokens
            .iter()
            .rfind(|(_, weight)| *weight > 0.0)
            .map(|(token, _)| *token)
    }

    /// The next of SplitMix64 (Steele, Lea and Flood 2014), in [0, 1).
    fn uniform(&mut self) -> f64 {
        self.random = self.random.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.random;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^= mixed >> 31;
        (mixed >> 11) as f64 / (1_u64 << 53) as f64
    }
}

fn sum(tokens: &[(u32, f64)]) -> f64 {
    tokens.iter().map(|(_, weight)| weight).sum()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    /// How often each of four tokens is chosen in 20,000 draws; their probabilities are 0.5, 0.25, 0.125 and 0.125.
    fn shares(sampling: Sampling) -> [f64; 4] {
        let logits = [8_f32, 4.0, 2.0, 2.0].map(f32::ln);
        let mut sampler = Sampler::new(sampling).unwrap();
        let mut counts = [0.0; 4];
        for _ in 0..20_000 {
            counts[sampler.choose(&logits).unwrap() as usize] += 1.0 / 20_000.0;
        }
        counts
    }

    fn close(shares: [f64; 4], expected: [f64; 4]) {
        for (share, expected) in shares.iter().zip(expected) {
            assert!((share - expected).abs() < 0.02, "{shares:?}");
        }
    }

    #[test]
    fn tokens_come_as_often_as_they_are_likely() {
        let plain = Sampling {
            temperature: 1.0,
            ..Sampling::default()
        };
        close(shares(plain.clone()), [0.5, 0.25, 0.125, 0.125]);
        let with = |temperature, top_k, top_p| Sampling {
            temperature,
            top_k,
            top_p,
            seed: 7,
        };
        // The square roots of the probabilities, so that they are nearer to each other.
        close(shares(with(2.0, 0, 1.0)), [0.37, 0.26, 0.185, 0.185]);
        close(shares(with(1.0, 2, 1.0)), [2.0 / 3.0, 1.0 / 3.0, 0.0, 0.0]);
        close(shares(with(1.0, 0, 0.7)), [2.0 / 3.0, 1.0 / 3.0, 0.0, 0.0]);
        close(shares(with(1.0, 0, 0.4)), [1.0, 0.0, 0.0, 0.0]);
        close(shares(with(0.0, 0, 1.0)), [1.0, 0.0, 0.0, 0.0]);
        assert_eq!(shares(plain.clone()), shares(plain));
    }

    #[test]
    fn of_equals_the_first_and_of_no_number_none() {
        let mut sampler = Sampler::new(Sampling::default()).unwrap();
        assert_eq!(sampler.choose(&[1.0, 3.0, 3.0]), Some(1));
        assert_eq!(sampler.choose(&[f32::NEG_INFINITY, -3.0]), Some(1));
        assert_eq!(sampler.choose(&[1.0, f32::NAN]), None);
        assert_eq!(sampler.choose(&[]), None);
    }

    #[test]
    fn what_makes_no_sense_is_refused() {
        for (temperature, top_p) in [(-1.0, 1.0), (f32::NAN, 1.0), (1.0, 0.0), (1.0, 1.5)] {
            let sampling = Sampling {
                temperature,
                top_p,
                ..Sampling::default()
            };
            assert!(Sampler::new(sampling).is_err());
        }
    }
}
