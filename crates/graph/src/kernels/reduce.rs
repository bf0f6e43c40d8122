//! Sums and the like over runs of float32, in an order that does not depend on the processor.

use super::exp;

/// Partial results that are kept at once, so that they can be vectors.
const LANES: usize = 32;
/// Elements that are added in float32; longer sums are sums of such sums in float64.
const BLOCK: usize = 4096;

/// The sum of `value` of each element.
#[inline(always)]
pub fn sum_of(row: &[f32], value: impl Fn(f32) -> f32) -> f32 {
    let mut total = 0f64;
    for block in row.chunks(BLOCK) {
        let mut lanes = [0f32; LANES];
        let whole = block.chunks_exact(LANES);
        let mut rest = 0f32;
        for &a in whole.remainder() {
            rest += value(a);
        }
        for run in whole {
            for (lane, &a) in lanes.iter_mut().zip(run) {
                *lane += value(a);
            }
        }
        total += f64::from(folded(lanes, |a, b| a + b) + rest);
    }
    total as f32
}

/// The highest element, NaN where there is one; minus infinity of none.
#[inline(always)]
pub fn highest(row: &[f32]) -> f32 {
    let pick = |a: f32, b: f32| if a > b || a.is_nan() { a } else { b };
    let mut lanes = [f32::NEG_INFINITY; LANES];
    let whole = row.chunks_exact(LANES);
    let mut rest = f32::NEG_INFINITY;
    for &a in whole.remainder() {
        rest = pick(rest, a);
    }
    for run in whole {
        for (lane, &a) in lanes.iter_mut().zip(run) {
            *lane = pick(*lane, a);
        }
    }
    pick(folded(lanes, pick), rest)
}

/// Makes e^(a - highest) of each element a, and returns their sum. Elements that don't fill a vector are computed in
/// one that does: as single numbers they would take as long as all others of a short row.
#[inline(always)]
pub fn exponentials(row: &mut [f32], highest: f32) -> f32 {
    let mut total = 0f64;
    for block in row.chunks_mut(BLOCK) {
        let mut lanes = [0f32; LANES];
        let mut add = |run: &mut [f32]| {
            for (lane, a) in lanes.iter_mut().zip(run) {
                *a = exp(*a - highest);
                *lane += *a;
            }
        };
        let mut whole = block.chunks_exact_mut(LANES);
        whole.by_ref().for_each(&mut add);
        let rest = whole.into_remainder();
        if !rest.is_empty() {
            let mut padded = [f32::NEG_INFINITY; LANES];
            padded[..rest.len()].copy_from_slice(rest);
            add(&mut padded);
            rest.copy_from_slice(&padded[..rest.len()]);
        }
        total += f64::from(folded(lanes, |a, b| a + b));
    }
    total as f32
}

/// Halves are combined until one is left.
#[inline(always)]
fn folded<const N: usize>(mut lanes: [f32; N], combine: impl Fn(f32, f32) -> f32) -> f32 {
    let mut length = N / 2;
    while length > 0 {
        let (low, high) = lanes.split_at_mut(length);
        for (low, &high) in low.iter_mut().zip(high.iter()) {
            *low = combine(*low, high);
        }
        length /= 2;
    }
    lanes[0]
}
