//! Lists whose length a program decides: where there is no memory for them the operator fails, and not the process.

use crate::OperatorError;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};

/// An empty list with room for `count` items.
///
/// # Errors
/// There is no memory.
pub fn reserved<T>(count: usize) -> Result<Vec<T>, OperatorError> {
    let mut list = Vec::new();
    list.try_reserve_exact(count)
        .map_err(|_| OperatorError::Memory {
            bytes: count.saturating_mul(size_of::<T>()),
        })?;
    Ok(list)
}

/// `count` times `value`.
///
/// # Errors
/// There is no memory.
pub fn filled<T: Clone>(value: T, count: usize) -> Result<Vec<T>, OperatorError> {
    let mut list = reserved(count)?;
    list.resize(count, value);
    Ok(list)
}

/// `count` of these items.
///
/// # Errors
/// There is no memory.
pub fn listed<T>(
    count: usize,
    items: impl IntoIterator<Item = T>,
) -> Result<Vec<T>, OperatorError> {
    let mut list = reserved(count)?;
    list.extend(items.into_iter().take(count));
    Ok(list)
}

/// Ends the operator with an error where its code can't return one, as in the closures of rayon.
pub fn raise<T>(error: OperatorError) -> T {
    resume_unwind(Box::new(error))
}

/// What `operator` gives; an error also where it was [raised](raise).
pub fn ended<T>(operator: impl FnOnce() -> Result<T, OperatorError>) -> Result<T, OperatorError> {
    match catch_unwind(AssertUnwindSafe(operator)) {
        Ok(result) => result,
        Err(raised) => match raised.downcast::<OperatorError>() {
            Ok(error) => Err(*error),
            Err(panic) => resume_unwind(panic),
        },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_there_is_no_memory_for_is_an_error() {
        assert_eq!(filled(7u8, 3), Ok(vec![7; 3]));
        assert_eq!(listed(2, [1, 2, 3]), Ok(vec![1, 2]));
        let none = OperatorError::Memory { bytes: usize::MAX };
        assert_eq!(reserved::<u64>(usize::MAX / 4).unwrap_err(), none);
        let raised = ended(|| Ok(filled(0f32, usize::MAX / 2).unwrap_or_else(raise)));
        assert_eq!(raised.unwrap_err(), none);
    }
}
