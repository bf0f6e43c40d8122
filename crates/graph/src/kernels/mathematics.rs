//! Functions of one number that the compiler can vectorise, unlike the standard library's.

/// e^x, within 2 units in the last place; underflows to zero below the smallest normal number.
#[inline(always)]
pub fn exp(x: f32) -> f32 {
    const ROUND: f32 = 12_582_912.0; // 1.5 · 2²³: adding it rounds to an integer
    const LN2_HIGH: f32 = 0.693_359_4;
    const LN2_LOW: f32 = -2.121_944_4e-4;
    let x_in = if x > 89.0 { 89.0 } else { x };
    let x_in = if x_in < -104.0 { -104.0 } else { x_in };
    let shifted = x_in * std::f32::consts::LOG2_E + ROUND;
    let n = shifted - ROUND;
    let r = n.mul_add(-LN2_LOW, n.mul_add(-LN2_HIGH, x_in));
    // Cephes' minimax polynomial of e^r on ±ln 2 / 2.
    let mut p = 1.987_569_1e-4_f32;
    p = p.mul_add(r, 1.398_199_9e-3);
    p = p.mul_add(r, 8.333_452e-3);
    p = p.mul_add(r, 4.166_579_6e-2);
    p = p.mul_add(r, 1.666_666_5e-1);
    p = p.mul_add(r, 5e-1);
    let value = p.mul_add(r * r, r) + 1.0;
    // Two factors, for neither 2^128 nor 2^-150 is a normal number. The integer is read from the sum's last bits: a
    // conversion that treats NaN and infinity, as Rust's does, would not be vectorised.
    let n = (shifted.to_bits() as i32).wrapping_sub(ROUND.to_bits() as i32);
    let half = n >> 1;
    let power = |exponent: i32| f32::from_bits((exponent.wrapping_add(127) as u32) << 23);
    value * power(half) * power(n.wrapping_sub(half))
}

/// The logistic function, 1 / (1 + e^-x).
#[inline(always)]
pub fn sigmoid(x: f32) -> f32 {
    1.0 / (1.0 + exp(-x))
}

/// The hyperbolic tangent, within 2 units in the last place.
#[inline(always)]
pub fn tanh(x: f32) -> f32 {
    let magnitude = x.abs();
    let square = x * x;
    // Cephes' minimax polynomial for small arguments, where 1 - 2 / (e^2x + 1) would cancel.
    let mut p = -5.704_988_7e-3_f32;
    p = p.mul_add(square, 2.063_909e-2);
    p = p.mul_add(square, -5.373_971_6e-2);
    p = p.mul_add(square, 1.333_144_2e-1);
    p = p.mul_add(square, -3.333_328e-1);
    let small = (p * square).mul_add(x, x);
    let large = (1.0 - 2.0 / (exp(2.0 * magnitude) + 1.0)).copysign(x);
    if magnitude < 0.625 { small } else { large }
}

/// The error function, within 2 units in the last place. The polynomials were fitted for the least relative error.
#[inline(always)]
pub fn erf(x: f32) -> f32 {
    let magnitude = x.abs();
    // erf(x) / x as a polynomial of x², up to 0.93.
    let square = x * x;
    let mut p = 8.316_772_4e-5_f32;
    p = p.mul_add(square, -8.130_012e-4);
    p = p.mul_add(square, 5.199_906_4e-3);
    p = p.mul_add(square, -2.685_894e-2);
    p = p.mul_add(square, 1.128_368_8e-1);
    p = p.mul_add(square, -3.761_263_2e-1);
    p = p.mul_add(square, 1.283_792_3e-1);
    let small = p.mul_add(x, x);
    // ln(1 - erf(x)), up to 4, where erf is 1.
    let t = if magnitude > 4.0 { 4.0 } else { magnitude };
    let mut p = -2.090_955_6e-5_f32;
    p = p.mul_add(t, 4.323_030_3e-4);
    p = p.mul_add(t, -4.160_527e-3);
    p = p.mul_add(t, 2.509_149_7e-2);
    p = p.mul_add(t, -1.082_366_2e-1);
    p = p.mul_add(t, -6.333_867e-1);
    p = p.mul_add(t, -1.129_495_1);
    p = p.mul_add(t, 1.705_520_6e-4);
    let large = (1.0 - exp(p)).copysign(x);
    if magnitude < 0.92 { small } else { large }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn worst(f: fn(f32) -> f32, exact: fn(f64) -> f64, low: f32, high: f32) -> f64 {
        let steps = 200_000;
        (0..=steps)
            .map(|step| {
                let x = low + (high - low) * step as f32 / steps as f32;
                let expected = exact(f64::from(x));
                ((f64::from(f(x)) - expected) / expected.abs().max(1e-30)).abs()
            })
            .fold(0.0, f64::max)
    }

    #[test]
    fn they_are_as_close_as_they_say() {
        assert!(worst(erf, libm::erf, -5.0, 5.0) < 2.5e-7);
        assert!(worst(exp, f64::exp, -87.0, 88.5) < 2.5e-7);
        assert!(worst(tanh, f64::tanh, -9.0, 9.0) < 2.5e-7);
        assert!(worst(sigmoid, |x| 1.0 / (1.0 + (-x).exp()), -80.0, 80.0) < 4e-7);
    }

    #[test]
    fn they_keep_what_is_special() {
        for f in [exp, sigmoid, tanh, erf] {
            assert!(f(f32::NAN).is_nan());
        }
        assert_eq!(exp(f32::NEG_INFINITY), 0.0);
        assert_eq!(exp(f32::INFINITY), f32::INFINITY);
        assert_eq!(exp(0.0), 1.0);
        assert_eq!([tanh(f32::INFINITY), tanh(f32::NEG_INFINITY)], [1.0, -1.0]);
        assert_eq!([erf(f32::INFINITY), erf(f32::NEG_INFINITY)], [1.0, -1.0]);
        assert_eq!(sigmoid(f32::NEG_INFINITY), 0.0);
    }
}
