//! Matrices in memory: to be read with any strides, and to be written in parts by several threads.

use crate::OperatorError;
use std::marker::PhantomData;

/// A matrix to be read: element (r, c) is `elements[r · row_stride + c · column_stride]`.
#[derive(Clone, Copy)]
#[allow(missing_docs)]
pub struct Matrix<'a, T> {
    elements: &'a [T],
    pub rows: usize,
    pub columns: usize,
    pub row_stride: usize,
    pub column_stride: usize,
}

impl<'a, T: Copy> Matrix<'a, T> {
    /// A matrix over `elements`.
    ///
    /// # Errors
    /// One of its elements is none of them.
    pub fn new(
        elements: &'a [T],
        [rows, columns]: [usize; 2],
        [row_stride, column_stride]: [usize; 2],
    ) -> Result<Self, OperatorError> {
        let last = rows.saturating_sub(1) * row_stride + columns.saturating_sub(1) * column_stride;
        if rows > 0 && columns > 0 && last >= elements.len() {
            return Err(OperatorError::OutsideStorage {
                elements: last + 1,
                bytes: size_of_val(elements),
            });
        }
        Ok(Self {
            elements,
            rows,
            columns,
            row_stride,
            column_stride,
        })
    }

    /// A matrix of rows that follow each other.
    ///
    /// # Panics
    /// It has not as many elements.
    pub fn of_rows(elements: &'a [T], rows: usize, columns: usize) -> Self {
        assert_eq!(elements.len(), rows * columns, "the elements of a matrix");
        Self {
            elements,
            rows,
            columns,
            row_stride: columns,
            column_stride: 1,
        }
    }

    /// Some of its rows and columns.
    ///
    /// # Panics
    /// It has not as many.
    pub fn part(&self, rows: std::ops::Range<usize>, columns: std::ops::Range<usize>) -> Self {
        assert!(
            rows.end <= self.rows && columns.end <= self.columns,
            "a part of a matrix"
        );
        let first = rows.start * self.row_stride + columns.start * self.column_stride;
        Self {
            elements: self.elements.get(first..).unwrap_or_default(),
            rows: rows.len(),
            columns: columns.len(),
            ..*self
        }
    }

    /// Rows and columns exchanged.
    pub fn transposed(&self) -> Self {
        Self {
            rows: self.columns,
            columns: self.rows,
            row_stride: self.column_stride,
            column_stride: self.row_stride,
            ..*self
        }
    }

    /// The memory of all rows, if they follow each other without gaps.
    pub fn contiguous(&self) -> Option<&'a [T]> {
        (self.column_stride == 1 && (self.row_stride == self.columns || self.rows <= 1))
            .then(|| self.elements.get(..self.rows * self.columns))
            .flatten()
    }

    /// The memory of row `row`, if its elements follow each other.
    pub fn row(&self, row: usize) -> Option<&'a [T]> {
        let first = row * self.row_stride;
        (self.column_stride == 1 || self.columns == 1)
            .then(|| self.elements.get(first..first + self.columns))
            .flatten()
    }

    /// The elements of row `row`, one after the other.
    pub fn row_elements(&self, row: usize) -> impl Iterator<Item = T> + 'a {
        let (elements, first, stride) = (self.elements, row * self.row_stride, self.column_stride);
        (0..self.columns).map(move |column| elements[first + column * stride])
    }
}

/// A matrix to be written whose rows have their elements one after the other. It can be split into parts that are
/// written at the same time.
pub struct Window<'a, T> {
    first: *mut T,
    /// How many rows.
    pub rows: usize,
    /// How many columns.
    pub columns: usize,
    row_stride: usize,
    memory: PhantomData<&'a mut [T]>,
}

// SAFETY: a window is a mutable borrow of its elements, which no other window has.
unsafe impl<T: Send> Send for Window<'_, T> {}

impl<'a, T: Copy> Window<'a, T> {
    /// A matrix of `rows` rows, `row_stride` elements apart, over `elements`.
    ///
    /// # Errors
    /// One of its elements is none of them, or rows overlap.
    pub fn new(
        elements: &'a mut [T],
        rows: usize,
        columns: usize,
        row_stride: usize,
    ) -> Result<Self, OperatorError> {
        let end = rows.saturating_sub(1) * row_stride + columns;
        if (rows > 0 && end > elements.len()) || (rows > 1 && columns > row_stride) {
            return Err(OperatorError::OutsideStorage {
                elements: end,
                bytes: size_of_val(elements),
            });
        }
        Ok(Self {
            first: elements.as_mut_ptr(),
            rows,
            columns,
            row_stride,
            memory: PhantomData,
        })
    }

