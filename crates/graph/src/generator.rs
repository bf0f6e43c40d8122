//! Random numbers as torch's generator for the CPU gives them: the Mersenne Twister, seeded alike.

/// Words of the state, and the distance of those that are combined.
const WORDS: usize = 624;
const SHIFT: usize = 397;
/// What torch seeds its generator with until `torch.manual_seed` is called.
const DEFAULT_SEED: u64 = 67_280_421_310_721;

/// A stream of random numbers, the same one for the same seed.
#[derive(Clone)]
pub struct Generator {
    words: [u32; WORDS],
    next: usize,
    /// The second one of a pair of normal numbers that were drawn together.
    normal: Option<f64>,
}

impl Default for Generator {
    fn default() -> Self {
        Self::new(DEFAULT_SEED)
    }
}

impl Generator {
    /// The numbers that torch draws after `torch.manual_seed(seed)`; the lower 32 bits count.
    pub fn new(seed: u64) -> Self {
        let mut words = [0; WORDS];
        let mut last = seed as u32;
        for (place, word) in words.iter_mut().enumerate() {
            if place > 0 {
                last = 1_812_433_253_u32
                    .wrapping_mul(last ^ (last >> 30))
                    .wrapping_add(place as u32);
            }
            *word = last;
        }
        Self {
            words,
            next: WORDS,
            normal: None,
        }
    }

    /// 32 random bits.
    pub fn bits(&mut self) -> u32 {
        if self.next == WORDS {
            self.twist();
        }
        let mut bits = self.words[self.next];
        self.next += 1;
        bits ^= bits >> 11;
        bits ^= (bits << 7) & 0x9d2c_5680;
        bits ^= (bits << 15) & 0xefc6_0000;
        bits ^ (bits >> 18)
    }

    /// 64 random bits.
    pub fn long_bits(&mut self) -> u64 {
        let high = u64::from(self.bits());
        high << 32 | u64::from(self.bits())
    }

    /// From 0 up to but not including 1, with so many random bits: 53 take two draws.
    pub fn uniform(&mut self, digits: u32) -> f64 {
        let bits = if digits > 32 {
            self.long_bits()
        } else {
            u64::from(self.bits())
        };
        (bits & ((1 << digits) - 1)) as f64 / (1_u64 << digits) as f64
    }

    /// Of the normal distribution, two from each two draws.
    pub fn normal(&mut self) -> f64 {
        if let Some(second) = self.normal.take() {
            return second;
        }
        let (first, second) = (self.uniform(53), self.uniform(53));
        let radius = (-2.0 * (-second).ln_1p()).sqrt();
        let angle = std::f64::consts::TAU * first;
        self.normal = Some(radius * angle.sin());
        radius * angle.cos()
    }

    fn twist(&mut self) {
        for place in 0..WORDS {
            let joined =
                (self.words[place] & 0x8000_0000) | (self.words[(place + 1) % WORDS] & 0x7fff_ffff);
            let mask = if joined & 1 == 1 { 0x9908_b0df } else { 0 };
            self.words[place] = self.words[(place + SHIFT) % WORDS] ^ (joined >> 1) ^ mask;
        }
        self.next = 0;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_numbers_are_those_of_the_mersenne_twister() {
        // The ten-thousandth number of the standard's own test.
        let mut generator = Generator::new(5489);
        let last = (0..10_000).map(|_| generator.bits()).last();
        assert_eq!(last, Some(4_123_659_995));
    }
}
