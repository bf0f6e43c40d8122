use std::ops::Range;

/// A walk over tensors of one shape with different strides, as runs along the innermost dimension.
///
/// Dimensions that follow each other in all tensors are joined, so contiguous tensors are one run.
///
/// ```
/// # use weightstream_graph::Walk;
/// // A (2, 3) tensor and its transposed copy.
/// let walk = Walk::new(&[2, 3], [&[3, 1], &[1, 2]]);
/// let mut seen = Vec::new();
/// walk.for_each(0..walk.runs(), |[a, b]| {
///     for index in 0..walk.length {
///         seen.push((a + index * walk.steps[0], b + index * walk.steps[1]));
///     }
/// });
/// assert_eq!(seen, [(0, 0), (1, 2), (2, 4), (3, 1), (4, 3), (5, 5)]);
/// ```
pub struct Walk<const N: usize> {
    /// (entries, strides) of the outer dimensions, the outermost first.
    outer: Vec<(usize, [usize; N])>,
    /// Elements of one run.
    pub length: usize,
    /// Each tensor's stride within a run.
    pub steps: [usize; N],
}

impl<const N: usize> Walk<N> {
    /// A walk over `shape`; each of `strides` has as many entries (an expanded dimension has stride 0).
    pub fn new(shape: &[usize], strides: [&[usize]; N]) -> Self {
        let mut joined: Vec<(usize, [usize; N])> = Vec::with_capacity(shape.len());
        for (dim, &size) in shape.iter().enumerate() {
            if size == 1 {
                continue;
            }
            let steps = strides.map(|strides| strides.get(dim).copied().unwrap_or(0));
            match joined.last_mut() {
                Some((entries, outer)) if (0..N).all(|i| outer[i] == steps[i] * size) => {
                    *entries *= size;
                    *outer = steps;
                }
                _ => joined.push((size, steps)),
            }
        }
        let (length, steps) = joined.pop().unwrap_or((1, [0; N]));
        Self {
            outer: joined,
            length,
            steps,
        }
    }

    /// How many runs there are.
    pub fn runs(&self) -> usize {
        self.outer.iter().map(|(entries, _)| entries).product()
    }

    /// Whether run number n begins at element n × length in tensor `index`, and its elements follow each other.
    pub fn is_linear(&self, index: usize) -> bool {
        let mut expected = self.length;
        let outer = self.outer.iter().rev().all(|(entries, strides)| {
            let fits = strides[index] == expected;
            expected *= entries;
            fits
        });
        outer && (self.steps[index] == 1 || self.length == 1)
    }

    /// Calls `visit` with the offsets at which each of the `runs` begins, in elements.
    pub fn for_each(&self, runs: Range<usize>, mut visit: impl FnMut([usize; N])) {
        if runs.is_empty() {
            return;
        }
        let mut position = vec![0; self.outer.len()];
        let mut offsets = [0; N];
        let mut rest = runs.start;
        for (place, (entries, strides)) in position.iter_mut().zip(&self.outer).rev() {
            *place = rest % entries;
            rest /= entries;
            for (offset, stride) in offsets.iter_mut().zip(strides) {
                *offset += *place * stride;
            }
        }
        for _ in runs {
            visit(offsets);
            for (place, (entries, strides)) in position.iter_mut().zip(&self.outer).rev() {
                *place += 1;
                if *place < *entries {
                    offsets
                        .iter_mut()
                        .zip(strides)
                        .for_each(|(offset, stride)| *offset += stride);
                    break;
                }
                *place = 0;
                offsets
                    .iter_mut()
                    .zip(strides)
                    .for_each(|(offset, stride)| *offset -= stride * (entries - 1));
            }
        }
    }
}
