//! Names of what lies at which address, prepared for last words: a signal handler can only look them up.

/// Names by the first byte that they belong to, in order; each is good up to the next.
#[derive(Debug, Default)]
pub struct Names {
    starts: Vec<u64>,
    names: Vec<String>,
}

impl Names {
    /// `names` are in the order of their first byte.
    pub fn new(names: impl IntoIterator<Item = (u64, String)>) -> Self {
        let (starts, names) = names.into_iter().unzip();
        Self { starts, names }
    }

    /// The name of what lies at `offset`; empty where nothing is named. Safe to use inside a signal handler.
    pub fn at(&self, offset: u64) -> &[u8] {
        let after = self.starts.partition_point(|&start| start <= offset);
        let name = after.checked_sub(1).and_then(|index| self.names.get(index));
        name.map_or(&[], |name| name.as_bytes())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_reaches_up_to_the_next() {
        let names = Names::new([(10, "a".to_owned()), (20, "b".to_owned())]);
        for (offset, name) in [(9, ""), (10, "a"), (19, "a"), (20, "b"), (1000, "b")] {
            assert_eq!(names.at(offset), name.as_bytes(), "{offset}");
        }
        assert_eq!(Names::default().at(5), b"");
    }
}
