/// Bytes of memory for each byte of a pickle: those of state dicts take a third of it.
const FOR_EACH: usize = 24;

/// What a pickle of any size may take, and what none may exceed.
const LEAST: usize = 1 << 20;
const MOST: usize = 512 << 20;

/// Bytes of memory that reading a pickle may still take.
pub struct Allowance {
    left: usize,
    whole: usize,
}

impl Allowance {
    /// Of a pickle of `length` bytes.
    pub fn for_pickle(length: usize) -> Self {
        let whole = length.saturating_mul(FOR_EACH).clamp(LEAST, MOST);
        Self { left: whole, whole }
    }

    /// Counts `bytes`.
    ///
    /// # Errors
    /// There are not so many left.
    pub fn take(&mut self, bytes: usize) -> Result<(), String> {
        let left = self.left.checked_sub(bytes).ok_or_else(|| {
            let whole = self.whole;
            format!("expected a pickle of objects that take at most {whole} bytes, got more")
        })?;
        self.left = left;
        Ok(())
    }

    /// Adds `item` to `table`, after counting what the table grows by.
    ///
    /// # Errors
    /// There is not so much left.
    pub fn push<T>(&mut self, table: &mut Vec<T>, item: T) -> Result<(), String> {
        if table.len() == table.capacity() {
            let more = table.len().max(1);
            self.take(more.saturating_mul(size_of::<T>()))?;
            table.reserve_exact(more);
        }
        table.push(item);
        Ok(())
    }

    /// Adds `items` to `table`, after counting what the table grows by.
    ///
    /// # Errors
    /// There is not so much left.
    pub fn extend<T: Copy>(&mut self, table: &mut Vec<T>, items: &[T]) -> Result<(), String> {
        items.iter().try_for_each(|&item| self.push(table, item))
    }
}