    /// A matrix of rows that follow each other.
    ///
    /// # Panics
    /// It has not as many elements.
    pub fn of_rows(elements: &'a mut [T], rows: usize, columns: usize) -> Self {
        assert_eq!(elements.len(), rows * columns, "the elements of a matrix");
        Self {
            first: elements.as_mut_ptr(),
            rows,
            columns,
            row_stride: columns,
            memory: PhantomData,
        }
    }

    /// The first `at` rows, and the others.
    pub fn split_rows(self, at: usize) -> (Self, Self) {
        let at = at.min(self.rows);
        // The offset of a row that isn't there would lie outside the memory.
        let skipped = if at == self.rows {
            0
        } else {
            at * self.row_stride
        };
        // SAFETY: row `at` exists, or the window is left where it is, without rows.
        let second = unsafe { self.first.add(skipped) };
        (
            Self { rows: at, ..self },
            Self {
                first: second,
                rows: self.rows - at,
                ..self
            },
        )
    }

    /// The first `at` columns, and the others.
    pub fn split_columns(self, at: usize) -> (Self, Self) {
        let at = at.min(self.columns);
        let skipped = if self.rows == 0 { 0 } else { at };
        // SAFETY: at most one past the end of the first row.
        let second = unsafe { self.first.add(skipped) };
        (
            Self {
                columns: at,
                ..self
            },
            Self {
                first: second,
                columns: self.columns - at,
                ..self
            },
        )
    }

    /// Parts of at most `rows` rows and `columns` columns, with the row and column at which they begin.
    pub fn parts(self, rows: usize, columns: usize) -> Vec<(usize, usize, Self)> {
        let mut parts = Vec::new();
        let (mut below, mut row) = (self, 0);
        while below.rows > 0 {
            let (band, rest) = below.split_rows(rows.max(1));
            let (height, mut right, mut column) = (band.rows, band, 0);
            while right.columns > 0 {
                let (part, rest) = right.split_columns(columns.max(1));
                let width = part.columns;
                parts.push((row, column, part));
                (right, column) = (rest, column + width);
            }
            (below, row) = (rest, row + height);
        }
        parts
    }

    /// The elements of one row; none for a row that isn't there.
    pub fn row(&mut self, row: usize) -> &mut [T] {
        if row >= self.rows {
            return &mut [];
        }
        // SAFETY: rows and columns lie within the memory, which is borrowed mutably through `self`.
        unsafe {
            std::slice::from_raw_parts_mut(self.first.add(row * self.row_stride), self.columns)
        }
    }
}

macro_rules! products {
    ($($number:ty => $name:ident),*) => {
        $(
            /// `to` = `a` · `b`, or that added to what is there, on this thread alone.
            ///
            /// # Panics
            /// The shapes don't go together.
            pub fn $name(a: Matrix<'_, $number>, b: Matrix<'_, $number>, to: &mut Window<'_, $number>, add: bool) {
                let (m, n, k) = (a.rows, b.columns, a.columns);
                assert!(
                    b.rows == k && to.rows == m && to.columns == n,
                    "the shapes of a product don't go together"
                );
                if k == 0 && !add {
                    (0..m).for_each(|row| to.row(row).fill(0.0));
                }
                if m == 0 || n == 0 || k == 0 {
                    return;
                }
                // SAFETY: each matrix was checked to lie within its memory when it was made, the shapes were checked
                // above, and `to` is borrowed mutably.
                unsafe {
                    gemm::gemm(
                        m, n, k,
                        to.first, 1, to.row_stride as isize, add,
                        a.elements.as_ptr(), a.column_stride as isize, a.row_stride as isize,
                        b.elements.as_ptr(), b.column_stride as isize, b.row_stride as isize,
                        1.0, 1.0, false, false, false,
                        gemm::Parallelism::None,
                    );
                }
            }
        )*
    };
}
products!(f32 => multiply, f64 => multiply_doubles);

impl<'a, T: crate::Element> Window<'a, T> {
    /// Itself, if it is of float32.
    pub fn as_singles(&mut self) -> Option<Window<'_, f32>> {
        (T::DTYPE == weightstream::Dtype::F32).then(|| Window {
            // The elements are float32 already: only the type that the compiler knows changes.
            first: self.first.cast(),
            rows: self.rows,
            columns: self.columns,
            row_stride: self.row_stride,
            memory: PhantomData,
        })
    }
}
